// SPDX-License-Identifier: Apache-2.0
#include "receiver/ledger_beat.h"

#include <endian.h>

#include "receiver/ledger_private.h"

enum status ledger_store_beat(struct ledger *ledger, uint32_t sender_id, const struct vigil_beat *beat)
{
    uint64_t epoch = htobe64(beat->epoch);
    uint64_t number = htobe64(beat->beat);
    struct db *db = enter(&ledger->writer);
    sqlite3_stmt *statement;
    enum status status = db_prepare(db,
                                    "INSERT OR REPLACE INTO beat (sender_id, epoch, beat, time_ns, at_ns)"
                                    " VALUES (?1, ?2, ?3, ?4, ?5)",
                                    &statement);
    if (status == STATUS_OK) {
        bind_number(statement, 1, sender_id);
        bind_blob(statement, 2, &epoch, sizeof epoch);
        bind_blob(statement, 3, &number, sizeof number);
        sqlite3_bind_int64(statement, 4, beat->time_ns);
        sqlite3_bind_int64(statement, 5, beat->at_ns);
        status = db_run(db, statement);
    }
    leave(&ledger->writer);
    return status;
}

enum status ledger_each_beat(struct ledger *ledger,
                             void (*visit)(uint32_t sender_id, const struct vigil_beat *beat, void *context),
                             void *context)
{
    struct db *db = enter(&ledger->reader);
    sqlite3_stmt *statement;
    enum status status = db_prepare(db, "SELECT sender_id, epoch, beat, time_ns, at_ns FROM beat", &statement);
    while (status == STATUS_OK && (status = db_step(db, statement)) == STATUS_OK) {
        struct vigil_beat beat = {.time_ns = sqlite3_column_int64(statement, 3),
                                  .at_ns = sqlite3_column_int64(statement, 4)};
        uint64_t epoch, number;
        read_blob(statement, 1, &epoch, sizeof epoch);
        read_blob(statement, 2, &number, sizeof number);
        beat.epoch = be64toh(epoch);
        beat.beat = be64toh(number);
        visit((uint32_t)read_number(statement, 0), &beat, context);
    }
    leave(&ledger->reader);
    return status == STATUS_NOT_FOUND ? STATUS_OK : status;
}
