// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_COMMON_DB_H
#define DIODECAST_COMMON_DB_H

#include <sqlite3.h>
#include <stdint.h>

#include "common/status.h"

/* SQLite: WAL, synchronous=FULL, foreign keys on, one connection per thread. All failures are logged here with the file
 * and SQLite's message. */

struct db;

/*
 * Opens or creates `file` (mode 0600). `schema[0..version)` are the SQL scripts that lead from each version to the
 * next; PRAGMA user_version tells which were applied, application_id guards against a foreign file. Before the schema
 * of an existing database changes it is kept as FILE.vVERSION beside it, durably; an interrupted migration starts
 * again. A newer version than ours is STATUS_CORRUPT, with a message that says how to go back to that copy.
 */
MUST_CHECK enum status db_open(const char *file, uint32_t application_id, const char *const schema[], unsigned version,
                               struct db **db);
void db_close(struct db *db); /* finalizes all statements; NULL allowed */

MUST_CHECK enum status db_begin(struct db *db); /* IMMEDIATE */
MUST_CHECK enum status db_commit(struct db *db);
void db_rollback(struct db *db);

/* A statement prepared once and kept until db_close(); `sql` must be a string literal (its address is the key).
 * Returned reset and unbound. */
MUST_CHECK enum status db_prepare(struct db *db, const char *sql, sqlite3_stmt **statement);
/* Steps once: STATUS_OK = a row is there, STATUS_NOT_FOUND = done. Resets when done or failed. */
MUST_CHECK enum status db_step(struct db *db, sqlite3_stmt *statement);
/* Steps a statement that returns no row. */
MUST_CHECK enum status db_run(struct db *db, sqlite3_stmt *statement);
sqlite3 *db_handle(struct db *db);

#endif
