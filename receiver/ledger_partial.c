// SPDX-License-Identifier: Apache-2.0
#include "receiver/ledger_partial.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "receiver/ledger_private.h"

enum { EXTENT_SIZE = 16 /* stored: two big-endian numbers */ };

void ledger_partial_deinit(struct ledger_partial *partial)
{
    free(partial->manifest);
    free(partial->manifest_held);
    partial->manifest = NULL;
    partial->manifest_held = NULL;
    partial->manifest_size = 0;
    partial->manifest_held_count = 0;
}

/* `?1` and `?2` of the statement are the key. */
static enum status prepare(struct db *db, const char *sql, const struct ledger_key *key, sqlite3_stmt **statement)
{
    enum status status = db_prepare(db, sql, statement);
    if (status != STATUS_OK)
        return status;
    bind_number(*statement, 1, key->sender_id);
    bind_blob(*statement, 2, key->transfer_id, TRANSFER_ID_SIZE);
    return STATUS_OK;
}

static enum status run_for(struct db *db, const char *sql, const struct ledger_key *key)
{
    sqlite3_stmt *statement;
    enum status status = prepare(db, sql, key, &statement);
    return status == STATUS_OK ? db_run(db, statement) : status;
}

/* What is not begun anew only adds to a record: where a failed flush has taken it away, nothing comes back. */
static enum status store_head(struct db *db, const struct ledger_partial *partial, bool anew)
{
    static const char begin[] =
        "INSERT INTO partial (sender_id, transfer_id, announced, channel, name, total_bytes, total_artifacts,"
        "  watermark_epoch, watermarks, first_seen_ns) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)"
        " ON CONFLICT (sender_id, transfer_id) DO UPDATE SET announced = excluded.announced,"
        "  channel = excluded.channel, name = excluded.name, total_bytes = excluded.total_bytes,"
        "  total_artifacts = excluded.total_artifacts, watermark_epoch = excluded.watermark_epoch,"
        "  watermarks = excluded.watermarks, first_seen_ns = excluded.first_seen_ns";
    static const char go_on[] = "UPDATE partial SET announced = ?3, channel = ?4, name = ?5, total_bytes = ?6,"
                                " total_artifacts = ?7, watermark_epoch = ?8, watermarks = ?9, first_seen_ns = ?10"
                                " WHERE sender_id = ?1 AND transfer_id = ?2";
    sqlite3_stmt *statement;
    uint64_t epoch = htobe64(partial->watermark_epoch);
    uint64_t watermarks[LIMIT_LANES];
    for (unsigned i = 0; i < partial->lanes; i++)
        watermarks[i] = htobe64(partial->watermark[i]);
    enum status status = prepare(db, anew ? begin : go_on, &partial->key, &statement);
    if (status != STATUS_OK)
        return status;
    bind_number(statement, 3, partial->announced);
    bind_text(statement, 4, partial->channel);
    bind_text(statement, 5, partial->name);
    bind_number(statement, 6, partial->total_bytes);
    bind_number(statement, 7, partial->total_artifacts);
    bind_blob(statement, 8, &epoch, sizeof epoch);
    bind_blob(statement, 9, watermarks, (int)(partial->lanes * sizeof watermarks[0]));
    sqlite3_bind_int64(statement, 10, partial->first_seen_ns);
    return db_run(db, statement);
}

static enum status store_manifest(struct db *db, const struct ledger_partial *partial)
{
    sqlite3_stmt *statement;
    uint64_t *held = malloc(partial->manifest_held_count * EXTENT_SIZE + 1);
    if (held == NULL)
        return status_from_errno(ENOMEM);
    for (size_t i = 0; i < partial->manifest_held_count; i++) {
        held[2 * i] = htobe64(partial->manifest_held[i].first);
        held[2 * i + 1] = htobe64(partial->manifest_held[i].end);
    }
    enum status status = prepare(db,
                                 "INSERT OR REPLACE INTO partial_manifest (number, held, bytes)"
                                 " SELECT number, ?3, ?4 FROM partial WHERE sender_id = ?1 AND transfer_id = ?2",
                                 &partial->key, &statement);
    if (status == STATUS_OK) {
        bind_blob(statement, 3, held, (int)(partial->manifest_held_count * EXTENT_SIZE));
        bind_blob(statement, 4, partial->manifest, (int)partial->manifest_size);
        status = db_run(db, statement);
        sqlite3_clear_bindings(statement);
    }
    free(held);
    return status;
}

static enum status store_entries(struct db *db, const struct ledger_checkpoint *checkpoint)
{
    sqlite3_stmt *statement;
    enum status status = prepare(db,
                                 "INSERT INTO partial_map (number, entries)"
                                 " SELECT number, ?3 FROM partial WHERE sender_id = ?1 AND transfer_id = ?2",
                                 &checkpoint->partial->key, &statement);
    if (status != STATUS_OK)
        return status;
    bind_blob(statement, 3, checkpoint->entries, (int)checkpoint->entries_size);
    status = db_run(db, statement);
    sqlite3_clear_bindings(statement);
    return status;
}

static enum status apply(struct db *db, const struct ledger_checkpoint *checkpoint)
{
    const struct ledger_partial *partial = checkpoint->partial;
    if (checkpoint->remove)
        return run_for(db, "DELETE FROM partial WHERE sender_id = ?1 AND transfer_id = ?2", &partial->key);
    enum status status = store_head(db, partial, checkpoint->anew);
    if (status == STATUS_OK && checkpoint->anew)
        status = run_for(db,
                         "DELETE FROM partial_map WHERE number ="
                         " (SELECT number FROM partial WHERE sender_id = ?1 AND transfer_id = ?2)",
                         &partial->key);
    if (status == STATUS_OK && partial->manifest != NULL)
        status = store_manifest(db, partial);
    if (status == STATUS_OK && checkpoint->entries != NULL && checkpoint->entries_size > 0)
        status = store_entries(db, checkpoint);
    return status;
}

enum status ledger_partial_record(struct ledger *ledger, const struct ledger_checkpoint checkpoints[], size_t count)
{
    struct db *db = enter(&ledger->writer);
    enum status status = db_begin(db);
    if (status == STATUS_OK) {
        for (size_t i = 0; i < count && status == STATUS_OK; i++)
            status = apply(db, &checkpoints[i]);
        status = finish(db, status);
    }
    leave(&ledger->writer);
    return status;
}

enum status ledger_partial_keys(struct ledger *ledger, struct ledger_key **keys, size_t *count)
{
    struct db *db = enter(&ledger->reader);
    sqlite3_stmt *statement;
    size_t capacity = 0;
    *keys = NULL;
    *count = 0;
    enum status status = db_prepare(db,
                                    "SELECT sender_id, transfer_id FROM partial WHERE NOT EXISTS (SELECT 1 FROM"
                                    " delivery WHERE delivery.sender_id = partial.sender_id AND"
                                    " delivery.transfer_id = partial.transfer_id) ORDER BY number",
                                    &statement);
    while (status == STATUS_OK && (status = db_step(db, statement)) == STATUS_OK) {
        if (*count == capacity) {
            capacity = capacity == 0 ? 16 : 2 * capacity;
            struct ledger_key *grown = realloc(*keys, capacity * sizeof *grown);
            if (grown == NULL) {
                sqlite3_reset(statement);
                status = status_from_errno(ENOMEM);
                break;
            }
            *keys = grown;
        }
        struct ledger_key *key = &(*keys)[(*count)++];
        key->sender_id = (uint32_t)read_number(statement, 0);
        read_blob(statement, 1, key->transfer_id, TRANSFER_ID_SIZE);
    }
    leave(&ledger->reader);
    if (status == STATUS_NOT_FOUND)
        return STATUS_OK;
    free(*keys);
    *keys = NULL;
    *count = 0;
    return status;
}

static bool read_watermarks(sqlite3_stmt *statement, struct ledger_partial *partial)
{
    int size = sqlite3_column_bytes(statement, 6);
    uint64_t value;
    if (size % 8 != 0 || size > LIMIT_LANES * 8)
        return false;
    partial->lanes = (uint16_t)(size / 8);
    for (unsigned i = 0; i < partial->lanes; i++) {
        memcpy(&value, (const uint8_t *)sqlite3_column_blob(statement, 6) + 8 * i, sizeof value);
        partial->watermark[i] = be64toh(value);
    }
    read_blob(statement, 5, &value, sizeof value);
    partial->watermark_epoch = be64toh(value);
    return true;
}

/* Columns 7 and 8; NULL in both when there is no manifest yet. */
static enum status read_manifest(sqlite3_stmt *statement, struct ledger_partial *partial)
{
    int held_size = sqlite3_column_bytes(statement, 7);
    int size = sqlite3_column_bytes(statement, 8);
    if (size == 0)
        return STATUS_OK;
    if (held_size % EXTENT_SIZE != 0 || size > LIMIT_MANIFEST_SIZE + LIMIT_SIGNED_OVERHEAD)
        return STATUS_CORRUPT;
    const uint8_t *held = sqlite3_column_blob(statement, 7);
    partial->manifest_held_count = (size_t)held_size / EXTENT_SIZE;
    partial->manifest_held = calloc(partial->manifest_held_count + 1, sizeof *partial->manifest_held);
    partial->manifest = malloc((size_t)size);
    if (partial->manifest_held == NULL || partial->manifest == NULL)
        return status_from_errno(ENOMEM);
    memcpy(partial->manifest, sqlite3_column_blob(statement, 8), (size_t)size);
    partial->manifest_size = (size_t)size;
    for (size_t i = 0; i < partial->manifest_held_count; i++) {
        uint64_t range[2];
        memcpy(range, held + i * EXTENT_SIZE, EXTENT_SIZE);
        struct extent extent = {be64toh(range[0]), be64toh(range[1])};
        if (extent.first >= extent.end || extent.end > (uint64_t)size)
            return STATUS_CORRUPT;
        partial->manifest_held[i] = extent;
    }
    return STATUS_OK;
}

enum status ledger_partial_load(struct ledger *ledger, const struct ledger_key *key, struct ledger_partial *partial)
{
    struct db *db = enter(&ledger->reader);
    sqlite3_stmt *statement;
    *partial = (struct ledger_partial){.key = *key};
    enum status status = prepare(db,
                                 "SELECT announced, channel, name, total_bytes, total_artifacts, watermark_epoch,"
                                 " watermarks, held, bytes, first_seen_ns FROM partial LEFT JOIN partial_manifest"
                                 " USING (number)"
                                 " WHERE sender_id = ?1 AND transfer_id = ?2",
                                 key, &statement);
    if (status == STATUS_OK && (status = db_step(db, statement)) == STATUS_OK) {
        partial->announced = read_number(statement, 0) != 0;
        read_text(statement, 1, partial->channel, sizeof partial->channel);
        read_text(statement, 2, partial->name, sizeof partial->name);
        partial->total_bytes = read_number(statement, 3);
        partial->total_artifacts = (uint32_t)read_number(statement, 4);
        partial->first_seen_ns = sqlite3_column_int64(statement, 9);
        status = read_watermarks(statement, partial) ? read_manifest(statement, partial) : STATUS_CORRUPT;
        sqlite3_reset(statement);
    }
    leave(&ledger->reader);
    if (status != STATUS_OK)
        ledger_partial_deinit(partial);
    return status;
}

enum status ledger_partial_each(struct ledger *ledger, const struct ledger_key *key,
                                void (*visit)(const uint8_t *entries, size_t size, void *context), void *context)
{
    struct db *db = enter(&ledger->reader);
    sqlite3_stmt *statement;
    enum status status = prepare(db,
                                 "SELECT entries FROM partial_map WHERE number ="
                                 " (SELECT number FROM partial WHERE sender_id = ?1 AND transfer_id = ?2)"
                                 " ORDER BY checkpoint",
                                 key, &statement);
    while (status == STATUS_OK && (status = db_step(db, statement)) == STATUS_OK)
        visit(sqlite3_column_blob(statement, 0), (size_t)sqlite3_column_bytes(statement, 0), context);
    leave(&ledger->reader);
    return status == STATUS_NOT_FOUND ? STATUS_OK : status;
}
