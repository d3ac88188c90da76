// SPDX-License-Identifier: Apache-2.0
#include "receiver/loss.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void loss_is_what_sequence_gaps_say(void **state)
{
    (void)state;
    static struct loss loss;
    assert_true(loss_note(&loss, 1000));
    assert_true(loss_note(&loss, 1001));
    assert_int_equal(loss.lost, 0);
    assert_true(loss_note(&loss, 1011));
    assert_int_equal(loss.lost, 9);
    assert_true(loss_note(&loss, 1005));
    assert_int_equal(loss.lost, 8);
    assert_false(loss_note(&loss, 1005));
    assert_false(loss_note(&loss, 1011));
    assert_int_equal(loss.lost, 8);
    assert_true(loss_note(&loss, 997)); /* before the first */
    assert_int_equal(loss.lost, 10);
    assert_true(loss_note(&loss, 998));
    assert_int_equal(loss.lost, 9);
    assert_true(loss_note(&loss, 1011 + 65535));
    assert_int_equal(loss.lost, 9 + 65534);
    assert_true(loss_note(&loss, 1011 + 65530));
    assert_false(loss_note(&loss, 1011 + 65530));
    assert_int_equal(loss.lost, 9 + 65533);
}

static void a_gap_of_any_length_counts_once_several_datagrams_tell_it(void **state)
{
    (void)state;
    static struct loss loss;
    static const uint64_t gaps[] = {LOSS_MEMORY, 200000, UINT64_C(1) << 31};
    for (size_t i = 0; i < sizeof gaps / sizeof *gaps; i++) {
        memset(&loss, 0, sizeof loss);
        assert_true(loss_note(&loss, 1000));
        uint64_t first = 1001 + gaps[i];
        /* Out of order, one of them twice, and a late one from before the gap. */
        for (uint64_t j = 0; j < 40; j++) {
            assert_true(loss_note(&loss, first + (j ^ 1)));
            assert_false(loss_note(&loss, first + (j ^ 1)));
            if (j == 5)
                assert_true(loss_note(&loss, 1001));
        }
        assert_int_equal(loss.lost, gaps[i] - 1);
        assert_int_equal(loss.highest, first + 39);
        assert_true(loss_is_sane(&loss));
    }
}

static void single_numbers_far_away_change_nothing(void **state)
{
    (void)state;
    static struct loss loss;
    memset(&loss, 0, sizeof loss);
    uint64_t forged = 1;
    for (uint64_t sequence = 1000; sequence < 100000; sequence++) {
        if (sequence % 10 == 0) {
            forged = forged * UINT64_C(6364136223846793005) + 1442695040888963407;
            assert_true(loss_note(&loss, (forged >> (sequence % 40)) | UINT64_C(1) << 20));
        }
        assert_true(loss_note(&loss, sequence));
        assert_int_equal(loss.lost, 0);
    }
}

static void what_goes_on_from_elsewhere_is_counted_from_there(void **state)
{
    (void)state;
    static struct loss loss;
    memset(&loss, 0, sizeof loss);
    assert_true(loss_note(&loss, UINT64_MAX - 3));
    for (uint64_t sequence = 5000; sequence < 5100; sequence++)
        if (sequence != 5050)
            assert_true(loss_note(&loss, sequence));
    assert_int_equal(loss.lost, 1);
    assert_int_equal(loss.highest, 5099);
}

static void loss_equals_a_plain_count_for_random_arrivals(void **state)
{
    (void)state;
    enum { COUNT = 100000, REACH = 3000 };
    static struct loss loss;
    static bool seen[COUNT + REACH];
    memset(&loss, 0, sizeof loss);
    srand(3);
    uint64_t lowest = UINT64_MAX, highest = 0, distinct = 0;
    for (unsigned i = 0; i < COUNT; i++) {
        if (rand() % 10 == 0)
            continue;
        unsigned sequence = i + (unsigned)rand() % REACH;
        assert_int_equal(loss_note(&loss, sequence), !seen[sequence]);
        distinct += !seen[sequence];
        seen[sequence] = true;
        lowest = sequence < lowest ? sequence : lowest;
        highest = sequence > highest ? sequence : highest;
        assert_int_equal(loss.lost, highest - lowest + 1 - distinct);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(loss_is_what_sequence_gaps_say),
        cmocka_unit_test(a_gap_of_any_length_counts_once_several_datagrams_tell_it),
        cmocka_unit_test(single_numbers_far_away_change_nothing),
        cmocka_unit_test(what_goes_on_from_elsewhere_is_counted_from_there),
        cmocka_unit_test(loss_equals_a_plain_count_for_random_arrivals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
