// SPDX-License-Identifier: Apache-2.0
#include "sender/read.h"

#include <assert.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/digest.h"
#include "common/log.h"
#include "common/worker.h"
#include "proto/datagram.h"
#include "sender/announce.h"
#include "sender/aside.h"
#include "sender/fetch.h"
#include "sender/group.h"
#include "sender/idle.h"
#include "sender/marks.h"
#include "sender/pack.h"
#include "sender/packing.h"
#include "sender/reading.h"
#include "sender/schedule.h"

#define LATER_NS (100 * CLOCK_MILLISECOND_NS) /* until a shortage of descriptors is looked at again */
enum { IDLE_SHARE_DEFAULT = 50 };             /* per cent */

struct read_stage {
    struct read_setup setup;
    struct worker *worker;
    sem_t started;
    enum status start_status;
    atomic_bool stopping;
    _Atomic uint64_t bytes;

    /* The thread's own. */
    struct fetch *fetch;
    struct schedule schedule;
    struct reading all;       /* head of the ring of all transfers inside */
    struct reading *finished; /* last copy packed, in that order; by item.next */
    struct reading *finished_last;
    struct packing packing;
    struct idle idle;
    bool healing;           /* heals have begun the group that is being packed */
    bool heals_open;        /* the open block is theirs */
    uint64_t datagram_bits; /* on the wire */
    struct aside *aside;
    bool aside_waits; /* for reads of its own, which come behind all that is not hashed: nothing may run ahead */
    struct marks marks;
    uint64_t later_ns; /* no file is opened before, UINT64_MAX: no such hold */
    bool is_short;     /* of descriptors, and said so */
};

enum plan_result {
    PLAN_PROGRESS,
    PLAN_BLOCKED, /* waits for an empty block, for reads or for hashing */
    PLAN_NOTHING, /* there is nothing to pack at the moment */
};

static void note_group_end(struct read_stage *stage, bool complete, uint64_t now_ns)
{
    if (stage->healing)
        idle_group(&stage->idle, complete, now_ns);
    stage->healing = false;
}

static void close_open_block(struct read_stage *stage, uint64_t now_ns)
{
    const struct config *config = stage->setup.config;
    const struct block *block = packing_close(&stage->packing);
    schedule_block_done(&stage->schedule);
    if (stage->heals_open) {
        unsigned symbols = (unsigned)block->source_symbols + block->repair_symbols;
        bool is_short = group_is_short_block(config->source_symbols + config->repair_symbols, symbols);
        idle_block(&stage->idle, symbols * stage->datagram_bits, is_short, now_ns);
    }
    stage->heals_open = false;
    if (stage->packing.in_group == 0)
        note_group_end(stage, !block->ends_group, now_ns);
}

/*
 * An item of `class` has packed its manifest for the first time, mostly into the group that its data is in or ends in.
 * All blocks of a group are complete only when the group is over, so that lower classes must not fill it up.
 */
static void end_urgent(struct read_stage *stage, enum schedule_class class, uint64_t now_ns)
{
    if (!schedule_is_urgent_end(&stage->schedule, class, now_ns) || !packing_end_group(&stage->packing))
        return;
    if (stage->packing.open != NULL && stage->packing.pack.used > 0)
        close_open_block(stage, now_ns);
    else
        note_group_end(stage, false, now_ns);
}

/* Nothing follows at the moment: what the lanes hold must not wait for more. True when a group was ended by that. */
static bool flush(struct read_stage *stage, uint64_t now_ns)
{
    if (stage->packing.open != NULL && stage->packing.pack.used > 0)
        close_open_block(stage, now_ns);
    if (!packing_flush(&stage->packing))
        return false;
    note_group_end(stage, false, now_ns);
    return true;
}

/*
 * Heals begin a group on a lane that has sent all it had, so that what comes next waits for one group at most; and then
 * complete it if nothing comes.
 */
static bool may_heal(const struct read_stage *stage, uint64_t now_ns)
{
    return stage->healing || (packing_is_free(&stage->packing) && now_ns >= idle_ready_ns(&stage->idle));
}

static void hold_files(struct read_stage *stage, uint64_t now_ns)
{
    if (!stage->is_short)
        log_warning("no descriptor to open a file of the spool; trying again (raise LimitNOFILE)");
    stage->is_short = true;
    stage->later_ns = now_ns + LATER_NS;
}

/* The reads of a transfer that runs, beside those into blocks. */
static bool read_aside(struct read_stage *stage, struct reading *reading, uint64_t now_ns)
{
    bool is_short = false;
    bool progress = aside_read(stage->aside, stage->fetch, reading, &is_short);
    stage->aside_waits |= reading->item.class != SCHEDULE_HEAL && reading->item.state != SCHEDULE_READY;
    if (is_short)
        hold_files(stage, now_ns);
    return progress;
}

/* False when it can't be sent: the schedule will ask for its data, of which there is none. */
static bool begin_resend(struct read_stage *stage, struct reading *reading, uint64_t now_ns)
{
    struct transfer *transfer = reading->transfer;
    atomic_store(&transfer->announced_stage, TRANSFER_STAGE_READING);
    reading->resend = resend_create(transfer, aside_scratch(stage->aside, reading->item.class));
    if (transfer->outcome == TRANSFER_PENDING) {
        (void)read_aside(stage, reading, now_ns);
        return true;
    }
    reading->item.announced = true;
    reading->item.due_ns = UINT64_MAX;
    return false;
}

/* A first announce, which the receiver will look into, of what starts with its first byte: another such transfer behind
 * it in its line may go along. */
static bool may_share_announce(const struct reading *reading)
{
    return reading != NULL && !reading->sealed && !reading->item.announced && reading->item.state == SCHEDULE_READY;
}

static void pack_announce(struct read_stage *stage, struct reading *reading, uint64_t now_ns)
{
    struct announce announce;
    if (reading->sealed && reading->resend == NULL && !begin_resend(stage, reading, now_ns))
        return;
    if (stage->packing.capacity - stage->packing.pack.used < PACK_CAPACITY_MIN) {
        close_open_block(stage, now_ns);
        return; /* still due: comes again for the next block */
    }
    announce_begin(&announce, clock_realtime_ns(), stage->packing.capacity);
    struct reading *next = reading;
    bool shares;
    do {
        const struct transfer *transfer = next->transfer;
        if (!announce_add(&announce, transfer->id, transfer->channel, transfer->name, transfer->total_bytes,
                          transfer->artifact_count))
            break;
        shares = may_share_announce(next);
        schedule_announced(&next->item, now_ns);
        next = (struct reading *)next->item.next;
    } while (shares && may_share_announce(next));
    announce_pack(&announce, stage->setup.key, &stage->packing.pack);
}

static void fill_watermarks(struct read_stage *stage, const struct reading *reading, struct frame_manifest *part)
{
    const struct config *config = stage->setup.config;
    part->lanes = (uint16_t)config->lanes;
    for (unsigned i = 0; i < part->lanes; i++)
        part->watermark[i] =
            lane_watermark(stage->setup.lanes[i], reading->data_blocks[i], stage->setup.group_span_ns / config->depth);
}

static void end_copies(struct read_stage *stage, struct reading *reading)
{
    memcpy(reading->last_blocks, stage->packing.taken, sizeof reading->last_blocks);
    if (stage->packing.open != NULL && stage->packing.pack.used == 0)
        reading->last_blocks[stage->packing.open->lane]--;
    reading->item.next = NULL;
    if (stage->finished == NULL)
        stage->finished = reading;
    else
        stage->finished_last->item.next = &reading->item;
    stage->finished_last = reading;
}

/* A part of the manifest, or the whole abort of a transfer that has none. */
static void pack_copy(struct read_stage *stage, struct reading *reading, uint64_t now_ns)
{
    const struct transfer *transfer = reading->transfer;
    bool complete;
    if (transfer->sequence == 0) {
        complete = pack_signed(&stage->packing.pack, FRAME_ABORT, transfer->id, transfer->signed_bytes,
                               (uint32_t)transfer->signed_size);
        if (!complete) {
            assert(stage->packing.pack.used > 0);
            close_open_block(stage, now_ns);
            return;
        }
    } else {
        struct frame_manifest part = {.transfer_id = transfer->id,
                                      .total = (uint32_t)transfer->signed_size,
                                      .offset = reading->part_offset,
                                      .copy = reading->item.copies,
                                      .bytes = transfer->signed_bytes};
        fill_watermarks(stage, reading, &part);
        uint32_t size = pack_manifest(&stage->packing.pack, &part);
        if (size == 0) {
            close_open_block(stage, now_ns);
            return;
        }
        reading->part_offset += size;
        complete = reading->part_offset == transfer->signed_size;
    }
    if (!complete)
        return;
    reading->part_offset = 0;
    bool first = reading->item.copies == 0;
    if (schedule_copy_done(&stage->schedule, &reading->item, now_ns))
        end_copies(stage, reading);
    if (first)
        end_urgent(stage, reading->item.class, now_ns);
}

static struct reading *add_reading(struct read_stage *stage, struct transfer *transfer)
{
    struct reading *reading = reading_create(transfer);
    reading->repeat_of = transfer->kind != TRANSFER_FRESH ? transfer->sequence : 0;
    reading_insert(&stage->all, reading);
    return reading;
}

static void start_copies(struct read_stage *stage, struct reading *reading, uint64_t now_ns)
{
    atomic_store(&reading->transfer->announced_stage, TRANSFER_STAGE_COPIES);
    memcpy(reading->data_blocks, stage->packing.taken, sizeof reading->data_blocks);
    schedule_add_copies(&stage->schedule, &reading->item, now_ns);
}

/* All data of a transfer has been read (or it was given up). What was sealed before a restart keeps its manifest. */
static void end_data(struct read_stage *stage, struct reading *reading, uint64_t now_ns)
{
    struct transfer *transfer = reading->transfer;
    if (!reading->sealed) {
        reading_remove(reading);
        stage->setup.seal(stage->setup.context, transfer);
        return;
    }
    resend_destroy(reading->resend);
    reading->resend = NULL;
    if (transfer->directory_fd >= 0)
        close(transfer->directory_fd);
    transfer->directory_fd = -1;
    if (transfer->kind != TRANSFER_FRESH && transfer->outcome != TRANSFER_PENDING)
        end_copies(stage, reading);
    else
        start_copies(stage, reading, now_ns);
}

static void leave_line(struct read_stage *stage, struct reading *reading, uint64_t now_ns)
{
    schedule_data_done(&stage->schedule, &reading->item);
    reading->out_of_line = true;
    if (reading->sealed || reading_is_over(reading))
        end_data(stage, reading, now_ns);
}

static bool read_all_aside(struct read_stage *stage, uint64_t now_ns)
{
    bool progress = false;
    stage->aside_waits = false;
    for (unsigned class = 0; class < SCHEDULE_CLASS_COUNT && stage->later_ns == UINT64_MAX; class ++) {
        struct reading *reading = (struct reading *)schedule_first(&stage->schedule, class);
        if (reading != NULL)
            progress |= read_aside(stage, reading, now_ns);
    }
    return progress;
}

/* From the memory in which it was checked. */
static enum plan_result pack_checked_data(struct read_stage *stage, struct reading *reading, uint64_t now_ns)
{
    struct frame_data data;
    struct resend_read read;
    uint8_t *place;
    if (resend_next(reading->resend, &read) == RESEND_ENDED) {
        if (reading->transfer->outcome == TRANSFER_PENDING)
            marks_packed(&stage->marks, reading->transfer, reading->transfer->total_bytes, stage->packing.taken);
        leave_line(stage, reading, now_ns);
        return PLAN_PROGRESS;
    }
    resend_data(reading->resend, &data);
    uint32_t size = pack_data(&stage->packing.pack, &data, &place);
    if (size == 0) {
        close_open_block(stage, now_ns);
        return PLAN_PROGRESS;
    }
    memcpy(place, data.bytes, size);
    resend_packed(reading->resend, size);
    marks_packed(&stage->marks, reading->transfer, resend_position(reading->resend), stage->packing.taken);
    (void)read_aside(stage, reading, now_ns);
    return PLAN_PROGRESS;
}

static enum plan_result pack_some_data(struct read_stage *stage, struct reading *reading, uint64_t now_ns)
{
    struct block *block = stage->packing.open;
    struct fetch_piece piece = {.owner = reading, .block = block};
    struct frame_data data;
    if (reading->sealed)
        return pack_checked_data(stage, reading, now_ns);
    if (stage->later_ns != UINT64_MAX)
        return PLAN_NOTHING;
    if (!fetch_has_room(stage->fetch, !stage->aside_waits && packing_is_late(&stage->packing, now_ns)))
        return PLAN_BLOCKED;
    switch (reading_next(reading, &data, &piece.fd)) {
    case READING_LATER:
        hold_files(stage, now_ns);
        return PLAN_NOTHING;
    case READING_ENDED:
        leave_line(stage, reading, now_ns);
        return PLAN_PROGRESS;
    case READING_DATA:
        break;
    }
    stage->is_short = false;
    piece.size = pack_data(&stage->packing.pack, &data, &piece.place);
    if (piece.size == 0) {
        close_open_block(stage, now_ns);
        return PLAN_PROGRESS;
    }
    piece.offset = data.offset;
    piece.last = reading_planned(reading, piece.size);
    unsigned parts = fetch_start_parts(stage->fetch, &piece);
    block->pending += parts;
    block->unhashed += parts;
    reading->pieces += parts - 1; /* the first is counted */
    marks_packed(&stage->marks, reading->transfer, reading->position, stage->packing.taken);
    return PLAN_PROGRESS;
}

static enum plan_result plan(struct read_stage *stage, uint64_t now_ns)
{
    struct schedule_item *item;
    if (!packing_open(&stage->packing))
        return PLAN_BLOCKED;
    enum schedule_kind kind = schedule_next(&stage->schedule, now_ns, may_heal(stage, now_ns), &item);
    struct reading *reading = (struct reading *)item;
    if (kind == SCHEDULE_NOTHING)
        return PLAN_NOTHING;
    if (!packing_suits(&stage->packing, reading->repeat_of)) {
        close_open_block(stage, now_ns);
        return PLAN_PROGRESS;
    }
    if (kind == SCHEDULE_WAIT)
        return PLAN_BLOCKED;
    bool heals = item->class == SCHEDULE_HEAL;
    enum plan_result result = PLAN_PROGRESS;
    if (kind == SCHEDULE_DATA)
        result = pack_some_data(stage, reading, now_ns);
    else if (kind == SCHEDULE_ANNOUNCE)
        pack_announce(stage, reading, now_ns);
    else
        pack_copy(stage, reading, now_ns);
    if (heals && stage->packing.open != NULL && stage->packing.pack.used > 0)
        stage->healing = stage->heals_open = true;
    return result;
}

/* What has landed is in its block, which can go out. */
static bool land_pieces(struct read_stage *stage)
{
    const struct fetch_piece *piece;
    bool progress = false;
    while ((piece = fetch_land(stage->fetch)) != NULL) {
        progress = true;
        if (piece->block == NULL)
            continue;
        piece->block->pending--;
        if (piece->error == 0)
            continue;
        /* The frame leaves all the same, but nothing more of the transfer, and it does not count as sent; nothing of
         * an earlier use of the block must be in it. */
        struct reading *reading = piece->owner;
        memset(piece->place, 0, piece->size);
        reading->ended = true;
        marks_forget(&stage->marks, reading->transfer);
    }
    return progress;
}

static void take_piece(struct read_stage *stage, struct reading *reading, const struct fetch_piece *piece)
{
    if (!aside_take(stage->aside, piece))
        piece->block->unhashed--;
    if (reading->resend != NULL)
        return;
    if (piece->error == 0)
        reading_take(reading, piece->place, piece->size, piece->offset, piece->fd);
    else
        reading_failed(reading, piece->error);
    if (piece->last)
        close(piece->fd);
}

/* Hashes some of what has landed: not all of it, so that meanwhile more is read. */
static bool take_pieces(struct read_stage *stage, uint64_t now_ns)
{
    const struct fetch_piece *piece;
    uint32_t bytes = 0;
    while (bytes < FETCH_PIECE_MAX && (piece = fetch_peek(stage->fetch)) != NULL) {
        struct reading *reading = piece->owner;
        bytes += piece->size;
        take_piece(stage, reading, piece);
        fetch_release(stage->fetch);
        if (reading->out_of_line && reading_is_over(reading))
            end_data(stage, reading, now_ns);
    }
    atomic_fetch_add_explicit(&stage->bytes, bytes, memory_order_relaxed);
    return bytes > 0;
}

static bool take_mail(struct read_stage *stage, uint64_t now_ns)
{
    struct transfer *transfer;
    bool progress = false;
    while ((transfer = (struct transfer *)mailbox_take(stage->setup.sealed)) != NULL) {
        start_copies(stage, add_reading(stage, transfer), now_ns);
        progress = true;
    }
    while ((transfer = (struct transfer *)mailbox_take(stage->setup.submitted)) != NULL) {
        struct reading *reading = add_reading(stage, transfer);
        reading->sealed = transfer->sequence != 0;
        atomic_store(&transfer->mark, transfer->resume_at);
        schedule_add(&stage->schedule, &reading->item, reading_class(reading));
        if (!reading->sealed && transfer->resume_at > 0)
            reading->item.state = SCHEDULE_LATER;
        progress = true;
    }
    return progress;
}

/* Lets go of the transfers whose last copy has left on every lane. */
static bool finish_sent(struct read_stage *stage)
{
    bool progress = false;
    while (stage->finished != NULL) {
        struct reading *reading = stage->finished;
        for (unsigned i = 0; i < stage->setup.config->lanes; i++)
            if (atomic_load(&stage->setup.lanes[i]->sent) < reading->last_blocks[i])
                return progress;
        struct transfer *transfer = reading->transfer;
        stage->finished = (struct reading *)reading->item.next;
        reading_remove(reading);
        marks_forget(&stage->marks, transfer);
        if (transfer->outcome == TRANSFER_PENDING)
            transfer->outcome = TRANSFER_SENT;
        stage->setup.finish(stage->setup.context, transfer);
        progress = true;
    }
    return progress;
}

/* One round through everything that may be to do; *deadline_ns is when to look again without being told. */
static bool work(struct read_stage *stage, uint64_t *deadline_ns)
{
    enum plan_result result;
    uint64_t now_ns = clock_monotonic_ns();
    if (stage->later_ns <= now_ns)
        stage->later_ns = UINT64_MAX;
    packing_look(&stage->packing, now_ns);
    bool progress = take_mail(stage, now_ns);
    progress |= land_pieces(stage);
    progress |= packing_hand_over(&stage->packing);
    marks_move(&stage->marks, stage->setup.lanes);
    progress |= finish_sent(stage);
    progress |= read_all_aside(stage, now_ns);
    while ((result = plan(stage, now_ns)) == PLAN_PROGRESS)
        progress = true;
    fetch_submit(stage->fetch);
    *deadline_ns = UINT64_MAX;
    if (result == PLAN_NOTHING)
        progress |= flush(stage, now_ns);
    if (result == PLAN_NOTHING || stage->packing.open != NULL) {
        uint64_t heal_ns = packing_is_free(&stage->packing) ? idle_ready_ns(&stage->idle) : UINT64_MAX;
        *deadline_ns = schedule_deadline_ns(&stage->schedule, now_ns, heal_ns);
    }
    if (stage->later_ns < *deadline_ns)
        *deadline_ns = stage->later_ns;
    progress |= take_pieces(stage, now_ns);
    return progress;
}

static void destroy_all(struct read_stage *stage)
{
    while (stage->all.next != &stage->all) {
        struct reading *reading = stage->all.next;
        struct transfer *transfer = reading->transfer;
        reading_remove(reading);
        transfer_destroy(transfer);
    }
}

static void run(void *context)
{
    struct read_stage *stage = context;
    uint8_t nothing[DIGEST_SIZE];
    digest_once("", 0, nothing); /* the first one reads OpenSSL's configuration: not in the first transfer */
    stage->start_status =
        fetch_create(stage->setup.bell, stage->setup.lanes, stage->setup.config->lanes, &stage->fetch);
    enum status status = stage->start_status;
    sem_post(&stage->started);
    if (status != STATUS_OK)
        return;
    while (!atomic_load(&stage->stopping)) {
        uint64_t deadline_ns;
        if (work(stage, &deadline_ns))
            continue;
        doorbell_arm(stage->setup.bell);
        if (!work(stage, &deadline_ns) && !atomic_load(&stage->stopping))
            fetch_wait(stage->fetch, clock_monotonic_ns(), deadline_ns);
        doorbell_disarm(stage->setup.bell);
    }
    fetch_destroy(stage->fetch);
    destroy_all(stage);
}

static void free_stage(struct read_stage *stage)
{
    sem_destroy(&stage->started);
    aside_destroy(stage->aside);
    free(stage);
}

enum status read_start(const struct read_setup *setup, struct read_stage **stage)
{
    const struct config *config = setup->config;
    *stage = NULL;
    struct read_stage *made = calloc(1, sizeof *made);
    assert(made != NULL);
    made->setup = *setup;
    made->all.next = made->all.previous = &made->all;
    made->later_ns = UINT64_MAX;
    made->datagram_bits = datagram_wire_bits(config->symbol_size, socket_address_is_ipv6(&config->peer));
    packing_init(&made->packing, config, setup->lanes, setup->group_span_ns);
    schedule_init(&made->schedule, setup->group_span_ns, config->share);
    idle_init(&made->idle, config->rate_bits_per_s, config->idle_share > 0 ? config->idle_share : IDLE_SHARE_DEFAULT,
              clock_monotonic_ns());
    made->aside = aside_create();
    marks_init(&made->marks, config->lanes, made->packing.capacity * config->depth / 2);
    sem_init(&made->started, 0, 0);
    enum status status = worker_start("read", run, made, &made->worker);
    if (status == STATUS_OK) {
        worker_pin(made->worker, &config->cpus, 0);
        while (sem_wait(&made->started) != 0)
            continue;
        status = made->start_status;
    } else {
        log_error("the read stage can't start: no thread; raise TasksMax");
    }
    if (status != STATUS_OK) {
        worker_join(made->worker);
        free_stage(made);
        return status;
    }
    *stage = made;
    return STATUS_OK;
}

uint64_t read_bytes(const struct read_stage *stage)
{
    return atomic_load_explicit(&stage->bytes, memory_order_relaxed);
}

void read_stop(struct read_stage *stage)
{
    if (stage == NULL)
        return;
    atomic_store(&stage->stopping, true);
    doorbell_ring(stage->setup.bell);
    worker_join(stage->worker);
    free_stage(stage);
}
