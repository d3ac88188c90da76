// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_TESTS_UNIT_SENDER_SCRATCH_H
#define DIODECAST_TESTS_UNIT_SENDER_SCRATCH_H

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/durable.h"

/* A folder of the test's own, and files in it by relative path. Each test program uses some of these. */
struct scratch {
    char path[64];
    int fd;
};

__attribute__((unused)) static void scratch_open(struct scratch *scratch)
{
    snprintf(scratch->path, sizeof scratch->path, "/tmp/diodecast-test-XXXXXX");
    if (mkdtemp(scratch->path) == NULL)
        abort();
    scratch->fd = open(scratch->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (scratch->fd < 0)
        abort();
}

__attribute__((unused)) static void scratch_close(struct scratch *scratch)
{
    close(scratch->fd);
    int parent = open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (parent < 0 || durable_remove_tree(parent, strrchr(scratch->path, '/') + 1) != STATUS_OK)
        abort();
    close(parent);
}

__attribute__((unused)) static void scratch_mkdir(const struct scratch *scratch, const char *path)
{
    if (mkdirat(scratch->fd, path, 0755) != 0)
        abort();
}

__attribute__((unused)) static void scratch_write(const struct scratch *scratch, const char *path, const char *text)
{
    int fd = openat(scratch->fd, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text) || close(fd) != 0)
        abort();
}

__attribute__((unused)) static void scratch_rename(const struct scratch *scratch, const char *from, const char *to)
{
    if (renameat(scratch->fd, from, scratch->fd, to) != 0)
        abort();
}

__attribute__((unused)) static int scratch_exists(const struct scratch *scratch, const char *path)
{
    struct stat meta;
    return fstatat(scratch->fd, path, &meta, AT_SYMLINK_NOFOLLOW) == 0;
}

#endif
