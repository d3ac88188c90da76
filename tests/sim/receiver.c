// SPDX-License-Identifier: Apache-2.0
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/digest.h"
#include "proto/datagram.h"
#include "receiver/decode.h"
#include "receiver/judge.h"
#include "receiver/restore.h"
#include "tests/sim/receiver_private.h"

/*
 * Drives the cores in the way that the receive and store stages do, over a model of ledger and disk. Of what it does,
 * it keeps over a crash what it has made durable.
 */
#define TICK_NS    (250 * CLOCK_MILLISECOND_NS)
#define SETTLE_NS  CLOCK_SECOND_NS
#define STORE_NS   CLOCK_SECOND_NS
#define FREE_BYTES UINT64_MAX

size_t sim_receiver_transfer(const struct sim_receiver *receiver, const uint8_t *id)
{
    const struct sim_transfer *transfer = sim_world_find(receiver->world, id);
    assert(transfer != NULL);
    return (size_t)(transfer - receiver->world->transfers);
}

static void write_bytes(void *context, struct assembly *assembly, uint32_t index, struct assembly_artifact *artifact,
                        uint64_t offset, const uint8_t *bytes, uint32_t size)
{
    struct sim_receiver *receiver = context;
    sim_writer_put(&receiver->writer, assembly, index, artifact, offset, bytes, size);
    keeper_hold(receiver->keeper, assembly, index, artifact, offset, bytes, size, receiver->world->now_ns);
}

static void reset_artifact(void *context, struct assembly *assembly, uint32_t index, struct assembly_artifact *artifact)
{
    struct sim_receiver *receiver = context;
    keeper_reset(receiver->keeper, assembly, index, artifact);
    artifact->placed = false;
}

void sim_receiver_lose(struct sim_receiver *receiver, struct assembly *assembly, uint32_t index, uint64_t first,
                       uint64_t end)
{
    if (assembly->state == ASSEMBLY_CLOSED)
        return;
    assembly->state = ASSEMBLY_OPEN;
    keeper_lose(receiver->keeper, assembly, index, first, end);
    catalog_lose(receiver->catalog, assembly, index, first, end);
}

/* What the catalog asks for. */

static enum catalog_answer is_delivered(void *context, uint32_t sender_id, const uint8_t *transfer_id)
{
    const struct sim_receiver *receiver = context;
    const struct sim_transfer *transfer = sim_world_find(receiver->world, transfer_id);
    (void)sender_id;
    if (transfer == NULL)
        return CATALOG_UNKNOWN;
    return receiver->ledger->deliveries[transfer - receiver->world->transfers] != LEDGER_NOTHING ? CATALOG_DELIVERED
                                                                                                 : CATALOG_UNKNOWN;
}

static void bound(void *context, struct assembly *assembly)
{
    struct sim_receiver *receiver = context;
    const struct manifest_head *head = manifest_reader_head(assembly->reader);
    uint8_t hash[SHA256_SIZE];
    keeper_bound(assembly);
    if (!knowledge_add(receiver->knowledge, assembly->sender_id, assembly->chain_id, assembly->sequence, false))
        sim_fail(receiver->world, "the set of known numbers is full");
    digest_once(assembly->manifest.body, assembly->manifest.body_size, hash);
    (void)knowledge_claim(receiver->knowledge, assembly->chain_id, assembly->sequence, hash, true);
    if (assembly->sequence > 1)
        (void)knowledge_claim(receiver->knowledge, assembly->chain_id, assembly->sequence - 1, head->previous_hash,
                              false);
}

static void store_alarms(struct sim_receiver *receiver);

static void had(void *context, uint32_t sender_id, const struct opening *opening)
{
    struct sim_receiver *receiver = context;
    const struct manifest_head *head = manifest_reader_head(opening->reader);
    if (receiver->world->setup.sender_backups == 0)
        sim_fail(receiver->world, "a transfer has a second number, %llu", (unsigned long long)head->sequence);
    store_alarms(receiver);
    if (!sim_act(&receiver->world->receiver_life))
        return;
    sim_statistics.renumbered++;
    sim_say(receiver->world, "%s has number %llu as well", head->name, (unsigned long long)head->sequence);
    (void)knowledge_add(receiver->knowledge, sender_id, head->chain_id, head->sequence, true);
    (void)extents_add(&receiver->ledger->had, head->sequence, head->sequence + 1, KNOWLEDGE_RANGES);
}

static void when_idle(struct sim_receiver *receiver, struct assembly *assembly)
{
    struct staging *staging = sim_writer_staging(&receiver->writer, assembly);
    staging->wants_idle = staging->pending > 0;
    if (staging->wants_idle)
        return;
    assert(receiver->closed_count < SIM_CLOSED);
    receiver->closed[receiver->closed_count++] = assembly;
}

/* Not from inside the catalog: see run_idle(). */
void sim_receiver_idle(struct sim_receiver *receiver, struct assembly *assembly)
{
    when_idle(receiver, assembly);
}

static void complete(void *context, struct assembly *assembly)
{
    assembly->state = ASSEMBLY_PUBLISHING;
    when_idle(context, assembly);
}

static void closing(void *context, struct assembly *assembly, enum catalog_end end)
{
    struct sim_receiver *receiver = context;
    const struct sim_transfer *transfer = sim_world_find(receiver->world, assembly->id);
    bool aborted = end == CATALOG_ABORTED && transfer->changes;
    bool failed = end == CATALOG_FAILED && receiver->world->setup.disk_faults;
    if (!aborted && !failed && !receiver->world->receiver_life.dead)
        sim_fail(receiver->world, "a transfer was closed (%d) for no reason", (int)end);
    sim_statistics.discarded++;
    if (assembly->reader != NULL)
        knowledge_remove(receiver->knowledge, assembly->chain_id, assembly->sequence);
    when_idle(receiver, assembly);
}

static void refused(void *context, const struct assembly *assembly, const char *reason, const uint8_t *bytes,
                    size_t size)
{
    struct sim_receiver *receiver = context;
    (void)assembly;
    (void)bytes;
    (void)size;
    sim_fail(receiver->world, "a manifest was refused: %s", reason);
}

static const struct catalog_actions actions = {.is_delivered = is_delivered,
                                               .write = write_bytes,
                                               .reset = reset_artifact,
                                               .bound = bound,
                                               .complete = complete,
                                               .closing = closing,
                                               .refused = refused};

/* What is in the blocks. */

static bool take_wants_announce(void *context, const struct unpack_source *source, const uint8_t *transfer_id,
                                bool early)
{
    struct sim_receiver *receiver = context;
    return catalog_wants_announce(receiver->catalog, source, transfer_id, early);
}

static void take_announce(void *context, const struct unpack_source *source, const struct message_announce *announce)
{
    struct sim_receiver *receiver = context;
    catalog_announce(receiver->catalog, source, announce);
}

static void take_data(void *context, const struct unpack_source *source, const struct frame_data *data)
{
    struct sim_receiver *receiver = context;
    catalog_data(receiver->catalog, source, data);
}

static void take_manifest(void *context, const struct unpack_source *source, const struct frame_manifest *part)
{
    struct sim_receiver *receiver = context;
    catalog_manifest(receiver->catalog, source, part);
}

static void take_abort(void *context, const struct unpack_source *source, const struct message_abort *message)
{
    struct sim_receiver *receiver = context;
    catalog_abort(receiver->catalog, source, message);
}

/* The ledger learns of the chain at once in a new epoch, then each second. */
static void store_chain(struct sim_receiver *receiver)
{
    const struct knowledge_chain *chain = knowledge_chain_of(receiver->knowledge, receiver->sender_id);
    struct ledger *ledger = receiver->ledger;
    if (chain == NULL || !chain->has_baseline || receiver->world->now_ns < receiver->store_ns)
        return;
    receiver->store_ns = receiver->world->now_ns + STORE_NS;
    if (!sim_act(&receiver->world->receiver_life))
        return;
    ledger->chain = *chain;
    ledger->has_chain = true;
}

static void store_alarms(struct sim_receiver *receiver)
{
    struct ledger *ledger = receiver->ledger;
    struct knowledge_alarm alarm;
    while (knowledge_take_alarm(receiver->knowledge, SIM_REALTIME_NS, &alarm)) {
        if (!sim_act(&receiver->world->receiver_life))
            return;
        sim_statistics.rollbacks += alarm.kind == KNOWLEDGE_ROLLBACK;
        ledger->alarms[alarm.kind - 1] = alarm;
        ledger->has_alarm[alarm.kind - 1] = true;
        for (size_t i = 0; i < receiver->world->transfer_count && alarm.kind == KNOWLEDGE_ROLLBACK; i++)
            if (ledger->sequences[i] > alarm.back_to)
                ledger->sequences[i] = 0;
        if (alarm.kind == KNOWLEDGE_ROLLBACK)
            (void)extents_remove(&ledger->had, alarm.back_to + 1, UINT64_MAX, KNOWLEDGE_RANGES);
    }
}

static void take_heartbeat(void *context, const struct unpack_source *source, const struct message_heartbeat *heartbeat)
{
    struct sim_receiver *receiver = context;
    uint64_t before = progress_confirmed_epoch(receiver->progress, heartbeat->sender_id);
    if (!knowledge_heartbeat(receiver->knowledge, heartbeat, source->now_ns))
        return;
    progress_confirm_epoch(receiver->progress, heartbeat->sender_id, heartbeat->epoch);
    if (before != heartbeat->epoch)
        receiver->store_ns = 0;
    const struct knowledge_chain *chain = knowledge_chain_of(receiver->knowledge, receiver->sender_id);
    if (receiver->ledger->has_chain && chain->baseline != receiver->ledger->chain.baseline &&
        receiver->world->setup.sender_backups == 0)
        sim_fail(receiver->world, "the baseline has moved to %llu", (unsigned long long)chain->baseline);
    sim_receiver_survey_numbers(receiver);
}

static void take_refuse(void *context, const struct unpack_source *source, const uint8_t *transfer_id)
{
    struct sim_receiver *receiver = context;
    (void)source;
    (void)transfer_id;
    sim_fail(receiver->world, "a frame was not understood");
}

static const struct unpack_handler handler = {.wants_announce = take_wants_announce,
                                              .announce = take_announce,
                                              .data = take_data,
                                              .manifest = take_manifest,
                                              .abort = take_abort,
                                              .heartbeat = take_heartbeat,
                                              .refuse = take_refuse};

static void load_ledger(struct sim_receiver *receiver)
{
    const struct ledger *ledger = receiver->ledger;
    const struct knowledge_chain *chain = &ledger->chain;
    if (!ledger->has_chain)
        return;
    knowledge_load(receiver->knowledge, chain, receiver->world->now_ns);
    progress_confirm_epoch(receiver->progress, chain->sender_id, chain->epoch);
    uint64_t above = chain->baseline > chain->delivered_through ? chain->baseline : chain->delivered_through;
    for (size_t i = 0; i < receiver->world->transfer_count; i++)
        if (ledger->deliveries[i] == LEDGER_DELIVERED && ledger->sequences[i] > above &&
            !knowledge_add(receiver->knowledge, receiver->sender_id, receiver->world->chain_id, ledger->sequences[i],
                           true))
            sim_fail(receiver->world, "the set of known numbers is full");
    for (uint32_t i = 0; i < ledger->had.count; i++) {
        struct extent range = extents_get(&ledger->had, i);
        (void)knowledge_write_off(receiver->knowledge, receiver->world->chain_id, range.first, range.end - 1);
    }
    for (int i = 0; i < SIM_ALARMS; i++)
        if (ledger->has_alarm[i])
            knowledge_load_alarm(receiver->knowledge, &ledger->alarms[i]);
}

static void not_restored(void *context, const struct ledger_key *key)
{
    const struct sim_receiver *receiver = context;
    (void)key;
    sim_fail(receiver->world, "a recorded transfer was not opened again");
}

static void count_restored(struct assembly *assembly, void *context)
{
    (void)context;
    sim_statistics.restored++;
    sim_statistics.restored_bytes += assembly->held_bytes;
}

static void on_flush_failed(void *context, struct assembly *assembly, int error)
{
    struct sim_receiver *receiver = context;
    (void)error;
    catalog_close(receiver->catalog, assembly, CATALOG_FAILED);
}

static void on_publishable(void *context, struct assembly *assembly)
{
    sim_publish_post(context, assembly);
}

static void restore(struct sim_receiver *receiver)
{
    struct restore setup = {.ledger = receiver->ledger,
                            .intake = &receiver->intake,
                            .catalog = receiver->catalog,
                            .writer = &receiver->writer,
                            .keeper = receiver->keeper,
                            .trust = receiver->world->trust,
                            .refused = not_restored,
                            .context = receiver};
    restore_run(&setup, receiver->world->now_ns);
    catalog_each(receiver->catalog, count_restored, NULL);
}

/* So much that the running epoch, and where the sender restarts a new one, has room for two groups and the window
 * behind them. */
static size_t share_size(const struct sim_setup *setup)
{
    size_t block = (size_t)(setup->source_symbols + setup->repair_symbols) * setup->symbol_size + 1024;
    return (setup->sender_restarts > 0 ? 6 : 2) * block * (2u * setup->depth + 80);
}

struct sim_receiver *sim_receiver_create(struct sim_world *world, struct ledger *ledger, struct sim_disk *disk,
                                         bool tampered)
{
    struct sim_receiver *receiver = calloc(1, sizeof *receiver);
    assert(receiver != NULL);
    receiver->world = world;
    receiver->ledger = ledger;
    receiver->disk = disk;
    receiver->tampered = tampered;
    receiver->writer.receiver = receiver->checkpoint.receiver = receiver;
    receiver->sender_id = signature_sender_id(signature_key_public(world->key));
    receiver->progress = progress_create(world->trust, world->setup.lanes);
    for (unsigned i = 0; i < world->setup.lanes; i++)
        receiver->lanes[i] = epochs_create((uint8_t)i, world->trust, share_size(&world->setup), receiver->progress);
    receiver->codes = fec_cache_create();
    receiver->unpack = (struct unpack){.trust = world->trust, .handler = &handler, .context = receiver};
    receiver->catalog = catalog_create(world->trust, &actions, receiver);
    receiver->knowledge = knowledge_create();
    receiver->missing = missing_create();
    struct keeper_setup keeper = {.checkpoint = &receiver->checkpoint,
                                  .writer = &receiver->writer,
                                  .catalog = receiver->catalog,
                                  .lost = on_flush_failed,
                                  .publish = on_publishable,
                                  .context = receiver};
    receiver->keeper = keeper_create(&keeper);
    receiver->renumber =
        renumber_create(world->trust, catalog_checks(receiver->catalog), receiver->knowledge, had, receiver);
    assert(receiver->renumber != NULL);
    catalog_set_renumber(receiver->catalog, receiver->renumber);
    assert(receiver->progress != NULL && receiver->catalog != NULL && receiver->knowledge != NULL &&
           receiver->keeper != NULL && receiver->missing != NULL);
    receiver->settle_ns = receiver->tick_ns = world->now_ns;
    sim_publish_recover(receiver);
    load_ledger(receiver);
    restore(receiver);
    return receiver;
}

static void free_stage(struct assembly *assembly, void *context)
{
    struct sim_receiver *receiver = context;
    keeper_let_go(receiver->keeper, assembly);
    free(assembly->stage);
    assembly->stage = NULL;
}

void sim_receiver_destroy(struct sim_receiver *receiver)
{
    if (receiver == NULL)
        return;
    sim_writer_end(&receiver->writer);
    sim_checkpoint_end(&receiver->checkpoint);
    catalog_each(receiver->catalog, free_stage, receiver);
    catalog_destroy(receiver->catalog);
    for (unsigned i = 0; i < receiver->world->setup.lanes; i++)
        epochs_destroy(receiver->lanes[i]);
    keeper_destroy(receiver->keeper);
    missing_destroy(receiver->missing);
    renumber_destroy(receiver->renumber);
    knowledge_destroy(receiver->knowledge);
    fec_cache_destroy(receiver->codes);
    progress_destroy(receiver->progress);
    free(receiver);
}

void sim_receiver_set_full(struct sim_receiver *receiver, bool full)
{
    receiver->full = full;
}

void sim_receiver_take(struct sim_receiver *receiver, const struct sim_packet *packet)
{
    struct datagram datagram;
    if (datagram_parse(packet->bytes, packet->size, &datagram) != DATAGRAM_OK ||
        datagram.lane >= receiver->world->setup.lanes)
        return;
    struct epochs *lane = receiver->lanes[datagram.lane];
    if (epochs_check(lane, &datagram) != DATAGRAM_OK || datagram_open(packet->bytes, &datagram, NULL) != DATAGRAM_OK)
        return;
    enum datagram_drop drop =
        epochs_push(lane, &datagram, packet->bytes + DATAGRAM_HEADER_SIZE, receiver->world->now_ns);
    if (drop == DATAGRAM_OK && packet->in_time)
        receiver->world->records[packet->record].arrived[packet->esi / 64] |= UINT64_C(1) << packet->esi % 64;
}

static void take_block(struct sim_receiver *receiver, struct epochs *lane, struct block *block)
{
    const struct unpack_source source = {
        .sender_id = block->sender_id, .lane = block->lane, .epoch = block->epoch, .now_ns = receiver->world->now_ns};
    enum decode_result result = decode_block(receiver->codes, block);
    if (result == DECODE_FAILED)
        sim_fail(receiver->world, "block %llu does not decode to what was sent", (unsigned long long)block->sbn);
    else
        unpack_payload(&receiver->unpack, &source, block->symbols, (size_t)block->source_symbols * block->symbol_size);
    receiver->world->repaired += result == DECODE_REPAIRED;
    epochs_return(lane, block);
}

/* The last write of a closed transfer is over: its bytes go. */
static void clear_closed(struct sim_receiver *receiver, struct assembly *assembly)
{
    size_t transfer = sim_receiver_transfer(receiver, assembly->id);
    keeper_forget(receiver->keeper, assembly, false);
    if (sim_act(&receiver->world->receiver_life))
        sim_disk_remove(receiver->disk, transfer);
    free(assembly->stage);
    assembly->stage = NULL;
    catalog_forget(receiver->catalog, assembly, false);
}

static void run_idle(struct sim_receiver *receiver)
{
    while (receiver->closed_count > 0) {
        struct assembly *assembly = receiver->closed[--receiver->closed_count];
        if (assembly->state == ASSEMBLY_CLOSED)
            clear_closed(receiver, assembly);
        else if (assembly->state == ASSEMBLY_PUBLISHING && keeper_may_publish(receiver->keeper, assembly))
            sim_publish_post(receiver, assembly);
    }
}

static void tick(struct sim_receiver *receiver)
{
    struct sim_world *world = receiver->world;
    if (world->now_ns < receiver->tick_ns)
        return;
    receiver->tick_ns = world->now_ns + TICK_NS;
    catalog_set_free_bytes(receiver->catalog, receiver->full ? 0 : FREE_BYTES, world->now_ns);
    judge_all(receiver->catalog, receiver->knowledge, receiver->progress, world->setup.lanes, world->now_ns);
    keeper_tick(receiver->keeper, world->now_ns);
    store_alarms(receiver);
    store_chain(receiver);
}

static void settle_lane(struct sim_receiver *receiver, struct epochs *lane)
{
    uint64_t now_ns = receiver->world->now_ns;
    struct block *block;
    while ((block = epochs_pop(lane, now_ns)) != NULL)
        take_block(receiver, lane, block);
    epochs_settle(lane, now_ns);
    epochs_publish(lane, now_ns);
}

void sim_receiver_run(struct sim_receiver *receiver)
{
    for (unsigned i = 0; i < receiver->world->setup.lanes; i++)
        settle_lane(receiver, receiver->lanes[i]);
    receiver->settle_ns = receiver->world->now_ns + SETTLE_NS;
    sim_writer_run(&receiver->writer);
    run_idle(receiver);
    sim_checkpoint_run(&receiver->checkpoint);
    sim_publish_run(receiver);
    tick(receiver);
    run_idle(receiver);
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

uint64_t sim_receiver_deadline_ns(const struct sim_receiver *receiver)
{
    uint64_t deadline_ns = least(receiver->settle_ns, receiver->tick_ns);
    for (unsigned i = 0; i < receiver->world->setup.lanes; i++)
        deadline_ns = least(deadline_ns, epochs_deadline_ns(receiver->lanes[i]));
    deadline_ns = least(deadline_ns, sim_writer_deadline_ns(&receiver->writer));
    deadline_ns = least(deadline_ns, sim_checkpoint_deadline_ns(&receiver->checkpoint));
    return least(deadline_ns, sim_publish_deadline_ns(receiver));
}
