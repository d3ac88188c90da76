// SPDX-License-Identifier: Apache-2.0
#include "receiver/decode.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/datagrams.h"

enum { K = 7, R = 4, SYMBOL = 64 };

static uint8_t memory[(LIMIT_SOURCE_SYMBOLS + LIMIT_REPAIR_SYMBOLS) * SYMBOL];
static uint8_t payload[LIMIT_SOURCE_SYMBOLS * SYMBOL];

/* A block of which everything has arrived. */
static struct block make_block(uint8_t k, uint8_t r)
{
    const uint8_t *source[LIMIT_SOURCE_SYMBOLS];
    uint8_t *repair[LIMIT_REPAIR_SYMBOLS];
    struct block block = {.source_symbols = k, .repair_symbols = r, .symbol_size = SYMBOL, .symbols = memory};

    for (size_t i = 0; i < (size_t)k * SYMBOL; i++)
        payload[i] = (uint8_t)(rand() & 0xff);
    memcpy(memory, payload, (size_t)k * SYMBOL);
    for (size_t i = 0; i < k; i++)
        source[i] = memory + i * SYMBOL;
    for (size_t i = 0; i < r; i++)
        repair[i] = memory + (k + i) * SYMBOL;
    struct fec *fec = fec_create(k, r);
    fec_encode(fec, SYMBOL, source, repair);
    fec_destroy(fec);
    memset(block.present, true, (size_t)k + r);
    block.received = (uint8_t)(k + r);
    block.received_source = k;
    block.block_hash = block_hash_of(payload, k, SYMBOL);
    return block;
}

/* What the gather has summed up when the symbols have arrived as they are now. */
static enum decode_result decode(struct fec_cache *cache, struct block *block)
{
    block->hash_sum = hash_sum_of(block->symbols, block->present, block->source_symbols, SYMBOL);
    return decode_block(cache, block);
}

static void lose(struct block *block, unsigned esi)
{
    memset(block->symbols + (size_t)esi * block->symbol_size, 0xee, block->symbol_size);
    block->present[esi] = false;
    block->received--;
    if (esi < block->source_symbols)
        block->received_source--;
}

static void a_whole_block_is_complete(void **state)
{
    struct block block = make_block(K, R);
    assert_int_equal(decode(*state, &block), DECODE_COMPLETE);
    assert_memory_equal(block.symbols, payload, K * SYMBOL);
}

static void every_loss_within_the_repair_symbols_is_repaired(void **state)
{
    for (unsigned lost = 1; lost < 1U << (K + R); lost++) {
        if (__builtin_popcount(lost) > R)
            continue;
        struct block block = make_block(K, R);
        for (unsigned esi = 0; esi < K + R; esi++)
            if ((lost >> esi & 1) != 0)
                lose(&block, esi);
        bool source_lost = (lost & ((1U << K) - 1)) != 0;
        assert_int_equal(decode(*state, &block), source_lost ? DECODE_REPAIRED : DECODE_COMPLETE);
        assert_memory_equal(block.symbols, payload, K * SYMBOL);
    }
}

static void the_largest_geometry_is_repaired(void **state)
{
    struct block block = make_block(LIMIT_SOURCE_SYMBOLS, LIMIT_REPAIR_SYMBOLS);
    for (unsigned i = 0; i < LIMIT_REPAIR_SYMBOLS; i++)
        lose(&block, i * 3);
    assert_int_equal(decode(*state, &block), DECODE_REPAIRED);
    assert_memory_equal(block.symbols, payload, LIMIT_SOURCE_SYMBOLS * SYMBOL);
}

static void a_damaged_symbol_fails_the_block(void **state)
{
    struct block block = make_block(K, R);
    block.symbols[3 * SYMBOL + 5] ^= 1;
    assert_int_equal(decode(*state, &block), DECODE_FAILED);

    block = make_block(K, R);
    lose(&block, 0);
    block.symbols[K * SYMBOL] ^= 1;
    assert_int_equal(decode(*state, &block), DECODE_FAILED);
}

static void symbols_that_changed_places_fail_the_block(void **state)
{
    struct block block = make_block(K, R);
    memcpy(block.symbols + 2 * SYMBOL, payload + 4 * SYMBOL, SYMBOL);
    memcpy(block.symbols + 4 * SYMBOL, payload + 2 * SYMBOL, SYMBOL);
    assert_int_equal(decode(*state, &block), DECODE_FAILED);
}

static void a_false_hash_fails_the_block(void **state)
{
    struct block block = make_block(K, R);
    block.block_hash++;
    assert_int_equal(decode(*state, &block), DECODE_FAILED);
}

static int set_up(void **state)
{
    *state = fec_cache_create();
    return *state == NULL;
}

static int tear_down(void **state)
{
    fec_cache_destroy(*state);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_whole_block_is_complete),
        cmocka_unit_test(every_loss_within_the_repair_symbols_is_repaired),
        cmocka_unit_test(the_largest_geometry_is_repaired),
        cmocka_unit_test(a_damaged_symbol_fails_the_block),
        cmocka_unit_test(symbols_that_changed_places_fail_the_block),
        cmocka_unit_test(a_false_hash_fails_the_block),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
