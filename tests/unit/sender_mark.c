// SPDX-License-Identifier: Apache-2.0
#include "sender/mark.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static struct mark mark;

static void the_mark_follows_what_every_lane_has_settled(void **state)
{
    (void)state;
    mark_init(&mark, 2, 0, 100);
    mark_packed(&mark, 150, (uint64_t[]){3, 0}, false);
    mark_packed(&mark, 300, (uint64_t[]){4, 2}, false);
    assert_int_equal(mark_settled(&mark, (uint64_t[]){2, 9}), 0);
    assert_int_equal(mark_settled(&mark, (uint64_t[]){3, 1}), 150);
    assert_int_equal(mark_settled(&mark, (uint64_t[]){4, 1}), 150);
    assert_int_equal(mark_settled(&mark, (uint64_t[]){4, 2}), 300);
}

static void points_are_apart_and_bounded_in_number(void **state)
{
    (void)state;
    mark_init(&mark, 1, 1000, 100);
    assert_int_equal(mark_settled(&mark, (uint64_t[]){0}), 1000);
    for (uint64_t i = 1; i <= 10000; i++)
        mark_packed(&mark, 1000 + i, (uint64_t[]){i}, false);
    assert_int_equal(mark.count, MARK_POINTS);
    assert_int_equal(mark_settled(&mark, (uint64_t[]){100}), 1100);
    assert_int_equal(mark_settled(&mark, (uint64_t[]){199}), 1100);
    assert_int_equal(mark_settled(&mark, (uint64_t[]){UINT64_MAX}), 1000 + 100 * MARK_POINTS);
    mark_packed(&mark, 11001, (uint64_t[]){10001}, false);
    assert_int_equal(mark_settled(&mark, (uint64_t[]){10000}), 1000 + 100 * MARK_POINTS);
    assert_int_equal(mark_settled(&mark, (uint64_t[]){10001}), 11001);
}

static void the_end_always_has_a_point(void **state)
{
    (void)state;
    mark_init(&mark, 1, 0, 10);
    for (uint64_t i = 1; i <= 20; i++)
        mark_packed(&mark, 10 * i, (uint64_t[]){i}, false);
    mark_packed(&mark, 201, (uint64_t[]){21}, true);
    mark_packed(&mark, 201, (uint64_t[]){22}, true);
    assert_int_equal(mark_settled(&mark, (uint64_t[]){20}), 10 * (MARK_POINTS - 1));
    assert_int_equal(mark_settled(&mark, (uint64_t[]){21}), 201);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_mark_follows_what_every_lane_has_settled),
        cmocka_unit_test(points_are_apart_and_bounded_in_number),
        cmocka_unit_test(the_end_always_has_a_point),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
