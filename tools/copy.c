// SPDX-License-Identifier: Apache-2.0
#include "tools/copy.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#include "proto/limits.h"
#include "proto/relpath.h"

enum { STEP_SIZE = 64 << 20, BUFFER_SIZE = 256 << 10 };

/* Keeps what is wrong; returns false, so that a caller can end with it. `path` is relative to the item's parent. */
static bool __attribute__((format(printf, 4, 5)))
fail(struct copy *copy, int code, const char *path, const char *format, ...)
{
    char message[256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof(message), format, arguments);
    va_end(arguments);
    copy->code = code;
    snprintf(copy->what, sizeof(copy->what), "%.*s %s", (int)relpath_cut(path, 240), path, message);
    return false;
}

static bool fail_reading(struct copy *copy, const char *path, int error)
{
    return fail(copy, error == EACCES || error == EPERM ? EX_NOPERM : EX_NOINPUT, path, "can't be read: %s",
                strerror(error));
}

static bool fail_writing(struct copy *copy, const char *path, int error)
{
    return fail(copy, EX_CANTCREAT, path, "can't be copied to the spool: %s", strerror(error));
}

static bool stopped(struct copy *copy, const char *path)
{
    return *copy->stop != 0 && !fail(copy, EX_TEMPFAIL, path, "was not copied: interrupted");
}

/* Copies through memory from the current offsets of both to the end. */
static bool copy_through_memory(struct copy *copy, int from, int to, const char *path)
{
    char *buffer = malloc(BUFFER_SIZE);
    assert(buffer != NULL);
    bool good = true;
    while (good && !stopped(copy, path)) {
        ssize_t got = read(from, buffer, BUFFER_SIZE);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            good = fail_reading(copy, path, errno);
        if (got <= 0)
            break;
        for (ssize_t done = 0; good && done < got;) {
            ssize_t written = write(to, buffer + done, (size_t)(got - done));
            if (written >= 0)
                done += written;
            else if (errno != EINTR)
                good = fail_writing(copy, path, errno);
        }
    }
    free(buffer);
    return good && !stopped(copy, path);
}

/* Shares the extents where the file system can, else copies inside the kernel, else through memory. */
static bool copy_bytes(struct copy *copy, int from, int to, const char *path)
{
    if (ioctl(to, FICLONE, from) == 0)
        return true;
    for (bool first = true;; first = false) {
        if (stopped(copy, path))
            return false;
        ssize_t done = copy_file_range(from, NULL, to, NULL, STEP_SIZE, 0);
        if (done < 0 && errno == EINTR)
            continue;
        /* Some file systems (those of /proc) say 0 at once though there is content: only reading tells. */
        if (first && done <= 0)
            return copy_through_memory(copy, from, to, path);
        if (done < 0)
            return fail_writing(copy, path, errno);
        if (done == 0)
            return true;
    }
}

static bool same_moment(const struct timespec *a, const struct timespec *b)
{
    return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

static mode_t file_mode(const struct copy *copy, const struct stat *source)
{
    mode_t mode = 0640 | (source->st_mode & 07 & ~copy->mask);
    return (source->st_mode & S_IXUSR) != 0 ? mode | 0110 : mode & ~(mode_t)0111;
}

/* `from` is the open source, `before` its state. */
static bool copy_file(struct copy *copy, int from, const struct stat *before, const char *path, int to_dirfd,
                      const char *to_name, bool alone)
{
    int to = openat(to_dirfd, to_name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (to < 0)
        return fail_writing(copy, path, errno);
    bool good = copy_bytes(copy, from, to, path);
    struct stat after;
    const struct timespec times[2] = {before->st_atim, before->st_mtim};
    if (good &&
        (fstat(from, &after) < 0 || after.st_size != before->st_size || !same_moment(&after.st_mtim, &before->st_mtim)))
        good = fail(copy, EX_TEMPFAIL, path, "changed while it was copied; try again when its writer is done");
    if (good && (fchmod(to, file_mode(copy, before)) < 0 || futimens(to, times) < 0 || (alone && fsync(to) < 0)))
        good = fail_writing(copy, path, errno);
    if (close(to) < 0 && good)
        good = fail_writing(copy, path, errno);
    copy->byte_count += (uint64_t)before->st_size;
    copy->file_count++;
    return good;
}

static bool copy_symlink(struct copy *copy, int from_dirfd, const char *from_name, const char *path, int to_dirfd)
{
    char target[LIMIT_PATH_LENGTH + 2];
    ssize_t size = readlinkat(from_dirfd, from_name, target, sizeof(target) - 1);
    if (size < 0)
        return fail_reading(copy, path, errno);
    target[size] = '\0';
    const char *wrong = relpath_check_symlink(path, target, (size_t)size);
    if (wrong != NULL)
        return fail(copy, EX_DATAERR, path, "is a symlink that %s", wrong);
    struct stat info;
    if (symlinkat(target, to_dirfd, from_name) < 0)
        return fail_writing(copy, path, errno);
    if (fstatat(from_dirfd, from_name, &info, AT_SYMLINK_NOFOLLOW) == 0) {
        const struct timespec times[2] = {info.st_atim, info.st_mtim};
        /* A file system that keeps no times of symlinks is fine. */
        (void)!utimensat(to_dirfd, from_name, times, AT_SYMLINK_NOFOLLOW);
    }
    return true;
}

static bool copy_directory(struct copy *copy, int from, const struct stat *before, const char *path, int to_dirfd,
                           const char *to_name);

/* Copies what `from_name` in the directory `from_dirfd` is; takes nothing. */
static bool copy_child(struct copy *copy, int from_dirfd, const char *from_name, const char *path, int to_dirfd)
{
    const char *wrong = relpath_check(path, strlen(path));
    if (wrong != NULL)
        return fail(copy, EX_DATAERR, path, "has a name that can't be sent: it %s", wrong);
    struct stat info;
    if (fstatat(from_dirfd, from_name, &info, AT_SYMLINK_NOFOLLOW) < 0)
        return fail_reading(copy, path, errno);
    if (S_ISLNK(info.st_mode))
        return copy_symlink(copy, from_dirfd, from_name, path, to_dirfd);
    if (!S_ISREG(info.st_mode) && !S_ISDIR(info.st_mode))
        return fail(copy, EX_DATAERR, path, "is neither a file nor a directory nor a symlink, and can't be sent");

    int fd = openat(from_dirfd, from_name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0)
        return fail_reading(copy, path, errno);
    struct stat opened;
    bool good = fstat(fd, &opened) == 0;
    if (!good || opened.st_ino != info.st_ino || opened.st_dev != info.st_dev)
        good = fail(copy, EX_TEMPFAIL, path, "changed while it was copied; try again when its writer is done");
    else if (S_ISDIR(opened.st_mode))
        good = copy_directory(copy, fd, &opened, path, to_dirfd, from_name);
    else
        good = copy_file(copy, fd, &opened, path, to_dirfd, from_name, false);
    close(fd);
    return good;
}

static bool copy_children(struct copy *copy, DIR *directory, const char *path, int to)
{
    struct dirent *entry;
    while (errno = 0, (entry = readdir(directory)) != NULL) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        if (stopped(copy, path))
            return false;
        char *child = NULL;
        int length = asprintf(&child, "%s/%s", path, entry->d_name);
        assert(length > 0);
        bool good = copy_child(copy, dirfd(directory), entry->d_name, child, to);
        free(child);
        if (!good)
            return false;
    }
    return errno == 0 || fail_reading(copy, path, errno);
}

static bool copy_directory(struct copy *copy, int from, const struct stat *before, const char *path, int to_dirfd,
                           const char *to_name)
{
    if (before->st_dev == copy->forbidden_device && before->st_ino == copy->forbidden_inode)
        return fail(copy, EX_DATAERR, path, "is the place in the spool that it would be copied to");
    if (mkdirat(to_dirfd, to_name, 0700) < 0)
        return fail_writing(copy, path, errno);
    int to = openat(to_dirfd, to_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (to < 0)
        return fail_writing(copy, path, errno);
    int own = openat(from, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *directory = own < 0 ? NULL : fdopendir(own);
    bool good = false;
    if (directory == NULL) {
        good = fail_reading(copy, path, errno);
        if (own >= 0)
            close(own);
    } else {
        good = copy_children(copy, directory, path, to);
        closedir(directory);
    }
    struct stat made;
    const struct timespec times[2] = {before->st_atim, before->st_mtim};
    if (good && (fstat(to, &made) < 0 ||
                 fchmod(to, 0770 | (before->st_mode & 07 & ~copy->mask) | (made.st_mode & S_ISGID)) < 0 ||
                 futimens(to, times) < 0))
        good = fail_writing(copy, path, errno);
    close(to);
    return good;
}

bool copy_item(struct copy *copy, const char *path, const char *name, int target_dirfd, const char *target)
{
    const char *wrong = relpath_check_component(name, strlen(name));
    copy->byte_count = 0;
    copy->file_count = 0;
    if (wrong != NULL)
        return fail(copy, EX_DATAERR, name, "is a name that can't be sent: it %s", wrong);
    if (relpath_is_hidden_item(name))
        return fail(
            copy, EX_DATAERR, name,
            "starts with '.' or ends in .part, .tmp or .approval, which the spool takes for no item; rename it");
    struct stat info;
    if (stat(path, &info) < 0)
        return fail_reading(copy, path, errno);
    if (!S_ISREG(info.st_mode) && !S_ISDIR(info.st_mode))
        return fail(copy, EX_DATAERR, path, "is neither a file nor a directory, and can't be sent");

    int from = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (from < 0)
        return fail_reading(copy, path, errno);
    bool good = false;
    if (fstat(from, &info) < 0)
        good = fail_reading(copy, path, errno);
    else if (S_ISDIR(info.st_mode))
        good = copy_directory(copy, from, &info, name, target_dirfd, target) &&
               /* One flush of the file system instead of one for each file and directory of the tree. */
               (syncfs(target_dirfd) == 0 || fail_writing(copy, name, errno));
    else if (S_ISREG(info.st_mode))
        good = copy_file(copy, from, &info, name, target_dirfd, target, true);
    else
        good = fail(copy, EX_DATAERR, path, "is neither a file nor a directory, and can't be sent");
    close(from);
    return good;
}
