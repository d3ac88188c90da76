// SPDX-License-Identifier: Apache-2.0
#include "common/ring.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "common/log.h"

enum { KERNEL_MAJOR = 6, KERNEL_MINOR = 1, OPERATIONS_MAX = 3 };

/* Each role waits for its doorbell by POLL_ADD, but for the one that waits for its own operations only. */
static const struct role {
    unsigned count;
    uint8_t operations[OPERATIONS_MAX];
    uint8_t flags; /* IOSQE_*, those that a submission may have */
} roles[RING_ROLE_COUNT] = {
    [RING_RECEIVES] = {3, {IORING_OP_RECVMSG, IORING_OP_POLL_ADD, IORING_OP_ASYNC_CANCEL}, IOSQE_BUFFER_SELECT},
    [RING_SENDS] = {3, {IORING_OP_SENDMSG, IORING_OP_POLL_ADD, IORING_OP_ASYNC_CANCEL}, 0},
    [RING_READS] = {3, {IORING_OP_READ, IORING_OP_READ_FIXED, IORING_OP_POLL_ADD}, 0},
    [RING_WRITES] = {3, {IORING_OP_WRITEV, IORING_OP_SYNC_FILE_RANGE, IORING_OP_POLL_ADD}, 0},
    [RING_FLUSHES] = {1, {IORING_OP_FSYNC}, 0},
};

static bool kernel_is_new_enough(struct utsname *name)
{
    unsigned major = 0;
    unsigned minor = 0;
    if (uname(name) != 0 || sscanf(name->release, "%u.%u", &major, &minor) != 2)
        return true; /* let io_uring_setup decide */
    return major > KERNEL_MAJOR || (major == KERNEL_MAJOR && minor >= KERNEL_MINOR);
}

/* kernel.io_uring_disabled: 0 allowed, 1 only for a group, 2 for nobody; -1 when this kernel has no such switch. */
static int disabled_setting(void)
{
    FILE *file = fopen("/proc/sys/kernel/io_uring_disabled", "re");
    if (file == NULL)
        return -1;
    int setting = -1;
    if (fscanf(file, "%d", &setting) != 1)
        setting = -1;
    fclose(file);
    return setting;
}

static void explain(int error)
{
    struct utsname name;
    int setting = disabled_setting();
    if (!kernel_is_new_enough(&name))
        log_error("io_uring: this kernel is %s, at least %d.%d is needed", name.release, KERNEL_MAJOR, KERNEL_MINOR);
    else if (error == EPERM && setting > 0)
        log_error("io_uring: forbidden by kernel.io_uring_disabled=%d; set it to 0 with "
                  "'sysctl kernel.io_uring_disabled=0' and in /etc/sysctl.d",
                  setting);
    else if (error == EPERM || error == ENOSYS)
        log_error("io_uring: %s; a seccomp filter (of a container, for example) or the kernel's configuration keeps "
                  "it away",
                  strerror(error));
    else if (error == ENOMEM)
        log_error("io_uring: %s; raise the limit of locked memory (LimitMEMLOCK=, ulimit -l) or free memory",
                  strerror(error));
    else
        log_error("io_uring: can't be set up: %s", strerror(error));
}

enum status ring_prepare(unsigned entries, unsigned completion_entries, struct io_uring *ring)
{
    struct io_uring_params parameters = {
        .flags =
            IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_CQSIZE | IORING_SETUP_R_DISABLED,
        .cq_entries = completion_entries > entries ? completion_entries : entries,
    };
    int result = io_uring_queue_init_params(entries, ring, &parameters);
    if (result < 0) {
        explain(-result);
        errno = -result;
        return STATUS_SYSTEM;
    }
    return STATUS_OK;
}

/* Debian 12's liburing declares functions for these, and its shared library does not export them. */
static bool register_with(const struct io_uring *ring, unsigned operation, const void *argument, unsigned count)
{
    return syscall(SYS_io_uring_register, ring->ring_fd, operation, argument, count) == 0;
}

enum status ring_seal(struct io_uring *ring, enum ring_role role)
{
    assert(role < RING_ROLE_COUNT);
    const struct role *chosen = &roles[role];
    struct io_uring_restriction rules[OPERATIONS_MAX + 1];
    unsigned count = 0;
    memset(rules, 0, sizeof rules);
    for (unsigned i = 0; i < chosen->count; i++) {
        rules[count].opcode = IORING_RESTRICTION_SQE_OP;
        rules[count++].sqe_op = chosen->operations[i];
    }
    rules[count].opcode = IORING_RESTRICTION_SQE_FLAGS_ALLOWED;
    rules[count++].sqe_flags = chosen->flags;
    if (register_with(ring, IORING_REGISTER_RESTRICTIONS, rules, count) &&
        register_with(ring, IORING_REGISTER_ENABLE_RINGS, NULL, 0))
        return STATUS_OK;
    int error = errno;
    log_error("io_uring: a ring can't be restricted to what it is for: %s", strerror(error));
    return status_from_errno(error);
}

enum status ring_open(unsigned entries, unsigned completion_entries, enum ring_role role, struct io_uring *ring)
{
    enum status status = ring_prepare(entries, completion_entries, ring);
    if (status != STATUS_OK)
        return status;
    status = ring_seal(ring, role);
    if (status != STATUS_OK)
        ring_close(ring);
    return status;
}

void ring_close(struct io_uring *ring)
{
    io_uring_queue_exit(ring);
}

/* What io_uring_enter may report without anything being wrong on our side. */
static bool is_transient(int result)
{
    return result >= 0 || result == -EINTR || result == -ETIME || result == -EAGAIN || result == -EBUSY ||
           result == -ENOMEM;
}

struct io_uring_sqe *ring_sqe(struct io_uring *ring)
{
    for (;;) {
        struct io_uring_sqe *sqe = io_uring_get_sqe(ring);
        if (sqe != NULL)
            return sqe;
        int result = io_uring_submit(ring);
        assert(is_transient(result));
        (void)result;
    }
}

void ring_wait(struct io_uring *ring, uint64_t now_ns, uint64_t deadline_ns)
{
    uint64_t left_ns = deadline_ns > now_ns ? deadline_ns - now_ns : 0;
    struct __kernel_timespec timeout = {.tv_sec = (long long)(left_ns / 1000000000U),
                                        .tv_nsec = (long long)(left_ns % 1000000000U)};
    struct io_uring_cqe *cqe = NULL;
    int result = io_uring_submit_and_wait_timeout(ring, &cqe, 1, deadline_ns == UINT64_MAX ? NULL : &timeout, NULL);
    assert(is_transient(result));
    (void)result;
}
