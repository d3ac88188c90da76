// SPDX-License-Identifier: Apache-2.0
#include "receiver/extents.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { CAPACITY_MIN = 4 };

static const struct extent *ranges(const struct extents *set)
{
    return set->capacity == 0 ? &set->one : set->list;
}

void extents_deinit(struct extents *set)
{
    if (set->capacity != 0)
        free(set->list);
    *set = (struct extents){0};
}

size_t extents_memory(const struct extents *set)
{
    return (size_t)set->capacity * sizeof(struct extent);
}

struct extent extents_get(const struct extents *set, uint32_t index)
{
    assert(index < set->count);
    return ranges(set)[index];
}

/* Index of the first range that ends behind `value`; set->count when there is none. */
static uint32_t find_ending_behind(const struct extents *set, uint64_t value)
{
    const struct extent *list = ranges(set);
    uint32_t low = 0;
    uint32_t high = set->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (list[middle].end > value)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

/* Replaces `removed` ranges from `at` on by `added` new ones. */
static bool splice(struct extents *set, uint32_t at, uint32_t removed, const struct extent *new, uint32_t added,
                   uint32_t limit)
{
    uint32_t count = set->count - removed + added;
    if (count > limit && count > set->count)
        return false;
    if (count <= 1 && set->capacity == 0) {
        set->count = count;
        if (added == 1)
            set->one = new[0];
        return true;
    }
    if (count > set->capacity) {
        uint32_t capacity = set->capacity == 0 ? CAPACITY_MIN : set->capacity * 2;
        struct extent *list = malloc(capacity * sizeof *list);
        if (list == NULL)
            return false;
        memcpy(list, ranges(set), set->count * sizeof *list);
        if (set->capacity != 0)
            free(set->list);
        set->list = list;
        set->capacity = capacity;
    }
    memmove(set->list + at + added, set->list + at + removed, (set->count - at - removed) * sizeof *set->list);
    if (added > 0)
        memcpy(set->list + at, new, added * sizeof *new);
    set->count = count;
    if (count <= 1) {
        struct extent last = count == 1 ? set->list[0] : (struct extent){0};
        free(set->list);
        set->capacity = 0;
        set->one = last;
    }
    return true;
}

bool extents_add(struct extents *set, uint64_t first, uint64_t end, uint32_t limit)
{
    assert(first < end);
    const struct extent *list = ranges(set);
    /* A range that ends exactly at `first` touches, so it is merged too. */
    uint32_t at = first == 0 ? 0 : find_ending_behind(set, first - 1);
    uint32_t last = at;
    struct extent merged = {first, end};
    while (last < set->count && list[last].first <= end) {
        if (list[last].first < merged.first)
            merged.first = list[last].first;
        if (list[last].end > merged.end)
            merged.end = list[last].end;
        last++;
    }
    return splice(set, at, last - at, &merged, 1, limit);
}

bool extents_remove(struct extents *set, uint64_t first, uint64_t end, uint32_t limit)
{
    assert(first < end);
    const struct extent *list = ranges(set);
    uint32_t at = find_ending_behind(set, first);
    uint32_t last = at;
    struct extent left[2];
    uint32_t left_count = 0;
    while (last < set->count && list[last].first < end) {
        if (list[last].first < first)
            left[left_count++] = (struct extent){list[last].first, first};
        if (list[last].end > end)
            left[left_count++] = (struct extent){end, list[last].end};
        last++;
    }
    return last == at || splice(set, at, last - at, left, left_count, limit);
}

bool extents_hole(const struct extents *set, uint64_t first, uint64_t end, struct extent *hole)
{
    const struct extent *list = ranges(set);
    uint32_t at = find_ending_behind(set, first);
    if (at < set->count && list[at].first <= first)
        first = list[at++].end;
    if (first >= end)
        return false;
    *hole = (struct extent){first, at < set->count && list[at].first < end ? list[at].first : end};
    return true;
}

bool extents_contain(const struct extents *set, uint64_t value)
{
    uint32_t at = find_ending_behind(set, value);
    return at < set->count && ranges(set)[at].first <= value;
}

uint64_t extents_overlap(const struct extents *set, uint64_t first, uint64_t end)
{
    const struct extent *list = ranges(set);
    uint64_t total = 0;
    for (uint32_t at = find_ending_behind(set, first); at < set->count && list[at].first < end; at++) {
        uint64_t from = list[at].first > first ? list[at].first : first;
        uint64_t to = list[at].end < end ? list[at].end : end;
        total += to - from;
    }
    return total;
}
