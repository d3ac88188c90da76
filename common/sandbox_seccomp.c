// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <seccomp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/log.h"
#include "common/sandbox_private.h"

/* Not in the headers of the libc yet. */
#ifndef SO_MEMINFO
#define SO_MEMINFO 55
#endif

/* What both daemons call while they run, they or SQLite, libuv, liburing and the C library. A negative number is one
 * that this machine does not have. */
static const int allowed[] = {
    /* files, within what Landlock leaves */
    SCMP_SYS(access),
    SCMP_SYS(chmod),
    SCMP_SYS(close),
    SCMP_SYS(dup),
    SCMP_SYS(faccessat),
    SCMP_SYS(faccessat2),
    SCMP_SYS(fadvise64),
    SCMP_SYS(fallocate),
    SCMP_SYS(fchmod),
    SCMP_SYS(fchmodat),
    SCMP_SYS(fchown),
    SCMP_SYS(fchownat),
    SCMP_SYS(fdatasync),
    SCMP_SYS(flock),
    SCMP_SYS(fstat),
    SCMP_SYS(fstatfs),
    SCMP_SYS(fsync),
    SCMP_SYS(ftruncate),
    SCMP_SYS(getcwd),
    SCMP_SYS(getdents64),
    SCMP_SYS(link),
    SCMP_SYS(linkat),
    SCMP_SYS(lseek),
    SCMP_SYS(lstat),
    SCMP_SYS(mkdir),
    SCMP_SYS(mkdirat),
    SCMP_SYS(newfstatat),
    SCMP_SYS(open),
    SCMP_SYS(openat),
    SCMP_SYS(openat2),
    SCMP_SYS(pread64),
    SCMP_SYS(preadv),
    SCMP_SYS(pwrite64),
    SCMP_SYS(pwritev),
    SCMP_SYS(read),
    SCMP_SYS(readlink),
    SCMP_SYS(readlinkat),
    SCMP_SYS(readv),
    SCMP_SYS(rename),
    SCMP_SYS(renameat),
    SCMP_SYS(renameat2),
    SCMP_SYS(rmdir),
    SCMP_SYS(stat),
    SCMP_SYS(statfs),
    SCMP_SYS(statx),
    SCMP_SYS(symlink),
    SCMP_SYS(symlinkat),
    SCMP_SYS(sync_file_range),
    SCMP_SYS(syncfs),
    SCMP_SYS(umask),
    SCMP_SYS(unlink),
    SCMP_SYS(unlinkat),
    SCMP_SYS(utimensat),
    SCMP_SYS(write),
    SCMP_SYS(writev),
    /* events */
    SCMP_SYS(epoll_ctl),
    SCMP_SYS(epoll_pwait),
    SCMP_SYS(epoll_pwait2),
    SCMP_SYS(epoll_wait),
    SCMP_SYS(eventfd2),
    SCMP_SYS(inotify_add_watch),
    SCMP_SYS(inotify_init1),
    SCMP_SYS(inotify_rm_watch),
    SCMP_SYS(io_uring_enter),
    SCMP_SYS(poll),
    SCMP_SYS(ppoll),
    SCMP_SYS(pselect6),
    SCMP_SYS(select),
    /* memory */
    SCMP_SYS(brk),
    SCMP_SYS(madvise),
    SCMP_SYS(membarrier),
    SCMP_SYS(mlock),
    SCMP_SYS(mremap),
    SCMP_SYS(munlock),
    SCMP_SYS(munmap),
    /* threads, signals and time */
    SCMP_SYS(clock_getres),
    SCMP_SYS(clock_gettime),
    SCMP_SYS(clock_nanosleep),
    SCMP_SYS(exit),
    SCMP_SYS(exit_group),
    SCMP_SYS(futex),
    SCMP_SYS(get_robust_list),
    SCMP_SYS(getcpu),
    SCMP_SYS(gettimeofday),
    SCMP_SYS(nanosleep),
    SCMP_SYS(pause),
    SCMP_SYS(restart_syscall),
    SCMP_SYS(rseq),
    SCMP_SYS(rt_sigaction),
    SCMP_SYS(rt_sigpending),
    SCMP_SYS(rt_sigprocmask),
    SCMP_SYS(rt_sigreturn),
    SCMP_SYS(rt_sigtimedwait),
    SCMP_SYS(sched_getaffinity),
    SCMP_SYS(sched_yield),
    SCMP_SYS(set_robust_list),
    SCMP_SYS(set_tid_address),
    SCMP_SYS(sigaltstack),
    SCMP_SYS(time),
    /* what the process is and has */
    SCMP_SYS(capget),
    SCMP_SYS(getegid),
    SCMP_SYS(geteuid),
    SCMP_SYS(getgid),
    SCMP_SYS(getgroups),
    SCMP_SYS(getpid),
    SCMP_SYS(getrandom),
    SCMP_SYS(getrlimit),
    SCMP_SYS(getrusage),
    SCMP_SYS(gettid),
    SCMP_SYS(getuid),
    SCMP_SYS(sysinfo),
    SCMP_SYS(times),
    SCMP_SYS(uname),
};

/* The carrier's netlink socket is read with them; the sockets of the link are deaf (common/socket.h). */
static const int allowed_to_sender[] = {SCMP_SYS(recvfrom)};

/* No library calls these, whatever happens: who does is not one of ours, and gets no second call. */
static const int deadly[] = {
    SCMP_SYS(bpf),        SCMP_SYS(delete_module), SCMP_SYS(finit_module),     SCMP_SYS(init_module),
    SCMP_SYS(kexec_load), SCMP_SYS(pidfd_getfd),   SCMP_SYS(process_vm_readv), SCMP_SYS(process_vm_writev),
    SCMP_SYS(ptrace),     SCMP_SYS(userfaultfd),
};

static const unsigned fcntl_commands[] = {F_DUPFD_CLOEXEC, F_GETFD, F_SETFD, F_GETFL,
                                          F_SETFL,         F_GETLK, F_SETLK, F_SETLKW};
static const unsigned fcntl_commands_of_sender[] = {F_SETLEASE, F_GETLEASE};
static const unsigned prctl_options[] = {PR_SET_NAME, PR_SET_TIMERSLACK};

static bool add_all(scmp_filter_ctx context, uint32_t action, const int calls[], size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (calls[i] >= 0 && seccomp_rule_add(context, action, calls[i], 0) != 0)
            return false;
    return true;
}

static bool add_values(scmp_filter_ctx context, int call, unsigned argument, const unsigned values[], size_t count)
{
    for (size_t i = 0; i < count; i++) {
        /* Commands and options are 32 bits wide for the kernel; what is above them is anybody's. */
        struct scmp_arg_cmp is_value = SCMP_CMP(argument, SCMP_CMP_MASKED_EQ, UINT32_MAX, values[i]);
        if (seccomp_rule_add_array(context, SCMP_ACT_ALLOW, call, 1, &is_value) != 0)
            return false;
    }
    return true;
}

static bool add_one(scmp_filter_ctx context, int call, struct scmp_arg_cmp condition)
{
    return seccomp_rule_add_array(context, SCMP_ACT_ALLOW, call, 1, &condition) == 0;
}

/* Calls that are allowed by their arguments. */
static bool add_conditions(scmp_filter_ctx context)
{
    const scmp_datum_t self = (scmp_datum_t)getpid();
    const struct scmp_arg_cmp meminfo[] = {SCMP_CMP(1, SCMP_CMP_MASKED_EQ, UINT32_MAX, SOL_SOCKET),
                                           SCMP_CMP(2, SCMP_CMP_MASKED_EQ, UINT32_MAX, SO_MEMINFO)};
    return
        /* no code that was not there at the start */
        add_one(context, SCMP_SYS(mmap), SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0)) &&
        add_one(context, SCMP_SYS(mprotect), SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0)) &&
        /* threads, which libuv starts when it needs them, and no processes; what can't be looked into is not there */
        add_one(context, SCMP_SYS(clone), SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD)) &&
        seccomp_rule_add(context, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0) == 0 &&
        /* signals to itself */
        add_one(context, SCMP_SYS(kill), SCMP_A0(SCMP_CMP_MASKED_EQ, UINT32_MAX, self)) &&
        add_one(context, SCMP_SYS(tgkill), SCMP_A0(SCMP_CMP_MASKED_EQ, UINT32_MAX, self)) &&
        /* limits are looked at */
        add_one(context, SCMP_SYS(prlimit64), SCMP_A2(SCMP_CMP_EQ, 0)) &&
        /* how full a socket is */
        seccomp_rule_add_array(context, SCMP_ACT_ALLOW, SCMP_SYS(getsockopt), 2, meminfo) == 0 &&
        /* libuv's way to make a descriptor non-blocking */
        add_one(context, SCMP_SYS(ioctl), SCMP_A1(SCMP_CMP_MASKED_EQ, UINT32_MAX, FIONBIO));
}

#define COUNT(array) (sizeof(array) / sizeof *(array))

static bool add_rules(scmp_filter_ctx context, enum sandbox_role role)
{
    if (!add_all(context, SCMP_ACT_ALLOW, allowed, COUNT(allowed)) ||
        !add_all(context, SCMP_ACT_KILL_PROCESS, deadly, COUNT(deadly)) || !add_conditions(context) ||
        !add_values(context, SCMP_SYS(fcntl), 1, fcntl_commands, COUNT(fcntl_commands)) ||
        !add_values(context, SCMP_SYS(prctl), 0, prctl_options, COUNT(prctl_options)))
        return false;
    if (role != SANDBOX_SENDER)
        return true;
    return add_all(context, SCMP_ACT_ALLOW, allowed_to_sender, COUNT(allowed_to_sender)) &&
           add_values(context, SCMP_SYS(fcntl), 1, fcntl_commands_of_sender, COUNT(fcntl_commands_of_sender));
}

static enum status explain(int error)
{
    if (error == EOPNOTSUPP || error == EINVAL || error == ENOSYS)
        log_error(
            "sandbox: seccomp filters for all threads are not to be had, for want of CONFIG_SECCOMP_FILTER in this "
            "kernel or because a container keeps seccomp(2) away: use a kernel that has them, as Debian's, or set "
            "sandbox = off");
    else
        log_error("sandbox: the seccomp filter can't be loaded: %s; set sandbox = off to run without", strerror(error));
    errno = error;
    return STATUS_SYSTEM;
}

enum status sandbox_seccomp_load(enum sandbox_role role)
{
    scmp_filter_ctx context = seccomp_init(SCMP_ACT_ERRNO(EPERM));
    if (context == NULL)
        return explain(ENOMEM);
    /* For all threads at once, and decided by a tree, since some calls are frequent. */
    int result = seccomp_attr_set(context, SCMP_FLTATR_CTL_TSYNC, 1);
    if (result == 0)
        result = seccomp_attr_set(context, SCMP_FLTATR_CTL_OPTIMIZE, 2);
    if (result == 0)
        result = seccomp_attr_set(context, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
    if (result == 0)
        result = add_rules(context, role) ? 0 : -ENOMEM;
    if (result == 0)
        result = seccomp_load(context);
    seccomp_release(context);
    return result == 0 ? STATUS_OK : explain(-result);
}
