// SPDX-License-Identifier: Apache-2.0
#include "receiver/decode.h"

#include <assert.h>

#include "proto/datagram.h"

static void recover(struct fec_cache *cache, struct block *block)
{
    uint8_t *symbols[LIMIT_SOURCE_SYMBOLS + LIMIT_REPAIR_SYMBOLS];
    unsigned total = (unsigned)block->source_symbols + block->repair_symbols;

    for (unsigned esi = 0; esi < total; esi++)
        symbols[esi] = block->symbols + (size_t)esi * block->symbol_size;
    const struct fec *fec = fec_cache_get(cache, block->source_symbols, block->repair_symbols);
    bool recovered = fec_recover(fec, block->symbol_size, symbols, block->present);
    assert(recovered);
    for (unsigned esi = 0; esi < block->source_symbols; esi++)
        if (!block->present[esi])
            block->hash_sum +=
                datagram_hash_share((uint8_t)esi, datagram_symbol_hash(symbols[esi], block->symbol_size));
}

enum decode_result decode_block(struct fec_cache *cache, struct block *block)
{
    assert(block->received >= block->source_symbols);
    bool whole = block->received_source == block->source_symbols;

    if (!whole)
        recover(cache, block);
    if (block->hash_sum != block->block_hash)
        return DECODE_FAILED;
    return whole ? DECODE_COMPLETE : DECODE_REPAIRED;
}
