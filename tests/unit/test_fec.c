// SPDX-License-Identifier: Apache-2.0
/* Compiled in, so that the codes can be made with each kernel. */
#include "common/fec.c"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

enum { MAX_TOTAL = FEC_MAX_SOURCE + FEC_MAX_REPAIR };

static enum gfkernel kernel; /* all tests run once with each that this CPU has */

/* An independent GF(2^8): bit by bit multiplication modulo 0x11D, tables from the powers of 2. */
static uint8_t log_table[256], exp_table[510];

static uint8_t slow_multiply(uint8_t a, uint8_t b)
{
    unsigned int product = 0;
    for (int bit = 0; bit < 8; bit++)
        if (b >> bit & 1)
            product ^= (unsigned int)a << bit;
    for (int bit = 15; bit >= 8; bit--)
        if (product >> bit & 1)
            product ^= 0x11Du << (bit - 8);
    return (uint8_t)product;
}

static int make_tables(void **state)
{
    (void)state;
    uint8_t power = 1;
    for (int i = 0; i < 255; i++) {
        exp_table[i] = exp_table[i + 255] = power;
        log_table[power] = (uint8_t)i;
        power = slow_multiply(power, 2);
    }
    return power == 1 ? 0 : -1;
}

static uint8_t gf_product(uint8_t a, uint8_t b)
{
    return a == 0 || b == 0 ? 0 : exp_table[log_table[a] + log_table[b]];
}

static uint8_t inverse(uint8_t a)
{
    return exp_table[255 - log_table[a]];
}

/* One byte of a repair symbol by the definition in proto/README.md. */
static uint8_t repair_byte(int k, int row, const uint8_t *const source[], size_t at)
{
    uint8_t sum = 0;
    for (int j = 0; j < k; j++)
        sum ^= gf_product(inverse((uint8_t)((k + row) ^ j)), source[j][at]);
    return sum;
}

/* Solves the whole system by Gauss and Jordan over one byte position: nothing of the closed form is shared. */
static void reference_solve(int k, const int chosen[], const uint8_t *const symbols[], size_t at, uint8_t out[])
{
    static uint8_t m[FEC_MAX_SOURCE][FEC_MAX_SOURCE + 1];
    for (int i = 0; i < k; i++) {
        for (int j = 0; j < k; j++)
            m[i][j] = chosen[i] < k ? chosen[i] == j : inverse((uint8_t)(chosen[i] ^ j));
        m[i][k] = symbols[chosen[i]][at];
    }
    for (int column = 0; column < k; column++) {
        int pivot = column;
        while (pivot < k && m[pivot][column] == 0)
            pivot++;
        assert_true(pivot < k);
        uint8_t scale = inverse(m[pivot][column]);
        for (int j = 0; j <= k; j++) {
            uint8_t swapped = m[column][j];
            m[column][j] = gf_product(m[pivot][j], scale);
            if (pivot != column)
                m[pivot][j] = swapped;
        }
        for (int i = 0; i < k; i++) {
            uint8_t factor = m[i][column];
            if (i == column || factor == 0)
                continue;
            for (int j = column; j <= k; j++)
                m[i][j] ^= gf_product(factor, m[column][j]);
        }
    }
    for (int i = 0; i < k; i++)
        out[i] = m[i][k];
}

static uint64_t random_state = 88172645463325252;

static uint32_t random_below(uint32_t limit)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (uint32_t)(random_state >> 33) % limit;
}

/* k + r symbols of one block; each starts at an odd address and has guard bytes behind it. */
struct block {
    int k, r;
    size_t size;
    uint8_t *memory;
    uint8_t *symbols[MAX_TOTAL];
    uint8_t *original; /* what the symbols must be, back to back */
};

enum { GUARD = 17, GUARD_BYTE = 0xA5 };

static void block_fill(struct block *block, const struct fec *fec, int k, int r, size_t size)
{
    size_t stride = size + GUARD;
    size_t total = (size_t)k + (size_t)r;
    block->k = k;
    block->r = r;
    block->size = size;
    block->memory = malloc(total * stride + 1);
    block->original = malloc(total * size);
    memset(block->memory, GUARD_BYTE, total * stride + 1);
    for (size_t i = 0; i < total; i++)
        block->symbols[i] = block->memory + 1 + i * stride;
    for (int j = 0; j < k; j++)
        for (size_t at = 0; at < size; at++)
            block->symbols[j][at] = (uint8_t)random_below(256);
    fec_encode(fec, size, (const uint8_t *const *)block->symbols, block->symbols + k);
    for (size_t i = 0; i < total; i++)
        memcpy(block->original + i * size, block->symbols[i], size);
}

static void block_free(struct block *block)
{
    free(block->memory);
    free(block->original);
}

/* Brings all symbols back and destroys the absent ones. */
static void block_erase(struct block *block, const bool present[])
{
    for (int i = 0; i < block->k + block->r; i++) {
        if (present[i])
            memcpy(block->symbols[i], block->original + (size_t)i * block->size, block->size);
        else
            memset(block->symbols[i], 0xEE, block->size);
    }
}

static void block_assert_whole(const struct block *block)
{
    for (int i = 0; i < block->k; i++)
        assert_memory_equal(block->symbols[i], block->original + (size_t)i * block->size, block->size);
    for (int i = 0; i < block->k + block->r; i++)
        for (int at = 0; at < GUARD; at++)
            assert_int_equal(block->symbols[i][block->size + (size_t)at], GUARD_BYTE);
}

static void encoding_follows_the_definition(void **state)
{
    (void)state;
    static const int geometries[][2] = {{1, 1}, {1, 4}, {5, 4}, {16, 4}, {128, 16}, {199, 54}, {200, 55}};
    for (size_t g = 0; g < sizeof(geometries) / sizeof(geometries[0]); g++) {
        int k = geometries[g][0], r = geometries[g][1];
        struct fec *fec = create(kernel, (uint8_t)k, (uint8_t)r);
        struct block block;
        block_fill(&block, fec, k, r, 80);
        for (int i = 0; i < r; i++)
            for (size_t at = 0; at < block.size; at++)
                assert_int_equal(block.symbols[k + i][at],
                                 repair_byte(k, i, (const uint8_t *const *)block.symbols, at));
        block_free(&block);
        fec_destroy(fec);
    }
}

static void try_pattern(const struct fec *fec, struct block *block, const bool present[])
{
    int k = block->k, total = block->k + block->r;
    int missing = 0, repairs = 0;
    for (int i = 0; i < total; i++) {
        missing += i < k && !present[i];
        repairs += i >= k && present[i];
    }
    block_erase(block, present);
    bool possible = repairs >= missing;
    assert_int_equal(fec_recover(fec, block->size, block->symbols, present), possible);
    if (possible) {
        block_assert_whole(block);
        return;
    }
    for (int i = 0; i < total; i++) {
        if (present[i])
            assert_memory_equal(block->symbols[i], block->original + (size_t)i * block->size, block->size);
        else
            for (size_t at = 0; at < block->size; at++)
                assert_int_equal(block->symbols[i][at], 0xEE);
    }
}

static void every_erasure_pattern_of_small_codes(void **state)
{
    (void)state;
    for (int k = 1; k <= 6; k++) {
        for (int r = 1; r <= 5; r++) {
            struct fec *fec = create(kernel, (uint8_t)k, (uint8_t)r);
            struct block block;
            block_fill(&block, fec, k, r, 64);
            for (unsigned int pattern = 0; pattern < 1u << (k + r); pattern++) {
                bool present[16];
                for (int i = 0; i < k + r; i++)
                    present[i] = pattern >> i & 1;
                try_pattern(fec, &block, present);
            }
            block_free(&block);
            fec_destroy(fec);
        }
    }
}

static void random_erasures_of_large_codes(void **state)
{
    (void)state;
    for (int round = 0; round < 60; round++) {
        int k = round < 5 ? FEC_MAX_SOURCE : 1 + (int)random_below(FEC_MAX_SOURCE);
        int r = round < 5 ? FEC_MAX_REPAIR : 1 + (int)random_below(FEC_MAX_REPAIR);
        struct fec *fec = create(kernel, (uint8_t)k, (uint8_t)r);
        struct block block;
        block_fill(&block, fec, k, r, 64 + 16 * random_below(40));
        for (int trial = 0; trial < 6; trial++) {
            bool present[MAX_TOTAL];
            memset(present, true, sizeof(present));
            int lost = trial == 0 ? r : (int)random_below((uint32_t)r + 2);
            for (int i = 0; i < lost; i++)
                present[random_below((uint32_t)(k + r))] = false;
            try_pattern(fec, &block, present);
        }
        block_free(&block);
        fec_destroy(fec);
    }
}

static void losing_as_many_source_symbols_as_there_is_repair(void **state)
{
    (void)state;
    struct fec *fec = create(kernel, FEC_MAX_SOURCE, FEC_MAX_REPAIR);
    struct block block;
    block_fill(&block, fec, FEC_MAX_SOURCE, FEC_MAX_REPAIR, 1408);
    bool present[MAX_TOTAL];
    for (int first = 0; first + FEC_MAX_REPAIR <= FEC_MAX_SOURCE; first += 29) {
        memset(present, true, sizeof(present));
        memset(present + first, false, FEC_MAX_REPAIR);
        try_pattern(fec, &block, present);
        present[MAX_TOTAL - 1] = false;
        try_pattern(fec, &block, present);
    }
    block_free(&block);
    fec_destroy(fec);
}

static void recovery_agrees_with_gaussian_elimination(void **state)
{
    (void)state;
    for (int round = 0; round < 12; round++) {
        int k = 1 + (int)random_below(48), r = 1 + (int)random_below(20);
        struct fec *fec = create(kernel, (uint8_t)k, (uint8_t)r);
        struct block block;
        block_fill(&block, fec, k, r, 64);
        bool present[MAX_TOTAL];
        int chosen[FEC_MAX_SOURCE] = {0};
        int count = 0;
        memset(present, true, sizeof(present));
        for (int i = 0; i < r; i++)
            present[random_below((uint32_t)(k + r))] = false;
        for (int i = 0; i < k + r && count < k; i++)
            if (present[i])
                chosen[count++] = i;
        assert_int_equal(count, k);
        block_erase(&block, present);

        uint8_t solved[64][FEC_MAX_SOURCE] = {{0}};
        for (size_t at = 0; at < block.size; at++)
            reference_solve(k, chosen, (const uint8_t *const *)block.symbols, at, solved[at]);
        assert_true(fec_recover(fec, block.size, block.symbols, present));
        for (size_t at = 0; at < block.size; at++)
            for (int j = 0; j < k; j++)
                assert_int_equal(block.symbols[j][at], solved[at][j]);
        block_free(&block);
        fec_destroy(fec);
    }
}

/* The kernels are not all instrumented by the sanitizers; pages without access find what they read or write too far. */
static void no_byte_outside_a_symbol_is_touched(void **state)
{
    (void)state;
    enum { K = 5, R = 4 };
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    uint8_t *maps[K + R], *symbols[K + R];
    struct fec *fec = create(kernel, K, R);
    for (int i = 0; i < K + R; i++) {
        maps[i] = mmap(NULL, 5 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        assert_ptr_not_equal(maps[i], MAP_FAILED);
        assert_int_equal(mprotect(maps[i] + page, 3 * page, PROT_READ | PROT_WRITE), 0);
    }
    for (size_t size = 64; size <= 1536; size += 16) {
        for (int at_end = 0; at_end <= 1; at_end++) {
            uint8_t before[K][1536];
            for (int i = 0; i < K + R; i++)
                symbols[i] = maps[i] + page + (at_end ? 3 * page - size : 0);
            for (int i = 0; i < K; i++) {
                memset(symbols[i], i + 1, size);
                memcpy(before[i], symbols[i], size);
            }
            fec_encode(fec, size, (const uint8_t *const *)symbols, symbols + K);
            bool present[K + R] = {false, true, false, true, false, true, false, true, true};
            for (int i = 0; i < K; i++)
                if (!present[i])
                    memset(symbols[i], 0, size);
            assert_true(fec_recover(fec, size, symbols, present));
            for (int i = 0; i < K; i++)
                assert_memory_equal(symbols[i], before[i], size);
        }
    }
    for (int i = 0; i < K + R; i++)
        munmap(maps[i], 5 * page);
    fec_destroy(fec);
}

static void the_cache_keeps_recent_codes_and_stays_bounded(void **state)
{
    (void)state;
    struct fec_cache *cache = fec_cache_create();
    const struct fec *first = fec_cache_get(cache, 128, 16);
    assert_ptr_equal(fec_cache_get(cache, 128, 16), first);
    for (int k = 1; k <= FEC_MAX_SOURCE; k++) {
        const struct fec *other = fec_cache_get(cache, (uint8_t)k, 4);
        assert_ptr_equal(fec_cache_get(cache, (uint8_t)k, 4), other);
        assert_ptr_equal(fec_cache_get(cache, 128, 16), first);
    }
    fec_cache_destroy(cache);
    fec_cache_destroy(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(encoding_follows_the_definition),
        cmocka_unit_test(every_erasure_pattern_of_small_codes),
        cmocka_unit_test(random_erasures_of_large_codes),
        cmocka_unit_test(losing_as_many_source_symbols_as_there_is_repair),
        cmocka_unit_test(recovery_agrees_with_gaussian_elimination),
        cmocka_unit_test(no_byte_outside_a_symbol_is_touched),
        cmocka_unit_test(the_cache_keeps_recent_codes_and_stays_bounded),
    };
    int failed = 0;
    for (kernel = GFKERNEL_ISAL; kernel < GFKERNEL_COUNT; kernel++)
        if (gfkernel_available(kernel))
            failed += cmocka_run_group_tests_name(gfkernel_name(kernel), tests, make_tables, NULL);
    return failed;
}
