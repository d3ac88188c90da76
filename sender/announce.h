// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_SENDER_ANNOUNCE_H
#define DIODECAST_SENDER_ANNOUNCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/signature.h"
#include "proto/message.h"
#include "sender/pack.h"

/*
 * One ANNOUNCE: of the transfer whose data comes next, and of small ones behind it, so that thousands of small files do
 * not cost a signature each to announce. Pure.
 */
struct announce {
    struct message_announce transfers[LIMIT_ANNOUNCED];
    size_t count;
    int64_t time_ns;
    uint64_t data_limit, data; /* bytes of all their data together */
    size_t size;               /* bytes of the frame, at most */
};

/* `data_limit`: further transfers are added while the data of all, the first's included, is no more. */
void announce_begin(struct announce *announce, int64_t time_ns, uint64_t data_limit);
/* Copies all. False, adding nothing, when it has to wait for another one; the first is always added. */
bool announce_add(struct announce *announce, const uint8_t transfer_id[static TRANSFER_ID_SIZE], const char *channel,
                  const char *name, uint64_t total_bytes, uint32_t artifact_count);
/* Signs and packs it. `pack` has PACK_CAPACITY_MIN bytes of room, at least one transfer was added. */
void announce_pack(const struct announce *announce, const struct signature_key *key, struct pack *pack);

#endif
