// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_SENDER_BLOCK_H
#define DIODECAST_SENDER_BLOCK_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/limits.h"

/*
 * A source block on its way from the read stage through a lane's send thread and back, empty. Its memory belongs to the
 * lane's slab for good.
 */
struct block {
    struct block *next; /* for the list of the stage that owns it */
    uint8_t *symbols;   /* (K + R) * symbol_size bytes; payload first, repair symbols directly behind the k-th. The
                         * payload stays as it was read: it may still be hashed while it is sent */

    /* Filled by the read stage. */
    unsigned lane;
    unsigned pending;   /* reads that have not landed */
    unsigned unhashed;  /* reads whose bytes are not hashed yet: the block may be sent, and not be filled again */
    uint64_t repeat_of; /* 0, or the sequence number of the one transfer that it sends again */
    bool ends_group;    /* nothing urgent follows: what is interleaved with it must not grow further */
    uint8_t source_symbols, repair_symbols;
    uint16_t symbol_size;

    /* Filled by the send thread: encode_block(). */
    uint64_t block_hash;
    uint64_t symbol_hashes[LIMIT_SOURCE_SYMBOLS + LIMIT_REPAIR_SYMBOLS];
};

#endif
