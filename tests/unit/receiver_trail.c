// SPDX-License-Identifier: Apache-2.0
#include "receiver/trail.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define STEP TRAIL_STEP_NS

static void what_was_newest_then_is_remembered(void **state)
{
    (void)state;
    struct trail trail = {0};
    assert_int_equal(trail_base_at(&trail, UINT64_MAX), 0);
    trail_note(&trail, 10, 0);
    trail_note(&trail, 20, STEP / 2); /* too soon for a sample of its own */
    trail_note(&trail, 30, STEP);
    assert_int_equal(trail_base_at(&trail, 0), 10);
    assert_int_equal(trail_base_at(&trail, STEP - 1), 10);
    assert_int_equal(trail_base_at(&trail, STEP), 30);
    assert_int_equal(trail_base_at(&trail, 5 * STEP), 30);
}

static void the_oldest_samples_make_way(void **state)
{
    (void)state;
    struct trail trail = {0};
    for (uint64_t i = 1; i <= 2 * TRAIL_SAMPLES; i++)
        trail_note(&trail, i, i * STEP);
    assert_int_equal(trail_base_at(&trail, TRAIL_SAMPLES * STEP), 0);
    assert_int_equal(trail_base_at(&trail, (TRAIL_SAMPLES + 1) * STEP), TRAIL_SAMPLES + 1);
    assert_int_equal(trail_base_at(&trail, UINT64_MAX), 2 * TRAIL_SAMPLES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_newest_then_is_remembered),
        cmocka_unit_test(the_oldest_samples_make_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
