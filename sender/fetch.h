// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_SENDER_FETCH_H
#define DIODECAST_SENDER_FETCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/doorbell.h"
#include "common/status.h"
#include "sender/lane.h"

/*
 * Reads of artifacts under way in one io_uring: started ahead in the order of packing, across files and blocks, and
 * handled in that same order, twice: as soon as they have landed, and later, when their bytes are hashed. One thread.
 */
struct fetch;

enum {
    FETCH_ENDED = -1,            /* `error` of a piece: the file ended early */
    FETCH_PIECE_MAX = 256 << 10, /* bytes: more is better read in parts */
    FETCH_PARTS_MAX = 16,        /* pieces that may be started for one fetch_has_room() */
};

/* One read of `size` bytes at `offset` of `fd` into `place`. */
struct fetch_piece {
    void *owner;
    struct block *block; /* NULL: the place is in none */
    uint8_t *place;
    uint64_t offset;
    uint32_t size;
    int fd;
    bool last; /* of its artifact: who takes the piece closes fd */
    int error; /* out: 0, an errno value or FETCH_ENDED */
};

/*
 * In the thread that uses it. `bell` is what else fetch_wait() wakes up for; borrowed. `lane_count` may be 0. The
 * memory of the lanes' blocks is registered with the ring, which maps and pins it: what reads land in and trains leave
 * from stays where it is. Where that can't be, a line of the log says so, and reads go without.
 */
MUST_CHECK enum status fetch_create(struct doorbell *bell, struct lane *const lanes[], unsigned lane_count,
                                    struct fetch **fetch);
/* Waits for what is under way. */
void fetch_destroy(struct fetch *fetch);

/*
 * Whether another read, in up to FETCH_PARTS_MAX pieces, may be started: bounded in number, in files that are not taken
 * as a whole, and in bytes, so that they are still in the cache when they are taken. `ahead`: the latter counts only
 * until they have landed.
 */
bool fetch_has_room(const struct fetch *fetch, bool ahead);
void fetch_start(struct fetch *fetch, const struct fetch_piece *piece);
/* The same in parts of at most FETCH_PIECE_MAX, so that one is hashed while the next ones are read. Returns how many
 * pieces it has become. */
unsigned fetch_start_parts(struct fetch *fetch, const struct fetch_piece *piece);
/* Hands the reads to the kernel; call before closing any descriptor. */
void fetch_submit(struct fetch *fetch);
/* The next piece in order if it has landed, each once, else NULL; valid until it is released. */
const struct fetch_piece *fetch_land(struct fetch *fetch);
/* The oldest piece if fetch_land() has returned it, else NULL; valid until fetch_release(). */
const struct fetch_piece *fetch_peek(const struct fetch *fetch);
void fetch_release(struct fetch *fetch);
bool fetch_is_empty(const struct fetch *fetch);
/* Sleeps until a read completes, the bell (armed by the caller) rings or the deadline is over. */
void fetch_wait(struct fetch *fetch, uint64_t now_ns, uint64_t deadline_ns);

#endif
