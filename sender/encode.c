// SPDX-License-Identifier: Apache-2.0
#include "sender/encode.h"

#include <stddef.h>

#include "proto/datagram.h"

static uint64_t hash_symbol(struct block *block, unsigned esi)
{
    block->symbol_hashes[esi] =
        datagram_symbol_hash(block->symbols + (size_t)esi * block->symbol_size, block->symbol_size);
    return block->symbol_hashes[esi];
}

/* The payload is hashed first: from front to back, it comes into the caches faster than in the order of the code. */
void encode_block(struct fec_cache *cache, struct block *block)
{
    uint8_t *symbols[LIMIT_SOURCE_SYMBOLS + LIMIT_REPAIR_SYMBOLS];
    unsigned k = block->source_symbols, total = k + block->repair_symbols;

    for (unsigned esi = 0; esi < total; esi++)
        symbols[esi] = block->symbols + (size_t)esi * block->symbol_size;
    block->block_hash = 0;
    for (unsigned esi = 0; esi < k; esi++)
        block->block_hash += datagram_hash_share((uint8_t)esi, hash_symbol(block, esi));
    fec_encode(fec_cache_get(cache, block->source_symbols, block->repair_symbols), block->symbol_size,
               (const uint8_t *const *)symbols, symbols + k);
    for (unsigned esi = k; esi < total; esi++)
        (void)hash_symbol(block, esi);
}
