// SPDX-License-Identifier: Apache-2.0
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/checksum.h"
#include "common/digest.h"
#include "proto/manifest.h"
#include "proto/message.h"
#include "proto/signed.h"
#include "tests/sim/sim.h"

static struct manifest_writer *write_statement(const struct sim_transfer *transfer)
{
    struct manifest_writer *writer = manifest_writer_create(transfer->channel, transfer->name);
    for (size_t i = 0; i < transfer->file_count; i++) {
        const struct sim_file *file = &transfer->files[i];
        struct manifest_entry entry = {
            .path = file->path, .kind = file->kind, .size = file->size, .mtime_ns = SIM_REALTIME_NS};
        if (file->kind == MANIFEST_FILE)
            digest_once(file->bytes, file->size, entry.sha256);
        manifest_writer_add(writer, &entry);
        uint64_t chunks = file->kind == MANIFEST_FILE ? manifest_chunk_count(file->size) : 0;
        if (chunks < 2)
            continue;
        uint8_t hashes[2][CHUNK_HASH_SIZE];
        assert(chunks == 2);
        checksum128(file->bytes, CHUNK_SIZE, hashes[0]);
        checksum128(file->bytes + CHUNK_SIZE, file->size - CHUNK_SIZE, hashes[1]);
        manifest_writer_add_chunk_hashes(writer, hashes[0], 2);
    }
    return writer;
}

void sim_seal(struct sim_world *world, struct sim_transfer *transfer)
{
    struct manifest_head head = {.sequence = world->newest_sequence + 1, .time_ns = SIM_REALTIME_NS};
    uint8_t *body;
    size_t body_size;
    memcpy(head.chain_id, world->chain_id, CHAIN_ID_SIZE);
    memcpy(head.previous_hash, world->newest_hash, SHA256_SIZE);
    memcpy(head.transfer_id, transfer->id, TRANSFER_ID_SIZE);
    snprintf(head.origin_user, sizeof head.origin_user, "alice");
    struct manifest_writer *writer = write_statement(transfer);
    manifest_writer_finish(writer, &head, &body, &body_size);
    manifest_writer_destroy(writer);
    world->newest_sequence++;
    digest_once(body, body_size, world->newest_hash);
    signed_encode(world->key, body, body_size, "simulated", &transfer->signed_bytes, &transfer->signed_size, NULL);
    free(body);
    transfer->sequence = world->newest_sequence;
    sim_say(world, "%s sealed as %llu", transfer->name, (unsigned long long)transfer->sequence);
}

void sim_seal_abort(const struct sim_world *world, const struct sim_transfer *transfer, uint8_t **signed_bytes,
                    size_t *signed_size)
{
    struct message_abort message = {.time_ns = SIM_REALTIME_NS};
    uint8_t *body;
    size_t body_size;
    memcpy(message.transfer_id, transfer->id, TRANSFER_ID_SIZE);
    message_abort_reason(&message, "changed while it was read");
    message_encode_abort(&message, &body, &body_size);
    signed_encode(world->key, body, body_size, NULL, signed_bytes, signed_size, NULL);
    free(body);
}
