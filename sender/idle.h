// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_SENDER_IDLE_H
#define DIODECAST_SENDER_IDLE_H

#include <stdbool.h>
#include <stdint.h>

/*
 * What idle re-sending may take of the link: at most a share of the rate, in whole interleave groups, because short
 * groups have to be sent twice. A group may begin when everything that was sent before has been earned; so any span of
 * T seconds carries at most share * T and one group. Pure.
 */
struct idle {
    uint64_t rate_bits_per_s; /* the share */
    uint64_t free_ns;         /* from when on the next group may begin */
    uint64_t full_bits;       /* of this group's blocks, those that are repeated only if it stays short */
};

/* `share`: per cent of the rate, 1 to 100. */
void idle_init(struct idle *idle, uint64_t rate_bits_per_s, unsigned share, uint64_t now_ns);
/* When the next group may begin. */
uint64_t idle_ready_ns(const struct idle *idle);
/* A block of so many wire bits was packed; a short one is sent twice in any group. */
void idle_block(struct idle *idle, uint64_t bits, bool is_short, uint64_t now_ns);
/* The group is over: complete, or short, and so sent twice. */
void idle_group(struct idle *idle, bool complete, uint64_t now_ns);

#endif
