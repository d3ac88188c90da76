// SPDX-License-Identifier: Apache-2.0
#include "receiver/ledger.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "receiver/ledger_beat.h"
#include "receiver/ledger_held.h"
#include "receiver/ledger_loss.h"
#include "receiver/ledger_partial.h"
#include "receiver/ledger_private.h"

enum { APPLICATION_ID = 0x44434852 /* "DCHR" */, STATE_PUBLISHING = 1 };

static const char *const schema[] = {
    /* `number` grows with each intent, so it gives the order of deliveries. Epochs are 8 bytes big-endian: they use all
       64 bits, which SQLite's signed integers would order wrongly. */
    "CREATE TABLE chain (chain_id BLOB PRIMARY KEY, sender_id INTEGER NOT NULL, baseline INTEGER NOT NULL,"
    "  newest_sequence INTEGER NOT NULL, settled_sequence INTEGER NOT NULL, epoch BLOB NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE delivery (number INTEGER PRIMARY KEY AUTOINCREMENT, transfer_id BLOB NOT NULL UNIQUE,"
    "  state INTEGER NOT NULL, chain_id BLOB NOT NULL, sender_id INTEGER NOT NULL, sequence INTEGER NOT NULL,"
    "  bytes INTEGER NOT NULL, at_ns INTEGER NOT NULL, channel TEXT NOT NULL, name TEXT NOT NULL,"
    "  directory TEXT NOT NULL, manifest_hash BLOB NOT NULL);"
    "CREATE INDEX delivery_sequence ON delivery (chain_id, sequence);"
    "CREATE INDEX delivery_channel ON delivery (chain_id, channel, sequence);"
    "CREATE INDEX delivery_directory ON delivery (channel, directory);"
    "CREATE INDEX delivery_publishing ON delivery (number) WHERE state = 1;",
    LEDGER_LOSS_SCHEMA LEDGER_PARTIAL_SCHEMA,
    LEDGER_HELD_SCHEMA,
    LEDGER_BEAT_SCHEMA,
};

static enum status open_connection(const char *file, struct connection *connection)
{
    pthread_mutex_init(&connection->mutex, NULL);
    return db_open(file, APPLICATION_ID, schema, sizeof schema / sizeof *schema, &connection->db);
}

enum status ledger_open(const char *state_directory, struct ledger **ledger)
{
    *ledger = NULL;
    char *file = NULL;
    struct ledger *made = calloc(1, sizeof *made);
    if (made == NULL || asprintf(&file, "%s/receiver.db", state_directory) < 0) {
        log_error("%s/receiver.db can't be opened: %s", state_directory, strerror(ENOMEM));
        free(made);
        return status_from_errno(ENOMEM);
    }
    enum status status = open_connection(file, &made->writer);
    if (status == STATUS_OK)
        status = open_connection(file, &made->reader);
    free(file);
    if (status != STATUS_OK) {
        ledger_close(made);
        return status;
    }
    *ledger = made;
    return STATUS_OK;
}

void ledger_close(struct ledger *ledger)
{
    if (ledger == NULL)
        return;
    db_close(ledger->reader.db);
    db_close(ledger->writer.db);
    free(ledger);
}

void ledger_read_delivery(sqlite3_stmt *statement, struct ledger_delivery *delivery)
{
    read_blob(statement, 0, delivery->transfer_id, TRANSFER_ID_SIZE);
    read_blob(statement, 1, delivery->chain_id, CHAIN_ID_SIZE);
    delivery->sender_id = (uint32_t)read_number(statement, 2);
    delivery->sequence = read_number(statement, 3);
    delivery->bytes = read_number(statement, 4);
    delivery->at_ns = sqlite3_column_int64(statement, 5);
    read_text(statement, 6, delivery->channel, sizeof delivery->channel);
    read_text(statement, 7, delivery->name, sizeof delivery->name);
    read_text(statement, 8, delivery->directory, sizeof delivery->directory);
    read_blob(statement, 9, delivery->manifest_hash, SHA256_SIZE);
}

/* Prepares what names one transfer as its parameters 1 and 2. */
static enum status prepare_for(struct db *db, const char *sql, uint32_t sender_id, const uint8_t *transfer_id,
                               sqlite3_stmt **statement)
{
    enum status status = db_prepare(db, sql, statement);
    if (status != STATUS_OK)
        return status;
    bind_number(*statement, 1, sender_id);
    bind_blob(*statement, 2, transfer_id, TRANSFER_ID_SIZE);
    return STATUS_OK;
}

static enum status delete_publishing(struct db *db, uint32_t sender_id, const uint8_t *transfer_id)
{
    sqlite3_stmt *statement;
    enum status status =
        prepare_for(db, "DELETE FROM delivery WHERE sender_id = ?1 AND transfer_id = ?2 AND state IN (1, 3)", sender_id,
                    transfer_id, &statement);
    return status == STATUS_OK ? db_run(db, statement) : status;
}

enum status ledger_insert_intent(struct db *db, const struct ledger_delivery *delivery, int state)
{
    sqlite3_stmt *statement;
    enum status status = delete_publishing(db, delivery->sender_id, delivery->transfer_id);
    if (status == STATUS_OK)
        status = db_prepare(db,
                            "INSERT INTO delivery (" LEDGER_DELIVERY_COLUMNS ", state)"
                            " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
                            &statement);
    if (status != STATUS_OK)
        return status;
    bind_blob(statement, 1, delivery->transfer_id, TRANSFER_ID_SIZE);
    bind_blob(statement, 2, delivery->chain_id, CHAIN_ID_SIZE);
    bind_number(statement, 3, delivery->sender_id);
    bind_number(statement, 4, delivery->sequence);
    bind_number(statement, 5, delivery->bytes);
    sqlite3_bind_int64(statement, 6, delivery->at_ns);
    bind_text(statement, 7, delivery->channel);
    bind_text(statement, 8, delivery->name);
    bind_text(statement, 9, delivery->directory);
    bind_blob(statement, 10, delivery->manifest_hash, SHA256_SIZE);
    bind_number(statement, 11, (uint64_t)state);
    return db_run(db, statement);
}

enum status ledger_publishing(struct ledger *ledger, const struct ledger_delivery *deliveries, size_t count)
{
    struct db *db = enter(&ledger->writer);
    enum status status = db_begin(db);
    if (status == STATUS_OK) {
        for (size_t i = 0; i < count && status == STATUS_OK; i++)
            status = ledger_insert_intent(db, &deliveries[i], STATE_PUBLISHING);
        status = finish(db, status);
    }
    leave(&ledger->writer);
    return status;
}

enum status ledger_delivered(struct ledger *ledger, const struct ledger_key *keys, size_t count)
{
    struct db *db = enter(&ledger->writer);
    sqlite3_stmt *statement;
    enum status status = db_begin(db);
    if (status == STATUS_OK) {
        for (size_t i = 0; i < count && status == STATUS_OK; i++) {
            status = prepare_for(db,
                                 "UPDATE delivery SET state = iif(state = 3, 4, 2)"
                                 " WHERE sender_id = ?1 AND transfer_id = ?2",
                                 keys[i].sender_id, keys[i].transfer_id, &statement);
            if (status == STATUS_OK)
                status = db_run(db, statement);
        }
        status = finish(db, status);
    }
    leave(&ledger->writer);
    return status;
}

enum status ledger_publish_failed(struct ledger *ledger, uint32_t sender_id,
                                  const uint8_t transfer_id[static TRANSFER_ID_SIZE])
{
    struct db *db = enter(&ledger->writer);
    enum status status = delete_publishing(db, sender_id, transfer_id);
    leave(&ledger->writer);
    return status;
}

enum status ledger_each_publishing(struct ledger *ledger,
                                   void (*visit)(const struct ledger_delivery *delivery, void *context), void *context)
{
    struct db *db = enter(&ledger->reader);
    sqlite3_stmt *statement;
    enum status status =
        db_prepare(db, "SELECT " LEDGER_DELIVERY_COLUMNS " FROM delivery WHERE state = 1 ORDER BY number", &statement);
    struct ledger_delivery delivery;
    while (status == STATUS_OK && (status = db_step(db, statement)) == STATUS_OK) {
        ledger_read_delivery(statement, &delivery);
        visit(&delivery, context);
    }
    leave(&ledger->reader);
    return status == STATUS_NOT_FOUND ? STATUS_OK : status;
}

enum status ledger_knows_transfer(struct ledger *ledger, uint32_t sender_id,
                                  const uint8_t transfer_id[static TRANSFER_ID_SIZE])
{
    struct db *db = enter(&ledger->reader);
    sqlite3_stmt *statement;
    enum status status = prepare_for(db, "SELECT 1 FROM delivery WHERE sender_id = ?1 AND transfer_id = ?2", sender_id,
                                     transfer_id, &statement);
    if (status == STATUS_OK) {
        status = db_step(db, statement);
        sqlite3_reset(statement);
    }
    leave(&ledger->reader);
    return status;
}

/* The one number that a prepared and bound statement yields. */
static enum status one_number(struct db *db, sqlite3_stmt *statement, uint64_t *value)
{
    enum status status = db_step(db, statement);
    if (status == STATUS_OK)
        *value = read_number(statement, 0);
    sqlite3_reset(statement);
    return status;
}

enum status ledger_directory_bytes(struct ledger *ledger, const char *channel, const char *directory, uint64_t *bytes)
{
    struct db *db = enter(&ledger->reader);
    sqlite3_stmt *statement;
    enum status status = db_prepare(db, "SELECT bytes FROM delivery WHERE channel = ?1 AND directory = ?2", &statement);
    if (status == STATUS_OK) {
        bind_text(statement, 1, channel);
        bind_text(statement, 2, directory);
        status = one_number(db, statement, bytes);
    }
    leave(&ledger->reader);
    return status;
}

enum status ledger_newest_in_channel(struct ledger *ledger, const uint8_t chain_id[static CHAIN_ID_SIZE],
                                     const char *channel, uint64_t *sequence)
{
    struct db *db = enter(&ledger->reader);
    sqlite3_stmt *statement;
    *sequence = 0;
    enum status status = db_prepare(db,
                                    "SELECT max(sequence) FROM delivery"
                                    " WHERE chain_id = ?1 AND channel = ?2 AND state = 2",
                                    &statement);
    if (status == STATUS_OK) {
        bind_blob(statement, 1, chain_id, CHAIN_ID_SIZE);
        bind_text(statement, 2, channel);
        status = one_number(db, statement, sequence);
    }
    leave(&ledger->reader);
    return status;
}

enum status ledger_delivered_count(struct ledger *ledger, uint64_t *count)
{
    struct db *db = enter(&ledger->reader);
    sqlite3_stmt *statement;
    *count = 0;
    enum status status = db_prepare(db, "SELECT total FROM delivered", &statement);
    if (status == STATUS_OK)
        status = one_number(db, statement, count);
    leave(&ledger->reader);
    return status;
}

enum status ledger_last_delivered(struct ledger *ledger, struct ledger_delivery *delivery)
{
    struct db *db = enter(&ledger->reader);
    sqlite3_stmt *statement;
    enum status status =
        db_prepare(db, "SELECT " LEDGER_DELIVERY_COLUMNS " FROM delivery WHERE state = 2 ORDER BY number DESC LIMIT 1",
                   &statement);
    if (status == STATUS_OK && (status = db_step(db, statement)) == STATUS_OK) {
        ledger_read_delivery(statement, delivery);
        sqlite3_reset(statement);
    }
    leave(&ledger->reader);
    return status;
}

enum status ledger_store_chain(struct ledger *ledger, const struct ledger_chain *chain)
{
    struct db *db = enter(&ledger->writer);
    sqlite3_stmt *statement;
    uint64_t epoch = htobe64(chain->epoch);
    enum status status =
        db_prepare(db,
                   "INSERT INTO chain (chain_id, sender_id, baseline, newest_sequence, settled_sequence, epoch,"
                   "  told_sequence, told_hash, delivered_through)"
                   " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT (chain_id) DO UPDATE SET"
                   " told_hash = iif(excluded.told_sequence >= told_sequence, excluded.told_hash, told_hash),"
                   " told_sequence = max(told_sequence, excluded.told_sequence),"
                   " delivered_through = max(delivered_through, excluded.delivered_through),"
                   " baseline = max(baseline, excluded.baseline),"
                   " newest_sequence = max(newest_sequence, excluded.newest_sequence),"
                   " settled_sequence = max(settled_sequence, excluded.settled_sequence),"
                   " epoch = max(epoch, excluded.epoch)",
                   &statement);
    if (status == STATUS_OK) {
        bind_blob(statement, 1, chain->chain_id, CHAIN_ID_SIZE);
        bind_number(statement, 2, chain->sender_id);
        bind_number(statement, 3, chain->baseline);
        bind_number(statement, 4, chain->newest_sequence);
        bind_number(statement, 5, chain->settled_sequence);
        bind_blob(statement, 6, &epoch, sizeof epoch);
        bind_number(statement, 7, chain->told_sequence);
        bind_blob(statement, 8, chain->told_hash, SHA256_SIZE);
        bind_number(statement, 9, chain->delivered_through);
        status = db_run(db, statement);
        sqlite3_clear_bindings(statement);
    }
    leave(&ledger->writer);
    return status;
}

enum status ledger_each_chain(struct ledger *ledger, void (*visit)(const struct ledger_chain *chain, void *context),
                              void *context)
{
    struct db *db = enter(&ledger->reader);
    sqlite3_stmt *statement;
    enum status status = db_prepare(db,
                                    "SELECT chain_id, sender_id, baseline, newest_sequence, settled_sequence, epoch,"
                                    " told_sequence, told_hash, delivered_through FROM chain ORDER BY epoch",
                                    &statement);
    while (status == STATUS_OK && (status = db_step(db, statement)) == STATUS_OK) {
        struct ledger_chain chain = {.sender_id = (uint32_t)read_number(statement, 1),
                                     .baseline = read_number(statement, 2),
                                     .newest_sequence = read_number(statement, 3),
                                     .settled_sequence = read_number(statement, 4),
                                     .told_sequence = read_number(statement, 6),
                                     .delivered_through = read_number(statement, 8)};
        read_blob(statement, 7, chain.told_hash, SHA256_SIZE);
        read_blob(statement, 0, chain.chain_id, CHAIN_ID_SIZE);
        read_blob(statement, 5, &chain.epoch, sizeof chain.epoch);
        chain.epoch = be64toh(chain.epoch);
        visit(&chain, context);
    }
    leave(&ledger->reader);
    return status == STATUS_NOT_FOUND ? STATUS_OK : status;
}

enum status ledger_each_sequence(struct ledger *ledger, const uint8_t chain_id[static CHAIN_ID_SIZE], uint64_t above,
                                 void (*visit)(uint64_t sequence, void *context), void *context)
{
    struct db *db = enter(&ledger->reader);
    sqlite3_stmt *statement;
    enum status status = db_prepare(db,
                                    "SELECT sequence FROM delivery WHERE chain_id = ?1 AND sequence > ?2"
                                    " AND state IN (2, 4, 5, 6)"
                                    " AND (number > ifnull((SELECT branch_number FROM chain WHERE chain_id = ?1), 0)"
                                    "  OR sequence <= (SELECT branch_sequence FROM chain WHERE chain_id = ?1))"
                                    " ORDER BY sequence",
                                    &statement);
    if (status == STATUS_OK) {
        bind_blob(statement, 1, chain_id, CHAIN_ID_SIZE);
        bind_number(statement, 2, above);
    }
    while (status == STATUS_OK && (status = db_step(db, statement)) == STATUS_OK)
        visit(read_number(statement, 0), context);
    leave(&ledger->reader);
    return status == STATUS_NOT_FOUND ? STATUS_OK : status;
}
