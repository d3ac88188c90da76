// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_RECEIVER_BUFFERS_H
#define DIODECAST_RECEIVER_BUFFERS_H

#include <liburing.h>
#include <stdint.h>

#include "common/status.h"

/* The buffers that the kernel fills with datagrams: a ring of provided buffers (io_uring_register_buf_ring(3)). */
struct buffers;

enum {
    BUFFERS_CONTROL_SIZE = 64, /* UDP_GRO and SO_RXQ_OVFL take 24 bytes each */
    BUFFERS_GROUP = 0,         /* buffer group id */
};

/* Bytes that are taken of a lane's `memory`. */
uint64_t buffers_bytes(uint64_t memory);
MUST_CHECK enum status buffers_create(uint64_t memory, struct buffers **buffers);
void buffers_destroy(struct buffers *buffers); /* NULL is allowed */
unsigned buffers_count(const struct buffers *buffers);
/* Gives all of them to the kernel, by the thread that uses the ring. STATUS_SYSTEM with errno. */
MUST_CHECK enum status buffers_register(struct buffers *buffers, struct io_uring *ring);
/* The buffer that a completion names, and giving it back. */
uint8_t *buffers_at(const struct buffers *buffers, unsigned id);
void buffers_recycle(struct buffers *buffers, unsigned id);

#endif
