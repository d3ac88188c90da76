// SPDX-License-Identifier: Apache-2.0
#include "common/gfkernel.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

enum { MAX_ROWS = 55, MAX_COLUMNS = 255, MAX_SIZE = 9216, GUARD = 64, GUARD_BYTE = 0xA5 };

/* An independent GF(2^8): bit by bit multiplication modulo 0x11D. */
static uint8_t products[256][256];

static int make_products(void **state)
{
    (void)state;
    for (unsigned int a = 0; a < 256; a++) {
        for (unsigned int b = 0; b < 256; b++) {
            unsigned int product = 0;
            for (int bit = 0; bit < 8; bit++)
                if (b >> bit & 1)
                    product ^= a << bit;
            for (int bit = 15; bit >= 8; bit--)
                if (product >> bit & 1)
                    product ^= 0x11Du << (bit - 8);
            products[a][b] = (uint8_t)product;
        }
    }
    return 0;
}

static uint64_t random_state = 88172645463325252;

static uint32_t random_below(uint32_t limit)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (uint32_t)(random_state >> 33) % limit;
}

static void *make_tables(enum gfkernel kernel, size_t rows, size_t columns, const uint8_t coefficients[])
{
    size_t size = gfkernel_table_size(kernel, rows, columns);
    void *tables = aligned_alloc(64, (size + 63) / 64 * 64);
    assert_non_null(tables);
    gfkernel_prepare(kernel, rows, columns, coefficients, tables);
    return tables;
}

/* One random product: symbols at any alignment, guard bytes on both sides of the outputs. */
struct product {
    size_t rows, columns, size;
    uint8_t coefficients[MAX_ROWS * MAX_COLUMNS];
    uint8_t *source_memory[MAX_COLUMNS], *output_memory[MAX_ROWS];
    const uint8_t *sources[MAX_COLUMNS];
    uint8_t *outputs[MAX_ROWS];
};

static void product_fill(struct product *product, size_t rows, size_t columns, size_t size)
{
    product->rows = rows;
    product->columns = columns;
    product->size = size;
    for (size_t i = 0; i < rows * columns; i++)
        product->coefficients[i] = (uint8_t)random_below(256);
    for (size_t j = 0; j < columns; j++) { /* exactly as long as needed: ASan sees each byte read too far */
        size_t offset = random_below(64);
        product->source_memory[j] = malloc(offset + size);
        assert_non_null(product->source_memory[j]);
        for (size_t at = 0; at < offset + size; at++)
            product->source_memory[j][at] = (uint8_t)random_below(256);
        product->sources[j] = product->source_memory[j] + offset;
    }
    for (size_t i = 0; i < rows; i++) {
        product->output_memory[i] = malloc(GUARD + 64 + size + GUARD);
        assert_non_null(product->output_memory[i]);
        product->outputs[i] = product->output_memory[i] + GUARD + random_below(64);
    }
}

static void product_free(struct product *product)
{
    for (size_t j = 0; j < product->columns; j++)
        free(product->source_memory[j]);
    for (size_t i = 0; i < product->rows; i++)
        free(product->output_memory[i]);
}

static void product_compute(struct product *product, enum gfkernel kernel)
{
    void *tables = make_tables(kernel, product->rows, product->columns, product->coefficients);
    for (size_t i = 0; i < product->rows; i++)
        memset(product->outputs[i] - GUARD, GUARD_BYTE, product->size + 2 * GUARD);
    gfkernel_multiply(kernel, product->rows, product->columns, tables, product->size, product->sources,
                      product->outputs);
    for (size_t i = 0; i < product->rows; i++) {
        for (size_t at = 0; at < GUARD; at++) {
            assert_int_equal((product->outputs[i] - GUARD)[at], GUARD_BYTE);
            assert_int_equal(product->outputs[i][product->size + at], GUARD_BYTE);
        }
    }
    free(tables);
}

static uint8_t expected_byte(const struct product *product, size_t row, size_t at)
{
    uint8_t sum = 0;
    for (size_t j = 0; j < product->columns; j++)
        sum ^= products[product->coefficients[row * product->columns + j]][product->sources[j][at]];
    return sum;
}

/* All kernels of this CPU against ISA-L, byte for byte, and ISA-L against the definition at every `step`-th byte. */
static void product_check(struct product *product, size_t step)
{
    uint8_t *isal = malloc(product->rows * product->size);
    assert_non_null(isal);
    for (enum gfkernel kernel = GFKERNEL_ISAL; kernel < GFKERNEL_COUNT; kernel++) {
        if (!gfkernel_available(kernel))
            continue;
        product_compute(product, kernel);
        for (size_t i = 0; i < product->rows; i++) {
            for (size_t at = 0; at < product->size && kernel == GFKERNEL_ISAL; at += step)
                assert_int_equal(product->outputs[i][at], expected_byte(product, i, at));
            if (kernel == GFKERNEL_ISAL)
                memcpy(isal + i * product->size, product->outputs[i], product->size);
            else
                assert_memory_equal(product->outputs[i], isal + i * product->size, product->size);
        }
    }
    free(isal);
}

static void the_best_kernel_is_available(void **state)
{
    (void)state;
    assert_true(gfkernel_available(GFKERNEL_ISAL));
    assert_true(gfkernel_available(gfkernel_best()));
    for (enum gfkernel kernel = GFKERNEL_ISAL; kernel < GFKERNEL_COUNT; kernel++)
        print_message("%s: %s\n", gfkernel_name(kernel), gfkernel_available(kernel) ? "tested" : "not on this CPU");
}

static void every_coefficient_multiplies_every_byte(void **state)
{
    (void)state;
    uint8_t coefficients[256], source[256];
    static uint8_t result[256][256];
    uint8_t *outputs[256];
    const uint8_t *const sources[] = {source};
    for (int i = 0; i < 256; i++) {
        coefficients[i] = source[i] = (uint8_t)i;
        outputs[i] = result[i];
    }
    for (enum gfkernel kernel = GFKERNEL_ISAL; kernel < GFKERNEL_COUNT; kernel++) {
        if (!gfkernel_available(kernel))
            continue;
        void *tables = make_tables(kernel, 256, 1, coefficients);
        memset(result, GUARD_BYTE, sizeof(result));
        gfkernel_multiply(kernel, 256, 1, tables, 256, sources, outputs);
        assert_memory_equal(result, products, sizeof(products));
        free(tables);
    }
}

static void every_number_of_rows_and_columns(void **state)
{
    (void)state;
    static struct product product;
    for (size_t rows = 1; rows <= 18; rows++) {
        for (size_t columns = 1; columns <= 9; columns++) {
            product_fill(&product, rows, columns, 64 + 16 * random_below(12));
            product_check(&product, 1);
            product_free(&product);
        }
    }
    product_fill(&product, MAX_ROWS, MAX_COLUMNS, 208);
    product_check(&product, 1);
    product_free(&product);
}

static void every_size_of_short_symbols(void **state)
{
    (void)state;
    static struct product product;
    for (size_t size = 64; size <= 400; size += 16) {
        product_fill(&product, 1 + random_below(20), 1 + random_below(24), size);
        product_check(&product, 1);
        product_free(&product);
    }
}

static void random_sizes_of_long_symbols(void **state)
{
    (void)state;
    static struct product product;
    for (int round = 0; round < 40; round++) {
        size_t size = round == 0 ? MAX_SIZE : 64 + 16 * random_below(MAX_SIZE / 16 - 4);
        product_fill(&product, 1 + random_below(MAX_ROWS), 1 + random_below(40), size);
        product_check(&product, 97);
        product_free(&product);
    }
}

static void tables_serve_the_first_rows_alone(void **state)
{
    (void)state;
    static struct product product;
    product_fill(&product, 19, 7, 336);
    for (enum gfkernel kernel = GFKERNEL_ISAL; kernel < GFKERNEL_COUNT; kernel++) {
        if (!gfkernel_available(kernel))
            continue;
        void *tables = make_tables(kernel, product.rows, product.columns, product.coefficients);
        for (size_t rows = 1; rows <= product.rows; rows++) {
            for (size_t i = 0; i < product.rows; i++)
                memset(product.outputs[i], GUARD_BYTE, product.size);
            gfkernel_multiply(kernel, rows, product.columns, tables, product.size, product.sources, product.outputs);
            for (size_t i = 0; i < product.rows; i++)
                for (size_t at = 0; at < product.size; at++)
                    assert_int_equal(product.outputs[i][at], i < rows ? expected_byte(&product, i, at) : GUARD_BYTE);
        }
        free(tables);
    }
    product_free(&product);
}

/* Vector loads are not all instrumented by the sanitizers; pages without access find what goes too far. */
static void no_byte_outside_a_symbol_is_touched(void **state)
{
    (void)state;
    enum { ROWS = 9, COLUMNS = 5, PAGES = 3 };
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    uint8_t *maps[ROWS + COLUMNS], coefficients[ROWS * COLUMNS];
    for (size_t i = 0; i < ROWS * COLUMNS; i++)
        coefficients[i] = (uint8_t)(i + 1);
    for (size_t i = 0; i < ROWS + COLUMNS; i++) {
        maps[i] = mmap(NULL, (PAGES + 2) * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        assert_ptr_not_equal(maps[i], MAP_FAILED);
        assert_int_equal(mprotect(maps[i] + page, PAGES * page, PROT_READ | PROT_WRITE), 0);
    }
    for (enum gfkernel kernel = GFKERNEL_ISAL; kernel < GFKERNEL_COUNT; kernel++) {
        if (!gfkernel_available(kernel))
            continue;
        void *tables = make_tables(kernel, ROWS, COLUMNS, coefficients);
        for (size_t size = 64; size <= MAX_SIZE; size += size < 1536 ? 16 : 1520) {
            for (int at_end = 0; at_end <= 1; at_end++) {
                const uint8_t *sources[COLUMNS];
                uint8_t *outputs[ROWS];
                for (size_t i = 0; i < ROWS + COLUMNS; i++) {
                    uint8_t *symbol = maps[i] + page + (at_end ? PAGES * page - size : 0);
                    if (i < COLUMNS)
                        sources[i] = memset(symbol, (int)i + 1, size);
                    else
                        outputs[i - COLUMNS] = symbol;
                }
                gfkernel_multiply(kernel, ROWS, COLUMNS, tables, size, sources, outputs);
            }
        }
        free(tables);
    }
    for (size_t i = 0; i < ROWS + COLUMNS; i++)
        munmap(maps[i], (PAGES + 2) * page);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_best_kernel_is_available),
        cmocka_unit_test(every_coefficient_multiplies_every_byte),
        cmocka_unit_test(every_number_of_rows_and_columns),
        cmocka_unit_test(every_size_of_short_symbols),
        cmocka_unit_test(random_sizes_of_long_symbols),
        cmocka_unit_test(tables_serve_the_first_rows_alone),
        cmocka_unit_test(no_byte_outside_a_symbol_is_touched),
    };
    return cmocka_run_group_tests(tests, make_products, NULL);
}
