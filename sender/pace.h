// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_SENDER_PACE_H
#define DIODECAST_SENDER_PACE_H

#include <stdint.h>

/*
 * A token bucket over trains, counted in the bits that a datagram occupies on the wire. Kept as the moment at which a
 * link of exactly the rate would have carried everything sent so far: a train may leave from then on. A sender that
 * wakes up late makes up for at most `credit_ns`, so that the mean holds, and any span of T seconds carries at most
 * rate * (T + credit) bits and one train. Pure.
 */
struct pace {
    uint64_t rate_bits_per_s;
    uint64_t credit_ns;
    uint64_t free_ns;   /* the link has carried all that was sent */
    uint64_t remainder; /* what is behind the point of free_ns, in units of 1 / rate */
};

void pace_init(struct pace *pace, uint64_t rate_bits_per_s, uint64_t credit_ns, uint64_t now_ns);
/* From when on the next train may leave. */
uint64_t pace_ready_ns(const struct pace *pace);
/* A train of `bits` (less than 2^34) leaves now. */
void pace_sent(struct pace *pace, uint64_t bits, uint64_t now_ns);
/* There was nothing to send until now: time without need earns no credit. */
void pace_resume(struct pace *pace, uint64_t now_ns);
/* How long `bits` occupy a link of the rate, rounded up. */
uint64_t pace_span_ns(uint64_t rate_bits_per_s, uint64_t bits);

#endif
