// SPDX-License-Identifier: Apache-2.0
#include "sender/schedule.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

enum { HIGH, NORMAL, LOW };
#define MS UINT64_C(1000000)

static struct schedule schedule;
static struct schedule_item items[8];

static int setup(void **state)
{
    (void)state;
    schedule_init(&schedule, 10 * MS);
    return 0;
}

/* Packs one block of data and says which transfer it went to. */
static struct schedule_item *pack_block(uint64_t now_ns)
{
    struct schedule_item *item;
    enum schedule_kind kind;
    while ((kind = schedule_next(&schedule, now_ns, &item)) == SCHEDULE_ANNOUNCE)
        schedule_announced(item, now_ns);
    assert_int_equal(kind, SCHEDULE_DATA);
    schedule_block_done(&schedule);
    return item;
}

static void one_class_goes_in_order(void **state)
{
    (void)state;
    struct schedule_item *item;
    assert_int_equal(schedule_next(&schedule, 0, &item), SCHEDULE_NOTHING);
    for (int i = 0; i < 3; i++)
        schedule_add(&schedule, &items[i], NORMAL);
    for (int i = 0; i < 3; i++) {
        for (int block = 0; block < 20; block++)
            assert_ptr_equal(pack_block(0), &items[i]);
        schedule_data_done(&schedule, &items[i]);
    }
    assert_int_equal(schedule_next(&schedule, 0, &item), SCHEDULE_NOTHING);
}

static void urgent_overtakes_at_the_next_block(void **state)
{
    (void)state;
    schedule_add(&schedule, &items[0], LOW);
    assert_ptr_equal(pack_block(0), &items[0]);
    schedule_add(&schedule, &items[1], HIGH);
    assert_ptr_equal(pack_block(0), &items[1]);
    schedule_data_done(&schedule, &items[1]);
    assert_ptr_equal(pack_block(0), &items[0]);
}

static void class_stays_until_the_block_is_full(void **state)
{
    (void)state;
    struct schedule_item *item;
    schedule_add(&schedule, &items[0], LOW);
    assert_int_equal(schedule_next(&schedule, 0, &item), SCHEDULE_ANNOUNCE);
    schedule_announced(item, 0);
    assert_int_equal(schedule_next(&schedule, 0, &item), SCHEDULE_DATA);
    schedule_add(&schedule, &items[1], HIGH);
    assert_int_equal(schedule_next(&schedule, 0, &item), SCHEDULE_DATA);
    assert_ptr_equal(item, &items[0]);
}

static void lower_classes_get_one_block_of_sixteen(void **state)
{
    (void)state;
    int count[3] = {0};
    for (unsigned i = 0; i < 3; i++)
        schedule_add(&schedule, &items[i], i);
    for (int i = 0; i < 16 * 16 * 4; i++)
        count[pack_block(0) - items]++;
    assert_int_equal(count[LOW], 4);
    assert_int_equal(count[NORMAL], 16 * 4 - 4);
    assert_int_equal(count[HIGH], 15 * 16 * 4);
}

static void small_transfers_in_one_block_do_not_use_up_turns(void **state)
{
    (void)state;
    struct schedule_item bulk, small[100], *item;
    schedule_add(&schedule, &bulk, LOW);
    for (int i = 0; i < 100; i++)
        schedule_add(&schedule, &small[i], HIGH);
    for (int i = 0; i < 100; i++) {
        assert_int_equal(schedule_next(&schedule, 0, &item), SCHEDULE_ANNOUNCE);
        assert_ptr_equal(item, &small[i]);
        schedule_announced(item, 0);
        assert_int_equal(schedule_next(&schedule, 0, &item), SCHEDULE_DATA);
        schedule_data_done(&schedule, item);
    }
}

static void announce_comes_first_and_each_second(void **state)
{
    (void)state;
    struct schedule_item *item;
    schedule_add(&schedule, &items[0], NORMAL);
    assert_int_equal(schedule_next(&schedule, 5 * MS, &item), SCHEDULE_ANNOUNCE);
    schedule_announced(item, 5 * MS);
    assert_int_equal(schedule_next(&schedule, 1004 * MS, &item), SCHEDULE_DATA);
    assert_int_equal(schedule_next(&schedule, 1005 * MS, &item), SCHEDULE_ANNOUNCE);
    schedule_announced(item, 1005 * MS);
    assert_int_equal(schedule_next(&schedule, 1005 * MS, &item), SCHEDULE_DATA);
    assert_int_equal(schedule_deadline_ns(&schedule), 2005 * MS);
}

static void copies_are_spread_and_go_before_data(void **state)
{
    (void)state;
    struct schedule_item *item;
    schedule_add(&schedule, &items[1], HIGH);
    pack_block(0);
    schedule_add(&schedule, &items[0], LOW);
    schedule_add_copies(&schedule, &items[2], 7 * MS);
    assert_int_equal(schedule_next(&schedule, 7 * MS, &item), SCHEDULE_COPY);
    assert_ptr_equal(item, &items[2]);
    schedule_block_done(&schedule);
    assert_int_equal(schedule_next(&schedule, 8 * MS, &item), SCHEDULE_COPY);
    assert_false(schedule_copy_done(&schedule, item, 8 * MS));
    assert_ptr_equal(pack_block(107 * MS), &items[1]);
    assert_int_equal(schedule_deadline_ns(&schedule), 108 * MS);
    assert_int_equal(schedule_next(&schedule, 108 * MS, &item), SCHEDULE_COPY);
    assert_false(schedule_copy_done(&schedule, item, 108 * MS));
    assert_ptr_equal(pack_block(900 * MS), &items[1]);
    assert_int_equal(schedule_next(&schedule, 1108 * MS, &item), SCHEDULE_COPY);
    assert_true(schedule_copy_done(&schedule, item, 1108 * MS));
}

static void second_copy_waits_for_two_group_spans(void **state)
{
    (void)state;
    struct schedule_item *item;
    schedule_init(&schedule, 400 * MS);
    schedule_add_copies(&schedule, &items[0], 0);
    assert_int_equal(schedule_next(&schedule, 0, &item), SCHEDULE_COPY);
    assert_false(schedule_copy_done(&schedule, item, 0));
    assert_int_equal(schedule_deadline_ns(&schedule), 800 * MS);
}

static void shutdown_finds_every_item(void **state)
{
    (void)state;
    struct schedule_item *item;
    for (unsigned i = 0; i < 3; i++)
        schedule_add(&schedule, &items[i], i);
    schedule_add_copies(&schedule, &items[3], 0);
    schedule_add_copies(&schedule, &items[4], 0);
    assert_int_equal(schedule_next(&schedule, 0, &item), SCHEDULE_COPY);
    int found = 0;
    while (schedule_take_any(&schedule) != NULL)
        found++;
    assert_int_equal(found, 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(one_class_goes_in_order, setup),
        cmocka_unit_test_setup(urgent_overtakes_at_the_next_block, setup),
        cmocka_unit_test_setup(class_stays_until_the_block_is_full, setup),
        cmocka_unit_test_setup(lower_classes_get_one_block_of_sixteen, setup),
        cmocka_unit_test_setup(small_transfers_in_one_block_do_not_use_up_turns, setup),
        cmocka_unit_test_setup(announce_comes_first_and_each_second, setup),
        cmocka_unit_test_setup(copies_are_spread_and_go_before_data, setup),
        cmocka_unit_test_setup(second_copy_waits_for_two_group_spans, setup),
        cmocka_unit_test_setup(shutdown_finds_every_item, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
