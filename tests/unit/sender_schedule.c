// SPDX-License-Identifier: Apache-2.0
#include "sender/schedule.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define MS UINT64_C(1000000)

static struct schedule schedule;
static struct schedule_item items[9];

static int setup(void **state)
{
    (void)state;
    schedule_init(&schedule, 10 * MS, 0);
    return 0;
}

/* Packs one block of data and says which transfer it went to. */
static struct schedule_item *pack_block(uint64_t now_ns)
{
    struct schedule_item *item;
    enum schedule_kind kind;
    while ((kind = schedule_next(&schedule, now_ns, false, &item)) == SCHEDULE_ANNOUNCE)
        schedule_announced(item, now_ns);
    assert_int_equal(kind, SCHEDULE_DATA);
    schedule_block_done(&schedule);
    return item;
}

static void one_class_goes_in_order(void **state)
{
    (void)state;
    struct schedule_item *item;
    assert_int_equal(schedule_next(&schedule, 0, false, &item), SCHEDULE_NOTHING);
    for (int i = 0; i < 3; i++)
        schedule_add(&schedule, &items[i], SCHEDULE_NORMAL);
    for (int i = 0; i < 3; i++) {
        for (int block = 0; block < 20; block++)
            assert_ptr_equal(pack_block(0), &items[i]);
        schedule_data_done(&schedule, &items[i]);
    }
    assert_int_equal(schedule_next(&schedule, 0, false, &item), SCHEDULE_NOTHING);
}

static void urgent_overtakes_at_the_next_block(void **state)
{
    (void)state;
    schedule_add(&schedule, &items[0], SCHEDULE_LOW);
    assert_ptr_equal(pack_block(0), &items[0]);
    schedule_add(&schedule, &items[1], SCHEDULE_HIGH);
    assert_ptr_equal(pack_block(0), &items[1]);
    schedule_data_done(&schedule, &items[1]);
    assert_ptr_equal(pack_block(0), &items[0]);
}

static void class_stays_until_the_block_is_full(void **state)
{
    (void)state;
    struct schedule_item *item;
    schedule_add(&schedule, &items[0], SCHEDULE_LOW);
    assert_int_equal(schedule_next(&schedule, 0, false, &item), SCHEDULE_ANNOUNCE);
    schedule_announced(item, 0);
    assert_int_equal(schedule_next(&schedule, 0, false, &item), SCHEDULE_DATA);
    schedule_add(&schedule, &items[1], SCHEDULE_HIGH);
    assert_int_equal(schedule_next(&schedule, 0, false, &item), SCHEDULE_DATA);
    assert_ptr_equal(item, &items[0]);
}

static void lower_classes_get_one_block_of_sixteen(void **state)
{
    (void)state;
    int count[3] = {0};
    for (unsigned i = 0; i < 3; i++)
        schedule_add(&schedule, &items[i], SCHEDULE_HIGH + i);
    for (int i = 0; i < 16 * 16 * 4; i++)
        count[pack_block(0) - items]++;
    assert_int_equal(count[2], 4);
    assert_int_equal(count[1], 16 * 4 - 4);
    assert_int_equal(count[0], 15 * 16 * 4);
}

static void the_share_of_lower_classes_can_be_set(void **state)
{
    (void)state;
    int count[2] = {0};
    schedule_init(&schedule, 10 * MS, 30);
    schedule_add(&schedule, &items[0], SCHEDULE_HIGH);
    schedule_add(&schedule, &items[1], SCHEDULE_LOW);
    for (int i = 0; i < 1000; i++)
        count[pack_block(0) - items]++;
    assert_int_equal(count[1], 300);
}

static void a_replay_has_the_share_of_a_lower_class(void **state)
{
    (void)state;
    int count[2] = {0};
    schedule_add(&schedule, &items[0], SCHEDULE_LOW);
    schedule_add(&schedule, &items[1], SCHEDULE_REPLAY);
    for (int i = 0; i < 160; i++)
        count[pack_block(0) - items]++;
    assert_int_equal(count[1], 10);
}

static void an_urgent_replay_goes_before_everything(void **state)
{
    (void)state;
    schedule_add(&schedule, &items[0], SCHEDULE_HIGH);
    schedule_add(&schedule, &items[1], SCHEDULE_NOW);
    assert_ptr_equal(pack_block(0), &items[1]);
}

static void copies_of_replays_do_not_go_before_what_is_fresh(void **state)
{
    (void)state;
    struct schedule_item *item;
    int copies = 0;
    for (int i = 2; i < 8; i++) {
        items[i] = (struct schedule_item){.class = SCHEDULE_REPLAY};
        schedule_add_copies(&schedule, &items[i], 0);
    }
    schedule_add(&schedule, &items[0], SCHEDULE_LOW);
    schedule_announced(&items[0], 0);
    for (int i = 0; i < 64; i++) {
        if (schedule_next(&schedule, 0, false, &item) == SCHEDULE_COPY) {
            (void)schedule_copy_done(&schedule, item, 0);
            copies++;
        }
        schedule_block_done(&schedule);
    }
    assert_int_equal(copies, 4);
    schedule_data_done(&schedule, &items[0]);
    assert_int_equal(schedule_next(&schedule, 0, false, &item), SCHEDULE_COPY);
}

static void heals_go_on_only_while_nothing_else_has_anything(void **state)
{
    (void)state;
    struct schedule_item *item;
    schedule_add(&schedule, &items[0], SCHEDULE_HEAL);
    assert_int_equal(schedule_next(&schedule, 0, false, &item), SCHEDULE_NOTHING);
    assert_int_equal(schedule_next(&schedule, 0, true, &item), SCHEDULE_ANNOUNCE);
    assert_ptr_equal(item, &items[0]);
    schedule_announced(item, 0);
    assert_int_equal(schedule_next(&schedule, 0, true, &item), SCHEDULE_DATA);
    schedule_add(&schedule, &items[1], SCHEDULE_REPLAY);
    /* To the end of the block that was begun. */
    assert_int_equal(schedule_next(&schedule, 0, true, &item), SCHEDULE_DATA);
    assert_ptr_equal(item, &items[0]);
    schedule_block_done(&schedule);
    for (int i = 0; i < 100; i++) {
        assert_int_equal(schedule_next(&schedule, 0, true, &item),
                         items[1].announced ? SCHEDULE_DATA : SCHEDULE_ANNOUNCE);
        assert_ptr_equal(item, &items[1]);
        schedule_announced(item, 0);
        schedule_block_done(&schedule);
    }
    items[1].state = SCHEDULE_SOON;
    assert_int_equal(schedule_next(&schedule, 0, true, &item), SCHEDULE_WAIT);
    assert_ptr_equal(item, &items[1]);
    items[1].state = SCHEDULE_READY;
    schedule_data_done(&schedule, &items[1]);
    assert_int_equal(schedule_next(&schedule, 0, true, &item), SCHEDULE_DATA);
    assert_ptr_equal(item, &items[0]);
}

static void who_waits_for_reads_stands_in_nobodys_way(void **state)
{
    (void)state;
    struct schedule_item *item;
    schedule_add(&schedule, &items[0], SCHEDULE_NOW);
    items[0].state = SCHEDULE_SOON;
    schedule_add(&schedule, &items[1], SCHEDULE_LOW);
    for (int i = 0; i < 40; i++)
        assert_ptr_equal(pack_block(0), &items[1]);
    schedule_data_done(&schedule, &items[1]);
    assert_int_equal(schedule_next(&schedule, 0, false, &item), SCHEDULE_WAIT);
    items[0].state = SCHEDULE_LATER;
    assert_int_equal(schedule_next(&schedule, 0, false, &item), SCHEDULE_NOTHING);
    schedule_add(&schedule, &items[2], SCHEDULE_HEAL);
    assert_int_equal(schedule_next(&schedule, 0, true, &item), SCHEDULE_ANNOUNCE);
    assert_ptr_equal(item, &items[2]);
}

static void heals_wake_the_caller_when_they_may_go_on(void **state)
{
    (void)state;
    struct schedule_item *item;
    assert_int_equal(schedule_deadline_ns(&schedule, 5 * MS, 9 * MS), UINT64_MAX);
    schedule_add(&schedule, &items[0], SCHEDULE_HEAL);
    assert_int_equal(schedule_deadline_ns(&schedule, 5 * MS, 9 * MS), 9 * MS);
    assert_int_equal(schedule_deadline_ns(&schedule, 5 * MS, UINT64_MAX), UINT64_MAX);
    schedule_data_done(&schedule, &items[0]);
    schedule_add_copies(&schedule, &items[0], 5 * MS);
    assert_int_equal(schedule_next(&schedule, 5 * MS, true, &item), SCHEDULE_COPY);
    assert_false(schedule_copy_done(&schedule, item, 5 * MS));
    assert_int_equal(schedule_deadline_ns(&schedule, 6 * MS, 9 * MS), 105 * MS);
    assert_int_equal(schedule_deadline_ns(&schedule, 6 * MS, 120 * MS), 120 * MS);
    assert_int_equal(schedule_deadline_ns(&schedule, 121 * MS, 120 * MS), UINT64_MAX);
}

static void small_transfers_in_one_block_do_not_use_up_turns(void **state)
{
    (void)state;
    struct schedule_item bulk, small[100], *item;
    schedule_add(&schedule, &bulk, SCHEDULE_LOW);
    for (int i = 0; i < 100; i++)
        schedule_add(&schedule, &small[i], SCHEDULE_HIGH);
    for (int i = 0; i < 100; i++) {
        assert_int_equal(schedule_next(&schedule, 0, false, &item), SCHEDULE_ANNOUNCE);
        assert_ptr_equal(item, &small[i]);
        schedule_announced(item, 0);
        assert_int_equal(schedule_next(&schedule, 0, false, &item), SCHEDULE_DATA);
        schedule_data_done(&schedule, item);
    }
}

static void announce_comes_first_and_each_second(void **state)
{
    (void)state;
    struct schedule_item *item;
    schedule_add(&schedule, &items[0], SCHEDULE_NORMAL);
    assert_int_equal(schedule_next(&schedule, 5 * MS, false, &item), SCHEDULE_ANNOUNCE);
    schedule_announced(item, 5 * MS);
    assert_int_equal(schedule_next(&schedule, 1004 * MS, false, &item), SCHEDULE_DATA);
    assert_int_equal(schedule_next(&schedule, 1005 * MS, false, &item), SCHEDULE_ANNOUNCE);
    schedule_announced(item, 1005 * MS);
    assert_int_equal(schedule_next(&schedule, 1005 * MS, false, &item), SCHEDULE_DATA);
    assert_int_equal(schedule_deadline_ns(&schedule, 0, UINT64_MAX), 2005 * MS);
}

static void copies_are_spread_and_go_before_data(void **state)
{
    (void)state;
    struct schedule_item *item;
    schedule_add(&schedule, &items[1], SCHEDULE_HIGH);
    pack_block(0);
    schedule_add(&schedule, &items[0], SCHEDULE_LOW);
    items[2].class = SCHEDULE_NORMAL;
    schedule_add_copies(&schedule, &items[2], 7 * MS);
    assert_int_equal(schedule_next(&schedule, 7 * MS, false, &item), SCHEDULE_COPY);
    assert_ptr_equal(item, &items[2]);
    schedule_block_done(&schedule);
    assert_int_equal(schedule_next(&schedule, 8 * MS, false, &item), SCHEDULE_COPY);
    assert_false(schedule_copy_done(&schedule, item, 8 * MS));
    assert_ptr_equal(pack_block(107 * MS), &items[1]);
    assert_int_equal(schedule_deadline_ns(&schedule, 0, UINT64_MAX), 108 * MS);
    assert_int_equal(schedule_next(&schedule, 108 * MS, false, &item), SCHEDULE_COPY);
    assert_false(schedule_copy_done(&schedule, item, 108 * MS));
    assert_ptr_equal(pack_block(900 * MS), &items[1]);
    assert_int_equal(schedule_next(&schedule, 1108 * MS, false, &item), SCHEDULE_COPY);
    assert_true(schedule_copy_done(&schedule, item, 1108 * MS));
}

static void second_copy_waits_for_two_group_spans(void **state)
{
    (void)state;
    struct schedule_item *item;
    schedule_init(&schedule, 400 * MS, 0);
    schedule_add_copies(&schedule, &items[0], 0);
    assert_int_equal(schedule_next(&schedule, 0, false, &item), SCHEDULE_COPY);
    assert_false(schedule_copy_done(&schedule, item, 0));
    assert_int_equal(schedule_deadline_ns(&schedule, 0, UINT64_MAX), 800 * MS);
}

static void shutdown_finds_every_item(void **state)
{
    (void)state;
    struct schedule_item *item;
    for (unsigned i = 0; i < SCHEDULE_CLASS_COUNT; i++)
        schedule_add(&schedule, &items[i], i);
    items[6] = items[7] = (struct schedule_item){.class = SCHEDULE_NORMAL};
    items[8] = (struct schedule_item){.class = SCHEDULE_HEAL};
    for (int i = 6; i < 9; i++)
        schedule_add_copies(&schedule, &items[i], 0);
    assert_int_equal(schedule_next(&schedule, 0, false, &item), SCHEDULE_COPY);
    int found = 0;
    while (schedule_take_any(&schedule) != NULL)
        found++;
    assert_int_equal(found, 9);
}

static void an_urgent_end_is_where_only_lower_classes_follow(void **state)
{
    (void)state;
    assert_false(schedule_is_urgent_end(&schedule, SCHEDULE_HIGH, 0)); /* nothing follows */
    schedule_add(&schedule, &items[0], SCHEDULE_LOW);
    assert_true(schedule_is_urgent_end(&schedule, SCHEDULE_HIGH, 0));
    assert_true(schedule_is_urgent_end(&schedule, SCHEDULE_NORMAL, 0));
    assert_false(schedule_is_urgent_end(&schedule, SCHEDULE_LOW, 0));
    schedule_add(&schedule, &items[1], SCHEDULE_HIGH);
    assert_false(schedule_is_urgent_end(&schedule, SCHEDULE_HIGH, 0)); /* more of the same class */
    assert_false(schedule_is_urgent_end(&schedule, SCHEDULE_NORMAL, 0));
    schedule_data_done(&schedule, &items[1]);
    assert_true(schedule_is_urgent_end(&schedule, SCHEDULE_HIGH, 0));
    schedule_add_copies(&schedule, &items[1], 5 * MS);
    assert_true(schedule_is_urgent_end(&schedule, SCHEDULE_HIGH, 4 * MS));
    assert_false(schedule_is_urgent_end(&schedule, SCHEDULE_HIGH, 5 * MS)); /* a manifest goes first */
    items[0].state = SCHEDULE_LATER;
    assert_false(schedule_is_urgent_end(&schedule, SCHEDULE_HIGH, 4 * MS));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(one_class_goes_in_order, setup),
        cmocka_unit_test_setup(urgent_overtakes_at_the_next_block, setup),
        cmocka_unit_test_setup(class_stays_until_the_block_is_full, setup),
        cmocka_unit_test_setup(lower_classes_get_one_block_of_sixteen, setup),
        cmocka_unit_test_setup(the_share_of_lower_classes_can_be_set, setup),
        cmocka_unit_test_setup(a_replay_has_the_share_of_a_lower_class, setup),
        cmocka_unit_test_setup(an_urgent_replay_goes_before_everything, setup),
        cmocka_unit_test_setup(copies_of_replays_do_not_go_before_what_is_fresh, setup),
        cmocka_unit_test_setup(heals_go_on_only_while_nothing_else_has_anything, setup),
        cmocka_unit_test_setup(who_waits_for_reads_stands_in_nobodys_way, setup),
        cmocka_unit_test_setup(heals_wake_the_caller_when_they_may_go_on, setup),
        cmocka_unit_test_setup(small_transfers_in_one_block_do_not_use_up_turns, setup),
        cmocka_unit_test_setup(announce_comes_first_and_each_second, setup),
        cmocka_unit_test_setup(copies_are_spread_and_go_before_data, setup),
        cmocka_unit_test_setup(second_copy_waits_for_two_group_spans, setup),
        cmocka_unit_test_setup(shutdown_finds_every_item, setup),
        cmocka_unit_test_setup(an_urgent_end_is_where_only_lower_classes_follow, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
