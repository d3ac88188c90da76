// SPDX-License-Identifier: Apache-2.0
#include "sender/group.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

enum { DEPTH = 8, K = 20, R = 4 };
#define MS       UINT64_C(1000000)
#define SPAN_NS  (10 * MS)
#define BURST_NS (4 * MS)

static struct group_set set;
static struct block blocks[4 * DEPTH];
static uint64_t next_sbn;
static unsigned done_count;

static int setup(void **state)
{
    (void)state;
    group_set_init(&set, DEPTH, K, R, SPAN_NS, BURST_NS);
    for (unsigned i = 0; i < sizeof blocks / sizeof *blocks; i++)
        blocks[i] = (struct block){.source_symbols = K,
                                   .repair_symbols = R,
                                   .symbol_size = 64,
                                   .block_hash = i,
                                   .symbol_hashes = {[2] = i + 7}};
    next_sbn = 100;
    done_count = 0;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    group_set_deinit(&set);
    return 0;
}

static void add(unsigned first, unsigned count, uint64_t now_ns)
{
    for (unsigned i = 0; i < count; i++)
        group_add(&set, &blocks[first + i], now_ns);
}

static void note_done(void *context, struct block *block)
{
    (void)context;
    assert_true(block >= blocks && block < blocks + sizeof blocks / sizeof *blocks);
    done_count++;
}

/* Sends all of the current group; returns the number of datagrams. */
static unsigned send_all(void)
{
    uint16_t index;
    uint8_t esi;
    unsigned count = 0;
    while (interleave_next(&set.sending->order, &index, &esi)) {
        struct datagram datagram;
        group_fill(set.sending, index, esi, &datagram);
        assert_int_equal(datagram.sbn - datagram.group_index, set.sending->first_sbn);
        assert_true(datagram.group_index < datagram.depth);
        assert_int_equal(datagram.esi, esi);
        assert_int_equal(datagram.block_hash, set.sending->blocks[index]->block_hash);
        assert_int_equal(datagram.symbol_hash, set.sending->blocks[index]->symbol_hashes[esi]);
        count++;
    }
    return count;
}

static void full_group_is_sent_once(void **state)
{
    (void)state;
    add(0, DEPTH - 1, 0);
    assert_false(group_start(&set, false, &next_sbn, 0));
    add(DEPTH - 1, 1, 0);
    assert_false(group_has_room(&set));
    assert_true(group_start(&set, false, &next_sbn, 0));
    assert_true(group_has_room(&set));
    assert_int_equal(next_sbn, 100 + DEPTH);
    assert_int_equal(send_all(), DEPTH * (K + R));
    assert_int_equal(group_end(&set, MS, note_done, NULL), DEPTH);
    assert_int_equal(done_count, DEPTH);
    assert_int_equal(group_deadline_ns(&set, next_sbn), UINT64_MAX);
}

static void start_and_end(uint64_t now_ns)
{
    assert_true(group_start(&set, true, &next_sbn, now_ns));
    (void)send_all();
    (void)group_end(&set, now_ns, note_done, NULL);
}

static void settled_is_what_left_with_its_repeat_and_a_group_behind_it(void **state)
{
    (void)state;
    add(0, DEPTH, 0);
    start_and_end(0);
    assert_int_equal(group_settled(&set), 0); /* nothing is behind it */
    add(DEPTH, 2, MS);
    start_and_end(MS); /* short: held for its repeat */
    assert_int_equal(group_settled(&set), DEPTH);
    add(DEPTH + 2, DEPTH, 2 * MS);
    start_and_end(2 * MS);
    assert_int_equal(group_settled(&set), DEPTH); /* the one before was not repeated yet */
    assert_true(group_start(&set, true, &next_sbn, 100 * MS));
    assert_true(set.sending->is_repeat);
    assert_int_equal(group_settled(&set), DEPTH); /* the repeat is under way */
    (void)send_all();
    (void)group_end(&set, 101 * MS, note_done, NULL);
    assert_int_equal(group_settled(&set), DEPTH + 2);
}

static void blocks_say_what_they_repeat(void **state)
{
    (void)state;
    struct datagram datagram;
    blocks[1].repeat_of = 42;
    add(0, 2, 0);
    assert_true(group_start(&set, true, &next_sbn, 0));
    group_fill(set.sending, 0, 0, &datagram);
    assert_int_equal(datagram.repeat_of, 0);
    group_fill(set.sending, 1, 0, &datagram);
    assert_int_equal(datagram.repeat_of, 42);
}

static void end_of_the_stream_does_not_wait(void **state)
{
    (void)state;
    add(0, 1, 0);
    assert_true(group_start(&set, true, &next_sbn, 0));
    assert_int_equal(set.sending->depth, 1);
}

static void slow_stream_waits_for_a_while(void **state)
{
    (void)state;
    add(0, 2, 5 * MS);
    assert_int_equal(group_deadline_ns(&set, next_sbn), 5 * MS + 4 * SPAN_NS);
    assert_false(group_start(&set, false, &next_sbn, 5 * MS + 4 * SPAN_NS - 1));
    assert_true(group_start(&set, false, &next_sbn, 5 * MS + 4 * SPAN_NS));
}

static void short_group_is_repeated_once_later_than_a_burst(void **state)
{
    (void)state;
    add(0, 2, 0);
    assert_true(group_start(&set, true, &next_sbn, 0));
    uint64_t first_sbn = set.sending->first_sbn;
    send_all();
    assert_int_equal(group_end(&set, 10 * MS, note_done, NULL), 2);
    assert_int_equal(done_count, 0);
    uint64_t due_ns = group_deadline_ns(&set, next_sbn);
    assert_true(due_ns > 10 * MS + BURST_NS);
    assert_false(group_start(&set, true, &next_sbn, due_ns - 1));
    assert_true(group_start(&set, true, &next_sbn, due_ns));
    assert_true(set.sending->is_repeat);
    assert_int_equal(set.sending->first_sbn, first_sbn);
    assert_int_equal(next_sbn, 102);
    assert_int_equal(send_all(), 2 * (K + R));
    assert_int_equal(group_end(&set, due_ns + MS, note_done, NULL), 0);
    assert_int_equal(done_count, 2);
    assert_int_equal(group_deadline_ns(&set, next_sbn), UINT64_MAX);
}

/* Sends the blocks that were added, as a group of its own. */
static void send_group(uint64_t now_ns)
{
    assert_true(group_start(&set, true, &next_sbn, now_ns));
    assert_false(set.sending->is_repeat);
    (void)send_all();
    (void)group_end(&set, now_ns, note_done, NULL);
}

static void short_groups_do_not_wait_for_each_other_and_are_repeated_in_order(void **state)
{
    (void)state;
    uint64_t first[GROUP_HELD_MAX];
    for (unsigned i = 0; i < GROUP_HELD_MAX; i++) {
        first[i] = next_sbn;
        add(2 * i, 2, i * MS);
        send_group(i * MS);
    }
    assert_int_equal(done_count, 0);
    for (unsigned i = 0; i < GROUP_HELD_MAX; i++) {
        uint64_t due_ns = group_deadline_ns(&set, next_sbn);
        assert_true(due_ns > i * MS + BURST_NS);
        assert_true(due_ns <= i * MS + 2 * BURST_NS);
        assert_false(group_start(&set, true, &next_sbn, due_ns - 1));
        assert_true(group_start(&set, true, &next_sbn, due_ns));
        assert_true(set.sending->is_repeat);
        assert_int_equal(set.sending->first_sbn, first[i]);
        assert_int_equal(send_all(), 2 * (K + R));
        (void)group_end(&set, due_ns, note_done, NULL);
        assert_int_equal(done_count, 2 * (i + 1));
    }
    assert_int_equal(group_deadline_ns(&set, next_sbn), UINT64_MAX);
}

static void a_short_group_waits_where_no_more_can_be_held(void **state)
{
    (void)state;
    for (unsigned i = 0; i < GROUP_HELD_MAX; i++) {
        add(i, 1, 0);
        send_group(0);
    }
    add(GROUP_HELD_MAX, 1, 0);
    assert_false(group_start(&set, true, &next_sbn, 0));
    uint64_t due_ns = group_deadline_ns(&set, next_sbn);
    assert_true(group_start(&set, true, &next_sbn, due_ns));
    assert_true(set.sending->is_repeat);
    (void)send_all();
    (void)group_end(&set, due_ns, note_done, NULL);
    send_group(0);
}

static void short_groups_do_not_hold_more_blocks_than_a_full_one_and_a_few(void **state)
{
    (void)state;
    add(0, DEPTH - 2, 0);
    send_group(0);
    add(DEPTH, 4, 0);
    send_group(0);
    add(2 * DEPTH, 1, 0);
    assert_false(group_start(&set, true, &next_sbn, 0));
}

static void no_group_pushes_a_held_one_out_of_the_window(void **state)
{
    (void)state;
    add(0, 2, 0);
    send_group(0);
    next_sbn = 100 + GROUP_WINDOW_SLACK + 2 - GROUP_BEATS - 1; /* others, and beats, have gone between */
    add(2, 1, 0);
    assert_true(group_start(&set, true, &next_sbn, 0)); /* ends at 100 + 64 + 2 * 1, with the beats */
    (void)send_all();
    (void)group_end(&set, 0, note_done, NULL);
    assert_int_equal(next_sbn, 100 + GROUP_WINDOW_SLACK + 2 - GROUP_BEATS);
    add(3, 1, 0);
    assert_false(group_start(&set, true, &next_sbn, 0));
}

static void a_block_that_ends_its_group_closes_it(void **state)
{
    (void)state;
    add(0, 2, 0);
    assert_true(group_has_room(&set));
    blocks[2].ends_group = true;
    add(2, 1, 0);
    assert_false(group_has_room(&set));
    assert_true(group_start(&set, false, &next_sbn, 0));
    assert_int_equal(set.sending->depth, 3);
    assert_true(group_has_room(&set));
    (void)send_all();
    (void)group_end(&set, 0, note_done, NULL);
    assert_true(group_start(&set, false, &next_sbn, group_deadline_ns(&set, next_sbn))); /* it is repeated as ever */
    (void)send_all();
    (void)group_end(&set, 0, note_done, NULL);
    add(4, DEPTH, 0);
    assert_false(group_has_room(&set));
}

static void full_group_overtakes_a_repeat_that_is_not_due(void **state)
{
    (void)state;
    add(0, 2, 0);
    assert_true(group_start(&set, true, &next_sbn, 0));
    send_all();
    group_end(&set, MS, note_done, NULL);
    add(2, DEPTH, MS);
    assert_true(group_start(&set, false, &next_sbn, MS));
    assert_false(set.sending->is_repeat);
    send_all();
    assert_int_equal(group_end(&set, 2 * MS, note_done, NULL), DEPTH);
    assert_int_equal(done_count, DEPTH);
}

static void of_a_full_group_only_short_blocks_are_repeated(void **state)
{
    (void)state;
    blocks[3].source_symbols = 2;
    add(0, DEPTH, 0);
    assert_true(group_start(&set, false, &next_sbn, 0));
    send_all();
    assert_int_equal(group_end(&set, MS, note_done, NULL), DEPTH);
    assert_int_equal(done_count, DEPTH - 1);
    assert_true(group_start(&set, false, &next_sbn, group_deadline_ns(&set, next_sbn)));
    assert_int_equal(set.sending->count, 1);
    struct datagram datagram;
    group_fill(set.sending, 0, 1, &datagram);
    assert_int_equal(datagram.group_index, 3);
    assert_int_equal(datagram.depth, DEPTH);
    assert_int_equal(datagram.sbn, 103);
    assert_int_equal(send_all(), 2 + R);
    group_end(&set, 100 * MS, note_done, NULL);
    assert_int_equal(done_count, DEPTH);
}

/* Once the short blocks are over, a burst meets only the two full ones. */
static void group_of_mostly_short_blocks_is_repeated_whole(void **state)
{
    (void)state;
    for (unsigned i = 2; i < DEPTH; i++)
        blocks[i].source_symbols = 1;
    add(0, DEPTH, 0);
    assert_true(group_start(&set, false, &next_sbn, 0));
    send_all();
    group_end(&set, MS, note_done, NULL);
    assert_int_equal(done_count, 0);
    assert_int_equal(set.held[0]->count, DEPTH);
    assert_int_equal(group_repair_min(set.held[0]), R);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(full_group_is_sent_once, setup, teardown),
        cmocka_unit_test_setup_teardown(settled_is_what_left_with_its_repeat_and_a_group_behind_it, setup, teardown),
        cmocka_unit_test_setup_teardown(blocks_say_what_they_repeat, setup, teardown),
        cmocka_unit_test_setup_teardown(end_of_the_stream_does_not_wait, setup, teardown),
        cmocka_unit_test_setup_teardown(slow_stream_waits_for_a_while, setup, teardown),
        cmocka_unit_test_setup_teardown(short_group_is_repeated_once_later_than_a_burst, setup, teardown),
        cmocka_unit_test_setup_teardown(short_groups_do_not_wait_for_each_other_and_are_repeated_in_order, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_short_group_waits_where_no_more_can_be_held, setup, teardown),
        cmocka_unit_test_setup_teardown(short_groups_do_not_hold_more_blocks_than_a_full_one_and_a_few, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(no_group_pushes_a_held_one_out_of_the_window, setup, teardown),
        cmocka_unit_test_setup_teardown(a_block_that_ends_its_group_closes_it, setup, teardown),
        cmocka_unit_test_setup_teardown(full_group_overtakes_a_repeat_that_is_not_due, setup, teardown),
        cmocka_unit_test_setup_teardown(of_a_full_group_only_short_blocks_are_repeated, setup, teardown),
        cmocka_unit_test_setup_teardown(group_of_mostly_short_blocks_is_repeated_whole, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
