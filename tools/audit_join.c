// SPDX-License-Identifier: Apache-2.0
#include "tools/audit.h"

#include <assert.h>
#include <inttypes.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

#include "common/log.h"
#include "common/units.h"
#include "tools/audit_files.h"
#include "tools/command.h"
#include "tools/terminal.h"

/*
 * The logs of both sides beside each other, by chain and sequence, in a temporary database of SQLite's, which lies on
 * disk where it does not fit its cache.
 */
static const char schema[] =
    "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -65536;"
    "CREATE TABLE transfer (chain BLOB, sequence INTEGER, sealed INTEGER DEFAULT 0, sent INTEGER DEFAULT 0,"
    " delivered INTEGER DEFAULT 0, low_digest BLOB, high_digest BLOB, channel TEXT, name TEXT, said TEXT DEFAULT '',"
    " PRIMARY KEY (chain, sequence)) WITHOUT ROWID;"
    "CREATE TABLE written_off (chain BLOB, first INTEGER, last INTEGER);"
    "CREATE INDEX written_off_by_chain ON written_off (chain, first);"
    "BEGIN;";

struct join {
    sqlite3 *db;
    sqlite3_stmt *note, *off;
    const char *side; /* that the log must be of */
    bool wrong_side, failed;
};

static bool prepare(struct join *join, const char *sql, sqlite3_stmt **statement)
{
    if (sqlite3_prepare_v2(join->db, sql, -1, statement, NULL) == SQLITE_OK)
        return true;
    log_error("the temporary database fails: %s; make room in TMPDIR", sqlite3_errmsg(join->db));
    return false;
}

static bool open_join(struct join *join)
{
    *join = (struct join){.db = NULL};
    if (sqlite3_open("", &join->db) != SQLITE_OK || sqlite3_exec(join->db, schema, NULL, NULL, NULL) != SQLITE_OK) {
        log_error("no temporary database can be made: %s; make room in TMPDIR", sqlite3_errmsg(join->db));
        return false;
    }
    return prepare(join,
                   "INSERT INTO transfer (chain, sequence, sealed, sent, delivered, low_digest, high_digest, channel,"
                   " name, said) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) ON CONFLICT DO UPDATE SET"
                   " sealed = max(sealed, excluded.sealed), sent = max(sent, excluded.sent),"
                   " delivered = delivered + excluded.delivered,"
                   " low_digest = coalesce(low_digest, excluded.low_digest),"
                   " high_digest = coalesce(excluded.high_digest, high_digest),"
                   " channel = coalesce(channel, excluded.channel), name = coalesce(name, excluded.name),"
                   " said = CASE excluded.said WHEN '' THEN said ELSE excluded.said END",
                   &join->note) &&
           prepare(join, "INSERT INTO written_off VALUES (?1, ?2, ?3)", &join->off);
}

static void close_join(struct join *join)
{
    sqlite3_finalize(join->note);
    sqlite3_finalize(join->off);
    sqlite3_close(join->db);
}

static void run(struct join *join, sqlite3_stmt *statement)
{
    if (sqlite3_step(statement) != SQLITE_DONE && !join->failed) {
        log_error("the temporary database fails: %s; make room in TMPDIR", sqlite3_errmsg(join->db));
        join->failed = true;
    }
    sqlite3_reset(statement);
    sqlite3_clear_bindings(statement);
}

static void bind_text(sqlite3_stmt *statement, int index, const char *text)
{
    if (text[0] != '\0')
        sqlite3_bind_text(statement, index, text, -1, SQLITE_STATIC);
}

static void visit(void *context, const struct audit_record *record)
{
    struct join *join = context;
    bool low = strcmp(record->side, "low") == 0;
    join->wrong_side |= strcmp(record->side, join->side) != 0;
    if (!record->has_chain || record->sequence == 0 || join->wrong_side || join->failed)
        return;
    sqlite3_int64 sequence = (sqlite3_int64)record->sequence;
    if (record->event == AUDIT_WRITTEN_OFF) {
        uint64_t last = record->last_sequence > record->sequence ? record->last_sequence : record->sequence;
        sqlite3_bind_blob(join->off, 1, record->chain_id, CHAIN_ID_SIZE, SQLITE_STATIC);
        sqlite3_bind_int64(join->off, 2, sequence);
        sqlite3_bind_int64(join->off, 3, (sqlite3_int64)last);
        run(join, join->off);
        return;
    }
    bool sent = record->event == AUDIT_SENT || record->event == AUDIT_REPLAYED;
    bool sealed = sent || record->event == AUDIT_SEALED;
    bool high = record->event == AUDIT_SEEN || record->event == AUDIT_COMPLETED || record->event == AUDIT_VERIFIED ||
                record->event == AUDIT_DELIVERED || record->event == AUDIT_QUARANTINED || record->event == AUDIT_HELD ||
                record->event == AUDIT_RELEASED || record->event == AUDIT_DISCARDED;
    if (low ? !sealed : !high)
        return;
    sqlite3_bind_blob(join->note, 1, record->chain_id, CHAIN_ID_SIZE, SQLITE_STATIC);
    sqlite3_bind_int64(join->note, 2, sequence);
    sqlite3_bind_int(join->note, 3, sealed);
    sqlite3_bind_int(join->note, 4, sent);
    sqlite3_bind_int(join->note, 5, record->event == AUDIT_DELIVERED);
    if (record->has_digest)
        sqlite3_bind_blob(join->note, low ? 6 : 7, record->manifest_hash, SHA256_SIZE, SQLITE_STATIC);
    bind_text(join->note, 8, record->channel);
    bind_text(join->note, 9, record->name);
    sqlite3_bind_text(join->note, 10, low ? "" : record->event_name, -1, SQLITE_STATIC);
    run(join, join->note);
}

static bool read_side(struct join *join, char *argument, const char *side)
{
    struct audit_files files;
    join->side = side;
    if (!audit_files_find(&argument, 1, &files))
        return false;
    bool good = audit_files_each(&files, visit, join);
    audit_files_deinit(&files);
    if (good && join->wrong_side)
        log_error("%s is not an audit log of the %s side", argument, side);
    return good && !join->wrong_side && !join->failed;
}

/* Prints a line for each row of (chain, sequence, channel, name, said); their number. */
static uint64_t list(struct join *join, const char *title, const char *where)
{
    char sql[1024];
    sqlite3_stmt *statement = NULL;
    uint64_t count = 0;
    snprintf(sql, sizeof sql,
             "SELECT hex(chain), sequence, coalesce(channel, ''), coalesce(name, ''), said FROM transfer t WHERE %s"
             " ORDER BY chain, sequence",
             where);
    if (!prepare(join, sql, &statement)) {
        join->failed = true;
        return 0;
    }
    while (sqlite3_step(statement) == SQLITE_ROW) {
        const char *said = (const char *)sqlite3_column_text(statement, 4);
        count++;
        printf("%-22s chain %.8s sequence %lld  ", title, (const char *)sqlite3_column_text(statement, 0),
               (long long)sqlite3_column_int64(statement, 1));
        terminal_print(stdout, (const char *)sqlite3_column_text(statement, 2));
        putchar('/');
        terminal_print(stdout, (const char *)sqlite3_column_text(statement, 3));
        if (said[0] != '\0') {
            printf("  (high side: ");
            terminal_print(stdout, said);
            putchar(')');
        }
        putchar('\n');
    }
    sqlite3_finalize(statement);
    return count;
}

static uint64_t count_of(struct join *join, const char *where)
{
    char sql[512];
    sqlite3_stmt *statement = NULL;
    snprintf(sql, sizeof sql, "SELECT count(*) FROM transfer t WHERE %s", where);
    if (!prepare(join, sql, &statement)) {
        join->failed = true;
        return 0;
    }
    uint64_t count = sqlite3_step(statement) == SQLITE_ROW ? (uint64_t)sqlite3_column_int64(statement, 0) : 0;
    sqlite3_finalize(statement);
    return count;
}

#define IS_OFF  "EXISTS (SELECT 1 FROM written_off w WHERE w.chain = t.chain AND sequence BETWEEN w.first AND w.last)"
#define IS_OURS "chain IN (SELECT chain FROM transfer WHERE sealed > 0)"

static int report(struct join *join)
{
    uint64_t bad = 0;
    bad += list(join, "never sent, delivered", "sealed = 0 AND delivered > 0 AND " IS_OURS);
    bad += list(join, "not what was sent", "sealed > 0 AND low_digest <> high_digest");
    bad += list(join, "delivered repeatedly", "delivered > 1");
    bad += list(join, "not delivered", "sealed > 0 AND sent > 0 AND delivered = 0 AND NOT " IS_OFF);
    (void)list(join, "loss accepted", "sealed > 0 AND delivered = 0 AND " IS_OFF);
    (void)list(join, "not sent yet", "sealed > 0 AND sent = 0 AND delivered = 0 AND NOT " IS_OFF);
    uint64_t delivered = count_of(join, "sealed > 0 AND delivered > 0");
    uint64_t others = count_of(join, "delivered > 0 AND NOT " IS_OURS);
    if (others > 0)
        printf("note       %" PRIu64 " deliveries are of chains that this low side does not have\n", others);
    if (join->failed)
        return EX_IOERR;
    printf("%s     %" PRIu64 " transfer%s %s sent and delivered, %" PRIu64 " %s match\n",
           bad == 0 ? "JOINED" : "FAILED", delivered, units_plural(delivered), delivered == 1 ? "was" : "were", bad,
           bad == 1 ? "doesn't" : "don't");
    return bad == 0 ? EX_OK : EX_DATAERR;
}

int audit_join(int argc, char **argv)
{
    struct join join;
    if (argc != 3)
        return command_usage("audit");
    int code = EX_IOERR;
    if (open_join(&join))
        code = read_side(&join, argv[1], "low") && read_side(&join, argv[2], "high") ? report(&join) : EX_NOINPUT;
    close_join(&join);
    return code;
}
