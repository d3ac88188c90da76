// SPDX-License-Identifier: Apache-2.0
#include "sender/ledger_again.h"

#include <string.h>

#include "sender/ledger_private.h"
#include "sender/ledger_replay.h"

_Static_assert(LEDGER_SENT == 4 && LEDGER_FAILED == 5 && LEDGER_RETURNED == 6 && LEDGER_EXPIRED == 7,
               "the statements name these states");
_Static_assert(LEDGER_REPLAY_DONE == 3 && LEDGER_REPLAY_FAILED == 4, "the statements name these states");

enum status ledger_next(struct ledger *ledger, uint64_t after, int64_t since_ns, struct ledger_transfer *transfer)
{
    static const char sql[] = LEDGER_COLUMNS "WHERE sequence > ?1 AND (finished_at_ns >= ?2 OR state < 4)"
                                             " ORDER BY sequence LIMIT 1";
    sqlite3_stmt *statement;
    pthread_mutex_lock(&ledger->reader_mutex);
    enum status status = db_prepare(ledger->reader, sql, &statement);
    if (status == STATUS_OK) {
        sqlite3_bind_int64(statement, 1, after < LIMIT_SEQUENCE ? (int64_t)after : (int64_t)LIMIT_SEQUENCE);
        sqlite3_bind_int64(statement, 2, since_ns);
        status = db_step(ledger->reader, statement);
    }
    if (status == STATUS_OK) {
        if (!ledger_read_row(statement, transfer))
            status = STATUS_CORRUPT;
        sqlite3_reset(statement);
    }
    pthread_mutex_unlock(&ledger->reader_mutex);
    return status;
}

/* Calls `visit` for each row of a statement that is bound; the mutex is held. */
static enum status visit_rows(struct ledger *ledger, sqlite3_stmt *statement,
                              void (*visit)(const struct ledger_transfer *transfer, void *context), void *context)
{
    struct ledger_transfer transfer;
    enum status status;
    while ((status = db_step(ledger->db, statement)) == STATUS_OK)
        if (ledger_read_row(statement, &transfer))
            visit(&transfer, context);
    return status == STATUS_NOT_FOUND ? STATUS_OK : status;
}

/* There may be a hundred thousand of them, and it is asked for each minute: so only what is needed is read, by the
 * connection that nobody who seals or claims waits for. */
enum status ledger_each_sent(struct ledger *ledger,
                             void (*visit)(const struct ledger_transfer *transfer, void *context), void *context)
{
    static const char sql[] =
        "SELECT id, channel, finished_at_ns, bytes, sequence FROM transfer WHERE state = 4 ORDER BY finished_at_ns";
    sqlite3_stmt *statement;
    pthread_mutex_lock(&ledger->reader_mutex);
    enum status status = db_prepare(ledger->reader, sql, &statement);
    while (status == STATUS_OK && (status = db_step(ledger->reader, statement)) == STATUS_OK) {
        struct ledger_transfer transfer = {.state = LEDGER_SENT};
        if (sqlite3_column_bytes(statement, 0) != TRANSFER_ID_SIZE)
            continue;
        memcpy(transfer.id, sqlite3_column_blob(statement, 0), TRANSFER_ID_SIZE);
        ledger_copy_text(transfer.channel, sizeof transfer.channel, statement, 1);
        transfer.finished_at_ns = sqlite3_column_int64(statement, 2);
        transfer.bytes = (uint64_t)sqlite3_column_int64(statement, 3);
        transfer.sequence = (uint64_t)sqlite3_column_int64(statement, 4);
        visit(&transfer, context);
    }
    pthread_mutex_unlock(&ledger->reader_mutex);
    return status == STATUS_NOT_FOUND ? STATUS_OK : status;
}

enum status ledger_each_healable(struct ledger *ledger, int64_t since_ns, uint32_t copies, size_t limit,
                                 void (*visit)(const struct ledger_transfer *transfer, void *context), void *context)
{
    static const char sql[] = LEDGER_COLUMNS "WHERE sequence IN (SELECT sequence FROM transfer WHERE state = 4"
                                             " AND finished_at_ns >= ?1 AND heals < ?2 ORDER BY finished_at_ns DESC"
                                             " LIMIT ?3) ORDER BY sequence";
    sqlite3_stmt *statement;
    pthread_mutex_lock(&ledger->mutex);
    enum status status = db_prepare(ledger->db, sql, &statement);
    if (status == STATUS_OK) {
        sqlite3_bind_int64(statement, 1, since_ns);
        sqlite3_bind_int64(statement, 2, copies);
        sqlite3_bind_int64(statement, 3, (int64_t)limit);
        status = visit_rows(ledger, statement, visit, context);
    }
    pthread_mutex_unlock(&ledger->mutex);
    return status;
}

enum status ledger_heal(struct ledger *ledger, uint64_t sequence, int64_t now_ns)
{
    static const char sql[] = "UPDATE transfer SET heals = heals + 1, again_at_ns = ?2 WHERE sequence = ?1";
    sqlite3_stmt *statement;
    enum status status = ledger_begin(ledger);
    if (status != STATUS_OK)
        return status;
    status = db_prepare(ledger->db, sql, &statement);
    if (status == STATUS_OK) {
        sqlite3_bind_int64(statement, 1, (int64_t)sequence);
        sqlite3_bind_int64(statement, 2, now_ns);
        status = db_run(ledger->db, statement);
    }
    return ledger_end(ledger, status);
}

enum status ledger_heal_never(struct ledger *ledger, const uint64_t *sequences, size_t count)
{
    /* More copies than any configuration allows. */
    static const char sql[] = "UPDATE transfer SET heals = 1000000 WHERE sequence = ?1";
    sqlite3_stmt *statement;
    enum status status = count > 0 ? ledger_begin(ledger) : STATUS_OK;
    if (status != STATUS_OK || count == 0)
        return status;
    for (size_t i = 0; i < count && status == STATUS_OK; i++) {
        status = db_prepare(ledger->db, sql, &statement);
        if (status != STATUS_OK)
            break;
        sqlite3_bind_int64(statement, 1, (int64_t)sequences[i]);
        status = db_run(ledger->db, statement);
    }
    return ledger_end(ledger, status);
}

/* Runs a statement that is bound to the time, and the limit where it has one. */
static enum status run_pruning(struct ledger *ledger, const char *sql, int64_t before_ns, size_t limit)
{
    sqlite3_stmt *statement;
    enum status status = db_prepare(ledger->db, sql, &statement);
    if (status != STATUS_OK)
        return status;
    sqlite3_bind_int64(statement, 1, before_ns);
    if (sqlite3_bind_parameter_count(statement) > 1)
        sqlite3_bind_int64(statement, 2, (int64_t)limit);
    return db_run(ledger->db, statement);
}

enum status ledger_prune(struct ledger *ledger, int64_t before_ns, size_t limit, size_t *pruned)
{
    /* The newest manifest of each channel stays: the next one of the channel names it, and the newest of all is among
     * them. The choice is made once and kept while the four statements that follow from it run. */
    static const char choose[] =
        "INSERT INTO temp.pruning SELECT rowid, sequence, state FROM transfer WHERE state IN (5, 6, 7) AND"
        " finished_at_ns > 0 AND finished_at_ns < ?1 AND (sequence IS NULL OR sequence < (SELECT max(m.sequence) FROM"
        " manifest m WHERE m.channel = transfer.channel)) AND NOT EXISTS (SELECT 1 FROM replay WHERE replay.sequence ="
        " transfer.sequence AND replay.state < 3) LIMIT ?2";
    static const char counts[] =
        "UPDATE sender SET pruned_sent = pruned_sent + (SELECT count(*) FROM temp.pruning WHERE"
        " state = 7), pruned_failed = pruned_failed + (SELECT count(*) FROM temp.pruning WHERE"
        " state = 5)";
    static const char manifests[] = "DELETE FROM manifest WHERE sequence IN (SELECT sequence FROM temp.pruning)";
    static const char transfers[] = "DELETE FROM transfer WHERE rowid IN (SELECT row FROM temp.pruning)";
    static const char replays[] = "DELETE FROM replay WHERE number IN (SELECT number FROM replay WHERE state IN (3, 4)"
                                  " AND finished_at_ns < ?1 LIMIT ?2)";
    static const char requests[] = "DELETE FROM request WHERE id IN (SELECT id FROM request WHERE taken_at_ns < ?1 AND"
                                   " NOT EXISTS (SELECT 1 FROM request_replay r JOIN replay USING (number) WHERE"
                                   " r.request_id = request.id AND replay.state < 3) LIMIT ?2)";
    static const char links[] = "DELETE FROM request_replay WHERE request_id NOT IN (SELECT id FROM request)";
    *pruned = 0;
    enum status status = ledger_begin(ledger);
    if (status != STATUS_OK)
        return status;
    if (sqlite3_exec(db_handle(ledger->db),
                     "CREATE TEMP TABLE IF NOT EXISTS pruning (row INTEGER, sequence INTEGER, state INTEGER);"
                     "DELETE FROM temp.pruning",
                     NULL, NULL, NULL) != SQLITE_OK)
        status = STATUS_SYSTEM;
    if (status == STATUS_OK)
        status = run_pruning(ledger, choose, before_ns, limit);
    if (status == STATUS_OK) {
        *pruned = (size_t)sqlite3_changes(db_handle(ledger->db));
        static const char *const follow[] = {counts, manifests, transfers};
        for (size_t i = 0; i < 3 && status == STATUS_OK; i++) {
            sqlite3_stmt *statement;
            status = db_prepare(ledger->db, follow[i], &statement);
            if (status == STATUS_OK)
                status = db_run(ledger->db, statement);
        }
    }
    if (status == STATUS_OK)
        status = run_pruning(ledger, replays, before_ns, limit);
    if (status == STATUS_OK)
        status = run_pruning(ledger, requests, before_ns, limit);
    if (status == STATUS_OK && sqlite3_changes(db_handle(ledger->db)) > 0) {
        sqlite3_stmt *statement;
        status = db_prepare(ledger->db, links, &statement);
        if (status == STATUS_OK)
            status = db_run(ledger->db, statement);
    }
    status = ledger_end(ledger, status);
    if (status != STATUS_OK)
        *pruned = 0;
    return status;
}
