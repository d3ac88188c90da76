// SPDX-License-Identifier: Apache-2.0
#include "receiver/gather_private.h"

#include <assert.h>
#include <string.h>

void gather_window_append(struct gather *gather, struct entry *entry)
{
    if (entry->state == STATE_WAITING)
        gather->waiting--;
    entry->state = STATE_READY;
    gather->complete_size += gather_entry_span(&entry->block);
    entry->next = NULL;
    if (gather->ready_first == NULL)
        gather->ready_first = entry;
    else
        gather->ready_last->next = entry;
    gather->ready_last = entry;
    struct slot *slot = slot_find(gather, entry->block.sbn);
    if (slot != NULL && slot->entry == entry)
        slot->state = STATE_READY;
}

void gather_window_release_in_order(struct gather *gather)
{
    for (; gather->order_next < window_end(gather); gather->order_next++) {
        struct slot *slot = slot_find(gather, gather->order_next);
        if (slot == NULL || slot->state == STATE_OPEN)
            return;
        if (slot->state == STATE_WAITING)
            gather_window_append(gather, slot->entry);
    }
}

void gather_window_release_all(struct gather *gather)
{
    for (uint64_t sbn = gather->order_next; gather->waiting > 0 && sbn < window_end(gather); sbn++) {
        struct slot *slot = slot_find(gather, sbn);
        if (slot != NULL && slot->state == STATE_WAITING)
            gather_window_append(gather, slot->entry);
    }
    assert(gather->waiting == 0);
}

struct slot *gather_window_end_open(struct gather *gather, struct entry *entry)
{
    assert(entry->state == STATE_OPEN);
    struct slot *slot = slot_find(gather, entry->block.sbn);
    assert(slot != NULL && slot->entry == entry);
    slot->entry = NULL;
    slot->state = STATE_FREE;
    entry->state = STATE_FREE;
    gather->open--;
    arena_free(entry->arena, entry);
    return slot;
}

void gather_window_give_up(struct gather *gather, struct entry *entry, enum datagram_drop answer)
{
    struct slot *slot = gather_window_end_open(gather, entry);
    slot->state = STATE_OVER;
    slot->answer = (uint8_t)answer;
    gather->counters.blocks_given_up++;
}

void gather_window_give_up_expired(struct gather *gather, uint64_t now_ns)
{
    gather->expiry_ns = UINT64_MAX;
    for (unsigned i = 0; i < 2; i++) {
        struct arena *arena = &gather->arenas[i];
        struct entry *next = NULL;
        for (struct entry *entry = arena_first(arena); entry != NULL; entry = next) {
            next = arena_next(arena, entry);
            uint64_t expiry_ns = entry->touched_ns + GATHER_GIVE_UP_NS;
            if (entry->state == STATE_OPEN && expiry_ns <= now_ns)
                gather_window_give_up(gather, entry, DATAGRAM_DROP_LATE);
            else if (entry->state == STATE_OPEN && expiry_ns < gather->expiry_ns)
                gather->expiry_ns = expiry_ns;
        }
    }
    gather_window_release_in_order(gather);
}

void gather_window_empty(struct gather *gather)
{
    gather_window_release_all(gather);
    gather_window_give_up_expired(gather, UINT64_MAX);
    assert(gather->open == 0);
}

/* The window. */

void gather_window_count_unseen(struct gather *gather, uint64_t from, uint64_t to)
{
    if (from < gather->counted_from)
        from = gather->counted_from;
    uint64_t unseen = 0;
    for (; from < to && unseen < TABLE_SIZE; from++)
        unseen += slot_find(gather, from) == NULL;
    if (from < to)
        unseen += to - from; /* so many are further than the window reached */
    if (unseen > LOSS_JUMP)
        unseen = 0; /* forged, as such a jump of the sequence number is */
    gather->counters.blocks_given_up += unseen;
    gather->jumped = unseen;
}

void gather_window_raise_floor(struct gather *gather, uint64_t floor)
{
    uint64_t first = gather->floor;
    if (floor <= first)
        return;
    gather_window_count_unseen(gather, first, floor);
    gather->floor = floor;
    uint64_t count = floor - first < TABLE_SIZE ? floor - first : TABLE_SIZE;
    for (uint64_t i = 0; i < count && gather->open > 0; i++) {
        struct slot *slot = &gather->slots[(first + i) % TABLE_SIZE];
        if (slot->state == STATE_OPEN && slot->sbn < floor)
            gather_window_give_up(gather, slot->entry, DATAGRAM_DROP_LATE);
    }
}

static void slide_window(struct gather *gather)
{
    uint16_t depth = newest_group(gather)->depth;
    if (depth < gather->previous_depth)
        depth = gather->previous_depth;
    uint64_t width = 2 * (uint64_t)depth + WINDOW_SLACK;
    if (window_end(gather) > width)
        gather_window_raise_floor(gather, window_end(gather) - width);
}

static void enter_group(struct gather *gather, unsigned index, uint64_t now_ns)
{
    if (gather->anchored) {
        gather_window_release_all(gather);
        gather->previous_depth = newest_group(gather)->depth;
    } else {
        /* Of the first group no one knows what was sent before we listened. */
        gather->counted_from = gather->groups[index].base + gather->groups[index].depth;
        gather->jumped = 0;
    }
    gather->newest = index;
    gather->order_next = newest_group(gather)->base;
    trail_note(&gather->trail, newest_group(gather)->base, now_ns);
    gather->anchored = true;
    slide_window(gather);
}

void gather_window_restart(struct gather *gather)
{
    gather_window_empty(gather);
    /* The window was where nothing is sent, so what it left out on its way there was not lost. */
    gather->counters.blocks_given_up -= gather->jumped;
    memset(gather->slots, 0, sizeof gather->slots);
    memset(gather->groups, 0, sizeof gather->groups);
    gather->trail = (struct trail){0};
    gather->anchored = false;
    gather->previous_depth = 0;
    gather->floor = gather->passed = 0;
}

static unsigned group_add(struct gather *gather)
{
    if (gather->anchored && gather->oldest_group == gather->newest)
        gather->oldest_group = (gather->oldest_group + 1) % GATHER_GROUPS;
    unsigned index = gather->oldest_group;
    gather->oldest_group = (index + 1) % GATHER_GROUPS;
    return index;
}

bool gather_window_accept(struct gather *gather, const struct datagram *datagram, uint64_t now_ns)
{
    uint64_t base = datagram->sbn - datagram->group_index;
    for (unsigned i = 0; i < GATHER_GROUPS; i++) {
        struct group *group = &gather->groups[(gather->newest + GATHER_GROUPS - i) % GATHER_GROUPS];
        if (group->depth == 0 || group->base != base)
            continue;
        if (group->depth == datagram->depth && group->symbol_size == datagram->symbol_size) {
            group->accepted++;
            return true;
        }
        if (++group->conflicts <= group->accepted)
            return false;
        if (group == newest_group(gather))
            gather_window_release_all(gather);
        group->depth = datagram->depth;
        group->symbol_size = datagram->symbol_size;
        group->accepted = 1;
        group->conflicts = 0;
        slide_window(gather);
        return true;
    }
    unsigned index = group_add(gather);
    gather->groups[index] =
        (struct group){.base = base, .depth = datagram->depth, .symbol_size = datagram->symbol_size, .accepted = 1};
    if (!gather->anchored || base > newest_group(gather)->base)
        enter_group(gather, index, now_ns);
    return true;
}
