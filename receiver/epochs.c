// SPDX-License-Identifier: Apache-2.0
#include "receiver/epochs.h"

#include <assert.h>
#include <stdlib.h>

#include "common/slab.h"

enum { PLACES = 2, PAGE = 4096 };
enum { MAIN, SIDE };
#define YOUNG_NS       UINT64_C(100000000) /* so that a flood of forged epochs does not make a gather of each datagram */
#define UNCONFIRMED_NS UINT64_C(10000000000) /* a true epoch is confirmed long before */

/* One epoch that is received, or whose blocks are still out. It has an arena to itself, so there are two at most. */
struct place {
    struct gather *gather; /* NULL: free */
    unsigned arena;        /* that its new blocks go to */
    bool retired;          /* nothing more goes in */
    uint64_t begun_ns;
};

struct sender {
    uint32_t id;
    uint64_t confirmed_epoch;
    uint8_t *arenas[2];
    struct place places[PLACES];
};

struct epochs {
    uint8_t lane;
    bool sealed;
    const struct trust *trust;
    struct lane_progress *progress;
    struct slab *slab;
    size_t arena_sizes[2];
    struct gather_counters gone; /* of gathers that were destroyed */
    uint64_t last_datagram_ns;
    size_t known, count;
    struct sender *recent; /* of the newest datagram */
    struct sender senders[];
};

size_t epochs_arena_of(size_t share_size)
{
    return share_size / 4 * 3 / PAGE * PAGE;
}

size_t epochs_share_for(size_t arena)
{
    return (arena + PAGE) / 3 * 4 + PAGE;
}

struct epochs *epochs_create(uint8_t lane, const struct trust *trust, size_t share_size, struct lane_progress *progress)
{
    size_t count = trust_count(trust);
    share_size = share_size / PAGE * PAGE;
    struct epochs *epochs = calloc(1, sizeof *epochs + count * sizeof *epochs->senders);
    if (epochs == NULL)
        return NULL;
    if (slab_create(share_size, count, &epochs->slab) != STATUS_OK) {
        free(epochs);
        return NULL;
    }
    epochs->lane = lane;
    epochs->trust = trust;
    epochs->progress = progress;
    epochs->count = count;
    epochs->arena_sizes[MAIN] = epochs_arena_of(share_size);
    epochs->arena_sizes[SIDE] = share_size - epochs->arena_sizes[MAIN];
    for (size_t i = 0; i < count; i++) {
        uint8_t *share = slab_take(epochs->slab);
        assert(share != NULL);
        epochs->senders[i].arenas[MAIN] = share;
        epochs->senders[i].arenas[SIDE] = share + epochs->arena_sizes[MAIN];
    }
    return epochs;
}

void epochs_set_sealed(struct epochs *epochs)
{
    epochs->sealed = true;
}

void epochs_destroy(struct epochs *epochs)
{
    if (epochs == NULL)
        return;
    for (size_t i = 0; i < epochs->known; i++)
        for (unsigned j = 0; j < PLACES; j++)
            gather_destroy(epochs->senders[i].places[j].gather);
    slab_destroy(epochs->slab);
    free(epochs);
}

/* The sender of this id, which joins the known ones when it is trusted; else NULL. */
static struct sender *find_sender(struct epochs *epochs, uint32_t id)
{
    if (epochs->recent != NULL && epochs->recent->id == id)
        return epochs->recent;
    for (size_t i = 0; i < epochs->known; i++)
        if (epochs->senders[i].id == id)
            return epochs->recent = &epochs->senders[i];
    if (trust_find(epochs->trust, id) == NULL)
        return NULL;
    assert(epochs->known < epochs->count);
    struct sender *sender = &epochs->senders[epochs->known++];
    sender->id = id;
    sender->confirmed_epoch = progress_confirmed_epoch(epochs->progress, id);
    return epochs->recent = sender;
}

static bool is_live(const struct place *place)
{
    return place->gather != NULL && !place->retired;
}

static bool is_silent(const struct place *place, uint64_t now_ns)
{
    return now_ns >= gather_last_datagram_ns(place->gather) + EPOCHS_SILENCE_NS;
}

static bool arena_is_free(const struct sender *sender, unsigned arena)
{
    for (unsigned i = 0; i < PLACES; i++) {
        const struct place *place = &sender->places[i];
        if (place->gather != NULL && (place->arena == arena || gather_moving(place->gather)))
            return false;
    }
    return true;
}

static void add_counters(struct gather_counters *sum, const struct gather_counters *more)
{
    sum->datagrams += more->datagrams;
    sum->lost += more->lost;
    sum->blocks_complete += more->blocks_complete;
    sum->blocks_given_up += more->blocks_given_up;
    for (unsigned i = 0; i < DATAGRAM_DROP_COUNT; i++)
        sum->drops[i] += more->drops[i];
    if (more->memory_needed > sum->memory_needed)
        sum->memory_needed = more->memory_needed;
}

/* What it still holds comes back; what is ready is popped first. */
static void destroy_when_empty(struct epochs *epochs, struct place *place)
{
    if (place->gather == NULL || !place->retired || gather_held(place->gather) > 0 ||
        gather_deadline_ns(place->gather) == 0)
        return;
    add_counters(&epochs->gone, gather_counters(place->gather));
    gather_destroy(place->gather);
    *place = (struct place){.gather = NULL};
}

static void retire(struct epochs *epochs, struct place *place)
{
    gather_finish(place->gather);
    place->retired = true;
    destroy_when_empty(epochs, place);
}

/* Whether the running epoch gives the main arena to the other one: it fell silent, or was forged while the true sender
 * was away. */
static bool is_taken_over(const struct sender *sender, const struct place *place, const struct place *other,
                          uint64_t now_ns)
{
    if (place->arena != MAIN || !is_live(other) || is_silent(other, now_ns))
        return false;
    bool forged = gather_epoch(other->gather) == sender->confirmed_epoch && now_ns >= place->begun_ns + UNCONFIRMED_NS;
    return forged || is_silent(place, now_ns);
}

static void settle(struct epochs *epochs, struct sender *sender, uint64_t now_ns)
{
    sender->confirmed_epoch = progress_confirmed_epoch(epochs->progress, sender->id);
    for (unsigned i = 0; i < PLACES; i++) {
        struct place *place = &sender->places[i];
        struct place *other = &sender->places[i ^ 1];
        if (!is_live(place)) {
            destroy_when_empty(epochs, place);
            continue;
        }
        if (gather_epoch(place->gather) < sender->confirmed_epoch || is_taken_over(sender, place, other, now_ns))
            retire(epochs, place);
    }
    for (unsigned i = 0; i < PLACES; i++) {
        struct place *place = &sender->places[i];
        if (is_live(place) && place->arena == SIDE && arena_is_free(sender, MAIN)) {
            gather_move(place->gather, sender->arenas[MAIN], epochs->arena_sizes[MAIN]);
            place->arena = MAIN;
        }
    }
}

enum datagram_drop epochs_check(struct epochs *epochs, const struct datagram *datagram)
{
    const struct sender *sender = find_sender(epochs, datagram->sender_id);
    if (sender == NULL)
        return DATAGRAM_DROP_SENDER;
    return datagram->epoch < sender->confirmed_epoch ? DATAGRAM_DROP_EPOCH : DATAGRAM_OK;
}

/*
 * Whether a live epoch must make way for `epoch`, which is new. The one in the main arena is the running one. A newer
 * epoch means that the sender started again; without a link key anyone can claim that, so it displaces only what is not
 * confirmed either. What it displaced comes back once the newer one is silent, or as soon as it is confirmed.
 */
static bool makes_way(const struct sender *sender, const struct place *place, uint64_t epoch, uint64_t now_ns)
{
    if (!is_live(place))
        return false;
    if (is_silent(place, now_ns) || (epoch == sender->confirmed_epoch && place->arena == SIDE))
        return true;
    if (place->arena != SIDE || gather_epoch(place->gather) == sender->confirmed_epoch)
        return false;
    return now_ns >= place->begun_ns + (gather_epoch(place->gather) < epoch ? YOUNG_NS : EPOCHS_TRIAL_NS);
}

/* Ends the move of a running epoch for the sake of a newer one that needs the side arena. */
static void end_moves(struct sender *sender, uint64_t epoch)
{
    for (unsigned i = 0; i < PLACES; i++) {
        struct place *place = &sender->places[i];
        if (is_live(place) && gather_moving(place->gather) && gather_epoch(place->gather) < epoch)
            gather_end_move(place->gather);
    }
}

/* A gather for an epoch that has none. */
static enum datagram_drop begin(struct epochs *epochs, struct sender *sender, uint64_t epoch, uint64_t now_ns,
                                struct gather **gather)
{
    settle(epochs, sender, now_ns);
    end_moves(sender, epoch);
    bool full = !arena_is_free(sender, MAIN) && !arena_is_free(sender, SIDE);
    for (unsigned i = 0; full && i < PLACES; i++) {
        if (!makes_way(sender, &sender->places[i], epoch, now_ns))
            continue;
        retire(epochs, &sender->places[i]);
        full = !arena_is_free(sender, MAIN) && !arena_is_free(sender, SIDE);
        if (full)
            return DATAGRAM_DROP_MEMORY; /* until its blocks are back */
    }
    if (full)
        return DATAGRAM_DROP_EPOCH;
    struct place *place = &sender->places[sender->places[0].gather == NULL ? 0 : 1];
    assert(place->gather == NULL);
    place->arena = arena_is_free(sender, MAIN) ? MAIN : SIDE;
    place->retired = false;
    place->begun_ns = now_ns;
    place->gather =
        gather_create(sender->id, epochs->lane, epoch, sender->arenas[place->arena], epochs->arena_sizes[place->arena]);
    *gather = place->gather;
    if (place->gather != NULL && epochs->sealed)
        gather_set_sealed(place->gather);
    return place->gather == NULL ? DATAGRAM_DROP_MEMORY : DATAGRAM_OK;
}

/* The gather that collects the epoch, or NULL. */
static struct gather *find_gather(const struct sender *sender, uint64_t epoch)
{
    for (unsigned i = 0; i < PLACES; i++)
        if (is_live(&sender->places[i]) && gather_epoch(sender->places[i].gather) == epoch)
            return sender->places[i].gather;
    return NULL;
}

void epochs_expect(struct epochs *epochs, const struct datagram *datagram)
{
    const struct sender *sender = find_sender(epochs, datagram->sender_id);
    const struct gather *gather = sender == NULL ? NULL : find_gather(sender, datagram->epoch);
    if (gather != NULL)
        gather_expect(gather, datagram);
}

enum datagram_drop epochs_push(struct epochs *epochs, const struct datagram *datagram, const uint8_t *symbol,
                               uint64_t now_ns)
{
    struct sender *sender = find_sender(epochs, datagram->sender_id);
    assert(sender != NULL);
    epochs->last_datagram_ns = now_ns;
    struct gather *gather = find_gather(sender, datagram->epoch);
    if (gather == NULL) {
        enum datagram_drop drop = begin(epochs, sender, datagram->epoch, now_ns, &gather);
        if (drop != DATAGRAM_OK)
            return drop;
    }
    (void)gather_push(gather, datagram, symbol, now_ns);
    return DATAGRAM_OK;
}

struct block *epochs_pop(struct epochs *epochs, uint64_t now_ns)
{
    for (size_t i = 0; i < epochs->known; i++)
        for (unsigned j = 0; j < PLACES; j++) {
            struct gather *gather = epochs->senders[i].places[j].gather;
            struct block *block = gather == NULL ? NULL : gather_pop(gather, now_ns);
            if (block != NULL)
                return block;
        }
    return NULL;
}

void epochs_return(struct epochs *epochs, struct block *block)
{
    (void)epochs;
    gather_return(block->gather, block);
}

void epochs_settle(struct epochs *epochs, uint64_t now_ns)
{
    for (size_t i = 0; i < epochs->known; i++)
        settle(epochs, &epochs->senders[i], now_ns);
}

void epochs_release(struct epochs *epochs)
{
    for (size_t i = 0; i < epochs->known; i++)
        for (unsigned j = 0; j < PLACES; j++)
            if (is_live(&epochs->senders[i].places[j]))
                gather_release(epochs->senders[i].places[j].gather);
}

void epochs_finish(struct epochs *epochs)
{
    for (size_t i = 0; i < epochs->known; i++)
        for (unsigned j = 0; j < PLACES; j++)
            if (is_live(&epochs->senders[i].places[j]))
                retire(epochs, &epochs->senders[i].places[j]);
}

uint64_t epochs_deadline_ns(const struct epochs *epochs)
{
    uint64_t deadline_ns = UINT64_MAX;
    for (size_t i = 0; i < epochs->known; i++)
        for (unsigned j = 0; j < PLACES; j++) {
            const struct place *place = &epochs->senders[i].places[j];
            uint64_t gather_ns = place->gather == NULL ? UINT64_MAX : gather_deadline_ns(place->gather);
            if (gather_ns < deadline_ns && (!place->retired || gather_ns == 0))
                deadline_ns = gather_ns;
        }
    return deadline_ns;
}

void epochs_publish(struct epochs *epochs, uint64_t now_ns)
{
    for (size_t i = 0; i < epochs->known; i++) {
        const struct sender *sender = &epochs->senders[i];
        struct gather *running = NULL;
        for (unsigned j = 0; j < PLACES; j++) {
            const struct place *place = &sender->places[j];
            if (is_live(place) && (running == NULL || place->arena == MAIN))
                running = place->gather;
        }
        for (unsigned j = 0; j < PLACES; j++)
            if (is_live(&sender->places[j]) && gather_epoch(sender->places[j].gather) == sender->confirmed_epoch)
                running = sender->places[j].gather;
        if (running != NULL)
            progress_set_passed(epochs->progress, sender->id, epochs->lane, gather_epoch(running),
                                gather_passed_sbn(running, now_ns));
    }
}

bool epochs_newest(const struct epochs *epochs, size_t index, uint32_t *sender_id, uint64_t *epoch, uint64_t *last_ns)
{
    const struct gather *newest = NULL;
    for (unsigned j = 0; j < PLACES && index < epochs->known; j++) {
        const struct gather *gather = epochs->senders[index].places[j].gather;
        if (gather != NULL && (newest == NULL || gather_epoch(gather) > gather_epoch(newest)))
            newest = gather;
    }
    if (newest == NULL)
        return false;
    *sender_id = epochs->senders[index].id;
    *epoch = gather_epoch(newest);
    *last_ns = gather_last_datagram_ns(newest);
    return true;
}

unsigned epochs_held(const struct epochs *epochs)
{
    unsigned held = 0;
    for (size_t i = 0; i < epochs->known; i++)
        for (unsigned j = 0; j < PLACES; j++)
            if (epochs->senders[i].places[j].gather != NULL)
                held += gather_held(epochs->senders[i].places[j].gather);
    return held;
}

bool epochs_are_crowded(const struct epochs *epochs)
{
    for (size_t i = 0; i < epochs->known; i++)
        for (unsigned j = 0; j < PLACES; j++)
            if (is_live(&epochs->senders[i].places[j]) && gather_is_crowded(epochs->senders[i].places[j].gather))
                return true;
    return false;
}

size_t epochs_open(const struct epochs *epochs)
{
    size_t open = 0;
    for (size_t i = 0; i < epochs->known; i++)
        for (unsigned j = 0; j < PLACES; j++)
            if (epochs->senders[i].places[j].gather != NULL)
                open += gather_open(epochs->senders[i].places[j].gather);
    return open;
}

void epochs_totals(const struct epochs *epochs, struct epochs_totals *totals)
{
    totals->gathers = epochs->gone;
    totals->last_datagram_ns = epochs->last_datagram_ns;
    for (size_t i = 0; i < epochs->known; i++)
        for (unsigned j = 0; j < PLACES; j++)
            if (epochs->senders[i].places[j].gather != NULL)
                add_counters(&totals->gathers, gather_counters(epochs->senders[i].places[j].gather));
}

/* From one run of the receiver to the next. */

static bool export_symbol(void *context, const struct datagram *datagram, const uint8_t *symbol)
{
    const struct handover_record record = {.kind = HANDOVER_DATAGRAM, .datagram = {*datagram, symbol}};
    handover_writer_add(context, &record);
    return !handover_writer_failed(context);
}

static void export_place(const struct sender *sender, const struct place *place, struct handover_writer *writer)
{
    struct gather_state state;
    gather_export(place->gather, &state);
    const struct handover_record record = {.kind = HANDOVER_EPOCH,
                                           .epoch = {sender->id, gather_epoch(place->gather), &state}};
    handover_writer_add(writer, &record);
    gather_export_symbols(place->gather, export_symbol, writer);
}

size_t epochs_export(const struct epochs *epochs, struct handover_writer *writer)
{
    size_t open = 0;
    for (size_t i = 0; i < epochs->known; i++) {
        const struct sender *sender = &epochs->senders[i];
        const struct handover_record known = {.kind = HANDOVER_SENDER, .sender = {sender->id, sender->confirmed_epoch}};
        handover_writer_add(writer, &known);
        /* The running epoch first, so that it finds the main arena free. */
        for (unsigned arena = MAIN; arena <= SIDE; arena++)
            for (unsigned j = 0; j < PLACES; j++)
                if (is_live(&sender->places[j]) && sender->places[j].arena == arena) {
                    export_place(sender, &sender->places[j], writer);
                    open += gather_open(sender->places[j].gather);
                }
    }
    return open;
}

static bool import_epoch(struct epochs *epochs, const struct handover_record *record, uint64_t now_ns)
{
    struct sender *sender = find_sender(epochs, record->epoch.sender_id);
    struct gather *gather;
    if (sender == NULL || record->epoch.epoch < sender->confirmed_epoch ||
        find_gather(sender, record->epoch.epoch) != NULL ||
        begin(epochs, sender, record->epoch.epoch, now_ns, &gather) != DATAGRAM_OK)
        return false;
    gather_import(gather, record->epoch.state, now_ns);
    return true;
}

static bool import_datagram(struct epochs *epochs, const struct handover_record *record, uint64_t now_ns)
{
    const struct datagram *datagram = &record->datagram.header;
    struct sender *sender = find_sender(epochs, datagram->sender_id);
    struct gather *gather = sender == NULL ? NULL : find_gather(sender, datagram->epoch);
    return gather != NULL && datagram->lane == epochs->lane &&
           gather_import_symbol(gather, datagram, record->datagram.symbol, now_ns) == DATAGRAM_OK;
}

bool epochs_import(struct epochs *epochs, const struct handover_record *record, uint64_t now_ns)
{
    switch (record->kind) {
    case HANDOVER_SENDER:
        if (find_sender(epochs, record->sender.id) == NULL)
            return false;
        progress_confirm_epoch(epochs->progress, record->sender.id, record->sender.confirmed_epoch);
        return true;
    case HANDOVER_EPOCH:
        return import_epoch(epochs, record, now_ns);
    case HANDOVER_DATAGRAM:
        return import_datagram(epochs, record, now_ns);
    default:
        return false;
    }
}
