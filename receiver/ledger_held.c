// SPDX-License-Identifier: Apache-2.0
#include "receiver/ledger_held.h"

#include "receiver/ledger_private.h"

#define HELD_COLUMNS LEDGER_DELIVERY_COLUMNS ", state, place, reason, since_ns, first_seen_ns, kept, manifest_bytes"

static void read_held(sqlite3_stmt *statement, struct ledger_held *held)
{
    *held = (struct ledger_held){0};
    ledger_read_delivery(statement, &held->delivery);
    held->state = (enum ledger_held_state)read_number(statement, 10);
    read_text(statement, 11, held->place, sizeof held->place);
    read_text(statement, 12, held->reason, sizeof held->reason);
    held->since_ns = sqlite3_column_int64(statement, 13);
    held->first_seen_ns = sqlite3_column_int64(statement, 14);
    held->kept = (enum ledger_kept)read_number(statement, 15);
    held->manifest_bytes = read_number(statement, 16);
}

static enum status insert_held(struct db *db, const struct ledger_held *held)
{
    sqlite3_stmt *statement;
    enum status status = db_prepare(db,
                                    "INSERT INTO held (number, place, reason, since_ns, first_seen_ns, kept,"
                                    " manifest_bytes) VALUES (last_insert_rowid(), ?1, ?2, ?3, ?4, ?5, ?6)",
                                    &statement);
    if (status != STATUS_OK)
        return status;
    bind_text(statement, 1, held->place);
    bind_text(statement, 2, held->reason);
    sqlite3_bind_int64(statement, 3, held->since_ns);
    sqlite3_bind_int64(statement, 4, held->first_seen_ns);
    bind_number(statement, 5, (uint64_t)held->kept);
    bind_number(statement, 6, held->manifest_bytes);
    return db_run(db, statement);
}

enum status ledger_holding(struct ledger *ledger, const struct ledger_held *held)
{
    struct db *db = enter(&ledger->writer);
    enum status status = db_begin(db);
    if (status == STATUS_OK) {
        status = ledger_insert_intent(db, &held->delivery, LEDGER_HOLDING);
        if (status == STATUS_OK)
            status = insert_held(db, held);
        status = finish(db, status);
    }
    leave(&ledger->writer);
    return status;
}

/* Runs what names one transfer as its parameters 1 and 2. */
static enum status run_for(struct ledger *ledger, const char *sql, uint32_t sender_id, const uint8_t *transfer_id,
                           const struct ledger_delivery *delivery)
{
    struct db *db = enter(&ledger->writer);
    sqlite3_stmt *statement;
    enum status status = db_prepare(db, sql, &statement);
    if (status == STATUS_OK) {
        bind_number(statement, 1, sender_id);
        bind_blob(statement, 2, transfer_id, TRANSFER_ID_SIZE);
        if (delivery != NULL) {
            bind_text(statement, 3, delivery->directory);
            sqlite3_bind_int64(statement, 4, delivery->at_ns);
        }
        status = db_run(db, statement);
    }
    leave(&ledger->writer);
    return status;
}

enum status ledger_releasing(struct ledger *ledger, const struct ledger_held *held)
{
    return run_for(ledger,
                   "UPDATE delivery SET state = 5, directory = ?3, at_ns = ?4"
                   " WHERE sender_id = ?1 AND transfer_id = ?2 AND state IN (4, 5)",
                   held->delivery.sender_id, held->delivery.transfer_id, &held->delivery);
}

enum status ledger_release_failed(struct ledger *ledger, const struct ledger_key *key)
{
    return run_for(ledger,
                   "UPDATE delivery SET state = 4, directory = ''"
                   " WHERE sender_id = ?1 AND transfer_id = ?2 AND state = 5",
                   key->sender_id, key->transfer_id, NULL);
}

enum status ledger_discarded(struct ledger *ledger, const struct ledger_key *key)
{
    return run_for(ledger, "UPDATE delivery SET state = 6 WHERE sender_id = ?1 AND transfer_id = ?2 AND state = 4",
                   key->sender_id, key->transfer_id, NULL);
}

enum status ledger_each_held(struct ledger *ledger, bool (*visit)(const struct ledger_held *held, void *context),
                             void *context)
{
    struct db *db = enter(&ledger->reader);
    sqlite3_stmt *statement;
    struct ledger_held held;
    enum status status = db_prepare(
        db, "SELECT " HELD_COLUMNS " FROM held JOIN delivery USING (number) ORDER BY held.number", &statement);
    while (status == STATUS_OK && (status = db_step(db, statement)) == STATUS_OK) {
        read_held(statement, &held);
        if (!visit(&held, context)) {
            sqlite3_reset(statement);
            break;
        }
    }
    leave(&ledger->reader);
    return status == STATUS_NOT_FOUND ? STATUS_OK : status;
}

enum status ledger_find_held(struct ledger *ledger, const char *place, struct ledger_held *held)
{
    struct db *db = enter(&ledger->reader);
    sqlite3_stmt *statement;
    enum status status = db_prepare(db,
                                    "SELECT " HELD_COLUMNS " FROM held JOIN delivery USING (number)"
                                    " WHERE place = ?1 ORDER BY held.number DESC LIMIT 1",
                                    &statement);
    if (status == STATUS_OK) {
        bind_text(statement, 1, place);
        if ((status = db_step(db, statement)) == STATUS_OK)
            read_held(statement, held);
        sqlite3_reset(statement);
    }
    leave(&ledger->reader);
    return status;
}

enum status ledger_held_totals(struct ledger *ledger, struct ledger_held_totals *totals)
{
    struct db *db = enter(&ledger->reader);
    sqlite3_stmt *statement;
    *totals = (struct ledger_held_totals){0};
    enum status status =
        db_prepare(db,
                   "SELECT count(*), total(kept = 2), total(iif(kept = 2, bytes + manifest_bytes, 0)),"
                   " total(kept = 1), total(iif(kept = 1, manifest_bytes, 0)), ifnull(min(since_ns), 0)"
                   " FROM held JOIN delivery USING (number)",
                   &statement);
    if (status == STATUS_OK && (status = db_step(db, statement)) == STATUS_OK) {
        totals->count = read_number(statement, 0);
        totals->whole_count = read_number(statement, 1);
        totals->whole_bytes = read_number(statement, 2);
        totals->manifest_count = read_number(statement, 3);
        totals->manifest_bytes = read_number(statement, 4);
        totals->oldest_ns = sqlite3_column_int64(statement, 5);
        sqlite3_reset(statement);
    }
    leave(&ledger->reader);
    return status;
}
