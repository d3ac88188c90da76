// SPDX-License-Identifier: Apache-2.0
#include "receiver/gather.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/prefetch.h"
#include "receiver/arena.h"
#include "receiver/loss.h"
#include "receiver/trail.h"

enum {
    WINDOW_SLACK = 64,  /* SBNs beside twice the depth, for short groups */
    TABLE_SIZE = 16384, /* slots, by SBN; a power of two */
    GROUPS = 16,        /* whose geometry is remembered */
};

/* Groups may overlap where someone forges them: the blocks of an older one reach beyond the end of the newest. */
_Static_assert(3 * LIMIT_DEPTH + WINDOW_SLACK <= TABLE_SIZE, "no two SBNs of the window share a slot");
_Static_assert((TABLE_SIZE & (TABLE_SIZE - 1)) == 0, "a remainder is a mask");
_Static_assert(TRAIL_SAMPLES *TRAIL_STEP_NS > GATHER_GIVE_UP_NS, "the trail reaches back far enough");

enum block_state {
    STATE_FREE,    /* of an entry: its memory can be reused once all older entries are free; of a slot: nothing known */
    STATE_OPEN,    /* fewer than k symbols */
    STATE_WAITING, /* complete, behind an incomplete one of the newest group */
    STATE_READY,   /* complete, to be popped */
    STATE_HELD,    /* popped */
    STATE_OVER,    /* returned, or given up */
};

/* Memory of one block: this header, then the symbols. */
struct entry {
    struct block block; /* first, so that a block leads to its entry */
    struct entry *next; /* in the list of ready ones */
    struct arena *arena;
    uint64_t touched_ns; /* newest datagram */
    enum block_state state;
    uint32_t conflicts;
    uint16_t depth, group_index;
    _Alignas(ARENA_ALIGNMENT) uint8_t symbols[];
};

struct slot {
    uint64_t sbn;
    struct entry *entry; /* while open, waiting, ready or held */
    uint8_t state;       /* enum block_state */
    uint8_t answer;      /* enum datagram_drop for further symbols of a block that is over */
    uint8_t missed;      /* symbols dropped for want of memory */
};

struct group {
    uint64_t base;
    uint16_t depth; /* 0: unused */
    uint16_t symbol_size;
    uint64_t accepted, conflicts;
};

struct gather {
    uint64_t epoch;
    uint32_t sender_id;
    uint8_t lane;

    struct arena arenas[2];
    unsigned active; /* index of the arena that new blocks go to */

    bool anchored; /* a first group was seen: the following hold */
    struct group groups[GROUPS];
    unsigned newest, oldest_group; /* indexes */
    uint16_t previous_depth;
    uint64_t floor;      /* lowest SBN of the window */
    uint64_t order_next; /* lowest SBN of the newest group that is neither released nor over */
    uint64_t passed;     /* cache of gather_passed_sbn() before entries in use are looked at */
    uint64_t in_window_ns, last_ns;
    struct trail trail;

    unsigned open, waiting, held;
    uint64_t expiry_ns; /* no open block is given up before */
    struct entry *ready_first, *ready_last;

    struct loss loss;
    struct gather_counters counters;
    struct slot slots[TABLE_SIZE];
};

static size_t entry_size(uint8_t k, uint8_t r, uint16_t symbol_size)
{
    return sizeof(struct entry) + ((size_t)k + r) * symbol_size;
}

/* Slots and states. */

static struct slot *slot_find(struct gather *gather, uint64_t sbn)
{
    struct slot *slot = &gather->slots[sbn % TABLE_SIZE];
    return slot->state != STATE_FREE && slot->sbn == sbn ? slot : NULL;
}

static struct slot *slot_claim(struct gather *gather, uint64_t sbn)
{
    struct slot *slot = &gather->slots[sbn % TABLE_SIZE];
    if (slot->sbn != sbn || slot->state == STATE_FREE)
        *slot = (struct slot){.sbn = sbn, .missed = slot->sbn == sbn ? slot->missed : 0};
    return slot;
}

static const struct group *newest_group(const struct gather *gather)
{
    return &gather->groups[gather->newest];
}

static uint64_t window_end(const struct gather *gather)
{
    return newest_group(gather)->base + newest_group(gather)->depth;
}

static void append_ready(struct gather *gather, struct entry *entry)
{
    if (entry->state == STATE_WAITING)
        gather->waiting--;
    entry->state = STATE_READY;
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

/* Releases complete blocks of the newest group up to the first that is incomplete. */
static void release_in_order(struct gather *gather)
{
    for (; gather->order_next < window_end(gather); gather->order_next++) {
        struct slot *slot = slot_find(gather, gather->order_next);
        if (slot == NULL || slot->state == STATE_OPEN)
            return;
        if (slot->state == STATE_WAITING)
            append_ready(gather, slot->entry);
    }
}

static void release_all(struct gather *gather)
{
    for (uint64_t sbn = gather->order_next; gather->waiting > 0 && sbn < window_end(gather); sbn++) {
        struct slot *slot = slot_find(gather, sbn);
        if (slot != NULL && slot->state == STATE_WAITING)
            append_ready(gather, slot->entry);
    }
    assert(gather->waiting == 0);
}

/* Ends an open block; nothing is known of its SBN then. */
static struct slot *end_open(struct gather *gather, struct entry *entry)
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

static void give_up(struct gather *gather, struct entry *entry, enum datagram_drop answer)
{
    struct slot *slot = end_open(gather, entry);
    slot->state = STATE_OVER;
    slot->answer = (uint8_t)answer;
    gather->counters.blocks_given_up++;
}

static void give_up_expired(struct gather *gather, uint64_t now_ns)
{
    gather->expiry_ns = UINT64_MAX;
    for (unsigned i = 0; i < 2; i++) {
        struct arena *arena = &gather->arenas[i];
        struct entry *next = NULL;
        for (struct entry *entry = arena_first(arena); entry != NULL; entry = next) {
            next = arena_next(arena, entry);
            uint64_t expiry_ns = entry->touched_ns + GATHER_GIVE_UP_NS;
            if (entry->state == STATE_OPEN && expiry_ns <= now_ns)
                give_up(gather, entry, DATAGRAM_DROP_LATE);
            else if (entry->state == STATE_OPEN && expiry_ns < gather->expiry_ns)
                gather->expiry_ns = expiry_ns;
        }
    }
    release_in_order(gather);
}

/* The window. */

static void raise_floor(struct gather *gather, uint64_t floor)
{
    uint64_t first = gather->floor;
    if (floor <= first)
        return;
    gather->floor = floor;
    uint64_t count = floor - first < TABLE_SIZE ? floor - first : TABLE_SIZE;
    for (uint64_t i = 0; i < count && gather->open > 0; i++) {
        struct slot *slot = &gather->slots[(first + i) % TABLE_SIZE];
        if (slot->state == STATE_OPEN && slot->sbn < floor)
            give_up(gather, slot->entry, DATAGRAM_DROP_LATE);
    }
}

static void slide_window(struct gather *gather)
{
    uint16_t depth = newest_group(gather)->depth;
    if (depth < gather->previous_depth)
        depth = gather->previous_depth;
    uint64_t width = 2 * (uint64_t)depth + WINDOW_SLACK;
    if (window_end(gather) > width)
        raise_floor(gather, window_end(gather) - width);
}

static void enter_group(struct gather *gather, unsigned index, uint64_t now_ns)
{
    if (gather->anchored) {
        release_all(gather);
        gather->previous_depth = newest_group(gather)->depth;
    }
    gather->newest = index;
    gather->order_next = newest_group(gather)->base;
    trail_note(&gather->trail, newest_group(gather)->base, now_ns);
    gather->anchored = true;
    slide_window(gather);
}

/* Forgets the window, not the blocks that are complete. */
static void start_anew(struct gather *gather)
{
    gather_finish(gather);
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
        gather->oldest_group = (gather->oldest_group + 1) % GROUPS;
    unsigned index = gather->oldest_group;
    gather->oldest_group = (index + 1) % GROUPS;
    return index;
}

/* Whether the datagram agrees with what is known of its group; makes a group that is new the newest where it is. */
static bool group_accept(struct gather *gather, const struct datagram *datagram, uint64_t now_ns)
{
    uint64_t base = datagram->sbn - datagram->group_index;
    for (unsigned i = 0; i < GROUPS; i++) {
        struct group *group = &gather->groups[(gather->newest + GROUPS - i) % GROUPS];
        if (group->depth == 0 || group->base != base)
            continue;
        if (group->depth == datagram->depth && group->symbol_size == datagram->symbol_size) {
            group->accepted++;
            return true;
        }
        if (++group->conflicts <= group->accepted)
            return false;
        if (group == newest_group(gather))
            release_all(gather);
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
            release_all(gather);
            return NULL;
        }
        give_up(gather, oldest, DATAGRAM_DROP_MEMORY);
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
        end_open(gather, entry);
        slot = NULL;
    }
    *drop = DATAGRAM_DROP_MEMORY;
    return slot != NULL ? slot->entry : open_block(gather, datagram, now_ns);
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
        release_in_order(gather);
    } else {
        append_ready(gather, entry);
    }
}

static enum datagram_drop take(struct gather *gather, const struct datagram *datagram, const uint8_t *symbol,
                               uint64_t now_ns)
{
    if (gather->anchored && datagram->sbn < gather->floor) {
        if (now_ns < gather->in_window_ns + GATHER_RESYNC_NS)
            return DATAGRAM_DROP_LATE;
        start_anew(gather);
    }
    gather->in_window_ns = now_ns;
    if (!group_accept(gather, datagram, now_ns))
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
    if (datagram->esi < block->source_symbols)
        block->received_source++;
    entry->touched_ns = now_ns;
    memcpy(block->symbols + (size_t)datagram->esi * block->symbol_size, symbol, block->symbol_size);
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
    prefetch_write(entry->symbols + (size_t)datagram->esi * datagram->symbol_size, datagram->symbol_size);
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
    enum datagram_drop drop = take(gather, datagram, symbol, now_ns);
    if (drop != DATAGRAM_OK)
        gather->counters.drops[drop]++;
    return drop;
}

/* Everything below was followed by a newer group, or by silence, for as long as blocks are kept open. */
static uint64_t over_by_time(const struct gather *gather, uint64_t now_ns)
{
    if (now_ns >= gather->last_ns + GATHER_GIVE_UP_NS)
        return window_end(gather);
    return now_ns < GATHER_GIVE_UP_NS ? 0 : trail_base_at(&gather->trail, now_ns - GATHER_GIVE_UP_NS);
}

static void advance_passed(struct gather *gather, uint64_t now_ns)
{
    uint64_t over = over_by_time(gather, now_ns);
    if (over < gather->floor)
        over = gather->floor;
    if (gather->passed < over)
        gather->passed = over;
    for (; gather->passed < window_end(gather); gather->passed++) {
        struct slot *slot = slot_find(gather, gather->passed);
        if (slot == NULL || slot->state != STATE_OVER)
            break;
    }
}

struct block *gather_pop(struct gather *gather, uint64_t now_ns)
{
    if (gather->waiting > 0 && now_ns >= gather->last_ns + GATHER_ORDER_WAIT_NS)
        release_all(gather);
    if (gather->open > 0 && now_ns >= gather->expiry_ns)
        give_up_expired(gather, now_ns);
    struct entry *entry = gather->ready_first;
    if (entry == NULL) {
        if (gather->anchored)
            advance_passed(gather, now_ns);
        return NULL;
    }
    gather->ready_first = entry->next;
    entry->state = STATE_HELD;
    gather->held++;
    return &entry->block;
}

void gather_return(struct gather *gather, struct block *block)
{
    struct entry *entry = (struct entry *)(void *)block;
    assert(block->gather == gather && entry->state == STATE_HELD && gather->held > 0);
    gather->held--;
    struct slot *slot = slot_find(gather, block->sbn);
    if (slot != NULL && slot->entry == entry) {
        slot->entry = NULL;
        slot->state = STATE_OVER;
        slot->answer = DATAGRAM_DROP_SURPLUS;
    }
    entry->state = STATE_FREE;
    arena_free(entry->arena, entry);
}

void gather_finish(struct gather *gather)
{
    if (!gather->anchored)
        return;
    release_all(gather);
    give_up_expired(gather, UINT64_MAX);
    assert(gather->open == 0);
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
    if (gather->anchored && gather->passed < window_end(gather) && gather->last_ns + GATHER_GIVE_UP_NS < deadline_ns)
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

const struct gather_counters *gather_counters(const struct gather *gather)
{
    return &gather->counters;
}
