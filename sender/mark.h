// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_SENDER_MARK_H
#define DIODECAST_SENDER_MARK_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/limits.h"

/*
 * How far a transfer has left: from now and then a point is noted, a position of the packing and the blocks that hold
 * what lies before it. The point is reached when of each lane as many blocks have settled (group_settled() says what
 * that means and which blocks a crash may still take). Pure.
 */
enum { MARK_POINTS = 8 };

struct mark {
    struct mark_point {
        uint64_t position;
        uint64_t blocks[LIMIT_LANES]; /* of each lane, from the start of the sender */
    } points[MARK_POINTS];            /* a ring; positions rise */
    unsigned first, count, lanes;
    uint64_t spacing; /* bytes between two points, at least */
    uint64_t noted;   /* newest position noted */
    uint64_t reached;
};

/* `start`: what need not be sent at all. */
void mark_init(struct mark *mark, unsigned lanes, uint64_t start, uint64_t spacing);
/* Everything before `position` is in the first blocks[i] blocks of each lane i. `is_end`: it is the last position. */
void mark_packed(struct mark *mark, uint64_t position, const uint64_t blocks[], bool is_end);
/* Takes how many blocks of each lane have settled. Returns the mark; it never goes back. */
uint64_t mark_settled(struct mark *mark, const uint64_t settled[]);

#endif
