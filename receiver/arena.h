// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_RECEIVER_ARENA_H
#define DIODECAST_RECEIVER_ARENA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * A piece of memory carved as a ring: pieces are allocated in order and reused once all older ones are free too. For
 * what mostly ends in the order in which it began. One thread; pure.
 */
struct arena {
    uint8_t *base;
    size_t size;
    size_t head, tail,
        lap_end; /* pieces lie from tail to head; once wrapped, from tail to lap_end and from 0 to head */
    bool wrapped;
};

enum { ARENA_ALIGNMENT = 64 }; /* of each piece: a cache line, and enough for every vector instruction */

/* `base` is borrowed, aligned to ARENA_ALIGNMENT. */
void arena_init(struct arena *arena, uint8_t *base, size_t size);
/* Bytes of the arena that a piece of `size` takes. */
size_t arena_span(size_t size);
void *arena_allocate(struct arena *arena, size_t size); /* NULL when there is no room behind the newest piece */
void arena_free(struct arena *arena, void *piece);
bool arena_is_empty(const struct arena *arena);

/* Walk over the pieces in use, oldest first; NULL at the end. The piece just left may be freed. */
void *arena_first(const struct arena *arena);
void *arena_next(const struct arena *arena, const void *piece);

#endif
