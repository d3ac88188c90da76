// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/receiver_gather_world.h"

static void contradictions_within_a_block_are_dropped(void **state)
{
    (void)state;
    struct world world = make_world(ARENA);
    struct datagram good = symbol_of(10, 4, 2, 8, 4, 0);
    for (uint8_t esi = 0; esi < 7; esi++) {
        good.esi = esi;
        assert_int_equal(push(&world, good), DATAGRAM_OK);
    }
    struct datagram bad[6];
    for (unsigned i = 0; i < 6; i++) {
        bad[i] = good;
        bad[i].esi = 9;
    }
    bad[0].source_symbols = 7;
    bad[1].repair_symbols = 5;
    bad[2].symbol_size = 128;
    bad[3].block_hash++;
    bad[4].repeat_of = 4;
    bad[5].depth = 5;
    for (unsigned i = 0; i < 6; i++)
        assert_int_equal(push(&world, bad[i]), DATAGRAM_DROP_CONFLICT);
    bad[5] = good; /* another group */
    bad[5].esi = 9;
    bad[5].group_index = 1;
    assert_int_equal(push(&world, bad[5]), DATAGRAM_DROP_CONFLICT);
    good.esi = 11;
    assert_int_equal(push(&world, good), DATAGRAM_OK);
    world.now_ns += GATHER_ORDER_WAIT_NS;
    expect_block(&world, 12);
    assert_int_equal(gather_counters(world.gather)->drops[DATAGRAM_DROP_CONFLICT], 7);
    end_world(&world);
}

static void symbol_size_and_depth_are_those_of_the_group(void **state)
{
    (void)state;
    struct world world = make_world(ARENA);
    for (uint16_t index = 0; index < 3; index++)
        assert_int_equal(push(&world, symbol_of(10, 4, index, 8, 4, 0)), DATAGRAM_OK);
    struct datagram other = symbol_of(10, 4, 3, 8, 4, 0);
    other.symbol_size = 80;
    assert_int_equal(push(&world, other), DATAGRAM_DROP_CONFLICT);
    assert_int_equal(push(&world, symbol_of(10, 5, 3, 8, 4, 0)), DATAGRAM_DROP_CONFLICT);
    assert_int_equal(push(&world, symbol_of(10, 4, 3, 7, 4, 0)), DATAGRAM_OK);
    end_world(&world);
}

static void a_forged_first_datagram_does_not_kill_block_or_group(void **state)
{
    (void)state;
    struct world world = make_world(ARENA);
    struct datagram forged = symbol_of(10, 3, 1, 100, 4, 0);
    forged.block_hash = 1;
    forged.symbol_size = 4096;
    push(&world, forged);
    forged = symbol_of(10, 9, 0, 100, 4, 0);
    push(&world, forged);
    push_group(&world, 10, 3, 8, 8, NULL);
    expect_block(&world, 10);
    expect_block(&world, 11);
    expect_block(&world, 12);
    expect_none(&world);
    end_world(&world);
}

/* Datagrams that nobody sent: one after the other of a group far ahead. */
static void push_forged(struct world *world, uint64_t base, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        push(world, symbol_of(base, 64, (uint16_t)(i % 64), 8, 4, (uint8_t)(i / 64)));
}

static void single_forged_block_numbers_harm_no_block(void **state)
{
    (void)state;
    enum { DEPTH = 4, K = 20, R = 4, GROUPS = 300 };
    struct world world = make_world(4 * ARENA);
    uint64_t ahead = 1;
    for (uint64_t group = 0; group < GROUPS; group++) {
        uint64_t base = 10 + group * DEPTH;
        for (uint8_t esi = 0; esi < K + R; esi++) {
            for (uint16_t index = 0; index < DEPTH; index++)
                assert_int_not_equal(push(&world, symbol_of(base, DEPTH, index, K, R, esi)), DATAGRAM_DROP_LATE);
            /* Anywhere in the group, of any distance: next to the window, of one slot with it, far beyond. */
            if (esi % 7 == group % 7) {
                ahead = ahead * UINT64_C(6364136223846793005) + 1442695040888963407;
                uint64_t far = base + 16 + (ahead >> (2 + ahead % 61));
                push(&world, symbol_of(far, (uint16_t)(1 + ahead % 64), 0, 8, 4, 0));
            }
        }
        for (uint16_t index = 0; index < DEPTH; index++) {
            struct block *block = gather_pop(world.gather, world.now_ns);
            assert_non_null(block);
            assert_in_range(block->sbn, base, base + DEPTH - 1);
            gather_return(world.gather, block);
        }
        world.now_ns += MS;
    }
    assert_int_equal(gather_counters(world.gather)->blocks_complete, GROUPS * DEPTH);
    assert_int_equal(gather_counters(world.gather)->drops[DATAGRAM_DROP_LATE], 0);
    end_world(&world);
}

static void a_forged_next_group_of_another_geometry_is_overcome(void **state)
{
    (void)state;
    struct world world = make_world(4 * ARENA);
    push_group(&world, 10, 3, 8, 4, NULL);
    for (uint64_t sbn = 10; sbn < 13; sbn++)
        expect_block(&world, sbn);
    for (unsigned i = 0; i < 4; i++) /* each directly behind the other, as long as a group can be */
        push(&world, symbol_of(13 + i * (uint64_t)LIMIT_DEPTH, LIMIT_DEPTH, 0, 8, 4, 0));
    push_group(&world, 13, 3, 8, 4, NULL);
    push_group(&world, 16, 3, 8, 4, NULL);
    world.now_ns += GATHER_ORDER_WAIT_NS;
    unsigned found = 0;
    for (struct block *block; (block = gather_pop(world.gather, world.now_ns)) != NULL; found++) {
        assert_in_range(block->sbn, 13, 18);
        gather_return(world.gather, block);
    }
    assert_int_equal(found, 6);
    assert_int_equal(gather_counters(world.gather)->drops[DATAGRAM_DROP_LATE], 0);
    end_world(&world);
}

static void forgeries_that_outnumber_the_true_ones_are_overcome_soon(void **state)
{
    (void)state;
    struct world world = make_world(4 * ARENA);
    push_group(&world, 10, 3, 8, 4, NULL);
    for (uint64_t sbn = 10; sbn < 13; sbn++)
        expect_block(&world, sbn);
    push_forged(&world, UINT64_MAX - 1000, 64);
    assert_int_equal(push(&world, symbol_of(13, 3, 0, 8, 4, 0)), DATAGRAM_DROP_LATE);
    /* A few late ones are no sign, and those of a short moment neither. */
    for (unsigned i = 0; i < 2 * GATHER_RESYNC_DATAGRAMS; i++)
        assert_int_equal(push(&world, symbol_of(13, 3, 0, 8, 4, 0)), DATAGRAM_DROP_LATE);
    world.now_ns += GATHER_RESYNC_SOON_NS;
    push_group(&world, 16, 3, 8, 4, NULL);
    for (uint64_t sbn = 16; sbn < 19; sbn++)
        expect_block(&world, sbn);
    assert_true(gather_passed_sbn(world.gather, world.now_ns) <= 19);
    /* And where only heartbeats come. */
    push_forged(&world, UINT64_MAX - 1000, 64);
    assert_int_equal(push(&world, symbol_of(19, 1, 0, 1, 4, 0)), DATAGRAM_DROP_LATE);
    world.now_ns += GATHER_RESYNC_NS;
    push_group(&world, 20, 1, 1, 4, NULL);
    expect_block(&world, 20);
    end_world(&world);
}

static void what_a_forged_block_number_seemed_to_have_lost_is_taken_back(void **state)
{
    (void)state;
    struct world world = make_world(4 * ARENA);
    push_group(&world, 10, 3, 8, 4, NULL);
    push(&world, symbol_of(1 << 20, 3, 0, 8, 4, 0));
    assert_int_equal(gather_counters(world.gather)->blocks_given_up, 0);
    push_forged(&world, 1 << 21, 64);
    assert_in_range(gather_counters(world.gather)->blocks_given_up, 1000000, 1 << 21);
    world.now_ns += GATHER_RESYNC_NS;
    push_group(&world, 16, 3, 8, 4, NULL);
    assert_in_range(gather_counters(world.gather)->blocks_given_up, 0, 65); /* the forged blocks themselves */
    for (struct block *block; (block = gather_pop(world.gather, world.now_ns)) != NULL;)
        gather_return(world.gather, block);
    end_world(&world);
}

static void after_an_outage_the_window_follows_at_once(void **state)
{
    (void)state;
    enum { K = 20, R = 4 };
    struct world world = make_world(4 * ARENA);
    push_group(&world, 10, 3, K, R, NULL);
    for (uint64_t sbn = 10; sbn < 13; sbn++)
        expect_block(&world, sbn);
    for (uint64_t base = 100000; base < 100180; base += 3) {
        push_group(&world, base, 3, K, R, NULL);
        for (uint64_t sbn = base; sbn < base + 3; sbn++)
            expect_block(&world, sbn);
    }
    assert_int_equal(gather_passed_sbn(world.gather, world.now_ns), 100180);
    assert_int_equal(gather_counters(world.gather)->blocks_given_up, 100000 - 13);
    assert_int_equal(push(&world, symbol_of(13, 3, 0, K, R, 0)), DATAGRAM_DROP_LATE);
    end_world(&world);
}

static void sealed_datagrams_move_the_window_alone_and_only_forward(void **state)
{
    (void)state;
    struct world world = make_world(ARENA);
    gather_set_sealed(world.gather);
    push_group(&world, 10, 3, 8, 4, NULL);
    push(&world, symbol_of(100000, 3, 0, 8, 4, 0));
    for (unsigned i = 0; i < 10 * GATHER_RESYNC_DATAGRAMS; i++) {
        world.now_ns += GATHER_RESYNC_NS;
        assert_int_equal(push(&world, symbol_of(13, 3, 0, 8, 4, (uint8_t)(i % 12))), DATAGRAM_DROP_LATE);
    }
    for (struct block *block; (block = gather_pop(world.gather, world.now_ns)) != NULL;)
        gather_return(world.gather, block);
    end_world(&world);
}

static void the_oldest_incomplete_block_gives_way_when_memory_is_full(void **state)
{
    (void)state;
    enum { K = 4, R = 4, ROOM = 10 };
    struct world world = make_world(16384);
    struct datagram probe = symbol_of(0, 64, 0, K, R, 0);
    push(&world, probe);
    uint16_t index = 1;
    for (; gather_counters(world.gather)->blocks_given_up == 0; index++)
        assert_int_equal(push(&world, symbol_of(0, 64, index, K, R, 0)), DATAGRAM_OK);
    assert_true(index > ROOM && index < 60);
    /* The first is gone for good, the second is alive. */
    assert_int_equal(push(&world, symbol_of(0, 64, 0, K, R, 1)), DATAGRAM_DROP_MEMORY);
    for (uint8_t esi = 1; esi < K; esi++)
        assert_int_equal(push(&world, symbol_of(0, 64, 1, K, R, esi)), DATAGRAM_OK);
    expect_block(&world, 1);
    assert_true(gather_counters(world.gather)->memory_needed > 16384);
    end_world(&world);
}

static void held_blocks_are_never_evicted(void **state)
{
    (void)state;
    enum { K = 2, R = 4 };
    struct world world = make_world(16384);
    struct block *held[64];
    unsigned count = 0;
    for (;; count++) {
        enum datagram_drop drop = DATAGRAM_OK;
        for (uint8_t esi = 0; esi < K && drop == DATAGRAM_OK; esi++)
            drop = push(&world, symbol_of(count, 1, 0, K, R, esi));
        if (drop != DATAGRAM_OK) {
            assert_int_equal(drop, DATAGRAM_DROP_MEMORY);
            break;
        }
        held[count] = gather_pop(world.gather, world.now_ns);
        assert_non_null(held[count]);
    }
    assert_true(count > 5);
    assert_int_equal(gather_held(world.gather), count);
    for (unsigned i = 0; i < count; i++) {
        uint8_t expected[LIMIT_SYMBOL_SIZE];
        fill(expected, i, 1);
        assert_int_equal(held[i]->sbn, i);
        assert_memory_equal(held[i]->symbols + SYMBOL, expected, SYMBOL);
    }
    assert_int_equal(gather_passed_sbn(world.gather, world.now_ns), 0);
    gather_return(world.gather, held[0]);
    assert_int_equal(gather_passed_sbn(world.gather, world.now_ns), 1);
    push_group(&world, count, 1, K, R, NULL);
    expect_block(&world, count);
    for (unsigned i = 1; i < count; i++)
        gather_return(world.gather, held[i]);
    assert_int_equal(gather_passed_sbn(world.gather, world.now_ns), count + 1);
    end_world(&world);
}

static void a_block_that_missed_too_much_for_want_of_memory_takes_none(void **state)
{
    (void)state;
    enum { K = 20, R = 4 };
    struct world world = make_world(4096);
    struct datagram large = symbol_of(0, 1, 0, K, R, 0);
    large.symbol_size = 1024;
    for (uint8_t esi = 0; esi < K; esi++) {
        large.esi = esi;
        assert_int_equal(push(&world, large), DATAGRAM_DROP_MEMORY);
    }
    assert_int_equal(gather_counters(world.gather)->blocks_given_up, 1);
    assert_true(gather_counters(world.gather)->memory_needed > 2 * (K + R) * 1024);
    push_group(&world, 1, 1, 2, 4, NULL);
    expect_block(&world, 1);
    end_world(&world);
}

static uint64_t random64(void)
{
    return (uint64_t)(unsigned)rand() << 42 ^ (uint64_t)(unsigned)rand() << 21 ^ (uint64_t)(unsigned)rand();
}

static struct datagram random_datagram(void)
{
    static const uint16_t depths[] = {1, 2, 3, 16, 64, 500, LIMIT_DEPTH};
    uint8_t k = (uint8_t)(rand() % 3 == 0 ? 1 + rand() % LIMIT_SOURCE_SYMBOLS : 1 + rand() % 3);
    uint8_t r = (uint8_t)(4 + rand() % (LIMIT_REPAIR_SYMBOLS - 3));
    uint16_t depth = depths[(unsigned)rand() % (sizeof depths / sizeof *depths)];
    uint16_t index = (uint16_t)((unsigned)rand() % depth);
    uint64_t base = rand() % 50 == 0 ? random64() % (UINT64_MAX - LIMIT_DEPTH) : (uint64_t)(unsigned)rand() % 20000;
    struct datagram datagram = symbol_of(base, depth, index, k, r, (uint8_t)((unsigned)rand() % (unsigned)(k + r)));
    if (rand() % 4 == 0)
        datagram.symbol_size = (uint16_t)(16 * (4 + rand() % 573));
    if (rand() % 20 == 0)
        datagram.block_hash = random64();
    datagram.sequence = rand() % 10 == 0 ? random64() : (uint64_t)(unsigned)rand() % 100000;
    return datagram;
}

static void hostile_datagrams_neither_break_nor_grow_anything(void **state)
{
    (void)state;
    enum { PUSHES = 1000000, HOLD = 64 };
    static uint8_t symbol[LIMIT_SYMBOL_SIZE];
    struct world world = make_world(4 * ARENA);
    struct block *held[HOLD] = {NULL};
    unsigned next = 0;
    uint64_t released = 0;
    srand(11);
    for (unsigned i = 0; i < PUSHES; i++) {
        struct datagram datagram = random_datagram();
        gather_push(world.gather, &datagram, symbol, world.now_ns);
        if (rand() % 4 == 0)
            world.now_ns += (uint64_t)(unsigned)rand() % (5 * MS);
        if (rand() % 5000 == 0)
            world.now_ns += GATHER_RESYNC_NS;
        if (rand() % 3 != 0)
            continue;
        for (struct block *block; (block = gather_pop(world.gather, world.now_ns)) != NULL; released++) {
            assert_true(block->received >= block->source_symbols);
            if (held[next] != NULL)
                gather_return(world.gather, held[next]);
            held[next] = block;
            next = (next + 1) % HOLD;
        }
        (void)gather_passed_sbn(world.gather, world.now_ns);
    }
    gather_finish(world.gather);
    for (struct block *block; (block = gather_pop(world.gather, world.now_ns)) != NULL; released++)
        gather_return(world.gather, block);
    for (unsigned i = 0; i < HOLD; i++)
        if (held[i] != NULL)
            gather_return(world.gather, held[i]);
    const struct gather_counters *counters = gather_counters(world.gather);
    assert_int_equal(counters->datagrams, PUSHES);
    assert_int_equal(counters->blocks_complete, released);
    assert_int_equal(gather_held(world.gather), 0);
    end_world(&world);
}

static void blocks_stay_where_they_are_when_the_arena_changes(void **state)
{
    (void)state;
    struct world world = make_world(32768);
    uint8_t *other = aligned_alloc(64, ARENA);
    push_group(&world, 0, 1, 4, 4, NULL);
    struct block *held = gather_pop(world.gather, world.now_ns);
    push(&world, symbol_of(1, 2, 0, 4, 4, 0));
    gather_move(world.gather, other, ARENA);
    assert_true(gather_moving(world.gather));
    push_group(&world, 1, 2, 4, 4, NULL);
    expect_block(&world, 1);
    assert_true(gather_moving(world.gather));
    gather_return(world.gather, held);
    assert_false(gather_moving(world.gather));
    memset(world.arena, 0xdd, 32768);
    expect_block(&world, 2);
    push_group(&world, 3, 40, 4, 4, NULL);
    for (uint64_t sbn = 3; sbn < 43; sbn++)
        expect_block(&world, sbn);
    gather_destroy(world.gather);
    free(world.arena);
    free(other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(contradictions_within_a_block_are_dropped),
        cmocka_unit_test(symbol_size_and_depth_are_those_of_the_group),
        cmocka_unit_test(a_forged_first_datagram_does_not_kill_block_or_group),
        cmocka_unit_test(single_forged_block_numbers_harm_no_block),
        cmocka_unit_test(a_forged_next_group_of_another_geometry_is_overcome),
        cmocka_unit_test(forgeries_that_outnumber_the_true_ones_are_overcome_soon),
        cmocka_unit_test(after_an_outage_the_window_follows_at_once),
        cmocka_unit_test(sealed_datagrams_move_the_window_alone_and_only_forward),
        cmocka_unit_test(what_a_forged_block_number_seemed_to_have_lost_is_taken_back),
        cmocka_unit_test(the_oldest_incomplete_block_gives_way_when_memory_is_full),
        cmocka_unit_test(held_blocks_are_never_evicted),
        cmocka_unit_test(a_block_that_missed_too_much_for_want_of_memory_takes_none),
        cmocka_unit_test(hostile_datagrams_neither_break_nor_grow_anything),
        cmocka_unit_test(blocks_stay_where_they_are_when_the_arena_changes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
