// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_RECEIVER_EXTENTS_H
#define DIODECAST_RECEIVER_EXTENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * A set of 64-bit numbers as ascending ranges that neither overlap nor touch: the bytes held of an artifact, the parts
 * held of a manifest, the known sequences of a chain. All zeros is the empty set. One range, the common case, needs no
 * memory beside the struct. Pure.
 */
struct extent {
    uint64_t first, end; /* [first, end) */
};

struct extents {
    uint32_t count;
    uint32_t capacity; /* 0: the range is inside the struct */
    union {
        struct extent one;
        struct extent *list;
    };
};

void extents_deinit(struct extents *set); /* leaves the empty set */

/*
 * Puts [first, end) in. False, changing nothing, when that would need more than `limit` ranges or memory that is not
 * there. first < end.
 */
bool extents_add(struct extents *set, uint64_t first, uint64_t end, uint32_t limit);
/* Takes [first, end) out; false, changing nothing, when a split would pass `limit` ranges. */
bool extents_remove(struct extents *set, uint64_t first, uint64_t end, uint32_t limit);

/* The first part of [first, end) that is not in the set; false when all of it is. */
bool extents_hole(const struct extents *set, uint64_t first, uint64_t end, struct extent *hole);
bool extents_contain(const struct extents *set, uint64_t value);
/* Numbers of [first, end) that are in the set. */
uint64_t extents_overlap(const struct extents *set, uint64_t first, uint64_t end);
/* Range `index` of set->count. */
struct extent extents_get(const struct extents *set, uint32_t index);
/* Bytes allocated outside the struct. */
size_t extents_memory(const struct extents *set);

#endif
