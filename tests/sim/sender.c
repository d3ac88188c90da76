// SPDX-License-Identifier: Apache-2.0
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/datagram.h"
#include "proto/message.h"
#include "sender/announce.h"
#include "sender/heal.h"
#include "tests/sim/sender_private.h"

/*
 * Drives the cores in the way that read.c and send.c do with files, threads and sockets: reads land at once, sealing
 * takes a while, trains leave at the moment that the pace allows.
 */
enum { IDLE_SHARE = 50 };
#define SEAL_NS (30 * CLOCK_MILLISECOND_NS) /* at most */
#define MARK_NS (250 * CLOCK_MILLISECOND_NS)
#define TICK_NS CLOCK_SECOND_NS

/* Each transfer once for the first time, also one that was aborted; heals, and two replays. */
static size_t most_readings(const struct sim_world *world)
{
    return world->transfer_count + HEAL_UNDER_WAY + 2;
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
                                     .rate_bits_per_s = setup->rate_bits_per_s,
                                     .burst_ns = setup->burst_ns};
    sender->epoch = (uint64_t)++world->epoch_counter << 32 | (uint32_t)sim_next(&world->random);
    sender->capacity = (size_t)setup->source_symbols * setup->symbol_size;
    schedule_init(&sender->schedule, setup->span_ns, 0);
    idle_init(&sender->idle, setup->rate_bits_per_s, IDLE_SHARE, world->now_ns);
    sender->heartbeat = heartbeat_create(&sender->config, world->key, world->chain_id, sender->epoch,
                                         world->newest_sequence, world->newest_hash);
    sender->codes = fec_cache_create();
    sender->repeat = sim_repeat_create(sender, world);
    sender->mark_ns = sender->tick_ns = world->now_ns;
    sender->readings = calloc(most_readings(world), sizeof *sender->readings);
    assert(sender->heartbeat != NULL && sender->readings != NULL);
    for (unsigned i = 0; i < setup->lanes; i++)
        sim_lane_init(sender, &sender->lanes[i]);
    return sender;
}

void sim_sender_destroy(struct sim_sender *sender)
{
    if (sender == NULL)
        return;
    for (unsigned i = 0; i < sender->config.lanes; i++)
        sim_lane_deinit(sender, &sender->lanes[i]);
    for (size_t i = 0; i < sender->count; i++)
        if (sender->readings[i].aborted)
            free(sender->readings[i].signed_bytes);
    free(sender->readings);
    sim_repeat_destroy(sender->repeat);
    fec_cache_destroy(sender->codes);
    heartbeat_destroy(sender->heartbeat);
    free(sender);
}

int64_t sim_sender_realtime_ns(const struct sim_world *world)
{
    return SIM_REALTIME_NS + (int64_t)world->now_ns + world->sender_clock_ns;
}

/* Places of sendings that are over are used again. */
static struct reading *add_reading(struct sim_sender *sender, struct sim_transfer *transfer)
{
    struct reading *reading = NULL;
    for (size_t i = 0; i < sender->count && reading == NULL; i++)
        if (sender->readings[i].state == DONE && !sender->readings[i].aborted)
            reading = &sender->readings[i];
    if (reading == NULL) {
        assert(sender->count < most_readings(sender->world));
        reading = &sender->readings[sender->count++];
    }
    *reading = (struct reading){.transfer = transfer};
    return reading;
}

void sim_sender_submit(struct sim_sender *sender, struct sim_transfer *transfer)
{
    if (!transfer->submitted && !sim_act(&sender->world->sender_life))
        return;
    struct reading *reading = add_reading(sender, transfer);
    reading->resume_at = transfer->mark;
    sim_statistics.resumed += transfer->mark > 0;
    mark_init(&reading->mark, sender->config.lanes, transfer->mark, sender->capacity * sender->config.depth / 2);
    heartbeat_entered(sender->heartbeat, transfer->id, transfer->sequence);
    schedule_add(&sender->schedule, &reading->item, SCHEDULE_HIGH + transfer->class);
    transfer->submitted = true;
    sim_say(sender->world, "%s submitted: %llu bytes, %u artifacts, class %u, from %llu on", transfer->name,
            (unsigned long long)transfer->total_bytes, transfer->artifact_count, transfer->class,
            (unsigned long long)transfer->mark);
}

void sim_sender_resend(struct sim_sender *sender, struct sim_transfer *transfer, const struct sim_resend *resend)
{
    struct reading *reading = add_reading(sender, transfer);
    reading->again = true;
    reading->resend = *resend;
    schedule_add(&sender->schedule, &reading->item, resend->class);
    sim_say(sender->world, "%s is sent again, class %u, %s, %zu ranges", transfer->name, resend->class,
            resend->parts.manifest_only ? "manifest" : "data", resend->parts.range_count);
}

static uint64_t repeat_of(const struct reading *reading)
{
    return reading->again ? reading->transfer->sequence : 0;
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
        sim_tempt(sender->world, &sender->world->sender_life);
        if (!sim_act(&sender->world->sender_life))
            return;
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
    struct sim_lane *lane = &sender->lanes[sender->lane];
    if (sender->open != NULL)
        return true;
    if (lane->empty == NULL)
        return false;
    sender->open = lane->empty;
    lane->empty = lane->empty->next;
    lane->opened++;
    sender->open->record = sim_world_add_record(sender->world);
    sender->open->block.lane = sender->lane;
    sender->open->block.repeat_of = 0;
    sender->open->block.ends_group = false;
    pack_open(&sender->pack, sender->open->block.symbols, sender->capacity);
    return true;
}

static void next_lane(struct sim_sender *sender)
{
    sender->in_group = 0;
    if (sender->open == NULL)
        sender->lane = (sender->lane + 1) % sender->config.lanes;
}

static void end_heals(struct sim_sender *sender, bool complete)
{
    if (sender->healing)
        idle_group(&sender->idle, complete, sender->world->now_ns);
    sender->healing = false;
}

static void check_repeat(const struct sim_sender *sender, const struct held_block *held)
{
    const struct sim_record *record = &sender->world->records[held->record];
    for (unsigned i = 0; held->block.repeat_of != 0 && i < record->piece_count; i++)
        if (record->pieces[i].transfer->sequence != held->block.repeat_of)
            sim_fail(sender->world, "a block that repeats one transfer holds data of another");
}

static void close_block(struct sim_sender *sender)
{
    struct held_block *held = sender->open;
    struct block *block = &held->block;
    struct sim_lane *lane = &sender->lanes[block->lane];
    check_repeat(sender, held);
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
    unsigned symbols = (unsigned)block->source_symbols + block->repair_symbols;
    if (sender->heals_open)
        idle_block(&sender->idle, symbols * datagram_wire_bits(block->symbol_size, false),
                   group_is_short_block(sender->config.source_symbols + sender->config.repair_symbols, symbols),
                   sender->world->now_ns);
    sender->heals_open = false;
    if (++sender->in_group < sender->config.depth && !block->ends_group)
        return;
    next_lane(sender);
    end_heals(sender, !block->ends_group);
}

static void end_urgent(struct sim_sender *sender, enum schedule_class class)
{
    if (!schedule_is_urgent_end(&sender->schedule, class, sender->world->now_ns) || sender->pack.used == 0 ||
        sender->open == NULL)
        return;
    sender->open->block.ends_group = true;
    close_block(sender);
}

/* A block is never made of a repeat and something else. */
static bool block_suits(struct sim_sender *sender, const struct reading *reading)
{
    struct block *block = &sender->open->block;
    if (sender->pack.used > 0)
        return block->repeat_of == repeat_of(reading);
    block->repeat_of = repeat_of(reading);
    return true;
}

static bool link_is_free(const struct sim_sender *sender)
{
    const struct sim_lane *lane = &sender->lanes[sender->lane];
    uint64_t open = sender->open != NULL ? 1 : 0;
    return sender->in_group == 0 && (open == 0 || sender->pack.used == 0) && lane->sent + open == lane->opened;
}

static bool may_heal(const struct sim_sender *sender)
{
    return sender->healing || (link_is_free(sender) && sender->world->now_ns >= idle_ready_ns(&sender->idle));
}

static bool may_share_announce(const struct reading *reading)
{
    return reading != NULL && !reading->item.announced && repeat_of(reading) == 0;
}

static void pack_announce(struct sim_sender *sender, struct reading *reading)
{
    struct announce announce;
    if (sender->capacity - sender->pack.used < PACK_CAPACITY_MIN && sender->pack.used > 0) {
        close_block(sender);
        return;
    }
    announce_begin(&announce, sim_sender_realtime_ns(sender->world), sender->capacity);
    struct reading *next = reading;
    bool shares;
    do {
        const struct sim_transfer *transfer = next->transfer;
        if (!announce_add(&announce, transfer->id, transfer->channel, transfer->name, transfer->total_bytes,
                          transfer->artifact_count))
            break;
        shares = may_share_announce(next);
        schedule_announced(&next->item, sender->world->now_ns);
        next = (struct reading *)next->item.next;
    } while (shares && may_share_announce(next));
    announce_pack(&announce, sender->world->key, &sender->pack);
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
        const struct sim_lane *lane = &sender->lanes[i];
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
    bool last = schedule_copy_done(&sender->schedule, &reading->item, sender->world->now_ns);
    if (reading->item.copies == 1)
        end_urgent(sender, reading->item.class);
    if (!last)
        return;
    reading->state = COPIED;
    for (unsigned i = 0; i < sender->config.lanes; i++)
        reading->last_blocks[i] = sender->lanes[i].opened;
}

static void pass_bytes(struct reading *reading, uint64_t size)
{
    const struct sim_file *file = &reading->transfer->files[reading->file];
    reading->offset += size;
    reading->position += size;
    if (reading->offset % CHUNK_SIZE == 0 || reading->offset == file->size)
        reading->chunk++;
    if (reading->offset < file->size)
        return;
    reading->offset = 0;
    reading->file++;
    reading->artifact++;
}

static bool is_wanted(const struct parts *parts, uint64_t chunk)
{
    bool wanted = !parts->manifest_only && parts->range_count == 0;
    for (size_t i = 0; i < parts->range_count && !wanted; i++)
        wanted = chunk >= parts->ranges[i].first && chunk <= parts->ranges[i].last;
    return wanted;
}

/* Passes by what has no data, or is not asked for. */
static void find_data(struct reading *reading)
{
    const struct sim_transfer *transfer = reading->transfer;
    const struct sim_resend *resend = &reading->resend;
    while (reading->file < transfer->file_count) {
        const struct sim_file *file = &transfer->files[reading->file];
        if (file->size == 0) {
            reading->artifact += file->kind == MANIFEST_FILE;
            reading->file++;
            continue;
        }
        if (!reading->again && reading->position < reading->resume_at) {
            uint64_t known = reading->resume_at - reading->position, size = file->size - reading->offset;
            pass_bytes(reading, known < size ? known : size);
            continue;
        }
        if (!reading->again || is_wanted(&resend->parts, reading->chunk))
            return;
        uint64_t left = file->size - reading->offset;
        pass_bytes(reading, left < CHUNK_SIZE ? left : CHUNK_SIZE);
    }
}

static void pack_some_data(struct sim_sender *sender, struct reading *reading)
{
    struct sim_transfer *transfer = reading->transfer;
    find_data(reading);
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
    pass_bytes(reading, size);
    if (!reading->again) {
        uint64_t opened[LIMIT_LANES];
        for (unsigned i = 0; i < sender->config.lanes; i++)
            opened[i] = sender->lanes[i].opened;
        mark_packed(&reading->mark, reading->position, opened, reading->position == transfer->total_bytes);
    }
}

/* What of it has left, as the ledger knows it after a crash: recorded a few times a second. */
static void move_marks(struct sim_sender *sender)
{
    uint64_t settled[LIMIT_LANES];
    bool due = sender->world->now_ns >= sender->mark_ns;
    for (unsigned i = 0; i < sender->config.lanes; i++)
        settled[i] = group_settled(&sender->lanes[i].set);
    if (due)
        sender->mark_ns = sender->world->now_ns + MARK_NS;
    for (size_t i = 0; i < sender->count; i++) {
        struct reading *reading = &sender->readings[i];
        if (reading->again || reading->state == DONE)
            continue;
        uint64_t mark = mark_settled(&reading->mark, settled);
        if (due && mark != reading->transfer->mark && sim_act(&sender->world->sender_life))
            reading->transfer->mark = mark;
    }
}

static void fill_lanes(struct sim_sender *sender)
{
    struct schedule_item *item;
    for (;;) {
        if (!open_block(sender))
            return;
        enum schedule_kind kind = schedule_next(&sender->schedule, sender->world->now_ns, may_heal(sender), &item);
        struct reading *reading = (struct reading *)item;
        if (kind == SCHEDULE_NOTHING)
            break;
        if (!block_suits(sender, reading)) {
            close_block(sender);
            continue;
        }
        bool heals = item->class == SCHEDULE_HEAL;
        if (kind == SCHEDULE_ANNOUNCE)
            pack_announce(sender, reading);
        else if (kind == SCHEDULE_COPY)
            pack_copy(sender, reading);
        else
            pack_some_data(sender, reading);
        if (heals && sender->open != NULL && sender->pack.used > 0)
            sender->healing = sender->heals_open = true;
    }
    if (sender->pack.used > 0)
        close_block(sender);
    if (sender->in_group > 0) {
        next_lane(sender);
        end_heals(sender, false);
    }
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
        struct sim_transfer *transfer = reading->transfer;
        if (reading->again) {
            reading->state = DONE;
            sim_repeat_ended(sender->repeat, transfer, &reading->resend);
            continue;
        }
        if (!sim_act(&sender->world->sender_life))
            return;
        reading->state = DONE;
        transfer->sent = true;
        transfer->sent_at_ns = sim_sender_realtime_ns(sender->world);
        if (transfer->sequence != 0 && sender->world->setup.heals)
            sim_repeat_sent(sender->repeat, transfer);
        heartbeat_left(sender->heartbeat, reading->transfer->id);
        sim_say(sender->world, "%s sent", reading->transfer->name);
    }
}

static bool has_fresh(const struct sim_sender *sender)
{
    for (size_t i = 0; i < sender->count; i++)
        if (!sender->readings[i].again && sender->readings[i].state != DONE)
            return true;
    return false;
}

static void tell_healing(struct sim_sender *sender)
{
    struct message_range ranges[LIMIT_HEALING_RANGES];
    if (sender->world->now_ns < sender->tick_ns)
        return;
    sender->tick_ns = sender->world->now_ns + TICK_NS;
    size_t count = sim_repeat_ranges(sender->repeat, ranges);
    heartbeat_set_healing(sender->heartbeat, ranges, count);
}

void sim_sender_run(struct sim_sender *sender)
{
    tell_healing(sender);
    for (bool progress = true; progress && !sender->world->sender_life.dead;) {
        progress = sim_repeat_run(sender->repeat, !has_fresh(sender));
        run_seals(sender);
        fill_lanes(sender);
        for (unsigned i = 0; i < sender->config.lanes; i++)
            progress |= sim_lane_run(sender, &sender->lanes[i]);
        move_marks(sender);
        finish_sent(sender);
    }
}

uint64_t sim_sender_deadline_ns(const struct sim_sender *sender)
{
    uint64_t deadline_ns = UINT64_MAX;
    for (unsigned i = 0; i < sender->config.lanes; i++)
        if (sim_lane_deadline_ns(&sender->lanes[i]) < deadline_ns)
            deadline_ns = sim_lane_deadline_ns(&sender->lanes[i]);
    for (size_t i = 0; i < sender->count; i++)
        if (sender->readings[i].state == SEALING && sender->readings[i].seal_due_ns < deadline_ns)
            deadline_ns = sender->readings[i].seal_due_ns;
    /* What is due while no block is empty waits for the lanes. */
    uint64_t heal_ns = link_is_free(sender) ? idle_ready_ns(&sender->idle) : UINT64_MAX;
    uint64_t schedule_ns = schedule_deadline_ns(&sender->schedule, sender->world->now_ns, heal_ns);
    if (sender->open != NULL && schedule_ns < deadline_ns)
        deadline_ns = schedule_ns;
    uint64_t repeat_ns = sim_repeat_deadline_ns(sender->repeat, !has_fresh(sender));
    return repeat_ns < deadline_ns ? repeat_ns : deadline_ns;
}

bool sim_sender_is_idle(const struct sim_sender *sender)
{
    for (size_t i = 0; i < sender->count; i++)
        if (sender->readings[i].state != DONE)
            return false;
    for (unsigned i = 0; i < sender->config.lanes; i++)
        if (sender->lanes[i].returned != sender->lanes[i].handed)
            return false;
    return sim_repeat_is_through(sender->repeat);
}
