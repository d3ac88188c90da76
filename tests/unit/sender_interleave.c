// SPDX-License-Identifier: Apache-2.0
#include "sender/interleave.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void columns_of_equal_blocks_go_round(void **state)
{
    (void)state;
    const uint8_t totals[3] = {5, 5, 5};
    struct interleave interleave;
    interleave_start(&interleave, totals, 3);
    for (unsigned i = 0; i < 15; i++) {
        uint16_t index;
        uint8_t esi;
        assert_true(interleave_next(&interleave, &index, &esi));
        assert_int_equal(index, i % 3);
        assert_int_equal(esi, i / 3);
        assert_int_equal(interleave_is_done(&interleave), i == 14);
    }
}

static void every_symbol_of_unequal_blocks_leaves_once(void **state)
{
    (void)state;
    const uint8_t totals[6] = {5, 255, 7, 144, 5, 9};
    bool seen[6][256] = {{false}};
    unsigned count = 0, column = 0;
    struct interleave interleave;
    uint16_t index;
    uint8_t esi;
    interleave_start(&interleave, totals, 6);
    while (interleave_next(&interleave, &index, &esi)) {
        assert_true(index < 6 && esi < totals[index]);
        assert_false(seen[index][esi]);
        assert_true(esi >= column);
        seen[index][esi] = true;
        column = esi;
        count++;
    }
    assert_int_equal(count, 5 + 255 + 7 + 144 + 5 + 9);
    assert_false(interleave_next(&interleave, &index, &esi));
}

/* The depth that the configuration derives for 5 ms at 1 Gbit/s and 16 repair symbols. */
static void burst_takes_half_of_the_repair_symbols_at_most(void **state)
{
    (void)state;
    enum { DEPTH = 51, TOTAL = 144, BURST = 406 };
    uint8_t totals[DEPTH];
    static uint16_t order[DEPTH * TOTAL];
    struct interleave interleave;
    uint8_t esi;
    memset(totals, TOTAL, sizeof totals);
    interleave_start(&interleave, totals, DEPTH);
    for (unsigned i = 0; i < DEPTH * TOTAL; i++)
        assert_true(interleave_next(&interleave, &order[i], &esi));
    for (unsigned start = 0; start + BURST <= DEPTH * TOTAL; start++) {
        uint8_t lost[DEPTH] = {0};
        for (unsigned i = 0; i < BURST; i++)
            assert_true(++lost[order[start + i]] <= 8);
    }
}

static void train_is_a_quarter_of_what_is_repaired(void **state)
{
    (void)state;
    assert_int_equal(interleave_train_limit(51, 16), 204);
    assert_int_equal(interleave_train_limit(1, 16), 4);
    assert_int_equal(interleave_train_limit(1, 4), 1);
    assert_int_equal(interleave_train_limit(4096, 55), 56320);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(columns_of_equal_blocks_go_round),
        cmocka_unit_test(every_symbol_of_unequal_blocks_leaves_once),
        cmocka_unit_test(burst_takes_half_of_the_repair_symbols_at_most),
        cmocka_unit_test(train_is_a_quarter_of_what_is_repaired),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
