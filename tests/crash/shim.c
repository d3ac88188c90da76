// SPDX-License-Identifier: Apache-2.0
/*
 * Preloaded into a daemon under test. A boundary is a call after which the state on the disk or on the link may differ:
 * of our own code, of liburing and of SQLite alike, for all three come here through the dynamic linker.
 *
 * DIODECAST_KILL_AT=N     ends the process as kill -9 does, directly before (2 x boundary) or after (2 x boundary + 1)
 *                         one of its boundaries. What is submitted to a ring when the process dies may or may not be
 *                         carried out, as in a real crash.
 * DIODECAST_FAIL_AT=N:E   the N-th call that writes, flushes or sizes a file fails with errno E and does nothing.
 * DIODECAST_COUNTS=FILE   three 64-bit numbers in it are kept at how many boundaries and how many such calls there
 * were, and how many pages SQLite has read.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

struct counts {
    atomic_long boundaries, writes, reads;
};

static struct counts own_counts, *counts = &own_counts;
static long kill_at, fail_at; /* 0: never */
static int fail_errno;

static void map_counts(const char *file)
{
    int fd = open(file, O_RDWR | O_CLOEXEC);
    void *found = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof *counts, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (found != MAP_FAILED)
        counts = found;
    if (fd >= 0)
        close(fd);
}

__attribute__((constructor)) static void read_environment(void)
{
    const char *text = getenv("DIODECAST_COUNTS");
    if (text != NULL)
        map_counts(text);
    if ((text = getenv("DIODECAST_KILL_AT")) != NULL)
        kill_at = strtol(text, NULL, 10);
    if ((text = getenv("DIODECAST_FAIL_AT")) != NULL)
        (void)sscanf(text, "%ld:%d", &fail_at, &fail_errno);
}

static void die(void)
{
    kill(getpid(), SIGKILL);
    for (;;)
        pause();
}

static long before(void)
{
    long number = atomic_fetch_add(&counts->boundaries, 1) + 1;
    if (kill_at == 2 * number)
        die();
    return number;
}

static void after(long number)
{
    if (kill_at == 2 * number + 1)
        die();
}

static bool fails(void)
{
    if (atomic_fetch_add(&counts->writes, 1) + 1 != fail_at)
        return false;
    errno = fail_errno;
    return true;
}

/* Defines NAME so that it is a boundary around the next definition of the same name; where `may_fail` is fails(), one
 * that can be made to fail. */
#define INTERPOSE(type, name, parameters, arguments, may_fail) \
    type name parameters;                                      \
    type name parameters                                       \
    {                                                          \
        static type(*next) parameters;                         \
        if (next == NULL)                                      \
            *(void **)&next = dlsym(RTLD_NEXT, #name);         \
        long number = before();                                \
        type result = may_fail ? (type)-1 : next arguments;    \
        after(number);                                         \
        return result;                                         \
    }
#define BOUNDARY(type, name, parameters, arguments) INTERPOSE(type, name, parameters, arguments, false)
#define WRITING(type, name, parameters, arguments)  INTERPOSE(type, name, parameters, arguments, fails())

WRITING(int, fsync, (int fd), (fd))
WRITING(int, fdatasync, (int fd), (fd))
WRITING(int, syncfs, (int fd), (fd))
BOUNDARY(int, sync_file_range, (int fd, off64_t offset, off64_t size, unsigned flags), (fd, offset, size, flags))
BOUNDARY(int, rename, (const char *from, const char *to), (from, to))
BOUNDARY(int, renameat, (int from_fd, const char *from, int to_fd, const char *to), (from_fd, from, to_fd, to))
BOUNDARY(int, renameat2, (int from_fd, const char *from, int to_fd, const char *to, unsigned flags),
         (from_fd, from, to_fd, to, flags))
BOUNDARY(int, linkat, (int from_fd, const char *from, int to_fd, const char *to, int flags),
         (from_fd, from, to_fd, to, flags))
BOUNDARY(int, unlink, (const char *path), (path))
BOUNDARY(int, unlinkat, (int fd, const char *path, int flags), (fd, path, flags))
BOUNDARY(int, symlinkat, (const char *target, int fd, const char *path), (target, fd, path))
BOUNDARY(int, fchmod, (int fd, mode_t mode), (fd, mode))
BOUNDARY(int, fchown, (int fd, uid_t user, gid_t group), (fd, user, group))
BOUNDARY(int, futimens, (int fd, const struct timespec times[2]), (fd, times))
WRITING(int, mkdirat, (int fd, const char *path, mode_t mode), (fd, path, mode))
WRITING(int, ftruncate, (int fd, off_t size), (fd, size))
WRITING(int, ftruncate64, (int fd, off64_t size), (fd, size))
WRITING(ssize_t, pwrite64, (int fd, const void *bytes, size_t size, off64_t offset), (fd, bytes, size, offset))
BOUNDARY(int, io_uring_submit, (struct io_uring * ring), (ring))
BOUNDARY(int, io_uring_submit_and_wait, (struct io_uring * ring, unsigned count), (ring, count))
BOUNDARY(int, io_uring_submit_and_get_events, (struct io_uring * ring), (ring))
BOUNDARY(int, io_uring_submit_and_wait_timeout,
         (struct io_uring * ring, struct io_uring_cqe **cqe, unsigned count, struct __kernel_timespec *timeout,
          sigset_t *mask),
         (ring, cqe, count, timeout, mask))

ssize_t pread64(int fd, void *bytes, size_t size, off64_t offset)
{
    static ssize_t (*next)(int, void *, size_t, off64_t);
    if (next == NULL)
        *(void **)&next = dlsym(RTLD_NEXT, "pread64");
    atomic_fetch_add(&counts->reads, 1);
    return next(fd, bytes, size, offset);
}

static bool is_file(int fd)
{
    struct stat meta;
    int error = errno;
    bool file = fstat(fd, &meta) == 0 && S_ISREG(meta.st_mode);
    errno = error;
    return file;
}

/* Log lines are not state, and bells are no files. */
ssize_t write(int fd, const void *bytes, size_t size)
{
    static ssize_t (*next)(int, const void *, size_t);
    if (next == NULL)
        *(void **)&next = dlsym(RTLD_NEXT, "write");
    if (fd <= STDERR_FILENO || !is_file(fd))
        return next(fd, bytes, size);
    long number = before();
    ssize_t result = fails() ? -1 : next(fd, bytes, size);
    after(number);
    return result;
}

/* Only what makes a file changes anything. */
int openat(int fd, const char *path, int flags, ...)
{
    static int (*next)(int, const char *, int, ...);
    if (next == NULL)
        *(void **)&next = dlsym(RTLD_NEXT, "openat");
    if (!(flags & O_CREAT))
        return next(fd, path, flags);
    va_list arguments;
    va_start(arguments, flags);
    mode_t mode = va_arg(arguments, mode_t);
    va_end(arguments);
    long number = before();
    int result = fails() ? -1 : next(fd, path, flags, mode);
    after(number);
    return result;
}
