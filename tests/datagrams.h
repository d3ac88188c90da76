// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_TESTS_DATAGRAMS_H
#define DIODECAST_TESTS_DATAGRAMS_H

#include "proto/datagram.h"

/* What tests of all kinds make datagrams with. */

/* The end of a datagram's header, with `key` or, when it is NULL, without; then `sealed_symbol` may be NULL. */
static inline void finish_datagram(uint8_t header[static DATAGRAM_HEADER_SIZE], const uint8_t *symbol,
                                   uint8_t *sealed_symbol, size_t symbol_size, struct linkkey *key)
{
    if (key == NULL)
        datagram_tag(header, datagram_symbol_hash(symbol, symbol_size));
    else
        datagram_seal(header, symbol, sealed_symbol, symbol_size, key);
}

/* What a receiver has summed up when of k source symbols those that are `present` (NULL: all) have come. */
static inline uint64_t hash_sum_of(const uint8_t *symbols, const bool present[], uint8_t k, size_t symbol_size)
{
    uint64_t sum = 0;
    for (uint8_t esi = 0; esi < k; esi++)
        if (present == NULL || present[esi])
            sum += datagram_hash_share(esi, datagram_symbol_hash(symbols + esi * symbol_size, symbol_size));
    return sum;
}

/* The hash of a block from its payload of k symbols. */
static inline uint64_t block_hash_of(const uint8_t *payload, uint8_t k, size_t symbol_size)
{
    return hash_sum_of(payload, NULL, k, symbol_size);
}

#endif
