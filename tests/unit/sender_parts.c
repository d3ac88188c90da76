// SPDX-License-Identifier: Apache-2.0
#include "sender/parts.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "proto/limits.h"

static struct parts ranges_of(const uint64_t (*ranges)[2], size_t count)
{
    struct parts parts = {.manifest_only = true};
    for (size_t i = 0; i < count; i++)
        parts_add(&parts, ranges[i][0], ranges[i][1]);
    return parts;
}

static void assert_range(const struct parts *parts, size_t index, uint64_t first, uint64_t last)
{
    assert_true(index < parts->range_count);
    assert_int_equal(parts->ranges[index].first, first);
    assert_int_equal(parts->ranges[index].last, last);
}

static void ranges_are_sorted_and_what_touches_becomes_one(void **state)
{
    (void)state;
    struct parts parts = ranges_of((const uint64_t[][2]){{10, 12}, {0, 1}, {13, 13}, {5, 6}, {2, 2}}, 5);
    assert_int_equal(parts.range_count, 3);
    assert_range(&parts, 0, 0, 2);
    assert_range(&parts, 1, 5, 6);
    assert_range(&parts, 2, 10, 13);
    parts_add(&parts, 1, 11);
    assert_int_equal(parts.range_count, 1);
    assert_range(&parts, 0, 0, 13);
}

static void everything_holds_ranges_and_ranges_hold_the_manifest(void **state)
{
    (void)state;
    struct parts all = {0}, manifest = {.manifest_only = true}, some = ranges_of((const uint64_t[][2]){{4, 5}}, 1);
    struct parts merged = manifest;
    parts_merge(&merged, &some);
    assert_false(merged.manifest_only);
    assert_range(&merged, 0, 4, 5);
    parts_merge(&merged, &manifest);
    assert_int_equal(merged.range_count, 1);
    parts_merge(&merged, &all);
    assert_int_equal(merged.range_count, 0);
    assert_false(merged.manifest_only);
    parts_merge(&merged, &some);
    assert_int_equal(merged.range_count, 0);
    assert_false(merged.manifest_only);
}

static void too_many_ranges_name_more_and_never_less(void **state)
{
    (void)state;
    struct parts parts = {.manifest_only = true};
    for (uint64_t i = 0; i < PARTS_RANGES; i++)
        parts_add(&parts, 10 * i, 10 * i + (i == 7 ? 5 : 0));
    assert_int_equal(parts.range_count, PARTS_RANGES);
    parts_add(&parts, 10000, 10001);
    assert_int_equal(parts.range_count, PARTS_RANGES);
    assert_range(&parts, 7, 70, 80); /* the smallest gap was here */
    assert_range(&parts, PARTS_RANGES - 1, 10000, 10001);
}

static void bytes_and_chunks_are_counted_over_artifacts(void **state)
{
    (void)state;
    /* Chunks: 0 of the first, 1 to 3 of the third, 4 of the fourth; the second has none. */
    const uint64_t sizes[] = {100, 0, UINT64_C(2) * CHUNK_SIZE + 7, CHUNK_SIZE};
    struct parts all = {0}, manifest = {.manifest_only = true};
    assert_int_equal(parts_chunk_count(sizes, 4), 5);
    assert_int_equal(parts_bytes(&all, sizes, 4), 100 + 3 * (uint64_t)CHUNK_SIZE + 7);
    assert_int_equal(parts_bytes(&manifest, sizes, 4), 0);
    struct parts some = ranges_of((const uint64_t[][2]){{0, 1}, {3, 4}}, 2);
    assert_int_equal(parts_bytes(&some, sizes, 4), 100 + (uint64_t)CHUNK_SIZE + 7 + CHUNK_SIZE);
}

static void what_has_left_before_a_mark_is_taken_off(void **state)
{
    (void)state;
    const uint64_t sizes[] = {100, 0, UINT64_C(2) * CHUNK_SIZE + 7, CHUNK_SIZE};
    struct parts all = {0};
    parts_skip(&all, sizes, 4, 0);
    assert_int_equal(all.range_count, 0);
    parts_skip(&all, sizes, 4, 100 + (uint64_t)CHUNK_SIZE + 1);
    assert_int_equal(all.range_count, 1);
    assert_range(&all, 0, 2, 4);
    struct parts some = ranges_of((const uint64_t[][2]){{0, 1}, {3, 4}}, 2);
    parts_skip(&some, sizes, 4, 100 + (uint64_t)CHUNK_SIZE);
    assert_int_equal(some.range_count, 1);
    assert_range(&some, 0, 3, 4);
    parts_skip(&some, sizes, 4, 100 + 3 * (uint64_t)CHUNK_SIZE + 7);
    assert_true(some.manifest_only);
    assert_int_equal(some.range_count, 0);
}

static void what_is_stored_comes_back_and_nothing_else_does(void **state)
{
    (void)state;
    uint8_t bytes[PARTS_ENCODED_SIZE];
    struct parts some = ranges_of((const uint64_t[][2]){{0, 1}, {3, 1000000}}, 2), back = {0};
    size_t size = parts_encode(&some, bytes);
    assert_int_equal(size, 32);
    assert_true(parts_decode(&back, bytes, size));
    assert_int_equal(back.range_count, 2);
    assert_range(&back, 1, 3, 1000000);
    assert_false(parts_decode(&back, bytes, size - 1));
    bytes[16] = 2; /* touches */
    assert_false(parts_decode(&back, bytes, size));
    bytes[0] = 9; /* runs backwards */
    assert_false(parts_decode(&back, bytes, size));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranges_are_sorted_and_what_touches_becomes_one),
        cmocka_unit_test(everything_holds_ranges_and_ranges_hold_the_manifest),
        cmocka_unit_test(too_many_ranges_name_more_and_never_less),
        cmocka_unit_test(bytes_and_chunks_are_counted_over_artifacts),
        cmocka_unit_test(what_has_left_before_a_mark_is_taken_off),
        cmocka_unit_test(what_is_stored_comes_back_and_nothing_else_does),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
