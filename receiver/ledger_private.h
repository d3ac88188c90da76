// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_RECEIVER_LEDGER_PRIVATE_H
#define DIODECAST_RECEIVER_LEDGER_PRIVATE_H

#include <assert.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "common/db.h"
#include "receiver/ledger.h"

/* What the files of the ledger share: its two connections, and the binding and reading of columns. For ledger*.c only.
 */
struct connection {
    pthread_mutex_t mutex;
    struct db *db;
};

struct ledger {
    struct connection writer, reader;
};

/* The columns of a delivery, and their reading as the first ones of a row (ledger.c). */
#define LEDGER_DELIVERY_COLUMNS \
    "transfer_id, chain_id, sender_id, sequence, bytes, at_ns, channel, name, directory, manifest_hash"
void ledger_read_delivery(sqlite3_stmt *statement, struct ledger_delivery *delivery);
/* Inserts the intent to publish or to hold, in place of an earlier one; in a transaction. */
enum status ledger_insert_intent(struct db *db, const struct ledger_delivery *delivery, int state);

static inline struct db *enter(struct connection *connection)
{
    int error = pthread_mutex_lock(&connection->mutex);
    assert(error == 0);
    (void)error;
    return connection->db;
}

static inline void leave(struct connection *connection)
{
    pthread_mutex_unlock(&connection->mutex);
}

static inline void bind_blob(sqlite3_stmt *statement, int index, const void *bytes, int size)
{
    int result = sqlite3_bind_blob(statement, index, bytes, size, SQLITE_STATIC);
    assert(result == SQLITE_OK);
    (void)result;
}

static inline void bind_text(sqlite3_stmt *statement, int index, const char *text)
{
    int result = sqlite3_bind_text(statement, index, text, -1, SQLITE_STATIC);
    assert(result == SQLITE_OK);
    (void)result;
}

static inline void bind_number(sqlite3_stmt *statement, int index, uint64_t value)
{
    assert(value <= INT64_MAX);
    int result = sqlite3_bind_int64(statement, index, (sqlite3_int64)value);
    assert(result == SQLITE_OK);
    (void)result;
}

/* A blob of exactly `size` bytes, or zeros: a row that says something else is not one of ours. */
static inline void read_blob(sqlite3_stmt *statement, int column, void *out, int size)
{
    if (sqlite3_column_bytes(statement, column) == size)
        memcpy(out, sqlite3_column_blob(statement, column), (size_t)size);
    else
        memset(out, 0, (size_t)size);
}

static inline void read_text(sqlite3_stmt *statement, int column, char *out, size_t size)
{
    const unsigned char *text = sqlite3_column_text(statement, column);
    snprintf(out, size, "%s", text == NULL ? "" : (const char *)text);
}

static inline uint64_t read_number(sqlite3_stmt *statement, int column)
{
    sqlite3_int64 value = sqlite3_column_int64(statement, column);
    return value < 0 ? 0 : (uint64_t)value;
}

/* Ends a transaction as `status` says. */
static inline enum status finish(struct db *db, enum status status)
{
    if (status == STATUS_OK)
        status = db_commit(db);
    if (status != STATUS_OK)
        db_rollback(db);
    return status;
}

#endif
