// SPDX-License-Identifier: Apache-2.0
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/checksum.h"
#include "common/digest.h"
#include "common/fec.h"
#include "proto/datagram.h"
#include "receiver/catalog.h"
#include "receiver/decode.h"
#include "receiver/epochs.h"
#include "receiver/knowledge.h"
#include "receiver/progress.h"
#include "receiver/unpack.h"
#include "tests/sim/sim.h"

/*
 * Drives the cores in the way that the receive, store and publish stages do. The disk is memory; publishing takes a
 * while and may be cut off by a crash.
 */
enum { PUBLISH_MAX = 64 };
#define PUBLISH_NS (50 * CLOCK_MILLISECOND_NS) /* at most */
#define SETTLE_NS  CLOCK_SECOND_NS

struct sim_ledger {
    bool has_chain;
    struct knowledge_chain chain;
};

struct disk {
    uint8_t **files; /* by artifact */
    uint32_t count;
};

struct publishing {
    struct assembly *assembly;
    uint64_t due_ns;
};

struct sim_receiver {
    struct sim_world *world;
    struct sim_ledger *ledger;
    uint32_t sender_id;
    struct lane_progress *progress;
    struct epochs *lanes[LIMIT_LANES];
    struct fec_cache *codes;
    struct unpack unpack;
    struct catalog *catalog;
    struct knowledge *knowledge;
    struct publishing publishing[PUBLISH_MAX];
    unsigned publishing_count;
    struct assembly *closed[PUBLISH_MAX];
    unsigned closed_count;
    uint64_t settle_ns;
};

struct sim_ledger *sim_ledger_create(void)
{
    struct sim_ledger *ledger = calloc(1, sizeof *ledger);
    assert(ledger != NULL);
    return ledger;
}

void sim_ledger_destroy(struct sim_ledger *ledger)
{
    free(ledger);
}

/* The model disk. */

static uint8_t **file_of(struct assembly *assembly, uint32_t index)
{
    struct disk *disk = assembly->stage;
    if (disk == NULL) {
        assembly->stage = disk = calloc(1, sizeof *disk);
        assert(disk != NULL);
    }
    if (index >= disk->count) {
        disk->files = realloc(disk->files, (index + 1) * sizeof *disk->files);
        assert(disk->files != NULL);
        memset(disk->files + disk->count, 0, (index + 1 - disk->count) * sizeof *disk->files);
        disk->count = index + 1;
    }
    return &disk->files[index];
}

static void free_disk(struct assembly *assembly)
{
    struct disk *disk = assembly->stage;
    if (disk == NULL)
        return;
    for (uint32_t i = 0; i < disk->count; i++)
        free(disk->files[i]);
    free(disk->files);
    free(disk);
    assembly->stage = NULL;
}

static void write_bytes(void *context, struct assembly *assembly, uint32_t index, struct assembly_artifact *artifact,
                        uint64_t offset, const uint8_t *bytes, uint32_t size)
{
    (void)context;
    uint8_t **file = file_of(assembly, index);
    if (*file == NULL)
        *file = malloc(artifact->size);
    assert(*file != NULL && offset + size <= artifact->size);
    memcpy(*file + offset, bytes, size);
}

static void reset_artifact(void *context, struct assembly *assembly, uint32_t index, struct assembly_artifact *artifact)
{
    (void)context;
    (void)artifact;
    uint8_t **file = file_of(assembly, index);
    free(*file);
    *file = NULL;
}

/* What the catalog asks for. */

static enum catalog_answer is_delivered(void *context, uint32_t sender_id, const uint8_t *transfer_id)
{
    (void)sender_id;
    struct sim_receiver *receiver = context;
    const struct sim_transfer *transfer = sim_world_find(receiver->world, transfer_id);
    return transfer != NULL && transfer->deliveries > 0 ? CATALOG_DELIVERED : CATALOG_UNKNOWN;
}

static void bound(void *context, struct assembly *assembly)
{
    struct sim_receiver *receiver = context;
    const struct manifest_head *head = manifest_reader_head(assembly->reader);
    uint8_t hash[SHA256_SIZE];
    if (!knowledge_add(receiver->knowledge, assembly->sender_id, assembly->chain_id, assembly->sequence, false))
        sim_fail(receiver->world, "the set of known numbers is full");
    digest_once(assembly->manifest.body, assembly->manifest.body_size, hash);
    (void)knowledge_claim(receiver->knowledge, assembly->chain_id, assembly->sequence, hash, true);
    if (assembly->sequence > 1)
        (void)knowledge_claim(receiver->knowledge, assembly->chain_id, assembly->sequence - 1, head->previous_hash,
                              false);
}

static void complete(void *context, struct assembly *assembly)
{
    struct sim_receiver *receiver = context;
    struct sim_world *world = receiver->world;
    assert(receiver->publishing_count < PUBLISH_MAX);
    assembly->state = ASSEMBLY_PUBLISHING;
    receiver->publishing[receiver->publishing_count++] =
        (struct publishing){.assembly = assembly, .due_ns = world->now_ns + sim_below(&world->random, PUBLISH_NS)};
}

static void closing(void *context, struct assembly *assembly, enum catalog_end end)
{
    struct sim_receiver *receiver = context;
    const struct sim_transfer *transfer = sim_world_find(receiver->world, assembly->id);
    if (end != CATALOG_ABORTED || transfer == NULL || !transfer->changes)
        sim_fail(receiver->world, "a transfer was closed (%d) for no reason", (int)end);
    free_disk(assembly);
    assert(receiver->closed_count < PUBLISH_MAX);
    receiver->closed[receiver->closed_count++] = assembly;
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

static bool take_wants_announce(void *context, const struct unpack_source *source, const uint8_t *transfer_id)
{
    struct sim_receiver *receiver = context;
    return catalog_wants_announce(receiver->catalog, source, transfer_id);
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

static void store_chain(struct sim_receiver *receiver)
{
    const struct knowledge_chain *chain = knowledge_chain_of(receiver->knowledge, receiver->sender_id);
    if (chain == NULL || !chain->has_baseline)
        return;
    receiver->ledger->chain = *chain;
    receiver->ledger->has_chain = true;
}

static void take_heartbeat(void *context, const struct unpack_source *source, const struct message_heartbeat *heartbeat)
{
    struct sim_receiver *receiver = context;
    if (!knowledge_heartbeat(receiver->knowledge, heartbeat, source->now_ns))
        return;
    progress_confirm_epoch(receiver->progress, heartbeat->sender_id, heartbeat->epoch);
    store_chain(receiver);
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
    if (!receiver->ledger->has_chain)
        return;
    const struct knowledge_chain *chain = &receiver->ledger->chain;
    knowledge_load(receiver->knowledge, chain, receiver->world->now_ns);
    progress_confirm_epoch(receiver->progress, chain->sender_id, chain->epoch);
    for (size_t i = 0; i < receiver->world->transfer_count; i++) {
        const struct sim_transfer *transfer = &receiver->world->transfers[i];
        if (transfer->deliveries > 0 && !knowledge_add(receiver->knowledge, receiver->sender_id,
                                                       receiver->world->chain_id, transfer->sequence, true))
            sim_fail(receiver->world, "the set of known numbers is full");
    }
}

/* So much that the running epoch, and where the sender restarts a new one, has room for two groups and the window
 * behind them. */
static size_t share_size(const struct sim_setup *setup)
{
    size_t block = (size_t)(setup->source_symbols + setup->repair_symbols) * setup->symbol_size + 1024;
    return (setup->sender_restarts > 0 ? 6 : 2) * block * (2u * setup->depth + 80);
}

struct sim_receiver *sim_receiver_create(struct sim_world *world, struct sim_ledger *ledger)
{
    struct sim_receiver *receiver = calloc(1, sizeof *receiver);
    assert(receiver != NULL);
    receiver->world = world;
    receiver->ledger = ledger;
    receiver->sender_id = signature_sender_id(signature_key_public(world->key));
    receiver->progress = progress_create(world->trust, world->setup.lanes);
    for (unsigned i = 0; i < world->setup.lanes; i++)
        receiver->lanes[i] = epochs_create((uint8_t)i, world->trust, share_size(&world->setup), receiver->progress);
    receiver->codes = fec_cache_create();
    receiver->unpack = (struct unpack){.trust = world->trust, .handler = &handler, .context = receiver};
    receiver->catalog = catalog_create(world->trust, &actions, receiver);
    receiver->knowledge = knowledge_create();
    assert(receiver->progress != NULL && receiver->catalog != NULL && receiver->knowledge != NULL);
    receiver->settle_ns = world->now_ns;
    load_ledger(receiver);
    return receiver;
}

static void free_stage(struct assembly *assembly, void *context)
{
    (void)context;
    free_disk(assembly);
}

void sim_receiver_destroy(struct sim_receiver *receiver)
{
    if (receiver == NULL)
        return;
    catalog_each(receiver->catalog, free_stage, NULL);
    catalog_destroy(receiver->catalog);
    for (unsigned i = 0; i < receiver->world->setup.lanes; i++)
        epochs_destroy(receiver->lanes[i]);
    knowledge_destroy(receiver->knowledge);
    fec_cache_destroy(receiver->codes);
    progress_destroy(receiver->progress);
    free(receiver);
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

/* Compares what is about to appear in the intake queue with its manifest, and with what was dropped into the spool. */
static void check_delivery(struct sim_receiver *receiver, struct assembly *assembly, struct sim_transfer *transfer)
{
    struct sim_world *world = receiver->world;
    struct manifest_reader *reader = assembly->reader;
    struct manifest_entry entry;
    uint32_t artifact = 0;
    size_t number = 0;
    if (assembly->sequence != transfer->sequence || strcmp(assembly->name, transfer->name) != 0)
        sim_fail(world, "%s is delivered under another name or number", transfer->name);
    manifest_reader_rewind(reader);
    while (manifest_reader_next(reader, &entry)) {
        if (number == transfer->file_count) {
            sim_fail(world, "%s has more entries than were sent", transfer->name);
            return;
        }
        const struct sim_file *file = &transfer->files[number++];
        if (strcmp(entry.path, file->path) != 0 || entry.kind != file->kind || entry.size != file->size)
            sim_fail(world, "%s: entry %s is not %s", transfer->name, entry.path, file->path);
        if (entry.kind != MANIFEST_FILE)
            continue;
        const uint8_t *bytes = *file_of(assembly, artifact++);
        uint8_t sha256[SHA256_SIZE];
        digest_once(bytes != NULL ? bytes : (const uint8_t *)"", file->size, sha256);
        if (memcmp(sha256, entry.sha256, SHA256_SIZE) != 0 ||
            (file->size > 0 && memcmp(bytes, file->bytes, file->size) != 0))
            sim_fail(world, "%s: %s differs from what was sent", transfer->name, file->path);
    }
    if (number != transfer->file_count)
        sim_fail(world, "%s lacks entries", transfer->name);
}

static void publish(struct sim_receiver *receiver, struct assembly *assembly)
{
    struct sim_world *world = receiver->world;
    struct sim_transfer *transfer = sim_world_find(world, assembly->id);
    if (transfer == NULL || transfer->changes) {
        sim_fail(world, "something was delivered that was not sent");
        return;
    }
    check_delivery(receiver, assembly, transfer);
    if (++transfer->deliveries > 1)
        sim_fail(world, "%s was delivered twice", transfer->name);
    if (transfer->lost_at_ns != 0 && transfer->lost_in_run == world->epoch_counter && !transfer->repeated)
        sim_fail(world, "%s was reported as lost at %.3f s and came all the same", transfer->name,
                 (double)transfer->lost_at_ns / 1e9);
    world->delivered++;
    sim_say(world, "%s delivered", transfer->name);
    if (!knowledge_add(receiver->knowledge, assembly->sender_id, assembly->chain_id, assembly->sequence, true))
        sim_fail(world, "the set of known numbers is full");
    free_disk(assembly);
    catalog_forget(receiver->catalog, assembly, true);
}

static void run_publishing(struct sim_receiver *receiver)
{
    for (unsigned i = 0; i < receiver->publishing_count;) {
        if (receiver->publishing[i].due_ns > receiver->world->now_ns) {
            i++;
            continue;
        }
        struct assembly *assembly = receiver->publishing[i].assembly;
        receiver->publishing[i] = receiver->publishing[--receiver->publishing_count];
        publish(receiver, assembly);
    }
}

void sim_receiver_run(struct sim_receiver *receiver)
{
    uint64_t now_ns = receiver->world->now_ns;
    for (unsigned i = 0; i < receiver->world->setup.lanes; i++) {
        struct epochs *lane = receiver->lanes[i];
        struct block *block;
        while ((block = epochs_pop(lane, now_ns)) != NULL)
            take_block(receiver, lane, block);
        epochs_settle(lane, now_ns);
        epochs_publish(lane, now_ns);
    }
    receiver->settle_ns = now_ns + SETTLE_NS;
    while (receiver->closed_count > 0)
        catalog_forget(receiver->catalog, receiver->closed[--receiver->closed_count], false);
    run_publishing(receiver);
}

uint64_t sim_receiver_deadline_ns(const struct sim_receiver *receiver)
{
    uint64_t deadline_ns = receiver->settle_ns;
    for (unsigned i = 0; i < receiver->world->setup.lanes; i++)
        if (epochs_deadline_ns(receiver->lanes[i]) < deadline_ns)
            deadline_ns = epochs_deadline_ns(receiver->lanes[i]);
    for (unsigned i = 0; i < receiver->publishing_count; i++)
        if (receiver->publishing[i].due_ns < deadline_ns)
            deadline_ns = receiver->publishing[i].due_ns;
    return deadline_ns;
}

static bool is_incomplete(struct sim_receiver *receiver, struct assembly *assembly)
{
    struct assembly_lanes lanes = {.count = receiver->world->setup.lanes,
                                   .confirmed_epoch =
                                       progress_confirmed_epoch(receiver->progress, receiver->sender_id)};
    const struct knowledge_chain *chain = knowledge_chain_of(receiver->knowledge, receiver->sender_id);
    if (chain != NULL) {
        memcpy(lanes.chain_id, chain->chain_id, CHAIN_ID_SIZE);
        lanes.settled_sequence = chain->settled_sequence;
    }
    for (unsigned i = 0; i < lanes.count; i++)
        lanes.lane[i].heard = progress_passed(receiver->progress, receiver->sender_id, i, &lanes.lane[i].epoch,
                                              &lanes.lane[i].passed_sbn);
    return assembly_is_incomplete(assembly, &lanes, receiver->world->now_ns);
}

static void note_lost(struct sim_world *world, struct sim_transfer *transfer)
{
    if (transfer->lost_in_run == world->epoch_counter && transfer->lost_at_ns != 0)
        return;
    transfer->lost_at_ns = world->now_ns;
    transfer->lost_in_run = world->epoch_counter;
    sim_say(world, "%s reported as lost", transfer->name);
}

static void survey_assembly(struct assembly *assembly, void *context)
{
    struct sim_receiver *receiver = context;
    struct sim_transfer *transfer = sim_world_find(receiver->world, assembly->id);
    if (transfer == NULL)
        sim_fail(receiver->world, "an open transfer that was never sent");
    else if (is_incomplete(receiver, assembly))
        note_lost(receiver->world, transfer);
}

static void survey_range(const struct knowledge_chain *chain, uint64_t first, uint64_t last, void *context)
{
    struct sim_receiver *receiver = context;
    (void)chain;
    struct sim_world *world = receiver->world;
    if (last > world->newest_sequence)
        sim_fail(world, "a number was reported as never seen that was never given");
    for (size_t i = 0; i < world->transfer_count; i++) {
        struct sim_transfer *transfer = &world->transfers[i];
        if (transfer->sequence < first || transfer->sequence > last)
            continue;
        if (transfer->deliveries > 0)
            sim_fail(world, "%s was delivered and is reported as never seen", transfer->name);
        note_lost(world, transfer);
    }
}

static void survey_alarm(const struct knowledge_alarm *alarm, void *context)
{
    struct sim_receiver *receiver = context;
    sim_fail(receiver->world, "false alarm %d about sequence %llu", (int)alarm->kind, (unsigned long long)alarm->first);
}

void sim_receiver_survey(struct sim_receiver *receiver)
{
    knowledge_each_alarm(receiver->knowledge, survey_alarm, receiver);
    catalog_each(receiver->catalog, survey_assembly, receiver);
    knowledge_each_never_seen(receiver->knowledge, receiver->sender_id, receiver->world->now_ns, survey_range,
                              receiver);
}

/* What there is to say about a transfer that nobody misses. */
static void describe_open(struct sim_receiver *receiver, const struct sim_transfer *transfer)
{
    const struct knowledge_chain *chain = knowledge_chain_of(receiver->knowledge, receiver->sender_id);
    const struct assembly *assembly = catalog_find(receiver->catalog, receiver->sender_id, transfer->id);
    sim_say(receiver->world, "chain: baseline %llu, newest %llu, settled %llu", (unsigned long long)chain->baseline,
            (unsigned long long)chain->newest_sequence, (unsigned long long)chain->settled_sequence);
    for (unsigned i = 0; i < receiver->world->setup.lanes; i++) {
        uint64_t epoch = 0, passed = 0;
        bool heard = progress_passed(receiver->progress, receiver->sender_id, i, &epoch, &passed);
        sim_say(receiver->world, "lane %u: %s, epoch %llx, passed %llu", i, heard ? "heard" : "silent",
                (unsigned long long)epoch, (unsigned long long)passed);
    }
    if (assembly == NULL)
        return;
    sim_say(receiver->world, "%s: manifest %s, %llu of %llu bytes, %u lanes, watermark %llu of epoch %llx",
            transfer->name, assembly->reader != NULL ? "held" : "lacking", (unsigned long long)assembly->held_bytes,
            (unsigned long long)assembly->total_bytes, assembly->lanes, (unsigned long long)assembly->watermark[0],
            (unsigned long long)assembly->watermark_epoch);
}

bool sim_receiver_knows(struct sim_receiver *receiver, struct sim_transfer *transfer)
{
    const struct knowledge_chain *chain = knowledge_chain_of(receiver->knowledge, receiver->sender_id);
    if (chain == NULL)
        return false;
    if (transfer->sequence <= chain->baseline)
        return true;
    transfer->lost_at_ns = 0;
    sim_receiver_survey(receiver);
    if (transfer->lost_at_ns == 0)
        describe_open(receiver, transfer);
    return transfer->lost_at_ns != 0;
}

static void inspect_assembly(struct assembly *assembly, void *context)
{
    struct sim_receiver *receiver = context;
    if (assembly->state != ASSEMBLY_OPEN)
        sim_fail(receiver->world, "a transfer is still being published at the end");
}

void sim_receiver_inspect(struct sim_receiver *receiver)
{
    struct sim_world *world = receiver->world;
    const struct unpack_counters *counters = &receiver->unpack.counters;
    catalog_each(receiver->catalog, inspect_assembly, receiver);
    for (unsigned i = 0; i < world->setup.lanes; i++)
        if (epochs_held(receiver->lanes[i]) != 0)
            sim_fail(world, "lane %u has not got its blocks back", i);
    if (counters->malformed + counters->unknown + counters->bad_signatures + counters->bad_messages > 0)
        sim_fail(world, "frames were not understood");
}
