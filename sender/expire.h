// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_SENDER_EXPIRE_H
#define DIODECAST_SENDER_EXPIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sender/config.h"

/* Decides which sent transfers are no longer kept. Pure. */

/* In the order in which they are applied, and in which the transfers should go. */
enum expire_reason {
    EXPIRE_KEEP,
    EXPIRE_AGE,     /* older than retain, of its channel or of all */
    EXPIRE_CHANNEL, /* its channel keeps more than its retain_bytes */
    EXPIRE_BYTES,   /* all channels together keep more than retain_bytes */
    EXPIRE_FREE,    /* the disk has less free than retain_free */
    EXPIRE_REASON_COUNT,
};

struct expire_item {
    const struct config_channel *channel;
    int64_t finished_at_ns;
    uint64_t bytes;
    bool held;                 /* is being sent again, or can't be removed: counts, and stays */
    enum expire_reason reason; /* out */
};

/*
 * Sets the reason of each of `items`, which come oldest first. `free_bytes` is what the disk has free, `now_ns` of the
 * clock of finished_at_ns. Returns the bytes that are still missing to retain_free when all that may go is gone.
 */
uint64_t expire_choose(const struct config *config, struct expire_item *items, size_t count, int64_t now_ns,
                       uint64_t free_bytes);

#endif
