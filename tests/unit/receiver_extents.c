// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "receiver/extents.h"

enum { SPACE = 200 };

static void agree(const struct extents *set, const bool *model)
{
    uint64_t total = 0;
    for (uint64_t i = 0; i < SPACE; i++) {
        assert_int_equal(extents_contain(set, i), model[i]);
        total += model[i];
    }
    assert_int_equal(extents_overlap(set, 0, SPACE), total);
    for (uint32_t i = 0; i + 1 < set->count; i++)
        assert_true(extents_get(set, i).end < extents_get(set, i + 1).first);
    struct extent hole = {0, 0};
    uint64_t missing = 0;
    while (extents_hole(set, hole.end, SPACE, &hole)) {
        for (uint64_t i = hole.first; i < hole.end; i++)
            assert_false(model[i]);
        missing += hole.end - hole.first;
    }
    assert_int_equal(missing, SPACE - total);
}

static void agrees_with_a_plain_table(void **state)
{
    (void)state;
    srand(5);
    for (int round = 0; round < 300; round++) {
        struct extents set = {0};
        bool model[SPACE] = {0};
        for (int step = 0; step < 60; step++) {
            uint64_t first = (uint64_t)(rand() % SPACE);
            uint64_t end = first + 1 + (uint64_t)(rand() % 20);
            if (end > SPACE)
                end = SPACE;
            bool add = rand() % 3 != 0;
            assert_true(add ? extents_add(&set, first, end, 1000) : extents_remove(&set, first, end, 1000));
            for (uint64_t i = first; i < end; i++)
                model[i] = add;
            agree(&set, model);
        }
        extents_deinit(&set);
        assert_int_equal(set.count, 0);
    }
}

static void the_limit_refuses_growth_only(void **state)
{
    (void)state;
    struct extents set = {0};
    assert_true(extents_add(&set, 0, 1, 2));
    assert_true(extents_add(&set, 10, 11, 2));
    assert_false(extents_add(&set, 20, 21, 2));
    assert_true(extents_add(&set, 11, 20, 2));
    assert_false(extents_remove(&set, 12, 13, 2));
    assert_true(extents_remove(&set, 10, 13, 2));
    assert_int_equal(set.count, 2);
    assert_true(extents_add(&set, 0, UINT64_MAX, 2));
    assert_int_equal(set.count, 1);
    assert_int_equal(extents_memory(&set), 0);
    extents_deinit(&set);
}

static void one_range_needs_no_memory(void **state)
{
    (void)state;
    struct extents set = {0};
    for (uint64_t i = 0; i < 1000; i++)
        assert_true(extents_add(&set, i * 10, i * 10 + 10, 1));
    assert_int_equal(extents_memory(&set), 0);
    assert_true(extents_remove(&set, 0, 5000, 1));
    assert_int_equal(extents_get(&set, 0).first, 5000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agrees_with_a_plain_table),
        cmocka_unit_test(the_limit_refuses_growth_only),
        cmocka_unit_test(one_range_needs_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
