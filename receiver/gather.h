// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_RECEIVER_GATHER_H
#define DIODECAST_RECEIVER_GATHER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/datagram.h"
#include "receiver/block.h"
#include "receiver/loss.h"

/*
 * Gathers symbols of one epoch of one lane of one sender into blocks. Sans I/O: takes datagrams and `now`, gives
 * blocks. One thread.
 *
 * Memory is one arena, carved as a ring: blocks are allocated in order of arrival and mostly end in that order. When it
 * is full the oldest incomplete block is given up; when even that does not help (later stages hold everything) the new
 * block is dropped.
 *
 * Window: twice the larger depth of the newest and the previous interleave group plus 64 SBNs, up to the end of the
 * newest group. So it holds the current and the previous group, and short groups directly behind each other all count
 * as previous. What is older is late. A complete block waits for incomplete ones of lower SBN only while its group is
 * the newest one and datagrams keep coming (GATHER_ORDER_WAIT_NS), so that later stages hash in order; it never waits
 * for an older group.
 *
 * Whoever knows no link key can forge plain datagrams. Of contradicting datagrams the first wins, until those that
 * contradict it outnumber those that agree: then the block (or the group's geometry) starts anew as they say. The
 * window follows a new group only when several datagrams of it have come; a block number far ahead that is forged opens
 * a block, and harms no other. Forgeries that outnumber the true datagrams move the window, and make these late; where
 * nothing but late ones comes for a while, it starts anew there. Only a link key keeps out a flood: then all this is
 * not done, for it is the sender that says where the window is, and what is late is a recording.
 */
struct gather;

#define GATHER_ORDER_WAIT_NS  UINT64_C(20000000)    /* silence after which complete blocks are released out of order */
#define GATHER_GIVE_UP_NS     UINT64_C(10000000000) /* without a datagram for so long an open block is given up */
#define GATHER_RESYNC_NS      UINT64_C(3000000000)  /* of late datagrams only: longer than the heartbeat's interval */
#define GATHER_RESYNC_SOON_NS UINT64_C(250000000)   /* likewise, once there were this many of them: */
enum { GATHER_RESYNC_DATAGRAMS = 64 };

struct gather_counters {
    uint64_t datagrams, lost; /* by gaps of the datagram sequence number; a late one takes its loss back */
    /* Given up: fewer than k symbols when it left the window, or none at all since the first group that was seen. */
    uint64_t blocks_complete, blocks_given_up;
    uint64_t drops[DATAGRAM_DROP_COUNT];
    uint64_t memory_needed; /* bytes of arena that the largest geometry seen needs for two groups */
};

/*
 * `arena` is borrowed, aligned to 64 bytes. `epoch` is the only one accepted: a new epoch gets a new gather. NULL when
 * out of memory (about 400 KiB beside the arena); nothing is allocated later.
 */
struct gather *gather_create(uint32_t sender_id, uint8_t lane, uint64_t epoch, uint8_t *arena, size_t arena_size);
/* The datagrams that are pushed were authenticated with a link key. Before the first. */
void gather_set_sealed(struct gather *gather);
/* All blocks must have been returned. */
void gather_destroy(struct gather *gather);

/*
 * Further blocks go to `arena`, borrowed; the one used up to now is free for others once gather_moving() is false.
 * Not while an earlier move is under way.
 */
void gather_move(struct gather *gather, uint8_t *arena, size_t arena_size);
bool gather_moving(const struct gather *gather);
/* Gives up what is still open in the arena used before, so that the move ends once the complete blocks are returned. */
void gather_end_move(struct gather *gather);

/*
 * A hint that gather_push() of this datagram may follow: starts to load what it will touch. Consecutive datagrams are
 * of different blocks, so that all of it is far away; the check of the tag is time enough to bring it near.
 */
void gather_expect(const struct gather *gather, const struct datagram *datagram);
/* Takes one datagram that was parsed, opened and belongs to this sender, lane and epoch; copies its symbol. Returns
 * what was counted. */
enum datagram_drop gather_push(struct gather *gather, const struct datagram *datagram, const uint8_t *symbol,
                               uint64_t now_ns);
/* The next block that is ready for decoding (at least k symbols), or NULL. */
struct block *gather_pop(struct gather *gather, uint64_t now_ns);
void gather_return(struct gather *gather, struct block *block);
/* Lets out the complete blocks that wait for others. */
void gather_release(struct gather *gather);
/* Nothing more will be pushed: gives up all open blocks and lets the complete ones out. */
void gather_finish(struct gather *gather);
/* When gather_pop() or giving up may have something to do without a new datagram; UINT64_MAX when nothing is open. */
uint64_t gather_deadline_ns(const struct gather *gather);
/* First SBN of which something can still come within the rules, for the watermark test: every block below it was
 * returned or given up, or none of its symbols came in time. Grows, except when the window starts anew. */
uint64_t gather_passed_sbn(struct gather *gather, uint64_t now_ns);
uint64_t gather_epoch(const struct gather *gather);
uint64_t gather_last_datagram_ns(const struct gather *gather); /* `now_ns` of the newest one, 0 before the first */
unsigned gather_held(const struct gather *gather);             /* blocks released and not yet returned */
/* Whether complete blocks that are not returned yet take more than half of the arena: later stages are behind. */
bool gather_is_crowded(const struct gather *gather);
unsigned gather_open(const struct gather *gather); /* blocks with fewer than k symbols */
const struct gather_counters *gather_counters(const struct gather *gather);

/*
 * What a later run of the receiver needs to go on where this one stopped: all that is known beside the symbols of the
 * open blocks. Times are not part of it; to the successor everything is as old as its start.
 */
enum { GATHER_GROUPS = 16, GATHER_WINDOW_MAX = 2 * LIMIT_DEPTH + 64 };
struct gather_state {
    uint64_t floor, passed, counted_from; /* SBNs; see gather_private.h */
    struct {
        uint64_t base;
        uint16_t depth, symbol_size;
    } groups[GATHER_GROUPS]; /* by ascending base */
    uint32_t group_count;    /* 0: no group was seen, and there is no window */
    /* Of each SBN from `floor` to the end of the newest group: the answer (enum datagram_drop) to further symbols of a
     * block that is over, or DATAGRAM_OK where it is open or nothing is known of it. */
    uint32_t window_size;
    uint8_t window[GATHER_WINDOW_MAX];
    struct loss loss;
};

/* After gather_release() and once the complete blocks were popped; blocks that are out count as over. */
void gather_export(const struct gather *gather, struct gather_state *state);
/* Calls `visit` for each symbol of each open block, until it returns false. `datagram` is what carried it, without
 * flags, salt and sequence number. */
void gather_export_symbols(const struct gather *gather,
                           bool (*visit)(void *context, const struct datagram *datagram, const uint8_t *symbol),
                           void *context);
/* Whether the numbers of a state agree with each other and with the limits; gather_import() takes no other. */
bool gather_state_is_sane(const struct gather_state *state);
/* Before the first datagram. */
void gather_import(struct gather *gather, const struct gather_state *state, uint64_t now_ns);
/* gather_push() of a datagram that the run before took and counted already; its symbol_hash is made here. */
enum datagram_drop gather_import_symbol(struct gather *gather, const struct datagram *datagram, const uint8_t *symbol,
                                        uint64_t now_ns);

#endif
