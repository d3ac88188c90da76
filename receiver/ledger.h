// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_RECEIVER_LEDGER_H
#define DIODECAST_RECEIVER_LEDGER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/status.h"
#include "proto/limits.h"

/*
 * Durable state of the high side (SQLite, state/receiver.db): chains, deliveries. Thread-safe: a connection that writes
 * and one that reads, each behind a mutex of its own, so that a question never waits for a commit. Every function that
 * changes something returns after the commit. Failures are logged here.
 */
struct ledger;

struct ledger_delivery {
    uint8_t transfer_id[TRANSFER_ID_SIZE];
    uint8_t chain_id[CHAIN_ID_SIZE];
    uint32_t sender_id;
    uint64_t sequence;
    uint64_t bytes;
    int64_t at_ns;
    char channel[LIMIT_CHANNEL_LENGTH + 1];
    char name[LIMIT_COMPONENT_LENGTH + 1];
    char directory[LIMIT_COMPONENT_LENGTH + 1]; /* under intake/CHANNEL/ */
    uint8_t manifest_hash[SHA256_SIZE];
};

struct ledger_chain {
    uint32_t sender_id;
    uint8_t chain_id[CHAIN_ID_SIZE];
    uint64_t baseline;              /* sequences up to this were before our time */
    uint64_t newest_sequence;       /* from signed content */
    uint64_t told_sequence;         /* the newest that a heartbeat named */
    uint8_t told_hash[SHA256_SIZE]; /* of that manifest's body; zeros: not told */
    uint64_t settled_sequence;
    uint64_t delivered_through; /* everything above the baseline up to this was delivered; below it: nothing was */
    uint64_t epoch;             /* newest confirmed one */
};

/* Names a transfer: ids of different senders have nothing to do with each other. */
struct ledger_key {
    uint32_t sender_id;
    uint8_t transfer_id[TRANSFER_ID_SIZE];
};

MUST_CHECK enum status ledger_open(const char *state_directory, struct ledger **ledger);
void ledger_close(struct ledger *ledger);

/* Step one of publishing, for a batch in one transaction: what is about to be renamed where. A row of the same transfer
 * is replaced unless it was delivered. */
MUST_CHECK enum status ledger_publishing(struct ledger *ledger, const struct ledger_delivery *deliveries, size_t count);
/* Step two, after the renames are durable. */
MUST_CHECK enum status ledger_delivered(struct ledger *ledger, const struct ledger_key *keys, size_t count);
/* Forgets an intent that did not come to a rename. */
MUST_CHECK enum status ledger_publish_failed(struct ledger *ledger, uint32_t sender_id,
                                             const uint8_t transfer_id[static TRANSFER_ID_SIZE]);
MUST_CHECK enum status ledger_each_publishing(struct ledger *ledger,
                                              void (*visit)(const struct ledger_delivery *delivery, void *context),
                                              void *context);

/* STATUS_OK: the transfer was delivered or is being published; STATUS_NOT_FOUND: it was not. Anything else: nobody can
 * tell now. */
MUST_CHECK enum status ledger_knows_transfer(struct ledger *ledger, uint32_t sender_id,
                                             const uint8_t transfer_id[static TRANSFER_ID_SIZE]);
/* Bytes of the delivery intake/CHANNEL/DIRECTORY. STATUS_NOT_FOUND: not one of ours. */
MUST_CHECK enum status ledger_directory_bytes(struct ledger *ledger, const char *channel, const char *directory,
                                              uint64_t *bytes);
/* Newest delivered sequence of a channel of a chain (0: none), for `late`. */
MUST_CHECK enum status ledger_newest_in_channel(struct ledger *ledger, const uint8_t chain_id[static CHAIN_ID_SIZE],
                                                const char *channel, uint64_t *sequence);
MUST_CHECK enum status ledger_delivered_count(struct ledger *ledger, uint64_t *count);
MUST_CHECK enum status ledger_last_delivered(struct ledger *ledger,
                                             struct ledger_delivery *delivery); /* STATUS_NOT_FOUND: none */

/* Inserts or updates by chain_id; numbers only grow, but for ledger_roll_back(). */
MUST_CHECK enum status ledger_store_chain(struct ledger *ledger, const struct ledger_chain *chain);
MUST_CHECK enum status ledger_each_chain(struct ledger *ledger,
                                         void (*visit)(const struct ledger_chain *chain, void *context), void *context);
/* Delivered sequences of a chain above `above`, ascending; without those of a branch that the sender went back behind.
 */
MUST_CHECK enum status ledger_each_sequence(struct ledger *ledger, const uint8_t chain_id[static CHAIN_ID_SIZE],
                                            uint64_t above, void (*visit)(uint64_t sequence, void *context),
                                            void *context);

#endif
