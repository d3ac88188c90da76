// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_COMMON_RING_H
#define DIODECAST_COMMON_RING_H

#include <liburing.h>
#include <stdint.h>

#include "common/status.h"

/* io_uring set-up, shared by all stages that do I/O. A ring belongs to the thread that uses it. */

/*
 * Makes a ring with IORING_SETUP_SINGLE_ISSUER | DEFER_TASKRUN where the kernel has them (6.1), to be called by the
 * thread that uses it. On failure prints what to do (kernel.io_uring_disabled, memlock limit, kernel older than 6.1)
 * and returns STATUS_SYSTEM.
 */
MUST_CHECK enum status ring_open(unsigned entries, unsigned completion_entries, struct io_uring *ring);
void ring_close(struct io_uring *ring);

/* An empty submission entry; submits what is queued when the queue is full. Never NULL. */
struct io_uring_sqe *ring_sqe(struct io_uring *ring);

/* Submits, then waits for at least one completion or until `deadline_ns` (CLOCK_MONOTONIC; UINT64_MAX: no limit).
 * Returns when either holds, or on a signal. */
void ring_wait(struct io_uring *ring, uint64_t now_ns, uint64_t deadline_ns);

#endif
