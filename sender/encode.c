// SPDX-License-Identifier: Apache-2.0
#include "sender/encode.h"

#include "proto/datagram.h"
#include "proto/limits.h"

uint64_t encode_block(struct fec_cache *cache, uint8_t *symbols, uint8_t k, uint8_t r, uint16_t symbol_size)
{
    const uint8_t *source[LIMIT_SOURCE_SYMBOLS];
    uint8_t *repair[LIMIT_REPAIR_SYMBOLS];
    size_t payload_size = (size_t)k * symbol_size;

    for (size_t i = 0; i < k; i++)
        source[i] = symbols + i * symbol_size;
    for (size_t i = 0; i < r; i++)
        repair[i] = symbols + payload_size + i * symbol_size;
    fec_encode(fec_cache_get(cache, k, r), symbol_size, source, repair);
    return datagram_block_hash(symbols, payload_size);
}
