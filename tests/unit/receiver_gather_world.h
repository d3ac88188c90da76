// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_TESTS_UNIT_RECEIVER_GATHER_WORLD_H
#define DIODECAST_TESTS_UNIT_RECEIVER_GATHER_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "receiver/gather.h"

/* A gather with its memory and clock, and a sender of symbols whose content is known. For the tests of gather. */

enum { SENDER = 0x11223344, LANE = 3, SYMBOL = 64, ARENA = 1 << 20 };
#define EPOCH  UINT64_C(0x0000000500000007)
#define MS     UINT64_C(1000000)
#define SECOND UINT64_C(1000000000)

struct world {
    struct gather *gather;
    uint8_t *arena;
    uint64_t now_ns, sequence;
};

static inline struct world make_world(size_t arena_size)
{
    struct world world = {.arena = aligned_alloc(64, arena_size), .now_ns = 1000 * SECOND, .sequence = 1};
    assert_non_null(world.arena);
    memset(world.arena, 0xaa, arena_size);
    world.gather = gather_create(SENDER, LANE, EPOCH, world.arena, arena_size);
    assert_non_null(world.gather);
    return world;
}

static inline void end_world(struct world *world)
{
    gather_destroy(world->gather);
    free(world->arena);
}

static inline struct datagram symbol_of(uint64_t base, uint16_t depth, uint16_t index, uint8_t k, uint8_t r,
                                        uint8_t esi)
{
    return (struct datagram){.lane = LANE,
                             .source_symbols = k,
                             .repair_symbols = r,
                             .esi = esi,
                             .symbol_size = SYMBOL,
                             .sender_id = SENDER,
                             .depth = depth,
                             .group_index = index,
                             .epoch = EPOCH,
                             .sbn = base + index,
                             .block_hash = base + index + 99};
}

static inline void fill(uint8_t symbol[static LIMIT_SYMBOL_SIZE], uint64_t sbn, uint8_t esi)
{
    memset(symbol, (int)(sbn * 7 + esi), LIMIT_SYMBOL_SIZE);
}

static inline enum datagram_drop push(struct world *world, struct datagram datagram)
{
    static uint8_t symbol[LIMIT_SYMBOL_SIZE];
    fill(symbol, datagram.sbn, datagram.esi);
    datagram.sequence = world->sequence++;
    datagram.symbol_hash = datagram_symbol_hash(symbol, datagram.symbol_size);
    return gather_push(world->gather, &datagram, symbol, world->now_ns);
}

/* Pops one block, checks what it holds, returns it. */
static inline void expect_block(struct world *world, uint64_t sbn)
{
    struct block *block = gather_pop(world->gather, world->now_ns);
    assert_non_null(block);
    assert_int_equal(block->sbn, sbn);
    assert_int_equal(block->epoch, EPOCH);
    assert_int_equal(block->sender_id, SENDER);
    assert_int_equal(block->lane, LANE);
    assert_true(block->received >= block->source_symbols);
    assert_int_equal((uintptr_t)block->symbols % 64, 0);
    unsigned present = 0, source = 0;
    uint64_t hash_sum = 0;
    for (unsigned esi = 0; esi < (unsigned)block->source_symbols + block->repair_symbols; esi++) {
        if (!block->present[esi])
            continue;
        uint8_t expected[LIMIT_SYMBOL_SIZE];
        fill(expected, sbn, (uint8_t)esi);
        assert_memory_equal(block->symbols + (size_t)esi * block->symbol_size, expected, block->symbol_size);
        present++;
        source += esi < block->source_symbols;
        if (esi < block->source_symbols)
            hash_sum += datagram_hash_share((uint8_t)esi, datagram_symbol_hash(expected, block->symbol_size));
    }
    assert_int_equal(present, block->received);
    assert_int_equal(source, block->received_source);
    assert_int_equal(hash_sum, block->hash_sum);
    gather_return(world->gather, block);
}

static inline void expect_none(struct world *world)
{
    assert_null(gather_pop(world->gather, world->now_ns));
}

/* Sends a whole group column by column, without those that `lost` names. */
static inline void push_group(struct world *world, uint64_t base, uint16_t depth, uint8_t k, uint8_t r,
                              bool (*lost)(uint16_t index, uint8_t esi))
{
    for (unsigned esi = 0; esi < (unsigned)k + r; esi++)
        for (uint16_t index = 0; index < depth; index++)
            if (lost == NULL || !lost(index, (uint8_t)esi))
                push(world, symbol_of(base, depth, index, k, r, (uint8_t)esi));
}

#endif
