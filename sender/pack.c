// SPDX-License-Identifier: Apache-2.0
#include "sender/pack.h"

#include <assert.h>
#include <string.h>

void pack_open(struct pack *pack, uint8_t *payload, size_t capacity)
{
    *pack = (struct pack){.payload = payload, .capacity = capacity};
}

bool pack_signed(struct pack *pack, enum frame_type type, const uint8_t *transfer_id, const uint8_t *bytes,
                 uint32_t size)
{
    if (frame_signed_size(transfer_id, size) > pack->capacity - pack->used)
        return false;
    pack->used += frame_write_signed(pack->payload + pack->used, type, transfer_id, bytes, size);
    return true;
}

/* How much of `left` bytes a frame with `overhead` can take here; 0 when that is not worth a frame. */
static uint32_t piece_size(const struct pack *pack, size_t overhead, uint64_t left)
{
    size_t room = pack->capacity - pack->used;
    if (room <= overhead)
        return 0;
    room -= overhead;
    if (left <= room)
        return (uint32_t)left;
    size_t minimum = pack->capacity / 16 < PACK_PIECE_MIN ? pack->capacity / 16 : PACK_PIECE_MIN;
    return room < minimum ? 0 : (uint32_t)room;
}

uint32_t pack_data(struct pack *pack, const struct frame_data *data, uint8_t **place)
{
    assert(data->offset < data->artifact_size);
    uint64_t left = data->artifact_size - data->offset;
    uint64_t chunk_left = CHUNK_SIZE - data->offset % CHUNK_SIZE;
    struct frame_data piece = *data;
    piece.size = piece_size(pack, frame_data_overhead(), left < chunk_left ? left : chunk_left);
    if (piece.size == 0)
        return 0;
    pack->used += frame_write_data(pack->payload + pack->used, &piece);
    *place = pack->payload + pack->used;
    pack->used += piece.size;
    return piece.size;
}

uint32_t pack_manifest(struct pack *pack, const struct frame_manifest *part)
{
    assert(part->offset < part->total);
    struct frame_manifest piece = *part;
    piece.size = piece_size(pack, frame_manifest_overhead(part->lanes), part->total - part->offset);
    if (piece.size == 0)
        return 0;
    pack->used += frame_write_manifest(pack->payload + pack->used, &piece);
    memcpy(pack->payload + pack->used, part->bytes + part->offset, piece.size);
    pack->used += piece.size;
    return piece.size;
}

uint8_t pack_close(struct pack *pack, uint16_t symbol_size)
{
    size_t k = (pack->used + symbol_size - 1) / symbol_size;
    assert(k <= LIMIT_SOURCE_SYMBOLS && k * symbol_size <= pack->capacity);
    memset(pack->payload + pack->used, 0, k * symbol_size - pack->used);
    return (uint8_t)k;
}
