// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_TESTS_RECEIVER_STORE_WORLD_H
#define DIODECAST_TESTS_RECEIVER_STORE_WORLD_H

#include "tests/unit/receiver_fixture.h"

#include <fcntl.h>
#include <jansson.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/durable.h"
#include "common/statusfile.h"
#include "proto/frame.h"
#include "proto/message.h"
#include "receiver/block.h"
#include "receiver/progress.h"
#include "receiver/store.h"
#include "tests/datagrams.h"

enum { SYMBOL_SIZE = 1024, SYMBOLS = 100, PAYLOAD = SYMBOL_SIZE * SYMBOLS, BIG = 13 << 20 };

static char directory[64];
static char intake_path[80];
static struct config config;
static struct signature_key *key;
static uint32_t sender_id;
static struct trust *trust;
static struct ledger *ledger;
static struct queue *ready, *done;
static struct doorbell *bell;
static struct lane_progress *progress;
static struct store *store;
static sem_t delivered;
static uint8_t content[BIG];
static uint64_t next_sbn;
static unsigned blocks_out;

static struct block *block;
static size_t used;

static inline void take_back(void)
{
    struct block *back;
    while ((back = queue_pop(done)) != NULL) {
        free(back->symbols);
        free(back);
        blocks_out--;
    }
}

static inline void send_block(void)
{
    if (block == NULL)
        return;
    block->hash_sum = block->block_hash = block_hash_of(block->symbols, SYMBOLS, SYMBOL_SIZE);
    while (!queue_push(ready, block)) {
        doorbell_ring(bell);
        take_back();
    }
    blocks_out++;
    doorbell_ring(bell);
    take_back();
    block = NULL;
}

/* Room for a frame of `size` bytes in the current block. */
static inline uint8_t *room(size_t size)
{
    if (block != NULL && used + size > PAYLOAD)
        send_block();
    if (block == NULL) {
        block = calloc(1, sizeof *block);
        block->symbols = calloc(SYMBOLS + 4, SYMBOL_SIZE);
        block->sender_id = sender_id;
        block->source_symbols = SYMBOLS;
        block->repair_symbols = 4;
        block->symbol_size = SYMBOL_SIZE;
        block->epoch = 5;
        block->sbn = next_sbn++;
        block->received = block->received_source = SYMBOLS;
        memset(block->present, true, SYMBOLS);
        used = 0;
    }
    return block->symbols + used;
}

static inline void send_data(const uint8_t *id, uint32_t artifact, uint64_t total, uint64_t first, uint64_t end)
{
    while (first < end) {
        uint64_t size = end - first;
        uint64_t chunk_left = CHUNK_SIZE - first % CHUNK_SIZE;
        if (size > 60000)
            size = 60000;
        if (size > chunk_left)
            size = chunk_left;
        struct frame_data data = {
            .transfer_id = id, .artifact = artifact, .artifact_size = total, .offset = first, .size = (uint32_t)size};
        uint8_t *out = room(frame_data_overhead() + size);
        size_t header = frame_write_data(out, &data);
        memcpy(out + header, content + first, size);
        used += header + size;
        first += size;
    }
}

static inline void send_manifest(const uint8_t *id, uint64_t sequence, const char *name,
                                 const struct fixture_file *files, size_t count)
{
    size_t size;
    uint8_t *bytes = fixture_manifest(key, id, sequence, name, files, count, &size);
    struct frame_manifest part = {
        .transfer_id = id, .total = (uint32_t)size, .lanes = 1, .watermark = {next_sbn}, .size = (uint32_t)size};
    uint8_t *out = room(frame_manifest_overhead(1) + size);
    size_t header = frame_write_manifest(out, &part);
    memcpy(out + header, bytes, size);
    used += header + size;
    free(bytes);
    send_block();
}

static inline void send_heartbeat(uint64_t beat, uint64_t newest, uint64_t settled)
{
    struct message_heartbeat heartbeat = {.sender_id = sender_id,
                                          .epoch = 5,
                                          .beat = beat,
                                          .newest_sequence = newest,
                                          .settled_sequence = settled,
                                          .lanes = 1,
                                          .source_symbols = SYMBOLS,
                                          .repair_symbols = 4,
                                          .symbol_size = SYMBOL_SIZE,
                                          .depth = 1};
    uint8_t *body, *bytes;
    size_t body_size, size;
    memset(heartbeat.chain_id, 0xc1, CHAIN_ID_SIZE);
    if (newest > 0)
        memset(heartbeat.newest_hash, 1, SHA256_SIZE);
    message_encode_heartbeat(&heartbeat, &body, &body_size);
    signed_encode(key, body, body_size, NULL, &bytes, &size, NULL);
    uint8_t *out = room(frame_signed_size(NULL, (uint32_t)size));
    used += frame_write_signed(out, FRAME_HEARTBEAT, NULL, bytes, (uint32_t)size);
    free(body);
    free(bytes);
    send_block();
}

static inline void on_delivery(void *context)
{
    sem_post(context);
}

static inline void start(void)
{
    struct store_lane lane = {.ready = ready, .done = done};
    assert_int_equal(store_recover(&config, ledger, NULL), STATUS_OK);
    assert_int_equal(store_start(&config, trust, ledger, NULL, NULL, &lane, 1, bell, progress, &store), STATUS_OK);
    store_on_delivery(store, on_delivery, &delivered);
}

static inline void stop(void)
{
    store_stop(store);
    store = NULL;
    take_back();
    assert_int_equal(blocks_out, 0);
}

static inline json_int_t status_number(const char *object, const char *member)
{
    json_t *root = json_object();
    store_to_json(store, root, 0);
    json_int_t value = json_integer_value(json_object_get(json_object_get(root, object), member));
    json_decref(root);
    return value;
}

static inline void await_deliveries(json_int_t count)
{
    while (status_number("transfers", "delivered_total") < count)
        sem_wait(&delivered);
}

static inline uint64_t ledger_count(void)
{
    uint64_t count;
    assert_int_equal(ledger_delivered_count(ledger, &count), STATUS_OK);
    return count;
}

static inline int begin(void **state)
{
    (void)state;
    snprintf(directory, sizeof directory, "/tmp/diodecast-store-XXXXXX");
    if (mkdtemp(directory) == NULL)
        return -1;
    snprintf(intake_path, sizeof intake_path, "%s/in", directory);
    config = (struct config){.intake = intake_path, .state = directory, .lanes = 1};
    if (mkdir(intake_path, 0770) != 0 || ledger_open(directory, &ledger) != STATUS_OK)
        return -1;
    ready = queue_create(64);
    done = queue_create(1024);
    bell = doorbell_create();
    progress = progress_create(trust, 1);
    sem_init(&delivered, 0, 0);
    next_sbn = 0;
    return 0;
}

static inline int end(void **state)
{
    (void)state;
    store_stop(store);
    store = NULL;
    take_back();
    queue_destroy(ready);
    queue_destroy(done);
    doorbell_destroy(bell);
    progress_destroy(progress);
    ledger_close(ledger);
    sem_destroy(&delivered);
    return durable_remove_tree(AT_FDCWD, directory) == STATUS_OK ? 0 : -1;
}

static inline int make_key(void **state)
{
    (void)state;
    if (signature_init() != STATUS_OK)
        return -1;
    key = fixture_key(1);
    sender_id = signature_sender_id(signature_key_public(key));
    const struct signature_key *keys[] = {key};
    trust = fixture_trust(keys, 1);
    for (size_t i = 0; i < sizeof content; i++)
        content[i] = (uint8_t)(i * 2654435761u >> 13);
    return 0;
}

static inline int drop_key(void **state)
{
    (void)state;
    signature_key_destroy(key);
    trust_destroy(trust);
    return 0;
}

#endif
