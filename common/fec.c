// SPDX-License-Identifier: Apache-2.0
#include "common/fec.h"

#include <assert.h>
#include <isa-l.h>
#include <stdlib.h>
#include <string.h>

#include "common/gfkernel.h"

enum {
    CACHE_SLOTS = 16, /* geometries kept */
    MAX_PASS_ROWS = 8,
    PASS_TABLE_SIZE = 38400, /* six rows of ISA-L's tables for the longest code; the others need less */
    MIN_SYMBOL_SIZE = 64,
    MAX_SYMBOL_SIZE = 9216,
};

struct fec {
    uint8_t source;
    uint8_t repair;
    enum gfkernel kernel;
    uint8_t *coefficients; /* repair x source, row-major */
    void *tables;          /* the kernel's, of all rows */
};

/* Missing source symbols read as zero, so that the tables made for encoding serve in decoding too. */
static const uint8_t zero_symbol[MAX_SYMBOL_SIZE];

static struct fec *create(enum gfkernel kernel, uint8_t source, uint8_t repair)
{
    assert(source >= 1 && source <= FEC_MAX_SOURCE);
    assert(repair >= 1 && repair <= FEC_MAX_REPAIR);

    struct fec *fec = malloc(sizeof(*fec));
    assert(fec != NULL);
    size_t total = (size_t)source + repair;
    uint8_t *matrix = malloc(total * source);
    fec->source = source;
    fec->repair = repair;
    fec->kernel = kernel;
    fec->coefficients = malloc((size_t)repair * source);
    fec->tables = aligned_alloc(64, (gfkernel_table_size(kernel, repair, source) + 63) / 64 * 64);
    assert(matrix != NULL && fec->coefficients != NULL && fec->tables != NULL);

    gf_gen_cauchy1_matrix(matrix, (int)total, source);
    memcpy(fec->coefficients, matrix + (size_t)source * source, (size_t)repair * source);
    gfkernel_prepare(kernel, repair, source, fec->coefficients, fec->tables);
    free(matrix);
    return fec;
}

struct fec *fec_create(uint8_t source, uint8_t repair)
{
    return create(gfkernel_best(), source, repair);
}

void fec_destroy(struct fec *fec)
{
    if (fec == NULL)
        return;
    free(fec->coefficients);
    free(fec->tables);
    free(fec);
}

void fec_encode(const struct fec *fec, size_t symbol_size, const uint8_t *const source[], uint8_t *const repair[])
{
    assert(symbol_size >= MIN_SYMBOL_SIZE && symbol_size <= MAX_SYMBOL_SIZE && symbol_size % 16 == 0);
    gfkernel_multiply(fec->kernel, fec->repair, fec->source, fec->tables, symbol_size, source, repair);
}

/*
 * Inverts the e x e Cauchy matrix 1 / (x[i] + y[j]) in O(e^2) by its closed form (Knuth, TAOCP 1, 1.2.3, exercise 41):
 *   inverse[j][i] = prod_m (x[i] + y[m]) * prod_m (x[m] + y[j])
 *                   / ((x[i] + y[j]) * prod_{m != i} (x[i] + x[m]) * prod_{m != j} (y[j] + y[m]))
 * Addition and subtraction are both XOR here, so that no signs appear.
 */
static void invert_cauchy(size_t e, const uint8_t x[], const uint8_t y[], uint8_t inverse[])
{
    uint8_t x_factor[FEC_MAX_REPAIR], y_factor[FEC_MAX_REPAIR];
    for (size_t i = 0; i < e; i++) {
        uint8_t x_over = 1, x_under = 1, y_over = 1, y_under = 1;
        for (size_t m = 0; m < e; m++) {
            x_over = gf_mul(x_over, x[i] ^ y[m]);
            y_over = gf_mul(y_over, x[m] ^ y[i]);
            if (m != i) {
                x_under = gf_mul(x_under, x[i] ^ x[m]);
                y_under = gf_mul(y_under, y[i] ^ y[m]);
            }
        }
        x_factor[i] = gf_mul(x_over, gf_inv(x_under));
        y_factor[i] = gf_mul(y_over, gf_inv(y_under));
    }
    for (size_t j = 0; j < e; j++)
        for (size_t i = 0; i < e; i++)
            inverse[j * e + i] = gf_mul(gf_mul(x_factor[i], y_factor[j]), gf_inv(x[i] ^ y[j]));
}

/*
 * Computes outputs[i] as the sum over j of row(i)[j] * sources[j], with rows at coefficients + rows[i] * columns (or
 * i * columns when `rows` is NULL). Tables live on the stack, those of a pass over the sources at a time.
 */
static void multiply(enum gfkernel kernel, size_t symbol_size, size_t columns, size_t row_count,
                     const uint8_t *coefficients, const uint8_t rows[], const uint8_t *const sources[],
                     uint8_t *const outputs[])
{
    uint8_t batch[MAX_PASS_ROWS * FEC_MAX_SOURCE];
    _Alignas(64) uint8_t tables[PASS_TABLE_SIZE];
    size_t pass_rows = gfkernel_pass_rows(kernel);
    assert(pass_rows <= MAX_PASS_ROWS && gfkernel_table_size(kernel, pass_rows, columns) <= sizeof(tables));
    for (size_t first = 0; first < row_count; first += pass_rows) {
        size_t count = row_count - first < pass_rows ? row_count - first : pass_rows;
        for (size_t i = 0; i < count; i++) {
            size_t row = rows == NULL ? first + i : rows[first + i];
            memcpy(batch + i * columns, coefficients + row * columns, columns);
        }
        gfkernel_prepare(kernel, count, columns, batch, tables);
        gfkernel_multiply(kernel, count, columns, tables, symbol_size, sources, outputs + first);
    }
}

static void xor_into(uint8_t *restrict target, const uint8_t *restrict source, size_t size)
{
    for (size_t i = 0; i < size; i++)
        target[i] ^= source[i];
}

bool fec_recover(const struct fec *fec, size_t symbol_size, uint8_t *const symbols[], const bool present[])
{
    assert(symbol_size >= MIN_SYMBOL_SIZE && symbol_size <= MAX_SYMBOL_SIZE && symbol_size % 16 == 0);
    const uint8_t *sources[FEC_MAX_SOURCE];
    uint8_t missing[FEC_MAX_REPAIR], rows[FEC_MAX_REPAIR], points[FEC_MAX_REPAIR];
    uint8_t *outputs[FEC_MAX_REPAIR];
    const uint8_t *right_sides[FEC_MAX_REPAIR];
    uint8_t inverse[FEC_MAX_REPAIR * FEC_MAX_REPAIR];

    size_t e = 0;
    for (size_t j = 0; j < fec->source; j++) {
        sources[j] = present[j] ? symbols[j] : zero_symbol;
        if (present[j])
            continue;
        if (e == fec->repair)
            return false;
        missing[e] = (uint8_t)j;
        outputs[e++] = symbols[j];
    }
    if (e == 0)
        return true;

    size_t found = 0;
    for (size_t i = 0; i < fec->repair && found < e; i++) {
        if (!present[fec->source + i])
            continue;
        rows[found] = (uint8_t)i;
        points[found] = (uint8_t)(fec->source + i);
        right_sides[found++] = symbols[fec->source + i];
    }
    if (found < e)
        return false;

    /* What the present source symbols contribute lands in the missing places first, so that no scratch is needed. */
    if (rows[e - 1] == e - 1)
        gfkernel_multiply(fec->kernel, e, fec->source, fec->tables, symbol_size, sources, outputs);
    else
        multiply(fec->kernel, symbol_size, fec->source, e, fec->coefficients, rows, sources, outputs);
    for (size_t i = 0; i < e; i++)
        xor_into(symbols[points[i]], outputs[i], symbol_size);

    invert_cauchy(e, points, missing, inverse);
    multiply(fec->kernel, symbol_size, e, e, inverse, NULL, right_sides, outputs);
    return true;
}

struct fec_cache {
    struct fec *slots[CACHE_SLOTS]; /* most recently used first */
};

struct fec_cache *fec_cache_create(void)
{
    struct fec_cache *cache = calloc(1, sizeof(*cache));
    assert(cache != NULL);
    return cache;
}

const struct fec *fec_cache_get(struct fec_cache *cache, uint8_t source, uint8_t repair)
{
    size_t i = 0;
    while (i < CACHE_SLOTS && cache->slots[i] != NULL &&
           (cache->slots[i]->source != source || cache->slots[i]->repair != repair))
        i++;
    struct fec *fec = i < CACHE_SLOTS ? cache->slots[i] : NULL;
    if (fec == NULL) {
        fec = fec_create(source, repair);
        if (i == CACHE_SLOTS)
            fec_destroy(cache->slots[--i]);
    }
    memmove(cache->slots + 1, cache->slots, i * sizeof(cache->slots[0]));
    cache->slots[0] = fec;
    return fec;
}

void fec_cache_destroy(struct fec_cache *cache)
{
    if (cache == NULL)
        return;
    for (size_t i = 0; i < CACHE_SLOTS; i++)
        fec_destroy(cache->slots[i]);
    free(cache);
}
