// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_RECEIVER_ROOM_H
#define DIODECAST_RECEIVER_ROOM_H

#include <stdbool.h>
#include <stdint.h>

#include "receiver/assembly.h"

/*
 * What open transfers may take together, and which of them makes room where that is used up. Transfers that no
 * signature vouches for share a small quota, so that forged datagrams can't take the room of real transfers. Pure.
 */

#define ROOM_MEMORY             (UINT64_C(384) << 20) /* bytes of tables and manifests */
#define ROOM_UNANNOUNCED_MEMORY (UINT64_C(80) << 20)  /* as large as one largest manifest and its table must be */
#define ROOM_UNANNOUNCED_BYTES  (UINT64_C(256) << 20) /* of artifacts on disk */
#define ROOM_RESERVE            (UINT64_C(16) << 20)
#define ROOM_IDLE_NS            UINT64_C(10000000000)

struct room_limits {
    uint64_t staging;  /* bytes of all open transfers, held and still to come of those admitted */
    uint64_t reserve;  /* free bytes of the intake that admission leaves alone */
    unsigned max_open; /* transfers */
};

struct room {
    struct room_limits limits;
    struct assembly_budget announced, unannounced;
    uint64_t free_bytes;     /* of the intake; UINT64_MAX until told */
    uint64_t reserved_bytes; /* still to come for admitted transfers */
};

/* No bound of staging, ROOM_RESERVE, and `max_open`. */
void room_init(struct room *room, unsigned max_open);
/* The bound of staging is one for both classes together: sets what each may hold. Before bytes are held. */
void room_bound(struct room *room);
/* Bytes by which a transfer is too large for what is free and for the bound of staging; 0: it fits. What is reserved
 * for it must not count in reserved_bytes. */
uint64_t room_shortfall(const struct room *room, const struct assembly *assembly);
/* Whether the free disk has shrunk so far below what admitted transfers still need that half of the reserve would go.
 */
bool room_is_overcommitted(const struct room *room);
/* How much rather than others an open transfer makes room: the product of the time without progress, if that is at
 * least ROOM_IDLE_NS, and of the part that is missing. 0: not at all. */
double room_dispensable(const struct assembly *assembly, uint64_t now_ns);

#endif
