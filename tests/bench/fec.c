// SPDX-License-Identifier: Apache-2.0
/*
 * What the kernels of common/gfkernel.h do on this CPU: source bytes a second, one thread, for encoding 128+16 and for
 * the few rows of a repair. "Cache" works on one block again and again, "memory" on blocks that were long not touched.
 * The kernels take turns within each round, so that a busy machine slows all of them; medians of the rounds.
 */
#include <assert.h>
#include <isa-l.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/gfkernel.h"

enum { SOURCE = 128, REPAIR = 16, SYMBOLS = SOURCE + REPAIR };
enum { WARM_UP = 2, ROUNDS = 31, ROUND_BYTES = 16 << 20, MEMORY_BYTES = 256 << 20 };

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Multiplies enough blocks for one measurement; `next` goes round through all of them. */
static double gigabytes_per_s(enum gfkernel kernel, const void *tables, size_t rows, uint8_t *memory, size_t blocks,
                              size_t size, size_t *next)
{
    size_t count = ROUND_BYTES / (SOURCE * size);
    uint64_t start_ns = clock_monotonic_ns();
    for (size_t i = 0; i < count; i++) {
        uint8_t *block = memory + *next * SYMBOLS * size;
        const uint8_t *source[SOURCE];
        uint8_t *repair[REPAIR];
        for (size_t j = 0; j < SOURCE; j++)
            source[j] = block + j * size;
        for (size_t j = 0; j < rows; j++)
            repair[j] = block + (SOURCE + j) * size;
        gfkernel_multiply(kernel, rows, SOURCE, tables, size, source, repair);
        *next = (*next + 1) % blocks;
    }
    return (double)(count * SOURCE * size) / (double)(clock_monotonic_ns() - start_ns);
}

static void measure(void *const tables[], size_t rows, uint8_t *memory, size_t size, bool cached)
{
    static double rates[GFKERNEL_COUNT][ROUNDS];
    size_t blocks = cached ? 1 : MEMORY_BYTES / (SYMBOLS * size), next = 0;
    for (int round = -WARM_UP; round < ROUNDS; round++) {
        for (int kernel = 0; kernel < GFKERNEL_COUNT; kernel++) {
            if (tables[kernel] == NULL)
                continue;
            double rate = gigabytes_per_s(kernel, tables[kernel], rows, memory, blocks, size, &next);
            if (round >= 0)
                rates[kernel][round] = rate;
        }
    }
    printf("%4zu %6zu  %-6s", rows, size, cached ? "cache" : "memory");
    for (int kernel = 0; kernel < GFKERNEL_COUNT; kernel++) {
        qsort(rates[kernel], ROUNDS, sizeof(double), compare);
        printf(" %13.2f", rates[kernel][ROUNDS / 2]);
    }
    putchar('\n');
}

int main(void)
{
    static const size_t rows[] = {REPAIR, 4, 1}, sizes[] = {1392, 8880};
    static uint8_t matrix[SYMBOLS * SOURCE];
    gf_gen_cauchy1_matrix(matrix, SYMBOLS, SOURCE);
    void *tables[GFKERNEL_COUNT] = {NULL};
    printf("GB/s\n%4s %6s  %-6s", "rows", "symbol", "from");
    for (int kernel = 0; kernel < GFKERNEL_COUNT; kernel++) {
        printf(" %13s", gfkernel_name(kernel));
        if (!gfkernel_available(kernel))
            continue;
        tables[kernel] = aligned_alloc(64, gfkernel_table_size(kernel, REPAIR, SOURCE));
        assert(tables[kernel] != NULL);
        gfkernel_prepare(kernel, REPAIR, SOURCE, matrix + SOURCE * SOURCE, tables[kernel]);
    }
    putchar('\n');

    uint8_t *memory = malloc(MEMORY_BYTES);
    assert(memory != NULL);
    for (size_t i = 0; i < MEMORY_BYTES; i++)
        memory[i] = (uint8_t)(i * 2654435761 >> 16);
    for (size_t r = 0; r < sizeof(rows) / sizeof(rows[0]); r++)
        for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++)
            for (int cached = 1; cached >= 0; cached--)
                measure(tables, rows[r], memory, sizes[s], cached);
    free(memory);
    for (int kernel = 0; kernel < GFKERNEL_COUNT; kernel++)
        free(tables[kernel]);
    return 0;
}
