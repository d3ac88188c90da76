// SPDX-License-Identifier: Apache-2.0
#include "common/audit_log.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/audit_tail.h"
#include "common/clock.h"
#include "common/durable.h"
#include "common/log.h"

enum { PATH_SIZE = 4096, FIRST_BATCH_SIZE = 64 << 10 };

/* The end of the chain. */
struct end {
    uint64_t number; /* of the last record; 0: none */
    uint8_t hash[DIGEST_SIZE];
    uint64_t unsigned_count; /* records behind the newest checkpoint */
};

struct audit_log {
    char directory[PATH_SIZE];
    const char *side;
    uint64_t segment_size;
    int directory_fd; /* locked */
    struct signature_key *key;
    struct digest *digest;

    int fd;           /* the current file; -1: the next batch begins one */
    uint32_t segment; /* its number, or that of the one to begin */
    bool supersedes;  /* the one to begin does */
    uint64_t size;    /* confirmed bytes of it */
    struct end confirmed;

    char *batch;
    size_t batch_size, batch_capacity;
    struct end added;       /* with the batch */
    struct end anchor;      /* newest checkpoint of the batch; number 0: none */
    struct audit_tail tail; /* what opening found */
};

static enum status open_directory(struct audit_log *log)
{
    enum status status = durable_make_directory(AT_FDCWD, log->directory, 0700);
    if (status == STATUS_OK) {
        log->directory_fd = open(log->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        status = log->directory_fd < 0 ? status_from_errno(errno) : STATUS_OK;
    }
    if (status != STATUS_OK) {
        log_error("%s: the audit log's directory can't be made or opened: %s", log->directory, strerror(errno));
        return status;
    }
    if (flock(log->directory_fd, LOCK_EX | LOCK_NB) != 0) {
        log_error("%s: another process writes this audit log; stop it first", log->directory);
        return STATUS_EXISTS;
    }
    return STATUS_OK;
}

/* Without records a key speaks for nothing: half a pair that a crash left is made anew. */
static enum status make_keys(struct audit_log *log, const char *secret, const char *public)
{
    struct signature_public made;
    const char *existing = NULL;
    (void)unlink(secret);
    (void)unlink(public);
    enum status status = signature_generate(secret, public, &existing, &made);
    if (status != STATUS_OK)
        log_error("%s: the audit key can't be made: %s", secret, strerror(errno));
    else
        log_notice("%s: made the key that signs the audit log; keep a copy of %s elsewhere, to check the log against",
                   log->directory, public);
    return status;
}

static enum status load_key(struct audit_log *log, bool has_records)
{
    char secret[PATH_SIZE + 16], public[PATH_SIZE + 16], reason[256];
    snprintf(secret, sizeof secret, "%s/audit.key", log->directory);
    snprintf(public, sizeof public, "%s/audit.pub", log->directory);
    enum status status = signature_key_load(secret, &log->key, reason);
    if (status != STATUS_OK && status != STATUS_DENIED && !has_records) {
        status = make_keys(log, secret, public);
        if (status != STATUS_OK)
            return status;
        status = signature_key_load(secret, &log->key, reason);
    }
    if (status != STATUS_OK) {
        log_error("%s; the audit log can't be signed: bring the key back, or move %s away as it is, so that a new log "
                  "begins",
                  reason, log->directory);
        return status;
    }
    if (access(public, F_OK) != 0 && signature_public_save(signature_key_public(log->key), public) != STATUS_OK)
        log_warning("%s can't be written: %s", public, strerror(errno));
    return STATUS_OK;
}

static void segment_name(uint32_t segment, char name[static AUDIT_TAIL_NAME_SIZE])
{
    snprintf(name, AUDIT_TAIL_NAME_SIZE, AUDIT_TAIL_PREFIX "%08" PRIu32 AUDIT_TAIL_SUFFIX, segment);
}

/* Goes on behind what was found; without a file, the first batch begins one. */
static enum status take_up(struct audit_log *log)
{
    char name[AUDIT_TAIL_NAME_SIZE];
    log->segment = log->tail.segment;
    log->size = log->tail.size;
    log->confirmed = (struct end){.number = log->tail.number, .unsigned_count = log->tail.unsigned_count};
    memcpy(log->confirmed.hash, log->tail.hash, DIGEST_SIZE);
    log->added = log->confirmed;
    if (log->size == 0)
        return STATUS_OK;
    segment_name(log->segment, name);
    log->fd = openat(log->directory_fd, name, O_WRONLY | O_APPEND | O_CLOEXEC | O_NOFOLLOW);
    if (log->fd >= 0)
        return STATUS_OK;
    log_error("%s/%s can't be written: %s", log->directory, name, strerror(errno));
    return status_from_errno(errno);
}

enum status audit_log_open(const char *directory, const char *side, uint64_t segment_size, struct audit_log **out)
{
    struct audit_log *log = calloc(1, sizeof *log);
    assert(log != NULL);
    *out = NULL;
    log->side = side;
    log->segment_size = segment_size;
    log->directory_fd = log->fd = -1;
    log->digest = digest_create();
    log->batch_capacity = FIRST_BATCH_SIZE;
    log->batch = malloc(log->batch_capacity);
    assert(log->batch != NULL);
    snprintf(log->directory, sizeof log->directory, "%s", directory);
    enum status status = open_directory(log);
    if (status == STATUS_OK)
        status = audit_tail_find(log->directory_fd, log->directory, &log->tail);
    if (status == STATUS_OK)
        status = load_key(log, log->tail.number > 0);
    if (status == STATUS_OK)
        status = take_up(log);
    if (status != STATUS_OK) {
        int error = errno;
        audit_log_close(log);
        errno = error;
        return status;
    }
    *out = log;
    return STATUS_OK;
}

void audit_log_close(struct audit_log *log)
{
    if (log == NULL)
        return;
    if (log->fd >= 0)
        close(log->fd);
    if (log->directory_fd >= 0)
        close(log->directory_fd);
    signature_key_destroy(log->key);
    digest_destroy(log->digest);
    audit_tail_deinit(&log->tail);
    free(log->batch);
    free(log);
}

const char *audit_log_repair(const struct audit_log *log)
{
    return log->tail.repair;
}

bool audit_log_was_recorded(const struct audit_log *log, enum audit_event event,
                            const uint8_t transfer_id[static TRANSFER_ID_SIZE])
{
    for (size_t i = 0; i < log->tail.recent_count; i++)
        if (log->tail.recent[i].event == event &&
            memcmp(log->tail.recent[i].transfer_id, transfer_id, TRANSFER_ID_SIZE) == 0)
            return true;
    return false;
}

/* Room for one more line behind the batch. */
static char *line_in_batch(struct audit_log *log)
{
    if (log->batch_capacity - log->batch_size < AUDIT_LINE_SIZE) {
        log->batch_capacity *= 2;
        log->batch = realloc(log->batch, log->batch_capacity);
        assert(log->batch != NULL);
    }
    return log->batch + log->batch_size;
}

static void take_line(struct audit_log *log, size_t size)
{
    digest_update(log->digest, log->batch + log->batch_size, size);
    digest_final(log->digest, log->added.hash);
    log->added.number++;
    log->added.unsigned_count++;
    log->batch_size += size;
}

size_t audit_log_add(struct audit_log *log, const char *body, size_t size)
{
    take_line(log, audit_format_line(log->added.number + 1, body, size, log->added.hash, line_in_batch(log)));
    return log->batch_size;
}

void audit_log_add_checkpoint(struct audit_log *log, int64_t realtime_ns)
{
    take_line(log, audit_format_checkpoint(log->added.number + 1, log->side, realtime_ns, log->added.hash, log->key,
                                           line_in_batch(log)));
    log->added.unsigned_count = 0;
    log->anchor = log->added;
}

static void drop_batch(struct audit_log *log)
{
    log->batch_size = 0;
    log->added = log->confirmed;
    log->anchor.number = 0;
}

/* Nothing that this file may hold beyond what was confirmed counts. */
static void give_up_file(struct audit_log *log)
{
    close(log->fd);
    log->fd = -1;
    log->supersedes = true;
    log->segment++;
    log->size = 0;
}

static enum status write_batch(const struct audit_log *log)
{
    for (size_t at = 0; at < log->batch_size;) {
        ssize_t done = write(log->fd, log->batch + at, log->batch_size - at);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return status_from_errno(done == 0 ? ENOSPC : errno);
        at += (size_t)done;
    }
    return STATUS_OK;
}

static enum status append_batch(struct audit_log *log)
{
    enum status status = write_batch(log);
    if (status == STATUS_OK && fdatasync(log->fd) == 0)
        return STATUS_OK;
    bool flush_failed = status == STATUS_OK;
    int error = errno;
    /* Behind a failed flush this is only for the readers' sake: what it leaves is superseded. */
    if (ftruncate(log->fd, (off_t)log->size) != 0 || flush_failed)
        give_up_file(log);
    return status_from_errno(error);
}

/* A file that was never confirmed holds nothing; its number is used again. */
static enum status begin_file(struct audit_log *log)
{
    char name[AUDIT_TAIL_NAME_SIZE];
    segment_name(log->segment, name);
    log->fd = openat(log->directory_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0640);
    enum status status = log->fd < 0 ? status_from_errno(errno) : write_batch(log);
    if (status == STATUS_OK && (fdatasync(log->fd) != 0 || fsync(log->directory_fd) != 0))
        status = status_from_errno(errno);
    if (status == STATUS_OK) {
        log->supersedes = false;
        return STATUS_OK;
    }
    int error = errno;
    if (log->fd >= 0) {
        close(log->fd);
        log->fd = -1;
        (void)unlinkat(log->directory_fd, name, 0);
    }
    return status_from_errno(error);
}

enum status audit_log_commit(struct audit_log *log)
{
    if (log->batch_size == 0)
        return STATUS_OK;
    enum status status = log->fd >= 0 ? append_batch(log) : begin_file(log);
    if (status == STATUS_OK) {
        char hash[DIGEST_TEXT_SIZE];
        log->size += log->batch_size;
        log->confirmed = log->added;
        digest_text(log->anchor.hash, hash);
        if (log->anchor.number > 0)
            log_notice("audit anchor %" PRIu64 ":%s", log->anchor.number, hash);
    }
    int error = errno;
    drop_batch(log);
    errno = error;
    return status;
}

enum status audit_log_begin(struct audit_log *log, int64_t realtime_ns)
{
    assert(log->batch_size == 0);
    if (log->fd >= 0 && log->size >= log->segment_size) {
        if (log->confirmed.unsigned_count > 0) {
            audit_log_add_checkpoint(log, realtime_ns);
            enum status status = audit_log_commit(log);
            if (status != STATUS_OK)
                return status;
        }
        close(log->fd);
        log->fd = -1;
        log->segment++;
        log->size = 0;
    }
    if (log->fd < 0) {
        char body[AUDIT_BODY_SIZE];
        size_t size = audit_format_segment(log->side, realtime_ns, log->segment, log->supersedes,
                                           signature_key_public(log->key), body);
        (void)audit_log_add(log, body, size);
    }
    return STATUS_OK;
}

uint64_t audit_log_unsigned_count(const struct audit_log *log)
{
    return log->confirmed.unsigned_count;
}

uint64_t audit_log_pending_count(const struct audit_log *log)
{
    return log->added.unsigned_count;
}
