// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_SENDER_PACE_H
#define DIODECAST_SENDER_PACE_H

#include <stdint.h>

/*
 * When the next train may leave, counted in the bits that a datagram occupies on the wire. Kept as the moment at which
 * a link of exactly the rate would have carried everything sent so far: a train may leave from then on. A sender that
 * wakes up late makes up for at most `credit_ns`, so that the mean holds on a busy machine, within two bounds, each of
 * which one train may exceed: any PACE_WINDOW_NS carry at most what the rate allows in them (so that a pause is made up
 * for next to other pauses, or little by little), and any `burst_ns` at most a tenth more than that: groups are made
 * for a burst of losses at the rate with as much again in reserve, of which random losses take most. Pure.
 */
#define PACE_WINDOW_NS UINT64_C(100000000)
#define PACE_SLOT_NS   UINT64_C(200000) /* resolution of both windows, which are longer by up to that */
enum { PACE_SLOTS = PACE_WINDOW_NS / PACE_SLOT_NS + 1 };

/* What was sent in the newest slots, and what may be. */
struct pace_window {
    uint64_t slots;
    uint64_t limit, sum; /* bits */
};

struct pace {
    uint64_t rate_bits_per_s;
    uint64_t credit_ns;
    uint64_t free_ns;   /* the link has carried all that was sent */
    uint64_t remainder; /* what is behind the point of free_ns, in units of 1 / rate */
    uint64_t room_ns;   /* from when on both windows have room for a train */

    uint64_t slot;             /* the newest one: its time by PACE_SLOT_NS */
    uint64_t bits[PACE_SLOTS]; /* sent in the slots of the longer window, by slot % PACE_SLOTS */
    struct pace_window window, burst;
};

/* `burst_ns` is cut at PACE_WINDOW_NS. */
void pace_init(struct pace *pace, uint64_t rate_bits_per_s, uint64_t credit_ns, uint64_t burst_ns, uint64_t now_ns);
/* From when on the next train may leave. */
uint64_t pace_ready_ns(const struct pace *pace);
/* A train of `bits` (less than 2^34) has just left. */
void pace_sent(struct pace *pace, uint64_t bits, uint64_t now_ns);
/* There was nothing to send until now: time without need earns no credit. */
void pace_resume(struct pace *pace, uint64_t now_ns);
/* How long `bits` occupy a link of the rate, rounded up. */
uint64_t pace_span_ns(uint64_t rate_bits_per_s, uint64_t bits);

#endif
