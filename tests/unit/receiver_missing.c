// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/receiver_fixture.h"

#include <stdio.h>

#include "receiver/missing.c"

enum { FILES_MAX = 20000 };

static struct signature_key *key;
static struct assembly_budget budget;
static struct missing *missing;

static void on_reset(void *context, struct assembly *assembly, uint32_t index, struct assembly_artifact *artifact)
{
    (void)context;
    (void)assembly;
    (void)index;
    (void)artifact;
}

/* A transfer with sequence 9 of files with these sizes, of which everything is held. */
static struct assembly *whole(const uint64_t *sizes, size_t count)
{
    static char paths[FILES_MAX][32];
    static struct fixture_file files[FILES_MAX + 1];
    uint64_t largest = 0;
    uint8_t id[TRANSFER_ID_SIZE];
    char reason[256];
    for (size_t i = 0; i < count; i++)
        largest = sizes[i] > largest ? sizes[i] : largest;
    uint8_t *bytes = calloc(1, largest + 1);
    files[0] = (struct fixture_file){.path = "item"};
    for (size_t i = 0; i < count; i++) {
        snprintf(paths[i], sizeof paths[i], "item/%06zu", i);
        files[i + 1] = (struct fixture_file){.path = paths[i], .bytes = bytes, .size = sizes[i]};
    }
    fixture_id(1, id);
    size_t size;
    uint8_t *encoded = fixture_manifest(key, id, 9, "item", files, count + 1, &size);
    struct signed_message message;
    struct manifest_reader *reader;
    assert_int_equal(signed_decode(encoded, size, LIMIT_MANIFEST_SIZE, &message), STATUS_OK);
    assert_int_equal(manifest_reader_create(message.body, message.body_size, &reader, reason), STATUS_OK);
    budget = (struct assembly_budget){.memory_limit = UINT64_C(1) << 30, .held_limit = UINT64_MAX};
    struct assembly *assembly = assembly_create(id, 7, &budget, 1);
    assert_true(assembly_bind(assembly, &message, reader, 1, on_reset, NULL));
    for (uint32_t i = 0; i < count; i++)
        if (sizes[i] > 0)
            assembly_hold(assembly, i, 0, sizes[i]);
    assert_true(assembly_is_complete(assembly));
    free(encoded);
    free(bytes);
    return assembly;
}

static int begin(void **state)
{
    (void)state;
    key = fixture_key(1);
    missing = missing_create();
    return key == NULL || missing == NULL;
}

static int end(void **state)
{
    (void)state;
    missing_destroy(missing);
    signature_key_destroy(key);
    return 0;
}

static void chunks_are_numbered_through_the_transfer(void **state)
{
    (void)state;
    /* Chunks: 0 | none | 1, 2, 3 | 4 | 5, 6 */
    const uint64_t sizes[] = {10, 0, 2 * CHUNK_SIZE + 1, CHUNK_SIZE, CHUNK_SIZE + 5};
    struct assembly *assembly = whole(sizes, 5);
    assembly_lose(assembly, 2, CHUNK_SIZE - 1, CHUNK_SIZE + 1); /* the end of 1, the beginning of 2 */
    assembly_lose(assembly, 4, CHUNK_SIZE, CHUNK_SIZE + 5);     /* 6 */
    const struct missing_chunks *chunks = missing_find(missing, assembly);
    assert_int_equal(chunks->chunk_count, 3);
    assert_int_equal(chunks->range_count, 2);
    assert_int_equal(chunks->listed, 2);
    assert_int_equal(chunks->ranges[0].first, 1);
    assert_int_equal(chunks->ranges[0].last, 2);
    assert_int_equal(chunks->ranges[1].first, 6);
    assert_int_equal(chunks->ranges[1].last, 6);
    assert_int_equal(chunks->ticket.kind, TICKET_CHUNKS);
    assert_int_equal(chunks->ticket.first_sequence, 9);
    assert_int_equal(chunks->ticket.range_count, 2);
    assert_int_equal(chunks->ticket.ranges[1].first, 6);
    assembly_destroy(assembly);
}

static void holes_in_one_chunk_count_once_and_ranges_join_over_artifacts(void **state)
{
    (void)state;
    const uint64_t sizes[] = {CHUNK_SIZE, CHUNK_SIZE, 100};
    struct assembly *assembly = whole(sizes, 3);
    assembly_lose(assembly, 0, 5, 6);
    assembly_lose(assembly, 0, 50, 60);
    assembly_lose(assembly, 1, 0, 1);
    const struct missing_chunks *chunks = missing_find(missing, assembly);
    assert_int_equal(chunks->chunk_count, 2);
    assert_int_equal(chunks->range_count, 1);
    assert_int_equal(chunks->ranges[0].first, 0);
    assert_int_equal(chunks->ranges[0].last, 1);
    assembly_destroy(assembly);
}

static void of_a_transfer_without_data_the_ticket_names_all(void **state)
{
    (void)state;
    const uint64_t sizes[] = {3 * (uint64_t)CHUNK_SIZE, 7};
    struct assembly *assembly = whole(sizes, 2);
    assembly_lose(assembly, 0, 0, sizes[0]);
    assembly_lose(assembly, 1, 0, sizes[1]);
    const struct missing_chunks *chunks = missing_find(missing, assembly);
    assert_int_equal(chunks->ticket.kind, TICKET_WHOLE);
    assert_int_equal(chunks->chunk_count, 4);
    assembly_destroy(assembly);
}

static void the_ticket_of_a_scattered_loss_names_all_that_is_missing(void **state)
{
    (void)state;
    static uint64_t sizes[200];
    for (unsigned i = 0; i < 200; i++)
        sizes[i] = 10;
    struct assembly *assembly = whole(sizes, 200);
    for (uint32_t i = 0; i < 200; i += 2)
        assembly_lose(assembly, i, 3, 4);
    const struct missing_chunks *chunks = missing_find(missing, assembly);
    assert_int_equal(chunks->chunk_count, 100);
    assert_int_equal(chunks->range_count, 100);
    assert_int_equal(chunks->listed, MISSING_RANGES);
    assert_int_equal(chunks->ranges[MISSING_RANGES - 1].first, 2 * (MISSING_RANGES - 1));
    for (uint64_t chunk = 0; chunk < 200; chunk += 2) {
        bool named = false;
        for (unsigned i = 0; i < chunks->ticket.range_count; i++)
            named |= chunks->ticket.ranges[i].first <= chunk && chunk <= chunks->ticket.ranges[i].last;
        assert_true(named);
    }
    assembly_destroy(assembly);
}

static void what_has_not_changed_is_not_looked_at_again(void **state)
{
    (void)state;
    static uint64_t sizes[FILES_MAX];
    for (unsigned i = 0; i < FILES_MAX; i++)
        sizes[i] = 3;
    struct assembly *assembly = whole(sizes, FILES_MAX);
    assembly_lose(assembly, 500, 0, 1);
    missing_begin(missing);
    assert_int_equal(missing_find(missing, assembly)->ranges[0].first, 500);
    assert_true(missing->looked_at >= FILES_MAX && missing->looked_at <= 3 * FILES_MAX);
    missing_begin(missing);
    assert_int_equal(missing_find(missing, assembly)->chunk_count, 1);
    assert_int_equal(missing->looked_at, 0);
    assembly_lose(assembly, 501, 0, 1);
    assert_int_equal(missing_find(missing, assembly)->chunk_count, 2);
    assert_true(missing->looked_at >= FILES_MAX);
    assembly_hold(assembly, 500, 0, 1);
    assembly->progress_ns = 2;
    assert_int_equal(missing_find(missing, assembly)->ranges[0].first, 501);
    assembly_destroy(assembly);
}

static void a_round_has_an_end(void **state)
{
    (void)state;
    static uint64_t sizes[FILES_MAX];
    for (unsigned i = 0; i < FILES_MAX; i++)
        sizes[i] = 3;
    struct assembly *assembly = whole(sizes, FILES_MAX);
    missing_begin(missing);
    unsigned looked = 0;
    for (uint32_t i = 0; i < 100; i++) {
        assembly_lose(assembly, i, 0, 1); /* as if it were another transfer */
        looked += missing_find(missing, assembly) != NULL;
    }
    assert_true(looked >= MISSING_ROUND / (3 * FILES_MAX) && looked <= MISSING_ROUND / FILES_MAX + 1);
    missing_begin(missing);
    assert_int_equal(missing_find(missing, assembly)->chunk_count, 100);
    assembly_destroy(assembly);
}

int main(void)
{
    if (signature_init() != STATUS_OK)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(chunks_are_numbered_through_the_transfer, begin, end),
        cmocka_unit_test_setup_teardown(holes_in_one_chunk_count_once_and_ranges_join_over_artifacts, begin, end),
        cmocka_unit_test_setup_teardown(of_a_transfer_without_data_the_ticket_names_all, begin, end),
        cmocka_unit_test_setup_teardown(the_ticket_of_a_scattered_loss_names_all_that_is_missing, begin, end),
        cmocka_unit_test_setup_teardown(what_has_not_changed_is_not_looked_at_again, begin, end),
        cmocka_unit_test_setup_teardown(a_round_has_an_end, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
