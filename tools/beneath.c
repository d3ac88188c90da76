// SPDX-License-Identifier: Apache-2.0
#include "tools/beneath.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

int beneath_open(int dirfd, const char *path, int flags)
{
    struct open_how how = {.flags = (unsigned int)flags | O_CLOEXEC, .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS};
    long fd;
    do {
        fd = syscall(SYS_openat2, dirfd, path, &how, sizeof(how));
    } while (fd < 0 && (errno == EINTR || errno == EAGAIN)); /* EAGAIN: a rename crossed the look-up */
    return (int)fd;
}

/* Reads up to `size` bytes and stops early only at the end of the file. */
static ssize_t read_fully(int fd, char *bytes, size_t size)
{
    size_t filled = 0;
    while (filled < size) {
        ssize_t got = read(fd, bytes + filled, size - filled);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -1;
        if (got == 0)
            break;
        filled += (size_t)got;
    }
    return (ssize_t)filled;
}

enum status beneath_read(int dirfd, const char *path, size_t limit, char **bytes, size_t *size)
{
    *bytes = NULL;
    *size = 0;
    int fd = beneath_open(dirfd, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) {
        if (errno == ENOENT)
            return STATUS_NOT_FOUND;
        return errno == ELOOP ? STATUS_INVALID : status_from_errno(errno);
    }
    enum status status = STATUS_OK;
    struct stat info;
    if (fstat(fd, &info) < 0)
        status = status_from_errno(errno);
    else if (!S_ISREG(info.st_mode))
        status = STATUS_INVALID;
    else if ((uint64_t)info.st_size > limit)
        status = STATUS_LIMIT;
    if (status != STATUS_OK)
        goto cleanup;

    char *buffer = malloc((size_t)info.st_size + 1);
    assert(buffer != NULL);
    ssize_t got = read_fully(fd, buffer, (size_t)info.st_size);
    if (got < 0) {
        status = status_from_errno(errno);
        free(buffer);
        goto cleanup;
    }
    buffer[got] = '\0';
    *bytes = buffer;
    *size = (size_t)got;
cleanup:;
    int error = errno;
    close(fd);
    errno = error;
    return status;
}
