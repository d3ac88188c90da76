// SPDX-License-Identifier: Apache-2.0
#include "receiver/gather_private.h"

#include <assert.h>
#include <string.h>

/*
 * Without a link key anyone can say that the stream is far ahead. So the window follows a new group only once so many
 * datagrams have said so; until then the groups below it are received as before. When those go on meanwhile, and more
 * of them comes than of what is ahead, that was forged, or came early.
 */
enum { EVIDENCE = 32, MARGIN = 4 };

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

void gather_window_settle(struct gather *gather, uint64_t now_ns)
{
    gather->probation.on = false;
    trail_note(&gather->trail, newest_group(gather)->base, now_ns);
    slide_window(gather);
}

static void begin_probation(struct gather *gather)
{
    gather->probation =
        (struct probation){.on = true, .proven = *newest_group(gather), .previous_depth = gather->previous_depth};
}

static void enter_group(struct gather *gather, unsigned index, uint64_t now_ns)
{
    if (gather->anchored) {
        struct probation *probation = &gather->probation;
        gather_window_release_all(gather);
        if (!gather->sealed && !probation->on)
            begin_probation(gather);
        if (gather->groups[index].base != window_end(gather)) {
            if (!probation->leapt)
                probation->line_end = window_end(gather);
            probation->leapt = true;
            probation->ahead = probation->behind = 0;
        }
        probation->ahead++;
        gather->previous_depth = newest_group(gather)->depth;
    } else {
        /* Of the first group no one knows what was sent before we listened. */
        gather->counted_from = gather->groups[index].base + gather->groups[index].depth;
        gather->jumped = 0;
    }
    gather->newest = index;
    gather->order_next = newest_group(gather)->base;
    gather->anchored = true;
    if (!gather->probation.on || gather->probation.ahead >= EVIDENCE)
        gather_window_settle(gather, now_ns);
}

void gather_window_restart(struct gather *gather)
{
    gather_window_empty(gather);
    /* The window was where nothing is sent, so what it left out on its way there was not lost. */
    gather->counters.blocks_given_up -= gather->jumped;
    memset(gather->slots, 0, sizeof gather->slots);
    memset(gather->groups, 0, sizeof gather->groups);
    gather->trail = (struct trail){0};
    gather->probation = (struct probation){.on = false};
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

/* The window stays where it was; nothing was given up for what is disbelieved now. */
static void retreat(struct gather *gather)
{
    const struct probation probation = gather->probation;
    unsigned index = 0;
    gather_window_release_all(gather);
    while (index < GATHER_GROUPS &&
           (gather->groups[index].depth == 0 || gather->groups[index].base != probation.proven.base))
        index++;
    if (index == GATHER_GROUPS) {
        index = group_add(gather);
        gather->groups[index] = probation.proven;
    }
    gather->probation.on = false;
    gather->newest = index;
    gather->previous_depth = probation.previous_depth;
    gather->order_next = newest_group(gather)->base;
    slide_window(gather);
}

void gather_window_decide(struct gather *gather, uint64_t now_ns)
{
    if (!gather->probation.on)
        return;
    if (!gather->probation.leapt)
        gather_window_settle(gather, now_ns);
    else if (window_end(gather) - gather->floor > GATHER_WINDOW_MAX)
        retreat(gather);
    else
        gather->probation.on = false; /* the window reaches over both */
}

/* A datagram of a group that is not above the newest one. */
static void weigh(struct gather *gather, unsigned index, uint64_t now_ns)
{
    struct probation *probation = &gather->probation;
    if (index == gather->newest) {
        if (++probation->ahead >= EVIDENCE)
            gather_window_settle(gather, now_ns);
        return;
    }
    if (++probation->behind <= probation->ahead + MARGIN)
        return;
    retreat(gather);
    if (gather->groups[index].base > newest_group(gather)->base)
        enter_group(gather, index, now_ns);
}

/* The datagram's group; GATHER_GROUPS when it contradicts what is known of that. */
static unsigned find_group(struct gather *gather, const struct datagram *datagram)
{
    uint64_t base = datagram->sbn - datagram->group_index;
    for (unsigned i = 0; i < GATHER_GROUPS; i++) {
        unsigned index = (gather->newest + GATHER_GROUPS - i) % GATHER_GROUPS;
        struct group *group = &gather->groups[index];
        if (group->depth == 0 || group->base != base)
            continue;
        if (group->depth == datagram->depth && group->symbol_size == datagram->symbol_size) {
            group->accepted++;
            return index;
        }
        if (++group->conflicts <= group->accepted)
            return GATHER_GROUPS;
        if (index == gather->newest)
            gather_window_release_all(gather);
        group->depth = datagram->depth;
        group->symbol_size = datagram->symbol_size;
        group->accepted = 1;
        group->conflicts = 0;
        if (!gather->probation.on)
            slide_window(gather);
        return index;
    }
    unsigned index = group_add(gather);
    gather->groups[index] =
        (struct group){.base = base, .depth = datagram->depth, .symbol_size = datagram->symbol_size, .accepted = 1};
    return index;
}

bool gather_window_accept(struct gather *gather, const struct datagram *datagram, uint64_t now_ns)
{
    unsigned index = gather->newest;
    struct group *newest = &gather->groups[index];
    /* Nearly always; where nothing was seen yet, its depth is 0. */
    if (newest->base == datagram->sbn - datagram->group_index && newest->depth == datagram->depth &&
        newest->symbol_size == datagram->symbol_size) {
        newest->accepted++;
        if (gather->probation.on)
            weigh(gather, index, now_ns);
        return true;
    }
    index = find_group(gather, datagram);
    if (index == GATHER_GROUPS)
        return false;
    if (!gather->anchored || gather->groups[index].base > newest_group(gather)->base)
        enter_group(gather, index, now_ns);
    else if (gather->probation.on)
        weigh(gather, index, now_ns);
    return true;
}
