// SPDX-License-Identifier: Apache-2.0
#include "tools/audit_files.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/audit_tail.h"
#include "common/log.h"

enum { BUFFER_SIZE = 256 << 10, SETTLE_NS = 500000000 };

struct reader {
    int fd;
    bool skipping; /* the rest of a line that is too long */
    size_t start, end;
    char *buffer; /* [BUFFER_SIZE] */
};

static bool is_segment(const char *name)
{
    size_t prefix = sizeof AUDIT_TAIL_PREFIX - 1, suffix = sizeof AUDIT_TAIL_SUFFIX - 1, length = strlen(name);
    return length > prefix + suffix && strncmp(name, AUDIT_TAIL_PREFIX, prefix) == 0 &&
           strcmp(name + length - suffix, AUDIT_TAIL_SUFFIX) == 0;
}

static void add_path(struct audit_files *files, char *path)
{
    assert(path != NULL);
    files->paths = reallocarray(files->paths, files->count + 1, sizeof *files->paths);
    assert(files->paths != NULL);
    files->paths[files->count++] = path;
}

static char *join(const char *directory, const char *name)
{
    char *path = NULL;
    int length = asprintf(&path, "%s/%s", directory, name);
    assert(length > 0);
    return path;
}

static int only_segments(const struct dirent *entry)
{
    return is_segment(entry->d_name);
}

/* Number of the directory's files; -1 with errno when it can't be read. */
static int add_directory(struct audit_files *files, const char *directory)
{
    struct dirent **entries = NULL;
    int count = scandir(directory, &entries, only_segments, alphasort);
    for (int i = 0; i < count; i++) {
        add_path(files, join(directory, entries[i]->d_name));
        free(entries[i]);
    }
    free(entries);
    if (count > 0 && files->key == NULL) {
        files->key = join(directory, "audit.pub");
        if (access(files->key, F_OK) != 0) {
            free(files->key);
            files->key = NULL;
        }
    }
    return count;
}

static bool add_argument(struct audit_files *files, const char *argument)
{
    struct stat meta;
    if (stat(argument, &meta) != 0) {
        log_error("%s: %s", argument, strerror(errno));
        return false;
    }
    if (!S_ISDIR(meta.st_mode)) {
        add_path(files, strdup(argument));
        return true;
    }
    char *inner = join(argument, "audit");
    int count = add_directory(files, argument);
    if (count == 0 && stat(inner, &meta) == 0)
        count = add_directory(files, inner);
    if (count < 0)
        log_error("%s: %s", argument, strerror(errno));
    if (count == 0)
        log_error("%s holds no audit log (audit-*.jsonl)", argument);
    free(inner);
    return count > 0;
}

bool audit_files_find(char *const arguments[], size_t count, struct audit_files *files)
{
    *files = (struct audit_files){.count = 0};
    for (size_t i = 0; i < count; i++) {
        if (!add_argument(files, arguments[i])) {
            audit_files_deinit(files);
            return false;
        }
    }
    return true;
}

void audit_files_deinit(struct audit_files *files)
{
    for (size_t i = 0; i < files->count; i++)
        free(files->paths[i]);
    free(files->paths);
    free(files->key);
    *files = (struct audit_files){.count = 0};
}

bool audit_files_key(const struct audit_files *files, const char *key_file, struct signature_public *key, bool *known)
{
    char reason[256];
    const char *file = key_file != NULL ? key_file : files->key;
    *known = file != NULL;
    if (file == NULL || signature_public_load(file, key, reason) == STATUS_OK)
        return true;
    log_error("%s", reason);
    return false;
}

static bool refill(struct reader *reader, bool *end)
{
    memmove(reader->buffer, reader->buffer + reader->start, reader->end - reader->start);
    reader->end -= reader->start;
    reader->start = 0;
    ssize_t got;
    do {
        got = read(reader->fd, reader->buffer + reader->end, BUFFER_SIZE - reader->end);
    } while (got < 0 && errno == EINTR);
    *end = got == 0;
    reader->end += got > 0 ? (size_t)got : 0;
    return got >= 0;
}

/* The next line, or the beginning of one that is too long; *size is 0 at the end. False with errno. */
static bool next_line(struct reader *reader, char **line, size_t *size)
{
    bool end = false, waited = false;
    *size = 0;
    for (;;) {
        char *start = reader->buffer + reader->start;
        size_t left = reader->end - reader->start;
        char *newline = memchr(start, '\n', left);
        size_t length = newline != NULL ? (size_t)(newline + 1 - start) : left;
        if (reader->skipping) {
            reader->start += length;
            reader->skipping = newline == NULL && !end;
            if (end)
                return true;
        } else if (newline != NULL || length > AUDIT_LINE_SIZE || (end && waited)) {
            *line = start;
            *size = length > AUDIT_LINE_SIZE ? AUDIT_LINE_SIZE : length;
            reader->start += length;
            reader->skipping = newline == NULL && length > AUDIT_LINE_SIZE;
            return true;
        }
        if (end && reader->end == reader->start)
            return true;
        if (end) {
            /* Half a line: torn, or being written just now. */
            nanosleep(&(struct timespec){.tv_nsec = SETTLE_NS}, NULL);
            waited = true;
        }
        if ((reader->skipping || memchr(reader->buffer + reader->start, '\n', reader->end - reader->start) == NULL) &&
            !refill(reader, &end))
            return false;
    }
}

static bool open_file(const char *path, struct reader *reader)
{
    reader->fd = open(path, O_RDONLY | O_CLOEXEC);
    reader->start = reader->end = 0;
    reader->skipping = false;
    if (reader->fd >= 0)
        return true;
    log_error("%s: %s", path, strerror(errno));
    return false;
}

/* The first record of a file; false when that is none. */
static bool peek(const char *path, char *buffer, struct audit_record *record)
{
    struct reader reader = {.buffer = buffer};
    char *line = NULL;
    size_t size = 0;
    if (!open_file(path, &reader))
        return false;
    bool found = next_line(&reader, &line, &size) && line != NULL && audit_parse(line, size, record);
    close(reader.fd);
    return found;
}

static bool read_file(const char *path, struct reader *reader, struct audit_check *check, struct audit_record *record,
                      void (*visit)(void *context, const struct audit_record *record), void *context)
{
    char *line;
    size_t size;
    if (!open_file(path, reader))
        return false;
    bool good;
    while ((good = next_line(reader, &line, &size)) && size > 0)
        if (audit_check_line(check, line, size, record) && visit != NULL)
            visit(context, record);
    if (!good)
        log_error("%s: %s", path, strerror(errno));
    close(reader->fd);
    return good;
}

bool audit_files_read(const struct audit_files *files, struct audit_check *check,
                      void (*visit)(void *context, const struct audit_record *record), void *context)
{
    struct reader reader = {.buffer = malloc(BUFFER_SIZE)};
    struct audit_record *record = calloc(2, sizeof *record);
    bool good = true;
    assert(reader.buffer != NULL && record != NULL);
    for (size_t i = 0; i < files->count && good; i++) {
        bool has_next = i + 1 < files->count && peek(files->paths[i + 1], reader.buffer, &record[1]);
        audit_check_file(check, files->paths[i], has_next ? &record[1] : NULL);
        good = read_file(files->paths[i], &reader, check, record, visit, context);
    }
    free(record);
    free(reader.buffer);
    return good;
}

static void ignore_problem(void *context, const char *file, uint64_t line, const char *text)
{
    (void)context, (void)file, (void)line, (void)text;
}

bool audit_files_each(const struct audit_files *files, void (*visit)(void *context, const struct audit_record *record),
                      void *context)
{
    struct signature_public key;
    struct audit_check_result result;
    bool known;
    if (!audit_files_key(files, NULL, &key, &known))
        return false;
    struct audit_check *check = audit_check_create(known ? &key : NULL, NULL, 0, true, ignore_problem, NULL);
    bool good = audit_files_read(files, check, visit, context);
    audit_check_end(check, &result);
    audit_check_destroy(check);
    if (good && result.problems > 0)
        log_warning("this audit log was changed or damaged: run \"diodecast audit verify\" on the directory of %s",
                    files->paths[0]);
    return good;
}
