// SPDX-License-Identifier: Apache-2.0
#include "sender/heartbeat.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "proto/frame.h"
#include "proto/signed.h"

enum {
    PADDING_OVERHEAD = 16, /* bytes that the padding field and longer length prefixes may add around the padding */
    FIRST_CAPACITY = 64,
};

struct heartbeat {
    const struct signature_key *key;
    const struct signature_public *next_key; /* to be announced; NULL: none */
    pthread_mutex_t mutex;
    /* Guarded by the mutex. */
    uint64_t key_beat;                   /* the first beat that may announce it once more */
    struct message_heartbeat facts;      /* what does not depend on the list */
    struct message_in_flight *in_flight; /* all transfers in the pipeline, in order of entry */
    size_t count, capacity;
};

static void fill_geometry(struct message_heartbeat *facts, const struct config *config)
{
    facts->lanes = config->lanes;
    facts->source_symbols = config->source_symbols;
    facts->repair_symbols = config->repair_symbols;
    facts->symbol_size = config->symbol_size;
    facts->depth = config->depth;
    facts->rate_bits_per_second = config->rate_bits_per_s;
}

struct heartbeat *heartbeat_create(const struct config *config, const struct signature_key *key,
                                   const uint8_t chain_id[static CHAIN_ID_SIZE], uint64_t epoch,
                                   uint64_t newest_sequence, const uint8_t newest_hash[static SHA256_SIZE])
{
    struct heartbeat *heartbeat = calloc(1, sizeof *heartbeat);
    if (heartbeat == NULL)
        return NULL;
    heartbeat->in_flight = calloc(FIRST_CAPACITY, sizeof *heartbeat->in_flight);
    if (heartbeat->in_flight == NULL) {
        free(heartbeat);
        return NULL;
    }
    heartbeat->capacity = FIRST_CAPACITY;
    heartbeat->key = key;
    heartbeat->next_key = config->has_next_key ? &config->next_key : NULL;
    int error = pthread_mutex_init(&heartbeat->mutex, NULL);
    assert(error == 0);
    (void)error;

    struct message_heartbeat *facts = &heartbeat->facts;
    facts->sender_id = signature_sender_id(signature_key_public(key));
    memcpy(facts->chain_id, chain_id, CHAIN_ID_SIZE);
    facts->epoch = epoch;
    facts->newest_sequence = newest_sequence;
    memcpy(facts->newest_hash, newest_hash, SHA256_SIZE);
    fill_geometry(facts, config);
    return heartbeat;
}

void heartbeat_destroy(struct heartbeat *heartbeat)
{
    if (heartbeat == NULL)
        return;
    pthread_mutex_destroy(&heartbeat->mutex);
    free(heartbeat->in_flight);
    free(heartbeat);
}

/* The list is in order of entry and transfers mostly leave in that order, so that the search ends early. */
static struct message_in_flight *find(struct heartbeat *heartbeat, const uint8_t *transfer_id)
{
    for (size_t i = 0; i < heartbeat->count; i++)
        if (memcmp(heartbeat->in_flight[i].transfer_id, transfer_id, TRANSFER_ID_SIZE) == 0)
            return &heartbeat->in_flight[i];
    assert(!"a transfer that never entered");
    return NULL;
}

static void note_newest(struct heartbeat *heartbeat, uint64_t sequence, const uint8_t *hash)
{
    if (sequence <= heartbeat->facts.newest_sequence)
        return;
    heartbeat->facts.newest_sequence = sequence;
    memcpy(heartbeat->facts.newest_hash, hash, SHA256_SIZE);
}

void heartbeat_entered(struct heartbeat *heartbeat, const uint8_t transfer_id[static TRANSFER_ID_SIZE],
                       uint64_t sequence)
{
    pthread_mutex_lock(&heartbeat->mutex);
    if (heartbeat->count == heartbeat->capacity) {
        heartbeat->capacity *= 2;
        heartbeat->in_flight = realloc(heartbeat->in_flight, heartbeat->capacity * sizeof *heartbeat->in_flight);
        assert(heartbeat->in_flight != NULL);
    }
    struct message_in_flight *entry = &heartbeat->in_flight[heartbeat->count++];
    memcpy(entry->transfer_id, transfer_id, TRANSFER_ID_SIZE);
    entry->sequence = sequence;
    pthread_mutex_unlock(&heartbeat->mutex);
}

void heartbeat_sealed(struct heartbeat *heartbeat, const uint8_t transfer_id[static TRANSFER_ID_SIZE],
                      uint64_t sequence, const uint8_t hash[static SHA256_SIZE])
{
    pthread_mutex_lock(&heartbeat->mutex);
    find(heartbeat, transfer_id)->sequence = sequence;
    note_newest(heartbeat, sequence, hash);
    pthread_mutex_unlock(&heartbeat->mutex);
}

void heartbeat_left(struct heartbeat *heartbeat, const uint8_t transfer_id[static TRANSFER_ID_SIZE])
{
    pthread_mutex_lock(&heartbeat->mutex);
    struct message_in_flight *entry = find(heartbeat, transfer_id);
    struct message_in_flight *end = heartbeat->in_flight + heartbeat->count;
    memmove(entry, entry + 1, (size_t)(end - entry - 1) * sizeof *entry);
    heartbeat->count--;
    pthread_mutex_unlock(&heartbeat->mutex);
}

void heartbeat_set_queue(struct heartbeat *heartbeat, uint64_t depth, uint64_t bytes)
{
    pthread_mutex_lock(&heartbeat->mutex);
    heartbeat->facts.queue_depth = depth;
    heartbeat->facts.queue_bytes = bytes;
    pthread_mutex_unlock(&heartbeat->mutex);
}

void heartbeat_set_healing(struct heartbeat *heartbeat, const struct message_range *ranges, size_t count)
{
    struct message_heartbeat *facts = &heartbeat->facts;
    pthread_mutex_lock(&heartbeat->mutex);
    facts->healing_count = 0;
    for (size_t i = 0; i < count && facts->healing_count < LIMIT_HEALING_RANGES; i++) {
        struct message_range range = ranges[i];
        if (range.first == 0)
            range.first = 1;
        if (range.last > facts->newest_sequence)
            range.last = facts->newest_sequence;
        if (range.first <= range.last)
            facts->healing[facts->healing_count++] = range;
    }
    pthread_mutex_unlock(&heartbeat->mutex);
}

static uint64_t settled_sequence(const struct heartbeat *heartbeat)
{
    uint64_t settled = heartbeat->facts.newest_sequence;
    for (size_t i = 0; i < heartbeat->count; i++) {
        uint64_t sequence = heartbeat->in_flight[i].sequence;
        if (sequence != 0 && sequence <= settled)
            settled = sequence - 1;
    }
    return settled;
}

uint64_t heartbeat_settled_sequence(struct heartbeat *heartbeat)
{
    pthread_mutex_lock(&heartbeat->mutex);
    uint64_t settled = settled_sequence(heartbeat);
    pthread_mutex_unlock(&heartbeat->mutex);
    return settled;
}

/* Returns whether this beat also brings the next key: a padded one has no room, and once a minute is often enough. */
static bool take_facts(struct heartbeat *heartbeat, bool padded, struct message_heartbeat *beat)
{
    pthread_mutex_lock(&heartbeat->mutex);
    heartbeat->facts.beat++;
    bool with_key = heartbeat->next_key != NULL && !padded && heartbeat->facts.beat >= heartbeat->key_beat;
    if (with_key)
        heartbeat->key_beat = heartbeat->facts.beat + HEARTBEAT_KEY_EACH * (uint64_t)heartbeat->facts.lanes;
    *beat = heartbeat->facts;
    beat->settled_sequence = settled_sequence(heartbeat);
    beat->in_flight_count = heartbeat->count < LIMIT_IN_FLIGHT ? (uint32_t)heartbeat->count : LIMIT_IN_FLIGHT;
    memcpy(beat->in_flight, heartbeat->in_flight, beat->in_flight_count * sizeof *beat->in_flight);
    pthread_mutex_unlock(&heartbeat->mutex);
    return with_key;
}

static void encode_signed(const struct heartbeat *heartbeat, const struct message_heartbeat *beat, uint8_t **bytes,
                          size_t *size)
{
    uint8_t *body;
    size_t body_size;
    message_encode_heartbeat(beat, &body, &body_size);
    signed_encode(heartbeat->key, body, body_size, NULL, bytes, size, NULL);
    free(body);
}

static uint16_t symbol_size_for(size_t frame_size, uint16_t largest)
{
    size_t size = (frame_size + LIMIT_SYMBOL_ALIGNMENT - 1) / LIMIT_SYMBOL_ALIGNMENT * LIMIT_SYMBOL_ALIGNMENT;
    if (size < LIMIT_SYMBOL_SIZE_MIN)
        size = LIMIT_SYMBOL_SIZE_MIN;
    return size < largest ? (uint16_t)size : largest;
}

/* Appends the frame at `out`; returns its size. */
static size_t append_key(const struct heartbeat *heartbeat, int64_t realtime_ns, uint8_t *out)
{
    struct message_key message = {.key = *heartbeat->next_key, .time_ns = realtime_ns};
    uint8_t *body, *bytes;
    size_t body_size, size;
    message_encode_key(&message, &body, &body_size);
    signed_encode(heartbeat->key, body, body_size, NULL, &bytes, &size, NULL);
    size_t used = frame_write_signed(out, FRAME_KEY, NULL, bytes, (uint32_t)size);
    free(bytes);
    free(body);
    return used;
}

uint8_t heartbeat_build(struct heartbeat *heartbeat, bool padded, int64_t realtime_ns,
                        uint8_t payload[static HEARTBEAT_PAYLOAD_SIZE], uint16_t *symbol_size)
{
    struct message_heartbeat beat;
    uint8_t *bytes;
    size_t size;
    bool with_key = take_facts(heartbeat, padded, &beat);
    beat.time_ns = realtime_ns;
    encode_signed(heartbeat, &beat, &bytes, &size);
    if (padded && frame_signed_size(NULL, (uint32_t)size) + PADDING_OVERHEAD < beat.symbol_size) {
        beat.padding_size = beat.symbol_size - (uint32_t)frame_signed_size(NULL, (uint32_t)size) - PADDING_OVERHEAD;
        free(bytes);
        encode_signed(heartbeat, &beat, &bytes, &size);
    }
    size_t used = frame_write_signed(payload, FRAME_HEARTBEAT, NULL, bytes, (uint32_t)size);
    if (with_key)
        used += append_key(heartbeat, realtime_ns, payload + used);
    *symbol_size = padded ? (uint16_t)beat.symbol_size : symbol_size_for(used, (uint16_t)beat.symbol_size);
    size_t k = (used + *symbol_size - 1) / *symbol_size;
    assert(k <= LIMIT_SOURCE_SYMBOLS && k * *symbol_size <= HEARTBEAT_PAYLOAD_SIZE);
    memset(payload + used, 0, k * *symbol_size - used);
    free(bytes);
    return (uint8_t)k;
}
