// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_SENDER_LANE_H
#define DIODECAST_SENDER_LANE_H

#include <stdatomic.h>
#include <stdint.h>

#include "common/doorbell.h"
#include "common/queue.h"
#include "common/slab.h"
#include "common/status.h"
#include "sender/block.h"
#include "sender/config.h"

/*
 * What the read stage and the send thread of one lane share: the blocks, the queues that carry them to and fro, and
 * counts. Each atomic has one writer. Block numbers on the wire go up with the blocks handed over, and heartbeats take
 * some between.
 */
struct lane {
    unsigned index;
    struct slab *slab;
    struct block *blocks;
    unsigned block_count;
    struct queue *filled;         /* read → send */
    struct queue *empty;          /* send → read */
    struct doorbell *send_bell;   /* wakes the send thread; the lane's */
    struct doorbell *read_bell;   /* wakes the read stage; borrowed */
    _Atomic uint64_t handed;      /* read: blocks pushed to `filled` */
    _Atomic uint64_t flush;       /* read: of these, the ones that must not wait for more */
    _Atomic uint64_t sent;        /* send: blocks that have left once, in the order of handing over */
    _Atomic uint64_t settled;     /* send: as group_settled() */
    _Atomic uint64_t returned;    /* send: blocks that are done with, repeats included */
    _Atomic uint64_t beat_blocks; /* send: block numbers taken by heartbeats */
};

/* Bytes of one block's symbols in the largest geometry. */
size_t lane_block_size(const struct config *config);
/* Allocates two groups of blocks and a few more; all start in `empty`. Failures are logged. */
MUST_CHECK enum status lane_create(const struct config *config, unsigned index, struct doorbell *read_bell,
                                   struct lane **lane);
void lane_destroy(struct lane *lane);
/*
 * A block number behind the lane's first `blocks` blocks. Blocks get their numbers when they are sent, and heartbeats
 * take some: while some of these blocks wait, room is left for the beats that may go before them (a group before them
 * may be sent twice). Beats go on for ever, so that a mark slightly too high is passed soon after. `block_span_ns`:
 * what a block takes on the link. Thread of the read stage.
 */
uint64_t lane_watermark(struct lane *lane, uint64_t blocks, uint64_t block_span_ns);

#endif
