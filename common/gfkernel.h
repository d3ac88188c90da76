// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_COMMON_GFKERNEL_H
#define DIODECAST_COMMON_GFKERNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Products of a matrix over GF(2^8), polynomial 0x11D, with a vector of symbols: all the work of a Reed-Solomon code.
 * Every kernel gives the same bytes. ISA-L 2.30 runs everywhere but knows no GFNI; with these instructions one
 * multiplies 32 or 64 bytes by a constant, which is an 8 x 8 bit matrix. No state; any thread.
 */
enum gfkernel {
    GFKERNEL_ISAL,
    GFKERNEL_GFNI_AVX2,
    GFKERNEL_GFNI_AVX512,
    GFKERNEL_COUNT,
};

/* Whether this CPU and this system run the kernel. Using one that they don't is a crash. */
bool gfkernel_available(enum gfkernel kernel);

/* The fastest that is available. */
enum gfkernel gfkernel_best(void);

const char *gfkernel_name(enum gfkernel kernel);

/* The most rows that one pass over the sources computes: preparing and multiplying fewer at a time is slower. */
size_t gfkernel_pass_rows(enum gfkernel kernel);

/* Bytes that the tables of rows x columns coefficients take; columns 1 to 255. */
size_t gfkernel_table_size(enum gfkernel kernel, size_t rows, size_t columns);

/*
 * Makes the tables of a row-major matrix of coefficients, in gfkernel_table_size() bytes aligned to 64. The tables of a
 * matrix are also those of its first rows. Only this kernel understands them.
 */
void gfkernel_prepare(enum gfkernel kernel, size_t rows, size_t columns, const uint8_t coefficients[], void *tables);

/*
 * outputs[i] = sum over j of coefficient[i][j] * sources[j], i < rows, j < columns. All are of `size` bytes, a multiple
 * of 16 from 64; any alignment, and no byte outside is read or written. No output may overlap a source or another
 * output.
 */
void gfkernel_multiply(enum gfkernel kernel, size_t rows, size_t columns, const void *tables, size_t size,
                       const uint8_t *const sources[], uint8_t *const outputs[]);

#endif
