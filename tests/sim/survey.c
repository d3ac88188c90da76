// SPDX-License-Identifier: Apache-2.0
#include <stdlib.h>
#include <string.h>

#include "tests/sim/receiver_private.h"

/* What the high side says of its losses, as losses.c and senders.c of the receiver put it together. */

static void note_lost(struct sim_world *world, struct sim_transfer *transfer)
{
    if (transfer->lost_in_run == world->epoch_counter && transfer->lost_at_ns != 0)
        return;
    transfer->lost_at_ns = world->now_ns;
    transfer->lost_in_run = world->epoch_counter;
    sim_statistics.lost++;
    sim_say(world, "%s reported as lost", transfer->name);
}

static bool names(const struct ticket *ticket, uint64_t chunk)
{
    for (unsigned i = 0; i < ticket->range_count; i++)
        if (chunk >= ticket->ranges[i].first && chunk <= ticket->ranges[i].last)
            return true;
    return ticket->kind == TICKET_WHOLE;
}

/* The ticket names each chunk that is missing; and no other one, unless it had to join ranges. */
static void check_ticket(struct sim_receiver *receiver, const struct assembly *assembly, const struct ticket *ticket)
{
    uint64_t chunk = 0;
    for (uint32_t index = 0; index < assembly->artifact_count; index++) {
        const struct assembly_artifact *artifact = assembly_artifact(assembly, index);
        for (uint64_t at = 0; at < artifact->size; at += CHUNK_SIZE, chunk++) {
            uint64_t end = at + CHUNK_SIZE < artifact->size ? at + CHUNK_SIZE : artifact->size;
            bool missing = extents_overlap(&artifact->held, at, end) < end - at;
            if (missing && !names(ticket, chunk))
                sim_fail(receiver->world, "a ticket does not name chunk %llu, which is missing",
                         (unsigned long long)chunk);
            if (!missing && ticket->range_count < TICKET_RANGES && names(ticket, chunk))
                sim_fail(receiver->world, "a ticket names chunk %llu, which is held", (unsigned long long)chunk);
        }
    }
}

static void add_chunks(struct sim_receiver *receiver, const struct assembly *assembly)
{
    const struct missing_chunks *chunks = missing_find(receiver->missing, assembly);
    if (chunks == NULL)
        sim_fail(receiver->world, "it takes more than a round to say what is missing");
    else
        check_ticket(receiver, assembly, &chunks->ticket);
    if (chunks != NULL && receiver->errand != NULL)
        sim_errand_add(receiver->errand, &chunks->ticket);
}

static void survey_assembly(struct assembly *assembly, void *context)
{
    struct sim_receiver *receiver = context;
    struct sim_world *world = receiver->world;
    struct sim_transfer *transfer = sim_world_find(world, assembly->id);
    if (transfer == NULL) {
        sim_fail(world, "an open transfer that was never sent");
        return;
    }
    if (assembly->state != ASSEMBLY_OPEN)
        return;
    uint64_t lost =
        assembly->reader != NULL || assembly->held_bytes == 0
            ? 0
            : knowledge_lost_manifest(receiver->knowledge, receiver->sender_id, assembly->id, world->now_ns);
    if (lost != 0 && lost != transfer->sequence && world->setup.sender_backups == 0)
        sim_fail(world, "%s is said to have another number", transfer->name);
    if (lost != 0 && receiver->errand != NULL) {
        struct ticket ticket;
        ticket_init(&ticket, TICKET_MANIFEST, world->chain_id, lost, lost);
        sim_errand_add(receiver->errand, &ticket);
    }
    if (!assembly->incomplete && lost == 0)
        return;
    if (lost == 0)
        add_chunks(receiver, assembly);
    note_lost(world, transfer);
}

static void survey_range(const struct knowledge_chain *chain, uint64_t first, uint64_t last, void *context)
{
    struct sim_receiver *receiver = context;
    struct sim_world *world = receiver->world;
    struct ticket ticket;
    if (last > world->newest_sequence && last > chain->newest_sequence)
        sim_fail(world, "a number was reported as never seen that was never given");
    for (size_t i = 0; i < world->transfer_count; i++) {
        struct sim_transfer *transfer = &world->transfers[i];
        if (transfer->gone || transfer->sequence < first || transfer->sequence > last)
            continue;
        if (receiver->ledger->sequences[i] == transfer->sequence && receiver->ledger->deliveries[i] == LEDGER_DELIVERED)
            sim_fail(world, "%s was delivered and is reported as never seen", transfer->name);
        note_lost(world, transfer);
    }
    ticket_init(&ticket, TICKET_WHOLE, world->chain_id, first, last);
    if (receiver->errand != NULL)
        sim_errand_add(receiver->errand, &ticket);
}

static void check_range(const struct knowledge_chain *chain, uint64_t first, uint64_t last, void *context)
{
    struct sim_receiver *receiver = context;
    struct sim_world *world = receiver->world;
    if (!chain->current)
        return;
    for (size_t i = 0; i < world->transfer_count; i++) {
        const struct sim_transfer *transfer = &world->transfers[i];
        if (!transfer->gone && transfer->deliveries > 0 && transfer->sequence >= first && transfer->sequence <= last)
            sim_fail(world, "%s was delivered, and its number %llu is named as never seen", transfer->name,
                     (unsigned long long)transfer->sequence);
    }
}

void sim_receiver_check_numbers(struct sim_receiver *receiver)
{
    knowledge_each_never_seen(receiver->knowledge, receiver->sender_id, receiver->world->now_ns, check_range, receiver);
}

/* Numbers that were given twice: both manifests may be wanted, and the alarm has a ticket for them. */
static void survey_alarm(const struct knowledge_alarm *alarm, void *context)
{
    struct sim_receiver *receiver = context;
    struct sim_world *world = receiver->world;
    struct ticket ticket;
    if (world->setup.sender_backups == 0)
        sim_fail(world, "false alarm %d about sequence %llu", (int)alarm->kind, (unsigned long long)alarm->first);
    for (size_t i = 0; i < world->transfer_count; i++) {
        struct sim_transfer *transfer = &world->transfers[i];
        if (!transfer->gone && transfer->deliveries == 0 && transfer->sequence >= alarm->first &&
            transfer->sequence <= alarm->last)
            transfer->doubted = true;
    }
    ticket_init(&ticket, TICKET_WHOLE, alarm->chain_id, alarm->first, alarm->last);
    if (receiver->errand != NULL)
        sim_errand_add(receiver->errand, &ticket);
}

void sim_receiver_survey_numbers(struct sim_receiver *receiver)
{
    knowledge_each_never_seen(receiver->knowledge, receiver->sender_id, receiver->world->now_ns, survey_range,
                              receiver);
}

void sim_receiver_survey(struct sim_receiver *receiver, struct sim_errand *errand)
{
    receiver->errand = errand;
    knowledge_each_alarm(receiver->knowledge, survey_alarm, receiver);
    missing_begin(receiver->missing);
    catalog_each(receiver->catalog, survey_assembly, receiver);
    knowledge_each_never_seen(receiver->knowledge, receiver->sender_id, receiver->world->now_ns, survey_range,
                              receiver);
    receiver->errand = NULL;
}

uint64_t sim_receiver_baseline(struct sim_receiver *receiver)
{
    const struct knowledge_chain *chain = knowledge_chain_of(receiver->knowledge, receiver->sender_id);
    return chain == NULL ? 0 : chain->baseline;
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
    transfer->doubted = false;
    sim_receiver_survey(receiver, NULL);
    if (transfer->lost_at_ns == 0 && !transfer->doubted)
        describe_open(receiver, transfer);
    return transfer->lost_at_ns != 0 || transfer->doubted;
}

struct coming {
    uint64_t now_ns;
    bool any;
};

static void look_at_progress(struct assembly *assembly, void *context)
{
    struct coming *coming = context;
    coming->any |= assembly->state == ASSEMBLY_PUBLISHING ||
                   (assembly->state == ASSEMBLY_OPEN && coming->now_ns < assembly->progress_ns + ASSEMBLY_GRACE_NS);
}

bool sim_receiver_is_filling(const struct sim_receiver *receiver)
{
    struct coming coming = {.now_ns = receiver->world->now_ns};
    catalog_each(receiver->catalog, look_at_progress, &coming);
    return coming.any;
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
