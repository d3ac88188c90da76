// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_SENDER_HEARTBEAT_H
#define DIODECAST_SENDER_HEARTBEAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/signature.h"
#include "proto/limits.h"
#include "proto/message.h"
#include "sender/config.h"

/*
 * What the heartbeat says, gathered from all stages, and the signed frame made of it. Thread-safe (one mutex): the
 * stages tell what happens, the send threads build a beat each second.
 */
struct heartbeat;

#define HEARTBEAT_INTERVAL_NS UINT64_C(1000000000)
enum {
    HEARTBEAT_PADDED_EACH = 10,
    HEARTBEAT_KEY_EACH = 60, /* beats of a lane between two announcements of the next key */
    HEARTBEAT_PAYLOAD_SIZE =
        LIMIT_MESSAGE_SIZE + LIMIT_SIGNED_OVERHEAD + LIMIT_SYMBOL_SIZE, /* bytes that any beat fits in */
};

/* `key` and `config` are borrowed. NULL with errno when memory is short. */
struct heartbeat *heartbeat_create(const struct config *config, const struct signature_key *key,
                                   const uint8_t chain_id[static CHAIN_ID_SIZE], uint64_t epoch,
                                   uint64_t newest_sequence, const uint8_t newest_hash[static SHA256_SIZE]);
void heartbeat_destroy(struct heartbeat *heartbeat);

/* A transfer has entered the pipeline; `sequence` is 0, or what it got before a restart (then it is not settled). */
void heartbeat_entered(struct heartbeat *heartbeat, const uint8_t transfer_id[static TRANSFER_ID_SIZE],
                       uint64_t sequence);
/* Its manifest was recorded. */
void heartbeat_sealed(struct heartbeat *heartbeat, const uint8_t transfer_id[static TRANSFER_ID_SIZE],
                      uint64_t sequence, const uint8_t hash[static SHA256_SIZE]);
/* It left the pipeline: everything of it was sent. */
void heartbeat_left(struct heartbeat *heartbeat, const uint8_t transfer_id[static TRANSFER_ID_SIZE]);
void heartbeat_set_queue(struct heartbeat *heartbeat, uint64_t depth, uint64_t bytes);
/* What idle re-sending will still repeat; replaces what was set before. Copies the first LIMIT_HEALING_RANGES of
 * `count`, and of each what lies within the numbers that exist. */
void heartbeat_set_healing(struct heartbeat *heartbeat, const struct message_range *ranges, size_t count);

/*
 * The next beat, signed and framed, as the payload of a block of its own: k * *symbol_size bytes. Returns k. With
 * `padded` the symbol size is the configured one, so that the beat also proves that full datagrams pass; otherwise
 * what is needed. Where the configuration has a next key, a KEY frame follows from time to time.
 */
uint8_t heartbeat_build(struct heartbeat *heartbeat, bool padded, int64_t realtime_ns,
                        uint8_t payload[static HEARTBEAT_PAYLOAD_SIZE], uint16_t *symbol_size);

/* Every sequence number up to this one was sent completely. For tests and the status. */
uint64_t heartbeat_settled_sequence(struct heartbeat *heartbeat);

#endif
