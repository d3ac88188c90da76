// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_RECEIVER_DECODE_H
#define DIODECAST_RECEIVER_DECODE_H

#include <stdbool.h>

#include "common/fec.h"
#include "receiver/block.h"

/* Recovers what is missing and checks the block's hash. Pure apart from the block's memory. */
enum decode_result {
    DECODE_COMPLETE, /* all source symbols had arrived */
    DECODE_REPAIRED,
    DECODE_FAILED, /* the payload does not have the hash that its datagrams told: forged or damaged symbols */
};
enum decode_result decode_block(struct fec_cache *cache, struct block *block);

#endif
