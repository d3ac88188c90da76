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
    datagram->symbol_hash = block->symbol_hashes[esi];
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
    for (unsigned i = 0; i < 2 + GROUP_HELD_MAX; i++)
        group_init(&set->groups[i], depth);
    set->filling = &set->groups[0];
    set->sending = &set->groups[1];
    for (unsigned i = 0; i < GROUP_HELD_MAX; i++)
        set->held[i] = &set->groups[2 + i];
}

void group_set_deinit(struct group_set *set)
{
    for (unsigned i = 0; i < 2 + GROUP_HELD_MAX; i++)
        group_deinit(&set->groups[i]);
}

bool group_has_room(const struct group_set *set)
{
    return set->filling->count < set->full_depth && !set->filling->closed;
}

void group_add(struct group_set *set, struct block *block, uint64_t now_ns)
{
    struct group *group = set->filling;
    assert(group_has_room(set));
    if (group->count == 0)
        group->since_ns = now_ns;
    group->blocks[group->count++] = block;
    group->closed = block->ends_group;
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

static unsigned held_blocks(const struct group_set *set)
{
    unsigned count = 0;
    for (unsigned i = 0; i < set->held_count; i++)
        count += set->held[i]->count;
    return count;
}

/*
 * The receiver's window reaches from the end of the newest group back over twice its depth, at least, and 64 blocks
 * (proto/README.md): what is held has to stay in it.
 */
static bool may_overtake_held(const struct group_set *set, const struct group *group, uint64_t next_sbn)
{
    if (set->held_count == 0)
        return true;
    uint64_t span = next_sbn + group->count + GROUP_BEATS - set->held[0]->first_sbn;
    if (span > 2 * (uint64_t)group->count + GROUP_WINDOW_SLACK)
        return false;
    return !needs_repeat(set, group) ||
           (set->held_count < GROUP_HELD_MAX &&
            held_blocks(set) + group->count <= (unsigned)set->full_depth + GROUP_HELD_EXTRA);
}

static void start_repeat(struct group_set *set)
{
    struct group *group = set->held[0], *empty = set->sending;
    set->held_count--;
    for (unsigned i = 0; i < set->held_count; i++)
        set->held[i] = set->held[i + 1];
    set->held[set->held_count] = empty;
    set->sending = group;
    group->is_repeat = true;
    interleave_start(&group->order, group->totals, group->count);
}

static bool is_complete(const struct group_set *set)
{
    return set->filling->count == set->full_depth || set->filling->closed;
}

bool group_start(struct group_set *set, bool flushed, uint64_t *next_sbn, uint64_t now_ns)
{
    struct group *filling = set->filling;
    assert(set->sending->count == 0);
    if (set->held_count > 0 && now_ns >= set->held[0]->since_ns + set->repeat_after_ns) {
        start_repeat(set);
        return true;
    }
    if (filling->count == 0)
        return false;
    if (!is_complete(set) && !flushed && now_ns < filling->since_ns + set->wait_ns)
        return false;
    if (!may_overtake_held(set, filling, *next_sbn))
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
    assert(set->held_count < GROUP_HELD_MAX && kept > 0);
    group->count = kept;
    group->since_ns = now_ns;
    set->sending = set->held[set->held_count];
    set->held[set->held_count++] = group;
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
    group->closed = false;
    return first_time;
}

uint64_t group_settled(const struct group_set *set)
{
    uint64_t settled = set->before_newest;
    if (set->held_count > 0 && set->held[0]->before < settled)
        settled = set->held[0]->before;
    if (set->sending->count > 0 && set->sending->before < settled)
        settled = set->sending->before;
    return settled;
}

uint64_t group_deadline_ns(const struct group_set *set, uint64_t next_sbn)
{
    uint64_t deadline_ns = set->held_count > 0 ? set->held[0]->since_ns + set->repeat_after_ns : UINT64_MAX;
    uint64_t filled_ns = set->filling->since_ns + set->wait_ns;
    if (set->filling->count > 0 && filled_ns < deadline_ns && may_overtake_held(set, set->filling, next_sbn))
        deadline_ns = filled_ns;
    return deadline_ns;
}
