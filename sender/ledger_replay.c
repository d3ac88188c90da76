// SPDX-License-Identifier: Apache-2.0
#include "sender/ledger_replay.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "sender/ledger_private.h"

_Static_assert(LEDGER_REPLAY_WAITING == 1 && LEDGER_REPLAY_RUNNING == 2 && LEDGER_REPLAY_DONE == 3 &&
                   LEDGER_REPLAY_FAILED == 4,
               "the statements name these states");

static const char given_up[] = "was begun too often without getting anywhere; the sender's log may say why";

enum status ledger_request_answer(struct ledger *ledger, const char *id, char **answer)
{
    static const char sql[] = "SELECT answer FROM request WHERE id = ?1";
    sqlite3_stmt *statement;
    *answer = NULL;
    pthread_mutex_lock(&ledger->mutex);
    enum status status = db_prepare(ledger->db, sql, &statement);
    if (status == STATUS_OK) {
        sqlite3_bind_text(statement, 1, id, -1, SQLITE_STATIC);
        status = db_step(ledger->db, statement);
    }
    if (status == STATUS_OK) {
        const char *text = (const char *)sqlite3_column_text(statement, 0);
        *answer = strdup(text != NULL ? text : "{}");
        assert(*answer != NULL);
        sqlite3_reset(statement);
    }
    pthread_mutex_unlock(&ledger->mutex);
    return status;
}

/* Reads "number, sequence, manifest_only, ranges, now, bytes, mark". False when the row is damaged. */
static bool read_replay(sqlite3_stmt *statement, struct ledger_replay *replay)
{
    *replay = (struct ledger_replay){.number = sqlite3_column_int64(statement, 0),
                                     .sequence = (uint64_t)sqlite3_column_int64(statement, 1),
                                     .now = sqlite3_column_int(statement, 4) != 0,
                                     .bytes = (uint64_t)sqlite3_column_int64(statement, 5),
                                     .mark = (uint64_t)sqlite3_column_int64(statement, 6)};
    replay->parts.manifest_only = sqlite3_column_int(statement, 2) != 0;
    return parts_decode(&replay->parts, sqlite3_column_blob(statement, 3), (size_t)sqlite3_column_bytes(statement, 3));
}

/* The one that waits for the transfer and has not begun. */
static enum status find_waiting(struct ledger *ledger, uint64_t sequence, struct ledger_replay *replay)
{
    static const char sql[] = "SELECT number, sequence, manifest_only, ranges, now, bytes, mark FROM replay WHERE"
                              " sequence = ?1 AND state = 1 AND mark = 0 LIMIT 1";
    sqlite3_stmt *statement;
    enum status status = db_prepare(ledger->db, sql, &statement);
    if (status != STATUS_OK)
        return status;
    sqlite3_bind_int64(statement, 1, (int64_t)sequence);
    status = db_step(ledger->db, statement);
    if (status != STATUS_OK)
        return status;
    if (!read_replay(statement, replay))
        status = STATUS_NOT_FOUND; /* a damaged one stands in nobody's way; its turn ends it */
    sqlite3_reset(statement);
    return status;
}

static enum status insert_replay(struct ledger *ledger, const struct ledger_replay *replay, int64_t now_ns,
                                 int64_t *number)
{
    static const char sql[] = "INSERT INTO replay (sequence, manifest_only, ranges, now, bytes, state, added_at_ns)"
                              " VALUES (?1, ?2, ?3, ?4, ?5, 1, ?6)";
    uint8_t ranges[PARTS_ENCODED_SIZE];
    sqlite3_stmt *statement;
    enum status status = db_prepare(ledger->db, sql, &statement);
    if (status != STATUS_OK)
        return status;
    sqlite3_bind_int64(statement, 1, (int64_t)replay->sequence);
    sqlite3_bind_int(statement, 2, replay->parts.manifest_only);
    sqlite3_bind_blob64(statement, 3, ranges, parts_encode(&replay->parts, ranges), SQLITE_STATIC);
    sqlite3_bind_int(statement, 4, replay->now);
    sqlite3_bind_int64(statement, 5, (int64_t)replay->bytes);
    sqlite3_bind_int64(statement, 6, now_ns);
    status = db_run(ledger->db, statement);
    *number = sqlite3_last_insert_rowid(db_handle(ledger->db));
    return status;
}

static enum status widen_replay(struct ledger *ledger, const struct ledger_replay *replay)
{
    static const char sql[] = "UPDATE replay SET manifest_only = ?2, ranges = ?3, now = ?4, bytes = ?5 WHERE number ="
                              " ?1";
    uint8_t ranges[PARTS_ENCODED_SIZE];
    sqlite3_stmt *statement;
    enum status status = db_prepare(ledger->db, sql, &statement);
    if (status != STATUS_OK)
        return status;
    sqlite3_bind_int64(statement, 1, replay->number);
    sqlite3_bind_int(statement, 2, replay->parts.manifest_only);
    sqlite3_bind_blob64(statement, 3, ranges, parts_encode(&replay->parts, ranges), SQLITE_STATIC);
    sqlite3_bind_int(statement, 4, replay->now);
    sqlite3_bind_int64(statement, 5, (int64_t)replay->bytes);
    return db_run(ledger->db, statement);
}

static enum status add_replay(struct ledger *ledger, const char *request_id, const struct ledger_replay *replay,
                              int64_t now_ns)
{
    static const char link[] = "INSERT OR IGNORE INTO request_replay (request_id, number) VALUES (?1, ?2)";
    struct ledger_replay waiting;
    int64_t number = 0;
    enum status status = find_waiting(ledger, replay->sequence, &waiting);
    if (status == STATUS_NOT_FOUND) {
        status = insert_replay(ledger, replay, now_ns, &number);
    } else if (status == STATUS_OK) {
        bool whole = replay->parts.range_count == 0 && !replay->parts.manifest_only;
        parts_merge(&waiting.parts, &replay->parts);
        waiting.now = waiting.now || replay->now;
        waiting.bytes = whole || replay->bytes > waiting.bytes ? replay->bytes : waiting.bytes;
        number = waiting.number;
        status = widen_replay(ledger, &waiting);
    }
    sqlite3_stmt *statement;
    if (status == STATUS_OK)
        status = db_prepare(ledger->db, link, &statement);
    if (status != STATUS_OK)
        return status;
    sqlite3_bind_text(statement, 1, request_id, -1, SQLITE_STATIC);
    sqlite3_bind_int64(statement, 2, number);
    return db_run(ledger->db, statement);
}

enum status ledger_request_take(struct ledger *ledger, const struct ledger_request *request, int64_t now_ns)
{
    static const char sql[] = "INSERT INTO request (id, requester, made_at_ns, taken_at_ns, what, answer) VALUES (?1,"
                              " ?2, ?3, ?4, ?5, ?6)";
    sqlite3_stmt *statement;
    enum status status = ledger_begin(ledger);
    if (status != STATUS_OK)
        return status;
    status = db_prepare(ledger->db, sql, &statement);
    if (status == STATUS_OK) {
        sqlite3_bind_text(statement, 1, request->id, -1, SQLITE_STATIC);
        sqlite3_bind_text(statement, 2, request->requester, -1, SQLITE_STATIC);
        sqlite3_bind_int64(statement, 3, request->made_at_ns);
        sqlite3_bind_int64(statement, 4, now_ns);
        sqlite3_bind_text(statement, 5, request->what, -1, SQLITE_STATIC);
        sqlite3_bind_text(statement, 6, request->answer, -1, SQLITE_STATIC);
        status = db_run(ledger->db, statement);
    }
    for (size_t i = 0; i < request->replay_count && status == STATUS_OK; i++)
        status = add_replay(ledger, request->id, &request->replays[i], now_ns);
    return ledger_end(ledger, status);
}

enum status ledger_replay_restart(struct ledger *ledger)
{
    static const char sql[] = "UPDATE replay SET state = 1 WHERE state = 2";
    sqlite3_stmt *statement;
    enum status status = ledger_begin(ledger);
    if (status != STATUS_OK)
        return status;
    status = db_prepare(ledger->db, sql, &statement);
    if (status == STATUS_OK)
        status = db_run(ledger->db, statement);
    return ledger_end(ledger, status);
}

static enum status end_replay(struct ledger *ledger, int64_t number, enum ledger_replay_state state,
                              const char *message, int64_t now_ns)
{
    static const char end[] = "UPDATE replay SET state = ?2, message = ?3, finished_at_ns = ?4 WHERE number = ?1";
    static const char count[] = "UPDATE transfer SET replays = replays + 1, again_at_ns = ?2 WHERE sequence = (SELECT"
                                " sequence FROM replay WHERE number = ?1)";
    sqlite3_stmt *statement;
    enum status status = db_prepare(ledger->db, end, &statement);
    if (status != STATUS_OK)
        return status;
    sqlite3_bind_int64(statement, 1, number);
    sqlite3_bind_int(statement, 2, (int)state);
    sqlite3_bind_text(statement, 3, message != NULL ? message : "", -1, SQLITE_STATIC);
    sqlite3_bind_int64(statement, 4, now_ns);
    status = db_run(ledger->db, statement);
    if (status != STATUS_OK || state != LEDGER_REPLAY_DONE)
        return status;
    status = db_prepare(ledger->db, count, &statement);
    if (status != STATUS_OK)
        return status;
    sqlite3_bind_int64(statement, 1, number);
    sqlite3_bind_int64(statement, 2, now_ns);
    return db_run(ledger->db, statement);
}

/* Picks the next one and how often it has begun; the mutex is held. */
static enum status pick(struct ledger *ledger, bool now, struct ledger_replay *replay, int *attempts)
{
    static const char sql[] = "SELECT number, sequence, manifest_only, ranges, now, bytes, mark, attempts FROM replay"
                              " WHERE state = 1 AND now = ?1 ORDER BY number LIMIT 1";
    sqlite3_stmt *statement;
    enum status status = db_prepare(ledger->db, sql, &statement);
    if (status != STATUS_OK)
        return status;
    sqlite3_bind_int(statement, 1, now);
    status = db_step(ledger->db, statement);
    if (status != STATUS_OK)
        return status;
    *attempts = sqlite3_column_int(statement, 7);
    if (!read_replay(statement, replay)) {
        log_error("replay %lld in the ledger is damaged; it is given up", (long long)replay->number);
        *attempts = LEDGER_REPLAY_ATTEMPTS;
    }
    sqlite3_reset(statement);
    return STATUS_OK;
}

enum status ledger_replay_begin(struct ledger *ledger, bool now, int64_t now_ns, struct ledger_replay *replay,
                                bool *is_given_up)
{
    static const char sql[] = "UPDATE replay SET state = 2, attempts = attempts + 1 WHERE number = ?1";
    int attempts = 0;
    sqlite3_stmt *statement;
    *is_given_up = false;
    enum status status = ledger_begin(ledger);
    if (status != STATUS_OK)
        return status;
    status = pick(ledger, now, replay, &attempts);
    if (status == STATUS_OK && attempts >= LEDGER_REPLAY_ATTEMPTS) {
        *is_given_up = true;
        status = end_replay(ledger, replay->number, LEDGER_REPLAY_FAILED, given_up, now_ns);
    } else if (status == STATUS_OK) {
        status = db_prepare(ledger->db, sql, &statement);
        if (status == STATUS_OK) {
            sqlite3_bind_int64(statement, 1, replay->number);
            status = db_run(ledger->db, statement);
        }
    }
    if (status != STATUS_NOT_FOUND)
        return ledger_end(ledger, status);
    status = ledger_end(ledger, STATUS_OK);
    return status == STATUS_OK ? STATUS_NOT_FOUND : status;
}

enum status ledger_replay_mark(struct ledger *ledger, int64_t number, uint64_t mark)
{
    static const char sql[] = "UPDATE replay SET mark = ?2, attempts = 0 WHERE number = ?1 AND state = 2";
    sqlite3_stmt *statement;
    enum status status = ledger_begin(ledger);
    if (status != STATUS_OK)
        return status;
    status = db_prepare(ledger->db, sql, &statement);
    if (status == STATUS_OK) {
        sqlite3_bind_int64(statement, 1, number);
        sqlite3_bind_int64(statement, 2, (int64_t)mark);
        status = db_run(ledger->db, statement);
    }
    return ledger_end(ledger, status);
}

enum status ledger_replay_wait(struct ledger *ledger, int64_t number)
{
    static const char sql[] = "UPDATE replay SET state = 1, attempts = max(attempts - 1, 0) WHERE number = ?1";
    sqlite3_stmt *statement;
    enum status status = ledger_begin(ledger);
    if (status != STATUS_OK)
        return status;
    status = db_prepare(ledger->db, sql, &statement);
    if (status == STATUS_OK) {
        sqlite3_bind_int64(statement, 1, number);
        status = db_run(ledger->db, statement);
    }
    return ledger_end(ledger, status);
}

enum status ledger_replay_end(struct ledger *ledger, int64_t number, enum ledger_replay_state state,
                              const char *message, int64_t now_ns)
{
    assert(state == LEDGER_REPLAY_DONE || state == LEDGER_REPLAY_FAILED);
    enum status status = ledger_begin(ledger);
    if (status != STATUS_OK)
        return status;
    return ledger_end(ledger, end_replay(ledger, number, state, message, now_ns));
}

enum status ledger_replay_is_due(struct ledger *ledger, uint64_t sequence, bool *due)
{
    static const char sql[] = "SELECT EXISTS (SELECT 1 FROM replay WHERE sequence = ?1 AND state IN (1, 2))";
    sqlite3_stmt *statement;
    *due = true;
    pthread_mutex_lock(&ledger->mutex);
    enum status status = db_prepare(ledger->db, sql, &statement);
    if (status == STATUS_OK) {
        sqlite3_bind_int64(statement, 1, (int64_t)sequence);
        status = db_step(ledger->db, statement);
    }
    if (status == STATUS_OK) {
        *due = sqlite3_column_int(statement, 0) != 0;
        sqlite3_reset(statement);
    }
    pthread_mutex_unlock(&ledger->mutex);
    return status;
}

static enum status summarize_replays(struct ledger *ledger, struct ledger_replay_summary *summary)
{
    static const char totals[] = "SELECT coalesce(sum(state = 1), 0), coalesce(sum(state = 1 AND now), 0),"
                                 " coalesce(sum(iif(state = 1, bytes, 0)), 0), coalesce(sum(state = 3), 0),"
                                 " coalesce(sum(state = 4), 0) FROM replay";
    static const char due[] = "SELECT DISTINCT sequence FROM replay WHERE state IN (1, 2) ORDER BY sequence DESC"
                              " LIMIT 1024";
    _Static_assert(LEDGER_REPLAYS_SHOWN == 1024, "the statement names the limit");
    sqlite3_stmt *statement;
    enum status status = db_prepare(ledger->db, totals, &statement);
    if (status == STATUS_OK)
        status = db_step(ledger->db, statement);
    if (status != STATUS_OK)
        return status;
    summary->waiting = (uint64_t)sqlite3_column_int64(statement, 0);
    summary->waiting_now = (uint64_t)sqlite3_column_int64(statement, 1);
    summary->waiting_bytes = (uint64_t)sqlite3_column_int64(statement, 2);
    summary->done_total = (uint64_t)sqlite3_column_int64(statement, 3);
    summary->failed_total = (uint64_t)sqlite3_column_int64(statement, 4);
    sqlite3_reset(statement);
    status = db_prepare(ledger->db, due, &statement);
    while (status == STATUS_OK) {
        status = db_step(ledger->db, statement);
        if (status == STATUS_OK && summary->sequence_count < LEDGER_REPLAYS_SHOWN)
            summary->sequences[summary->sequence_count++] = (uint64_t)sqlite3_column_int64(statement, 0);
    }
    return status == STATUS_NOT_FOUND ? STATUS_OK : status;
}

static enum status summarize_requests(struct ledger *ledger, struct ledger_replay_summary *summary)
{
    static const char sql[] =
        "SELECT q.id, q.requester, q.what, q.made_at_ns, q.taken_at_ns, coalesce(sum(r.state IN (1, 2)), 0),"
        " coalesce(sum(r.state = 3), 0), coalesce(sum(r.state = 4), 0), (SELECT f.message FROM request_replay g JOIN"
        " replay f USING (number) WHERE g.request_id = q.id AND f.state = 4 ORDER BY number DESC LIMIT 1) FROM"
        " (SELECT * FROM request ORDER BY taken_at_ns DESC, rowid DESC LIMIT 10) q LEFT JOIN request_replay l ON"
        " l.request_id = q.id LEFT JOIN replay r USING (number) GROUP BY q.id ORDER BY q.taken_at_ns DESC";
    _Static_assert(LEDGER_REQUESTS_SHOWN == 10, "the statement names the limit");
    sqlite3_stmt *statement;
    enum status status = db_prepare(ledger->db, sql, &statement);
    while (status == STATUS_OK) {
        status = db_step(ledger->db, statement);
        if (status != STATUS_OK || summary->request_count == LEDGER_REQUESTS_SHOWN)
            continue;
        struct ledger_request_shown *shown = &summary->requests[summary->request_count++];
        ledger_copy_text(shown->id, sizeof shown->id, statement, 0);
        ledger_copy_text(shown->requester, sizeof shown->requester, statement, 1);
        ledger_copy_text(shown->what, sizeof shown->what, statement, 2);
        shown->made_at_ns = sqlite3_column_int64(statement, 3);
        shown->taken_at_ns = sqlite3_column_int64(statement, 4);
        shown->waiting = (uint64_t)sqlite3_column_int64(statement, 5);
        shown->done = (uint64_t)sqlite3_column_int64(statement, 6);
        shown->failed = (uint64_t)sqlite3_column_int64(statement, 7);
        ledger_copy_text(shown->message, sizeof shown->message, statement, 8);
    }
    return status == STATUS_NOT_FOUND ? STATUS_OK : status;
}

enum status ledger_replay_summary(struct ledger *ledger, struct ledger_replay_summary *summary)
{
    memset(summary, 0, sizeof *summary);
    pthread_mutex_lock(&ledger->mutex);
    enum status status = summarize_replays(ledger, summary);
    if (status == STATUS_OK)
        status = summarize_requests(ledger, summary);
    pthread_mutex_unlock(&ledger->mutex);
    return status;
}
