// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_COMMON_RING_H
#define DIODECAST_COMMON_RING_H

#include <liburing.h>
#include <stdint.h>

#include "common/status.h"

/* io_uring set-up, shared by all stages that do I/O. A ring belongs to the thread that uses it. */

/*
 * What a ring is for. A sealed ring carries out the operations of its role and no others: seccomp does not see what is
 * submitted to a ring, so this is what keeps a ring from making and using sockets (io_uring_register(2),
 * IORING_REGISTER_RESTRICTIONS, Linux 5.10).
 */
enum ring_role {
    RING_RECEIVES, /* recvmsg with provided buffers */
    RING_SENDS,    /* sendmsg */
    RING_READS,    /* read, also into registered memory */
    RING_WRITES,   /* writev and sync_file_range */
    RING_FLUSHES,  /* fsync */
    RING_ROLE_COUNT,
};

/*
 * Makes a ring with IORING_SETUP_SINGLE_ISSUER | DEFER_TASKRUN (Linux 6.1) that is restricted to its role, for good,
 * and enabled for the calling thread, which alone can use it. On failure prints what to do (kernel.io_uring_disabled,
 * memlock limit, kernel older than 6.1) and returns STATUS_SYSTEM.
 */
MUST_CHECK enum status ring_open(unsigned entries, unsigned completion_entries, enum ring_role role,
                                 struct io_uring *ring);
/* The same in two steps, for a ring to which memory is registered in between: afterwards nothing can be. Whatever
 * ring_seal() returns, the ring is to be closed. */
MUST_CHECK enum status ring_prepare(unsigned entries, unsigned completion_entries, struct io_uring *ring);
MUST_CHECK enum status ring_seal(struct io_uring *ring, enum ring_role role);
void ring_close(struct io_uring *ring);

/* An empty submission entry; submits what is queued when the queue is full. Never NULL. */
struct io_uring_sqe *ring_sqe(struct io_uring *ring);

/* Submits, then waits for at least one completion or until `deadline_ns` (CLOCK_MONOTONIC; UINT64_MAX: no limit).
 * Returns when either holds, or on a signal. */
void ring_wait(struct io_uring *ring, uint64_t now_ns, uint64_t deadline_ns);

#endif
