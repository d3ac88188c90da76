// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_RECEIVER_KNOWLEDGE_H
#define DIODECAST_RECEIVER_KNOWLEDGE_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/limits.h"
#include "proto/message.h"
#include "receiver/extents.h"

/*
 * What the high side knows of each sender's chain: which sequence numbers it has, and which it never received. Only
 * signed content gets here. Sans I/O; one thread.
 */
struct knowledge;

#define KNOWLEDGE_GRACE_NS UINT64_C(3000000000) /* a number settled so long ago and still unknown was never seen */
enum {
    KNOWLEDGE_CHAINS = 256,   /* the one heard of longest ago makes room */
    KNOWLEDGE_RANGES = 65536, /* of known sequences in one chain */
};

struct knowledge_chain {
    uint32_t sender_id;
    uint8_t chain_id[CHAIN_ID_SIZE];
    bool has_baseline;
    uint64_t baseline; /* numbers up to this were before our time */
    uint64_t newest_sequence;
    uint64_t settled_sequence; /* as the sender told last */
    uint64_t epoch;
    uint64_t changed; /* grows with each change of what the ledger keeps */
};

struct knowledge *knowledge_create(void);
void knowledge_destroy(struct knowledge *knowledge);

/* From the ledger at the start. Its numbers are settled for longer than the grace. */
void knowledge_load(struct knowledge *knowledge, const struct knowledge_chain *facts);
/* A chain's baseline moves to the end of the delivered numbers that follow it without a gap; what was loaded before is
 * then one number. */
void knowledge_raise_baseline(struct knowledge *knowledge, const uint8_t chain_id[static CHAIN_ID_SIZE]);

/*
 * A signed heartbeat. False when it is of an older epoch than one already heard: then it changes nothing. A chain that
 * is new to us starts with the heartbeat's newest sequence as its baseline.
 */
bool knowledge_heartbeat(struct knowledge *knowledge, const struct message_heartbeat *heartbeat, uint64_t now_ns);

/* A valid manifest with this number is held, or was delivered (then for ever). False when the set is full. */
bool knowledge_add(struct knowledge *knowledge, uint32_t sender_id, const uint8_t chain_id[static CHAIN_ID_SIZE],
                   uint64_t sequence, bool delivered);
/* The transfer with this number, held and not delivered, was given up: it counts as never seen from now on. */
void knowledge_remove(struct knowledge *knowledge, const uint8_t chain_id[static CHAIN_ID_SIZE], uint64_t sequence);
/* Whether the sender's current chain has this number delivered. */
bool knowledge_is_delivered(const struct knowledge *knowledge, uint32_t sender_id, uint64_t sequence);

/* Ranges of the sender's current chain that were never seen, ascending, at most `limit`; `total` counts all numbers. */
void knowledge_each_never_seen(struct knowledge *knowledge, uint32_t sender_id, uint64_t now_ns,
                               void (*visit)(uint64_t first, uint64_t last, void *context), void *context,
                               unsigned limit, uint64_t *total);
/* The sender's current chain (the last that a heartbeat of it named), or NULL. */
const struct knowledge_chain *knowledge_chain_of(const struct knowledge *knowledge, uint32_t sender_id);
void knowledge_each_chain(const struct knowledge *knowledge,
                          void (*visit)(const struct knowledge_chain *chain, void *context), void *context);

#endif
