// SPDX-License-Identifier: Apache-2.0
#include "sender/read.h"

#include <assert.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/worker.h"
#include "proto/datagram.h"
#include "proto/message.h"
#include "proto/signed.h"
#include "sender/fetch.h"
#include "sender/pack.h"
#include "sender/reading.h"
#include "sender/schedule.h"

#define LATER_NS (100 * CLOCK_MILLISECOND_NS) /* until a shortage of descriptors is looked at again */

struct read_stage {
    struct read_setup setup;
    size_t capacity; /* payload bytes of a full block */
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
    struct pack pack;
    struct block *open;                       /* being packed, or NULL */
    struct block *closed_first, *closed_last; /* packed, in order; go out when their reads have landed */
    unsigned lane;                            /* that the open block belongs to */
    unsigned in_group;                        /* blocks that this lane was given in a row */
    uint64_t taken[LIMIT_LANES];              /* blocks opened so far */
    uint64_t handed[LIMIT_LANES];             /* the lanes' atomics, cheaper */
    uint64_t later_ns;                        /* no data before, UINT64_MAX: no such hold */
};

enum plan_result {
    PLAN_PROGRESS,
    PLAN_BLOCKED, /* waits for an empty block or for reads */
    PLAN_NOTHING, /* there is nothing to pack at the moment */
};

static void close_open_block(struct read_stage *stage)
{
    const struct config *config = stage->setup.config;
    struct block *block = stage->open;
    block->symbol_size = config->symbol_size;
    block->source_symbols = pack_close(&stage->pack, block->symbol_size);
    block->repair_symbols =
        datagram_repair_for(block->source_symbols, (uint8_t)config->source_symbols, (uint8_t)config->repair_symbols);
    block->next = NULL;
    if (stage->closed_first == NULL)
        stage->closed_first = block;
    else
        stage->closed_last->next = block;
    stage->closed_last = block;
    stage->open = NULL;
    schedule_block_done(&stage->schedule);
    if (++stage->in_group == config->depth) {
        stage->in_group = 0;
        stage->lane = (stage->lane + 1) % config->lanes;
    }
}

static bool open_block(struct read_stage *stage)
{
    if (stage->open != NULL)
        return true;
    stage->open = queue_pop(stage->setup.lanes[stage->lane]->empty);
    if (stage->open == NULL)
        return false;
    stage->taken[stage->lane]++;
    stage->open->pending = 0;
    pack_open(&stage->pack, stage->open->symbols, stage->capacity);
    return true;
}

/* Passes on the blocks whose reads have landed, in order. */
static bool hand_over(struct read_stage *stage)
{
    bool progress = false;
    while (stage->closed_first != NULL && stage->closed_first->pending == 0) {
        struct block *block = stage->closed_first;
        struct lane *lane = stage->setup.lanes[block->lane];
        stage->closed_first = block->next;
        bool pushed = queue_push(lane->filled, block);
        assert(pushed);
        (void)pushed;
        atomic_store(&lane->handed, ++stage->handed[block->lane]);
        doorbell_ring(lane->send_bell);
        progress = true;
    }
    return progress;
}

/* Nothing follows at the moment: what the lanes hold must not wait for more. */
static void flush(struct read_stage *stage)
{
    if (stage->open != NULL && stage->pack.used > 0)
        close_open_block(stage);
    hand_over(stage);
    if (stage->closed_first != NULL)
        return;
    if (stage->in_group > 0) {
        stage->in_group = 0;
        stage->lane = (stage->lane + 1) % stage->setup.config->lanes;
    }
    for (unsigned i = 0; i < stage->setup.config->lanes; i++) {
        struct lane *lane = stage->setup.lanes[i];
        if (atomic_load_explicit(&lane->flush, memory_order_relaxed) == stage->handed[i])
            continue;
        atomic_store(&lane->flush, stage->handed[i]);
        doorbell_ring(lane->send_bell);
    }
}

static void pack_announce(struct read_stage *stage, struct reading *reading, uint64_t now_ns)
{
    const struct transfer *transfer = reading->transfer;
    int64_t realtime_ns = clock_realtime_ns();
    struct message_announce announce = {.total_bytes = transfer->total_bytes,
                                        .artifact_count = transfer->artifact_count,
                                        .time_ns = realtime_ns > 0 ? realtime_ns : 0};
    uint8_t *body, *bytes;
    size_t body_size, size;

    if (stage->capacity - stage->pack.used < PACK_CAPACITY_MIN) {
        close_open_block(stage);
        return; /* still due: comes again for the next block */
    }
    memcpy(announce.transfer_id, transfer->id, TRANSFER_ID_SIZE);
    memcpy(announce.channel, transfer->channel, sizeof announce.channel);
    memcpy(announce.name, transfer->name, sizeof announce.name);
    message_encode_announce(&announce, &body, &body_size);
    signed_encode(stage->setup.key, body, body_size, NULL, &bytes, &size, NULL);
    free(body);
    bool packed = pack_signed(&stage->pack, FRAME_ANNOUNCE, transfer->id, bytes, (uint32_t)size);
    assert(packed);
    (void)packed;
    free(bytes);
    schedule_announced(&reading->item, now_ns);
}

/*
 * First block number of each lane that is behind all data of the transfer. Blocks get their numbers when they are sent,
 * and heartbeats take some: while data waits, room is left for the beats that may go before it (a group before it may
 * be sent twice). Beats go on for ever, so that a mark slightly too high is passed soon after.
 */
static void fill_watermarks(struct read_stage *stage, const struct reading *reading, struct frame_manifest *part)
{
    const struct config *config = stage->setup.config;
    part->lanes = (uint16_t)config->lanes;
    for (unsigned i = 0; i < part->lanes; i++) {
        struct lane *lane = stage->setup.lanes[i];
        uint64_t sent = atomic_load(&lane->sent), blocks = reading->data_blocks[i];
        part->watermark[i] = blocks + atomic_load(&lane->beat_blocks);
        if (sent < blocks)
            part->watermark[i] +=
                2 + 2 * (blocks - sent) * stage->setup.group_span_ns / config->depth / CLOCK_SECOND_NS;
    }
}

static void end_copies(struct read_stage *stage, struct reading *reading)
{
    memcpy(reading->last_blocks, stage->taken, sizeof reading->last_blocks);
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
        complete = pack_signed(&stage->pack, FRAME_ABORT, transfer->id, transfer->signed_bytes,
                               (uint32_t)transfer->signed_size);
        if (!complete) {
            assert(stage->pack.used > 0);
            close_open_block(stage);
            return;
        }
    } else {
        struct frame_manifest part = {.transfer_id = transfer->id,
                                      .total = (uint32_t)transfer->signed_size,
                                      .offset = reading->part_offset,
                                      .copy = reading->item.copies,
                                      .bytes = transfer->signed_bytes};
        fill_watermarks(stage, reading, &part);
        uint32_t size = pack_manifest(&stage->pack, &part);
        if (size == 0) {
            close_open_block(stage);
            return;
        }
        reading->part_offset += size;
        complete = reading->part_offset == transfer->signed_size;
    }
    if (!complete)
        return;
    reading->part_offset = 0;
    if (schedule_copy_done(&stage->schedule, &reading->item, now_ns))
        end_copies(stage, reading);
}

static void remove_reading(struct reading *reading)
{
    reading->previous->next = reading->next;
    reading->next->previous = reading->previous;
    reading_destroy(reading);
}

static struct reading *add_reading(struct read_stage *stage, struct transfer *transfer)
{
    struct reading *reading = reading_create(transfer);
    reading->previous = stage->all.previous;
    reading->next = &stage->all;
    stage->all.previous->next = reading;
    stage->all.previous = reading;
    return reading;
}

static void start_copies(struct read_stage *stage, struct reading *reading, uint64_t now_ns)
{
    atomic_store(&reading->transfer->announced_stage, TRANSFER_STAGE_COPIES);
    memcpy(reading->data_blocks, stage->taken, sizeof reading->data_blocks);
    schedule_add_copies(&stage->schedule, &reading->item, now_ns);
}

/* All data of a transfer has been read (or it was given up). What was sealed before a restart keeps its manifest. */
static void end_data(struct read_stage *stage, struct reading *reading, uint64_t now_ns)
{
    struct transfer *transfer = reading->transfer;
    if (transfer->sequence != 0) {
        if (transfer->directory_fd >= 0)
            close(transfer->directory_fd);
        transfer->directory_fd = -1;
        start_copies(stage, reading, now_ns);
        return;
    }
    remove_reading(reading);
    stage->setup.seal(stage->setup.context, transfer);
}

static enum plan_result pack_some_data(struct read_stage *stage, struct reading *reading, uint64_t now_ns)
{
    struct fetch_piece piece = {.owner = reading};
    struct frame_data data;
    if (!fetch_has_room(stage->fetch))
        return PLAN_BLOCKED;
    switch (reading_next(reading, &data, &piece.fd)) {
    case READING_LATER:
        if (stage->later_ns == UINT64_MAX)
            log_warning("no descriptor to open a file of the spool; trying again (raise LimitNOFILE)");
        stage->later_ns = now_ns + LATER_NS;
        return PLAN_NOTHING;
    case READING_ENDED:
        schedule_data_done(&stage->schedule, &reading->item);
        reading->out_of_line = true;
        if (reading_is_over(reading))
            end_data(stage, reading, now_ns);
        return PLAN_PROGRESS;
    case READING_DATA:
        break;
    }
    stage->later_ns = UINT64_MAX;
    piece.size = pack_data(&stage->pack, &data, &piece.place);
    if (piece.size == 0) {
        close_open_block(stage);
        return PLAN_PROGRESS;
    }
    piece.block = stage->open;
    piece.offset = data.offset;
    piece.last = reading_planned(reading, piece.size);
    stage->open->pending++;
    fetch_start(stage->fetch, &piece);
    return PLAN_PROGRESS;
}

static enum plan_result plan(struct read_stage *stage, uint64_t now_ns)
{
    struct schedule_item *item;
    if (!open_block(stage))
        return PLAN_BLOCKED;
    enum schedule_kind kind = schedule_next(&stage->schedule, now_ns, &item);
    struct reading *reading = (struct reading *)item;
    switch (kind) {
    case SCHEDULE_NOTHING:
        return PLAN_NOTHING;
    case SCHEDULE_ANNOUNCE:
        pack_announce(stage, reading, now_ns);
        return PLAN_PROGRESS;
    case SCHEDULE_COPY:
        pack_copy(stage, reading, now_ns);
        return PLAN_PROGRESS;
    case SCHEDULE_DATA:
        if (stage->later_ns != UINT64_MAX && now_ns < stage->later_ns)
            return PLAN_NOTHING;
        return pack_some_data(stage, reading, now_ns);
    }
    assert(!"a kind that does not exist");
    return PLAN_NOTHING;
}

/* Hashes what has landed, in order. */
static bool take_pieces(struct read_stage *stage, uint64_t now_ns)
{
    const struct fetch_piece *piece;
    bool progress = false;
    while ((piece = fetch_peek(stage->fetch)) != NULL) {
        struct reading *reading = piece->owner;
        piece->block->pending--;
        if (piece->error == 0) {
            reading_take(reading, piece->place, piece->size, piece->offset, piece->fd);
            atomic_fetch_add_explicit(&stage->bytes, piece->size, memory_order_relaxed);
        } else {
            /* The frame leaves all the same; nothing of an earlier use of the block must be in it. */
            memset(piece->place, 0, piece->size);
            reading_failed(reading, piece->error);
        }
        if (piece->last)
            close(piece->fd);
        fetch_release(stage->fetch);
        if (reading->out_of_line && reading_is_over(reading))
            end_data(stage, reading, now_ns);
        progress = true;
    }
    return progress;
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
        schedule_add(&stage->schedule, &add_reading(stage, transfer)->item, transfer->priority);
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
        remove_reading(reading);
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
    bool progress = take_mail(stage, now_ns);
    progress |= take_pieces(stage, now_ns);
    progress |= finish_sent(stage);
    while ((result = plan(stage, now_ns)) == PLAN_PROGRESS)
        progress = true;
    fetch_submit(stage->fetch);
    *deadline_ns = UINT64_MAX;
    if (result == PLAN_NOTHING)
        flush(stage);
    if (result == PLAN_NOTHING || stage->open != NULL) {
        *deadline_ns = schedule_deadline_ns(&stage->schedule);
        if (stage->later_ns < *deadline_ns)
            *deadline_ns = stage->later_ns;
    }
    progress |= hand_over(stage);
    return progress;
}

static void destroy_all(struct read_stage *stage)
{
    while (stage->all.next != &stage->all) {
        struct reading *reading = stage->all.next;
        struct transfer *transfer = reading->transfer;
        remove_reading(reading);
        transfer_destroy(transfer);
    }
}

static void run(void *context)
{
    struct read_stage *stage = context;
    stage->start_status = fetch_create(stage->setup.bell, &stage->fetch);
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

enum status read_start(const struct read_setup *setup, struct read_stage **stage)
{
    const struct config *config = setup->config;
    *stage = NULL;
    struct read_stage *made = calloc(1, sizeof *made);
    assert(made != NULL);
    made->setup = *setup;
    made->capacity = (size_t)config->source_symbols * config->symbol_size;
    made->all.next = made->all.previous = &made->all;
    made->later_ns = UINT64_MAX;
    schedule_init(&made->schedule, setup->group_span_ns);
    sem_init(&made->started, 0, 0);
    enum status status = worker_start("read", run, made, &made->worker);
    if (status == STATUS_OK) {
        while (sem_wait(&made->started) != 0)
            continue;
        status = made->start_status;
    } else {
        log_error("the read stage can't start: no thread; raise TasksMax");
    }
    if (status != STATUS_OK) {
        worker_join(made->worker);
        sem_destroy(&made->started);
        free(made);
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
    sem_destroy(&stage->started);
    free(stage);
}
