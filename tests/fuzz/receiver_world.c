// SPDX-License-Identifier: Apache-2.0
#include "tests/fuzz/receiver_world.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/digest.h"
#include "common/fec.h"
#include "common/log.h"
#include "proto/datagram.h"
#include "receiver/catalog.h"
#include "receiver/decode.h"
#include "receiver/epochs.h"
#include "receiver/judge.h"
#include "receiver/knowledge.h"
#include "receiver/progress.h"
#include "receiver/renumber.h"
#include "receiver/unpack.h"

#define START_NS    UINT64_C(1000000000000)
#define REALTIME_NS INT64_C(1700000000000000000)

enum { SLACK = 1 << 20 /* ranges over the limit of memory: see assembly.c */ };

struct delivery {
    uint32_t sender_id;
    uint8_t id[TRANSFER_ID_SIZE];
};

struct held_block {
    struct epochs *lane;
    struct block *block;
};

struct world {
    uint64_t now_ns, free_bytes;
    struct lane_progress *progress;
    struct epochs *lanes[WORLD_LANES];
    struct unpack unpack;
    struct catalog *catalog;
    struct knowledge *knowledge;
    struct renumber *renumber;
    uint64_t taken, popped; /* datagrams and blocks */
    struct held_block held[WORLD_HELD];
    unsigned held_count, held_limit, damage;
    struct assembly *closed[CATALOG_OPEN], *whole[CATALOG_OPEN];
    unsigned closed_count, whole_count;
    struct delivery deliveries[WORLD_DELIVERED];
    unsigned delivery_count;
};

static struct signature_key *keys[WORLD_SENDERS + 1];
static struct trust *trust;
static struct fec_cache *codes;
static volatile uint8_t sink;

static void make_keys(void)
{
    if (trust != NULL)
        return;
    struct signature_public publics[WORLD_SENDERS];
    for (uint8_t i = 0; i <= WORLD_SENDERS; i++) {
        uint8_t seed[32] = {i + 1, 2, 3, 4, 5};
        keys[i] = signature_key_from_seed(seed);
        if (i < WORLD_SENDERS)
            publics[i] = *signature_key_public(keys[i]);
    }
    trust = trust_from_keys(publics, WORLD_SENDERS);
    codes = fec_cache_create();
    log_open("fuzz", (enum log_level)0);
}

const struct signature_key *world_key(unsigned sender)
{
    make_keys();
    return keys[sender];
}

uint32_t world_sender_id(unsigned sender)
{
    return signature_sender_id(signature_key_public(world_key(sender)));
}

static bool was_delivered(const struct world *world, uint32_t sender_id, const uint8_t *id)
{
    for (unsigned i = 0; i < world->delivery_count; i++)
        if (world->deliveries[i].sender_id == sender_id && memcmp(world->deliveries[i].id, id, TRANSFER_ID_SIZE) == 0)
            return true;
    return false;
}

/* What the catalog asks for. */

static enum catalog_answer is_delivered(void *context, uint32_t sender_id, const uint8_t *id)
{
    return was_delivered(context, sender_id, id) ? CATALOG_DELIVERED : CATALOG_UNKNOWN;
}

static void write_bytes(void *context, struct assembly *assembly, uint32_t index, struct assembly_artifact *artifact,
                        uint64_t offset, const uint8_t *bytes, uint32_t size)
{
    (void)context;
    assert(assembly->state == ASSEMBLY_OPEN && assembly->admitted && index < LIMIT_ARTIFACTS);
    assert(size > 0 && offset <= artifact->size && size <= artifact->size - offset);
    for (uint32_t i = 0; i < size; i++)
        sink = bytes[i];
}

static void reset(void *context, struct assembly *assembly, uint32_t index, struct assembly_artifact *artifact)
{
    (void)context, (void)index;
    assert(assembly->state == ASSEMBLY_OPEN && artifact->size_known);
}

/* Nobody else's word makes a transfer: whatever was held of it before, its manifest is signed by its sender. */
static void assert_is_signed(const struct assembly *assembly)
{
    const struct signature_public *key = trust_find(trust, assembly->sender_id);
    assert(key != NULL && assembly->reader != NULL);
    assert(signature_verify(key, assembly->manifest.body, assembly->manifest.body_size, &assembly->manifest.signature));
    assert(memcmp(manifest_reader_head(assembly->reader)->transfer_id, assembly->id, TRANSFER_ID_SIZE) == 0);
}

static void bound(void *context, struct assembly *assembly)
{
    struct world *world = context;
    const struct manifest_head *head = manifest_reader_head(assembly->reader);
    uint8_t hash[SHA256_SIZE];
    assert_is_signed(assembly);
    (void)knowledge_add(world->knowledge, assembly->sender_id, assembly->chain_id, assembly->sequence, false);
    digest_once(assembly->manifest.body, assembly->manifest.body_size, hash);
    (void)knowledge_claim(world->knowledge, assembly->chain_id, assembly->sequence, hash, true);
    if (assembly->sequence > 1)
        (void)knowledge_claim(world->knowledge, assembly->chain_id, assembly->sequence - 1, head->previous_hash, false);
}

static void complete(void *context, struct assembly *assembly)
{
    struct world *world = context;
    assert_is_signed(assembly);
    assert(assembly->state == ASSEMBLY_OPEN && assembly_missing_bytes(assembly) == 0);
    assert(!was_delivered(world, assembly->sender_id, assembly->id));
    assembly->state = ASSEMBLY_PUBLISHING;
    assert(world->whole_count < CATALOG_OPEN);
    world->whole[world->whole_count++] = assembly;
}

static void closing(void *context, struct assembly *assembly, enum catalog_end end)
{
    struct world *world = context;
    assert(end < CATALOG_ENDS && world->closed_count < CATALOG_OPEN);
    if (assembly->reader != NULL)
        knowledge_remove(world->knowledge, assembly->chain_id, assembly->sequence);
    world->closed[world->closed_count++] = assembly;
}

static void refused(void *context, const struct assembly *assembly, const char *reason, const uint8_t *bytes,
                    size_t size)
{
    (void)context;
    assert(assembly != NULL && reason[0] != '\0' && (bytes != NULL || size == 0));
    for (size_t i = 0; i < size; i++)
        sink = bytes[i];
}

static const struct catalog_actions actions = {.is_delivered = is_delivered,
                                               .write = write_bytes,
                                               .reset = reset,
                                               .bound = bound,
                                               .complete = complete,
                                               .closing = closing,
                                               .refused = refused};

/* What is in the blocks. */

static bool take_wants_announce(void *context, const struct unpack_source *source, const uint8_t *transfer_id,
                                bool early)
{
    return catalog_wants_announce(((struct world *)context)->catalog, source, transfer_id, early);
}

static void take_announce(void *context, const struct unpack_source *source, const struct message_announce *announce)
{
    catalog_announce(((struct world *)context)->catalog, source, announce);
}

static void take_data(void *context, const struct unpack_source *source, const struct frame_data *data)
{
    catalog_data(((struct world *)context)->catalog, source, data);
}

static void take_manifest(void *context, const struct unpack_source *source, const struct frame_manifest *part)
{
    catalog_manifest(((struct world *)context)->catalog, source, part);
}

static void take_abort(void *context, const struct unpack_source *source, const struct message_abort *message)
{
    catalog_abort(((struct world *)context)->catalog, source, message);
}

static void take_heartbeat(void *context, const struct unpack_source *source, const struct message_heartbeat *heartbeat)
{
    struct world *world = context;
    assert(heartbeat->sender_id == source->sender_id && heartbeat->epoch == source->epoch);
    if (knowledge_heartbeat(world->knowledge, heartbeat, source->now_ns))
        progress_confirm_epoch(world->progress, heartbeat->sender_id, heartbeat->epoch);
}

static void take_key(void *context, const struct unpack_source *source, const struct message_key *key)
{
    (void)context;
    assert(trust_find(trust, source->sender_id) != NULL && key->not_before_ns >= 0);
}

static void take_refuse(void *context, const struct unpack_source *source, const uint8_t *transfer_id)
{
    catalog_refuse(((struct world *)context)->catalog, source, transfer_id);
}

static const struct unpack_handler handler = {.wants_announce = take_wants_announce,
                                              .announce = take_announce,
                                              .data = take_data,
                                              .manifest = take_manifest,
                                              .abort = take_abort,
                                              .heartbeat = take_heartbeat,
                                              .key = take_key,
                                              .refuse = take_refuse};

/* A delivered transfer has a second number: that needs a good signature as well. */
static void had(void *context, uint32_t sender_id, const struct opening *opening)
{
    struct world *world = context;
    const struct signature_public *key = trust_find(trust, sender_id);
    const struct manifest_head *head = manifest_reader_head(opening->reader);
    assert(key != NULL && was_delivered(world, sender_id, head->transfer_id));
    assert(signature_verify(key, opening->message.body, opening->message.body_size, &opening->message.signature));
    (void)knowledge_add(world->knowledge, sender_id, head->chain_id, head->sequence, true);
}

struct world *world_create(void)
{
    make_keys();
    struct world *world = calloc(1, sizeof *world);
    assert(world != NULL);
    world->now_ns = START_NS;
    world->free_bytes = UINT64_MAX;
    world->progress = progress_create(trust, WORLD_LANES);
    for (unsigned i = 0; i < WORLD_LANES; i++)
        world->lanes[i] = epochs_create((uint8_t)i, trust, WORLD_SHARE, world->progress);
    epochs_set_sealed(world->lanes[WORLD_LANES - 1]);
    world->catalog = catalog_create(trust, &actions, world);
    world->unpack = (struct unpack){
        .trust = trust, .checks = catalog_checks(world->catalog), .handler = &handler, .context = world};
    world->knowledge = knowledge_create();
    world->renumber = renumber_create(trust, catalog_checks(world->catalog), world->knowledge, had, world);
    catalog_set_renumber(world->catalog, world->renumber);
    assert(world->progress != NULL && world->renumber != NULL && world->lanes[WORLD_LANES - 1] != NULL &&
           world->catalog != NULL);
    const struct room_limits limits = {.staging = WORLD_STAGING, .reserve = 4096, .max_open = WORLD_OPEN};
    catalog_set_limits(world->catalog, &limits);
    return world;
}

/* What holds at any time. */

struct account {
    struct assembly_budget *budgets[2];
    size_t memory[2];
    uint64_t held[2];
    unsigned count;
};

static void add_to_account(struct assembly *assembly, void *context)
{
    struct account *account = context;
    unsigned i = account->budgets[0] == NULL || account->budgets[0] == assembly->budget ? 0 : 1;
    assert(account->budgets[i] == NULL || account->budgets[i] == assembly->budget);
    account->budgets[i] = assembly->budget;
    account->memory[i] += assembly->memory;
    account->held[i] += assembly->held_bytes;
    account->count += assembly->state != ASSEMBLY_CLOSED;
    assert(assembly->reader == NULL || assembly->held_bytes <= assembly->total_bytes);
    assert(assembly->state != ASSEMBLY_CLOSED || (assembly->memory == 0 && assembly->held_bytes == 0));
}

static void check_account(const struct world *world)
{
    struct account account = {.count = 0};
    catalog_each(world->catalog, add_to_account, &account);
    assert(account.count == catalog_count(world->catalog) && account.count <= WORLD_OPEN);
    assert(account.held[0] + account.held[1] <= WORLD_STAGING);
    for (unsigned i = 0; i < 2; i++) {
        const struct assembly_budget *budget = account.budgets[i];
        if (budget == NULL)
            continue;
        assert(budget->memory == account.memory[i] && budget->held == account.held[i]);
        assert(budget->memory <= budget->memory_limit + SLACK);
    }
}

static void check_ranges(struct assembly *assembly, void *context)
{
    uint64_t held = 0;
    (void)context;
    for (uint32_t page = 0; page < assembly->page_count; page++)
        for (uint32_t i = 0; assembly->pages[page] != NULL && i < ASSEMBLY_PAGE; i++) {
            const struct assembly_artifact *artifact = &assembly->pages[page][i];
            uint64_t inside = extents_overlap(&artifact->held, 0, artifact->size);
            assert(inside == extents_overlap(&artifact->held, 0, UINT64_MAX));
            assert(inside == 0 || artifact->size_known);
            held += inside;
        }
    assert(held == assembly->held_bytes);
}

/* The stages. */

void world_receive(struct world *world, const uint8_t *bytes, size_t size)
{
    struct datagram datagram;
    if (datagram_parse(bytes, size, &datagram) != DATAGRAM_OK || datagram.lane >= WORLD_LANES)
        return;
    uint8_t *copy = malloc(size);
    assert(copy != NULL);
    memcpy(copy, bytes, size);
    struct epochs *lane = world->lanes[datagram.lane];
    epochs_expect(lane, &datagram);
    if (epochs_check(lane, &datagram) == DATAGRAM_OK && datagram_open(copy, &datagram, NULL) == DATAGRAM_OK)
        world->taken += epochs_push(lane, &datagram, copy + DATAGRAM_HEADER_SIZE, world->now_ns) == DATAGRAM_OK;
    free(copy);
}

static void take_block(struct world *world, struct epochs *lane, struct block *block)
{
    const struct unpack_source source = {
        .sender_id = block->sender_id, .lane = block->lane, .epoch = block->epoch, .now_ns = world->now_ns};
    unsigned present = 0, total = (unsigned)block->source_symbols + block->repair_symbols;
    for (unsigned i = 0; i < total; i++)
        present += block->present[i];
    assert(present == block->received && present >= block->source_symbols);
    assert(trust_find(trust, block->sender_id) != NULL);
    if (decode_block(codes, block) != DECODE_FAILED)
        unpack_payload(&world->unpack, &source, block->symbols, (size_t)block->source_symbols * block->symbol_size);
    epochs_return(lane, block);
}

static void take_held(struct world *world, unsigned keep)
{
    while (world->held_count > keep) {
        struct held_block held = world->held[0];
        world->held_count--;
        memmove(world->held, world->held + 1, world->held_count * sizeof held);
        take_block(world, held.lane, held.block);
    }
}

static void pop_blocks(struct world *world)
{
    for (unsigned i = 0; i < WORLD_LANES; i++) {
        struct block *block;
        while ((block = epochs_pop(world->lanes[i], world->now_ns)) != NULL) {
            world->popped++;
            take_held(world, WORLD_HELD - 1);
            world->held[world->held_count++] = (struct held_block){world->lanes[i], block};
        }
        take_held(world, world->held_limit);
        epochs_settle(world->lanes[i], world->now_ns);
        epochs_publish(world->lanes[i], world->now_ns);
    }
}

static void deliver(struct world *world, struct assembly *assembly)
{
    assert(assembly->state == ASSEMBLY_PUBLISHING);
    if (world->damage > 0 && assembly->total_bytes > 0) {
        world->damage--;
        assembly->state = ASSEMBLY_OPEN;
        for (uint32_t index = 0; index < assembly->artifact_count && assembly_missing_bytes(assembly) == 0; index++)
            catalog_lose(world->catalog, assembly, index, 1, UINT64_C(1) << 40);
        if (assembly_missing_bytes(assembly) == 0)
            catalog_restored(world->catalog, assembly);
        return;
    }
    if (world->delivery_count == WORLD_DELIVERED) {
        assembly->state = ASSEMBLY_OPEN;
        catalog_close(world->catalog, assembly, CATALOG_FAILED);
        return;
    }
    struct delivery *delivery = &world->deliveries[world->delivery_count++];
    delivery->sender_id = assembly->sender_id;
    memcpy(delivery->id, assembly->id, TRANSFER_ID_SIZE);
    (void)knowledge_add(world->knowledge, assembly->sender_id, assembly->chain_id, assembly->sequence, true);
    catalog_forget(world->catalog, assembly, true);
}

static void run_ended(struct world *world)
{
    for (unsigned count = world->whole_count; count > 0; count--) {
        struct assembly *assembly = world->whole[0];
        world->whole_count--;
        memmove(world->whole, world->whole + 1, world->whole_count * sizeof assembly);
        deliver(world, assembly);
    }
    while (world->closed_count > 0)
        catalog_forget(world->catalog, world->closed[--world->closed_count], false);
}

static void note_missing(const struct knowledge_chain *chain, uint64_t first, uint64_t last, void *context)
{
    (void)context;
    assert(first > chain->baseline && first <= last);
}

void world_run(struct world *world)
{
    struct knowledge_alarm alarm;
    pop_blocks(world);
    run_ended(world);
    catalog_set_free_bytes(world->catalog, world->free_bytes, world->now_ns);
    judge_all(world->catalog, world->knowledge, world->progress, WORLD_LANES, world->now_ns);
    run_ended(world);
    while (knowledge_take_alarm(world->knowledge, REALTIME_NS, &alarm))
        assert(alarm.first <= alarm.last);
    for (unsigned i = 0; i < WORLD_SENDERS; i++)
        if (knowledge_chain_of(world->knowledge, world_sender_id(i)) != NULL)
            knowledge_each_never_seen(world->knowledge, world_sender_id(i), world->now_ns, note_missing, NULL);
    check_account(world);
}

void world_wait(struct world *world, uint64_t duration_ns)
{
    world->now_ns += duration_ns;
}

void world_set_free(struct world *world, uint64_t bytes)
{
    world->free_bytes = bytes;
}

void world_hold_back(struct world *world, unsigned blocks)
{
    world->held_limit = blocks < WORLD_HELD ? blocks : WORLD_HELD - 1;
}

void world_damage(struct world *world, unsigned verifications)
{
    world->damage = verifications;
}

static void close_open(struct assembly *assembly, void *context)
{
    struct world *world = context;
    if (assembly->state == ASSEMBLY_OPEN)
        catalog_close(world->catalog, assembly, CATALOG_FAILED);
}

void world_destroy(struct world *world)
{
    struct epochs_totals totals[WORLD_LANES];
    world->held_limit = world->damage = 0;
    for (unsigned i = 0; i < WORLD_LANES; i++)
        epochs_finish(world->lanes[i]);
    world_run(world);
    catalog_each(world->catalog, check_ranges, NULL);
    uint64_t datagrams = 0, blocks = 0;
    for (unsigned i = 0; i < WORLD_LANES; i++) {
        epochs_totals(world->lanes[i], &totals[i]);
        datagrams += totals[i].gathers.datagrams;
        blocks += totals[i].gathers.blocks_complete;
        assert(epochs_held(world->lanes[i]) == 0 && epochs_open(world->lanes[i]) == 0);
    }
    assert(datagrams == world->taken && blocks == world->popped);
    world->damage = 0;
    run_ended(world);
    catalog_each(world->catalog, close_open, world);
    run_ended(world);
    assert(catalog_count(world->catalog) == 0);
    renumber_destroy(world->renumber);
    catalog_destroy(world->catalog);
    knowledge_destroy(world->knowledge);
    for (unsigned i = 0; i < WORLD_LANES; i++)
        epochs_destroy(world->lanes[i]);
    progress_destroy(world->progress);
    free(world);
}
