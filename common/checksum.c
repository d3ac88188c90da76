// SPDX-License-Identifier: Apache-2.0
#include "common/checksum.h"

#include <assert.h>
#include <stdlib.h>

#define XXH_STATIC_LINKING_ONLY /* shows the state's size */
#include <xxhash.h>
#ifdef __x86_64__
#include <immintrin.h>
#include <xxh_x86dispatch.h> /* the library's plain entry points are SSE2 only */

/*
 * The library (0.8.1) returns from its AVX code with the upper halves of the registers in use. The next SSE instruction
 * then waits until they are saved, and the next AVX instruction until they are back: hundreds of cycles a call.
 */
__attribute__((target("avx"))) static void clear_upper_halves(void)
{
    _mm256_zeroupper();
}

static void leave_library(void)
{
    if (__builtin_cpu_supports("avx"))
        clear_upper_halves();
}
#else
static void leave_library(void)
{
}
#endif

struct checksum {
    XXH3_state_t state; /* wants 64-byte alignment */
};

static void store_u64(uint8_t out[static 8], uint64_t value)
{
    for (int i = 0; i < 8; i++)
        out[i] = (uint8_t)(value >> (8 * i));
}

static void store_hash(uint8_t out[static CHECKSUM128_SIZE], XXH128_hash_t hash)
{
    store_u64(out, hash.low64);
    store_u64(out + 8, hash.high64);
}

uint64_t checksum64(const void *bytes, size_t size)
{
    uint64_t hash = XXH3_64bits(bytes, size);
    leave_library();
    return hash;
}

void checksum128(const void *bytes, size_t size, uint8_t out[static CHECKSUM128_SIZE])
{
    XXH128_hash_t hash = XXH3_128bits(bytes, size);
    leave_library();
    store_hash(out, hash);
}

struct checksum *checksum_create(void)
{
    size_t alignment = _Alignof(struct checksum) > 64 ? _Alignof(struct checksum) : 64;
    size_t size = (sizeof(struct checksum) + alignment - 1) / alignment * alignment;
    struct checksum *checksum = aligned_alloc(alignment, size);
    assert(checksum != NULL);
    checksum_reset(checksum);
    return checksum;
}

void checksum_reset(struct checksum *checksum)
{
    XXH_errorcode code = XXH3_128bits_reset(&checksum->state);
    assert(code == XXH_OK);
}

void checksum_update(struct checksum *checksum, const void *bytes, size_t size)
{
    XXH_errorcode code = XXH3_128bits_update(&checksum->state, bytes, size);
    leave_library();
    assert(code == XXH_OK);
}

void checksum_final(const struct checksum *checksum, uint8_t out[static CHECKSUM128_SIZE])
{
    XXH128_hash_t hash = XXH3_128bits_digest(&checksum->state);
    leave_library();
    store_hash(out, hash);
}

void checksum_destroy(struct checksum *checksum)
{
    free(checksum);
}
