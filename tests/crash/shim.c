// SPDX-License-Identifier: Apache-2.0
/*
 * Preloaded into a daemon under test: ends it as kill -9 does, directly before or after its DIODECAST_KILL_AT-th I/O
 * boundary. A boundary is a call after which the state on the disk or on the link may differ: of our own code, of
 * liburing and of SQLite alike, for all three come here through the dynamic linker. What is submitted to a ring when
 * the process dies may or may not be carried out, as in a real crash.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <liburing.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/types.h>
#include <unistd.h>

static atomic_long boundaries;
static long kill_at = -1; /* twice the boundary, plus one to die after it; 0: never */

__attribute__((constructor)) static void read_environment(void)
{
    const char *text = getenv("DIODECAST_KILL_AT");
    kill_at = text != NULL ? strtol(text, NULL, 10) : 0;
}

static void die(void)
{
    kill(getpid(), SIGKILL);
    for (;;)
        pause();
}

static long before(void)
{
    long number = atomic_fetch_add(&boundaries, 1) + 1;
    if (kill_at == 2 * number)
        die();
    return number;
}

static void after(long number)
{
    if (kill_at == 2 * number + 1)
        die();
}

/* Defines NAME so that it is a boundary around the next definition of the same name. */
#define BOUNDARY(type, name, parameters, arguments)                \
    type name parameters;                                          \
    type name parameters                                           \
    {                                                              \
        static type(*next) parameters;                             \
        if (next == NULL)                                          \
            *(void **)&next = dlsym(RTLD_NEXT, #name);             \
        long number = before();                                    \
        type result = next arguments;                              \
        after(number);                                             \
        return result;                                             \
    }

BOUNDARY(int, fsync, (int fd), (fd))
BOUNDARY(int, fdatasync, (int fd), (fd))
BOUNDARY(int, syncfs, (int fd), (fd))
BOUNDARY(int, sync_file_range, (int fd, off64_t offset, off64_t size, unsigned flags), (fd, offset, size, flags))
BOUNDARY(int, rename, (const char *from, const char *to), (from, to))
BOUNDARY(int, renameat, (int from_fd, const char *from, int to_fd, const char *to), (from_fd, from, to_fd, to))
BOUNDARY(int, renameat2, (int from_fd, const char *from, int to_fd, const char *to, unsigned flags),
         (from_fd, from, to_fd, to, flags))
BOUNDARY(int, linkat, (int from_fd, const char *from, int to_fd, const char *to, int flags),
         (from_fd, from, to_fd, to, flags))
BOUNDARY(int, unlink, (const char *path), (path))
BOUNDARY(int, unlinkat, (int fd, const char *path, int flags), (fd, path, flags))
BOUNDARY(int, mkdirat, (int fd, const char *path, mode_t mode), (fd, path, mode))
BOUNDARY(int, ftruncate64, (int fd, off64_t size), (fd, size))
BOUNDARY(ssize_t, pwrite64, (int fd, const void *bytes, size_t size, off64_t offset), (fd, bytes, size, offset))
BOUNDARY(int, io_uring_submit, (struct io_uring * ring), (ring))
BOUNDARY(int, io_uring_submit_and_wait, (struct io_uring * ring, unsigned count), (ring, count))
BOUNDARY(int, io_uring_submit_and_get_events, (struct io_uring * ring), (ring))
BOUNDARY(int, io_uring_submit_and_wait_timeout,
         (struct io_uring * ring, struct io_uring_cqe **cqe, unsigned count, struct __kernel_timespec *timeout,
          sigset_t *mask),
         (ring, cqe, count, timeout, mask))

/* Log lines are not state. */
ssize_t write(int fd, const void *bytes, size_t size)
{
    static ssize_t (*next)(int, const void *, size_t);
    if (next == NULL)
        *(void **)&next = dlsym(RTLD_NEXT, "write");
    if (fd <= STDERR_FILENO)
        return next(fd, bytes, size);
    long number = before();
    ssize_t result = next(fd, bytes, size);
    after(number);
    return result;
}
