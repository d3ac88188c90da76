// SPDX-License-Identifier: Apache-2.0
#include "common/gfkernel.h"

#include <assert.h>
#include <isa-l.h>
#ifdef __x86_64__
#include <immintrin.h>
#endif

enum {
    ISAL_TABLE_SIZE = 32,    /* bytes that ISA-L asks for per coefficient */
    ISAL_PASS_ROWS = 6,      /* of its widest kernel */
    GROUP_ROWS = 8,          /* rows whose matrices lie side by side, column by column */
    HALF_GROUP = 4,          /* what the sixteen registers of AVX2 have room for */
    PREFETCH_DISTANCE = 256, /* bytes; the processor itself does not follow a hundred streams */
};

bool gfkernel_available(enum gfkernel kernel)
{
    switch (kernel) {
    case GFKERNEL_ISAL:
        return true;
#ifdef __x86_64__
    case GFKERNEL_GFNI_AVX2:
        return __builtin_cpu_supports("gfni") && __builtin_cpu_supports("avx2");
    case GFKERNEL_GFNI_AVX512:
        return __builtin_cpu_supports("gfni") && __builtin_cpu_supports("avx512f") &&
               __builtin_cpu_supports("avx512bw");
#endif
    default:
        return false;
    }
}

enum gfkernel gfkernel_best(void)
{
    enum gfkernel best = GFKERNEL_GFNI_AVX512;
    while (!gfkernel_available(best))
        best--;
    return best;
}

const char *gfkernel_name(enum gfkernel kernel)
{
    static const char *const names[] = {"ISA-L", "GFNI/AVX2", "GFNI/AVX-512"};
    return names[kernel];
}

size_t gfkernel_pass_rows(enum gfkernel kernel)
{
    return kernel == GFKERNEL_ISAL ? ISAL_PASS_ROWS : GROUP_ROWS;
}

/* Matrices in a group. An odd last column gets a partner of zeros, so that columns can be taken in pairs. */
static size_t group_size(size_t columns)
{
    return (columns + 1) / 2 * 2 * GROUP_ROWS;
}

static size_t group_count(size_t rows)
{
    return (rows + GROUP_ROWS - 1) / GROUP_ROWS;
}

size_t gfkernel_table_size(enum gfkernel kernel, size_t rows, size_t columns)
{
    if (kernel == GFKERNEL_ISAL)
        return ISAL_TABLE_SIZE * rows * columns;
    return group_count(rows) * group_size(columns) * sizeof(uint64_t);
}

/*
 * The bit matrix by which GF2P8AFFINEQB multiplies with a coefficient modulo 0x11D (GF2P8MULB is bound to 0x11B): bit j
 * of byte 7 - i is bit i of coefficient * 2^j. It is linear in the coefficient, so the matrices of its bits add up to
 * it.
 */
static uint64_t bit_matrix(uint8_t coefficient)
{
    static const uint64_t of_powers[8] = {
        0x0102040810204080, 0x8001828488102040, 0x408041C2C4881020, 0x2040A061E2C48810,
        0x102050B071E2C488, 0x8810A8D83871E2C4, 0xC488D46C1C3871E2, 0xE2C46A368E1C3871,
    };
    uint64_t matrix = 0;
    for (unsigned int bit = 0; bit < 8; bit++)
        matrix ^= (coefficient >> bit & 1) != 0 ? of_powers[bit] : 0;
    return matrix;
}

void gfkernel_prepare(enum gfkernel kernel, size_t rows, size_t columns, const uint8_t coefficients[], void *tables)
{
    assert(rows >= 1 && columns >= 1 && columns <= 255);
    if (kernel == GFKERNEL_ISAL) { /* its prototype lacks const */
        ec_init_tables((int)columns, (int)rows, (unsigned char *)(uintptr_t)coefficients, tables);
        return;
    }
    uint64_t *matrix = tables;
    for (size_t first = 0; first < rows; first += GROUP_ROWS)
        for (size_t column = 0; column < group_size(columns) / GROUP_ROWS; column++)
            for (size_t row = first; row < first + GROUP_ROWS; row++)
                *matrix++ = row < rows && column < columns ? bit_matrix(coefficients[row * columns + column]) : 0;
}

#ifdef __x86_64__

struct vector {
    size_t columns;
    size_t size; /* of each symbol, in bytes */
    const uint8_t *const *symbols;
};

/* The mask of those of the 64 bytes at `at` that lie inside `size`. */
static uint64_t bytes_inside(size_t at, size_t size)
{
    if (at >= size)
        return 0;
    return size - at >= 64 ? UINT64_MAX : (UINT64_C(1) << (size - at)) - 1;
}

__attribute__((always_inline, target("gfni,avx512bw"))) static inline __m512i
add_products(__m512i sum, __m512i a, __m512i by_a, __m512i b, __m512i by_b)
{
    enum { XOR_OF_THREE = 0x96 };
    return _mm512_ternarylogic_epi64(sum, _mm512_gf2p8affine_epi64_epi8(a, by_a, 0),
                                     _mm512_gf2p8affine_epi64_epi8(b, by_b, 0), XOR_OF_THREE);
}

/*
 * One pass over the sources for up to eight rows. `rows` is a constant wherever this is called, so that the loops over
 * rows are unrolled and the sums stay in registers. What a mask leaves out is not accessed.
 */
__attribute__((always_inline, target("gfni,avx512bw"))) static inline void
pass_avx512(size_t rows, const struct vector *vector, const uint64_t matrices[], uint8_t *const outputs[])
{
    for (size_t at = 0; at < vector->size; at += 128) {
        __mmask64 low = bytes_inside(at, vector->size), high = bytes_inside(at + 64, vector->size);
        __m512i sums[GROUP_ROWS][2];
#pragma GCC unroll 8
        for (size_t row = 0; row < rows; row++)
            sums[row][0] = sums[row][1] = _mm512_setzero_si512();

        for (size_t column = 0; column < vector->columns; column += 2) {
            const uint8_t *a = vector->symbols[column] + at;
            const uint8_t *b = vector->symbols[column + 1 < vector->columns ? column + 1 : column] + at;
            const uint64_t *by = matrices + column * GROUP_ROWS;
            __m512i a_low = _mm512_maskz_loadu_epi8(low, a), a_high = _mm512_maskz_loadu_epi8(high, a + 64);
            __m512i b_low = _mm512_maskz_loadu_epi8(low, b), b_high = _mm512_maskz_loadu_epi8(high, b + 64);
            for (size_t line = 0; line < 128; line += 64) {
                _mm_prefetch(a + PREFETCH_DISTANCE + line, _MM_HINT_T0);
                _mm_prefetch(b + PREFETCH_DISTANCE + line, _MM_HINT_T0);
            }
#pragma GCC unroll 8
            for (size_t row = 0; row < rows; row++) {
                __m512i by_a = _mm512_set1_epi64((long long)by[row]);
                __m512i by_b = _mm512_set1_epi64((long long)by[GROUP_ROWS + row]);
                sums[row][0] = add_products(sums[row][0], a_low, by_a, b_low, by_b);
                sums[row][1] = add_products(sums[row][1], a_high, by_a, b_high, by_b);
            }
        }
#pragma GCC unroll 8
        for (size_t row = 0; row < rows; row++) {
            _mm512_mask_storeu_epi8(outputs[row] + at, low, sums[row][0]);
            _mm512_mask_storeu_epi8(outputs[row] + at + 64, high, sums[row][1]);
        }
    }
}

__attribute__((target("gfni,avx512bw"))) static void
multiply_avx512(size_t rows, const struct vector *vector, const uint64_t matrices[], uint8_t *const outputs[])
{
    for (size_t first = 0; first < rows; first += GROUP_ROWS) {
        const uint64_t *group = matrices + first / GROUP_ROWS * group_size(vector->columns);
        switch (rows - first) {
        case 1:
            pass_avx512(1, vector, group, outputs + first);
            break;
        case 2:
            pass_avx512(2, vector, group, outputs + first);
            break;
        case 3:
            pass_avx512(3, vector, group, outputs + first);
            break;
        case 4:
            pass_avx512(4, vector, group, outputs + first);
            break;
        case 5:
            pass_avx512(5, vector, group, outputs + first);
            break;
        case 6:
            pass_avx512(6, vector, group, outputs + first);
            break;
        case 7:
            pass_avx512(7, vector, group, outputs + first);
            break;
        default:
            pass_avx512(GROUP_ROWS, vector, group, outputs + first);
        }
    }
}

/* As above with half the rows and half the width; without masks, the last step goes over some bytes once more. */
__attribute__((always_inline, target("gfni,avx2"))) static inline void
pass_avx2(size_t rows, const struct vector *vector, const uint64_t matrices[], uint8_t *const outputs[])
{
    for (size_t done = 0; done < vector->size; done += 64) {
        size_t at = vector->size - done >= 64 ? done : vector->size - 64;
        __m256i sums[HALF_GROUP][2];
#pragma GCC unroll 4
        for (size_t row = 0; row < rows; row++)
            sums[row][0] = sums[row][1] = _mm256_setzero_si256();

        for (size_t column = 0; column < vector->columns; column++) {
            const uint8_t *a = vector->symbols[column] + at;
            const uint64_t *by = matrices + column * GROUP_ROWS;
            __m256i low = _mm256_loadu_si256((const __m256i_u *)a);
            __m256i high = _mm256_loadu_si256((const __m256i_u *)(a + 32));
            _mm_prefetch(a + PREFETCH_DISTANCE, _MM_HINT_T0);
#pragma GCC unroll 4
            for (size_t row = 0; row < rows; row++) {
                __m256i matrix = _mm256_set1_epi64x((long long)by[row]);
                sums[row][0] = _mm256_xor_si256(sums[row][0], _mm256_gf2p8affine_epi64_epi8(low, matrix, 0));
                sums[row][1] = _mm256_xor_si256(sums[row][1], _mm256_gf2p8affine_epi64_epi8(high, matrix, 0));
            }
        }
#pragma GCC unroll 4
        for (size_t row = 0; row < rows; row++) {
            _mm256_storeu_si256((__m256i_u *)(outputs[row] + at), sums[row][0]);
            _mm256_storeu_si256((__m256i_u *)(outputs[row] + at + 32), sums[row][1]);
        }
    }
}

__attribute__((target("gfni,avx2"))) static void multiply_avx2(size_t rows, const struct vector *vector,
                                                               const uint64_t matrices[], uint8_t *const outputs[])
{
    for (size_t first = 0; first < rows; first += HALF_GROUP) {
        const uint64_t *half = matrices + first / GROUP_ROWS * group_size(vector->columns) + first % GROUP_ROWS;
        switch (rows - first) {
        case 1:
            pass_avx2(1, vector, half, outputs + first);
            break;
        case 2:
            pass_avx2(2, vector, half, outputs + first);
            break;
        case 3:
            pass_avx2(3, vector, half, outputs + first);
            break;
        default:
            pass_avx2(HALF_GROUP, vector, half, outputs + first);
        }
    }
}

#endif

void gfkernel_multiply(enum gfkernel kernel, size_t rows, size_t columns, const void *tables, size_t size,
                       const uint8_t *const sources[], uint8_t *const outputs[])
{
    assert(rows >= 1 && columns >= 1 && columns <= 255 && size >= 64 && size % 16 == 0);
    if (kernel == GFKERNEL_ISAL) { /* its prototype lacks const */
        ec_encode_data((int)size, (int)columns, (int)rows, (unsigned char *)(uintptr_t)tables,
                       (unsigned char **)(uintptr_t)sources, (unsigned char **)(uintptr_t)outputs);
        return;
    }
#ifdef __x86_64__
    const struct vector vector = {.columns = columns, .size = size, .symbols = sources};
    if (kernel == GFKERNEL_GFNI_AVX512)
        multiply_avx512(rows, &vector, tables, outputs);
    else
        multiply_avx2(rows, &vector, tables, outputs);
#endif
}
