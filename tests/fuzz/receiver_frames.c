// SPDX-License-Identifier: Apache-2.0
#include "tests/fuzz/receiver_frames.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/frame.h"
#include "proto/manifest.h"
#include "proto/message.h"
#include "proto/signed.h"
#include "tests/fuzz/receiver_world.h"

#define TIME_NS INT64_C(1700000000000000000)

enum { MANY = 40, PIECE_MAX = 600 };

static void name_transfer(unsigned transfer, uint8_t id[static TRANSFER_ID_SIZE], char name[static 16])
{
    memset(id, (int)(0xa0 + transfer), TRANSFER_ID_SIZE);
    snprintf(name, 16, "item%u", transfer);
}

/* Entry `index` of a transfer; false behind the last. A file, a small tree, two chunks, many files. */
static bool entry_of(unsigned transfer, unsigned index, char path[static 64], struct manifest_entry *entry)
{
    uint8_t id[TRANSFER_ID_SIZE];
    char name[16];
    name_transfer(transfer, id, name);
    *entry = (struct manifest_entry){.path = path, .kind = MANIFEST_FILE, .mtime_ns = TIME_NS};
    snprintf(path, 64, "%s", name);
    if (index > 0)
        snprintf(path, 64, "%s/%02u", name, index);
    else if (transfer % 2 == 1)
        entry->kind = MANIFEST_DIRECTORY;
    switch (transfer) {
    case 0:
        entry->size = 100;
        return index == 0;
    case 1:
        entry->size = index == 2 ? 500 : 0;
        if (index == 3) {
            entry->kind = MANIFEST_SYMLINK;
            entry->target = "02";
        }
        return index <= 3;
    case 2:
        entry->size = CHUNK_SIZE + 5;
        return index == 0;
    default:
        entry->size = index > 0 ? 3 : 0;
        return index <= MANY;
    }
}

static void totals_of(unsigned transfer, uint64_t *bytes, uint32_t *artifacts)
{
    struct manifest_entry entry;
    char path[64];
    *bytes = 0;
    *artifacts = 0;
    for (unsigned i = 0; entry_of(transfer, i, path, &entry); i++) {
        if (entry.kind != MANIFEST_FILE)
            continue;
        *bytes += entry.size;
        *artifacts += 1;
    }
}

static size_t put_signed(uint8_t *out, unsigned sender, enum frame_type type, const uint8_t *id, uint8_t *body,
                         size_t body_size)
{
    uint8_t *bytes;
    size_t size;
    signed_encode(world_key(sender), body, body_size, NULL, &bytes, &size, NULL);
    assert(frame_signed_size(id, (uint32_t)size) <= FRAMES_SIZE_MAX);
    size_t written = frame_write_signed(out, type, id, bytes, (uint32_t)size);
    free(bytes);
    free(body);
    return written;
}

size_t frames_announce(uint8_t *out, unsigned sender, unsigned transfer)
{
    /* Odd ones together with the one before. */
    struct message_announce announces[2];
    size_t count = 1 + transfer % 2;
    char name[16];
    uint8_t *body;
    size_t size;
    for (unsigned i = 0; i < count; i++) {
        announces[i] = (struct message_announce){.channel = "fuzz", .time_ns = TIME_NS};
        name_transfer(transfer - i, announces[i].transfer_id, name);
        snprintf(announces[i].name, sizeof announces[i].name, "%s", name);
        totals_of(transfer - i, &announces[i].total_bytes, &announces[i].artifact_count);
    }
    message_encode_announce(announces, count, &body, &size);
    return put_signed(out, sender, FRAME_ANNOUNCE, announces[0].transfer_id, body, size);
}

size_t frames_abort(uint8_t *out, unsigned sender, unsigned transfer)
{
    struct message_abort message = {.time_ns = TIME_NS, .reason = "changed"};
    char name[16];
    uint8_t *body;
    size_t size;
    name_transfer(transfer, message.transfer_id, name);
    message_encode_abort(&message, &body, &size);
    return put_signed(out, sender, FRAME_ABORT, message.transfer_id, body, size);
}

size_t frames_heartbeat(uint8_t *out, unsigned sender, uint64_t epoch, struct mutate *mutate)
{
    struct message_heartbeat beat = {.sender_id = world_sender_id(sender),
                                     .epoch = epoch,
                                     .beat = 1 + mutate_below(mutate, 3),
                                     .time_ns = TIME_NS,
                                     .newest_sequence = mutate_below(mutate, 12),
                                     .lanes = WORLD_LANES,
                                     .source_symbols = 8,
                                     .repair_symbols = 4,
                                     .symbol_size = 64,
                                     .depth = 4,
                                     .rate_bits_per_second = 1000000};
    uint8_t *body;
    size_t size;
    memset(beat.chain_id, (int)(0xc0 + sender + mutate_chance(mutate, 8)), CHAIN_ID_SIZE);
    if (beat.newest_sequence > 0) {
        memset(beat.newest_hash, (int)(1 + mutate_below(mutate, 2)), SHA256_SIZE);
        beat.settled_sequence = mutate_below(mutate, beat.newest_sequence + 1);
        beat.healing_count = (uint32_t)mutate_below(mutate, 2);
        beat.healing[0] = (struct message_range){1, beat.newest_sequence};
        beat.in_flight_count = (uint32_t)mutate_below(mutate, 2);
        memset(beat.in_flight[0].transfer_id, (int)(0xa0 + mutate_below(mutate, FRAMES_TRANSFERS)), TRANSFER_ID_SIZE);
        beat.in_flight[0].sequence = mutate_below(mutate, beat.newest_sequence + 1);
    }
    message_encode_heartbeat(&beat, &body, &size);
    return put_signed(out, sender, FRAME_HEARTBEAT, NULL, body, size);
}

static void seal_manifest(unsigned sender, unsigned transfer, uint64_t sequence, uint8_t **bytes, size_t *size)
{
    struct manifest_head head = {.sequence = sequence, .time_ns = TIME_NS, .origin_user = "alice"};
    struct manifest_entry entry;
    char name[16], path[64];
    uint8_t *body;
    size_t body_size;
    name_transfer(transfer, head.transfer_id, name);
    memset(head.chain_id, (int)(0xc0 + sender), CHAIN_ID_SIZE);
    if (sequence > 1)
        memset(head.previous_hash, 1, SHA256_SIZE);
    struct manifest_writer *writer = manifest_writer_create("fuzz", name);
    for (unsigned i = 0; entry_of(transfer, i, path, &entry); i++) {
        manifest_writer_add(writer, &entry);
        if (entry.size > CHUNK_SIZE) {
            static const uint8_t hashes[2 * CHUNK_HASH_SIZE];
            manifest_writer_add_chunk_hashes(writer, hashes, 2);
        }
    }
    manifest_writer_finish(writer, &head, &body, &body_size);
    manifest_writer_destroy(writer);
    signed_encode(world_key(sender), body, body_size, "fuzzed", bytes, size, NULL);
    free(body);
}

size_t frames_manifest(uint8_t *out, unsigned sender, unsigned transfer, uint64_t sequence, unsigned half)
{
    uint8_t id[TRANSFER_ID_SIZE], *bytes;
    char name[16];
    size_t size;
    name_transfer(transfer, id, name);
    seal_manifest(sender, transfer, sequence, &bytes, &size);
    struct frame_manifest part = {.transfer_id = id, .total = (uint32_t)size, .lanes = WORLD_LANES};
    part.offset = half == 2 ? (uint32_t)size / 2 : 0;
    part.size = half == 1 ? (uint32_t)size / 2 : (uint32_t)size - part.offset;
    part.watermark[0] = part.watermark[1] = 4;
    assert(frame_manifest_overhead(part.lanes) + part.size <= FRAMES_SIZE_MAX);
    size_t written = frame_write_manifest(out, &part);
    memcpy(out + written, bytes + part.offset, part.size);
    free(bytes);
    return written + part.size;
}

size_t frames_data(uint8_t *out, unsigned transfer, struct mutate *mutate)
{
    uint8_t id[TRANSFER_ID_SIZE];
    char name[16], path[64];
    struct manifest_entry entry;
    size_t size = 0;
    uint32_t artifact = 0;
    name_transfer(transfer, id, name);
    for (unsigned i = 0; entry_of(transfer, i, path, &entry); i++) {
        if (entry.kind != MANIFEST_FILE)
            continue;
        struct frame_data data = {.transfer_id = id, .artifact = artifact++, .artifact_size = entry.size};
        data.offset = entry.size > PIECE_MAX ? mutate_below(mutate, entry.size / 4096) * 4096 : 0;
        data.size = (uint32_t)(entry.size - data.offset < PIECE_MAX ? entry.size - data.offset : PIECE_MAX);
        if (data.size == 0 || size + frame_data_overhead() + data.size > FRAMES_SIZE_MAX)
            continue;
        size += frame_write_data(out + size, &data);
        memset(out + size, (int)(transfer + artifact), data.size);
        size += data.size;
    }
    return size;
}

size_t frames_unknown(uint8_t *out, unsigned transfer, struct mutate *mutate)
{
    uint8_t id[TRANSFER_ID_SIZE];
    char name[16];
    static const uint8_t message[8];
    name_transfer(transfer, id, name);
    size_t size = frame_write_signed(out, FRAME_ABORT, id, message, sizeof message);
    out[0] = (uint8_t)(6 + mutate_below(mutate, 250)); /* a type of later versions */
    out[1] |= (uint8_t)mutate_below(mutate, 2);
    return size;
}
