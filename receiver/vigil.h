// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_RECEIVER_VIGIL_H
#define DIODECAST_RECEIVER_VIGIL_H

#include <stdbool.h>
#include <stdint.h>

/*
 * Whether what is heard of a sender is what it says now. Who holds the link can keep its heartbeats back, repeat
 * recorded ones, or let all pass later and later; their content is signed, so they tell by their number and their time.
 * Begins as zeros. Pure.
 */
#define VIGIL_LAG_NS    INT64_C(10000000000)   /* of the sender's clock behind what it was, that is no jitter */
#define VIGIL_JITTER_NS INT64_C(2000000000)    /* that a steady clock may have */
#define VIGIL_STEADY_NS UINT64_C(600000000000) /* after which a lag that stays the same is the clock's */

/* The newest heartbeat of a sender. */
struct vigil_beat {
    uint64_t epoch, beat;
    int64_t time_ns; /* the sender's clock */
    int64_t at_ns;   /* ours when it came, CLOCK_REALTIME */
};

struct vigil {
    struct vigil_beat newest; /* epoch 0: none */
    bool heard;               /* one of them in this run of ours */
    uint64_t recorded_ns;     /* monotonic, when one that is not newer than the newest came last; 0: never */
    int64_t ahead_ns;         /* the sender's clock less our monotonic one: as much as it ever was in this epoch… */
    int64_t steady_ns;        /* …and since `steady_since_ns`, within the jitter */
    uint64_t steady_since_ns;
    int64_t lag_ns; /* 0: none */
};

/* What the last run of ours had recorded. */
void vigil_restore(struct vigil *vigil, const struct vigil_beat *newest);
/* A heartbeat with a good signature came. False when it is no newer than one that came before: it says nothing of the
 * sender's present. */
bool vigil_take(struct vigil *vigil, const struct vigil_beat *beat, uint64_t now_ns);

#endif
