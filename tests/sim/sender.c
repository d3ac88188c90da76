// SPDX-License-Identifier: Apache-2.0
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/fec.h"
#include "proto/datagram.h"
#include "proto/message.h"
#include "proto/signed.h"
#include "sender/block.h"
#include "sender/encode.h"
#include "sender/group.h"
#include "sender/heartbeat.h"
#include "sender/interleave.h"
#include "sender/pace.h"
#include "sender/pack.h"
#include "sender/schedule.h"
#include "tests/sim/sim.h"

/*
 * Drives the cores in the way that read.c and send.c do with files, threads and sockets: reads land at once, sealing
 * takes a while, trains leave at the moment that the pace allows.
 */
enum { SPARE_BLOCKS = 4 };
#define SEAL_NS          (30 * CLOCK_MILLISECOND_NS) /* at most */
#define BEAT_PATIENCE_NS (250 * CLOCK_MILLISECOND_NS)

struct held_block {
    struct block block; /* first member */
    uint32_t record;
    struct held_block *next;
};

struct lane {
    struct held_block *blocks;
    struct held_block *empty;
    struct held_block *filled, *filled_last;
    uint64_t opened, handed, flush, sent, returned, taken, beats;
    uint64_t next_sbn, next_sequence, beat_due_ns;
    struct pace pace;
    struct group_set set;
    struct group beat;
    struct held_block beat_block;
};

enum reading_state { READING, SEALING, COPIES, COPIED, DONE };

struct reading {
    struct schedule_item item; /* first member */
    struct sim_transfer *transfer;
    enum reading_state state;
    size_t file;
    uint32_t artifact;
    uint64_t offset;
    uint32_t part_offset;
    uint64_t seal_due_ns;
    uint8_t *signed_bytes; /* the transfer's, or an abort of its own */
    size_t signed_size;
    bool aborted;
    uint64_t data_blocks[LIMIT_LANES], last_blocks[LIMIT_LANES];
};

struct sim_sender {
    struct sim_world *world;
    struct config config;
    uint64_t epoch;
    size_t capacity;
    struct schedule schedule;
    struct heartbeat *heartbeat;
    struct fec_cache *codes;
    struct reading *readings; /* [transfer_count] */
    size_t count;
    struct pack pack;
    struct held_block *open;
    unsigned lane, in_group;
    struct lane lanes[LIMIT_LANES];
};

static void make_lane(struct sim_sender *sender, struct lane *lane)
{
    const struct sim_setup *setup = &sender->world->setup;
    size_t count = 2u * setup->depth + SPARE_BLOCKS;
    size_t size = (size_t)(setup->source_symbols + setup->repair_symbols) * setup->symbol_size;
    lane->blocks = calloc(count, sizeof *lane->blocks);
    assert(lane->blocks != NULL);
    for (size_t i = 0; i < count; i++) {
        lane->blocks[i].block.symbols = malloc(size);
        lane->blocks[i].next = lane->empty;
        lane->empty = &lane->blocks[i];
    }
    uint64_t rate = setup->rate_bits_per_s / setup->lanes;
    pace_init(&lane->pace, rate, 0, sender->world->now_ns);
    group_set_init(&lane->set, setup->depth, setup->source_symbols, setup->repair_symbols, setup->span_ns,
                   setup->burst_ns);
    group_init(&lane->beat, 1);
    lane->beat_block.block.symbols = malloc(HEARTBEAT_PAYLOAD_SIZE + (size_t)LIMIT_REPAIR_SYMBOLS * setup->symbol_size);
    lane->beat_due_ns = sender->world->now_ns;
}

struct sim_sender *sim_sender_create(struct sim_world *world)
{
    const struct sim_setup *setup = &world->setup;
    struct sim_sender *sender = calloc(1, sizeof *sender);
    assert(sender != NULL);
    sender->world = world;
    sender->config = (struct config){.lanes = setup->lanes,
                                     .source_symbols = setup->source_symbols,
                                     .repair_symbols = setup->repair_symbols,
                                     .symbol_size = setup->symbol_size,
                                     .depth = setup->depth,
                                     .rate_bits_per_s = setup->rate_bits_per_s};
    sender->epoch = (uint64_t)++world->epoch_counter << 32 | (uint32_t)sim_next(&world->random);
    sender->capacity = (size_t)setup->source_symbols * setup->symbol_size;
    schedule_init(&sender->schedule, setup->span_ns);
    sender->heartbeat = heartbeat_create(&sender->config, world->key, world->chain_id, sender->epoch,
                                         world->newest_sequence, world->newest_hash);
    sender->codes = fec_cache_create();
    sender->readings = calloc(world->transfer_count, sizeof *sender->readings);
    assert(sender->heartbeat != NULL && sender->readings != NULL);
    for (unsigned i = 0; i < setup->lanes; i++)
        make_lane(sender, &sender->lanes[i]);
    return sender;
}

void sim_sender_destroy(struct sim_sender *sender)
{
    if (sender == NULL)
        return;
    for (unsigned i = 0; i < sender->config.lanes; i++) {
        struct lane *lane = &sender->lanes[i];
        for (size_t block = 0; block < 2u * sender->config.depth + SPARE_BLOCKS; block++)
            free(lane->blocks[block].block.symbols);
        free(lane->blocks);
        free(lane->beat_block.block.symbols);
        group_set_deinit(&lane->set);
        group_deinit(&lane->beat);
    }
    for (size_t i = 0; i < sender->count; i++)
        if (sender->readings[i].aborted)
            free(sender->readings[i].signed_bytes);
    free(sender->readings);
    fec_cache_destroy(sender->codes);
    heartbeat_destroy(sender->heartbeat);
    free(sender);
}

void sim_sender_submit(struct sim_sender *sender, struct sim_transfer *transfer)
{
    struct reading *reading = &sender->readings[sender->count++];
    reading->transfer = transfer;
    heartbeat_entered(sender->heartbeat, transfer->id, transfer->sequence);
    schedule_add(&sender->schedule, &reading->item, transfer->class);
    transfer->submitted = true;
    sim_say(sender->world, "%s submitted: %llu bytes, %u artifacts, class %u", transfer->name,
            (unsigned long long)transfer->total_bytes, transfer->artifact_count, transfer->class);
}

/* What the seal stage does. */

static void start_copies(struct sim_sender *sender, struct reading *reading)
{
    reading->state = COPIES;
    for (unsigned i = 0; i < sender->config.lanes; i++)
        reading->data_blocks[i] = sender->lanes[i].opened;
    if (!reading->aborted) {
        reading->signed_bytes = reading->transfer->signed_bytes;
        reading->signed_size = reading->transfer->signed_size;
    }
    schedule_add_copies(&sender->schedule, &reading->item, sender->world->now_ns);
}

static void end_data(struct sim_sender *sender, struct reading *reading)
{
    struct sim_world *world = sender->world;
    schedule_data_done(&sender->schedule, &reading->item);
    if (reading->transfer->sequence != 0) {
        start_copies(sender, reading);
        return;
    }
    reading->state = SEALING;
    reading->seal_due_ns = world->now_ns + sim_below(&world->random, SEAL_NS);
}

static void run_seals(struct sim_sender *sender)
{
    for (size_t i = 0; i < sender->count; i++) {
        struct reading *reading = &sender->readings[i];
        if (reading->state != SEALING || reading->seal_due_ns > sender->world->now_ns)
            continue;
        struct sim_transfer *transfer = reading->transfer;
        reading->aborted = transfer->changes;
        if (reading->aborted) {
            sim_seal_abort(sender->world, transfer, &reading->signed_bytes, &reading->signed_size);
        } else {
            sim_seal(sender->world, transfer);
            heartbeat_sealed(sender->heartbeat, transfer->id, transfer->sequence, sender->world->newest_hash);
        }
        start_copies(sender, reading);
    }
}

/* What the read stage does. */

static bool open_block(struct sim_sender *sender)
{
    struct lane *lane = &sender->lanes[sender->lane];
    if (sender->open != NULL)
        return true;
    if (lane->empty == NULL)
        return false;
    sender->open = lane->empty;
    lane->empty = lane->empty->next;
    lane->opened++;
    sender->open->record = sim_world_add_record(sender->world);
    sender->open->block.lane = sender->lane;
    pack_open(&sender->pack, sender->open->block.symbols, sender->capacity);
    return true;
}

static void next_lane(struct sim_sender *sender)
{
    sender->in_group = 0;
    sender->lane = (sender->lane + 1) % sender->config.lanes;
}

static void close_block(struct sim_sender *sender)
{
    struct held_block *held = sender->open;
    struct block *block = &held->block;
    struct lane *lane = &sender->lanes[block->lane];
    block->symbol_size = sender->config.symbol_size;
    block->source_symbols = pack_close(&sender->pack, block->symbol_size);
    block->repair_symbols = datagram_repair_for(block->source_symbols, (uint8_t)sender->config.source_symbols,
                                                (uint8_t)sender->config.repair_symbols);
    sender->world->records[held->record].source_symbols = block->source_symbols;
    held->next = NULL;
    if (lane->filled == NULL)
        lane->filled = held;
    else
        lane->filled_last->next = held;
    lane->filled_last = held;
    lane->handed++;
    sender->open = NULL;
    schedule_block_done(&sender->schedule);
    if (++sender->in_group == sender->config.depth)
        next_lane(sender);
}

static void pack_announce(struct sim_sender *sender, struct reading *reading)
{
    const struct sim_transfer *transfer = reading->transfer;
    struct message_announce announce = {
        .total_bytes = transfer->total_bytes, .artifact_count = transfer->artifact_count, .time_ns = SIM_REALTIME_NS};
    uint8_t *body, *bytes;
    size_t body_size, size;
    if (sender->capacity - sender->pack.used < PACK_CAPACITY_MIN && sender->pack.used > 0) {
        close_block(sender);
        return;
    }
    memcpy(announce.transfer_id, transfer->id, TRANSFER_ID_SIZE);
    snprintf(announce.channel, sizeof announce.channel, "%s", transfer->channel);
    snprintf(announce.name, sizeof announce.name, "%s", transfer->name);
    message_encode_announce(&announce, &body, &body_size);
    signed_encode(sender->world->key, body, body_size, NULL, &bytes, &size, NULL);
    bool packed = pack_signed(&sender->pack, FRAME_ANNOUNCE, transfer->id, bytes, (uint32_t)size);
    assert(packed);
    (void)packed;
    free(body);
    free(bytes);
    schedule_announced(&reading->item, sender->world->now_ns);
}

static uint32_t pack_manifest_part(struct sim_sender *sender, struct reading *reading)
{
    const struct sim_transfer *transfer = reading->transfer;
    struct frame_manifest part = {.transfer_id = transfer->id,
                                  .total = (uint32_t)reading->signed_size,
                                  .offset = reading->part_offset,
                                  .copy = reading->item.copies,
                                  .lanes = (uint16_t)sender->config.lanes,
                                  .bytes = reading->signed_bytes};
    for (unsigned i = 0; i < part.lanes; i++) {
        const struct lane *lane = &sender->lanes[i];
        uint64_t blocks = reading->data_blocks[i];
        part.watermark[i] = blocks + lane->beats;
        if (lane->sent < blocks)
            part.watermark[i] +=
                2 + 2 * (blocks - lane->sent) * sender->world->setup.span_ns / sender->config.depth / CLOCK_SECOND_NS;
    }
    uint32_t size = pack_manifest(&sender->pack, &part);
    if (size > 0)
        sim_world_add_piece(sender->world, sender->open->record, reading->transfer, UINT32_MAX, part.offset, size);
    return size;
}

static void pack_copy(struct sim_sender *sender, struct reading *reading)
{
    uint32_t size = (uint32_t)reading->signed_size;
    if (!reading->aborted)
        size = pack_manifest_part(sender, reading);
    else if (!pack_signed(&sender->pack, FRAME_ABORT, reading->transfer->id, reading->signed_bytes, size))
        size = 0;
    if (size == 0) {
        close_block(sender);
        return;
    }
    reading->part_offset += size;
    if (reading->part_offset < reading->signed_size)
        return;
    reading->part_offset = 0;
    if (!schedule_copy_done(&sender->schedule, &reading->item, sender->world->now_ns))
        return;
    reading->state = COPIED;
    for (unsigned i = 0; i < sender->config.lanes; i++)
        reading->last_blocks[i] = sender->lanes[i].opened;
}

static void pack_some_data(struct sim_sender *sender, struct reading *reading)
{
    struct sim_transfer *transfer = reading->transfer;
    while (reading->file < transfer->file_count && transfer->files[reading->file].size == 0)
        reading->artifact += transfer->files[reading->file++].kind == MANIFEST_FILE;
    if (reading->file == transfer->file_count) {
        end_data(sender, reading);
        return;
    }
    const struct sim_file *file = &transfer->files[reading->file];
    const struct frame_data data = {.transfer_id = transfer->id,
                                    .artifact = reading->artifact,
                                    .artifact_size = file->size,
                                    .offset = reading->offset};
    uint8_t *place;
    uint32_t size = pack_data(&sender->pack, &data, &place);
    if (size == 0) {
        close_block(sender);
        return;
    }
    memcpy(place, file->bytes + reading->offset, size);
    sim_world_add_piece(sender->world, sender->open->record, transfer, reading->artifact, reading->offset, size);
    reading->offset += size;
    if (reading->offset < file->size)
        return;
    reading->offset = 0;
    reading->file++;
    reading->artifact++;
}

static void fill_lanes(struct sim_sender *sender)
{
    struct schedule_item *item;
    for (;;) {
        if (!open_block(sender))
            return;
        switch (schedule_next(&sender->schedule, sender->world->now_ns, &item)) {
        case SCHEDULE_ANNOUNCE:
            pack_announce(sender, (struct reading *)item);
            continue;
        case SCHEDULE_COPY:
            pack_copy(sender, (struct reading *)item);
            continue;
        case SCHEDULE_DATA:
            pack_some_data(sender, (struct reading *)item);
            continue;
        case SCHEDULE_NOTHING:
            break;
        }
        break;
    }
    if (sender->pack.used > 0)
        close_block(sender);
    if (sender->in_group > 0)
        next_lane(sender);
    for (unsigned i = 0; i < sender->config.lanes; i++)
        sender->lanes[i].flush = sender->lanes[i].handed;
}

static void finish_sent(struct sim_sender *sender)
{
    for (size_t i = 0; i < sender->count; i++) {
        struct reading *reading = &sender->readings[i];
        bool sent = reading->state == COPIED;
        for (unsigned lane = 0; lane < sender->config.lanes && sent; lane++)
            sent = sender->lanes[lane].sent >= reading->last_blocks[lane];
        if (!sent)
            continue;
        reading->state = DONE;
        reading->transfer->sent = true;
        heartbeat_left(sender->heartbeat, reading->transfer->id);
        sim_say(sender->world, "%s sent", reading->transfer->name);
    }
}

/* What the send stage of a lane does. */

static void take_blocks(struct sim_sender *sender, struct lane *lane)
{
    while (lane->filled != NULL && group_has_room(&lane->set)) {
        struct held_block *held = lane->filled;
        struct block *block = &held->block;
        lane->filled = held->next;
        block->block_hash = encode_block(sender->codes, block->symbols, block->source_symbols, block->repair_symbols,
                                         block->symbol_size);
        group_add(&lane->set, block, sender->world->now_ns);
        lane->taken++;
    }
}

static void return_block(void *context, struct block *block)
{
    struct lane *lane = context;
    struct held_block *held = (struct held_block *)block;
    held->next = lane->empty;
    lane->empty = held;
    lane->returned++;
}

static void note_first(struct sim_world *world, uint32_t number, const struct datagram *datagram)
{
    struct sim_record *record = &world->records[number];
    if (record->epoch != 0)
        return;
    record->epoch = datagram->epoch;
    record->lane = datagram->lane;
    record->sbn = datagram->sbn;
    record->first_ns = world->now_ns;
}

static void send_train(struct sim_sender *sender, struct lane *lane, struct group *group)
{
    struct sim_world *world = sender->world;
    uint64_t bits = datagram_wire_bits(group->symbol_size, false);
    uint64_t by_time = CLOCK_MILLISECOND_NS / pace_span_ns(lane->pace.rate_bits_per_s, bits);
    unsigned limit = interleave_train_limit(group->count, group_repair_min(group)), count = 0;
    struct datagram datagram = {.lane = (uint8_t)(lane - sender->lanes),
                                .sender_id = signature_sender_id(signature_key_public(world->key)),
                                .epoch = sender->epoch};
    uint16_t index;
    uint8_t esi;
    if (limit > by_time)
        limit = by_time > 0 ? (unsigned)by_time : 1;
    while (count < limit && interleave_next(&group->order, &index, &esi)) {
        uint8_t header[DATAGRAM_HEADER_SIZE];
        const struct held_block *held = (const struct held_block *)group->blocks[index];
        const uint8_t *symbol = held->block.symbols + (size_t)esi * group->symbol_size;
        group_fill(group, index, esi, &datagram);
        note_first(world, held->record, &datagram);
        datagram.sequence = lane->next_sequence++;
        datagram_write(header, &datagram);
        datagram_seal(header, symbol, NULL, group->symbol_size, NULL);
        sim_link_send(world->link, header, symbol, group->symbol_size, held->record, esi);
        count++;
    }
    pace_sent(&lane->pace, count * bits, world->now_ns);
}

static void start_beat(struct sim_sender *sender, struct lane *lane)
{
    struct block *block = &lane->beat_block.block;
    lane->beats++;
    lane->beat_due_ns += HEARTBEAT_INTERVAL_NS;
    block->source_symbols =
        heartbeat_build(sender->heartbeat, lane->beats % HEARTBEAT_PADDED_EACH == 0,
                        SIM_REALTIME_NS + (int64_t)sender->world->now_ns, block->symbols, &block->symbol_size);
    block->repair_symbols = datagram_repair_for(block->source_symbols, (uint8_t)sender->config.source_symbols,
                                                (uint8_t)sender->config.repair_symbols);
    block->block_hash =
        encode_block(sender->codes, block->symbols, block->source_symbols, block->repair_symbols, block->symbol_size);
    lane->beat_block.record = sim_world_add_record(sender->world);
    lane->beat.blocks[0] = block;
    lane->beat.count = 1;
    group_begin(&lane->beat, lane->next_sbn++);
}

static bool beat_is_due(const struct lane *lane, uint64_t now_ns)
{
    return lane->beat.count == 0 && now_ns >= lane->beat_due_ns + (lane->set.sending->count > 0 ? BEAT_PATIENCE_NS : 0);
}

/* One step; false when the lane has nothing to do at this moment. */
static bool run_lane(struct sim_sender *sender, struct lane *lane)
{
    uint64_t now_ns = sender->world->now_ns;
    struct group *group = lane->beat.count > 0 ? &lane->beat : lane->set.sending;
    take_blocks(sender, lane);
    if (beat_is_due(lane, now_ns)) {
        start_beat(sender, lane);
        return true;
    }
    if (group->count == 0) {
        bool flushed = lane->flush >= lane->taken && lane->filled == NULL;
        if (!group_start(&lane->set, flushed, &lane->next_sbn, now_ns))
            return false;
        pace_resume(&lane->pace, now_ns);
        return true;
    }
    if (!interleave_is_done(&group->order)) {
        if (pace_ready_ns(&lane->pace) > now_ns)
            return false;
        send_train(sender, lane, group);
    } else if (group == &lane->beat) {
        lane->beat.count = 0;
    } else {
        lane->sent += group_end(&lane->set, now_ns, return_block, lane);
    }
    return true;
}

void sim_sender_run(struct sim_sender *sender)
{
    for (bool progress = true; progress;) {
        progress = false;
        run_seals(sender);
        fill_lanes(sender);
        for (unsigned i = 0; i < sender->config.lanes; i++)
            progress |= run_lane(sender, &sender->lanes[i]);
        finish_sent(sender);
    }
}

static uint64_t lane_deadline_ns(const struct lane *lane)
{
    bool busy = lane->beat.count > 0 || lane->set.sending->count > 0;
    uint64_t deadline_ns = busy ? pace_ready_ns(&lane->pace) : group_deadline_ns(&lane->set);
    uint64_t beat_ns = lane->beat_due_ns + (lane->set.sending->count > 0 ? BEAT_PATIENCE_NS : 0);
    return lane->beat.count == 0 && beat_ns < deadline_ns ? beat_ns : deadline_ns;
}

uint64_t sim_sender_deadline_ns(const struct sim_sender *sender)
{
    uint64_t deadline_ns = UINT64_MAX;
    for (unsigned i = 0; i < sender->config.lanes; i++)
        if (lane_deadline_ns(&sender->lanes[i]) < deadline_ns)
            deadline_ns = lane_deadline_ns(&sender->lanes[i]);
    for (size_t i = 0; i < sender->count; i++)
        if (sender->readings[i].state == SEALING && sender->readings[i].seal_due_ns < deadline_ns)
            deadline_ns = sender->readings[i].seal_due_ns;
    /* What is due while no block is empty waits for the lanes. */
    if (sender->open != NULL && schedule_deadline_ns(&sender->schedule) < deadline_ns)
        deadline_ns = schedule_deadline_ns(&sender->schedule);
    return deadline_ns;
}

bool sim_sender_is_idle(const struct sim_sender *sender)
{
    for (size_t i = 0; i < sender->count; i++)
        if (sender->readings[i].state != DONE)
            return false;
    for (unsigned i = 0; i < sender->config.lanes; i++)
        if (sender->lanes[i].returned != sender->lanes[i].handed)
            return false;
    return true;
}
