// SPDX-License-Identifier: Apache-2.0
#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/datagram.h"
#include "sender/pace.h"
#include "sender/pack.h"
#include "tests/sim/sim.h"

/* splitmix64 (Steele, Lea, Flood 2014). */
uint64_t sim_next(struct sim_random *random)
{
    uint64_t z = random->state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

uint64_t sim_below(struct sim_random *random, uint64_t limit)
{
    return limit == 0 ? 0 : sim_next(random) % limit;
}

uint64_t sim_between(struct sim_random *random, uint64_t low, uint64_t high)
{
    return low + sim_below(random, high - low + 1);
}

bool sim_chance(struct sim_random *random, unsigned per_million)
{
    return per_million > 0 && sim_below(random, 1000000) < per_million;
}

bool sim_act(struct sim_life *life)
{
    if (!life->dead && life->left != UINT64_MAX && life->left-- == 0) {
        life->left = UINT64_MAX;
        life->dead = true;
    }
    return !life->dead;
}

void sim_tempt(struct sim_world *world, struct sim_life *life)
{
    if (world->setup.tempting == 0 || life->dead || life->left != UINT64_MAX || !sim_chance(&world->random, 150000))
        return;
    world->setup.tempting--;
    life->left = sim_below(&world->random, 6);
}

void sim_fail(struct sim_world *world, const char *format, ...)
{
    va_list arguments;
    if (world->failed)
        return;
    world->failed = true;
    va_start(arguments, format);
    vsnprintf(world->why, sizeof world->why, format, arguments);
    va_end(arguments);
    sim_say(world, "FAILED: %s", world->why);
}

void sim_say(const struct sim_world *world, const char *format, ...)
{
    va_list arguments;
    if (!world->verbose)
        return;
    printf("%10.4f  ", (double)world->now_ns / 1e9);
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    putchar('\n');
}

static void choose_link(struct sim_setup *setup, struct sim_random *random)
{
    setup->weather = (enum sim_weather)sim_below(random, SIM_WEATHER_COUNT);
    if (setup->weather < SIM_RAIN)
        return;
    unsigned severity = setup->weather == SIM_RAIN ? 1 : 5;
    setup->loss = (unsigned)sim_below(random, 20000 * severity);
    setup->duplicate = (unsigned)sim_below(random, 20000 * severity);
    setup->reorder = (unsigned)sim_below(random, 50000 * severity);
    setup->damage = (unsigned)sim_below(random, 5000 * severity);
    setup->replay = (unsigned)sim_below(random, 2000 * severity);
}

/* Each of these in a part of the hard runs only, so that the others are seen without it. */
static void choose_faults(struct sim_setup *setup, struct sim_random *random)
{
    setup->hard = sim_chance(random, 300000);
    setup->heals = sim_chance(random, 300000);
    setup->heal_copies = (unsigned)sim_between(random, 1, 3);
    setup->operators = sim_chance(random, 400000) ? 150000 : 0;
    if (!setup->hard)
        return;
    if (setup->weather >= SIM_RAIN && sim_chance(random, 500000))
        setup->weather = SIM_NIGHT;
    setup->sender_restarts = (unsigned)sim_below(random, 4);
    setup->receiver_restarts = (unsigned)sim_below(random, 5);
    setup->tempting = (unsigned)sim_below(random, 4);
    setup->clock_steps = (unsigned)sim_below(random, 3);
    setup->full_disks = sim_chance(random, 300000) ? 1 : 0;
    setup->write_errors = sim_chance(random, 200000) ? 5000 : 0;
    setup->flush_errors = sim_chance(random, 200000) ? 50000 : 0;
    setup->ledger_errors = sim_chance(random, 200000) ? 50000 : 0;
    setup->disk_faults =
        setup->full_disks > 0 || setup->write_errors > 0 || setup->flush_errors > 0 || setup->ledger_errors > 0;
    setup->receiver_backups = sim_chance(random, 150000) ? 1 : 0;
    setup->sender_backups = setup->receiver_backups == 0 && sim_chance(random, 120000) ? 1 : 0;
    setup->sender_restarts += setup->sender_backups;
    setup->receiver_restarts += setup->receiver_backups;
    setup->disk_ns = sim_chance(random, 500000) ? sim_below(random, 400 * CLOCK_MILLISECOND_NS) : 0;
}

static void choose_setup(struct sim_setup *setup, struct sim_random *random)
{
    *setup = (struct sim_setup){
        .lanes = sim_chance(random, 300000) ? (unsigned)sim_between(random, 2, 3) : 1,
        .symbol_size = (uint16_t)(16 * sim_between(random, 4, 16)),
        .rate_bits_per_s = (UINT64_C(200000) << sim_below(random, 8)) + sim_below(random, 200000),
        .repair_symbols = (uint8_t)sim_between(random, 4, 12),
        .sender_restarts = sim_chance(random, 250000) ? (unsigned)sim_between(random, 1, 2) : 0,
        .receiver_restarts = sim_chance(random, 250000) ? (unsigned)sim_between(random, 1, 2) : 0,
    };
    uint64_t least = (PACK_CAPACITY_MIN + setup->symbol_size - 1u) / setup->symbol_size;
    setup->source_symbols = (uint8_t)sim_between(random, least, least + 24);
    uint64_t bits = datagram_wire_bits(setup->symbol_size, false);
    uint64_t in_burst = sim_between(random, 1, 60);
    uint64_t half = setup->repair_symbols / 2;
    setup->depth = (uint16_t)((in_burst + half - 1) / half);
    uint64_t group_bits = bits * setup->depth * (uint64_t)(setup->source_symbols + setup->repair_symbols);
    /* The receiver gives up a block of which nothing has come for ten seconds: groups may not take that long. */
    while (group_bits * setup->lanes > 2 * setup->rate_bits_per_s)
        setup->rate_bits_per_s *= 2;
    uint64_t rate = setup->rate_bits_per_s / setup->lanes;
    setup->span_ns = pace_span_ns(rate, group_bits);
    setup->burst_ns = pace_span_ns(rate, in_burst * bits);
    choose_link(setup, random);
    choose_faults(setup, random);
}

static void fill_file(struct sim_file *file, enum manifest_kind kind, uint64_t size, struct sim_random *random)
{
    file->kind = kind;
    file->size = kind == MANIFEST_FILE ? size : 0;
    file->bytes = malloc(file->size + 8);
    assert(file->bytes != NULL);
    for (uint64_t i = 0; i < file->size; i += 8) {
        uint64_t word = sim_next(random);
        memcpy(file->bytes + i, &word, sizeof word);
    }
}

static uint64_t choose_size(struct sim_random *random)
{
    switch (sim_below(random, 8)) {
    case 0:
        return 0;
    case 1:
    case 2:
        return sim_below(random, 30000);
    default:
        return sim_below(random, 2000);
    }
}

static void make_tree(struct sim_transfer *transfer, struct sim_random *random)
{
    size_t count = (size_t)sim_below(random, 12);
    transfer->files = calloc(count + 1, sizeof *transfer->files);
    assert(transfer->files != NULL);
    fill_file(&transfer->files[0], MANIFEST_DIRECTORY, 0, random);
    snprintf(transfer->files[0].path, sizeof transfer->files[0].path, "%s", transfer->name);
    for (size_t i = 1; i <= count; i++) {
        struct sim_file *file = &transfer->files[i];
        fill_file(file, sim_chance(random, 150000) ? MANIFEST_DIRECTORY : MANIFEST_FILE, choose_size(random), random);
        snprintf(file->path, sizeof file->path, "%s/f%02zu", transfer->name, i);
    }
    transfer->file_count = count + 1;
}

static void make_transfer(struct sim_transfer *transfer, size_t number, uint64_t submit_ns, struct sim_random *random)
{
    static const char *const channels[] = {"default", "models", "urgent"};
    for (size_t i = 0; i < TRANSFER_ID_SIZE; i++)
        transfer->id[i] = (uint8_t)sim_next(random);
    transfer->class = (unsigned)sim_below(random, 3);
    snprintf(transfer->channel, sizeof transfer->channel, "%s", channels[transfer->class]);
    snprintf(transfer->name, sizeof transfer->name, "item-%zu", number);
    transfer->submit_ns = submit_ns;
    transfer->changes = sim_chance(random, 60000);
    if (sim_chance(random, 350000)) {
        make_tree(transfer, random);
    } else {
        transfer->files = calloc(1, sizeof *transfer->files);
        assert(transfer->files != NULL);
        transfer->file_count = 1;
        /* Seldom one of several chunks, for it takes as long as a hundred other runs. */
        uint64_t size = sim_chance(random, 120) ? CHUNK_SIZE + sim_below(random, 100000) : choose_size(random);
        fill_file(&transfer->files[0], MANIFEST_FILE, size, random);
        snprintf(transfer->files[0].path, sizeof transfer->files[0].path, "%s", transfer->name);
    }
    for (size_t i = 0; i < transfer->file_count; i++) {
        transfer->artifact_count += transfer->files[i].kind == MANIFEST_FILE;
        transfer->total_bytes += transfer->files[i].size;
    }
}

void sim_world_init(struct sim_world *world, uint64_t seed, bool verbose)
{
    *world = (struct sim_world){.seed = seed, .verbose = verbose, .random = {.state = seed}};
    world->sender_life.left = world->receiver_life.left = UINT64_MAX;
    struct sim_random *random = &world->random;
    (void)sim_next(random);
    choose_setup(&world->setup, random);
    uint8_t key_seed[32];
    for (size_t i = 0; i < sizeof key_seed; i++)
        key_seed[i] = (uint8_t)sim_next(random);
    world->key = signature_key_from_seed(key_seed);
    world->trust = trust_from_keys(signature_key_public(world->key), 1);
    for (size_t i = 0; i < CHAIN_ID_SIZE; i++)
        world->chain_id[i] = (uint8_t)sim_next(random);
    world->transfer_count = (size_t)sim_between(random, 1, 14);
    world->transfers = calloc(world->transfer_count, sizeof *world->transfers);
    world->replays = calloc(SIM_REPLAYS, sizeof *world->replays);
    assert(world->transfers != NULL && world->replays != NULL);
    uint64_t submit_ns = sim_below(random, 2 * CLOCK_SECOND_NS);
    for (size_t i = 0; i < world->transfer_count; i++) {
        make_transfer(&world->transfers[i], i, submit_ns, random);
        if (sim_chance(random, 500000))
            submit_ns += sim_below(random, sim_chance(random, 300000) ? CLOCK_SECOND_NS : 20 * CLOCK_MILLISECOND_NS);
    }
    world->link = sim_link_create(world);
}

void sim_world_deinit(struct sim_world *world)
{
    sim_link_destroy(world->link);
    for (size_t i = 0; i < world->transfer_count; i++) {
        struct sim_transfer *transfer = &world->transfers[i];
        for (size_t file = 0; file < transfer->file_count; file++)
            free(transfer->files[file].bytes);
        free(transfer->files);
        free(transfer->signed_bytes);
    }
    free(world->transfers);
    for (size_t i = 0; i < world->record_count; i++)
        free(world->records[i].pieces);
    free(world->records);
    free(world->replays);
    trust_destroy(world->trust);
    signature_key_destroy(world->key);
}

struct sim_transfer *sim_world_find(struct sim_world *world, const uint8_t *transfer_id)
{
    for (size_t i = 0; i < world->transfer_count; i++)
        if (memcmp(world->transfers[i].id, transfer_id, TRANSFER_ID_SIZE) == 0)
            return &world->transfers[i];
    return NULL;
}

uint32_t sim_world_add_record(struct sim_world *world)
{
    if (world->record_count == world->record_capacity) {
        world->record_capacity = world->record_capacity == 0 ? 256 : 2 * world->record_capacity;
        world->records = realloc(world->records, world->record_capacity * sizeof *world->records);
        assert(world->records != NULL);
    }
    world->records[world->record_count] = (struct sim_record){0};
    return (uint32_t)world->record_count++;
}

void sim_world_add_piece(struct sim_world *world, uint32_t record, struct sim_transfer *transfer, uint32_t artifact,
                         uint64_t offset, uint32_t size)
{
    struct sim_record *to = &world->records[record];
    if (to->piece_count == to->piece_capacity) {
        to->piece_capacity = to->piece_capacity == 0 ? 4 : 2 * to->piece_capacity;
        to->pieces = realloc(to->pieces, to->piece_capacity * sizeof *to->pieces);
        assert(to->pieces != NULL);
    }
    to->pieces[to->piece_count++] =
        (struct sim_piece){.transfer = transfer, .artifact = artifact, .offset = offset, .size = size};
}

void sim_world_forget_arrivals(struct sim_world *world)
{
    for (size_t i = 0; i < world->record_count; i++)
        memset(world->records[i].arrived, 0, sizeof world->records[i].arrived);
}

static int arrived_symbols(const struct sim_record *record)
{
    int arrived = 0;
    for (unsigned i = 0; i < 4; i++)
        arrived += __builtin_popcountll(record->arrived[i]);
    return arrived;
}

static bool is_recoverable(const struct sim_record *record)
{
    return record->source_symbols > 0 && arrived_symbols(record) >= record->source_symbols;
}

void sim_world_describe(const struct sim_world *world, const struct sim_transfer *transfer)
{
    for (size_t i = 0; i < world->record_count; i++) {
        const struct sim_record *record = &world->records[i];
        for (unsigned piece = 0; piece < record->piece_count; piece++)
            if (record->pieces[piece].transfer == transfer)
                sim_say(world,
                        "%s: %s %u, %u bytes from %llu, in block %llx/%u/%llu: %d symbols of %u came, from %.4f on",
                        transfer->name, record->pieces[piece].artifact == UINT32_MAX ? "manifest" : "artifact",
                        record->pieces[piece].artifact, record->pieces[piece].size,
                        (unsigned long long)record->pieces[piece].offset, (unsigned long long)record->epoch,
                        record->lane, (unsigned long long)record->sbn, arrived_symbols(record), record->source_symbols,
                        (double)record->first_ns / 1e9);
    }
}

/* Artifacts lie one behind the other, the manifest behind them. */
static uint64_t place_of(const struct sim_transfer *transfer, const struct sim_piece *piece)
{
    uint64_t place = 0;
    uint32_t artifact = 0;
    for (size_t i = 0; i < transfer->file_count; i++) {
        if (transfer->files[i].kind != MANIFEST_FILE)
            continue;
        if (artifact++ == piece->artifact)
            break;
        place += transfer->files[i].size;
    }
    return place + piece->offset;
}

bool sim_world_arrived(const struct sim_world *world, const struct sim_transfer *transfer)
{
    uint64_t size = transfer->total_bytes + transfer->signed_size;
    if (transfer->sequence == 0)
        return false;
    uint8_t *covered = calloc(1, size);
    assert(covered != NULL);
    for (size_t i = 0; i < world->record_count; i++) {
        const struct sim_record *record = &world->records[i];
        if (!is_recoverable(record))
            continue;
        for (unsigned piece = 0; piece < record->piece_count; piece++)
            if (record->pieces[piece].transfer == transfer)
                memset(covered + place_of(transfer, &record->pieces[piece]), 1, record->pieces[piece].size);
    }
    bool all = memchr(covered, 0, size) == NULL;
    free(covered);
    return all;
}
