// SPDX-License-Identifier: Apache-2.0
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "sender/replay.h"
#include "tests/sim/sim.h"

void sim_errand_add(struct sim_errand *errand, const struct ticket *ticket)
{
    if (errand->count == errand->capacity) {
        errand->capacity = errand->capacity == 0 ? 8 : 2 * errand->capacity;
        errand->tickets = realloc(errand->tickets, errand->capacity * sizeof *errand->tickets);
        assert(errand->tickets != NULL);
    }
    ticket_format(ticket, errand->tickets[errand->count++]);
    sim_statistics.tickets++;
    sim_statistics.whole_tickets += ticket->kind == TICKET_WHOLE;
    sim_statistics.manifest_tickets += ticket->kind == TICKET_MANIFEST;
    sim_statistics.chunk_tickets += ticket->kind == TICKET_CHUNKS;
}

void sim_errand_free(struct sim_errand *errand)
{
    free(errand->tickets);
    *errand = (struct sim_errand){0};
}

/* What the sender's ledger says. */

static enum status next_transfer(void *context, uint64_t after, int64_t since_ns, struct ledger_transfer *found)
{
    const struct sim_world *world = context;
    const struct sim_transfer *next = NULL;
    (void)since_ns;
    for (size_t i = 0; i < world->transfer_count; i++) {
        const struct sim_transfer *transfer = &world->transfers[i];
        if (!transfer->gone && transfer->sequence > after && (next == NULL || transfer->sequence < next->sequence))
            next = transfer;
    }
    if (next == NULL)
        return STATUS_NOT_FOUND;
    *found = (struct ledger_transfer){
        .state = next->sent ? LEDGER_SENT : LEDGER_SEALED, .bytes = next->total_bytes, .sequence = next->sequence};
    memcpy(found->id, next->id, TRANSFER_ID_SIZE);
    memcpy(found->channel, next->channel, sizeof next->channel);
    memcpy(found->name, next->name, sizeof next->name);
    return STATUS_OK;
}

static enum status sizes_of(void *context, uint64_t sequence, uint64_t **sizes, size_t *count)
{
    const struct sim_world *world = context;
    *count = 0;
    for (size_t i = 0; i < world->transfer_count; i++) {
        const struct sim_transfer *transfer = &world->transfers[i];
        if (transfer->gone || transfer->sequence != sequence)
            continue;
        *sizes = calloc(transfer->file_count + 1, sizeof **sizes);
        assert(*sizes != NULL);
        for (size_t file = 0; file < transfer->file_count; file++)
            if (transfer->files[file].kind == MANIFEST_FILE)
                (*sizes)[(*count)++] = transfer->files[file].size;
        return STATUS_OK;
    }
    return STATUS_NOT_FOUND;
}

static bool is_kept(void *context, const struct ledger_transfer *transfer)
{
    (void)context;
    (void)transfer;
    return true;
}

static struct sim_transfer *transfer_of(struct sim_world *world, uint64_t sequence)
{
    for (size_t i = 0; i < world->transfer_count; i++)
        if (!world->transfers[i].gone && world->transfers[i].sequence == sequence)
            return &world->transfers[i];
    return NULL;
}

static size_t queue_plan(struct sim_world *world, const struct replay_plan *plan, bool now)
{
    size_t queued = 0;
    for (size_t i = 0; i < plan->count; i++) {
        if (plan->items[i].state != REPLAY_QUEUED)
            continue;
        if (world->replay_count == SIM_REPLAYS) {
            sim_fail(world, "somebody asks for replays without end");
            break;
        }
        world->replays[world->replay_count++] = (struct sim_replay){
            .transfer = transfer_of(world, plan->items[i].sequence), .parts = plan->items[i].parts, .now = now};
        queued++;
    }
    return queued;
}

/* One request; the answer comes when it is recorded. */
static size_t ask(struct sim_world *world, struct request *request, bool mistyped)
{
    struct replay_source source = {.context = world,
                                   .chain_id = world->chain_id,
                                   .newest_sequence = world->newest_sequence,
                                   .next = next_transfer,
                                   .sizes = sizes_of,
                                   .is_kept = is_kept};
    struct replay_plan plan;
    size_t queued = 0;
    if (replay_resolve(request, &source, &plan) != STATUS_OK)
        sim_fail(world, "a request for a replay could not be resolved");
    if (mistyped && plan.accepted)
        sim_fail(world, "a mistyped ticket was accepted");
    /* A ticket of numbers that were given anew may name what there is not. */
    if (!mistyped && !plan.accepted && world->setup.sender_backups == 0)
        sim_fail(world, "a request was refused: %s", plan.message);
    if (plan.accepted && sim_act(&world->sender_life))
        queued = queue_plan(world, &plan, request->now);
    replay_plan_deinit(&plan);
    return queued;
}

size_t sim_errand_run(struct sim_world *world, struct sim_random *random, struct sim_errand *errand, uint64_t baseline,
                      bool careless)
{
    struct request request = {.kind = REQUEST_REPLAY, .now = sim_chance(random, 200000)};
    size_t queued = 0;
    for (size_t i = 0; i < errand->count; i++) {
        char *text = errand->tickets[i];
        bool mistyped = careless && sim_chance(random, 50000), forgotten = careless && sim_chance(random, 200000);
        if (mistyped) {
            char *letter = &text[sim_below(random, strlen(text))];
            mistyped = *letter != '-';
            *letter = *letter == '-' ? '-' : *letter == '7' ? 'A' : '7';
            sim_statistics.mistyped += mistyped;
        }
        request.tickets = &text;
        request.ticket_count = 1;
        if (!forgotten || mistyped)
            queued += ask(world, &request, mistyped);
    }
    request.ticket_count = 0;
    request.first_sequence = 1;
    request.last_sequence = baseline;
    if (baseline > 0)
        queued += ask(world, &request, false);
    return queued;
}
