// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_RECEIVER_LEDGER_PARTIAL_H
#define DIODECAST_RECEIVER_LEDGER_PARTIAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/limits.h"
#include "receiver/extents.h"
#include "receiver/ledger.h"

/*
 * The part of the ledger that keeps open transfers over restarts: what was said of each, its manifest or the parts of
 * it, and in `partial_map` one row for each checkpoint (partial.h), to be replayed in their order. The transaction
 * that records a delivery takes the transfer out.
 *
 * Must come behind whatever makes the table `delivery` anew, which drops the trigger.
 */
#define LEDGER_PARTIAL_SCHEMA                                                                                  \
    "CREATE TABLE partial (number INTEGER PRIMARY KEY, sender_id INTEGER NOT NULL, transfer_id BLOB NOT NULL," \
    "  announced INTEGER NOT NULL, channel TEXT NOT NULL, name TEXT NOT NULL, total_bytes INTEGER NOT NULL,"   \
    "  total_artifacts INTEGER NOT NULL, watermark_epoch BLOB NOT NULL, watermarks BLOB NOT NULL,"             \
    "  UNIQUE (sender_id, transfer_id));"                                                                      \
    "CREATE TABLE partial_manifest (number INTEGER PRIMARY KEY REFERENCES partial ON DELETE CASCADE,"          \
    "  held BLOB NOT NULL, bytes BLOB NOT NULL);"                                                              \
    "CREATE TABLE partial_map (checkpoint INTEGER PRIMARY KEY AUTOINCREMENT,"                                  \
    "  number INTEGER NOT NULL REFERENCES partial ON DELETE CASCADE, entries BLOB NOT NULL);"                  \
    "CREATE INDEX partial_map_number ON partial_map (number, checkpoint);"                                     \
    "CREATE TRIGGER partial_delivered AFTER UPDATE OF state ON delivery WHEN new.state = 2"                    \
    "  BEGIN DELETE FROM partial WHERE sender_id = new.sender_id AND transfer_id = new.transfer_id; END;"

/* What is known of an open transfer beside its bytes. */
struct ledger_partial {
    struct ledger_key key;
    bool announced; /* channel, name and totals are valid */
    char channel[LIMIT_CHANNEL_LENGTH + 1];
    char name[LIMIT_COMPONENT_LENGTH + 1];
    uint64_t total_bytes;
    uint32_t total_artifacts;
    int64_t first_seen_ns; /* see assembly.h */
    uint16_t lanes;        /* see assembly.h */
    uint64_t watermark[LIMIT_LANES];
    uint64_t watermark_epoch;

    /* The Signed message of the manifest: `manifest_size` bytes, of which the ranges in manifest_held are there. Only
     * those whose bytes changed need be given again; NULL: as before. */
    uint8_t *manifest;
    size_t manifest_size;
    struct extent *manifest_held;
    size_t manifest_held_count;
};

/* Frees the manifest and its ranges. */
void ledger_partial_deinit(struct ledger_partial *partial);

/* One change for ledger_partial_record(). */
struct ledger_checkpoint {
    const struct ledger_partial *partial;
    bool remove;            /* forget the transfer: it was closed */
    bool anew;              /* begins the record, or its map: `entries` replace all that was recorded of its files;
                               otherwise they are added to a record, and lead to nothing where there is none */
    const uint8_t *entries; /* partial_encode(), may be NULL */
    size_t entries_size;
};

/* All of them in one transaction. */
MUST_CHECK enum status ledger_partial_record(struct ledger *ledger, const struct ledger_checkpoint checkpoints[],
                                             size_t count);

/* The keys of all recorded transfers that are neither delivered nor being published, in the order in which they were
 * recorded first. */
MUST_CHECK enum status ledger_partial_keys(struct ledger *ledger, struct ledger_key **keys, size_t *count);
/* Fills *partial, which the caller deinits on STATUS_OK. STATUS_NOT_FOUND: not recorded. STATUS_CORRUPT: not ours. */
MUST_CHECK enum status ledger_partial_load(struct ledger *ledger, const struct ledger_key *key,
                                           struct ledger_partial *partial);
/* The stored entries of each checkpoint, in their order; `visit` must not use the ledger. */
MUST_CHECK enum status ledger_partial_each(struct ledger *ledger, const struct ledger_key *key,
                                           void (*visit)(const uint8_t *entries, size_t size, void *context),
                                           void *context);

#endif
