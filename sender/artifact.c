// SPDX-License-Identifier: Apache-2.0
#include "sender/artifact.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { SEQUENTIAL_FROM = 1 << 20 }; /* files larger than this are worth a hint to read ahead */

static bool is_as_listed(const struct stat *now, const struct listing_entry *entry)
{
    return S_ISREG(now->st_mode) && now->st_ino == entry->inode && (uint64_t)now->st_size == entry->size &&
           (int64_t)now->st_mtim.tv_sec * 1000000000 + now->st_mtim.tv_nsec == entry->mtime_ns &&
           (int64_t)now->st_ctim.tv_sec * 1000000000 + now->st_ctim.tv_nsec == entry->ctime_ns;
}

/* Opened without waiting, so that a FIFO put in its place can't stop the stage. */
int artifact_open(int directory_fd, const struct listing_entry *entry)
{
    const struct open_how how = {.flags = O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY,
                                 .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS};
    struct stat now;
    int fd = (int)syscall(SYS_openat2, directory_fd, entry->path, &how, sizeof how);
    if (fd < 0)
        return -errno;
    if (fstat(fd, &now) != 0 || !is_as_listed(&now, entry)) {
        close(fd);
        return -ESTALE;
    }
    int flags = fcntl(fd, F_GETFL);
    (void)fcntl(fd, F_SETFL, flags & ~O_NONBLOCK);
    if (entry->size > SEQUENTIAL_FROM)
        (void)posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
    return fd;
}

bool artifact_error_passes(int error)
{
    return error == EMFILE || error == ENFILE || error == ENOMEM || error == EINTR || error == EAGAIN;
}
