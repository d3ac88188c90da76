// SPDX-License-Identifier: Apache-2.0
#include <assert.h>
#include <stdlib.h>

#include "proto/datagram.h"
#include "sender/encode.h"
#include "sender/interleave.h"
#include "tests/sim/sender_private.h"

/* Trains leave at the moment that the pace allows. */
#define BEAT_PATIENCE_NS (250 * CLOCK_MILLISECOND_NS)

void sim_lane_init(struct sim_sender *sender, struct sim_lane *lane)
{
    const struct sim_setup *setup = &sender->world->setup;
    size_t count = 2u * setup->depth + SIM_SPARE_BLOCKS;
    size_t size = (size_t)(setup->source_symbols + setup->repair_symbols) * setup->symbol_size;
    lane->blocks = calloc(count, sizeof *lane->blocks);
    assert(lane->blocks != NULL);
    for (size_t i = 0; i < count; i++) {
        lane->blocks[i].block.symbols = malloc(size);
        lane->blocks[i].next = lane->empty;
        lane->empty = &lane->blocks[i];
    }
    uint64_t rate = setup->rate_bits_per_s / setup->lanes;
    pace_init(&lane->pace, rate, 0, sender->config.burst_ns, sender->world->now_ns);
    group_set_init(&lane->set, setup->depth, setup->source_symbols, setup->repair_symbols, setup->span_ns,
                   setup->burst_ns);
    group_init(&lane->beat, 1);
    lane->beat_block.block.symbols = malloc(HEARTBEAT_PAYLOAD_SIZE + (size_t)LIMIT_REPAIR_SYMBOLS * setup->symbol_size);
    lane->beat_due_ns = sender->world->now_ns;
}

void sim_lane_deinit(struct sim_sender *sender, struct sim_lane *lane)
{
    for (size_t block = 0; block < 2u * sender->config.depth + SIM_SPARE_BLOCKS; block++)
        free(lane->blocks[block].block.symbols);
    free(lane->blocks);
    free(lane->beat_block.block.symbols);
    group_set_deinit(&lane->set);
    group_deinit(&lane->beat);
}

static void take_blocks(struct sim_sender *sender, struct sim_lane *lane)
{
    while (lane->filled != NULL && group_has_room(&lane->set)) {
        struct held_block *held = lane->filled;
        struct block *block = &held->block;
        lane->filled = held->next;
        encode_block(sender->codes, block);
        group_add(&lane->set, block, sender->world->now_ns);
        lane->taken++;
    }
}

static void return_block(void *context, struct block *block)
{
    struct sim_lane *lane = context;
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

static void send_train(struct sim_sender *sender, struct sim_lane *lane, struct group *group)
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
        datagram_tag(header, datagram.symbol_hash);
        sim_link_send(world->link, header, symbol, group->symbol_size, held->record, esi);
        count++;
    }
    pace_sent(&lane->pace, count * bits, world->now_ns);
}

static void start_beat(struct sim_sender *sender, struct sim_lane *lane)
{
    struct block *block = &lane->beat_block.block;
    lane->beats++;
    lane->beat_due_ns += HEARTBEAT_INTERVAL_NS;
    block->source_symbols = heartbeat_build(sender->heartbeat, lane->beats % HEARTBEAT_PADDED_EACH == 0,
                                            sim_sender_realtime_ns(sender->world), block->symbols, &block->symbol_size);
    block->repair_symbols = datagram_repair_for(block->source_symbols, (uint8_t)sender->config.source_symbols,
                                                (uint8_t)sender->config.repair_symbols);
    encode_block(sender->codes, block);
    lane->beat_block.record = sim_world_add_record(sender->world);
    lane->beat.blocks[0] = block;
    lane->beat.count = 1;
    group_begin(&lane->beat, lane->next_sbn++);
}

static bool beat_is_due(const struct sim_lane *lane, uint64_t now_ns)
{
    return lane->beat.count == 0 && now_ns >= lane->beat_due_ns + (lane->set.sending->count > 0 ? BEAT_PATIENCE_NS : 0);
}

/* One step; false when the lane has nothing to do at this moment. */
bool sim_lane_run(struct sim_sender *sender, struct sim_lane *lane)
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

uint64_t sim_lane_deadline_ns(const struct sim_lane *lane)
{
    bool busy = lane->beat.count > 0 || lane->set.sending->count > 0;
    uint64_t deadline_ns = busy ? pace_ready_ns(&lane->pace) : group_deadline_ns(&lane->set, lane->next_sbn);
    uint64_t beat_ns = lane->beat_due_ns + (lane->set.sending->count > 0 ? BEAT_PATIENCE_NS : 0);
    return lane->beat.count == 0 && beat_ns < deadline_ns ? beat_ns : deadline_ns;
}
