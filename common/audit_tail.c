// SPDX-License-Identifier: Apache-2.0
#include "common/audit_tail.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/audit_log.h"
#include "common/durable.h"
#include "common/log.h"

enum { DIGITS = 8 };

/* The end of one file in memory. */
struct window {
    int fd;
    uint64_t file_size, start; /* offset of bytes[0] */
    char *bytes;
    size_t size;
    size_t good;     /* so many bytes are records that follow each other (or lie before the first whole one) */
    uint64_t number; /* of the last of them; 0: none */
};

static uint32_t segment_of(const char *name)
{
    size_t prefix = sizeof AUDIT_TAIL_PREFIX - 1;
    if (strlen(name) != prefix + DIGITS + sizeof AUDIT_TAIL_SUFFIX - 1 ||
        strncmp(name, AUDIT_TAIL_PREFIX, prefix) != 0 || strcmp(name + prefix + DIGITS, AUDIT_TAIL_SUFFIX) != 0 ||
        strspn(name + prefix, "0123456789") != DIGITS)
        return 0;
    return (uint32_t)strtoul(name + prefix, NULL, 10);
}

/* The highest number of a file; 0: there is none. */
static enum status find_newest(int directory_fd, uint32_t *newest)
{
    int fd = openat(directory_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *stream = fd >= 0 ? fdopendir(fd) : NULL;
    *newest = 0;
    if (stream == NULL) {
        int error = errno;
        if (fd >= 0)
            close(fd);
        return status_from_errno(error);
    }
    for (const struct dirent *entry; (entry = readdir(stream)) != NULL;)
        if (segment_of(entry->d_name) > *newest)
            *newest = segment_of(entry->d_name);
    closedir(stream);
    return STATUS_OK;
}

/* Reads the end from the disk: a cache may hold what a failed flush did not write. */
static enum status read_window(struct window *window)
{
    struct stat meta;
    if (fdatasync(window->fd) != 0 || fstat(window->fd, &meta) != 0)
        return status_from_errno(errno);
    (void)posix_fadvise(window->fd, 0, 0, POSIX_FADV_DONTNEED);
    window->file_size = (uint64_t)meta.st_size;
    window->start = window->file_size > AUDIT_LOG_LOOK_BACK ? window->file_size - AUDIT_LOG_LOOK_BACK : 0;
    window->bytes = malloc((size_t)(window->file_size - window->start) + 1);
    assert(window->bytes != NULL);
    while (window->start + window->size < window->file_size) {
        ssize_t got =
            pread(window->fd, window->bytes + window->size, (size_t)(window->file_size - window->start) - window->size,
                  (off_t)(window->start + window->size));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return status_from_errno(errno);
        if (got == 0)
            break;
        window->size += (size_t)got;
    }
    return STATUS_OK;
}

static void remember(struct audit_tail *tail, const struct audit_record *record)
{
    if (!record->has_transfer)
        return;
    if (tail->recent_count == tail->recent_capacity) {
        tail->recent_capacity = tail->recent_capacity == 0 ? 256 : 2 * tail->recent_capacity;
        tail->recent = reallocarray(tail->recent, tail->recent_capacity, sizeof *tail->recent);
        assert(tail->recent != NULL);
    }
    struct audit_tail_recent *recent = &tail->recent[tail->recent_count++];
    recent->event = record->event;
    memcpy(recent->transfer_id, record->transfer_id, TRANSFER_ID_SIZE);
}

/* Goes over the records as far as they are whole and each follows the one before. */
static void walk(struct window *window, struct audit_tail *tail, uint8_t hash[static DIGEST_SIZE])
{
    struct audit_record *record = malloc(sizeof *record);
    assert(record != NULL);
    tail->unsigned_count = 0;
    if (window->start > 0) {
        const char *newline = memchr(window->bytes, '\n', window->size);
        window->good = newline != NULL ? (size_t)(newline + 1 - window->bytes) : window->size;
    }
    while (window->good < window->size) {
        const char *line = window->bytes + window->good;
        const char *newline = memchr(line, '\n', window->size - window->good);
        size_t size = newline != NULL ? (size_t)(newline + 1 - line) : 0;
        if (newline == NULL || !audit_parse(line, size, record) ||
            (window->number != 0 &&
             (record->number != window->number + 1 || memcmp(record->prev, hash, DIGEST_SIZE) != 0)))
            break;
        window->number = record->number;
        window->good += size;
        tail->unsigned_count = record->event == AUDIT_CHECKPOINT ? 0 : tail->unsigned_count + 1;
        digest_once(line, size, hash);
        remember(tail, record);
    }
    free(record);
}

/* Moves what lies behind the good records out of the file. */
static enum status cut_off(int directory_fd, const char *directory, uint32_t segment, const struct window *window,
                           struct audit_tail *tail)
{
    char name[64];
    uint64_t offset = window->start + window->good;
    snprintf(name, sizeof name, "torn-%08" PRIu32 "-%" PRIu64, segment, offset);
    enum status status =
        durable_write_file(directory_fd, name, window->bytes + window->good, window->size - window->good, 0640);
    if (status == STATUS_OK && (ftruncate(window->fd, (off_t)offset) != 0 || fsync(window->fd) != 0))
        status = status_from_errno(errno);
    if (status != STATUS_OK) {
        log_error("%s: the torn end of file %" PRIu32 " can't be cut off: %s", directory, segment, strerror(errno));
        return status;
    }
    snprintf(tail->repair, sizeof tail->repair,
             "%zu bytes at %" PRIu64 " of file %" PRIu32
             " were no whole record or did not follow the one before; kept as %s",
             window->size - window->good, offset, segment, name);
    log_warning("%s: %s", directory, tail->repair);
    return STATUS_OK;
}

/* Looks at one file; with `mend`, what is not good is cut off. */
static enum status look(int directory_fd, const char *directory, uint32_t segment, bool mend, struct audit_tail *tail,
                        struct window *window)
{
    char name[AUDIT_TAIL_NAME_SIZE];
    snprintf(name, sizeof name, AUDIT_TAIL_PREFIX "%08" PRIu32 AUDIT_TAIL_SUFFIX, segment);
    *window = (struct window){.fd = openat(directory_fd, name, (mend ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NOFOLLOW)};
    enum status status = window->fd < 0 ? status_from_path_errno(errno) : read_window(window);
    if (status != STATUS_OK) {
        log_error("%s/%s can't be read: %s", directory, name, strerror(errno));
        goto cleanup;
    }
    uint8_t hash[DIGEST_SIZE] = {0};
    uint64_t unsigned_before = tail->unsigned_count;
    walk(window, tail, hash);
    if (window->number == 0 && window->start > 0) {
        log_error("%s/%s does not end in records of an audit log: look at it with \"diodecast audit verify\", and move "
                  "%s away as it is, so that a new log begins",
                  directory, name, directory);
        status = STATUS_CORRUPT;
    } else if (!mend) {
        tail->unsigned_count = unsigned_before;
    } else {
        if (window->good < window->size)
            status = cut_off(directory_fd, directory, segment, window, tail);
        tail->number = window->number;
        memcpy(tail->hash, hash, DIGEST_SIZE);
    }

cleanup:
    if (window->fd >= 0)
        close(window->fd);
    free(window->bytes);
    window->bytes = NULL;
    return status;
}

enum status audit_tail_find(int directory_fd, const char *directory, struct audit_tail *tail)
{
    struct window window;
    uint32_t newest;
    *tail = (struct audit_tail){.segment = 1};
    enum status status = find_newest(directory_fd, &newest);
    if (status != STATUS_OK)
        log_error("%s can't be listed: %s", directory, strerror(errno));
    if (status != STATUS_OK || newest == 0)
        return status;
    for (uint32_t segment = newest; segment > 0 && tail->number == 0 && status == STATUS_OK; segment--) {
        status = look(directory_fd, directory, segment, true, tail, &window);
        /* One without a record was being begun: its number is used again. */
        tail->segment = segment;
        tail->size = window.good + window.start;
        if (tail->number != 0 && segment < newest) {
            tail->segment = segment + 1;
            tail->size = 0;
        }
    }
    /* Soon after the rotation to a new file the one before still tells of the last minutes; it may be archived. */
    char before[AUDIT_TAIL_NAME_SIZE];
    snprintf(before, sizeof before, AUDIT_TAIL_PREFIX "%08" PRIu32 AUDIT_TAIL_SUFFIX, tail->segment - 1);
    if (status == STATUS_OK && tail->segment > 1 && tail->size > 0 && tail->size < AUDIT_LOG_LOOK_BACK / 2 &&
        faccessat(directory_fd, before, R_OK, 0) == 0)
        status = look(directory_fd, directory, tail->segment - 1, false, tail, &window);
    return status;
}

void audit_tail_deinit(struct audit_tail *tail)
{
    free(tail->recent);
}
