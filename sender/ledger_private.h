// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_SENDER_LEDGER_PRIVATE_H
#define DIODECAST_SENDER_LEDGER_PRIVATE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/db.h"
#include "proto/limits.h"
#include "sender/ledger.h"

/* Shared by the ledger's modules only: the connection and its lock, and the rows of transfers. */
struct ledger {
    struct db *db;
    pthread_mutex_t mutex;
    struct db *reader; /* for long questions, which hold up nobody who writes */
    pthread_mutex_t reader_mutex;
    uint8_t chain_id[CHAIN_ID_SIZE];
    atomic_bool failing;
};

/* Takes the connection and begins; ledger_end() must follow when it returns STATUS_OK. */
MUST_CHECK enum status ledger_begin(struct ledger *ledger);
/* Commits when `status` is good, else rolls back; gives the connection back. */
MUST_CHECK enum status ledger_end(struct ledger *ledger, enum status status);

/* What ledger_read_row() reads, from table transfer. */
#define LEDGER_COLUMNS                                                                                             \
    "SELECT id, channel, name, origin_user, device, inode, state, claimed_at_ns, finished_at_ns, bytes, sequence," \
    " in_root, mark, listing, heals, again_at_ns FROM transfer "
/* False when the row is damaged. */
bool ledger_read_row(sqlite3_stmt *statement, struct ledger_transfer *transfer);
/* Copies a column's text, cut where it is too long; NULL is "". */
void ledger_copy_text(char *out, size_t size, sqlite3_stmt *statement, int column);

/*
 * Step 2 of the schema. `mark` and `listing`: how much of an unfinished transfer has left, and what it was then.
 * `heals`, `replays` and `again_at_ns`: how often a sent one was sent again, and when last.
 */
#define LEDGER_SCHEMA_AGAIN                                                                                           \
    "ALTER TABLE transfer ADD COLUMN mark INTEGER NOT NULL DEFAULT 0;"                                                \
    "ALTER TABLE transfer ADD COLUMN listing BLOB;"                                                                   \
    "ALTER TABLE transfer ADD COLUMN heals INTEGER NOT NULL DEFAULT 0;"                                               \
    "ALTER TABLE transfer ADD COLUMN replays INTEGER NOT NULL DEFAULT 0;"                                             \
    "ALTER TABLE transfer ADD COLUMN again_at_ns INTEGER NOT NULL DEFAULT 0;"                                         \
    "ALTER TABLE sender ADD COLUMN pruned_sent INTEGER NOT NULL DEFAULT 0;"                                           \
    "ALTER TABLE sender ADD COLUMN pruned_failed INTEGER NOT NULL DEFAULT 0;"                                         \
    "CREATE INDEX transfer_by_finish ON transfer (state, finished_at_ns);"                                            \
    "CREATE TABLE request (id TEXT PRIMARY KEY, requester TEXT NOT NULL, made_at_ns INTEGER NOT NULL,"                \
    " taken_at_ns INTEGER NOT NULL, what TEXT NOT NULL, answer TEXT NOT NULL);"                                       \
    "CREATE INDEX request_by_time ON request (taken_at_ns);"                                                          \
    "CREATE TABLE replay (number INTEGER PRIMARY KEY AUTOINCREMENT, sequence INTEGER NOT NULL, manifest_only INTEGER" \
    " NOT NULL, ranges BLOB NOT NULL, now INTEGER NOT NULL, bytes INTEGER NOT NULL, state INTEGER NOT NULL, attempts" \
    " INTEGER NOT NULL DEFAULT 0, mark INTEGER NOT NULL DEFAULT 0, added_at_ns INTEGER NOT NULL, finished_at_ns "     \
    "INTEGER"                                                                                                         \
    " NOT NULL DEFAULT 0, message TEXT NOT NULL DEFAULT '');"                                                         \
    "CREATE TABLE request_replay (request_id TEXT NOT NULL, number INTEGER NOT NULL, PRIMARY KEY (request_id, "       \
    "number))"                                                                                                        \
    " WITHOUT ROWID;"                                                                                                 \
    "CREATE INDEX replay_by_state ON replay (state, now, number);"                                                    \
    "CREATE INDEX replay_by_sequence ON replay (sequence, state);"

#endif
