// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_SENDER_TRAIN_H
#define DIODECAST_SENDER_TRAIN_H

#include <liburing.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/linkkey.h"
#include "common/socket.h"
#include "proto/datagram.h"

/*
 * Trains of datagrams on their way into a socket: each is one sendmsg with UDP_SEGMENT (udp(7), Linux 4.18), which the
 * kernel or the device cuts into datagrams. Symbols are sent from where they lie; headers, and sealed symbols when
 * there is a link key, have a place in the train's slot. Where a path can't do segmentation, one sendmsg a datagram.
 * What the socket refuses is counted, logged at most every ten seconds and tried again. One thread.
 */
struct train_yard;

enum {
    TRAIN_DATAGRAMS = 64, /* most in one train: the kernel's UDP_MAX_SEGMENTS of old */
    TRAIN_BYTES = 65000,  /* most in one train: an IP packet's payload, less all headers */
};

struct train_counters {
    uint64_t datagrams, wire_bytes;
    uint64_t errors;               /* refusals that are tried again */
    uint64_t message_too_long;     /* EMSGSIZE */
    uint64_t segmentation_refused; /* how often segmentation was given up for a while */
    int last_errno;
    uint64_t last_error_ns;
};

/*
 * `ring`, `to` and `key` are borrowed; `key` is NULL without a link key. Submissions carry user data below
 * TRAIN_USER_DATA_LIMIT. Asserts that memory is there.
 */
enum { TRAIN_USER_DATA_LIMIT = 1 << 16 };
struct train_yard *train_create(struct io_uring *ring, int fd, const struct socket_address *to, struct linkkey *key);
void train_destroy(struct train_yard *yard); /* nothing may be under way */

/* Most datagrams of a train with symbols of this size. */
unsigned train_limit(uint16_t symbol_size);

/*
 * Begins a train; false when all slots are under way. `*under_way` (borrowed until then) is counted up now and down
 * when the train has left. With `lossy` a train that is refused is not tried again: what it carries will be newer next
 * time.
 */
bool train_begin(struct train_yard *yard, uint16_t symbol_size, bool lossy, unsigned *under_way);
/* Adds a datagram; `symbol` must stay until the train has left, unless there is a link key. Without one the tag is made
 * from datagram->symbol_hash, and `symbol` is not read here. */
void train_add(struct train_yard *yard, const struct datagram *datagram, const uint8_t *symbol);
/* Hands the train to the socket. */
void train_go(struct train_yard *yard);

/* A completion with user data below the limit. A cancelled call is not tried again. */
void train_completed(struct train_yard *yard, uint64_t user_data, int result, uint64_t now_ns);
/* Tries again what is due, segmentation too. */
void train_retry(struct train_yard *yard, uint64_t now_ns);
/* When something is due to be tried again; UINT64_MAX: nothing. */
uint64_t train_retry_ns(const struct train_yard *yard);
/* Calls that the kernel has not completed. */
unsigned train_submitted(const struct train_yard *yard);
void train_counters(const struct train_yard *yard, struct train_counters *counters);

#endif
