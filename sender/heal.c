// SPDX-License-Identifier: Apache-2.0
#include "sender/heal.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

struct candidate {
    uint64_t sequence, bytes;
    int64_t sent_ns, again_ns; /* again_ns: of the newest copy, or sent_ns */
    uint32_t copies;
    bool under_way;
};

struct heal {
    uint32_t copies;
    int64_t window_ns;
    size_t under_way;
    uint64_t bytes_under_way;
    size_t count, capacity;
    struct candidate *table; /* in order of sequence */
};

struct heal *heal_create(uint32_t copies, uint64_t window_ns)
{
    struct heal *heal = calloc(1, sizeof *heal);
    assert(heal != NULL);
    heal->copies = copies;
    heal->window_ns = window_ns < INT64_MAX / 4 ? (int64_t)window_ns : INT64_MAX / 4;
    return heal;
}

void heal_destroy(struct heal *heal)
{
    if (heal == NULL)
        return;
    free(heal->table);
    free(heal);
}

/* Where `sequence` is or belongs. New ones are nearly the highest, so the search begins there. */
static size_t place(const struct heal *heal, uint64_t sequence)
{
    size_t low = 0, high = heal->count;
    if (high > 0 && heal->table[high - 1].sequence < sequence)
        return high;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (heal->table[middle].sequence < sequence)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static struct candidate *find(const struct heal *heal, uint64_t sequence)
{
    size_t at = place(heal, sequence);
    return at < heal->count && heal->table[at].sequence == sequence ? &heal->table[at] : NULL;
}

static void end_under_way(struct heal *heal, struct candidate *candidate)
{
    if (!candidate->under_way)
        return;
    candidate->under_way = false;
    heal->under_way--;
    heal->bytes_under_way -= candidate->bytes;
}

static void drop(struct heal *heal, size_t index)
{
    end_under_way(heal, &heal->table[index]);
    memmove(&heal->table[index], &heal->table[index + 1], (heal->count - index - 1) * sizeof heal->table[0]);
    heal->count--;
}

/* How long after the newest copy, or the sending, the next one is due. */
static int64_t gap_ns(uint32_t copies)
{
    int64_t gap = HEAL_FIRST_GAP_NS;
    for (uint32_t i = 0; i < copies && gap < HEAL_GAP_LIMIT_NS; i++)
        gap *= HEAL_GAP_FACTOR;
    return gap < HEAL_GAP_LIMIT_NS ? gap : HEAL_GAP_LIMIT_NS;
}

static int64_t due_ns(const struct heal *heal, const struct candidate *candidate)
{
    int64_t gap = gap_ns(candidate->copies);
    /* In a short window all copies still find their place. */
    int64_t share = heal->window_ns / (heal->copies + 1);
    return candidate->again_ns + (gap < share ? gap : share);
}

/* Its copies are still to come. */
static bool is_pending(const struct heal *heal, const struct candidate *candidate, int64_t now_ns)
{
    return candidate->copies < heal->copies && now_ns - candidate->sent_ns < heal->window_ns;
}

/* Drops what is through, so that the table holds only what is pending or under way. */
static void sweep(struct heal *heal, int64_t now_ns)
{
    size_t kept = 0;
    for (size_t i = 0; i < heal->count; i++)
        if (is_pending(heal, &heal->table[i], now_ns) || heal->table[i].under_way)
            heal->table[kept++] = heal->table[i];
    heal->count = kept;
}

void heal_add(struct heal *heal, uint64_t sequence, uint64_t bytes, int64_t sent_ns, uint32_t copies, int64_t again_ns)
{
    size_t at = place(heal, sequence);
    assert(sequence > 0);
    if (at < heal->count && heal->table[at].sequence == sequence)
        return;
    if (copies >= heal->copies)
        return;
    if (heal->count == HEAL_TABLE) {
        if (at < HEAL_TABLE_SHED)
            return;
        for (size_t i = 0; i < HEAL_TABLE_SHED; i++)
            end_under_way(heal, &heal->table[i]);
        heal->count -= HEAL_TABLE_SHED;
        memmove(heal->table, &heal->table[HEAL_TABLE_SHED], heal->count * sizeof heal->table[0]);
        at -= HEAL_TABLE_SHED;
    }
    if (heal->count == heal->capacity) {
        heal->capacity = heal->capacity == 0 ? 256 : 2 * heal->capacity;
        heal->table = reallocarray(heal->table, heal->capacity, sizeof heal->table[0]);
        assert(heal->table != NULL);
    }
    memmove(&heal->table[at + 1], &heal->table[at], (heal->count - at) * sizeof heal->table[0]);
    heal->count++;
    heal->table[at] = (struct candidate){.sequence = sequence,
                                         .bytes = bytes,
                                         .sent_ns = sent_ns,
                                         .again_ns = copies > 0 && again_ns > sent_ns ? again_ns : sent_ns,
                                         .copies = copies};
}

void heal_remove(struct heal *heal, uint64_t sequence)
{
    const struct candidate *candidate = find(heal, sequence);
    if (candidate != NULL)
        drop(heal, (size_t)(candidate - heal->table));
}

uint64_t heal_choose(struct heal *heal, int64_t now_ns)
{
    struct candidate *best = NULL;
    sweep(heal, now_ns);
    for (size_t i = heal->count; i > 0; i--) {
        struct candidate *candidate = &heal->table[i - 1];
        if (!candidate->under_way && due_ns(heal, candidate) <= now_ns &&
            (best == NULL || candidate->copies < best->copies))
            best = candidate;
    }
    if (best == NULL || heal->under_way == HEAL_UNDER_WAY ||
        (heal->under_way > 0 && heal->bytes_under_way + best->bytes > HEAL_BYTES_UNDER_WAY))
        return 0;
    best->under_way = true;
    heal->under_way++;
    heal->bytes_under_way += best->bytes;
    return best->sequence;
}

void heal_began(struct heal *heal, uint64_t sequence, int64_t now_ns)
{
    struct candidate *candidate = find(heal, sequence);
    if (candidate == NULL)
        return;
    candidate->copies++;
    candidate->again_ns = now_ns;
}

void heal_ended(struct heal *heal, uint64_t sequence, int64_t now_ns)
{
    struct candidate *candidate = find(heal, sequence);
    if (candidate == NULL)
        return;
    end_under_way(heal, candidate);
    if (now_ns > candidate->again_ns && candidate->copies > 0)
        candidate->again_ns = now_ns;
}

size_t heal_under_way(const struct heal *heal)
{
    return heal->under_way;
}

int64_t heal_deadline_ns(const struct heal *heal, int64_t now_ns)
{
    int64_t deadline = INT64_MAX;
    for (size_t i = 0; i < heal->count; i++) {
        if (!is_pending(heal, &heal->table[i], now_ns) || heal->table[i].under_way)
            continue;
        int64_t due = due_ns(heal, &heal->table[i]);
        deadline = due < deadline ? due : deadline;
    }
    return deadline;
}

size_t heal_pending(const struct heal *heal, int64_t now_ns)
{
    size_t count = 0;
    for (size_t i = 0; i < heal->count; i++)
        count += is_pending(heal, &heal->table[i], now_ns) || heal->table[i].under_way;
    return count;
}

static int compare_newest_first(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;
    return (*x < *y) - (*x > *y);
}

/* Adds a sequence below all that were added. False when there is no place for it. */
static bool extend(struct message_range *ranges, size_t *count, uint64_t sequence)
{
    if (*count > 0 && ranges[*count - 1].first <= sequence + 1) {
        if (sequence < ranges[*count - 1].first)
            ranges[*count - 1].first = sequence;
        return true;
    }
    if (*count == LIMIT_HEALING_RANGES)
        return false;
    ranges[(*count)++] = (struct message_range){.first = sequence, .last = sequence};
    return true;
}

size_t heal_ranges(struct heal *heal, int64_t now_ns, const uint64_t *more, size_t more_count,
                   struct message_range ranges[static LIMIT_HEALING_RANGES])
{
    size_t count = 0, next = 0;
    uint64_t *others = calloc(more_count + 1, sizeof *others);
    assert(others != NULL);
    if (more_count > 0)
        memcpy(others, more, more_count * sizeof *others);
    qsort(others, more_count, sizeof *others, compare_newest_first);
    sweep(heal, now_ns);
    for (size_t i = heal->count; i > 0 || next < more_count;) {
        bool is_other = next < more_count && (i == 0 || others[next] >= heal->table[i - 1].sequence);
        uint64_t sequence = is_other ? others[next++] : heal->table[--i].sequence;
        if (!extend(ranges, &count, sequence))
            break;
    }
    free(others);
    return count;
}
