// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_SENDER_ENCODE_H
#define DIODECAST_SENDER_ENCODE_H

#include <stddef.h>
#include <stdint.h>

#include "common/fec.h"

/*
 * Makes the repair symbols of a packed block. `symbols` has (k + r) * symbol_size bytes: the payload is in the first
 * k * symbol_size of them, the repair symbols go behind. Returns the hash of the payload, which each datagram of the
 * block carries. Pure apart from the cache.
 */
uint64_t encode_block(struct fec_cache *cache, uint8_t *symbols, uint8_t k, uint8_t r, uint16_t symbol_size);

#endif
