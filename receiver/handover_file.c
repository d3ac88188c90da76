// SPDX-License-Identifier: Apache-2.0
#include "receiver/handover_file.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"

enum { BUFFER_SIZE = 256 << 10 };
static const char name[] = "handover";
static const char temporary[] = "handover.tmp";

struct handover_file {
    int directory;
    int fd;
    /* Writing. */
    struct handover_writer *writer;
    uint64_t deadline_ns;
    int error;
    size_t used;
    uint8_t *buffer;
    /* Reading. */
    uint8_t *bytes;
    size_t size;
    struct handover_reader reader;
};

static bool origin_of_this_run(bool sealed, struct handover_origin *origin)
{
    char text[HANDOVER_BOOT_ID_SIZE + 1];
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t got = read(fd, text, sizeof text);
    close(fd);
    if (got < HANDOVER_BOOT_ID_SIZE) {
        errno = ENODATA;
        return false;
    }
    memcpy(origin->boot_id, text, HANDOVER_BOOT_ID_SIZE);
    origin->sealed = sealed;
    return true;
}

static int open_directory(const char *status_path)
{
    char path[PATH_MAX];
    int length = snprintf(path, sizeof path, "%s", status_path);
    if (length < 0 || (size_t)length >= sizeof path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    char *slash = strrchr(path, '/');
    if (slash == NULL)
        return open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    slash[1] = '\0';
    return open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

void handover_file_close(struct handover_file *file)
{
    if (file == NULL)
        return;
    int error = errno;
    if (file->bytes != NULL)
        munmap(file->bytes, file->size);
    if (file->fd >= 0)
        close(file->fd);
    if (file->directory >= 0)
        close(file->directory);
    handover_writer_destroy(file->writer);
    free(file->buffer);
    free(file);
    errno = error;
}

static struct handover_file *file_create(const char *status_path)
{
    struct handover_file *file = calloc(1, sizeof *file);
    if (file == NULL)
        return NULL;
    file->fd = -1;
    file->directory = open_directory(status_path);
    if (file->directory >= 0)
        return file;
    handover_file_close(file);
    return NULL;
}

/* Writing. */

static bool fail(struct handover_file *file, int error)
{
    file->error = error;
    return false;
}

static bool flush(struct handover_file *file)
{
    const uint8_t *at = file->buffer;
    while (file->used > 0) {
        if (clock_monotonic_ns() >= file->deadline_ns)
            return fail(file, ETIMEDOUT);
        ssize_t written = write(file->fd, at, file->used);
        if (written < 0 && errno != EINTR)
            return fail(file, errno);
        if (written > 0) {
            at += written;
            file->used -= (size_t)written;
        }
    }
    return true;
}

static bool put(void *context, const void *bytes, size_t size)
{
    struct handover_file *file = context;
    assert(size <= BUFFER_SIZE);
    if (size > BUFFER_SIZE - file->used && !flush(file))
        return false;
    memcpy(file->buffer + file->used, bytes, size);
    file->used += size;
    return true;
}

enum status handover_file_create(const char *status_path, bool sealed, uint64_t deadline_ns,
                                 struct handover_file **file)
{
    struct handover_origin origin;
    *file = NULL;
    if (!origin_of_this_run(sealed, &origin))
        return status_from_errno(errno);
    struct handover_file *made = file_create(status_path);
    if (made == NULL)
        return status_from_errno(errno);
    made->deadline_ns = deadline_ns;
    made->buffer = malloc(BUFFER_SIZE);
    made->writer = handover_writer_create(put, made);
    if (made->buffer != NULL && made->writer != NULL) {
        (void)unlinkat(made->directory, temporary, 0);
        made->fd = openat(made->directory, temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    }
    if (made->fd < 0) {
        handover_file_close(made);
        return status_from_errno(errno);
    }
    handover_writer_begin(made->writer, &origin);
    *file = made;
    return STATUS_OK;
}

struct handover_writer *handover_file_writer(struct handover_file *file)
{
    return file->writer;
}

enum status handover_file_commit(struct handover_file *file)
{
    if (handover_writer_finish(file->writer) && flush(file) &&
        renameat(file->directory, temporary, file->directory, name) != 0)
        file->error = errno;
    int error = file->error;
    if (error != 0)
        (void)unlinkat(file->directory, temporary, 0);
    handover_file_close(file);
    errno = error;
    return error == 0 ? STATUS_OK : status_from_errno(error);
}

/* Reading. */

static const char *map(struct handover_file *file, uint64_t limit)
{
    struct stat info;
    if (fstat(file->fd, &info) != 0)
        return strerror(errno);
    if (!S_ISREG(info.st_mode) || info.st_uid != geteuid() || (info.st_mode & 077) != 0)
        return "it is not a file that only this user can write and read";
    if (info.st_size <= 0)
        return "it is empty";
    if ((uint64_t)info.st_size > limit)
        return "it is larger than the memory of the data plane can have made it";
    void *bytes = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, file->fd, 0);
    if (bytes == MAP_FAILED)
        return strerror(errno);
    file->bytes = bytes;
    file->size = (size_t)info.st_size;
    return NULL;
}

static const char *verdict_text(enum handover_verdict verdict)
{
    switch (verdict) {
    case HANDOVER_GOOD:
        return NULL;
    case HANDOVER_DAMAGED:
        return "it is damaged";
    case HANDOVER_OTHER_VERSION:
        return "another version of the program wrote it";
    case HANDOVER_OTHER_BOOT:
        return "it is from before the machine was started";
    case HANDOVER_OTHER_KEY:
        return "a link key was set or taken away since";
    }
    return "?";
}

/* Opens and checks it; why it may not be used, or NULL. */
static const char *open_and_check(struct handover_file *file, bool sealed, uint64_t limit)
{
    struct handover_origin here;
    if (file->fd < 0)
        return strerror(errno);
    if (!origin_of_this_run(sealed, &here))
        return strerror(errno);
    const char *problem = map(file, limit);
    return problem != NULL ? problem
                           : verdict_text(handover_reader_init(&file->reader, file->bytes, file->size, &here));
}

struct handover_file *handover_file_take(const char *status_path, bool sealed, uint64_t limit)
{
    struct handover_file *file = file_create(status_path);
    if (file == NULL) {
        log_warning("what the run before left beside %s can't be looked for: %s", status_path, strerror(errno));
        return NULL;
    }
    file->fd = openat(file->directory, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (file->fd < 0 && errno == ENOENT) {
        handover_file_close(file);
        return NULL;
    }
    const char *problem = open_and_check(file, sealed, limit);
    if (unlinkat(file->directory, name, 0) != 0)
        problem = "it can't be removed, and would be read twice";
    if (problem == NULL)
        return file;
    log_warning("the open blocks that the run before left in %s beside %s are not used: %s", name, status_path,
                problem);
    handover_file_close(file);
    return NULL;
}

bool handover_file_next(struct handover_file *file, struct handover_record *record)
{
    return handover_reader_next(&file->reader, record);
}
