// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_RECEIVER_RECEIVE_H
#define DIODECAST_RECEIVER_RECEIVE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/cpus.h"
#include "common/doorbell.h"
#include "common/linkkey.h"
#include "common/queue.h"
#include "common/socket.h"
#include "common/status.h"
#include "common/trust.h"
#include "proto/datagram.h"
#include "receiver/handover.h"
#include "receiver/key_use.h"
#include "receiver/progress.h"

/*
 * The receive stage of one lane, one thread: takes datagrams from its socket by io_uring, checks them, gathers their
 * symbols and hands complete blocks on. When later stages are behind, as after a restart with much to catch up with, it
 * leaves what arrives in the socket for as long as that has room. Then it takes it all the same, and blocks for which
 * there is no memory are dropped whole and counted: a socket that overflowed would cost all blocks some of their
 * symbols.
 *
 * Memory: buffers that the kernel fills, and for each trusted sender an equal share of the rest (receiver/epochs.h).
 */
struct receive;

enum { RECEIVE_SOCKET_BUFFER = 32 << 20 }; /* bytes wanted of the kernel: a quarter of a second at 1 Gbit/s */

struct receive_setup {
    const struct socket_address *address; /* of this lane; copied */
    int fd;                               /* a socket of the service manager's, taken, or -1: opens its own */
    unsigned lane;
    uint64_t memory;                 /* bytes for this lane */
    const struct trust *trust;       /* borrowed */
    const uint8_t *link_secret;      /* LINKKEY_SIZE bytes, copied; NULL without a link key */
    const uint8_t *link_secret_next; /* likewise, a second one that is accepted as well; or NULL */
    struct queue *ready, *done;      /* borrowed; carry struct block */
    size_t queue_capacity;           /* of both: most blocks that are out at a time */
    struct doorbell *store_bell;     /* borrowed; rung after blocks were pushed to `ready` */
    struct lane_progress *progress;  /* borrowed */
    const struct cpus *cpus;         /* borrowed; that of number `lane` is the thread's; NULL: none */
};

struct receive_counters {
    uint64_t datagrams; /* all that came, dropped ones too */
    uint64_t lost;      /* by gaps of the sequence numbers */
    uint64_t drops[DATAGRAM_DROP_COUNT];
    uint64_t kernel_socket_buffer;  /* buffers that the kernel dropped because the socket's was full */
    uint64_t buffer_ring_exhausted; /* times that all of our buffers were full; the socket's buffer bridges it */
    uint64_t store_queue_full;      /* complete blocks dropped because later stages did not keep up */
    uint64_t disk_too_slow;    /* datagrams without memory, not in `drops`, while writes were waiting for the disk */
    uint64_t blocks_complete;  /* with at least k symbols */
    uint64_t blocks_given_up;  /* with fewer */
    uint64_t memory_needed;    /* bytes of main arena that the largest geometry seen needs */
    uint64_t last_datagram_ns; /* monotonic, of the newest one that passed all checks; 0: none */
    uint64_t turns;            /* of the thread's loop, at least one a second */
};

/* Opens the socket and allocates all memory; logs what fails. Control thread. */
MUST_CHECK enum status receive_create(const struct receive_setup *setup, struct receive **receive);
MUST_CHECK enum status receive_start(struct receive *receive);
/*
 * Ends the thread: the kernel is told to fill no more buffers, those that it has filled are processed, and complete
 * blocks go to `ready`. What is still in the socket stays there. Open blocks stay where they are.
 */
void receive_stop(struct receive *receive);
/* Writes what the next run needs to go on here; after receive_stop(). Returns the number of open blocks among it. */
size_t receive_export(const struct receive *receive, struct handover_writer *writer);
/* Takes a record of the run before, as epochs_import() does; before receive_start(). */
bool receive_import(struct receive *receive, const struct handover_record *record, uint64_t now_ns);
/* Open blocks; before receive_start() or after receive_stop(). */
size_t receive_open_blocks(const struct receive *receive);
/* Gives up and counts the open blocks, which nobody takes over; after receive_stop(). */
void receive_give_up(struct receive *receive);
/* After the later stages have ended: takes back what is in `ready` and `done`. NULL is allowed. */
void receive_destroy(struct receive *receive);

/* To be rung by the stage that gives blocks back through `done`. */
struct doorbell *receive_done_bell(const struct receive *receive);

/* Any thread; figures at most 100 ms old. */
void receive_counters(const struct receive *receive, struct receive_counters *counters);
/* Which link keys the senders use; NULL without one. Borrowed as long as the stage exists. Any thread. */
const struct key_use *receive_key_use(const struct receive *receive);
uint32_t receive_socket_buffer(const struct receive *receive); /* bytes granted */
uint64_t receive_arena_size(const struct receive *receive);    /* bytes of each sender's main arena */
/* What `memory` of a lane must be, so that the main arena of each of `senders` has `arena` bytes. */
uint64_t receive_memory_for(uint64_t arena, size_t senders);

#endif
