// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_SENDER_PACKING_H
#define DIODECAST_SENDER_PACKING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sender/block.h"
#include "sender/config.h"
#include "sender/lane.h"
#include "sender/pack.h"

/*
 * The block that is being packed and the way of packed blocks to the lanes: each lane in turn gets an interleave
 * group's worth, and a block goes out when its reads have landed, in order. The read stage's thread only.
 */
struct packing {
    const struct config *config;
    struct lane *const *lanes;
    size_t capacity; /* payload bytes of a full block */
    struct pack pack;
    struct block *open;                       /* being packed, or NULL */
    struct block *closed_first, *closed_last; /* packed, in order; go out when their reads have landed */
    unsigned lane;                            /* that the open block belongs to */
    unsigned in_group;                        /* blocks that this lane was given in a row */
    unsigned ended_early;                     /* groups in a row, by packing_end_group() */
    uint64_t half_span_ns;                    /* half of what a full group takes on the link */
    uint64_t left[LIMIT_LANES];               /* the lanes' `sent` when it was last seen to rise, … */
    uint64_t left_ns[LIMIT_LANES];            /* … and when that was */
    uint64_t taken[LIMIT_LANES];              /* blocks opened so far */
    uint64_t handed[LIMIT_LANES];             /* the lanes' atomics, cheaper */
};

enum { PACKING_EARLY_MAX = 2 };

/* Borrows both. `group_span_ns`: what a full group takes on the link. */
void packing_init(struct packing *packing, const struct config *config, struct lane *const *lanes,
                  uint64_t group_span_ns);
/* Opens a block unless one is; false when its lane has no empty one, or only one that is not hashed yet. */
bool packing_open(struct packing *packing);
/* Notes when groups have left; in each round. */
void packing_look(struct packing *packing, uint64_t now_ns);
/*
 * Whether the link will have to wait for the group that is being packed, going by the time since the one before it:
 * then reads may run ahead of hashing, which takes longer, as far as there are empty blocks. Not always: what has
 * priority waits for its hash, and that lies behind all that was read before.
 */
bool packing_is_late(const struct packing *packing, uint64_t now_ns);
/*
 * Whether frames with this repeat_of may go into the open block; else it is to be closed first, for it holds others.
 * An empty block becomes one of theirs.
 */
bool packing_suits(struct packing *packing, uint64_t repeat_of);
/* The open block is full enough. Returns it, to look at; valid until packing_hand_over(). */
const struct block *packing_close(struct packing *packing);
/*
 * What was packed last should not wait for more: the group ends with it, and the open block, if it is in use, is to be
 * closed now. False when that is not worth it: groups that are cut off are sent twice, so that of PACKING_EARLY_MAX in
 * a row the next one must be complete.
 */
bool packing_end_group(struct packing *packing);
/* Passes on the blocks whose reads have landed. True when there were any. */
bool packing_hand_over(struct packing *packing);
/* Nothing follows at the moment: what the lanes hold must not wait for more. An open block in use is closed before.
 * True when that ended a group that was not complete. */
bool packing_flush(struct packing *packing);
/* Whether a block for the open block's lane would be the first of a group, on a lane that has sent everything. */
bool packing_is_free(const struct packing *packing);

#endif
