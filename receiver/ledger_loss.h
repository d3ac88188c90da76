// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_RECEIVER_LEDGER_LOSS_H
#define DIODECAST_RECEIVER_LEDGER_LOSS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "receiver/knowledge.h"
#include "receiver/ledger.h"

/* The part of the ledger that keeps what is known of losses: those that were written off, and alarms of chains. */

/*
 * A delivery is found by its sender and id, so that one sender can't block an id of another; that needs the table anew.
 * The number of deliveries is kept by a trigger, so that nobody has to count them. `written_off` is a history: ranges
 * may overlap. An alarm that was cleared stays, with the time.
 */
#define LEDGER_LOSS_SCHEMA                                                                                         \
    "CREATE TABLE delivery_of_sender (number INTEGER PRIMARY KEY AUTOINCREMENT, transfer_id BLOB NOT NULL,"        \
    "  state INTEGER NOT NULL, chain_id BLOB NOT NULL, sender_id INTEGER NOT NULL, sequence INTEGER NOT NULL,"     \
    "  bytes INTEGER NOT NULL, at_ns INTEGER NOT NULL, channel TEXT NOT NULL, name TEXT NOT NULL,"                 \
    "  directory TEXT NOT NULL, manifest_hash BLOB NOT NULL, UNIQUE (sender_id, transfer_id));"                    \
    "INSERT INTO delivery_of_sender (number, transfer_id, state, chain_id, sender_id, sequence, bytes, at_ns,"     \
    "  channel, name, directory, manifest_hash) SELECT number, transfer_id, state, chain_id, sender_id, sequence," \
    "  bytes, at_ns, channel, name, directory, manifest_hash FROM delivery ORDER BY number;"                       \
    "DROP TABLE delivery;"                                                                                         \
    "ALTER TABLE delivery_of_sender RENAME TO delivery;"                                                           \
    "CREATE INDEX delivery_sequence ON delivery (chain_id, sequence, state, number);"                              \
    "CREATE INDEX delivery_channel ON delivery (chain_id, channel, state, sequence);"                              \
    "CREATE INDEX delivery_directory ON delivery (channel, directory);"                                            \
    "CREATE INDEX delivery_publishing ON delivery (number) WHERE state = 1;"                                       \
    "CREATE TABLE delivered (one INTEGER PRIMARY KEY CHECK (one = 1), total INTEGER NOT NULL);"                    \
    "INSERT INTO delivered SELECT 1, count(*) FROM delivery WHERE state = 2;"                                      \
    "CREATE TRIGGER delivered_one AFTER UPDATE OF state ON delivery WHEN new.state = 2 AND old.state <> 2"         \
    "  BEGIN UPDATE delivered SET total = total + 1; END;"                                                         \
    "ALTER TABLE chain ADD COLUMN told_sequence INTEGER NOT NULL DEFAULT 0;"                                       \
    "ALTER TABLE chain ADD COLUMN told_hash BLOB NOT NULL DEFAULT x'';"                                            \
    "ALTER TABLE chain ADD COLUMN delivered_through INTEGER NOT NULL DEFAULT 0;"                                   \
    "ALTER TABLE chain ADD COLUMN branch_sequence INTEGER NOT NULL DEFAULT 9999999999999999;"                      \
    "ALTER TABLE chain ADD COLUMN branch_number INTEGER NOT NULL DEFAULT 0;"                                       \
    "ALTER TABLE chain ADD COLUMN branch_written_off INTEGER NOT NULL DEFAULT 0;"                                  \
    "CREATE TABLE written_off (number INTEGER PRIMARY KEY, chain_id BLOB NOT NULL, first INTEGER NOT NULL,"        \
    "  last INTEGER NOT NULL, actor TEXT NOT NULL, reason TEXT NOT NULL, at_ns INTEGER NOT NULL);"                 \
    "CREATE INDEX written_off_chain ON written_off (chain_id, first);"                                             \
    "CREATE TABLE alarm (number INTEGER PRIMARY KEY, sender_id INTEGER NOT NULL, chain_id BLOB NOT NULL,"          \
    "  kind INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL, at_ns INTEGER NOT NULL,"              \
    "  cleared_ns INTEGER);"                                                                                       \
    "CREATE UNIQUE INDEX alarm_open ON alarm (chain_id, kind) WHERE cleared_ns IS NULL;"

/* Sequences [first, last] of a chain whose loss an operator accepted. */
struct ledger_write_off {
    uint8_t chain_id[CHAIN_ID_SIZE];
    uint64_t first, last;
};

/* All ranges and the end of all alarms named by `clear`, in one transaction. Texts are borrowed for the call. */
MUST_CHECK enum status ledger_write_off(struct ledger *ledger, const struct ledger_write_off *ranges, size_t count,
                                        const uint8_t (*clear)[CHAIN_ID_SIZE], size_t clear_count, const char *actor,
                                        const char *reason, int64_t at_ns);
MUST_CHECK enum status ledger_each_written_off(struct ledger *ledger, const uint8_t chain_id[static CHAIN_ID_SIZE],
                                               void (*visit)(uint64_t first, uint64_t last, void *context),
                                               void *context);

/* Inserts an alarm, or widens the open one of the same chain and kind. */
MUST_CHECK enum status ledger_store_alarm(struct ledger *ledger, const struct knowledge_alarm *alarm);
/* Ends the open alarms of a chain. */
MUST_CHECK enum status ledger_clear_alarms(struct ledger *ledger, const uint8_t chain_id[static CHAIN_ID_SIZE],
                                           int64_t at_ns);
/* The open ones. */
MUST_CHECK enum status ledger_each_alarm(struct ledger *ledger,
                                         void (*visit)(const struct knowledge_alarm *alarm, void *context),
                                         void *context);
/* The chain's numbers above `sequence` are given anew from here on: what was delivered so far above it is of the old
 * branch, and ledger_each_sequence() leaves it out. */
MUST_CHECK enum status ledger_roll_back(struct ledger *ledger, const uint8_t chain_id[static CHAIN_ID_SIZE],
                                        uint64_t sequence);

/* Hash of the manifest that was delivered (newest, where a chain forked) with this number; STATUS_NOT_FOUND. */
MUST_CHECK enum status ledger_manifest_hash(struct ledger *ledger, const uint8_t chain_id[static CHAIN_ID_SIZE],
                                            uint64_t sequence, uint8_t hash[static SHA256_SIZE]);

#endif
