// SPDX-License-Identifier: Apache-2.0
#include "sender/group.h"

#include <assert.h>
#include <stdlib.h>

#include "common/prefetch.h"

void group_init(struct group *group, uint16_t depth)
{
    *group = (struct group){.blocks = calloc(depth, sizeof *group->blocks),
                            .totals = calloc(depth, sizeof *group->totals),
                            .indexes = calloc(depth, sizeof *group->indexes)};
    assert(group->blocks != NULL && group->totals != NULL && group->indexes != NULL);
}

void group_deinit(struct group *group)
{
    free(group->blocks);
    free(group->totals);
    free(group->indexes);
}

static unsigned symbols_of(const struct block *block)
{
    return (unsigned)block->source_symbols + block->repair_symbols;
}

void group_begin(struct group *group, uint64_t first_sbn)
{
    assert(group->count > 0);
    for (uint16_t i = 0; i < group->count; i++) {
        group->totals[i] = (uint8_t)symbols_of(group->blocks[i]);
        group->indexes[i] = i;
        assert(group->blocks[i]->symbol_size == group->blocks[0]->symbol_size);
    }
    group->symbol_size = group->blocks[0]->symbol_size;
    group->depth = group->count;
    group->first_sbn = first_sbn;
    group->is_repeat = false;
    interleave_start(&group->order, group->totals, group->count);
}

void group_fill(const struct group *group, uint16_t index, uint8_t esi, struct datagram *datagram)
{
    const struct block *block = group->blocks[index];
    datagram->source_symbols = block->source_symbols;
    datagram->repair_symbols = block->repair_symbols;
    datagram->esi = esi;
    datagram->symbol_size = group->symbol_size;
    datagram->depth = group->depth;
    datagram->group_index = group->indexes[index];
    datagram->sbn = group->first_sbn + group->indexes[index];
    datagram->repeat_of = block->repeat_of;
    datagram->block_hash = block->block_hash;
}

void group_expect(const struct group *group, uint16_t index, uint8_t esi)
{
    if (index >= group->count || esi >= group->totals[index])
        return;
    prefetch_read(group->blocks[index]->symbols + (size_t)esi * group->symbol_size, group->symbol_size);
}

uint8_t group_repair_min(const struct group *group)
{
    uint8_t minimum = UINT8_MAX;
    for (uint16_t i = 0; i < group->count; i++)
        minimum = group->blocks[i]->repair_symbols < minimum ? group->blocks[i]->repair_symbols : minimum;
    return minimum;
}

void group_set_init(struct group_set *set, uint16_t depth, uint8_t source_symbols, uint8_t repair_symbols,
                    uint64_t span_ns, uint64_t burst_ns)
{
    *set = (struct group_set){.full_symbols = (uint8_t)(source_symbols + repair_symbols),
                              .full_depth = depth,
                              .wait_ns = GROUP_WAIT_SPANS * span_ns,
                              .repeat_after_ns = burst_ns + burst_ns / 4 + GROUP_MARGIN_NS};
    if (set->wait_ns < GROUP_WAIT_NS)
        set->wait_ns = GROUP_WAIT_NS;
    for (unsigned i = 0; i < 3; i++)
        group_init(&set->groups[i], depth);
    set->filling = &set->groups[0];
    set->sending = &set->groups[1];
    set->held = &set->groups[2];
}

void group_set_deinit(struct group_set *set)
{
    for (unsigned i = 0; i < 3; i++)
        group_deinit(&set->groups[i]);
}

bool group_has_room(const struct group_set *set)
{
    return set->filling->count < set->full_depth;
}

void group_add(struct group_set *set, struct block *block, uint64_t now_ns)
{
    struct group *group = set->filling;
    assert(group_has_room(set));
    if (group->count == 0)
        group->since_ns = now_ns;
    group->blocks[group->count++] = block;
}

bool group_is_short_block(unsigned full_symbols, unsigned symbols)
{
    return symbols < full_symbols - full_symbols / 8u;
}

static bool block_is_short(const struct group_set *set, const struct block *block)
{
    return group_is_short_block(set->full_symbols, symbols_of(block));
}

/* Short blocks are over early; from then on a burst is spread over the others only. */
static unsigned full_blocks(const struct group_set *set, const struct group *group)
{
    unsigned count = 0;
    for (uint16_t i = 0; i < group->count; i++)
        count += !block_is_short(set, group->blocks[i]);
    return count;
}

static bool group_is_short(const struct group_set *set, const struct group *group)
{
    return full_blocks(set, group) < set->full_depth - set->full_depth / 8u;
}

static bool needs_repeat(const struct group_set *set, const struct group *group)
{
    return group_is_short(set, group) || full_blocks(set, group) < group->count;
}

static void start_repeat(struct group_set *set)
{
    struct group *group = set->held;
    set->held = set->sending;
    set->sending = group;
    group->is_repeat = true;
    interleave_start(&group->order, group->totals, group->count);
}

/* Since only one repeat can be pending, a group that needs one waits until the one before was repeated. */
bool group_start(struct group_set *set, bool flushed, uint64_t *next_sbn, uint64_t now_ns)
{
    struct group *filling = set->filling;
    assert(set->sending->count == 0);
    if (set->held->count > 0 && now_ns >= set->held->since_ns + set->repeat_after_ns) {
        start_repeat(set);
        return true;
    }
    if (filling->count == 0)
        return false;
    bool complete = filling->count == set->full_depth || flushed;
    if (!complete && now_ns < filling->since_ns + set->wait_ns)
        return false;
    if (set->held->count > 0 && needs_repeat(set, filling))
        return false;
    set->filling = set->sending;
    set->sending = filling;
    group_begin(filling, *next_sbn);
    filling->before = set->started;
    set->started += filling->count;
    *next_sbn += filling->count;
    return true;
}

/* Keeps what has to be sent once more. */
static void hold(struct group_set *set, uint64_t now_ns, void (*done)(void *context, struct block *block),
                 void *context)
{
    struct group *group = set->sending;
    bool all = group_is_short(set, group);
    uint16_t kept = 0;
    for (uint16_t i = 0; i < group->count; i++) {
        if (!all && !block_is_short(set, group->blocks[i])) {
            done(context, group->blocks[i]);
            continue;
        }
        group->blocks[kept] = group->blocks[i];
        group->totals[kept] = group->totals[i];
        group->indexes[kept++] = group->indexes[i];
    }
    assert(set->held->count == 0 && kept > 0);
    group->count = kept;
    group->since_ns = now_ns;
    set->sending = set->held;
    set->held = group;
}

unsigned group_end(struct group_set *set, uint64_t now_ns, void (*done)(void *context, struct block *block),
                   void *context)
{
    struct group *group = set->sending;
    unsigned first_time = group->is_repeat ? 0 : group->count;
    if (!group->is_repeat)
        set->before_newest = group->before;
    if (!group->is_repeat && needs_repeat(set, group)) {
        hold(set, now_ns, done, context);
        return first_time;
    }
    for (uint16_t i = 0; i < group->count; i++)
        done(context, group->blocks[i]);
    group->count = 0;
    return first_time;
}

uint64_t group_settled(const struct group_set *set)
{
    uint64_t settled = set->before_newest;
    if (set->held->count > 0 && set->held->before < settled)
        settled = set->held->before;
    if (set->sending->count > 0 && set->sending->before < settled)
        settled = set->sending->before;
    return settled;
}

uint64_t group_deadline_ns(const struct group_set *set)
{
    if (set->held->count > 0)
        return set->held->since_ns + set->repeat_after_ns;
    if (set->filling->count > 0)
        return set->filling->since_ns + set->wait_ns;
    return UINT64_MAX;
}
