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
        blocks[i] = (struct block){.source_symbols = K, .repair_symbols = R, .symbol_size = 64, .block_hash = i};
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
    assert_int_equal(group_deadline_ns(&set), UINT64_MAX);
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
    assert_int_equal(group_deadline_ns(&set), 5 * MS + 4 * SPAN_NS);
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
    uint64_t due_ns = group_deadline_ns(&set);
    assert_true(due_ns > 10 * MS + BURST_NS);
    assert_false(group_start(&set, true, &next_sbn, due_ns - 1));
    assert_true(group_start(&set, true, &next_sbn, due_ns));
    assert_true(set.sending->is_repeat);
    assert_int_equal(set.sending->first_sbn, first_sbn);
    assert_int_equal(next_sbn, 102);
    assert_int_equal(send_all(), 2 * (K + R));
    assert_int_equal(group_end(&set, due_ns + MS, note_done, NULL), 0);
    assert_int_equal(done_count, 2);
    assert_int_equal(group_deadline_ns(&set), UINT64_MAX);
}

static void short_group_waits_for_the_repeat_before_it(void **state)
{
    (void)state;
    add(0, 2, 0);
    assert_true(group_start(&set, true, &next_sbn, 0));
    send_all();
    group_end(&set, MS, note_done, NULL);
    add(2, 2, 2 * MS);
    assert_false(group_start(&set, true, &next_sbn, 2 * MS));
    uint64_t due_ns = group_deadline_ns(&set);
    assert_true(group_start(&set, true, &next_sbn, due_ns));
    assert_true(set.sending->is_repeat);
    send_all();
    group_end(&set, due_ns, note_done, NULL);
    assert_true(group_start(&set, true, &next_sbn, due_ns));
    assert_false(set.sending->is_repeat);
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
    assert_true(group_start(&set, false, &next_sbn, group_deadline_ns(&set)));
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
    assert_int_equal(set.held->count, DEPTH);
    assert_int_equal(group_repair_min(set.held), R);
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
        cmocka_unit_test_setup_teardown(short_group_waits_for_the_repeat_before_it, setup, teardown),
        cmocka_unit_test_setup_teardown(full_group_overtakes_a_repeat_that_is_not_due, setup, teardown),
        cmocka_unit_test_setup_teardown(of_a_full_group_only_short_blocks_are_repeated, setup, teardown),
        cmocka_unit_test_setup_teardown(group_of_mostly_short_blocks_is_repeated_whole, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
