// SPDX-License-Identifier: Apache-2.0
#include "common/durable.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    TREE_DEPTH = 256,        /* nested directories that durable_remove_tree() follows; one descriptor each */
    TEMPORARY_NAME_CUT = 200 /* bytes of the name in the temporary one, so that it stays below NAME_MAX */
};

static void close_keeping_errno(int fd)
{
    int error = errno;
    close(fd);
    errno = error;
}

enum status durable_sync_directory(int dirfd, const char *path)
{
    /* Opened anew: the caller's descriptor may be O_PATH, which fsync refuses. */
    int fd = openat(dirfd, path != NULL ? path : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return status_from_path_errno(errno);
    if (fsync(fd) != 0) {
        close_keeping_errno(fd);
        return status_from_errno(errno);
    }
    close(fd);
    return STATUS_OK;
}

/* Flushes the directory that holds the last component of `name`. */
static enum status sync_parent(int dirfd, const char *name)
{
    char parent[PATH_MAX];
    const char *slash = strrchr(name, '/');
    if (slash == NULL)
        return durable_sync_directory(dirfd, NULL);
    size_t size = slash == name ? 1 : (size_t)(slash - name);
    if (size >= sizeof parent)
        return status_from_errno(ENAMETOOLONG);
    memcpy(parent, name, size);
    parent[size] = '\0';
    return durable_sync_directory(dirfd, parent);
}

static bool write_all(int fd, const void *bytes, size_t size)
{
    const char *next = bytes;
    while (size > 0) {
        ssize_t written = write(fd, next, size);
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0)
            return false;
        next += written;
        size -= (size_t)written;
    }
    return true;
}

enum status durable_write_file(int dirfd, const char *name, const void *bytes, size_t size, mode_t mode)
{
    char temporary[PATH_MAX];
    const char *slash = strrchr(name, '/');
    const char *base = slash != NULL ? slash + 1 : name;
    int length =
        snprintf(temporary, sizeof temporary, "%.*s.%.*s.tmp", (int)(base - name), name, TEMPORARY_NAME_CUT, base);
    if (length < 0 || (size_t)length >= sizeof temporary)
        return status_from_errno(ENAMETOOLONG);

    /* One left by a crash is of no use to anyone. */
    if (unlinkat(dirfd, temporary, 0) != 0 && errno != ENOENT)
        return status_from_path_errno(errno);
    int fd = openat(dirfd, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return status_from_path_errno(errno);
    if (!write_all(fd, bytes, size) || fchmod(fd, mode) != 0 || fsync(fd) != 0) {
        close_keeping_errno(fd);
        goto failed;
    }
    if (close(fd) != 0)
        goto failed;
    if (renameat(dirfd, temporary, dirfd, name) != 0)
        goto failed;
    return sync_parent(dirfd, name);

failed:;
    int error = errno;
    (void)unlinkat(dirfd, temporary, 0);
    return status_from_path_errno(error);
}

enum status durable_make_directory(int dirfd, const char *name, mode_t mode)
{
    if (mkdirat(dirfd, name, 0700) != 0) {
        if (errno != EEXIST)
            return status_from_path_errno(errno);
        struct stat stat;
        if (fstatat(dirfd, name, &stat, 0) != 0)
            return status_from_path_errno(errno);
        if (!S_ISDIR(stat.st_mode))
            return status_from_path_errno(EEXIST);
        return STATUS_OK;
    }
    int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return status_from_path_errno(errno);
    if (fchmod(fd, mode) != 0) {
        close_keeping_errno(fd);
        return status_from_path_errno(errno);
    }
    close(fd);
    return sync_parent(dirfd, name);
}

enum status durable_rename(int from_dirfd, const char *from, int to_dirfd, const char *to)
{
    if (renameat2(from_dirfd, from, to_dirfd, to, RENAME_NOREPLACE) != 0)
        return status_from_path_errno(errno);
    /* The new place first: between the two a crash may show both names, but never neither. */
    enum status status = sync_parent(to_dirfd, to);
    if (status != STATUS_OK)
        return status;
    return sync_parent(from_dirfd, from);
}

static enum status remove_at(int dirfd, const char *name, int depth);

/* Removes what is in the directory `fd` and takes the descriptor. */
static enum status remove_entries(int fd, int depth)
{
    DIR *directory = fdopendir(fd);
    if (directory == NULL) {
        close_keeping_errno(fd);
        return status_from_errno(errno);
    }
    enum status status = STATUS_OK;
    for (;;) {
        errno = 0;
        struct dirent *entry = readdir(directory);
        if (entry == NULL) {
            if (errno != 0)
                status = status_from_errno(errno);
            break;
        }
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        status = remove_at(fd, entry->d_name, depth);
        if (status != STATUS_OK)
            break;
    }
    int error = errno;
    closedir(directory);
    errno = error;
    return status;
}

static enum status remove_at(int dirfd, const char *name, int depth)
{
    if (depth >= TREE_DEPTH)
        return status_from_errno(ELOOP);
    if (unlinkat(dirfd, name, 0) == 0 || errno == ENOENT)
        return STATUS_OK;
    if (errno != EISDIR && errno != EPERM)
        return status_from_path_errno(errno);
    int unlink_error = errno;
    int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 && errno == ENOTDIR)
        return status_from_path_errno(unlink_error);
    if (fd < 0)
        return errno == ENOENT ? STATUS_OK : status_from_path_errno(errno);
    enum status status = remove_entries(fd, depth + 1);
    if (status != STATUS_OK)
        return status;
    if (unlinkat(dirfd, name, AT_REMOVEDIR) != 0 && errno != ENOENT)
        return status_from_path_errno(errno);
    return STATUS_OK;
}

enum status durable_remove_tree(int dirfd, const char *name)
{
    return remove_at(dirfd, name, 0);
}

enum status durable_read_file(int dirfd, const char *name, size_t limit, char **bytes, size_t *size)
{
    assert(limit < SIZE_MAX / 2);
    *bytes = NULL;
    *size = 0;
    /* O_NONBLOCK: opening a FIFO that lies in the way must not hang. */
    int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0)
        return status_from_path_errno(errno);
    enum status status = STATUS_OK;
    size_t used = 0;
    size_t capacity = 0;
    char *buffer = NULL;
    for (;;) {
        if (used + 1 >= capacity) {
            capacity = capacity == 0 ? 4096 : capacity * 2;
            if (capacity > limit + 2)
                capacity = limit + 2;
            char *grown = realloc(buffer, capacity);
            if (grown == NULL) {
                status = status_from_errno(ENOMEM);
                break;
            }
            buffer = grown;
        }
        ssize_t got = read(fd, buffer + used, capacity - used - 1);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            status = status_from_path_errno(errno);
        if (got <= 0)
            break;
        used += (size_t)got;
        if (used > limit) {
            status = STATUS_LIMIT;
            break;
        }
    }
    close_keeping_errno(fd);
    if (status != STATUS_OK) {
        free(buffer);
        return status;
    }
    assert(buffer != NULL);
    buffer[used] = '\0';
    *bytes = buffer;
    *size = used;
    return STATUS_OK;
}
