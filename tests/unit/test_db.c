// SPDX-License-Identifier: Apache-2.0
#include "common/db.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

enum { APPLICATION = 0x44434153 };

static const char *const schema[] = {
    "CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT UNIQUE NOT NULL)",
    "ALTER TABLE item ADD COLUMN size INTEGER NOT NULL DEFAULT 7",
};
static const char insert_sql[] = "INSERT INTO item (name) VALUES (?1)";
static const char count_sql[] = "SELECT count(*) FROM item";

struct fixture {
    char folder[32];
    char file[64];
};

static int set_up(void **state)
{
    struct fixture *fixture = calloc(1, sizeof *fixture);
    snprintf(fixture->folder, sizeof fixture->folder, "/tmp/diodecast-db-XXXXXX");
    if (mkdtemp(fixture->folder) == NULL)
        return -1;
    snprintf(fixture->file, sizeof fixture->file, "%s/state.db", fixture->folder);
    *state = fixture;
    return 0;
}

static int tear_down(void **state)
{
    static const char *const suffixes[] = {
        "",        "-wal",        "-shm",        "-journal",       ".v1", ".v1-wal", ".v1-shm",
        ".v1.tmp", ".v1.tmp-wal", ".v1.tmp-shm", ".v1.tmp-journal"};
    struct fixture *fixture = *state;
    for (size_t i = 0; i < sizeof suffixes / sizeof *suffixes; i++) {
        char file[80];
        snprintf(file, sizeof file, "%s%s", fixture->file, suffixes[i]);
        unlink(file);
    }
    rmdir(fixture->folder);
    free(fixture);
    return 0;
}

static struct db *open_version(const char *file, unsigned version)
{
    struct db *db = NULL;
    assert_int_equal(db_open(file, APPLICATION, schema, version, &db), STATUS_OK);
    return db;
}

static enum status insert(struct db *db, const char *name)
{
    sqlite3_stmt *statement = NULL;
    assert_int_equal(db_prepare(db, insert_sql, &statement), STATUS_OK);
    assert_int_equal(sqlite3_bind_text(statement, 1, name, -1, SQLITE_STATIC), SQLITE_OK);
    return db_run(db, statement);
}

static int64_t query(struct db *db, const char *sql)
{
    sqlite3_stmt *statement = NULL;
    assert_int_equal(db_prepare(db, sql, &statement), STATUS_OK);
    assert_int_equal(db_step(db, statement), STATUS_OK);
    int64_t value = sqlite3_column_int64(statement, 0);
    assert_int_equal(db_step(db, statement), STATUS_NOT_FOUND);
    return value;
}

static void a_new_file_is_private_durable_and_ours(void **state)
{
    const struct fixture *fixture = *state;
    mode_t mask = umask(0);
    struct db *db = open_version(fixture->file, 2);
    umask(mask);
    struct stat stat_of;
    assert_int_equal(stat(fixture->file, &stat_of), 0);
    assert_int_equal(stat_of.st_mode & 07777, 0600);
    static const char journal[] = "SELECT journal_mode = 'wal' FROM pragma_journal_mode";
    static const char synchronous[] = "PRAGMA synchronous";
    static const char foreign_keys[] = "PRAGMA foreign_keys";
    static const char application[] = "PRAGMA application_id";
    static const char version[] = "PRAGMA user_version";
    assert_int_equal(query(db, journal), 1);
    assert_int_equal(query(db, synchronous), 2);
    assert_int_equal(query(db, foreign_keys), 1);
    assert_int_equal(query(db, application), APPLICATION);
    assert_int_equal(query(db, version), 2);
    db_close(db);
}

static void an_old_schema_is_brought_up_to_date_and_keeps_its_rows(void **state)
{
    static const char size_sql[] = "SELECT size FROM item WHERE name = 'old'";
    const struct fixture *fixture = *state;
    struct db *db = open_version(fixture->file, 1);
    assert_int_equal(insert(db, "old"), STATUS_OK);
    db_close(db);
    db = open_version(fixture->file, 2);
    assert_int_equal(query(db, size_sql), 7);
    db_close(db);
}

static void copy_file(const char *from, const char *to)
{
    static char bytes[1 << 20];
    int in = open(from, O_RDONLY | O_CLOEXEC), out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    ssize_t size = read(in, bytes, sizeof bytes);
    assert_true(size > 0 && size < (ssize_t)sizeof bytes);
    assert_int_equal(write(out, bytes, (size_t)size), size);
    close(in);
    close(out);
}

static void a_database_is_kept_as_it_was_before_its_schema_changes_and_can_be_gone_back_to(void **state)
{
    static const char size_sql[] = "SELECT size FROM item WHERE name = 'old'";
    const struct fixture *fixture = *state;
    char copy[80];
    struct stat meta;
    snprintf(copy, sizeof copy, "%s.v1", fixture->file);
    struct db *db = open_version(fixture->file, 1);
    assert_int_equal(insert(db, "old"), STATUS_OK);
    db_close(db);
    assert_int_equal(access(copy, F_OK), -1);
    db = open_version(fixture->file, 2);
    assert_int_equal(insert(db, "new"), STATUS_OK);
    db_close(db);
    assert_int_equal(stat(copy, &meta), 0);
    assert_int_equal(meta.st_mode & 07777, 0600);
    /* Back to the release before, which finds what it had left, and forward again from there. */
    assert_int_equal(db_open(fixture->file, APPLICATION, schema, 1, &db), STATUS_CORRUPT);
    copy_file(copy, fixture->file);
    db = open_version(fixture->file, 1);
    assert_int_equal(query(db, count_sql), 1);
    assert_int_equal(insert(db, "between"), STATUS_OK);
    db_close(db);
    db = open_version(fixture->file, 2);
    assert_int_equal(query(db, count_sql), 2);
    assert_int_equal(query(db, size_sql), 7);
    db_close(db);
    db = open_version(copy, 1);
    assert_int_equal(query(db, count_sql), 2);
    db_close(db);
}

static void an_interrupted_migration_starts_again(void **state)
{
    const struct fixture *fixture = *state;
    char copy[80], temporary[80];
    snprintf(copy, sizeof copy, "%s.v1", fixture->file);
    snprintf(temporary, sizeof temporary, "%s.v1.tmp", fixture->file);
    struct db *db = open_version(fixture->file, 1);
    assert_int_equal(insert(db, "old"), STATUS_OK);
    db_close(db);
    /* What a crash leaves: half of a copy, or a whole one and the schema of before. */
    copy_file(fixture->file, temporary);
    assert_int_equal(truncate(temporary, 4096), 0);
    copy_file(temporary, copy);
    db = open_version(fixture->file, 2);
    assert_int_equal(query(db, count_sql), 1);
    db_close(db);
    assert_int_equal(access(temporary, F_OK), -1);
    db = open_version(copy, 1);
    assert_int_equal(query(db, count_sql), 1);
    db_close(db);
}

static void a_schema_does_not_change_where_no_copy_can_be_kept(void **state)
{
    const struct fixture *fixture = *state;
    char copy[80], inside[100];
    snprintf(copy, sizeof copy, "%s.v1", fixture->file);
    snprintf(inside, sizeof inside, "%s/in_the_way", copy);
    struct db *db = open_version(fixture->file, 1);
    db_close(db);
    assert_int_equal(mkdir(copy, 0700), 0);
    assert_int_equal(mkdir(inside, 0700), 0);
    assert_int_not_equal(db_open(fixture->file, APPLICATION, schema, 2, &db), STATUS_OK);
    rmdir(inside);
    rmdir(copy);
    db = open_version(fixture->file, 1);
    db_close(db);
}

static void a_newer_schema_is_refused(void **state)
{
    const struct fixture *fixture = *state;
    struct db *db = open_version(fixture->file, 2);
    db_close(db);
    assert_int_equal(db_open(fixture->file, APPLICATION, schema, 1, &db), STATUS_CORRUPT);
    assert_null(db);
}

static void a_database_of_another_program_is_refused_and_stays_as_it_is(void **state)
{
    const struct fixture *fixture = *state;
    sqlite3 *other = NULL;
    struct db *db = NULL;
    assert_int_equal(sqlite3_open(fixture->file, &other), SQLITE_OK);
    assert_int_equal(sqlite3_exec(other, "CREATE TABLE theirs (a)", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(other);
    assert_int_equal(db_open(fixture->file, APPLICATION, schema, 2, &db), STATUS_CORRUPT);
    assert_int_equal(sqlite3_open(fixture->file, &other), SQLITE_OK);
    sqlite3_stmt *statement = NULL;
    assert_int_equal(sqlite3_prepare_v2(other, "PRAGMA journal_mode", -1, &statement, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(statement), SQLITE_ROW);
    assert_string_equal(sqlite3_column_text(statement, 0), "delete");
    sqlite3_finalize(statement);
    sqlite3_close(other);
}

static void a_file_that_is_no_database_is_corrupt(void **state)
{
    const struct fixture *fixture = *state;
    static const char text[4096] = "this is not a database, however long it may look";
    struct db *db = NULL;
    int fd = open(fixture->file, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(write(fd, text, sizeof text), sizeof text);
    close(fd);
    assert_int_equal(db_open(fixture->file, APPLICATION, schema, 2, &db), STATUS_CORRUPT);
    assert_null(db);
}

static void a_missing_folder_is_a_system_failure(void **state)
{
    (void)state;
    struct db *db = NULL;
    assert_int_equal(db_open("/nonexistent/state.db", APPLICATION, schema, 2, &db), STATUS_SYSTEM);
    assert_null(db);
}

static void a_failed_migration_changes_nothing(void **state)
{
    static const char *const broken[] = {"CREATE TABLE item (id)", "CREATE TABLE other (id); CREATE TABLE item (id)"};
    const struct fixture *fixture = *state;
    struct db *db = NULL;
    assert_int_equal(db_open(fixture->file, APPLICATION, broken, 2, &db), STATUS_SYSTEM);
    db = open_version(fixture->file, 2);
    assert_int_equal(query(db, count_sql), 0);
    db_close(db);
}

static void a_rollback_takes_back_and_a_commit_keeps(void **state)
{
    const struct fixture *fixture = *state;
    struct db *db = open_version(fixture->file, 2);
    assert_int_equal(db_begin(db), STATUS_OK);
    assert_int_equal(insert(db, "a"), STATUS_OK);
    db_rollback(db);
    assert_int_equal(query(db, count_sql), 0);
    assert_int_equal(db_begin(db), STATUS_OK);
    assert_int_equal(insert(db, "b"), STATUS_OK);
    assert_int_equal(insert(db, "c"), STATUS_OK);
    assert_int_equal(db_commit(db), STATUS_OK);
    db_rollback(db); /* without a transaction: nothing */
    db_close(db);
    db = open_version(fixture->file, 2);
    assert_int_equal(query(db, count_sql), 2);
    assert_int_equal(insert(db, "b"), STATUS_EXISTS);
    assert_int_equal(insert(db, "d"), STATUS_OK);
    db_close(db);
}

static void a_statement_is_prepared_once_and_comes_back_unbound(void **state)
{
    const struct fixture *fixture = *state;
    struct db *db = open_version(fixture->file, 2);
    sqlite3_stmt *first = NULL;
    sqlite3_stmt *second = NULL;
    assert_int_equal(db_prepare(db, insert_sql, &first), STATUS_OK);
    sqlite3_bind_text(first, 1, "bound", -1, SQLITE_STATIC);
    assert_int_equal(db_prepare(db, insert_sql, &second), STATUS_OK);
    assert_ptr_equal(first, second);
    assert_int_equal(db_run(db, second), STATUS_EXISTS); /* NOT NULL: the binding is gone */
    db_close(db);
}

static void two_connections_share_the_file(void **state)
{
    const struct fixture *fixture = *state;
    struct db *first = open_version(fixture->file, 2);
    struct db *second = open_version(fixture->file, 2);
    assert_int_equal(insert(first, "a"), STATUS_OK);
    assert_int_equal(insert(second, "b"), STATUS_OK);
    assert_int_equal(query(first, count_sql), 2);
    db_close(second);
    db_close(first);
    db_close(NULL);
}

#define test(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        test(a_new_file_is_private_durable_and_ours),
        test(an_old_schema_is_brought_up_to_date_and_keeps_its_rows),
        test(a_database_is_kept_as_it_was_before_its_schema_changes_and_can_be_gone_back_to),
        test(an_interrupted_migration_starts_again),
        test(a_schema_does_not_change_where_no_copy_can_be_kept),
        test(a_newer_schema_is_refused),
        test(a_database_of_another_program_is_refused_and_stays_as_it_is),
        test(a_file_that_is_no_database_is_corrupt),
        test(a_missing_folder_is_a_system_failure),
        test(a_failed_migration_changes_nothing),
        test(a_rollback_takes_back_and_a_commit_keeps),
        test(a_statement_is_prepared_once_and_comes_back_unbound),
        test(two_connections_share_the_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
