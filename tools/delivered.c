// SPDX-License-Identifier: Apache-2.0
#include "tools/delivered.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/digest.h"
#include "proto/manifest.h"
#include "tools/beneath.h"
#include "tools/terminal.h"

enum { PROBLEMS_PRINTED = 100, BUFFER_SIZE = 1 << 20 };

/* What the manifest lists, for looking up by path what the disk and SHA256SUMS say. */
struct item {
    char *path;
    enum manifest_kind kind;
    bool summed; /* its line in SHA256SUMS was seen */
    uint8_t sha256[SHA256_SIZE];
};

struct listing {
    struct item *items; /* ascending by path */
    size_t count;
};

struct check {
    struct delivered_report *report;
    struct listing listing;
    struct digest *digest;
    uint8_t *buffer;
    int payload;
};

void delivered_problem(struct delivered_report *report, const char *path, const char *format, ...)
{
    report->problem_count++;
    if (report->problem_count == PROBLEMS_PRINTED + 1)
        puts("problem: more than a hundred; the others are only counted");
    if (report->problem_count > PROBLEMS_PRINTED)
        return;
    va_list arguments;
    fputs("problem: ", stdout);
    if (path != NULL) {
        terminal_print(stdout, path);
        putchar(' ');
    }
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    putchar('\n');
}

static int compare_items(const void *a, const void *b)
{
    return strcmp(((const struct item *)a)->path, ((const struct item *)b)->path);
}

static struct item *find_item(const struct listing *listing, const char *path)
{
    struct item wanted = {.path = (char *)(uintptr_t)path};
    if (listing->count == 0)
        return NULL;
    return bsearch(&wanted, listing->items, listing->count, sizeof(wanted), compare_items);
}

static void make_listing(struct manifest_reader *reader, struct listing *listing)
{
    struct manifest_entry entry;
    size_t capacity = 0;
    manifest_reader_rewind(reader);
    while (manifest_reader_next(reader, &entry)) {
        if (listing->count == capacity) {
            capacity = capacity == 0 ? 64 : 2 * capacity;
            listing->items = realloc(listing->items, capacity * sizeof(*listing->items));
            assert(listing->items != NULL);
        }
        struct item *item = &listing->items[listing->count++];
        *item = (struct item){.path = strdup(entry.path), .kind = entry.kind};
        assert(item->path != NULL);
        memcpy(item->sha256, entry.sha256, SHA256_SIZE);
    }
    if (listing->count > 0)
        qsort(listing->items, listing->count, sizeof(*listing->items), compare_items);
}

static void free_listing(struct listing *listing)
{
    for (size_t i = 0; i < listing->count; i++)
        free(listing->items[i].path);
    free(listing->items);
}

/* Opens what an entry names and looks at its kind; -1 after the problem was told. */
static int open_entry(struct check *check, const struct manifest_entry *entry, int flags, mode_t kind, const char *text,
                      struct stat *info)
{
    int fd = beneath_open(check->payload, entry->path, flags);
    if (fd < 0) {
        if (errno == ENOENT)
            delivered_problem(check->report, entry->path, "is missing");
        else if (errno == ELOOP || errno == ENOTDIR || errno == ENXIO)
            delivered_problem(check->report, entry->path, "is not a %s", text);
        else
            delivered_problem(check->report, entry->path, "can't be opened: %s", strerror(errno));
        return -1;
    }
    if (fstat(fd, info) < 0 || (info->st_mode & S_IFMT) != kind) {
        delivered_problem(check->report, entry->path, "is not a %s", text);
        close(fd);
        return -1;
    }
    return fd;
}

/* Hashes all of `fd`; false with errno on a read error. */
static bool hash_file(struct check *check, int fd, uint8_t out[static SHA256_SIZE], uint64_t *size)
{
    *size = 0;
    digest_reset(check->digest);
    for (;;) {
        ssize_t got = read(fd, check->buffer, BUFFER_SIZE);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return false;
        if (got == 0)
            break;
        digest_update(check->digest, check->buffer, (size_t)got);
        *size += (uint64_t)got;
    }
    digest_final(check->digest, out);
    return true;
}

static void check_file(struct check *check, const struct manifest_entry *entry)
{
    struct stat info;
    /* O_NONBLOCK: a FIFO in the file's place must not hang us. */
    int fd = open_entry(check, entry, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, S_IFREG, "regular file", &info);
    if (fd < 0)
        return;
    uint64_t before = check->report->problem_count;
    if (((info.st_mode & S_IXUSR) != 0) != entry->executable)
        delivered_problem(check->report, entry->path, "%s", entry->executable ? "is not executable" : "is executable");
    uint8_t digest[SHA256_SIZE];
    uint64_t size = 0;
    if ((uint64_t)info.st_size != entry->size) {
        delivered_problem(check->report, entry->path, "has %" PRIu64 " bytes instead of %" PRIu64,
                          (uint64_t)info.st_size, entry->size);
    } else if (posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL), !hash_file(check, fd, digest, &size)) {
        delivered_problem(check->report, entry->path, "can't be read: %s", strerror(errno));
    } else if (size != entry->size || memcmp(digest, entry->sha256, SHA256_SIZE) != 0) {
        delivered_problem(check->report, entry->path, "has another content: its SHA-256 differs");
    }
    close(fd);
    if (check->report->problem_count != before)
        return;
    check->report->artifact_count++;
    check->report->byte_count += entry->size;
}

static void check_directory(struct check *check, const struct manifest_entry *entry)
{
    struct stat info;
    int fd = open_entry(check, entry, O_PATH | O_DIRECTORY | O_NOFOLLOW, S_IFDIR, "directory", &info);
    if (fd >= 0)
        close(fd);
}

static void check_symlink(struct check *check, const struct manifest_entry *entry)
{
    struct stat info;
    char target[LIMIT_PATH_LENGTH + 2];
    int fd = open_entry(check, entry, O_PATH | O_NOFOLLOW, S_IFLNK, "symlink", &info);
    if (fd < 0)
        return;
    ssize_t size = readlinkat(fd, "", target, sizeof(target) - 1);
    target[size > 0 ? size : 0] = '\0';
    if (size < 0 || strcmp(target, entry->target) != 0)
        delivered_problem(check->report, entry->path, "is a symlink to another target");
    close(fd);
}

static void check_entries(struct check *check, struct manifest_reader *reader)
{
    struct manifest_entry entry;
    manifest_reader_rewind(reader);
    while (manifest_reader_next(reader, &entry)) {
        if (entry.kind == MANIFEST_FILE)
            check_file(check, &entry);
        else if (entry.kind == MANIFEST_DIRECTORY)
            check_directory(check, &entry);
        else
            check_symlink(check, &entry);
    }
}

/*
 * Reports what lies under `path` (empty for payload/ itself) and is not listed. Takes `fd`. Only listed directories
 * are entered, so that the manifest bounds the depth.
 */
static void find_extras(struct check *check, int fd, const char *path)
{
    if (fd < 0 && (errno == ENOTDIR || errno == ELOOP || errno == ENOENT))
        return; /* told already: the entry is no directory */
    DIR *directory = fd < 0 ? NULL : fdopendir(fd);
    if (directory == NULL) {
        delivered_problem(check->report, *path == '\0' ? "payload" : path, "can't be listed: %s", strerror(errno));
        if (fd >= 0)
            close(fd);
        return;
    }
    struct dirent *entry;
    while (errno = 0, (entry = readdir(directory)) != NULL) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        char *child = NULL;
        int length = asprintf(&child, "%s%s%s", path, *path == '\0' ? "" : "/", entry->d_name);
        assert(length > 0);
        const struct item *item = find_item(&check->listing, child);
        if (item == NULL)
            delivered_problem(check->report, child, "is not in the manifest");
        else if (item->kind == MANIFEST_DIRECTORY)
            find_extras(check, beneath_open(dirfd(directory), entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW),
                        child);
        free(child);
    }
    if (errno != 0)
        delivered_problem(check->report, *path == '\0' ? "payload" : path, "can't be listed: %s", strerror(errno));
    closedir(directory);
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/*
 * Takes a line of sha256sum(1) apart, in place: 64 hex digits, a space, a space or an asterisk, the name. A leading
 * backslash says that the name's backslashes and newlines are escaped. NULL when it is no such line.
 */
static char *parse_sum(char *line, uint8_t digest[static SHA256_SIZE])
{
    bool escaped = line[0] == '\\';
    char *text = line + (escaped ? 1 : 0);
    for (size_t i = 0; i < SHA256_SIZE; i++) {
        int high = hex_digit(text[2 * i]);
        int low = high < 0 ? -1 : hex_digit(text[2 * i + 1]);
        if (low < 0)
            return NULL;
        digest[i] = (uint8_t)(high << 4 | low);
    }
    text += (size_t)2 * SHA256_SIZE;
    if (text[0] != ' ' || (text[1] != ' ' && text[1] != '*'))
        return NULL;
    char *name = text + 2;
    if (!escaped)
        return name;
    char *out = name;
    for (const char *in = name; *in != '\0'; in++) {
        if (*in != '\\') {
            *out++ = *in;
            continue;
        }
        in++;
        if (*in != '\\' && *in != 'n' && *in != 'r')
            return NULL;
        *out++ = *in == 'n' ? '\n' : *in == 'r' ? '\r' : '\\';
    }
    *out = '\0';
    return name;
}

static void check_sum_line(struct check *check, char *line, uint64_t number)
{
    static const char file[] = "SHA256SUMS";
    uint8_t digest[SHA256_SIZE];
    const char *name = parse_sum(line, digest);
    if (name == NULL) {
        delivered_problem(check->report, file, "line %" PRIu64 " is not one of sha256sum", number);
        return;
    }
    struct item *item = find_item(&check->listing, name);
    if (item == NULL || item->kind != MANIFEST_FILE)
        delivered_problem(check->report, file, "line %" PRIu64 " names a file that is not in the manifest", number);
    else if (item->summed)
        delivered_problem(check->report, file, "line %" PRIu64 " repeats a file", number);
    else if (memcmp(item->sha256, digest, SHA256_SIZE) != 0)
        delivered_problem(check->report, file, "line %" PRIu64 " has another digest than the manifest", number);
    if (item != NULL)
        item->summed = true;
}

static void check_sums(struct check *check, int transfer)
{
    int fd = beneath_open(transfer, "SHA256SUMS", O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
    FILE *stream = fd < 0 ? NULL : fdopen(fd, "r");
    if (stream == NULL) {
        delivered_problem(check->report, "SHA256SUMS", "can't be read: %s", strerror(errno));
        if (fd >= 0)
            close(fd);
        return;
    }
    char *line = NULL;
    size_t capacity = 0;
    ssize_t length;
    for (uint64_t number = 1; (length = getline(&line, &capacity, stream)) >= 0; number++) {
        if (length > 0 && line[length - 1] == '\n')
            line[length - 1] = '\0';
        check_sum_line(check, line, number);
    }
    if (ferror(stream))
        delivered_problem(check->report, "SHA256SUMS", "can't be read");
    for (size_t i = 0; i < check->listing.count; i++)
        if (check->listing.items[i].kind == MANIFEST_FILE && !check->listing.items[i].summed)
            delivered_problem(check->report, check->listing.items[i].path, "has no line in SHA256SUMS");
    free(line);
    fclose(stream);
}

void delivered_check(int dirfd, struct manifest_reader *reader, struct delivered_report *report)
{
    struct check check = {.report = report, .digest = digest_create(), .buffer = malloc(BUFFER_SIZE)};
    assert(check.buffer != NULL);
    make_listing(reader, &check.listing);
    check.payload = beneath_open(dirfd, "payload", O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    if (check.payload < 0) {
        delivered_problem(report, "payload", "is no directory that can be opened: %s", strerror(errno));
    } else {
        check_entries(&check, reader);
        find_extras(&check, fcntl(check.payload, F_DUPFD_CLOEXEC, 0), "");
        close(check.payload);
    }
    check_sums(&check, dirfd);
    free_listing(&check.listing);
    digest_destroy(check.digest);
    free(check.buffer);
}
