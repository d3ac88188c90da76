// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_RECEIVER_MISSING_H
#define DIODECAST_RECEIVER_MISSING_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/ticket.h"
#include "receiver/assembly.h"

/*
 * What is missing of a transfer whose manifest is held, in chunks numbered through it in manifest order, and the ticket
 * for that. Looks at the sizes and ranges held, not at the manifest, and only again when they have changed; what it may
 * look at in one round is bounded, so that fifty thousand artifacts or a scattered model never hold up the caller.
 * Sans I/O; one thread.
 */
struct missing;

enum {
    MISSING_RANGES = 32,     /* that are told one by one */
    MISSING_SLOTS = 512,     /* transfers remembered; those of one slot displace each other */
    MISSING_ROUND = 1 << 18, /* artifacts and ranges looked at in one round before the rest waits for the next */
};

struct missing_chunks {
    uint64_t chunk_count; /* all of them */
    uint64_t range_count; /* likewise, listed or not */
    unsigned listed;      /* the first ones, ascending */
    struct ticket_range ranges[MISSING_RANGES];
    struct ticket ticket; /* TICKET_CHUNKS, or TICKET_WHOLE when nothing at all is held */
};

struct missing *missing_create(void); /* NULL when memory is short */
void missing_destroy(struct missing *missing);
/* A new round begins. */
void missing_begin(struct missing *missing);
/* Valid until the next call for another transfer. NULL when this round's work is done: ask again in the next. A
 * manifest must be held, and something be missing. */
const struct missing_chunks *missing_find(struct missing *missing, const struct assembly *assembly);

#endif
