// SPDX-License-Identifier: Apache-2.0
#include "receiver/ledger_loss.h"

#include "receiver/ledger_private.h"

static enum status insert_range(struct db *db, const struct ledger_write_off *range, const char *actor,
                                const char *reason, int64_t at_ns)
{
    sqlite3_stmt *statement;
    enum status status = db_prepare(db,
                                    "INSERT INTO written_off (chain_id, first, last, actor, reason, at_ns)"
                                    " VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                                    &statement);
    if (status != STATUS_OK)
        return status;
    bind_blob(statement, 1, range->chain_id, CHAIN_ID_SIZE);
    bind_number(statement, 2, range->first);
    bind_number(statement, 3, range->last);
    bind_text(statement, 4, actor);
    bind_text(statement, 5, reason);
    sqlite3_bind_int64(statement, 6, at_ns);
    return db_run(db, statement);
}

static enum status clear_alarms(struct db *db, const uint8_t *chain_id, int64_t at_ns)
{
    sqlite3_stmt *statement;
    enum status status =
        db_prepare(db, "UPDATE alarm SET cleared_ns = ?2 WHERE chain_id = ?1 AND cleared_ns IS NULL", &statement);
    if (status != STATUS_OK)
        return status;
    bind_blob(statement, 1, chain_id, CHAIN_ID_SIZE);
    sqlite3_bind_int64(statement, 2, at_ns);
    return db_run(db, statement);
}

enum status ledger_write_off(struct ledger *ledger, const struct ledger_write_off *ranges, size_t count,
                             const uint8_t (*clear)[CHAIN_ID_SIZE], size_t clear_count, const char *actor,
                             const char *reason, int64_t at_ns)
{
    struct db *db = enter(&ledger->writer);
    enum status status = db_begin(db);
    if (status == STATUS_OK) {
        for (size_t i = 0; i < count && status == STATUS_OK; i++)
            status = insert_range(db, &ranges[i], actor, reason, at_ns);
        for (size_t i = 0; i < clear_count && status == STATUS_OK; i++)
            status = clear_alarms(db, clear[i], at_ns);
        status = finish(db, status);
    }
    leave(&ledger->writer);
    return status;
}

/* Rows that say something else are not ours, and are passed over. */
static bool is_range(uint64_t first, uint64_t last)
{
    return first >= 1 && first <= last && last <= LIMIT_SEQUENCE;
}

enum status ledger_each_written_off(struct ledger *ledger, const uint8_t chain_id[static CHAIN_ID_SIZE],
                                    void (*visit)(uint64_t first, uint64_t last, void *context), void *context)
{
    struct db *db = enter(&ledger->reader);
    sqlite3_stmt *statement;
    enum status status = db_prepare(db,
                                    "SELECT first, last FROM written_off WHERE chain_id = ?1 AND number >"
                                    " ifnull((SELECT branch_written_off FROM chain WHERE chain_id = ?1), 0)"
                                    " OR chain_id = ?1 AND last <="
                                    " (SELECT branch_sequence FROM chain WHERE chain_id = ?1) ORDER BY first",
                                    &statement);
    if (status == STATUS_OK)
        bind_blob(statement, 1, chain_id, CHAIN_ID_SIZE);
    while (status == STATUS_OK && (status = db_step(db, statement)) == STATUS_OK)
        if (is_range(read_number(statement, 0), read_number(statement, 1)))
            visit(read_number(statement, 0), read_number(statement, 1), context);
    leave(&ledger->reader);
    return status == STATUS_NOT_FOUND ? STATUS_OK : status;
}

enum status ledger_store_alarm(struct ledger *ledger, const struct knowledge_alarm *alarm)
{
    struct db *db = enter(&ledger->writer);
    sqlite3_stmt *statement;
    enum status status = db_prepare(db,
                                    "INSERT INTO alarm (sender_id, chain_id, kind, first, last, at_ns)"
                                    " VALUES (?1, ?2, ?3, ?4, ?5, ?6)"
                                    " ON CONFLICT (chain_id, kind) WHERE cleared_ns IS NULL DO UPDATE SET"
                                    " first = min(first, excluded.first), last = max(last, excluded.last)",
                                    &statement);
    if (status == STATUS_OK) {
        bind_number(statement, 1, alarm->sender_id);
        bind_blob(statement, 2, alarm->chain_id, CHAIN_ID_SIZE);
        bind_number(statement, 3, (uint64_t)alarm->kind);
        bind_number(statement, 4, alarm->first);
        bind_number(statement, 5, alarm->last);
        sqlite3_bind_int64(statement, 6, alarm->at_ns);
        status = db_run(db, statement);
    }
    leave(&ledger->writer);
    return status;
}

enum status ledger_clear_alarms(struct ledger *ledger, const uint8_t chain_id[static CHAIN_ID_SIZE], int64_t at_ns)
{
    struct db *db = enter(&ledger->writer);
    enum status status = clear_alarms(db, chain_id, at_ns);
    leave(&ledger->writer);
    return status;
}

enum status ledger_each_alarm(struct ledger *ledger, void (*visit)(const struct knowledge_alarm *alarm, void *context),
                              void *context)
{
    struct db *db = enter(&ledger->reader);
    sqlite3_stmt *statement;
    enum status status = db_prepare(db,
                                    "SELECT sender_id, chain_id, kind, first, last, at_ns FROM alarm"
                                    " WHERE cleared_ns IS NULL ORDER BY number",
                                    &statement);
    while (status == STATUS_OK && (status = db_step(db, statement)) == STATUS_OK) {
        struct knowledge_alarm alarm = {.sender_id = (uint32_t)read_number(statement, 0),
                                        .kind = (enum knowledge_alarm_kind)read_number(statement, 2),
                                        .first = read_number(statement, 3),
                                        .last = read_number(statement, 4),
                                        .at_ns = sqlite3_column_int64(statement, 5)};
        read_blob(statement, 1, alarm.chain_id, CHAIN_ID_SIZE);
        if (is_range(alarm.first, alarm.last))
            visit(&alarm, context);
    }
    leave(&ledger->reader);
    return status == STATUS_NOT_FOUND ? STATUS_OK : status;
}

enum status ledger_roll_back(struct ledger *ledger, const uint8_t chain_id[static CHAIN_ID_SIZE], uint64_t sequence)
{
    struct db *db = enter(&ledger->writer);
    sqlite3_stmt *statement;
    enum status status = db_prepare(db,
                                    "UPDATE chain SET newest_sequence = min(newest_sequence, ?2), told_sequence = 0,"
                                    " settled_sequence = min(settled_sequence, ?2), baseline = min(baseline, ?2),"
                                    " delivered_through = min(delivered_through, ?2), branch_sequence = ?2,"
                                    " branch_number = (SELECT ifnull(max(number), 0) FROM delivery),"
                                    " branch_written_off = (SELECT ifnull(max(number), 0) FROM written_off)"
                                    " WHERE chain_id = ?1",
                                    &statement);
    if (status == STATUS_OK) {
        bind_blob(statement, 1, chain_id, CHAIN_ID_SIZE);
        bind_number(statement, 2, sequence);
        status = db_run(db, statement);
    }
    leave(&ledger->writer);
    return status;
}

enum status ledger_manifest_hash(struct ledger *ledger, const uint8_t chain_id[static CHAIN_ID_SIZE], uint64_t sequence,
                                 uint8_t hash[static SHA256_SIZE])
{
    struct db *db = enter(&ledger->reader);
    sqlite3_stmt *statement;
    enum status status = db_prepare(db,
                                    "SELECT manifest_hash FROM delivery WHERE number = (SELECT max(number)"
                                    " FROM delivery WHERE chain_id = ?1 AND sequence = ?2"
                                    " AND state IN (2, 4, 5, 6))",
                                    &statement);
    if (status == STATUS_OK) {
        bind_blob(statement, 1, chain_id, CHAIN_ID_SIZE);
        bind_number(statement, 2, sequence);
        if ((status = db_step(db, statement)) == STATUS_OK)
            read_blob(statement, 0, hash, SHA256_SIZE);
        sqlite3_reset(statement);
    }
    leave(&ledger->reader);
    return status;
}
