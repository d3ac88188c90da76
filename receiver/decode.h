// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_RECEIVER_DECODE_H
#define DIODECAST_RECEIVER_DECODE_H

#include <stdbool.h>

#include "common/fec.h"
#include "receiver/block.h"

/*
 * Recovers what is missing, and checks the block's hash by the sum of what the gather found as symbols came and of what
 * is found of those recovered: symbols that came are not read again here. Should memory change them in between, an
 * artifact's SHA-256 or a message's signature tells. Once for each block: repair symbols are used up. Pure apart from
 * the block.
 */
enum decode_result {
    DECODE_COMPLETE, /* all source symbols had arrived */
    DECODE_REPAIRED,
    DECODE_FAILED, /* the payload does not have the hash that its datagrams told: forged or damaged symbols */
};
enum decode_result decode_block(struct fec_cache *cache, struct block *block);

#endif
