// SPDX-License-Identifier: Apache-2.0
#include "sender/spooldirs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "common/durable.h"
#include "common/log.h"

enum { PRIVATE_MODE = 0700 };

/* One of the hidden directories; -1 after logging. */
static int open_hidden(const struct spooldirs *dirs, const char *name)
{
    int fd = -1;
    if (durable_make_directory(dirs->root, name, PRIVATE_MODE) == STATUS_OK)
        fd = openat(dirs->root, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        log_error("%s/%s can't be made and opened: %s; give %s and what is hidden in it to uid %u", dirs->path, name,
                  strerror(errno), dirs->path, (unsigned)geteuid());
    return fd;
}

enum status spooldirs_open(const char *path, struct spooldirs *dirs)
{
    *dirs = (struct spooldirs){.path = path, .root = -1, .sending = -1, .sent = -1, .failed = -1};
    dirs->root = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dirs->root < 0) {
        int error = errno;
        log_error("the spool %s can't be opened: %s", path, strerror(error));
        return status_from_errno(error);
    }
    dirs->sending = open_hidden(dirs, ".sending");
    dirs->sent = dirs->sending >= 0 ? open_hidden(dirs, ".sent") : -1;
    dirs->failed = dirs->sent >= 0 ? open_hidden(dirs, ".failed") : -1;
    if (dirs->failed >= 0)
        return STATUS_OK;
    int error = errno;
    spooldirs_close(dirs);
    return status_from_errno(error);
}

void spooldirs_close(struct spooldirs *dirs)
{
    int fds[] = {dirs->root, dirs->sending, dirs->sent, dirs->failed};
    for (size_t i = 0; i < sizeof fds / sizeof fds[0]; i++)
        if (fds[i] >= 0)
            close(fds[i]);
    dirs->root = dirs->sending = dirs->sent = dirs->failed = -1;
}

int spooldirs_channel(const struct spooldirs *dirs, const char *channel)
{
    return openat(dirs->root, channel[0] != '\0' ? channel : ".", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

const char *spooldirs_network_kind(int fd)
{
    static const struct {
        unsigned long magic; /* statfs(2) */
        const char *kind;
    } kinds[] = {
        {0x6969, "NFS"},        {0xff534d42, "CIFS"}, {0xfe534d42, "SMB2"},   {0x517b, "SMB"},
        {0x65735546, "FUSE"},   {0x01021997, "9P"},   {0x00c36400, "CephFS"}, {0x5346414f, "AFS"},
        {0x0bd00bd0, "Lustre"}, {0x01161970, "GFS2"}, {0x7461636f, "OCFS2"},
    };
    struct statfs facts;
    if (fstatfs(fd, &facts) != 0)
        return NULL;
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if ((unsigned long)facts.f_type == kinds[i].magic)
            return kinds[i].kind;
    return NULL;
}
