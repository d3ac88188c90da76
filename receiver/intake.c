// SPDX-License-Identifier: Apache-2.0
#include "receiver/intake.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/durable.h"
#include "common/log.h"

enum { TRASH_TRIES = 1000 };

static enum status open_hidden(const struct intake *intake, const char *name, int *fd)
{
    enum status status = durable_make_directory(intake->fd, name, 0700);
    if (status == STATUS_OK) {
        *fd = openat(intake->fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (*fd < 0)
            status = status_from_errno(errno);
    }
    if (status != STATUS_OK)
        log_error("%s/%s can't be made or opened: %s; the receiver's user must own %s or be allowed to write there",
                  intake->path, name, strerror(errno), intake->path);
    return status;
}

enum status intake_open(const char *path, struct intake *intake)
{
    *intake = (struct intake){.path = strdup(path), .fd = -1, .staging_fd = -1, .quarantine_fd = -1};
    if (intake->path == NULL)
        return status_from_errno(ENOMEM);
    intake->fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    enum status status = STATUS_OK;
    if (intake->fd < 0) {
        int error = errno;
        log_error("intake %s can't be opened: %s", path, strerror(error));
        status = status_from_errno(error);
    }
    if (status == STATUS_OK)
        status = open_hidden(intake, ".staging", &intake->staging_fd);
    if (status == STATUS_OK)
        status = open_hidden(intake, INTAKE_QUARANTINE, &intake->quarantine_fd);
    if (status != STATUS_OK)
        intake_close(intake);
    return status;
}

void intake_close(struct intake *intake)
{
    int *fds[] = {&intake->fd, &intake->staging_fd, &intake->quarantine_fd};
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++) {
        if (*fds[i] >= 0)
            close(*fds[i]);
        *fds[i] = -1;
    }
    free(intake->path);
    intake->path = NULL;
}

void intake_staging_name(uint32_t sender_id, const uint8_t id[static TRANSFER_ID_SIZE],
                         char name[static INTAKE_STAGING_NAME_SIZE])
{
    char text[TRANSFER_ID_TEXT_SIZE];
    identity_transfer_text(id, text);
    snprintf(name, INTAKE_STAGING_NAME_SIZE, "%08x-%s", sender_id, text);
}

void intake_tree_name(uint32_t sender_id, const uint8_t id[static TRANSFER_ID_SIZE],
                      char name[static INTAKE_STAGING_NAME_SIZE])
{
    char text[TRANSFER_ID_TEXT_SIZE];
    identity_transfer_text(id, text);
    snprintf(name, INTAKE_STAGING_NAME_SIZE, "%08x-%s.tree", sender_id, text);
}

void intake_artifact_name(uint32_t index, char name[static INTAKE_ARTIFACT_NAME_SIZE])
{
    snprintf(name, INTAKE_ARTIFACT_NAME_SIZE, "%u", index);
}

bool intake_is_staged(const struct intake *intake, uint32_t sender_id, const uint8_t id[static TRANSFER_ID_SIZE])
{
    char name[INTAKE_STAGING_NAME_SIZE];
    struct stat stat;
    intake_staging_name(sender_id, id, name);
    return fstatat(intake->staging_fd, name, &stat, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(stat.st_mode);
}

uint64_t intake_staged_size(const struct intake *intake, uint32_t sender_id, const uint8_t id[static TRANSFER_ID_SIZE],
                            const char *file)
{
    char path[INTAKE_STAGING_NAME_SIZE + 1 + INTAKE_ARTIFACT_NAME_SIZE];
    struct stat stat;
    intake_staging_name(sender_id, id, path);
    size_t used = strlen(path);
    snprintf(path + used, sizeof path - used, "/%s", file);
    return fstatat(intake->staging_fd, path, &stat, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(stat.st_mode)
               ? (uint64_t)stat.st_size
               : 0;
}

enum status intake_open_channel(const struct intake *intake, const char *channel, int *fd)
{
    *fd = openat(intake->fd, channel, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (*fd < 0 && errno == ENOENT) {
        enum status status = durable_make_directory(intake->fd, channel, INTAKE_DIRECTORY_MODE);
        if (status != STATUS_OK)
            return status;
        *fd = openat(intake->fd, channel, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    }
    return *fd >= 0 ? STATUS_OK : status_from_errno(errno);
}

void intake_put_aside(const struct intake *intake, const char *name, uint64_t *count,
                      char trash[static INTAKE_TRASH_NAME_SIZE])
{
    int result = -1;
    for (unsigned i = 0; i < TRASH_TRIES && result != 0; i++) {
        snprintf(trash, INTAKE_TRASH_NAME_SIZE, "trash-%llu", (unsigned long long)++*count);
        result = renameat2(intake->staging_fd, name, intake->staging_fd, trash, RENAME_NOREPLACE);
        if (result != 0 && errno != EEXIST) /* an earlier run may have left one */
            break;
    }
    if (result == 0)
        return;
    log_warning("%s/.staging/%s can't be put aside: %s", intake->path, name, strerror(errno));
    trash[0] = '\0';
}
