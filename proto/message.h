// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_PROTO_MESSAGE_H
#define DIODECAST_PROTO_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/signature.h"
#include "common/status.h"
#include "proto/limits.h"

/*
 * Bodies of the small signed messages. The encoders return malloc'ed bytes (the caller frees them) and assert what the
 * decoders check: context, sizes, names and bounds (proto/README.md, "Messages"). The decoders return STATUS_INVALID
 * for anything else, STATUS_SYSTEM when memory is short; the message is unspecified then. Strings inside are
 * NUL-terminated copies. Pure.
 */

/* One of up to LIMIT_ANNOUNCED that are told in one message. */
struct message_announce {
    uint8_t transfer_id[TRANSFER_ID_SIZE];
    char channel[LIMIT_CHANNEL_LENGTH + 1];
    char name[LIMIT_COMPONENT_LENGTH + 1];
    uint64_t total_bytes;
    uint32_t artifact_count;
    int64_t time_ns; /* of the message: the same in all of it */
};

struct message_abort {
    uint8_t transfer_id[TRANSFER_ID_SIZE];
    char reason[LIMIT_REASON_LENGTH + 1];
    int64_t time_ns;
};

struct message_key {
    struct signature_public key;    /* the new one; never trusted for being announced */
    int64_t not_before_ns, time_ns; /* not negative */
};

struct message_in_flight {
    uint8_t transfer_id[TRANSFER_ID_SIZE];
    uint64_t sequence; /* 0 while not assigned; at most newest_sequence */
};

struct message_range {
    uint64_t first, last; /* 1 <= first <= last <= newest_sequence; in any order among the ranges */
};

struct message_heartbeat {
    uint32_t sender_id;
    uint8_t chain_id[CHAIN_ID_SIZE];
    uint64_t epoch;
    uint64_t beat;
    int64_t time_ns;
    uint64_t newest_sequence;
    uint8_t newest_hash[SHA256_SIZE]; /* zeros when newest_sequence is 0 */
    uint64_t settled_sequence;
    uint32_t in_flight_count;
    struct message_in_flight in_flight[LIMIT_IN_FLIGHT];
    uint32_t healing_count;
    struct message_range healing[LIMIT_HEALING_RANGES];
    uint64_t queue_depth, queue_bytes;
    uint32_t lanes, source_symbols, repair_symbols, symbol_size, depth;
    uint64_t rate_bits_per_second;
    uint32_t padding_size; /* zero bytes appended by the encoder; the whole body is at most LIMIT_MESSAGE_SIZE */
};

/* Fills `reason` from any text: cut to its limit, with '?' for bytes where it is not legal UTF-8 of printable
 * characters. */
void message_abort_reason(struct message_abort *message, const char *text);

/* `count` is 1 to LIMIT_ANNOUNCED; the frame goes by the first transfer's id. */
void message_encode_announce(const struct message_announce announces[], size_t count, uint8_t **out, size_t *size);
void message_encode_abort(const struct message_abort *abort_message, uint8_t **out, size_t *size);
void message_encode_key(const struct message_key *key, uint8_t **out, size_t *size);
void message_encode_heartbeat(const struct message_heartbeat *heartbeat, uint8_t **out, size_t *size);
MUST_CHECK enum status message_decode_announce(const uint8_t *bytes, size_t size,
                                               struct message_announce announces[static LIMIT_ANNOUNCED],
                                               size_t *count);
MUST_CHECK enum status message_decode_abort(const uint8_t *bytes, size_t size, struct message_abort *abort_message);
MUST_CHECK enum status message_decode_key(const uint8_t *bytes, size_t size, struct message_key *key);
MUST_CHECK enum status message_decode_heartbeat(const uint8_t *bytes, size_t size, struct message_heartbeat *heartbeat);

#endif
