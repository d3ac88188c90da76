// SPDX-License-Identifier: Apache-2.0
#include "common/db.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"

#define FAILURE_INTERVAL_NS (10 * CLOCK_SECOND_NS) /* between two messages of a failure that goes on */

enum { STATEMENT_COUNT = 96, BUSY_TIMEOUT_MS = 10000, PRAGMA_SIZE = 64, COPY_PAGES = 1024 };

struct db {
    sqlite3 *handle;
    char *file;
    size_t statement_count;
    struct log_limit failure_limit; /* of the same failure over and over */
    int failure_code;
    struct {
        const char *sql;
        sqlite3_stmt *statement;
    } statements[STATEMENT_COUNT];
};

/* Logs what SQLite says and turns it into ours. */
static enum status failure(struct db *db, const char *what)
{
    int code = sqlite3_extended_errcode(db->handle);
    int error = sqlite3_system_errno(db->handle);
    uint64_t suppressed;
    if (code != db->failure_code)
        db->failure_limit = (struct log_limit){.interval_ns = FAILURE_INTERVAL_NS};
    db->failure_code = code;
    if (log_limit_pass(&db->failure_limit, clock_monotonic_ns(), &suppressed))
        log_error("%s: %s: %s%s%s", db->file, what, sqlite3_errmsg(db->handle), error != 0 ? ": " : "",
                  error != 0 ? strerror(error) : "");
    errno = error != 0 ? error : EIO;
    switch (code & 0xff) {
    case SQLITE_FULL:
        return STATUS_NO_SPACE;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return STATUS_CORRUPT;
    case SQLITE_CONSTRAINT:
        return STATUS_EXISTS;
    case SQLITE_PERM:
    case SQLITE_AUTH:
    case SQLITE_READONLY:
        return STATUS_DENIED;
    case SQLITE_IOERR:
        return status_from_errno(errno);
    default:
        return STATUS_SYSTEM;
    }
}

static enum status execute(struct db *db, const char *sql, const char *what)
{
    return sqlite3_exec(db->handle, sql, NULL, NULL, NULL) == SQLITE_OK ? STATUS_OK : failure(db, what);
}

/* The single integer that `sql` yields. */
static enum status query_integer(struct db *db, const char *sql, int64_t *value)
{
    sqlite3_stmt *statement = NULL;
    if (sqlite3_prepare_v2(db->handle, sql, -1, &statement, NULL) != SQLITE_OK)
        return failure(db, "can't be read");
    if (sqlite3_step(statement) != SQLITE_ROW) {
        enum status status = failure(db, "can't be read");
        sqlite3_finalize(statement);
        return status;
    }
    *value = sqlite3_column_int64(statement, 0);
    sqlite3_finalize(statement);
    return STATUS_OK;
}

/* Flushes the names in the directory that holds `file`. */
static enum status sync_directory_of(const char *file)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s", file);
    int directory = open(dirname(path), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool synced = directory >= 0 && fsync(directory) == 0;
    int error = errno;
    if (directory >= 0)
        close(directory);
    if (synced)
        return STATUS_OK;
    log_error("%s: its directory can't be flushed: %s", file, strerror(error));
    return status_from_errno(error);
}

/*
 * Makes the file with its mode before SQLite would make it with the umask's. Never opens one that is there: closing a
 * descriptor drops the POSIX locks that another connection of this process holds on the file.
 */
static enum status create_file(const char *file)
{
    int fd = open(file, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0 && errno == EEXIST)
        return STATUS_OK;
    if (fd < 0) {
        int error = errno;
        log_error("%s can't be made: %s", file, strerror(error));
        return error == EACCES || error == EPERM ? STATUS_DENIED : status_from_errno(error);
    }
    close(fd);
    /* SQLite flushes the content; the name is ours to flush. */
    return sync_directory_of(file);
}

/* FILE.vVERSION, the copy of a database as it was before its schema changed. False when the path is too long. */
static bool copy_name(const char *file, unsigned version, char name[static PATH_MAX])
{
    return snprintf(name, PATH_MAX, "%s.v%u", file, version) < PATH_MAX - (int)sizeof ".tmp";
}

/* Copies what is committed; through a connection of its own, because ours holds the lock against writers. */
static bool copy_pages(struct db *db, const char *to)
{
    sqlite3 *source = NULL, *target = NULL;
    sqlite3_backup *backup = NULL;
    int result = sqlite3_open_v2(db->file, &source, SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX, NULL);
    if (result == SQLITE_OK)
        result = sqlite3_open_v2(to, &target, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL);
    if (result == SQLITE_OK && (backup = sqlite3_backup_init(target, "main", source, "main")) == NULL)
        result = sqlite3_errcode(target);
    while (result == SQLITE_OK)
        result = sqlite3_backup_step(backup, COPY_PAGES);
    if (backup != NULL)
        (void)sqlite3_backup_finish(backup);
    if (result != SQLITE_DONE)
        log_error("%s can't be copied to %s: %s; make room, or correct the owner and mode of its directory", db->file,
                  to, sqlite3_errstr(result));
    sqlite3_close(target);
    sqlite3_close(source);
    return result == SQLITE_DONE;
}

/*
 * Keeps the database as it is beside it, durably, before its schema changes. One that is there already is of a
 * migration that was interrupted, or of one that was taken back: what the file holds now is newer.
 */
static enum status keep_copy(struct db *db, unsigned version)
{
    char name[PATH_MAX], temporary[PATH_MAX];
    if (!copy_name(db->file, version, name)) {
        log_error("%s: its path is too long for a copy beside it", db->file);
        return STATUS_LIMIT;
    }
    snprintf(temporary, sizeof temporary, "%.*s.tmp", (int)(sizeof temporary - sizeof ".tmp"), name);
    (void)unlink(temporary);
    int fd = open(temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) {
        int error = errno;
        log_error("%s can't be made: %s; the schema of %s can't change without a copy of it", temporary,
                  strerror(error), db->file);
        return status_from_errno(error);
    }
    bool good = copy_pages(db, temporary);
    if (good && (fsync(fd) != 0 || rename(temporary, name) != 0)) {
        log_error("%s can't be kept: %s", name, strerror(errno));
        good = false;
    }
    close(fd);
    if (!good) {
        (void)unlink(temporary);
        errno = EIO;
        return STATUS_SYSTEM;
    }
    log_notice("%s: its schema goes from version %u on; as it was it stays in %s", db->file, version, name);
    return sync_directory_of(name);
}

/* Runs what leads from `from` to `version`, each script with its new number in one transaction. */
static enum status migrate(struct db *db, uint32_t application_id, const char *const schema[], unsigned from,
                           unsigned version)
{
    char pragma[PRAGMA_SIZE];
    for (unsigned step = from; step < version; step++) {
        enum status status = execute(db, schema[step], "its schema can't be brought up to date");
        if (status != STATUS_OK)
            return status;
    }
    snprintf(pragma, sizeof pragma, "PRAGMA application_id = %d", (int)application_id);
    enum status status = execute(db, pragma, "can't be marked as ours");
    if (status != STATUS_OK)
        return status;
    snprintf(pragma, sizeof pragma, "PRAGMA user_version = %u", version);
    return execute(db, pragma, "its schema version can't be stored");
}

/* A schema of a later release is none that we understand. */
static void say_newer(const struct db *db, int64_t found, unsigned version)
{
    char name[PATH_MAX];
    if (copy_name(db->file, version, name) && access(name, F_OK) == 0)
        log_error(
            "%s was written by a newer release (its schema is %lld, ours %u): install that release; or go back to "
            "the copy from before, without what was recorded since: rm -f '%s-wal' '%s-shm'; cp -p '%s' '%s'",
            db->file, (long long)found, version, db->file, db->file, name, db->file);
    else
        log_error("%s was written by a newer release (its schema is %lld, ours %u), and there is no copy %s.v%u to go "
                  "back to: install that release or restore a backup",
                  db->file, (long long)found, version, db->file, version);
}

/* Checks whose file it is; a fresh one is nobody's, with nothing in it. */
static enum status inspect(struct db *db, uint32_t application_id, unsigned version, bool *fresh, unsigned *found)
{
    int64_t found_id = 0;
    int64_t found_version = 0;
    int64_t objects = 0;
    enum status status = query_integer(db, "PRAGMA application_id", &found_id);
    if (status == STATUS_OK)
        status = query_integer(db, "PRAGMA user_version", &found_version);
    if (status == STATUS_OK)
        status = query_integer(db, "SELECT count(*) FROM sqlite_schema", &objects);
    if (status != STATUS_OK)
        return status;
    *fresh = found_id == 0 && found_version == 0 && objects == 0;
    if (!*fresh && (uint32_t)found_id != application_id) {
        log_error("%s is a database of another program; move it away or correct the configured path", db->file);
        return STATUS_CORRUPT;
    }
    if (found_version < 0 || found_version > (int64_t)version) {
        say_newer(db, found_version, version);
        return STATUS_CORRUPT;
    }
    *found = (unsigned)found_version;
    return STATUS_OK;
}

static enum status set_up(struct db *db, uint32_t application_id, const char *const schema[], unsigned version)
{
    bool fresh = false;
    unsigned found = 0;
    sqlite3_extended_result_codes(db->handle, 1);
    sqlite3_busy_timeout(db->handle, BUSY_TIMEOUT_MS);
    /* Before the first change, so that another program's file stays as it is. */
    enum status status = inspect(db, application_id, version, &fresh, &found);
    if (status == STATUS_OK)
        status = execute(db, "PRAGMA journal_mode = WAL", "can't be opened");
    if (status == STATUS_OK)
        status = execute(db, "PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA temp_store = MEMORY",
                         "can't be set up");
    if (status == STATUS_OK)
        status = db_begin(db);
    if (status != STATUS_OK)
        return status;
    /* Again under the lock: another connection may have been first. */
    status = inspect(db, application_id, version, &fresh, &found);
    if (status == STATUS_OK && !fresh && found < version)
        status = keep_copy(db, found);
    if (status == STATUS_OK && (fresh || found < version))
        status = migrate(db, application_id, schema, found, version);
    if (status == STATUS_OK)
        status = db_commit(db);
    if (status != STATUS_OK)
        db_rollback(db);
    return status;
}

enum status db_open(const char *file, uint32_t application_id, const char *const schema[], unsigned version,
                    struct db **db)
{
    *db = NULL;
    enum status status = create_file(file);
    if (status != STATUS_OK)
        return status;
    struct db *made = calloc(1, sizeof *made);
    char *name = strdup(file);
    if (made == NULL || name == NULL) {
        log_error("%s can't be opened: %s", file, strerror(ENOMEM));
        free(made);
        free(name);
        return status_from_errno(ENOMEM);
    }
    made->file = name;
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX;
    if (sqlite3_open_v2(file, &made->handle, flags, NULL) != SQLITE_OK)
        status = failure(made, "can't be opened");
    else
        status = set_up(made, application_id, schema, version);
    if (status != STATUS_OK) {
        int error = errno;
        db_close(made);
        errno = error;
        return status;
    }
    *db = made;
    return STATUS_OK;
}

void db_close(struct db *db)
{
    if (db == NULL)
        return;
    for (size_t i = 0; i < db->statement_count; i++)
        sqlite3_finalize(db->statements[i].statement);
    int result = sqlite3_close(db->handle);
    assert(result == SQLITE_OK); /* else somebody kept a statement that is not ours */
    (void)result;
    free(db->file);
    free(db);
}

enum status db_begin(struct db *db)
{
    return execute(db, "BEGIN IMMEDIATE", "a transaction can't begin");
}

enum status db_commit(struct db *db)
{
    return execute(db, "COMMIT", "a transaction can't be committed");
}

void db_rollback(struct db *db)
{
    /* Some failures have rolled back already. */
    if (sqlite3_get_autocommit(db->handle) == 0)
        (void)sqlite3_exec(db->handle, "ROLLBACK", NULL, NULL, NULL);
}

enum status db_prepare(struct db *db, const char *sql, sqlite3_stmt **statement)
{
    *statement = NULL;
    for (size_t i = 0; i < db->statement_count; i++) {
        if (db->statements[i].sql != sql)
            continue;
        *statement = db->statements[i].statement;
        sqlite3_reset(*statement);
        sqlite3_clear_bindings(*statement);
        return STATUS_OK;
    }
    assert(db->statement_count < STATEMENT_COUNT);
    sqlite3_stmt *made = NULL;
    if (sqlite3_prepare_v3(db->handle, sql, -1, SQLITE_PREPARE_PERSISTENT, &made, NULL) != SQLITE_OK)
        return failure(db, sql);
    assert(made != NULL);
    db->statements[db->statement_count].sql = sql;
    db->statements[db->statement_count].statement = made;
    db->statement_count++;
    *statement = made;
    return STATUS_OK;
}

enum status db_step(struct db *db, sqlite3_stmt *statement)
{
    int result = sqlite3_step(statement);
    if (result == SQLITE_ROW)
        return STATUS_OK;
    enum status status = result == SQLITE_DONE ? STATUS_NOT_FOUND : failure(db, sqlite3_sql(statement));
    int error = errno;
    sqlite3_reset(statement);
    errno = error;
    return status;
}

enum status db_run(struct db *db, sqlite3_stmt *statement)
{
    enum status status = db_step(db, statement);
    assert(status != STATUS_OK); /* a row where none was meant */
    return status == STATUS_NOT_FOUND ? STATUS_OK : status;
}

sqlite3 *db_handle(struct db *db)
{
    return db->handle;
}
