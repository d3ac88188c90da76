// SPDX-License-Identifier: Apache-2.0
#include "sender/ledger.h"

#include <assert.h>
#include <limits.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "sender/ledger_private.h"

enum { APPLICATION_ID = 0x64634c53 /* "dcLS" */ };

static const char *const schema[] = {
    "CREATE TABLE sender (one INTEGER PRIMARY KEY CHECK (one = 1), chain_id BLOB NOT NULL, epoch INTEGER NOT NULL);"
    "CREATE TABLE transfer (id BLOB PRIMARY KEY, channel TEXT NOT NULL, name TEXT NOT NULL, origin_user TEXT NOT NULL,"
    " in_root INTEGER NOT NULL, device INTEGER NOT NULL, inode INTEGER NOT NULL, state INTEGER NOT NULL, claimed_at_ns "
    "INTEGER NOT NULL,"
    " finished_at_ns INTEGER NOT NULL DEFAULT 0, bytes INTEGER NOT NULL DEFAULT 0, sequence INTEGER UNIQUE,"
    " reason TEXT);"
    "CREATE INDEX transfer_by_state ON transfer (state, claimed_at_ns);"
    "CREATE TABLE manifest (sequence INTEGER PRIMARY KEY, transfer_id BLOB NOT NULL UNIQUE REFERENCES transfer (id),"
    " channel TEXT NOT NULL, hash BLOB NOT NULL, signed BLOB NOT NULL);"
    "CREATE INDEX manifest_by_channel ON manifest (channel, sequence);",
    LEDGER_SCHEMA_AGAIN,
};

/* Reads the chain id, or makes one in a new database. */
static enum status load_chain_id(struct ledger *ledger)
{
    static const char select[] = "SELECT chain_id FROM sender";
    static const char insert[] = "INSERT INTO sender (one, chain_id, epoch) VALUES (1, ?1, 0)";
    sqlite3_stmt *statement;
    enum status status = db_prepare(ledger->db, select, &statement);
    if (status == STATUS_OK)
        status = db_step(ledger->db, statement);
    if (status == STATUS_OK) {
        bool sound = sqlite3_column_bytes(statement, 0) == CHAIN_ID_SIZE;
        if (sound)
            memcpy(ledger->chain_id, sqlite3_column_blob(statement, 0), CHAIN_ID_SIZE);
        sqlite3_reset(statement);
        if (!sound)
            log_error("the ledger holds a chain id of the wrong size: the state database is damaged; restore a backup "
                      "or, to begin a new chain, move it away");
        return sound ? STATUS_OK : STATUS_CORRUPT;
    }
    if (status != STATUS_NOT_FOUND)
        return status;
    randombytes_buf(ledger->chain_id, sizeof ledger->chain_id);
    status = db_prepare(ledger->db, insert, &statement);
    if (status != STATUS_OK)
        return status;
    sqlite3_bind_blob(statement, 1, ledger->chain_id, CHAIN_ID_SIZE, SQLITE_STATIC);
    return db_run(ledger->db, statement);
}

enum status ledger_open(const char *state_directory, struct ledger **ledger)
{
    char file[PATH_MAX];
    *ledger = NULL;
    if (snprintf(file, sizeof file, "%s/sender.db", state_directory) >= (int)sizeof file) {
        log_error("the path of the state directory is too long");
        return STATUS_LIMIT;
    }
    struct ledger *made = calloc(1, sizeof *made);
    assert(made != NULL);
    pthread_mutex_init(&made->mutex, NULL);
    pthread_mutex_init(&made->reader_mutex, NULL);
    enum status status = db_open(file, APPLICATION_ID, schema, (unsigned)(sizeof schema / sizeof schema[0]), &made->db);
    if (status == STATUS_OK)
        status = db_open(file, APPLICATION_ID, schema, (unsigned)(sizeof schema / sizeof schema[0]), &made->reader);
    if (status == STATUS_OK)
        status = load_chain_id(made);
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
    db_close(ledger->reader);
    db_close(ledger->db);
    pthread_mutex_destroy(&ledger->reader_mutex);
    pthread_mutex_destroy(&ledger->mutex);
    free(ledger);
}

void ledger_chain_id(const struct ledger *ledger, uint8_t chain_id[static CHAIN_ID_SIZE])
{
    memcpy(chain_id, ledger->chain_id, CHAIN_ID_SIZE);
}

enum status ledger_begin(struct ledger *ledger)
{
    pthread_mutex_lock(&ledger->mutex);
    enum status status = db_begin(ledger->db);
    if (status == STATUS_OK)
        return STATUS_OK;
    atomic_store(&ledger->failing, true);
    pthread_mutex_unlock(&ledger->mutex);
    return status;
}

enum status ledger_end(struct ledger *ledger, enum status status)
{
    if (status == STATUS_OK)
        status = db_commit(ledger->db);
    if (status != STATUS_OK)
        db_rollback(ledger->db);
    atomic_store(&ledger->failing, status != STATUS_OK);
    pthread_mutex_unlock(&ledger->mutex);
    return status;
}

bool ledger_is_failing(const struct ledger *ledger)
{
    return atomic_load(&ledger->failing);
}

enum status ledger_next_epoch(struct ledger *ledger, uint32_t at_least, uint32_t *counter)
{
    static const char sql[] = "UPDATE sender SET epoch = max(epoch + 1, ?) RETURNING epoch";
    enum status status = ledger_begin(ledger);
    if (status != STATUS_OK)
        return status;
    sqlite3_stmt *statement;
    status = db_prepare(ledger->db, sql, &statement);
    if (status == STATUS_OK) {
        sqlite3_bind_int64(statement, 1, at_least);
        status = db_step(ledger->db, statement);
    }
    if (status == STATUS_OK) {
        *counter = (uint32_t)sqlite3_column_int64(statement, 0);
        sqlite3_reset(statement);
    } else if (status == STATUS_NOT_FOUND) {
        status = STATUS_CORRUPT;
    }
    return ledger_end(ledger, status);
}

/* Newest sequence and hash; the mutex is held. */
static enum status newest(struct ledger *ledger, uint64_t *sequence, uint8_t hash[static SHA256_SIZE])
{
    static const char sql[] = "SELECT sequence, hash FROM manifest ORDER BY sequence DESC LIMIT 1";
    sqlite3_stmt *statement;
    *sequence = 0;
    memset(hash, 0, SHA256_SIZE);
    enum status status = db_prepare(ledger->db, sql, &statement);
    if (status == STATUS_OK)
        status = db_step(ledger->db, statement);
    if (status == STATUS_NOT_FOUND)
        return STATUS_OK;
    if (status != STATUS_OK)
        return status;
    *sequence = (uint64_t)sqlite3_column_int64(statement, 0);
    if (sqlite3_column_bytes(statement, 1) == SHA256_SIZE)
        memcpy(hash, sqlite3_column_blob(statement, 1), SHA256_SIZE);
    else
        status = STATUS_CORRUPT;
    sqlite3_reset(statement);
    return status;
}

enum status ledger_newest(struct ledger *ledger, uint64_t *sequence, uint8_t hash[static SHA256_SIZE])
{
    pthread_mutex_lock(&ledger->mutex);
    enum status status = newest(ledger, sequence, hash);
    pthread_mutex_unlock(&ledger->mutex);
    return status;
}

static enum status insert_claim(struct ledger *ledger, const struct ledger_transfer *transfer)
{
    static const char sql[] = "INSERT INTO transfer (id, channel, name, origin_user, device, inode, state,"
                              " claimed_at_ns, in_root) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
    sqlite3_stmt *statement;
    enum status status = db_prepare(ledger->db, sql, &statement);
    if (status != STATUS_OK)
        return status;
    sqlite3_bind_blob(statement, 1, transfer->id, TRANSFER_ID_SIZE, SQLITE_STATIC);
    sqlite3_bind_text(statement, 2, transfer->channel, -1, SQLITE_STATIC);
    sqlite3_bind_text(statement, 3, transfer->name, -1, SQLITE_STATIC);
    sqlite3_bind_text(statement, 4, transfer->origin_user, -1, SQLITE_STATIC);
    sqlite3_bind_int64(statement, 5, (int64_t)transfer->device);
    sqlite3_bind_int64(statement, 6, (int64_t)transfer->inode);
    sqlite3_bind_int(statement, 7, LEDGER_CLAIMING);
    sqlite3_bind_int64(statement, 8, transfer->claimed_at_ns);
    sqlite3_bind_int(statement, 9, transfer->in_root);
    return db_run(ledger->db, statement);
}

enum status ledger_claim(struct ledger *ledger, const struct ledger_transfer *transfers, size_t count)
{
    enum status status = ledger_begin(ledger);
    if (status != STATUS_OK)
        return status;
    for (size_t i = 0; i < count && status == STATUS_OK; i++)
        status = insert_claim(ledger, &transfers[i]);
    return ledger_end(ledger, status);
}

static enum status forget_claim(struct ledger *ledger, const uint8_t id[static TRANSFER_ID_SIZE])
{
    static const char sql[] = "DELETE FROM transfer WHERE id = ?1 AND sequence IS NULL";
    sqlite3_stmt *statement;
    enum status status = db_prepare(ledger->db, sql, &statement);
    if (status != STATUS_OK)
        return status;
    sqlite3_bind_blob(statement, 1, id, TRANSFER_ID_SIZE, SQLITE_STATIC);
    return db_run(ledger->db, statement);
}

static enum status apply_one(struct ledger *ledger, const struct ledger_change *change, int64_t now_ns)
{
    static const char sql[] = "UPDATE transfer SET state = ?2, bytes = iif(?2 = 2, ?3, bytes), finished_at_ns ="
                              " iif(?2 IN (4, 5, 6), ?4, finished_at_ns), reason = coalesce(?5, reason) WHERE id = ?1";
    _Static_assert(LEDGER_CLAIMED == 2 && LEDGER_SENT == 4 && LEDGER_FAILED == 5 && LEDGER_RETURNED == 6,
                   "the statement names these states");
    sqlite3_stmt *statement;
    if (change->state == LEDGER_FORGOTTEN)
        return forget_claim(ledger, change->id);
    enum status status = db_prepare(ledger->db, sql, &statement);
    if (status != STATUS_OK)
        return status;
    sqlite3_bind_blob(statement, 1, change->id, TRANSFER_ID_SIZE, SQLITE_STATIC);
    sqlite3_bind_int(statement, 2, (int)change->state);
    sqlite3_bind_int64(statement, 3, (int64_t)change->bytes);
    sqlite3_bind_int64(statement, 4, now_ns);
    if (change->reason != NULL)
        sqlite3_bind_text(statement, 5, change->reason, -1, SQLITE_STATIC);
    return db_run(ledger->db, statement);
}

enum status ledger_apply(struct ledger *ledger, const struct ledger_change *changes, size_t count)
{
    int64_t now_ns = clock_realtime_ns();
    if (count == 0)
        return STATUS_OK;
    enum status status = ledger_begin(ledger);
    if (status != STATUS_OK)
        return status;
    for (size_t i = 0; i < count && status == STATUS_OK; i++)
        status = apply_one(ledger, &changes[i], now_ns);
    return ledger_end(ledger, status);
}

enum status ledger_mark(struct ledger *ledger, const struct ledger_mark *marks, size_t count)
{
    static const char sql[] = "UPDATE transfer SET mark = ?2, listing = ?3 WHERE id = ?1 AND state IN (2, 3)";
    _Static_assert(LEDGER_CLAIMED == 2 && LEDGER_SEALED == 3, "the statement names these states");
    sqlite3_stmt *statement;
    enum status status = ledger_begin(ledger);
    if (status != STATUS_OK)
        return status;
    for (size_t i = 0; i < count && status == STATUS_OK; i++) {
        status = db_prepare(ledger->db, sql, &statement);
        if (status != STATUS_OK)
            break;
        sqlite3_bind_blob(statement, 1, marks[i].id, TRANSFER_ID_SIZE, SQLITE_STATIC);
        sqlite3_bind_int64(statement, 2, (int64_t)marks[i].mark);
        sqlite3_bind_blob(statement, 3, marks[i].fingerprint, CHECKSUM128_SIZE, SQLITE_STATIC);
        status = db_run(ledger->db, statement);
    }
    return ledger_end(ledger, status);
}

static enum status previous_in_channel(struct ledger *ledger, const char *channel, uint64_t *sequence)
{
    static const char sql[] = "SELECT coalesce(max(sequence), 0) FROM manifest WHERE channel = ?1";
    sqlite3_stmt *statement;
    enum status status = db_prepare(ledger->db, sql, &statement);
    if (status != STATUS_OK)
        return status;
    sqlite3_bind_text(statement, 1, channel, -1, SQLITE_STATIC);
    status = db_step(ledger->db, statement);
    if (status != STATUS_OK)
        return status;
    *sequence = (uint64_t)sqlite3_column_int64(statement, 0);
    sqlite3_reset(statement);
    return STATUS_OK;
}

static enum status insert_manifest(struct ledger *ledger, const struct ledger_seal *seal)
{
    static const char insert[] =
        "INSERT INTO manifest (sequence, transfer_id, channel, hash, signed) VALUES (?1, ?2, ?3, ?4, ?5)";
    static const char update[] = "UPDATE transfer SET state = ?2, sequence = ?3, bytes = ?4 WHERE id = ?1";
    sqlite3_stmt *statement;
    enum status status = db_prepare(ledger->db, insert, &statement);
    if (status != STATUS_OK)
        return status;
    sqlite3_bind_int64(statement, 1, (int64_t)seal->sequence);
    sqlite3_bind_blob(statement, 2, seal->transfer_id, TRANSFER_ID_SIZE, SQLITE_STATIC);
    sqlite3_bind_text(statement, 3, seal->channel, -1, SQLITE_STATIC);
    sqlite3_bind_blob(statement, 4, seal->hash, SHA256_SIZE, SQLITE_STATIC);
    sqlite3_bind_blob64(statement, 5, seal->signed_bytes, seal->signed_size, SQLITE_STATIC);
    status = db_run(ledger->db, statement);
    if (status == STATUS_OK)
        status = db_prepare(ledger->db, update, &statement);
    if (status != STATUS_OK)
        return status;
    sqlite3_bind_blob(statement, 1, seal->transfer_id, TRANSFER_ID_SIZE, SQLITE_STATIC);
    sqlite3_bind_int(statement, 2, LEDGER_SEALED);
    sqlite3_bind_int64(statement, 3, (int64_t)seal->sequence);
    sqlite3_bind_int64(statement, 4, (int64_t)seal->bytes);
    return db_run(ledger->db, statement);
}

enum status ledger_seal(struct ledger *ledger, struct ledger_seal *seals, size_t count)
{
    uint64_t sequence = 0;
    uint8_t hash[SHA256_SIZE];
    enum status status = ledger_begin(ledger);
    if (status != STATUS_OK)
        return status;
    status = newest(ledger, &sequence, hash);
    for (size_t i = 0; i < count && status == STATUS_OK; i++) {
        uint64_t previous = 0;
        status = previous_in_channel(ledger, seals[i].channel, &previous);
        if (status != STATUS_OK)
            break;
        assert(sequence < LIMIT_SEQUENCE);
        seals[i].sequence = ++sequence;
        seals[i].sign(&seals[i], ledger->chain_id, sequence, hash, previous);
        memcpy(hash, seals[i].hash, SHA256_SIZE);
        status = insert_manifest(ledger, &seals[i]);
    }
    return ledger_end(ledger, status);
}

enum status ledger_signed_bytes(struct ledger *ledger, uint64_t sequence, uint8_t **bytes, size_t *size,
                                uint8_t hash[static SHA256_SIZE])
{
    static const char sql[] = "SELECT signed, hash FROM manifest WHERE sequence = ?1";
    sqlite3_stmt *statement;
    pthread_mutex_lock(&ledger->mutex);
    enum status status = db_prepare(ledger->db, sql, &statement);
    if (status == STATUS_OK) {
        sqlite3_bind_int64(statement, 1, (int64_t)sequence);
        status = db_step(ledger->db, statement);
    }
    if (status == STATUS_OK) {
        *size = (size_t)sqlite3_column_bytes(statement, 0);
        if (*size > 0 && sqlite3_column_bytes(statement, 1) == SHA256_SIZE) {
            *bytes = malloc(*size);
            assert(*bytes != NULL);
            memcpy(*bytes, sqlite3_column_blob(statement, 0), *size);
            memcpy(hash, sqlite3_column_blob(statement, 1), SHA256_SIZE);
        } else {
            log_error("the ledger's manifest of sequence %llu is damaged", (unsigned long long)sequence);
            status = STATUS_CORRUPT;
        }
        sqlite3_reset(statement);
    }
    pthread_mutex_unlock(&ledger->mutex);
    return status;
}

void ledger_copy_text(char *out, size_t size, sqlite3_stmt *statement, int column)
{
    const char *text = (const char *)sqlite3_column_text(statement, column);
    snprintf(out, size, "%s", text != NULL ? text : "");
}

bool ledger_read_row(sqlite3_stmt *statement, struct ledger_transfer *transfer)
{
    *transfer = (struct ledger_transfer){0};
    if (sqlite3_column_bytes(statement, 0) != TRANSFER_ID_SIZE)
        return false;
    memcpy(transfer->id, sqlite3_column_blob(statement, 0), TRANSFER_ID_SIZE);
    ledger_copy_text(transfer->channel, sizeof transfer->channel, statement, 1);
    ledger_copy_text(transfer->name, sizeof transfer->name, statement, 2);
    ledger_copy_text(transfer->origin_user, sizeof transfer->origin_user, statement, 3);
    transfer->device = (uint64_t)sqlite3_column_int64(statement, 4);
    transfer->inode = (uint64_t)sqlite3_column_int64(statement, 5);
    transfer->state = (enum ledger_state)sqlite3_column_int(statement, 6);
    transfer->claimed_at_ns = sqlite3_column_int64(statement, 7);
    transfer->finished_at_ns = sqlite3_column_int64(statement, 8);
    transfer->bytes = (uint64_t)sqlite3_column_int64(statement, 9);
    transfer->sequence = (uint64_t)sqlite3_column_int64(statement, 10);
    transfer->in_root = sqlite3_column_int(statement, 11) != 0;
    transfer->mark = (uint64_t)sqlite3_column_int64(statement, 12);
    if (sqlite3_column_bytes(statement, 13) == CHECKSUM128_SIZE)
        memcpy(transfer->fingerprint, sqlite3_column_blob(statement, 13), CHECKSUM128_SIZE);
    else
        transfer->mark = 0;
    transfer->heals = (uint32_t)sqlite3_column_int64(statement, 14);
    transfer->again_at_ns = sqlite3_column_int64(statement, 15);
    return true;
}

enum status ledger_find(struct ledger *ledger, const uint8_t id[static TRANSFER_ID_SIZE],
                        struct ledger_transfer *transfer)
{
    static const char sql[] = LEDGER_COLUMNS "WHERE id = ?1";
    sqlite3_stmt *statement;
    pthread_mutex_lock(&ledger->mutex);
    enum status status = db_prepare(ledger->db, sql, &statement);
    if (status == STATUS_OK) {
        sqlite3_bind_blob(statement, 1, id, TRANSFER_ID_SIZE, SQLITE_STATIC);
        status = db_step(ledger->db, statement);
    }
    if (status == STATUS_OK) {
        if (!ledger_read_row(statement, transfer))
            status = STATUS_CORRUPT;
        sqlite3_reset(statement);
    }
    pthread_mutex_unlock(&ledger->mutex);
    return status;
}

enum status ledger_each(struct ledger *ledger, enum ledger_state state,
                        void (*visit)(const struct ledger_transfer *transfer, void *context), void *context)
{
    static const char sql[] = LEDGER_COLUMNS "WHERE state = ?1 ORDER BY claimed_at_ns, rowid";
    struct ledger_transfer transfer;
    sqlite3_stmt *statement;
    pthread_mutex_lock(&ledger->mutex);
    enum status status = db_prepare(ledger->db, sql, &statement);
    if (status == STATUS_OK)
        sqlite3_bind_int(statement, 1, (int)state);
    while (status == STATUS_OK) {
        status = db_step(ledger->db, statement);
        if (status != STATUS_OK)
            break;
        if (ledger_read_row(statement, &transfer))
            visit(&transfer, context);
    }
    pthread_mutex_unlock(&ledger->mutex);
    return status == STATUS_NOT_FOUND ? STATUS_OK : status;
}

enum status ledger_count_sent(struct ledger *ledger, uint64_t *sent, uint64_t *failed)
{
    static const char sql[] = "SELECT coalesce(sum(state IN (4, 7)), 0) + (SELECT pruned_sent FROM sender),"
                              " coalesce(sum(state = 5), 0) + (SELECT pruned_failed FROM sender) FROM transfer";
    _Static_assert(LEDGER_SENT == 4 && LEDGER_EXPIRED == 7 && LEDGER_FAILED == 5, "the statement names these states");
    sqlite3_stmt *statement;
    pthread_mutex_lock(&ledger->mutex);
    enum status status = db_prepare(ledger->db, sql, &statement);
    if (status == STATUS_OK)
        status = db_step(ledger->db, statement);
    if (status == STATUS_OK) {
        *sent = (uint64_t)sqlite3_column_int64(statement, 0);
        *failed = (uint64_t)sqlite3_column_int64(statement, 1);
        sqlite3_reset(statement);
    }
    pthread_mutex_unlock(&ledger->mutex);
    return status;
}
