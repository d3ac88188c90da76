// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_SENDER_GROUP_H
#define DIODECAST_SENDER_GROUP_H

#include <stdbool.h>
#include <stdint.h>

#include "common/status.h"
#include "proto/datagram.h"
#include "sender/block.h"
#include "sender/interleave.h"

/*
 * Which blocks of a lane are sent together, when, and how often. Blocks are interleaved in groups of `depth`; when the
 * stream ends or is slow, in smaller ones. What takes much less than a full group on the link has little diversity in
 * time: a burst of losses that it should survive may take all of it. Such groups are sent once more, later than a burst
 * lasts; of a full group, blocks with few symbols, which are over after a few columns. Pure; one thread.
 */
struct group {
    struct block **blocks; /* [depth] */
    uint8_t *totals;       /* k + r of each */
    uint16_t *indexes;     /* of each in its group: a repeat may leave some out */
    uint16_t count;
    uint16_t depth; /* blocks in the first sending, as all datagrams say */
    uint16_t symbol_size;
    bool is_repeat;
    uint64_t first_sbn;
    bool closed;       /* no further block: what is in it must not wait for more, nor for the end of more */
    uint64_t before;   /* blocks of the set that started in groups before it */
    uint64_t since_ns; /* filling: the first block came; held: the first sending ended */
    struct interleave order;
    unsigned under_way; /* trains that have not left; the caller's */
};

enum {
    GROUP_HELD_MAX = 4,
    GROUP_HELD_EXTRA = 2,    /* blocks held together, beyond a full group's */
    GROUP_WINDOW_SLACK = 64, /* of the receiver's window, proto/README.md */
    GROUP_BEATS = 2,         /* heartbeats that may get block numbers before what is held was repeated */
};

/* The groups of one lane. `count` is 0 in those that do not exist. */
struct group_set {
    uint8_t full_symbols; /* k + r of a full block */
    uint16_t full_depth;
    uint64_t wait_ns, repeat_after_ns;
    struct group groups[2 + GROUP_HELD_MAX];
    struct group *filling, *sending;
    struct group *held[GROUP_HELD_MAX]; /* to be sent once more, the oldest first; the others are free */
    unsigned held_count;
    uint64_t started;       /* blocks that started so far */
    uint64_t before_newest; /* of these, the ones before the newest group that has left */
};

#define GROUP_WAIT_NS   UINT64_C(20000000) /* at least so long a group waits for the rest of its blocks */
#define GROUP_MARGIN_NS UINT64_C(2000000)  /* between the end of a burst and a repeat */
enum { GROUP_WAIT_SPANS = 4 };             /* or group spans: a stream at a quarter of the rate still fills groups */

/* Memory for `depth` blocks; asserts that it is there. A single group, for blocks that are not part of a stream. */
void group_init(struct group *group, uint16_t depth);
void group_deinit(struct group *group);
/* Starts the sending of the blocks in it, from block number `first_sbn` on. */
void group_begin(struct group *group, uint64_t first_sbn);
/* What the group says in the datagram of symbol `esi` of its block `index` (order's numbering). */
void group_fill(const struct group *group, uint16_t index, uint8_t esi, struct datagram *datagram);
/* A hint that this symbol is sent soon: starts to load it, if there is one. */
void group_expect(const struct group *group, uint16_t index, uint8_t esi);
/* Its smallest number of repair symbols. */
uint8_t group_repair_min(const struct group *group);

/* `span_ns`: what a full group takes on the link; `burst_ns`: what it must survive. */
void group_set_init(struct group_set *set, uint16_t depth, uint8_t source_symbols, uint8_t repair_symbols,
                    uint64_t span_ns, uint64_t burst_ns);
void group_set_deinit(struct group_set *set);

/* Whether another block may be added. */
bool group_has_room(const struct group_set *set);
/* Adds an encoded block; the set's until group_end() gives it back. One that ends a group closes it. */
void group_add(struct group_set *set, struct block *block, uint64_t now_ns);
/*
 * While none is being sent: chooses the next group, if one may start now, as set->sending. `flushed`: nothing will come
 * soon behind the blocks that were added. New blocks get numbers from *next_sbn on. A new group waits for a repeat only
 * where it would push what is held out of the receiver's window, or has to be held itself and there is no room.
 */
bool group_start(struct group_set *set, bool flushed, uint64_t *next_sbn, uint64_t now_ns);
/* The group being sent has left. Calls `done` for each block that is not needed any more. Returns how many blocks have
 * left for the first time. */
unsigned group_end(struct group_set *set, uint64_t now_ns, void (*done)(void *context, struct block *block),
                   void *context);
/*
 * How many blocks, in the order of adding, a restart of the sender need not send again: they have left, with their
 * repeat where they have one, and so has a group behind them. The newest group that has left does not count, as part of
 * it may still be in queues of this host, which a loss of power empties, or in a receiver's socket buffer, where it is
 * dropped when a newer epoch is confirmed on another lane.
 */
uint64_t group_settled(const struct group_set *set);
/* Whether a block is so much shorter than a full one that its group is over for it after a few columns. */
bool group_is_short_block(unsigned full_symbols, unsigned symbols);
/* When group_start() may have something by time alone; UINT64_MAX: never. */
uint64_t group_deadline_ns(const struct group_set *set, uint64_t next_sbn);

#endif
