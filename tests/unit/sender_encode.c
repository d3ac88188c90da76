// SPDX-License-Identifier: Apache-2.0
#include "sender/encode.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/datagrams.h"

/* Multiplication in GF(2^8) by shifts, independent of any library. */
static uint8_t multiply(uint8_t a, uint8_t b)
{
    unsigned product = 0, factor = a;
    for (; b != 0; b >>= 1, factor <<= 1) {
        if (factor & 0x100)
            factor ^= 0x11d;
        if (b & 1)
            product ^= factor;
    }
    return (uint8_t)product;
}

static uint8_t inverse(uint8_t a)
{
    for (unsigned b = 1; b < 256; b++)
        if (multiply(a, (uint8_t)b) == 1)
            return (uint8_t)b;
    return 0;
}

static void repair_follows_the_wire_formats_matrix(void **state)
{
    (void)state;
    enum { SYMBOL = 64 };
    const uint8_t shapes[][2] = {{1, 4}, {3, 4}, {17, 5}, {128, 16}, {200, 55}};
    struct fec_cache *cache = fec_cache_create();
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        uint8_t k = shapes[s][0], r = shapes[s][1];
        uint8_t *symbols = malloc((size_t)(k + r) * SYMBOL);
        for (int i = 0; i < k * SYMBOL; i++)
            symbols[i] = (uint8_t)rand();
        struct block block = {.symbols = symbols, .source_symbols = k, .repair_symbols = r, .symbol_size = SYMBOL};
        encode_block(cache, &block);
        assert_int_equal(block.block_hash, block_hash_of(symbols, k, SYMBOL));
        for (unsigned esi = 0; esi < (unsigned)k + r; esi++)
            assert_int_equal(block.symbol_hashes[esi], datagram_symbol_hash(symbols + (size_t)esi * SYMBOL, SYMBOL));
        for (int i = 0; i < r; i++)
            for (int at = 0; at < SYMBOL; at += 9) {
                uint8_t sum = 0;
                for (int j = 0; j < k; j++)
                    sum ^= multiply(inverse((uint8_t)((k + i) ^ j)), symbols[j * SYMBOL + at]);
                assert_int_equal(symbols[(k + i) * SYMBOL + at], sum);
            }
        free(symbols);
    }
    fec_cache_destroy(cache);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(repair_follows_the_wire_formats_matrix),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
