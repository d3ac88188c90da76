// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_COMMON_FEC_H
#define DIODECAST_COMMON_FEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Systematic Reed-Solomon over GF(2^8), polynomial 0x11D, on the kernels of common/gfkernel.h. Repair symbol i is the
 * sum over source symbols j of symbol[j] / ((k + i) xor j): a Cauchy matrix, every square sub-matrix of which is
 * invertible, so any k of the k + r symbols suffice. ISA-L's gf_gen_rs_matrix() lacks that property. Terms: RFC 5052,
 * RFC 5510. Immutable after creation, so shared by threads; encoding and recovering use only the caller's memory and at
 * most 64 KiB of stack.
 */
struct fec;

enum { FEC_MAX_SOURCE = 200, FEC_MAX_REPAIR = 55 };

/* 1 <= source <= FEC_MAX_SOURCE, 1 <= repair <= FEC_MAX_REPAIR; asserts otherwise. */
struct fec *fec_create(uint8_t source, uint8_t repair);
void fec_destroy(struct fec *fec);

/* Computes repair[0..r) from source[0..k), each of `symbol_size` bytes (a multiple of 16, 64 to 9216; any alignment).
 */
void fec_encode(const struct fec *fec, size_t symbol_size, const uint8_t *const source[], uint8_t *const repair[]);

/*
 * Recovers the missing source symbols. symbols[0..k+r): those with present[esi] are read; for a missing source symbol
 * symbols[esi] is where it goes. Missing repair symbols are ignored. Solves only the e x e sub-system of the e missing
 * source symbols with the first e present repair symbols. The repair symbols used are overwritten (they serve as the
 * place for the right-hand side). Returns false, touching nothing, when fewer than e repair symbols are present.
 */
bool fec_recover(const struct fec *fec, size_t symbol_size, uint8_t *const symbols[], const bool present[]);

/*
 * Codes made on first use; the 16 most recently used geometries are kept, so that hostile geometries from the wire
 * can't grow memory (at most 6 MB). The result is valid until the next fec_cache_get(). One cache belongs to one
 * thread.
 */
struct fec_cache;
struct fec_cache *fec_cache_create(void);
const struct fec *fec_cache_get(struct fec_cache *cache, uint8_t source, uint8_t repair);
void fec_cache_destroy(struct fec_cache *cache);

#endif
