// SPDX-License-Identifier: Apache-2.0
#include "sender/probe.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/checksum.h"
#include "proto/limits.h"

struct look {
    struct probe *probe;
    bool look_for_writers;
    probe_directory *directory;
    void *context;
    unsigned depth;
    char path[LIMIT_PATH_LENGTH + LIMIT_COMPONENT_LENGTH + 2];
};

static int64_t timestamp_ns(const struct timespec *time)
{
    return (int64_t)time->tv_sec * 1000000000 + time->tv_nsec;
}

/* A sum over entries, so that the order in which a directory lists them does not matter. */
static void account(struct look *look, const struct stat *meta)
{
    struct {
        uint64_t path, size, inode, mode;
        int64_t mtime_ns, ctime_ns;
    } facts = {.path = checksum64(look->path, strlen(look->path)),
               .size = S_ISREG(meta->st_mode) ? (uint64_t)meta->st_size : 0,
               .inode = meta->st_ino,
               .mode = meta->st_mode,
               .mtime_ns = timestamp_ns(&meta->st_mtim),
               .ctime_ns = timestamp_ns(&meta->st_ctim)};
    struct probe *probe = look->probe;
    probe->fingerprint += checksum64(&facts, sizeof facts);
    probe->bytes += facts.size;
    if (facts.mtime_ns > probe->changed_ns)
        probe->changed_ns = facts.mtime_ns;
    if (facts.ctime_ns > probe->changed_ns)
        probe->changed_ns = facts.ctime_ns;
}

/* A read lease is granted only while nobody has the file open for writing (fcntl(2), "Leases"). */
static enum probe_writers find_writer(int directory_fd, const char *name)
{
    int fd = openat(directory_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? PROBE_NO_WRITER : PROBE_UNKNOWN;
    enum probe_writers writers = PROBE_NO_WRITER;
    if (fcntl(fd, F_SETLEASE, F_RDLCK) == 0)
        (void)fcntl(fd, F_SETLEASE, F_UNLCK);
    else
        writers = errno == EAGAIN ? PROBE_WRITER : PROBE_UNKNOWN;
    close(fd);
    return writers;
}

static bool is_dots(const char *name)
{
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

static enum status look_at(struct look *look, int directory_fd, const char *name, struct stat *meta);

static void look_below(struct look *look, int directory_fd, const char *name)
{
    size_t length = strlen(look->path);
    struct stat meta;
    if (look->depth == LIMIT_PATH_DEPTH || length > LIMIT_PATH_LENGTH)
        return; /* the scan refuses it */
    int fd = openat(directory_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return;
    /* Before its names are read, so that a watch set here misses nothing that comes later. */
    if (look->directory != NULL)
        look->directory(fd, look->path, look->context);
    DIR *stream = fdopendir(fd);
    if (stream == NULL) {
        close(fd);
        return;
    }
    look->depth++;
    for (const struct dirent *found; (found = readdir(stream)) != NULL;) {
        if (is_dots(found->d_name))
            continue;
        snprintf(look->path + length, sizeof look->path - length, "/%s", found->d_name);
        enum status passed_over = look_at(look, fd, found->d_name, &meta);
        (void)passed_over; /* vanished in between: the next look sees it */
    }
    look->depth--;
    look->path[length] = '\0';
    closedir(stream);
}

static enum status look_at(struct look *look, int directory_fd, const char *name, struct stat *meta)
{
    if (fstatat(directory_fd, name, meta, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT) != 0)
        return errno == ENOENT ? STATUS_NOT_FOUND : STATUS_SYSTEM;
    account(look, meta);
    if (S_ISDIR(meta->st_mode)) {
        look_below(look, directory_fd, name);
    } else if (S_ISREG(meta->st_mode) && look->look_for_writers && look->probe->writers != PROBE_WRITER) {
        enum probe_writers found = find_writer(directory_fd, name);
        if (found > look->probe->writers || found == PROBE_WRITER)
            look->probe->writers = found;
    }
    return STATUS_OK;
}

enum status probe_item(int directory_fd, const char *name, bool look_for_writers, probe_directory *directory,
                       void *context, struct probe *probe)
{
    struct look look = {
        .probe = probe, .look_for_writers = look_for_writers, .directory = directory, .context = context};
    struct stat meta;
    *probe = (struct probe){.writers = PROBE_NO_WRITER, .changed_ns = INT64_MIN};
    snprintf(look.path, sizeof look.path, "%s", name);
    enum status status = look_at(&look, directory_fd, name, &meta);
    if (status != STATUS_OK)
        return status;
    probe->tree = S_ISDIR(meta.st_mode);
    probe->owner = meta.st_uid;
    probe->device = meta.st_dev;
    probe->inode = meta.st_ino;
    probe->root_ctime_ns = timestamp_ns(&meta.st_ctim);
    return STATUS_OK;
}
