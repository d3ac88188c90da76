// SPDX-License-Identifier: Apache-2.0
#include "receiver/backlog.h"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

static DIR *open_directory(int dirfd, const char *name)
{
    int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *directory = fd < 0 ? NULL : fdopendir(fd);
    if (directory == NULL && fd >= 0)
        close(fd);
    return directory;
}

void backlog_count(const struct intake *intake, struct ledger *ledger, uint64_t *count, uint64_t *bytes)
{
    *count = 0;
    *bytes = 0;
    DIR *channels = open_directory(intake->fd, ".");
    if (channels == NULL)
        return;
    struct dirent *channel;
    while (*count < BACKLOG_MAX && (channel = readdir(channels)) != NULL) {
        DIR *deliveries = channel->d_name[0] == '.' ? NULL : open_directory(intake->fd, channel->d_name);
        if (deliveries == NULL)
            continue;
        struct dirent *delivery;
        while (*count < BACKLOG_MAX && (delivery = readdir(deliveries)) != NULL) {
            uint64_t size;
            if (delivery->d_name[0] == '.')
                continue;
            ++*count;
            if (ledger_directory_bytes(ledger, channel->d_name, delivery->d_name, &size) == STATUS_OK)
                *bytes += size;
        }
        closedir(deliveries);
    }
    closedir(channels);
}
