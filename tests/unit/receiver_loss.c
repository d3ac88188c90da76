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
    assert_true(loss_note(&loss, 1011 + 200000));
    assert_int_equal(loss.lost, 9 + 199999);
    assert_true(loss_note(&loss, 1011 + 199990));
    assert_false(loss_note(&loss, 1011 + 199990));
    assert_int_equal(loss.lost, 9 + 199998);
    assert_true(loss_note(&loss, UINT64_MAX)); /* forged */
    assert_true(loss_note(&loss, 1011 + 200001));
    assert_true(loss_note(&loss, 1011 + 200003));
    assert_int_equal(loss.lost, 9 + 199999);
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
        cmocka_unit_test(loss_equals_a_plain_count_for_random_arrivals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
