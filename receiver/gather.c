// SPDX-License-Identifier: Apache-2.0
#include "receiver/gather.h"

#include "receiver/gather_private.h"

#include <assert.h>
#include <stdlib.h>

#include "common/prefetch.h"
#include "common/stream.h"

#define STALE_NS UINT64_C(1000000000)

static size_t entry_size(uint8_t k, uint8_t r, uint16_t symbol_size)
{
    return sizeof(struct entry) + ((size_t)k + r) * symbol_size;
}

size_t gather_entry_span(const struct block *block)
{
    return arena_span(entry_size(block->source_symbols, block->repair_symbols, block->symbol_size));
}

static struct slot *slot_claim(struct gather *gather, uint64_t sbn)
{
    struct slot *slot = &gather->slots[sbn % TABLE_SIZE];
    if (slot->sbn != sbn || slot->state == STATE_FREE)
        *slot = (struct slot){.sbn = sbn, .missed = slot->sbn == sbn ? slot->missed : 0};
    return slot;
}

/* Blocks. */

static void need_memory(struct gather *gather, const struct datagram *datagram)
{
    size_t size = entry_size(datagram->source_symbols, datagram->repair_symbols, datagram->symbol_size);
    uint64_t needed = (2 * (uint64_t)datagram->depth + 1) * arena_span(size); /* one is lost where the ring wraps */
    if (needed > gather->counters.memory_needed)
        gather->counters.memory_needed = needed;
}

/* The oldest block of a full arena is given up when it is open; what is complete has a claim to be popped first. */
static struct entry *allocate(struct gather *gather, size_t size)
{
    struct arena *arena = &gather->arenas[gather->active];
    for (;;) {
        struct entry *entry = arena_allocate(arena, size);
        if (entry != NULL)
            return entry;
        struct entry *oldest = arena_first(arena);
        if (oldest == NULL || oldest->state != STATE_OPEN || arena_span(size) > arena->size) {
            gather_window_release_all(gather);
            return NULL;
        }
        gather_window_give_up(gather, oldest, DATAGRAM_DROP_MEMORY);
    }
}

static struct entry *open_block(struct gather *gather, const struct datagram *datagram, uint64_t now_ns)
{
    struct slot *slot = slot_claim(gather, datagram->sbn);
    size_t size = entry_size(datagram->source_symbols, datagram->repair_symbols, datagram->symbol_size);
    struct entry *entry = allocate(gather, size);
    if (entry == NULL) {
        need_memory(gather, datagram);
        /* A block that has lost more symbols than can be repaired would only take the place of others. */
        if (++slot->missed > datagram->repair_symbols) {
            slot->state = STATE_OVER;
            slot->answer = DATAGRAM_DROP_MEMORY;
            gather->counters.blocks_given_up++;
        }
        return NULL;
    }
    *entry = (struct entry){
        .block = {.gather = gather,
                  .sender_id = gather->sender_id,
                  .lane = gather->lane,
                  .source_symbols = datagram->source_symbols,
                  .repair_symbols = datagram->repair_symbols,
                  .symbol_size = datagram->symbol_size,
                  .epoch = gather->epoch,
                  .sbn = datagram->sbn,
                  .repeat_of = datagram->repeat_of,
                  .block_hash = datagram->block_hash,
                  .symbols = entry->symbols},
        .arena = &gather->arenas[gather->active],
        .state = STATE_OPEN,
        .depth = datagram->depth,
        .group_index = datagram->group_index,
    };
    slot->state = STATE_OPEN;
    slot->entry = entry;
    if (gather->open++ == 0)
        gather->expiry_ns = now_ns + GATHER_GIVE_UP_NS;
    return entry;
}

static bool agrees(const struct entry *entry, const struct datagram *datagram)
{
    const struct block *block = &entry->block;
    return block->source_symbols == datagram->source_symbols && block->repair_symbols == datagram->repair_symbols &&
           block->symbol_size == datagram->symbol_size && block->block_hash == datagram->block_hash &&
           block->repeat_of == datagram->repeat_of && entry->depth == datagram->depth &&
           entry->group_index == datagram->group_index;
}

/*
 * While the window is on probation a slot may be wanted by two blocks. The one that is less far ahead has it, unless
 * nothing has come of that for a while.
 */
static bool clear_slot(struct gather *gather, uint64_t sbn, uint64_t now_ns)
{
    struct slot *slot = &gather->slots[sbn % TABLE_SIZE];
    if (slot->sbn == sbn || (slot->state != STATE_OPEN && slot->state != STATE_WAITING))
        return true;
    if (slot->sbn < sbn && now_ns < slot->entry->touched_ns + STALE_NS)
        return false;
    if (slot->state == STATE_OPEN)
        gather_window_give_up(gather, slot->entry, DATAGRAM_DROP_LATE);
    else
        gather_window_release_all(gather);
    return true;
}

/* The open block that the datagram is for, or NULL and why not. */
static struct entry *find_or_open(struct gather *gather, const struct datagram *datagram, uint64_t now_ns,
                                  enum datagram_drop *drop)
{
    struct slot *slot = slot_find(gather, datagram->sbn);
    if (slot != NULL && slot->state != STATE_OPEN) {
        *drop = slot->state == STATE_OVER ? (enum datagram_drop)slot->answer : DATAGRAM_DROP_SURPLUS;
        return NULL;
    }
    if (slot != NULL && !agrees(slot->entry, datagram)) {
        struct entry *entry = slot->entry;
        if (++entry->conflicts <= entry->block.received) {
            *drop = DATAGRAM_DROP_CONFLICT;
            return NULL;
        }
        gather_window_end_open(gather, entry);
        slot = NULL;
    }
    if (slot != NULL)
        return slot->entry;
    *drop = DATAGRAM_DROP_CONFLICT;
    if (!clear_slot(gather, datagram->sbn, now_ns))
        return NULL;
    *drop = DATAGRAM_DROP_MEMORY;
    return open_block(gather, datagram, now_ns);
}

static void complete(struct gather *gather, struct entry *entry, const struct datagram *datagram)
{
    struct slot *slot = slot_find(gather, entry->block.sbn);
    assert(slot != NULL && slot->entry == entry);
    gather->open--;
    gather->counters.blocks_complete++;
    need_memory(gather, datagram);
    if (entry->block.sbn - entry->group_index == newest_group(gather)->base) {
        entry->state = STATE_WAITING;
        slot->state = STATE_WAITING;
        gather->waiting++;
        gather_window_release_in_order(gather);
    } else {
        gather_window_append(gather, entry);
    }
}

/* Of another late datagram: whether the window is where nothing is sent. */
static bool is_lost(struct gather *gather, uint64_t now_ns)
{
    if (gather->sealed)
        return false;
    uint64_t wait_ns = ++gather->late >= GATHER_RESYNC_DATAGRAMS ? GATHER_RESYNC_SOON_NS : GATHER_RESYNC_NS;
    return now_ns >= gather->in_window_ns + wait_ns;
}

enum datagram_drop gather_take(struct gather *gather, const struct datagram *datagram, const uint8_t *symbol,
                               uint64_t now_ns)
{
    if (gather->anchored && datagram->sbn < gather->floor) {
        if (!is_lost(gather, now_ns))
            return DATAGRAM_DROP_LATE;
        gather_window_restart(gather);
    }
    gather->in_window_ns = now_ns;
    gather->late = 0;
    if (!gather_window_accept(gather, datagram, now_ns))
        return DATAGRAM_DROP_CONFLICT;
    enum datagram_drop drop;
    struct entry *entry = find_or_open(gather, datagram, now_ns, &drop);
    if (entry == NULL)
        return drop;
    struct block *block = &entry->block;
    if (block->present[datagram->esi])
        return DATAGRAM_DROP_DUPLICATE;
    block->present[datagram->esi] = true;
    block->received++;
    if (datagram->esi < block->source_symbols) {
        block->received_source++;
        block->hash_sum += datagram_hash_share(datagram->esi, datagram->symbol_hash);
    }
    entry->touched_ns = now_ns;
    stream_copy(block->symbols + (size_t)datagram->esi * block->symbol_size, symbol, block->symbol_size);
    if (block->received == block->source_symbols)
        complete(gather, entry, datagram);
    return DATAGRAM_OK;
}

void gather_expect(const struct gather *gather, const struct datagram *datagram)
{
    const struct slot *slot = &gather->slots[datagram->sbn % TABLE_SIZE];
    if (slot->state != STATE_OPEN || slot->sbn != datagram->sbn)
        return;
    const struct entry *entry = slot->entry;
    prefetch_write(entry, sizeof *entry);
    stream_expect(entry->symbols + (size_t)datagram->esi * datagram->symbol_size, datagram->symbol_size);
}

enum datagram_drop gather_push(struct gather *gather, const struct datagram *datagram, const uint8_t *symbol,
                               uint64_t now_ns)
{
    assert(datagram->sender_id == gather->sender_id && datagram->epoch == gather->epoch &&
           datagram->lane == gather->lane);
    gather->last_ns = now_ns;
    gather->counters.datagrams++;
    loss_note(&gather->loss, datagram->sequence);
    gather->counters.lost = gather->loss.lost;
    enum datagram_drop drop = gather_take(gather, datagram, symbol, now_ns);
    if (drop != DATAGRAM_OK)
        gather->counters.drops[drop]++;
    return drop;
}

/* Everything below was followed by a newer group, or by silence, for as long as blocks are kept open. */
static uint64_t over_by_time(const struct gather *gather, uint64_t now_ns)
{
    if (now_ns >= gather->last_ns + GATHER_GIVE_UP_NS)
        return line_end(gather);
    return now_ns < GATHER_GIVE_UP_NS ? 0 : trail_base_at(&gather->trail, now_ns - GATHER_GIVE_UP_NS);
}

static void advance_passed(struct gather *gather, uint64_t now_ns)
{
    if (gather->probation.on && now_ns >= gather->last_ns + GATHER_GIVE_UP_NS)
        gather_window_decide(gather, now_ns);
    uint64_t over = over_by_time(gather, now_ns);
    if (over < gather->floor)
        over = gather->floor;
    if (gather->passed < over)
        gather->passed = over;
    for (; gather->passed < line_end(gather); gather->passed++) {
        struct slot *slot = slot_find(gather, gather->passed);
        if (slot == NULL || slot->state != STATE_OVER)
            break;
    }
}

struct block *gather_pop(struct gather *gather, uint64_t now_ns)
{
    if (gather->waiting > 0 && now_ns >= gather->last_ns + GATHER_ORDER_WAIT_NS)
        gather_window_release_all(gather);
    if (gather->open > 0 && now_ns >= gather->expiry_ns)
        gather_window_give_up_expired(gather, now_ns);
    struct entry *entry = gather->ready_first;
    if (entry == NULL) {
        if (gather->anchored)
            advance_passed(gather, now_ns);
        return NULL;
    }
    gather->ready_first = entry->next;
    entry->state = STATE_HELD;
    gather->held++;
    stream_fence(); /* it goes to another thread */
    return &entry->block;
}

void gather_return(struct gather *gather, struct block *block)
{
    struct entry *entry = (struct entry *)(void *)block;
    assert(block->gather == gather && entry->state == STATE_HELD && gather->held > 0);
    gather->held--;
    gather->complete_size -= gather_entry_span(block);
    struct slot *slot = slot_find(gather, block->sbn);
    if (slot != NULL && slot->entry == entry) {
        slot->entry = NULL;
        slot->state = STATE_OVER;
        slot->answer = DATAGRAM_DROP_SURPLUS;
    }
    entry->state = STATE_FREE;
    arena_free(entry->arena, entry);
}

void gather_release(struct gather *gather)
{
    stream_fence(); /* what stays open is read by who writes the handover file */
    if (!gather->anchored)
        return;
    gather_window_decide(gather, gather->last_ns);
    gather_window_release_all(gather);
}

void gather_finish(struct gather *gather)
{
    if (!gather->anchored)
        return;
    gather_window_decide(gather, gather->last_ns);
    /* Not those of the newest group: its sender may have ended before it sent them. */
    gather_window_count_unseen(gather, gather->floor, newest_group(gather)->base);
    gather_window_empty(gather);
}

uint64_t gather_deadline_ns(const struct gather *gather)
{
    uint64_t deadline_ns = UINT64_MAX;
    if (gather->ready_first != NULL)
        return 0;
    if (gather->waiting > 0)
        deadline_ns = gather->last_ns + GATHER_ORDER_WAIT_NS;
    if (gather->open > 0 && gather->expiry_ns < deadline_ns)
        deadline_ns = gather->expiry_ns;
    if (gather->anchored && (gather->passed < window_end(gather) || gather->probation.on) &&
        gather->last_ns + GATHER_GIVE_UP_NS < deadline_ns)
        deadline_ns = gather->last_ns + GATHER_GIVE_UP_NS;
    return deadline_ns;
}

uint64_t gather_passed_sbn(struct gather *gather, uint64_t now_ns)
{
    if (!gather->anchored)
        return 0;
    advance_passed(gather, now_ns);
    uint64_t passed = gather->passed;
    for (unsigned i = 0; i < 2; i++) {
        const struct arena *arena = &gather->arenas[i];
        for (const struct entry *entry = arena_first(arena); entry != NULL; entry = arena_next(arena, entry))
            if (entry->block.sbn < passed)
                passed = entry->block.sbn;
    }
    return passed;
}

struct gather *gather_create(uint32_t sender_id, uint8_t lane, uint64_t epoch, uint8_t *arena, size_t arena_size)
{
    struct gather *gather = calloc(1, sizeof *gather);
    if (gather == NULL)
        return NULL;
    gather->sender_id = sender_id;
    gather->lane = lane;
    gather->epoch = epoch;
    arena_init(&gather->arenas[0], arena, arena_size);
    return gather;
}

void gather_set_sealed(struct gather *gather)
{
    gather->sealed = true;
}

void gather_destroy(struct gather *gather)
{
    if (gather == NULL)
        return;
    assert(gather->held == 0);
    free(gather);
}

void gather_move(struct gather *gather, uint8_t *arena, size_t arena_size)
{
    assert(!gather_moving(gather));
    gather->active ^= 1;
    arena_init(&gather->arenas[gather->active], arena, arena_size);
}

void gather_end_move(struct gather *gather)
{
    struct arena *arena = &gather->arenas[gather->active ^ 1];
    struct entry *next = NULL;
    for (struct entry *entry = arena_first(arena); entry != NULL; entry = next) {
        next = arena_next(arena, entry);
        if (entry->state == STATE_OPEN)
            gather_window_give_up(gather, entry, DATAGRAM_DROP_MEMORY);
    }
    gather_release(gather);
}

bool gather_moving(const struct gather *gather)
{
    return !arena_is_empty(&gather->arenas[gather->active ^ 1]);
}

uint64_t gather_epoch(const struct gather *gather)
{
    return gather->epoch;
}

uint64_t gather_last_datagram_ns(const struct gather *gather)
{
    return gather->last_ns;
}

unsigned gather_held(const struct gather *gather)
{
    return gather->held;
}

bool gather_is_crowded(const struct gather *gather)
{
    return gather->complete_size > gather->arenas[gather->active].size / 2;
}

unsigned gather_open(const struct gather *gather)
{
    return gather->open;
}

const struct gather_counters *gather_counters(const struct gather *gather)
{
    return &gather->counters;
}
