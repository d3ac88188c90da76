// SPDX-License-Identifier: Apache-2.0
#include "receiver/partial.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/checksum.h"

static uint8_t content[3 * CHUNK_SIZE];
static struct partial *partial;

static int begin(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof content; i++)
        content[i] = (uint8_t)(i * 2654435761u >> 11);
    partial = partial_create();
    return partial == NULL;
}

static int end(void **state)
{
    (void)state;
    partial_destroy(partial);
    return 0;
}

static void hold(uint32_t file, uint64_t first, uint64_t limit, bool hash)
{
    partial_hold(partial, file, first, content + first, (uint32_t)(limit - first), hash);
}

static void assert_entry(const struct partial_list *list, size_t index, enum partial_kind kind, uint32_t file,
                         uint64_t first, uint64_t limit)
{
    assert_true(index < list->count);
    const struct partial_entry *entry = &list->entries[index];
    assert_int_equal(entry->kind, kind);
    assert_int_equal(entry->file, file);
    assert_int_equal(entry->first, first);
    assert_int_equal(entry->end, limit);
    if (kind == PARTIAL_HELD && entry->hashed) {
        uint8_t hash[CHUNK_HASH_SIZE];
        checksum128(content + first, limit - first, hash);
        assert_memory_equal(entry->hash, hash, sizeof hash);
    }
}

static void what_follows_is_one_range_up_to_the_end_of_its_chunk(void **state)
{
    (void)state;
    partial_place(partial, 5, 0, sizeof content);
    for (uint64_t at = 0; at < sizeof content; at += 100000)
        hold(5, at, at + 100000 < sizeof content ? at + 100000 : sizeof content, true);
    struct partial_list list = partial_cut(partial);
    assert_int_equal(list.count, 4);
    assert_entry(&list, 0, PARTIAL_PLACE, 5, 0, sizeof content);
    for (size_t i = 0; i < 3; i++) {
        assert_true(list.entries[i + 1].hashed);
        assert_entry(&list, i + 1, PARTIAL_HELD, 5, i * CHUNK_SIZE, (i + 1) * CHUNK_SIZE);
    }
    assert_true(partial_is_empty(partial));
    partial_list_deinit(&list);
}

static void what_comes_out_of_order_is_hashed_all_the_same(void **state)
{
    (void)state;
    hold(1, 1000, 2000, true);
    hold(1, 0, 1000, true);
    hold(1, 2000, 2500, true);
    hold(2, 2500, 3000, true);
    hold(2, 3000, 3500, false);
    struct partial_list list = partial_cut(partial);
    assert_int_equal(list.count, 5);
    assert_entry(&list, 0, PARTIAL_HELD, 1, 1000, 2000);
    assert_entry(&list, 1, PARTIAL_HELD, 1, 0, 1000);
    assert_entry(&list, 2, PARTIAL_HELD, 1, 2000, 2500);
    assert_entry(&list, 3, PARTIAL_HELD, 2, 2500, 3000);
    assert_entry(&list, 4, PARTIAL_HELD, 2, 3000, 3500);
    assert_true(list.entries[3].hashed);
    assert_false(list.entries[4].hashed);
    partial_list_deinit(&list);
}

static void a_loss_follows_what_was_held(void **state)
{
    (void)state;
    hold(1, 0, 1000, true);
    partial_lose(partial, 1, 100, 200);
    hold(1, 100, 200, true);
    struct partial_list list = partial_cut(partial);
    assert_int_equal(list.count, 3);
    assert_entry(&list, 0, PARTIAL_HELD, 1, 0, 1000);
    assert_entry(&list, 1, PARTIAL_LOST, 1, 100, 200);
    assert_entry(&list, 2, PARTIAL_HELD, 1, 100, 200);
    partial_list_deinit(&list);
}

static void what_was_not_recorded_comes_back_in_front(void **state)
{
    (void)state;
    hold(1, 0, 1000, true);
    struct partial_list first = partial_cut(partial);
    partial_lose(partial, 1, 0, 10);
    partial_give_back(partial, &first);
    assert_int_equal(first.count, 0);
    assert_int_equal(partial_bytes(partial), 1000);
    struct partial_list list = partial_cut(partial);
    assert_int_equal(list.count, 2);
    assert_entry(&list, 0, PARTIAL_HELD, 1, 0, 1000);
    assert_entry(&list, 1, PARTIAL_LOST, 1, 0, 10);
    partial_list_deinit(&list);
}

static void too_much_at_once_starts_the_record_anew(void **state)
{
    (void)state;
    for (uint32_t i = 0; i <= PARTIAL_ENTRIES; i++)
        hold(i, 0, 10, true);
    assert_false(partial_has_overflown(partial));
    hold(0, 100, 200, true);
    assert_true(partial_has_overflown(partial));
    assert_false(partial_is_empty(partial));
    struct partial_list list = partial_cut(partial);
    assert_int_equal(list.count, 0);
    partial_list_deinit(&list);
    assert_false(partial_has_overflown(partial));
    hold(0, 200, 300, true);
    list = partial_cut(partial);
    assert_int_equal(list.count, 1);
    partial_list_deinit(&list);
}

static void collect(const struct partial_entry *entry, void *context)
{
    assert_true(partial_list_add(context, entry));
}

static void the_stored_form_says_the_same(void **state)
{
    (void)state;
    partial_place(partial, 7, 123456, 65536);
    hold(PARTIAL_SMALL, 123456, 123456 + 65536, true);
    hold(9, 0, 10, false);
    partial_lose(partial, 9, 0, UINT64_MAX);
    struct partial_list list = partial_cut(partial);
    size_t size;
    uint8_t *bytes = partial_encode(&list, &size);
    struct partial_list read = {0};
    assert_true(partial_decode(bytes, size, collect, &read));
    assert_int_equal(read.count, list.count);
    for (size_t i = 0; i < list.count; i++) {
        assert_int_equal(read.entries[i].hashed, list.entries[i].hashed);
        assert_entry(&read, i, list.entries[i].kind, list.entries[i].file, list.entries[i].first, list.entries[i].end);
    }
    partial_list_deinit(&read);
    /* Neither a cut nor a flipped byte of what names the entries is read past its end. */
    for (size_t cut = 0; cut < size; cut++) {
        uint8_t *copy = malloc(cut + 1);
        memcpy(copy, bytes, cut);
        (void)partial_decode(copy, cut, collect, &read);
        free(copy);
    }
    bytes[0] = 0x7f;
    partial_list_deinit(&read);
    assert_false(partial_decode(bytes, size, collect, &read));
    assert_int_equal(read.count, 0);
    partial_list_deinit(&read);
    partial_list_deinit(&list);
    free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_follows_is_one_range_up_to_the_end_of_its_chunk, begin, end),
        cmocka_unit_test_setup_teardown(what_comes_out_of_order_is_hashed_all_the_same, begin, end),
        cmocka_unit_test_setup_teardown(a_loss_follows_what_was_held, begin, end),
        cmocka_unit_test_setup_teardown(what_was_not_recorded_comes_back_in_front, begin, end),
        cmocka_unit_test_setup_teardown(too_much_at_once_starts_the_record_anew, begin, end),
        cmocka_unit_test_setup_teardown(the_stored_form_says_the_same, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
