// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_SENDER_ENCODE_H
#define DIODECAST_SENDER_ENCODE_H

#include "common/fec.h"
#include "sender/block.h"

/*
 * Makes the repair symbols of a packed block, and the hashes of all its symbols and of the block, while they are in the
 * processor's caches: a symbol's turn to leave comes when it no longer is. Pure apart from the cache and the block.
 */
void encode_block(struct fec_cache *cache, struct block *block);

#endif
