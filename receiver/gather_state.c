// SPDX-License-Identifier: Apache-2.0
#include "receiver/gather_private.h"

#include <assert.h>
#include <string.h>

/* Export: what the run before leaves. */

static void export_groups(const struct gather *gather, struct gather_state *state)
{
    for (unsigned i = 0; i < GATHER_GROUPS; i++) {
        const struct group *group = &gather->groups[i];
        if (group->depth == 0 || group->base > newest_group(gather)->base)
            continue;
        unsigned at = state->group_count++;
        for (; at > 0 && state->groups[at - 1].base > group->base; at--)
            state->groups[at] = state->groups[at - 1];
        state->groups[at].base = group->base;
        state->groups[at].depth = group->depth;
        state->groups[at].symbol_size = group->symbol_size;
    }
}

void gather_export(const struct gather *gather, struct gather_state *state)
{
    *state = (struct gather_state){.loss = gather->loss};
    state->loss.claim_count = 0;
    if (!gather->anchored)
        return;
    assert(!gather->probation.on && gather->waiting == 0 && gather->ready_first == NULL);
    state->floor = gather->floor;
    state->passed = gather->passed;
    state->counted_from = gather->counted_from;
    export_groups(gather, state);
    state->window_size = (uint32_t)(window_end(gather) - gather->floor);
    assert(state->window_size <= GATHER_WINDOW_MAX);
    for (uint32_t i = 0; i < state->window_size; i++) {
        const struct slot *slot = &gather->slots[(gather->floor + i) % TABLE_SIZE];
        if (slot->sbn != gather->floor + i)
            continue;
        if (slot->state == STATE_OVER)
            state->window[i] = slot->answer;
        else if (slot->state == STATE_READY) /* popped, and not returned yet */
            state->window[i] = DATAGRAM_DROP_SURPLUS;
    }
}

static bool visit_block(const struct entry *entry,
                        bool (*visit)(void *context, const struct datagram *datagram, const uint8_t *symbol),
                        void *context)
{
    const struct block *block = &entry->block;
    struct datagram datagram = {.lane = block->lane,
                                .source_symbols = block->source_symbols,
                                .repair_symbols = block->repair_symbols,
                                .symbol_size = block->symbol_size,
                                .sender_id = block->sender_id,
                                .depth = entry->depth,
                                .group_index = entry->group_index,
                                .epoch = block->epoch,
                                .sbn = block->sbn,
                                .repeat_of = block->repeat_of,
                                .block_hash = block->block_hash};
    unsigned count = (unsigned)block->source_symbols + block->repair_symbols;
    for (unsigned esi = 0; esi < count; esi++) {
        datagram.esi = (uint8_t)esi;
        if (block->present[esi] && !visit(context, &datagram, block->symbols + (size_t)esi * block->symbol_size))
            return false;
    }
    return true;
}

void gather_export_symbols(const struct gather *gather,
                           bool (*visit)(void *context, const struct datagram *datagram, const uint8_t *symbol),
                           void *context)
{
    for (unsigned i = 0; i < 2; i++) {
        const struct arena *arena = &gather->arenas[gather->active ^ 1 ^ i]; /* the older one first */
        for (const struct entry *entry = arena_first(arena); entry != NULL; entry = arena_next(arena, entry))
            if (entry->state == STATE_OPEN && !visit_block(entry, visit, context))
                return;
    }
}

/* Import: how the next run begins. */

static bool groups_are_sane(const struct gather_state *state)
{
    for (uint32_t i = 0; i < state->group_count; i++) {
        uint16_t depth = state->groups[i].depth;
        uint16_t size = state->groups[i].symbol_size;
        if (depth == 0 || depth > LIMIT_DEPTH || state->groups[i].base > UINT64_MAX - depth)
            return false;
        if (size < LIMIT_SYMBOL_SIZE_MIN || size > LIMIT_SYMBOL_SIZE || size % LIMIT_SYMBOL_ALIGNMENT != 0)
            return false;
        if (i > 0 && state->groups[i].base <= state->groups[i - 1].base)
            return false;
    }
    return true;
}

bool gather_state_is_sane(const struct gather_state *state)
{
    if (!loss_is_sane(&state->loss) || state->group_count > GATHER_GROUPS || !groups_are_sane(state))
        return false;
    if (state->group_count == 0)
        return state->window_size == 0;
    uint64_t end = state->groups[state->group_count - 1].base + state->groups[state->group_count - 1].depth;
    if (state->window_size > GATHER_WINDOW_MAX || state->floor > end || end - state->floor != state->window_size)
        return false;
    for (uint32_t i = 0; i < state->window_size; i++)
        if (state->window[i] >= DATAGRAM_DROP_COUNT)
            return false;
    return state->passed <= end;
}

void gather_import(struct gather *gather, const struct gather_state *state, uint64_t now_ns)
{
    assert(!gather->anchored && gather->open == 0 && gather_state_is_sane(state));
    gather->loss = state->loss;
    gather->counters.lost = state->loss.lost;
    gather->last_ns = gather->in_window_ns = now_ns;
    for (uint32_t i = 0; i < state->group_count; i++) {
        struct datagram first = {
            .sbn = state->groups[i].base, .depth = state->groups[i].depth, .symbol_size = state->groups[i].symbol_size};
        (void)gather_window_accept(gather, &first, now_ns);
    }
    if (state->group_count == 0)
        return;
    if (gather->probation.on)
        gather_window_settle(gather, now_ns);
    gather->counters.blocks_given_up = 0; /* the run before has counted them */
    gather->counted_from = state->counted_from;
    gather->jumped = 0;
    gather->floor = state->floor;
    gather->passed = state->passed;
    for (uint32_t i = 0; i < state->window_size; i++)
        if (state->window[i] != DATAGRAM_OK) {
            uint64_t sbn = state->floor + i;
            gather->slots[sbn % TABLE_SIZE] =
                (struct slot){.sbn = sbn, .state = STATE_OVER, .answer = state->window[i]};
        }
}

enum datagram_drop gather_import_symbol(struct gather *gather, const struct datagram *datagram, const uint8_t *symbol,
                                        uint64_t now_ns)
{
    struct datagram opened = *datagram;
    opened.symbol_hash = datagram_symbol_hash(symbol, datagram->symbol_size);
    return gather_take(gather, &opened, symbol, now_ns);
}
