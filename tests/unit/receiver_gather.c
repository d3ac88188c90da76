// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/receiver_gather_world.h"

static void permute(unsigned count, unsigned n, unsigned order[])
{
    bool used[8] = {false};
    for (unsigned i = 0; i < count; i++) {
        unsigned pick = n % (count - i);
        n /= count - i;
        unsigned j = 0;
        for (;; j++)
            if (!used[j] && pick-- == 0)
                break;
        used[j] = true;
        order[i] = j;
    }
}

static void any_order_of_arrival_completes_a_block_with_its_kth_symbol(void **state)
{
    (void)state;
    enum { K = 3, R = 4, ORDERS = 5040 };
    struct world world = make_world(ARENA);
    for (unsigned n = 0; n < ORDERS; n++) {
        unsigned order[K + R];
        permute(K + R, n, order);
        for (unsigned i = 0; i < K + R; i++) {
            enum datagram_drop drop = push(&world, symbol_of(n, 1, 0, K, R, (uint8_t)order[i]));
            assert_int_equal(drop, i < K ? DATAGRAM_OK : DATAGRAM_DROP_SURPLUS);
            if (i + 1 == K)
                expect_block(&world, n);
            expect_none(&world);
        }
    }
    assert_int_equal(gather_counters(world.gather)->blocks_complete, ORDERS);
    assert_int_equal(gather_counters(world.gather)->blocks_given_up, 0);
    assert_int_equal(gather_counters(world.gather)->lost, 0);
    assert_int_equal(gather_passed_sbn(world.gather, world.now_ns), ORDERS);
    end_world(&world);
}

static void ten_copies_of_everything_change_nothing(void **state)
{
    (void)state;
    struct world world = make_world(ARENA);
    for (unsigned esi = 0; esi < 12; esi++)
        for (uint16_t index = 0; index < 5; index++)
            for (unsigned copy = 0; copy < 10; copy++) {
                enum datagram_drop drop = push(&world, symbol_of(20, 5, index, 8, 4, (uint8_t)esi));
                assert_int_equal(drop, copy == 0 && esi < 8 ? DATAGRAM_OK
                                       : esi < 7            ? DATAGRAM_DROP_DUPLICATE
                                                            : DATAGRAM_DROP_SURPLUS);
            }
    for (uint16_t index = 0; index < 5; index++)
        expect_block(&world, 20U + index);
    push_group(&world, 20, 5, 8, 4, NULL); /* sent once more */
    expect_none(&world);
    assert_int_equal(gather_counters(world.gather)->drops[DATAGRAM_DROP_DUPLICATE], 5 * 7 * 9);
    assert_int_equal(gather_counters(world.gather)->drops[DATAGRAM_DROP_SURPLUS], 5 * 9 + 5 * 4 * 10 + 5 * 12);
    assert_int_equal(gather_counters(world.gather)->blocks_complete, 5);
    end_world(&world);
}

static bool lose_half(uint16_t index, uint8_t esi)
{
    return (index + esi) % 2 == 0;
}

static bool lose_other_half(uint16_t index, uint8_t esi)
{
    return !lose_half(index, esi);
}

static void a_repeated_short_group_completes_what_the_first_began(void **state)
{
    (void)state;
    struct world world = make_world(ARENA);
    push_group(&world, 0, 3, 6, 4, lose_half);
    expect_none(&world);
    world.now_ns += 500 * MS;
    for (uint64_t beat = 3; beat < 30; beat++)
        push_group(&world, beat, 1, 1, 4, NULL);
    for (uint64_t beat = 3; beat < 30; beat++)
        expect_block(&world, beat);
    push_group(&world, 0, 3, 6, 4, lose_other_half);
    expect_block(&world, 0); /* in order of completion: its group is not the newest */
    expect_block(&world, 2);
    expect_block(&world, 1);
    assert_int_equal(gather_counters(world.gather)->blocks_given_up, 0);
    end_world(&world);
}

static bool lose_block_one_for_long(uint16_t index, uint8_t esi)
{
    return index == 1 && esi < 2;
}

static void complete_blocks_wait_for_lower_ones_of_the_newest_group(void **state)
{
    (void)state;
    struct world world = make_world(ARENA);
    /* Block 1 completes only in the column of the second repair symbol. */
    for (unsigned esi = 0; esi < 5; esi++)
        for (uint16_t index = 0; index < 4; index++)
            if (!lose_block_one_for_long(index, (uint8_t)esi))
                push(&world, symbol_of(0, 4, index, 5, 4, (uint8_t)esi));
    expect_block(&world, 0);
    expect_none(&world);
    assert_int_equal(gather_deadline_ns(world.gather), world.now_ns + GATHER_ORDER_WAIT_NS);
    push(&world, symbol_of(0, 4, 1, 5, 4, 5));
    expect_none(&world);
    push(&world, symbol_of(0, 4, 1, 5, 4, 6));
    expect_block(&world, 1);
    expect_block(&world, 2);
    expect_block(&world, 3);
    expect_none(&world);
    assert_int_equal(gather_passed_sbn(world.gather, world.now_ns), 4);
    assert_int_equal(gather_deadline_ns(world.gather), UINT64_MAX);
    end_world(&world);
}

static bool lose_block_one(uint16_t index, uint8_t esi)
{
    (void)esi;
    return index == 1;
}

static void silence_ends_the_wait_for_order(void **state)
{
    (void)state;
    struct world world = make_world(ARENA);
    push_group(&world, 8, 4, 5, 4, lose_block_one);
    expect_block(&world, 8);
    world.now_ns += GATHER_ORDER_WAIT_NS - 1;
    expect_none(&world);
    world.now_ns += 1;
    assert_true(gather_deadline_ns(world.gather) <= world.now_ns);
    expect_block(&world, 10);
    expect_block(&world, 11);
    expect_none(&world);
    /* The missing one comes late and is not held up by anything. */
    push_group(&world, 8, 4, 5, 4, NULL);
    expect_block(&world, 9);
    end_world(&world);
}

static void a_newer_group_ends_the_wait_for_order(void **state)
{
    (void)state;
    struct world world = make_world(ARENA);
    push_group(&world, 8, 4, 5, 4, lose_block_one);
    expect_block(&world, 8);
    expect_none(&world);
    push(&world, symbol_of(12, 4, 0, 5, 4, 0));
    expect_block(&world, 10);
    expect_block(&world, 11);
    expect_none(&world);
    end_world(&world);
}

static void reordering_within_the_window_loses_nothing(void **state)
{
    (void)state;
    enum { DEPTH = 40, K = 6, R = 4, GROUPS = 12, PER_GROUP = DEPTH * (K + R) };
    static struct datagram sent[GROUPS * PER_GROUP];
    unsigned count = 0;
    for (unsigned group = 0; group < GROUPS; group++)
        for (unsigned esi = 0; esi < K + R; esi++)
            for (uint16_t index = 0; index < DEPTH; index++) {
                sent[count] = symbol_of((uint64_t)group * DEPTH, DEPTH, index, K, R, (uint8_t)esi);
                sent[count].sequence = count + 1;
                count++;
            }
    /* Shuffled over the length of a group, from the middle of one to the middle of the next. */
    srand(7);
    for (unsigned start = PER_GROUP / 2; start + PER_GROUP <= count; start += PER_GROUP)
        for (unsigned i = PER_GROUP - 1; i > 0; i--) {
            unsigned j = (unsigned)rand() % (i + 1);
            struct datagram swap = sent[start + i];
            sent[start + i] = sent[start + j];
            sent[start + j] = swap;
        }
    struct world world = make_world(ARENA);
    bool seen[GROUPS * DEPTH] = {false};
    unsigned blocks = 0;
    for (unsigned i = 0; i < count; i++) {
        uint8_t symbol[LIMIT_SYMBOL_SIZE];
        fill(symbol, sent[i].sbn, sent[i].esi);
        gather_push(world.gather, &sent[i], symbol, world.now_ns);
        for (struct block *block; (block = gather_pop(world.gather, world.now_ns)) != NULL; blocks++) {
            assert_false(seen[block->sbn]);
            seen[block->sbn] = true;
            gather_return(world.gather, block);
        }
    }
    world.now_ns += GATHER_ORDER_WAIT_NS;
    for (struct block *block; (block = gather_pop(world.gather, world.now_ns)) != NULL; blocks++)
        gather_return(world.gather, block);
    assert_int_equal(blocks, GROUPS * DEPTH);
    assert_int_equal(gather_counters(world.gather)->lost, 0);
    assert_int_equal(gather_counters(world.gather)->blocks_given_up, 0);
    end_world(&world);
}

static void a_whole_group_may_come_behind_the_next(void **state)
{
    (void)state;
    struct world world = make_world(ARENA);
    push_group(&world, 100, 50, 4, 4, NULL);
    push_group(&world, 200, 50, 4, 4, NULL);
    push_group(&world, 150, 50, 4, 4, NULL);
    uint64_t sum = 0;
    for (struct block *block; (block = gather_pop(world.gather, world.now_ns)) != NULL;) {
        sum += block->sbn;
        gather_return(world.gather, block);
    }
    assert_int_equal(sum, (100 + 249) * 150 / 2);
    push_group(&world, 20, 50, 4, 4, NULL);
    expect_none(&world);
    assert_int_equal(gather_counters(world.gather)->drops[DATAGRAM_DROP_LATE], 50 * 8);
    end_world(&world);
}

static void blocks_that_leave_the_window_are_given_up(void **state)
{
    (void)state;
    struct world world = make_world(ARENA);
    push_group(&world, 0, 10, 5, 4, lose_block_one);
    push(&world, symbol_of(0, 10, 1, 5, 4, 0));
    push_group(&world, 10, 10, 5, 4, NULL);
    assert_int_equal(gather_counters(world.gather)->blocks_given_up, 0);
    push_group(&world, 100, 10, 5, 4, NULL);
    assert_int_equal(gather_counters(world.gather)->blocks_given_up, 1 + 26 - 20);
    assert_int_equal(push(&world, symbol_of(0, 10, 1, 5, 4, 1)), DATAGRAM_DROP_LATE);
    unsigned blocks = 0;
    for (struct block *block; (block = gather_pop(world.gather, world.now_ns)) != NULL; blocks++)
        gather_return(world.gather, block);
    assert_int_equal(blocks, 29);
    end_world(&world);
}

static void blocks_of_which_nothing_came_count_as_given_up_once_the_window_is_past_them(void **state)
{
    (void)state;
    enum { WIDTH = 2 * 10 + 64 };
    struct world world = make_world(ARENA);
    const struct gather_counters *counters = gather_counters(world.gather);
    /* What was sent before we listened is not known to be lost. */
    push_group(&world, 5000, 10, 5, 4, NULL);
    push_group(&world, 5010, 10, 5, 4, NULL);
    /* Nothing comes of 5020 to 5059, and all of the rest. */
    for (uint64_t base = 5060; base < 5060 + 10000; base += 10) {
        push_group(&world, base, 10, 5, 4, NULL);
        uint64_t floor = base + 10 - WIDTH;
        assert_int_equal(counters->blocks_given_up, floor < 5020 ? 0 : floor < 5060 ? floor - 5020 : 40);
        for (struct block *block; (block = gather_pop(world.gather, world.now_ns)) != NULL;)
            gather_return(world.gather, block);
    }
    /* An outage far longer than the window. */
    push_group(&world, 115060, 10, 5, 4, NULL);
    assert_int_equal(counters->blocks_given_up, 40 + 100000 + 10 - WIDTH);
    /* At the end, what is still in the window, up to the newest group. */
    gather_finish(world.gather);
    assert_int_equal(counters->blocks_given_up, 40 + 100000);
    for (struct block *block; (block = gather_pop(world.gather, world.now_ns)) != NULL;)
        gather_return(world.gather, block);
    end_world(&world);
}

static void an_open_block_is_given_up_after_silence(void **state)
{
    (void)state;
    struct world world = make_world(ARENA);
    push(&world, symbol_of(5, 2, 0, 5, 4, 0));
    uint64_t touched_ns = world.now_ns;
    world.now_ns += 4 * SECOND;
    push(&world, symbol_of(5, 2, 1, 5, 4, 0));
    expect_none(&world);
    assert_int_equal(gather_deadline_ns(world.gather), touched_ns + GATHER_GIVE_UP_NS);
    world.now_ns = touched_ns + GATHER_GIVE_UP_NS;
    expect_none(&world);
    assert_int_equal(gather_counters(world.gather)->blocks_given_up, 1);
    assert_int_equal(gather_deadline_ns(world.gather), touched_ns + 4 * SECOND + GATHER_GIVE_UP_NS);
    world.now_ns += 4 * SECOND;
    expect_none(&world);
    assert_int_equal(gather_counters(world.gather)->blocks_given_up, 2);
    assert_int_equal(gather_deadline_ns(world.gather), UINT64_MAX);
    assert_int_equal(gather_passed_sbn(world.gather, world.now_ns), 7);
    end_world(&world);
}

static void passed_grows_to_the_first_block_that_may_still_come(void **state)
{
    (void)state;
    struct world world = make_world(ARENA);
    assert_int_equal(gather_passed_sbn(world.gather, world.now_ns), 0);
    push_group(&world, 0, 4, 5, 4, NULL);
    assert_int_equal(gather_passed_sbn(world.gather, world.now_ns), 0); /* complete, not yet returned */
    for (uint64_t sbn = 0; sbn < 4; sbn++)
        expect_block(&world, sbn);
    assert_int_equal(gather_passed_sbn(world.gather, world.now_ns), 4);

    /* Of block 5 nothing is ever seen; heartbeats follow each second. */
    push_group(&world, 4, 4, 5, 4, lose_block_one);
    world.now_ns += GATHER_ORDER_WAIT_NS;
    expect_block(&world, 4);
    expect_block(&world, 6);
    expect_block(&world, 7);
    assert_int_equal(gather_passed_sbn(world.gather, world.now_ns), 5);
    uint64_t beat = 8;
    for (; beat < 18; beat++) {
        world.now_ns += SECOND;
        push_group(&world, beat, 1, 1, 4, NULL);
        expect_block(&world, beat);
        assert_int_equal(gather_passed_sbn(world.gather, world.now_ns), 5);
    }
    world.now_ns += 2 * SECOND;
    assert_int_equal(gather_passed_sbn(world.gather, world.now_ns), beat);
    end_world(&world);
}

static void passed_follows_the_window(void **state)
{
    (void)state;
    struct world world = make_world(ARENA);
    push_group(&world, 0, 10, 5, 4, lose_block_one);
    for (uint64_t base = 10; base < 1000; base += 10)
        push_group(&world, base, 10, 5, 4, lose_block_one);
    for (struct block *block; (block = gather_pop(world.gather, world.now_ns)) != NULL;)
        gather_return(world.gather, block);
    assert_int_equal(gather_passed_sbn(world.gather, world.now_ns), 921);
    world.now_ns += GATHER_GIVE_UP_NS;
    assert_true(gather_deadline_ns(world.gather) <= world.now_ns);
    for (struct block *block; (block = gather_pop(world.gather, world.now_ns)) != NULL;)
        gather_return(world.gather, block);
    assert_int_equal(gather_passed_sbn(world.gather, world.now_ns), 1000);
    assert_int_equal(gather_deadline_ns(world.gather), UINT64_MAX);
    end_world(&world);
}

static void finishing_lets_complete_blocks_out_and_gives_up_the_rest(void **state)
{
    (void)state;
    struct world world = make_world(ARENA);
    push_group(&world, 8, 4, 5, 4, lose_block_one);
    push(&world, symbol_of(8, 4, 1, 5, 4, 0));
    gather_finish(world.gather);
    expect_block(&world, 8);
    expect_block(&world, 10);
    expect_block(&world, 11);
    expect_none(&world);
    assert_int_equal(gather_counters(world.gather)->blocks_given_up, 1);
    end_world(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_order_of_arrival_completes_a_block_with_its_kth_symbol),
        cmocka_unit_test(ten_copies_of_everything_change_nothing),
        cmocka_unit_test(a_repeated_short_group_completes_what_the_first_began),
        cmocka_unit_test(complete_blocks_wait_for_lower_ones_of_the_newest_group),
        cmocka_unit_test(silence_ends_the_wait_for_order),
        cmocka_unit_test(a_newer_group_ends_the_wait_for_order),
        cmocka_unit_test(reordering_within_the_window_loses_nothing),
        cmocka_unit_test(a_whole_group_may_come_behind_the_next),
        cmocka_unit_test(blocks_that_leave_the_window_are_given_up),
        cmocka_unit_test(blocks_of_which_nothing_came_count_as_given_up_once_the_window_is_past_them),
        cmocka_unit_test(an_open_block_is_given_up_after_silence),
        cmocka_unit_test(passed_grows_to_the_first_block_that_may_still_come),
        cmocka_unit_test(passed_follows_the_window),
        cmocka_unit_test(finishing_lets_complete_blocks_out_and_gives_up_the_rest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
