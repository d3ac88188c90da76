// SPDX-License-Identifier: Apache-2.0
#include "receiver/arena.h"

#include <assert.h>

/* In front of each piece. */
struct header {
    size_t span; /* bytes of header and piece */
    bool in_use;
};

_Static_assert(sizeof(struct header) <= ARENA_ALIGNMENT, "a header takes one unit of alignment");

static struct header *header_at(const struct arena *arena, size_t offset)
{
    return (struct header *)(void *)(arena->base + offset);
}

static size_t offset_of(const struct arena *arena, const void *piece)
{
    size_t offset = (size_t)((const uint8_t *)piece - arena->base) - ARENA_ALIGNMENT;
    assert(offset < arena->size && offset % ARENA_ALIGNMENT == 0);
    return offset;
}

static size_t following(const struct arena *arena, size_t offset)
{
    offset += header_at(arena, offset)->span;
    return arena->wrapped && offset == arena->lap_end ? 0 : offset;
}

void arena_init(struct arena *arena, uint8_t *base, size_t size)
{
    assert((uintptr_t)base % ARENA_ALIGNMENT == 0);
    *arena = (struct arena){.base = base, .size = size / ARENA_ALIGNMENT * ARENA_ALIGNMENT};
}

size_t arena_span(size_t size)
{
    return ARENA_ALIGNMENT + (size + ARENA_ALIGNMENT - 1) / ARENA_ALIGNMENT * ARENA_ALIGNMENT;
}

bool arena_is_empty(const struct arena *arena)
{
    return arena->head == arena->tail && !arena->wrapped;
}

void *arena_allocate(struct arena *arena, size_t size)
{
    size_t span = arena_span(size);
    if (arena_is_empty(arena))
        arena->head = arena->tail = 0;
    if (!arena->wrapped && arena->size - arena->head < span && arena->tail >= span) {
        arena->lap_end = arena->head;
        arena->head = 0;
        arena->wrapped = true;
    }
    if ((arena->wrapped ? arena->tail : arena->size) - arena->head < span)
        return NULL;
    struct header *header = header_at(arena, arena->head);
    *header = (struct header){.span = span, .in_use = true};
    arena->head += span;
    return (uint8_t *)header + ARENA_ALIGNMENT;
}

void arena_free(struct arena *arena, void *piece)
{
    struct header *header = header_at(arena, offset_of(arena, piece));
    assert(header->in_use);
    header->in_use = false;
    while (!arena_is_empty(arena) && !header_at(arena, arena->tail)->in_use) {
        size_t next = following(arena, arena->tail);
        if (next < arena->tail)
            arena->wrapped = false;
        arena->tail = next;
    }
}

/* The first piece in use at `offset` or behind it; an offset at the head is the end. */
static void *in_use_from(const struct arena *arena, size_t offset)
{
    while (offset != arena->head) {
        if (header_at(arena, offset)->in_use)
            return arena->base + offset + ARENA_ALIGNMENT;
        offset = following(arena, offset);
    }
    return NULL;
}

void *arena_first(const struct arena *arena)
{
    /* The oldest piece is in use, or there is none; when the ring is full the head is there too. */
    return arena_is_empty(arena) ? NULL : arena->base + arena->tail + ARENA_ALIGNMENT;
}

void *arena_next(const struct arena *arena, const void *piece)
{
    return in_use_from(arena, following(arena, offset_of(arena, piece)));
}
