// SPDX-License-Identifier: Apache-2.0
#include "receiver/losses.h"

#include <stdlib.h>
#include <string.h>

#include "proto/ticket.h"
#include "receiver/missing.h"

struct losses {
    struct senders *senders;
    struct catalog *catalog;
    enum config_tickets tickets;
    struct missing *missing;

    /* While filling. */
    struct report_snapshot *snapshot;
    uint64_t now_ns;
    uint64_t skip; /* open ones that have no place in the list: those without progress for longest */
};

struct losses *losses_create(struct senders *senders, struct catalog *catalog, enum config_tickets tickets)
{
    struct losses *losses = calloc(1, sizeof *losses);
    if (losses == NULL)
        return NULL;
    losses->senders = senders;
    losses->catalog = catalog;
    losses->tickets = tickets;
    losses->missing = missing_create();
    if (losses->missing != NULL)
        return losses;
    free(losses);
    return NULL;
}

void losses_destroy(struct losses *losses)
{
    if (losses == NULL)
        return;
    missing_destroy(losses->missing);
    free(losses);
}

static enum report_state state_of(const struct assembly *assembly)
{
    if (assembly->state == ASSEMBLY_PUBLISHING)
        return assembly->verify_total != 0 ? REPORT_VERIFYING : REPORT_PUBLISHING;
    if (!assembly->admitted)
        return REPORT_WAITING_FOR_SPACE;
    return assembly->incomplete ? REPORT_INCOMPLETE : REPORT_RECEIVING;
}

/* Says what is missing in chunks, and gives the ticket the words that the configuration allows. */
static void fill_chunks(struct losses *losses, const struct assembly *assembly, struct report_incomplete *out)
{
    const struct missing_chunks *chunks = missing_find(losses->missing, assembly);
    if (chunks == NULL)
        return;
    out->chunks_known = true;
    out->chunk_count = chunks->chunk_count;
    out->range_count = chunks->range_count;
    out->listed = chunks->listed;
    memcpy(out->ranges, chunks->ranges, sizeof out->ranges);
    if (losses->tickets == CONFIG_TICKETS_CHUNKS)
        ticket_format(&chunks->ticket, out->ticket);
}

static void add_incomplete(struct losses *losses, const struct assembly *assembly,
                           const struct report_transfer *transfer, const uint8_t *chain_id)
{
    struct report_snapshot *snapshot = losses->snapshot;
    bool healing = senders_are_healing(losses->senders, assembly->sender_id, chain_id, transfer->sequence);
    bool is_first = !healing && snapshot->incomplete_not_healing++ == 0;
    snapshot->incomplete_total++;
    if (snapshot->incomplete_count == REPORT_TRANSFERS && !is_first)
        return;
    struct report_incomplete incomplete = {
        .transfer = *transfer, .healing = healing, .manifest_held = assembly->reader != NULL};
    if (incomplete.manifest_held)
        fill_chunks(losses, assembly, &incomplete);
    if (losses->tickets == CONFIG_TICKETS_WHOLE ||
        (losses->tickets != CONFIG_TICKETS_OFF && !incomplete.manifest_held)) {
        struct ticket ticket;
        ticket_init(&ticket, losses->tickets == CONFIG_TICKETS_WHOLE ? TICKET_WHOLE : TICKET_MANIFEST, chain_id,
                    transfer->sequence, transfer->sequence);
        ticket_format(&ticket, incomplete.ticket);
    }
    if (is_first)
        snapshot->lacking = incomplete;
    if (snapshot->incomplete_count < REPORT_TRANSFERS)
        snapshot->incomplete[snapshot->incomplete_count++] = incomplete;
}

/* Whether only the manifest's number is known, by its loss. */
static bool has_lost_manifest(struct losses *losses, const struct assembly *assembly, struct report_transfer *transfer)
{
    if (assembly->state != ASSEMBLY_OPEN || assembly->reader != NULL || assembly->held_bytes == 0)
        return false;
    transfer->sequence =
        knowledge_lost_manifest(senders_knowledge(losses->senders), assembly->sender_id, assembly->id, losses->now_ns);
    return transfer->sequence != 0;
}

static void fill_transfer(struct assembly *assembly, void *context)
{
    struct losses *losses = context;
    struct report_snapshot *snapshot = losses->snapshot;
    /* While it is being published most of it is not ours to look at. */
    bool publishing = assembly->state == ASSEMBLY_PUBLISHING;
    if (assembly->state == ASSEMBLY_CLOSED)
        return;
    uint64_t verify_total = assembly->verify_total;
    uint64_t verified = assembly->verified_bytes; /* more when damage was found and is looked for */
    struct report_transfer transfer = {.sender_id = assembly->sender_id,
                                       .sequence = assembly->sequence,
                                       .bytes_total = assembly->total_bytes,
                                       .bytes_held = publishing ? assembly->total_bytes : assembly->held_bytes,
                                       .verified_bytes = verified < verify_total ? verified : verify_total,
                                       .verify_total = verify_total,
                                       .artifact_count = assembly->total_artifacts,
                                       .state = state_of(assembly)};
    memcpy(transfer.id, assembly->id, TRANSFER_ID_SIZE);
    memcpy(transfer.channel, assembly->channel, sizeof transfer.channel);
    memcpy(transfer.name, assembly->name, sizeof transfer.name);
    snapshot->not_admitted += transfer.state == REPORT_WAITING_FOR_SPACE;
    if (has_lost_manifest(losses, assembly, &transfer)) {
        transfer.state = REPORT_INCOMPLETE;
        const struct knowledge_chain *chain =
            knowledge_chain_of(senders_knowledge(losses->senders), assembly->sender_id);
        senders_show(losses->senders, assembly->sender_id, transfer.sequence);
        add_incomplete(losses, assembly, &transfer, chain->chain_id);
    } else if (!publishing && assembly->incomplete) {
        add_incomplete(losses, assembly, &transfer, assembly->chain_id);
    }
    if (snapshot->open_total++ >= losses->skip && snapshot->open_count < REPORT_TRANSFERS)
        snapshot->open[snapshot->open_count++] = transfer;
}

void losses_fill(struct losses *losses, struct report_snapshot *snapshot, uint64_t now_ns)
{
    unsigned count = catalog_count(losses->catalog);
    losses->snapshot = snapshot;
    losses->now_ns = now_ns;
    losses->skip = count > REPORT_TRANSFERS ? count - REPORT_TRANSFERS : 0;
    missing_begin(losses->missing);
    senders_begin_fill(losses->senders);
    catalog_each(losses->catalog, fill_transfer, losses);
    senders_fill(losses->senders, losses->tickets, snapshot, now_ns);
    losses->snapshot = NULL;
}
