// SPDX-License-Identifier: Apache-2.0
#include "sender/filing.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/durable.h"
#include "sender/approvals.h"

enum { PRIVATE_MODE = 0700, REASON_MODE = 0644, TEXT_SIZE = LIMIT_REASON_LENGTH + 2 };

static void close_keeping_errno(int fd)
{
    int error = errno;
    close(fd);
    errno = error;
}

enum status filing_take(const struct spooldirs *dirs, int channel_fd, const char *name,
                        const uint8_t id[static TRANSFER_ID_SIZE], int *directory_fd)
{
    char text[TRANSFER_ID_TEXT_SIZE];
    identity_transfer_text(id, text);
    *directory_fd = -1;
    if (mkdirat(dirs->sending, text, PRIVATE_MODE) != 0)
        return status_from_errno(errno); /* no STATUS_NOT_FOUND here: it is not the item that is missing */
    int fd = openat(dirs->sending, text, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    /* The approvals go first: an item that is there goes with all that lay beside it, whatever ends the process. */
    bool approvals_moved = fd >= 0 && approvals_take(channel_fd, name, fd) == STATUS_OK;
    if (approvals_moved && renameat2(channel_fd, name, fd, name, RENAME_NOREPLACE) == 0) {
        *directory_fd = fd;
        return STATUS_OK;
    }
    int error = errno;
    bool is_empty = !approvals_moved || approvals_give_back(fd, name, channel_fd) == STATUS_OK;
    if (fd >= 0)
        close(fd);
    if (is_empty) /* else the next start finds what is left */
        (void)unlinkat(dirs->sending, text, AT_REMOVEDIR);
    errno = error;
    return status_from_path_errno(errno);
}

/* Moves the item, if it is to be moved, and then its approvals. */
static enum status move_back(int from, int to, const char *name, bool item)
{
    if (item && renameat2(from, name, to, name, RENAME_NOREPLACE) != 0)
        return status_from_path_errno(errno);
    enum status status = approvals_give_back(from, name, to);
    return status == STATUS_OK ? durable_sync_directory(to, NULL) : status;
}

static enum status give_back(const struct spooldirs *dirs, const uint8_t id[static TRANSFER_ID_SIZE],
                             const char *channel_directory, const char *name, bool item)
{
    char text[TRANSFER_ID_TEXT_SIZE];
    identity_transfer_text(id, text);
    enum status status = STATUS_OK;
    int from = openat(dirs->sending, text, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (from < 0)
        return status_from_path_errno(errno);
    /* The channel may have been removed meanwhile; what was dropped in it must not be lost with it. */
    if (channel_directory[0] != '\0' && mkdirat(dirs->root, channel_directory, 0770) != 0 && errno != EEXIST)
        status = status_from_path_errno(errno);
    int to = status == STATUS_OK ? spooldirs_channel(dirs, channel_directory) : -1;
    if (to < 0)
        status = status_from_path_errno(errno);
    if (status == STATUS_OK)
        status = move_back(from, to, name, item);
    if (status == STATUS_OK)
        (void)unlinkat(dirs->sending, text, AT_REMOVEDIR); /* an empty one that stays is swept at the next start */
    if (to >= 0)
        close_keeping_errno(to);
    close_keeping_errno(from);
    return status;
}

enum status filing_give_back(const struct spooldirs *dirs, const uint8_t id[static TRANSFER_ID_SIZE],
                             const char *channel_directory, const char *name)
{
    return give_back(dirs, id, channel_directory, name, true);
}

enum status filing_give_back_approvals(const struct spooldirs *dirs, const uint8_t id[static TRANSFER_ID_SIZE],
                                       const char *channel_directory, const char *name)
{
    return give_back(dirs, id, channel_directory, name, false);
}

enum status filing_refuse(const struct spooldirs *dirs, const uint8_t id[static TRANSFER_ID_SIZE], const char *name,
                          const char *reason)
{
    char id_text[TRANSFER_ID_TEXT_SIZE];
    char text[TEXT_SIZE];
    identity_transfer_text(id, id_text);
    int fd = openat(dirs->sending, id_text, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return status_from_path_errno(errno);
    /* An item that is itself called "reason" keeps its name. */
    const char *file = strcmp(name, "reason") == 0 ? "reason.txt" : "reason";
    int size = snprintf(text, sizeof text, "%s\n", reason);
    enum status status =
        durable_write_file(fd, file, text, (size_t)size < sizeof text ? (size_t)size : sizeof text - 1, REASON_MODE);
    close_keeping_errno(fd);
    if (status == STATUS_OK)
        status = durable_rename(dirs->sending, id_text, dirs->failed, id_text);
    return status;
}

enum status filing_sent(const struct spooldirs *dirs, const uint8_t id[static TRANSFER_ID_SIZE])
{
    char text[TRANSFER_ID_TEXT_SIZE];
    identity_transfer_text(id, text);
    if (renameat2(dirs->sending, text, dirs->sent, text, RENAME_NOREPLACE) != 0)
        return status_from_path_errno(errno);
    return STATUS_OK;
}

const char *filing_directory(const char *channel, bool in_root)
{
    return in_root ? "" : channel;
}
