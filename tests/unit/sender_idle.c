// SPDX-License-Identifier: Apache-2.0
#include "sender/idle.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define MS     UINT64_C(1000000)
#define SECOND UINT64_C(1000000000)
enum { BLOCK = 1000000, DEPTH = 10 };

/* Fills groups as soon as they may begin; returns the bits of ten seconds, those sent twice counted twice. */
static uint64_t run(unsigned share, unsigned blocks, bool blocks_short)
{
    struct idle idle;
    uint64_t bits = 0;
    idle_init(&idle, SECOND, share, 0);
    for (uint64_t now = 0; now < 10 * SECOND; now = idle_ready_ns(&idle)) {
        for (unsigned i = 0; i < blocks; i++)
            idle_block(&idle, BLOCK, blocks_short, now);
        idle_group(&idle, blocks == DEPTH, now);
        bits += blocks * (uint64_t)BLOCK * (blocks < DEPTH || blocks_short ? 2 : 1);
    }
    return bits;
}

static void heals_take_their_share_of_the_rate(void **state)
{
    (void)state;
    for (unsigned share = 1; share <= 100; share += 9) {
        uint64_t bits = run(share, DEPTH, false);
        assert_true(bits <= share * SECOND / 10 + DEPTH * BLOCK);
        assert_true(bits >= share * SECOND / 10);
    }
}

static void what_is_sent_twice_counts_twice(void **state)
{
    (void)state;
    assert_true(run(50, 3, false) <= 5 * SECOND + 2 * DEPTH * BLOCK);
    assert_true(run(50, DEPTH, true) <= 5 * SECOND + 2 * DEPTH * BLOCK);
}

static void time_without_heals_earns_nothing(void **state)
{
    (void)state;
    struct idle idle;
    idle_init(&idle, SECOND, 50, 0);
    for (int i = 0; i < DEPTH; i++)
        idle_block(&idle, BLOCK, false, 100 * SECOND);
    idle_group(&idle, true, 100 * SECOND);
    assert_int_equal(idle_ready_ns(&idle), 100 * SECOND + 20 * MS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(heals_take_their_share_of_the_rate),
        cmocka_unit_test(what_is_sent_twice_counts_twice),
        cmocka_unit_test(time_without_heals_earns_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
