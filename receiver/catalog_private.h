// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_RECEIVER_CATALOG_PRIVATE_H
#define DIODECAST_RECEIVER_CATALOG_PRIVATE_H

#include "receiver/catalog.h"

/* What the files of the catalog share; for catalog*.c only. */

enum {
    BUCKETS = 2 * CATALOG_OPEN,
    ENDED = 8192, /* transfers remembered as delivered or closed, so that their frames cost no query */
};

struct ended {
    bool used;
    bool delivered;
    uint32_t sender_id;
    uint8_t id[TRANSFER_ID_SIZE];
    uint64_t until_ns; /* UINT64_MAX: for ever */
};

struct catalog {
    const struct trust *trust;
    const struct catalog_actions *actions;
    void *context;
    struct renumber *renumber; /* may be NULL */
    struct checks *checks;
    struct bounds bounds;
    struct room room;
    unsigned count;             /* not closed */
    unsigned unannounced_count; /* of these */
    uint64_t crowded_ns[2];     /* when nobody was found to make room, among all and among the unannounced */
    uint64_t made_room_ns;      /* when transfers were last closed for the sake of bytes; 0: never */
    struct catalog_counters counters;
    struct assembly *oldest, *newest;
    struct assembly *buckets[BUCKETS];
    struct ended ended[ENDED];
};

/* Bytes that an admitted transfer is still expected to take. */
static inline uint64_t catalog_outstanding(const struct assembly *assembly)
{
    if (!assembly->announced || !assembly->admitted || assembly->lapsed ||
        assembly->total_bytes <= assembly->held_bytes)
        return 0;
    return assembly->total_bytes - assembly->held_bytes;
}

/* catalog_room.c: who makes room for whom. */

/* Closes the transfer that stands still and is worth least; false when there is none. */
bool catalog_make_room(struct catalog *catalog, bool among_unannounced, uint64_t now_ns);
/* Decides on the room for a transfer whose total is known; what was admitted stays admitted. */
bool catalog_admit(const struct catalog *catalog, struct assembly *assembly);
/* Closes transfers that stand still until this one fits; none, when that would not be enough. */
void catalog_make_bytes(struct catalog *catalog, const struct assembly *assembly, uint64_t now_ns);
/* What stands still may never go on: its room is for others, until it does. */
void catalog_set_lapsed(struct catalog *catalog, struct assembly *assembly, bool lapsed);

#endif
