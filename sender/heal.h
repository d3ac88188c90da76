// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_SENDER_HEAL_H
#define DIODECAST_SENDER_HEAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/limits.h"
#include "proto/message.h"

/*
 * Chooses what is sent again while the link is idle: the transfers that were sent within a window, each at most so many
 * times. Of those that are due the one with the fewest copies comes first, and the newest of those, so that none is
 * sent again before all others had their turn; and the copies of one transfer lie further and further apart, for time
 * is what they are to differ in. Pure; one thread. All times are of one clock that does not jump; what was sent before
 * its start has a time as well, so they are signed.
 */
enum {
    HEAL_TABLE = 32768,     /* transfers known, the newest ones; when it is full */
    HEAL_TABLE_SHED = 1024, /* of the oldest go at once */
    HEAL_UNDER_WAY = 32,    /* at a time, for the copies of a small one's manifest take a second; */
};
#define HEAL_BYTES_UNDER_WAY (UINT64_C(64) << 20) /* beyond which a further one is not chosen */

#define HEAL_FIRST_GAP_NS (INT64_C(1) * 1000000000) /* between the sending and the first copy, at least */
#define HEAL_GAP_FACTOR   30                        /* each later gap is so many times the one before */
#define HEAL_GAP_LIMIT_NS (INT64_C(3600) * 1000000000)

struct heal;

struct heal *heal_create(uint32_t copies, uint64_t window_ns);
void heal_destroy(struct heal *heal); /* NULL allowed */

/* The transfer of `bytes` was sent at `sent_ns` for the first time, and `copies` times since, the newest at `again_ns`.
 */
void heal_add(struct heal *heal, uint64_t sequence, uint64_t bytes, int64_t sent_ns, uint32_t copies, int64_t again_ns);
/* It can't be sent again: it is no longer retained, or not what was sent any more. */
void heal_remove(struct heal *heal, uint64_t sequence);
/* What to send now, 0 when nothing is due or enough is under way. It is under way until heal_ended(). */
uint64_t heal_choose(struct heal *heal, int64_t now_ns);
/* A chosen one begins: this copy counts, whatever becomes of it. */
void heal_began(struct heal *heal, uint64_t sequence, int64_t now_ns);
/* It has left, or could not begin. */
void heal_ended(struct heal *heal, uint64_t sequence, int64_t now_ns);
size_t heal_under_way(const struct heal *heal);
/* When heal_choose() may find something; INT64_MAX: not before heal_add(). */
int64_t heal_deadline_ns(const struct heal *heal, int64_t now_ns);
/* How many transfers will be sent again, now or later. */
size_t heal_pending(const struct heal *heal, int64_t now_ns);

/*
 * The sequences that will be covered again, as ranges, newest first: those of the table and `more[0..more_count)`
 * (sequences in any order). At most LIMIT_HEALING_RANGES; what does not fit is left out, oldest first.
 */
size_t heal_ranges(struct heal *heal, int64_t now_ns, const uint64_t *more, size_t more_count,
                   struct message_range ranges[static LIMIT_HEALING_RANGES]);

#endif
