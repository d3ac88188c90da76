// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_RECEIVER_BLOCK_H
#define DIODECAST_RECEIVER_BLOCK_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/limits.h"

struct gather; /* receiver/gather.h */

/*
 * A source block with the symbols that have arrived. Its memory lies in the gather's arena; from its release by
 * gather_pop() until gather_return() it belongs to the stage that holds it.
 */
struct block {
    struct gather *gather; /* where it goes back to */
    uint32_t sender_id;
    uint8_t lane;
    uint8_t source_symbols, repair_symbols; /* k, r */
    uint16_t symbol_size;
    uint64_t epoch, sbn, repeat_of, block_hash;
    uint64_t hash_sum;       /* of the source symbols held, as they came: datagram_hash_share() */
    uint8_t received;        /* distinct symbols held */
    uint8_t received_source; /* of these, source symbols */
    bool present[LIMIT_SOURCE_SYMBOLS + LIMIT_REPAIR_SYMBOLS]; /* by ESI */
    uint8_t *symbols; /* (k + r) * symbol_size bytes: the payload is the first k * symbol_size of them, contiguous once
                         decoded */
};

#endif
