// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_RECEIVER_GATHER_H
#define DIODECAST_RECEIVER_GATHER_H

#include <stddef.h>
#include <stdint.h>

#include "proto/datagram.h"
#include "receiver/block.h"

/*
 * Gathers symbols of one lane of one sender into blocks. Sans I/O: takes datagrams and `now`, gives blocks. One thread.
 *
 * Memory is one arena given at creation, carved as a ring: blocks are allocated in order of arrival and mostly end in
 * that order. When it is full the oldest incomplete block is given up; when even that does not help (later stages hold
 * everything) the new block is dropped.
 *
 * Window: the current and the previous interleave group (and short groups directly behind each other count as previous
 * as long as they lie within twice the larger depth plus 64 SBNs); what is older is late. A complete block waits for
 * incomplete ones of lower SBN only while its group is the newest one and datagrams keep coming (GATHER_ORDER_WAIT_NS),
 * so that later stages hash in order; it never waits for an older group.
 */
struct gather;

#define GATHER_ORDER_WAIT_NS UINT64_C(20000000)    /* silence after which complete blocks are released out of order */
#define GATHER_GIVE_UP_NS    UINT64_C(10000000000) /* without a datagram for so long an open block is given up */

struct gather_counters {
    uint64_t datagrams, lost; /* by gaps of the datagram sequence number; a late one takes its loss back */
    uint64_t blocks_complete, blocks_given_up; /* given up: fewer than k symbols when it left the window */
    uint64_t drops[DATAGRAM_DROP_COUNT];
    uint64_t memory_needed; /* bytes that the largest geometry seen would need for two groups */
};

/* `arena` is borrowed, page-aligned. `epoch` is the only one accepted: a new epoch gets a new gather. */
struct gather *gather_create(uint32_t sender_id, uint8_t lane, uint64_t epoch, uint8_t *arena, size_t arena_size);
/* All blocks must have been returned. */
void gather_destroy(struct gather *gather);

/* Takes one datagram that was parsed, opened and belongs to this sender, lane and epoch; copies its symbol. Returns
 * what was counted. */
enum datagram_drop gather_push(struct gather *gather, const struct datagram *datagram, const uint8_t *symbol,
                               uint64_t now_ns);
/* The next block that is ready for decoding (at least k symbols), or NULL. */
struct block *gather_pop(struct gather *gather, uint64_t now_ns);
void gather_return(struct gather *gather, struct block *block);
/* When gather_pop() or giving up may have something to do without a new datagram; UINT64_MAX when nothing is open. */
uint64_t gather_deadline_ns(const struct gather *gather);
/* First SBN of which nothing can come any more within the rules, for the watermark test: everything below is decoded or
 * given up. */
uint64_t gather_passed_sbn(const struct gather *gather, uint64_t now_ns);
unsigned gather_held(const struct gather *gather); /* blocks released and not yet returned */
const struct gather_counters *gather_counters(const struct gather *gather);

#endif
