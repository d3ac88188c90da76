// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <sched.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/sandbox_private.h"

/*
 * Each call has arguments with which it does no harm where it is allowed, and then fails with another error than the
 * one of the sandbox, or works.
 */
static const struct {
    const char *name;
    long number;
    long arguments[6];
} forbidden[] = {
    {"socket", SYS_socket, {AF_INET, SOCK_DGRAM | SOCK_CLOEXEC}},
    {"socket (Unix)", SYS_socket, {AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC}},
    {"socketpair", SYS_socketpair, {AF_UNIX, SOCK_STREAM, 0, 0}},
    {"connect", SYS_connect, {-1}},
    {"bind", SYS_bind, {-1}},
    {"listen", SYS_listen, {-1}},
    {"accept4", SYS_accept4, {-1}},
    {"shutdown", SYS_shutdown, {-1}},
    {"setsockopt", SYS_setsockopt, {-1}},
    {"sendto", SYS_sendto, {-1}},
    {"sendmsg", SYS_sendmsg, {-1}},
    {"sendmmsg", SYS_sendmmsg, {-1}},
    {"recvmsg", SYS_recvmsg, {-1}},
    {"sendfile", SYS_sendfile, {-1, -1}},
    {"splice", SYS_splice, {-1, 0, -1}},
    {"io_uring_setup", SYS_io_uring_setup, {1, 0}},
    {"io_uring_register", SYS_io_uring_register, {-1, IORING_UNREGISTER_BUFFERS}},
    {"execve", SYS_execve, {0}},
    {"execveat", SYS_execveat, {-1, 0}},
    {"clone of a process", SYS_clone, {CLONE_SIGHAND}},
    {"unshare", SYS_unshare, {CLONE_THREAD}},
    {"setns", SYS_setns, {-1}},
    {"mount", SYS_mount, {0}},
    {"chroot", SYS_chroot, {0}},
    {"setuid", SYS_setuid, {-1}},
    {"capset", SYS_capset, {0}},
    {"pidfd_open", SYS_pidfd_open, {-1}},
    {"memfd_create", SYS_memfd_create, {0}},
    {"prctl", SYS_prctl, {PR_SET_DUMPABLE, 1}},
    {"ioctl", SYS_ioctl, {-1, TIOCSTI}},
};

static bool is_denied(long number, const long arguments[6], int denial)
{
    errno = 0;
    long result = syscall(number, arguments[0], arguments[1], arguments[2], arguments[3], arguments[4], arguments[5]);
    return result == -1 && errno == denial;
}

static bool can_map_code(void)
{
    void *page = mmap(NULL, 1, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page != MAP_FAILED)
        munmap(page, 1);
    return page != MAP_FAILED;
}

/* Landlock's refusal, and not that of the modes. */
static bool can_open(const char *path, int flags)
{
    int fd = open(path, flags | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd >= 0)
        close(fd);
    return fd >= 0 || (errno != EACCES && errno != ENOENT);
}

const char *sandbox_proof_find(void)
{
    if (!sandbox_capabilities_hold())
        return "a capability that is not of this role";
    for (size_t i = 0; i < sizeof forbidden / sizeof *forbidden; i++)
        if (!is_denied(forbidden[i].number, forbidden[i].arguments, EPERM))
            return forbidden[i].name;
    if (can_map_code())
        return "mapping code";
    if (can_open("/", O_RDONLY | O_DIRECTORY))
        return "opening /";
    if (can_open("/usr/bin/env", O_RDONLY))
        return "opening a program";
    return NULL;
}
