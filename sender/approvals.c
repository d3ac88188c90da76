// SPDX-License-Identifier: Apache-2.0
#include "sender/approvals.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/manifest.h"
#include "proto/relpath.h"
#include "proto/statement.h"

bool approvals_name(const char *name, char companion[static LIMIT_COMPONENT_LENGTH + 1])
{
    return snprintf(companion, LIMIT_COMPONENT_LENGTH + 1, "%s" RELPATH_APPROVAL_SUFFIX, name) <=
           LIMIT_COMPONENT_LENGTH;
}

/* Reads the whole file; what becomes shorter or longer meanwhile is no bundle and is found out by that. */
static enum status read_all(int fd, size_t size, uint8_t **bytes)
{
    size_t done = 0;
    *bytes = malloc(size + 1);
    assert(*bytes != NULL);
    while (done < size) {
        ssize_t got = read(fd, *bytes + done, size - done);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return status_from_errno(errno);
        if (got == 0)
            break;
        done += (size_t)got;
    }
    memset(*bytes + done, 0, size - done);
    return STATUS_OK;
}

static enum status refuse(char reason[static 256], const char *what)
{
    snprintf(reason, 256, "%s", what);
    return STATUS_INVALID;
}

static enum status read_file(int fd, struct approvals *approvals, char reason[static 256])
{
    struct stat meta;
    if (fstat(fd, &meta) != 0)
        return status_from_errno(errno);
    if (!S_ISREG(meta.st_mode))
        return refuse(reason, "it is not a regular file");
    if (meta.st_size == 0 || meta.st_size > APPROVAL_FILE_SIZE_MAX)
        return refuse(reason, "it is empty or larger than a bundle of approvals can be");
    enum status status = read_all(fd, (size_t)meta.st_size, &approvals->bytes);
    if (status == STATUS_OK)
        status = approval_decode(approvals->bytes, (size_t)meta.st_size, &approvals->bundle, reason);
    return status;
}

enum status approvals_read(int directory_fd, const char *name, struct approvals *approvals, char reason[static 256])
{
    char companion[LIMIT_COMPONENT_LENGTH + 1];
    *approvals = (struct approvals){0};
    reason[0] = '\0';
    if (!approvals_name(name, companion))
        return STATUS_OK;
    int fd = openat(directory_fd, companion, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
        return STATUS_OK;
    if (fd < 0)
        return errno == ELOOP ? refuse(reason, "it is a symlink") : status_from_errno(errno);
    enum status status = read_file(fd, approvals, reason);
    int error = errno;
    close(fd);
    if (status != STATUS_OK)
        approvals_deinit(approvals);
    errno = error;
    return status;
}

void approvals_deinit(struct approvals *approvals)
{
    free(approvals->bytes);
    *approvals = (struct approvals){0};
}

/* The statement of what is listed, with SHA-256 of zeros. */
static struct manifest_writer *outline_of(const char *channel, const char *name, const struct listing *listing)
{
    struct manifest_writer *writer = manifest_writer_create(channel, name);
    for (size_t i = 0; i < listing->count; i++) {
        const struct listing_entry *from = &listing->entries[i];
        bool is_file = from->kind == MANIFEST_FILE;
        struct manifest_entry entry = {.path = from->path,
                                       .kind = from->kind,
                                       .size = is_file ? from->size : 0,
                                       .executable = is_file && from->executable,
                                       .target = from->kind == MANIFEST_SYMLINK ? from->target : NULL};
        manifest_writer_add(writer, &entry);
    }
    return writer;
}

bool approvals_fit(const struct approvals *approvals, const char *channel, const char *name,
                   const struct listing *listing, char difference[static 256])
{
    struct statement_reader *found = NULL, *signed_one = NULL;
    size_t size = 0;
    if (approvals->bytes == NULL)
        return true;
    struct manifest_writer *writer = outline_of(channel, name, listing);
    const uint8_t *bytes = manifest_writer_statement(writer, &size);
    enum status status = statement_reader_create(bytes, size, &found, difference);
    if (status == STATUS_OK)
        status = statement_reader_create(approvals->bundle.statement, approvals->bundle.statement_size, &signed_one,
                                         difference);
    assert(status == STATUS_OK); /* both were checked before, and a writer has its memory or ends the process */
    bool agrees = statement_agrees(signed_one, found, STATEMENT_OUTLINE, difference);
    statement_reader_destroy(signed_one);
    statement_reader_destroy(found);
    manifest_writer_destroy(writer);
    return agrees;
}

enum status approvals_take(int from_fd, const char *name, int to_fd)
{
    char companion[LIMIT_COMPONENT_LENGTH + 1];
    if (!approvals_name(name, companion) || renameat2(from_fd, companion, to_fd, companion, RENAME_NOREPLACE) == 0 ||
        errno == ENOENT)
        return STATUS_OK;
    return status_from_errno(errno);
}

enum status approvals_give_back(int from_fd, const char *name, int to_fd)
{
    char companion[LIMIT_COMPONENT_LENGTH + 1];
    if (approvals_take(from_fd, name, to_fd) == STATUS_OK)
        return STATUS_OK;
    if (errno != EEXIST || !approvals_name(name, companion) || unlinkat(from_fd, companion, 0) != 0)
        return status_from_errno(errno);
    return STATUS_OK;
}

bool approvals_are_there(int directory_fd, const char *name)
{
    char companion[LIMIT_COMPONENT_LENGTH + 1];
    struct stat meta;
    return approvals_name(name, companion) && fstatat(directory_fd, companion, &meta, AT_SYMLINK_NOFOLLOW) == 0;
}
