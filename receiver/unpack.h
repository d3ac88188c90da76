// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_RECEIVER_UNPACK_H
#define DIODECAST_RECEIVER_UNPACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/trust.h"
#include "proto/frame.h"
#include "proto/message.h"
#include "receiver/checks.h"

/* Walks the frames of a decoded block and checks the signatures of small messages. Sans I/O; one thread. */

/* Where the payload comes from. */
struct unpack_source {
    uint32_t sender_id;
    uint8_t lane;
    uint64_t epoch;
    uint64_t now_ns;
};

/* All views are into the payload and end with the call. */
struct unpack_handler {
    /* Of the first one asked before the signature is checked, so that the announcement of each second costs nothing; of
     * those that go along, whose data is not next, behind it and with `early`. */
    bool (*wants_announce)(void *context, const struct unpack_source *source, const uint8_t *transfer_id, bool early);
    void (*announce)(void *context, const struct unpack_source *source, const struct message_announce *announce);
    void (*data)(void *context, const struct unpack_source *source, const struct frame_data *data);
    void (*manifest)(void *context, const struct unpack_source *source, const struct frame_manifest *part);
    void (*abort)(void *context, const struct unpack_source *source, const struct message_abort *abort_message);
    void (*heartbeat)(void *context, const struct unpack_source *source, const struct message_heartbeat *heartbeat);
    /* May be NULL. */
    void (*key)(void *context, const struct unpack_source *source, const struct message_key *key);
    /* A frame that may not be ignored and is not understood. */
    void (*refuse)(void *context, const struct unpack_source *source, const uint8_t *transfer_id);
};

struct unpack_counters {
    uint64_t frames;
    uint64_t malformed;      /* frames that break the format; the rest of such a block is lost */
    uint64_t unknown;        /* frames of unknown types that may be skipped */
    uint64_t unknown_blocks; /* blocks whose rest was skipped because of a critical one */
    uint64_t refused;        /* critical frames that refuse their transfer */
    uint64_t bad_signatures; /* small messages not signed by the sender they come from */
    uint64_t over_limit;     /* small messages left unchecked, because too many signatures were bad */
    uint64_t bad_messages;   /* signed ones that break a rule or contradict their frame */
};

struct unpack {
    const struct trust *trust; /* borrowed */
    struct checks *checks;     /* borrowed; NULL: all signatures are checked */
    const struct unpack_handler *handler;
    void *context;
    uint64_t key_frame; /* hash of the last KEY frame that was taken: its repetitions cost no signature check */
    struct unpack_counters counters;
};

/* `payload` is one decoded block of a sender that is trusted (else every signature fails). */
void unpack_payload(struct unpack *unpack, const struct unpack_source *source, const uint8_t *payload, size_t size);

#endif
