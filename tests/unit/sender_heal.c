// SPDX-License-Identifier: Apache-2.0
#include "sender/heal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#define SECOND INT64_C(1000000000)
#define HOUR   (3600 * SECOND)

/* Sends what is chosen at `now_ns`, in no time. */
static uint64_t send_one(struct heal *heal, int64_t now_ns)
{
    uint64_t sequence = heal_choose(heal, now_ns);
    if (sequence == 0)
        return 0;
    heal_began(heal, sequence, now_ns);
    heal_ended(heal, sequence, now_ns);
    return sequence;
}

static void the_newest_goes_first_and_none_again_before_all_others(void **state)
{
    (void)state;
    struct heal *heal = heal_create(2, (uint64_t)(24 * HOUR));
    for (uint64_t sequence = 1; sequence <= 4; sequence++)
        heal_add(heal, sequence, 1, (int64_t)sequence, 0, 0);
    int64_t now = 100 * SECOND;
    for (uint64_t expected = 4; expected >= 1; expected--)
        assert_int_equal(send_one(heal, now), expected);
    assert_int_equal(send_one(heal, now), 0);
    now += HOUR;
    heal_add(heal, 5, 1, now - 10 * SECOND, 0, 0);
    assert_int_equal(send_one(heal, now), 5);
    for (uint64_t expected = 4; expected >= 1; expected--)
        assert_int_equal(send_one(heal, now), expected);
    heal_destroy(heal);
}

static void each_is_sent_again_at_most_so_many_times_whatever_was_before_a_restart(void **state)
{
    (void)state;
    struct heal *heal = heal_create(3, (uint64_t)(24 * HOUR));
    unsigned sent[4] = {0};
    heal_add(heal, 1, 1, 0, 0, 0);
    heal_add(heal, 2, 1, 0, 1, SECOND);
    heal_add(heal, 3, 1, 0, 3, SECOND);
    for (int64_t now = 0; now < 24 * HOUR; now += 10 * SECOND)
        sent[send_one(heal, now)]++;
    assert_int_equal(sent[1], 3);
    assert_int_equal(sent[2], 2);
    assert_int_equal(sent[3], 0);
    assert_int_equal(heal_deadline_ns(heal, 24 * HOUR), INT64_MAX);
    heal_destroy(heal);
}

static void what_left_the_window_is_not_sent_again(void **state)
{
    (void)state;
    struct heal *heal = heal_create(2, (uint64_t)HOUR);
    heal_add(heal, 1, 1, -30 * 60 * SECOND, 0, 0); /* before this start */
    heal_add(heal, 2, 1, -2 * HOUR, 0, 0);
    assert_int_equal(heal_pending(heal, 0), 1);
    assert_int_equal(send_one(heal, 0), 1);
    assert_int_equal(send_one(heal, 31 * 60 * SECOND), 0);
    assert_int_equal(heal_pending(heal, 31 * 60 * SECOND), 0);
    heal_destroy(heal);
}

static void copies_of_one_transfer_lie_apart(void **state)
{
    (void)state;
    struct heal *heal = heal_create(3, (uint64_t)(24 * HOUR));
    int64_t last = 0, gap = 0;
    heal_add(heal, 7, 1, 0, 0, 0);
    for (int i = 0; i < 3; i++) {
        int64_t due = heal_deadline_ns(heal, last);
        assert_true(due - last > gap);
        assert_int_equal(heal_choose(heal, due - 1), 0);
        assert_int_equal(send_one(heal, due), 7);
        gap = due - last;
        last = due;
    }
    heal_destroy(heal);
}

static void in_a_short_window_all_copies_find_their_place(void **state)
{
    (void)state;
    struct heal *heal = heal_create(2, (uint64_t)(3 * SECOND));
    heal_add(heal, 1, 1, 0, 0, 0);
    assert_int_equal(send_one(heal, SECOND), 1);
    assert_int_equal(send_one(heal, 2 * SECOND), 1);
    assert_int_equal(send_one(heal, 3 * SECOND), 0);
    heal_destroy(heal);
}

static void one_that_could_not_begin_or_is_removed_holds_nothing_up(void **state)
{
    (void)state;
    struct heal *heal = heal_create(1, (uint64_t)HOUR);
    heal_add(heal, 1, 1, 0, 0, 0);
    heal_add(heal, 2, 1, 0, 0, 0);
    assert_int_equal(heal_choose(heal, 10 * SECOND), 2);
    heal_remove(heal, 2);
    heal_ended(heal, 2, 10 * SECOND);
    assert_int_equal(send_one(heal, 10 * SECOND), 1);
    assert_int_equal(send_one(heal, HOUR / 2), 0);
    heal_destroy(heal);
}

static void ranges_are_compact_newest_first_and_hold_what_else_is_told(void **state)
{
    (void)state;
    struct message_range ranges[LIMIT_HEALING_RANGES];
    const uint64_t more[] = {3, 20, 5, 3};
    struct heal *heal = heal_create(1, (uint64_t)HOUR);
    const uint64_t sent[] = {4, 6, 10, 11, 12};
    for (size_t i = 0; i < sizeof sent / sizeof sent[0]; i++)
        heal_add(heal, sent[i], 1, 0, 0, 0);
    assert_int_equal(heal_ranges(heal, SECOND, more, 4, ranges), 3);
    assert_int_equal(ranges[0].first, 20);
    assert_int_equal(ranges[0].last, 20);
    assert_int_equal(ranges[1].first, 10);
    assert_int_equal(ranges[1].last, 12);
    assert_int_equal(ranges[2].first, 3);
    assert_int_equal(ranges[2].last, 6);
    /* The one that is under way is covered until it has left. */
    assert_int_equal(heal_choose(heal, 2 * SECOND), 12);
    heal_began(heal, 12, 2 * SECOND);
    (void)heal_ranges(heal, 3 * SECOND, NULL, 0, ranges);
    assert_int_equal(ranges[0].last, 12);
    heal_ended(heal, 12, 4 * SECOND);
    (void)heal_ranges(heal, 4 * SECOND, NULL, 0, ranges);
    assert_int_equal(ranges[0].last, 11);
    heal_destroy(heal);
}

static void of_too_many_ranges_the_oldest_are_left_out(void **state)
{
    (void)state;
    struct message_range ranges[LIMIT_HEALING_RANGES];
    struct heal *heal = heal_create(1, (uint64_t)HOUR);
    for (uint64_t sequence = 2; sequence <= 2 * (LIMIT_HEALING_RANGES + 10); sequence += 2)
        heal_add(heal, sequence, 1, 0, 0, 0);
    assert_int_equal(heal_ranges(heal, 0, NULL, 0, ranges), LIMIT_HEALING_RANGES);
    assert_int_equal(ranges[0].first, 2 * (LIMIT_HEALING_RANGES + 10));
    assert_int_equal(ranges[LIMIT_HEALING_RANGES - 1].first, 22);
    heal_destroy(heal);
}

static void memory_is_bounded_by_the_newest(void **state)
{
    (void)state;
    struct heal *heal = heal_create(1, (uint64_t)HOUR);
    for (uint64_t sequence = 1; sequence <= HEAL_TABLE + 100; sequence++)
        heal_add(heal, sequence, 1, 0, 0, 0);
    assert_in_range(heal_pending(heal, 0), HEAL_TABLE - HEAL_TABLE_SHED, HEAL_TABLE);
    assert_int_equal(heal_choose(heal, 5 * SECOND), HEAL_TABLE + 100);
    heal_destroy(heal);
}

static void small_ones_go_together_and_a_large_one_alone(void **state)
{
    (void)state;
    struct heal *heal = heal_create(1, (uint64_t)HOUR);
    for (uint64_t sequence = 2; sequence <= HEAL_UNDER_WAY + 10; sequence++)
        heal_add(heal, sequence, 100, 0, 0, 0);
    for (uint64_t i = 0; i < HEAL_UNDER_WAY; i++)
        assert_int_equal(heal_choose(heal, 5 * SECOND), HEAL_UNDER_WAY + 10 - i);
    assert_int_equal(heal_choose(heal, 5 * SECOND), 0);
    heal_ended(heal, HEAL_UNDER_WAY + 10, 6 * SECOND);
    assert_int_equal(heal_under_way(heal), HEAL_UNDER_WAY - 1);
    heal_destroy(heal);

    heal = heal_create(1, (uint64_t)HOUR);
    heal_add(heal, 1, HEAL_BYTES_UNDER_WAY * 10, 0, 0, 0);
    heal_add(heal, 2, 100, 0, 0, 0);
    assert_int_equal(heal_choose(heal, 5 * SECOND), 2);
    assert_int_equal(heal_choose(heal, 5 * SECOND), 0);
    heal_began(heal, 2, 5 * SECOND);
    heal_ended(heal, 2, 6 * SECOND);
    assert_int_equal(heal_choose(heal, 7 * SECOND), 1);
    heal_add(heal, 3, 100, 0, 0, 0);
    assert_int_equal(heal_choose(heal, 9 * SECOND), 0);
    heal_destroy(heal);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_newest_goes_first_and_none_again_before_all_others),
        cmocka_unit_test(each_is_sent_again_at_most_so_many_times_whatever_was_before_a_restart),
        cmocka_unit_test(what_left_the_window_is_not_sent_again),
        cmocka_unit_test(copies_of_one_transfer_lie_apart),
        cmocka_unit_test(in_a_short_window_all_copies_find_their_place),
        cmocka_unit_test(one_that_could_not_begin_or_is_removed_holds_nothing_up),
        cmocka_unit_test(ranges_are_compact_newest_first_and_hold_what_else_is_told),
        cmocka_unit_test(of_too_many_ranges_the_oldest_are_left_out),
        cmocka_unit_test(memory_is_bounded_by_the_newest),
        cmocka_unit_test(small_ones_go_together_and_a_large_one_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
