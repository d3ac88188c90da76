// SPDX-License-Identifier: Apache-2.0
#include "proto/frame.h"

#include <assert.h>
#include <string.h>

#include "proto/wire.h"

enum {
    AT_TYPE = 0,
    AT_FLAGS = 1,
    AT_RESERVED = 2,
    AT_BODY_SIZE = 4,

    /* Inside the body of DATA. */
    AT_DATA_ARTIFACT = TRANSFER_ID_SIZE,
    AT_DATA_RESERVED = TRANSFER_ID_SIZE + 4,
    AT_DATA_ARTIFACT_SIZE = TRANSFER_ID_SIZE + 8,
    AT_DATA_OFFSET = TRANSFER_ID_SIZE + 16,

    /* Inside the body of MANIFEST. */
    AT_MANIFEST_TOTAL = TRANSFER_ID_SIZE,
    AT_MANIFEST_OFFSET = TRANSFER_ID_SIZE + 4,
    AT_MANIFEST_LANES = TRANSFER_ID_SIZE + 8,
    AT_MANIFEST_COPY = TRANSFER_ID_SIZE + 10,
    AT_MANIFEST_RESERVED = TRANSFER_ID_SIZE + 12,
};

_Static_assert(AT_BODY_SIZE + 4 == FRAME_HEADER_SIZE, "the body follows its length");
_Static_assert(AT_DATA_OFFSET + 8 == FRAME_DATA_FIXED_SIZE, "the bytes follow the offset");
_Static_assert(AT_MANIFEST_RESERVED + 4 == FRAME_MANIFEST_FIXED_SIZE, "the watermarks follow the reserved field");
_Static_assert((uint64_t)LIMIT_MANIFEST_SIZE + LIMIT_SIGNED_OVERHEAD <= UINT32_MAX, "totals have 32 bits");

enum { MANIFEST_TOTAL_MAX = LIMIT_MANIFEST_SIZE + LIMIT_SIGNED_OVERHEAD };

enum frame_result frame_next(const uint8_t *payload, size_t size, size_t *position, struct frame *frame)
{
    assert(*position <= size);
    const uint8_t *at = payload + *position;
    size_t left = size - *position;

    if (left == 0 || at[AT_TYPE] == FRAME_PADDING)
        return FRAME_END;
    if (left < FRAME_HEADER_SIZE || get16(at + AT_RESERVED) != 0)
        return FRAME_MALFORMED;
    uint32_t body_size = get32(at + AT_BODY_SIZE);
    if (body_size > left - FRAME_HEADER_SIZE)
        return FRAME_MALFORMED;
    bool of_transfer = (at[AT_FLAGS] & FRAME_FLAG_TRANSFER) != 0;
    if (of_transfer && body_size < TRANSFER_ID_SIZE)
        return FRAME_MALFORMED;

    *frame = (struct frame){
        .type = at[AT_TYPE],
        .flags = at[AT_FLAGS],
        .transfer_id = of_transfer ? at + FRAME_HEADER_SIZE : NULL,
        .body = at + FRAME_HEADER_SIZE,
        .body_size = body_size,
    };
    *position += FRAME_HEADER_SIZE + body_size;
    return FRAME_OK;
}

static bool data_is_legal(const struct frame_data *data)
{
    if (data->artifact >= LIMIT_ARTIFACTS || data->artifact_size > LIMIT_ARTIFACT_SIZE || data->size == 0)
        return false;
    if (data->offset > data->artifact_size || data->size > data->artifact_size - data->offset)
        return false;
    return data->offset / CHUNK_SIZE == (data->offset + data->size - 1) / CHUNK_SIZE;
}

bool frame_parse_data(const struct frame *frame, struct frame_data *data)
{
    const uint8_t *body = frame->body;

    if (frame->type != FRAME_DATA || frame->transfer_id == NULL || frame->body_size <= FRAME_DATA_FIXED_SIZE ||
        get32(body + AT_DATA_RESERVED) != 0)
        return false;
    *data = (struct frame_data){
        .transfer_id = frame->transfer_id,
        .artifact = get32(body + AT_DATA_ARTIFACT),
        .artifact_size = get64(body + AT_DATA_ARTIFACT_SIZE),
        .offset = get64(body + AT_DATA_OFFSET),
        .bytes = body + FRAME_DATA_FIXED_SIZE,
        .size = frame->body_size - FRAME_DATA_FIXED_SIZE,
    };
    return data_is_legal(data);
}

static bool manifest_is_legal(const struct frame_manifest *manifest)
{
    if (manifest->total == 0 || manifest->total > MANIFEST_TOTAL_MAX || manifest->size == 0)
        return false;
    return manifest->offset <= manifest->total && manifest->size <= manifest->total - manifest->offset;
}

bool frame_parse_manifest(const struct frame *frame, struct frame_manifest *manifest)
{
    const uint8_t *body = frame->body;

    if (frame->type != FRAME_MANIFEST || frame->transfer_id == NULL || frame->body_size <= FRAME_MANIFEST_FIXED_SIZE ||
        get32(body + AT_MANIFEST_RESERVED) != 0)
        return false;
    uint16_t lanes = get16(body + AT_MANIFEST_LANES);
    if (lanes < 1 || lanes > LIMIT_LANES)
        return false;
    uint32_t fixed = FRAME_MANIFEST_FIXED_SIZE + 8u * lanes;
    if (frame->body_size <= fixed)
        return false;
    *manifest = (struct frame_manifest){
        .transfer_id = frame->transfer_id,
        .total = get32(body + AT_MANIFEST_TOTAL),
        .offset = get32(body + AT_MANIFEST_OFFSET),
        .copy = get16(body + AT_MANIFEST_COPY),
        .lanes = lanes,
        .bytes = body + fixed,
        .size = frame->body_size - fixed,
    };
    for (unsigned i = 0; i < lanes; i++)
        manifest->watermark[i] = get64(body + FRAME_MANIFEST_FIXED_SIZE + 8 * i);
    return manifest_is_legal(manifest);
}

/* Whether a frame of this type carries a Signed message, and whether a transfer id stands in front of it. */
static bool carries_signed(uint8_t type, bool *of_transfer)
{
    *of_transfer = type == FRAME_ANNOUNCE || type == FRAME_ABORT;
    return *of_transfer || type == FRAME_HEARTBEAT || type == FRAME_KEY;
}

bool frame_parse_signed(const struct frame *frame, const uint8_t **bytes, uint32_t *size)
{
    bool of_transfer;

    if (!carries_signed(frame->type, &of_transfer) || of_transfer != (frame->transfer_id != NULL))
        return false;
    uint32_t id_size = of_transfer ? TRANSFER_ID_SIZE : 0;
    if (frame->body_size <= id_size || frame->body_size - id_size > LIMIT_MESSAGE_SIZE + LIMIT_SIGNED_OVERHEAD)
        return false;
    *bytes = frame->body + id_size;
    *size = frame->body_size - id_size;
    return true;
}

size_t frame_data_overhead(void)
{
    return FRAME_HEADER_SIZE + FRAME_DATA_FIXED_SIZE;
}

size_t frame_manifest_overhead(uint16_t lanes)
{
    return FRAME_HEADER_SIZE + FRAME_MANIFEST_FIXED_SIZE + (size_t)8 * lanes;
}

static uint8_t *write_header(uint8_t *out, enum frame_type type, unsigned flags, size_t body_size)
{
    assert(body_size <= UINT32_MAX);
    out[AT_TYPE] = (uint8_t)type;
    out[AT_FLAGS] = (uint8_t)flags;
    put16(out + AT_RESERVED, 0);
    put32(out + AT_BODY_SIZE, (uint32_t)body_size);
    return out + FRAME_HEADER_SIZE;
}

size_t frame_write_data(uint8_t *out, const struct frame_data *data)
{
    assert(data_is_legal(data));
    uint8_t *body = write_header(out, FRAME_DATA, FRAME_FLAG_CRITICAL | FRAME_FLAG_TRANSFER,
                                 (size_t)FRAME_DATA_FIXED_SIZE + data->size);
    memcpy(body, data->transfer_id, TRANSFER_ID_SIZE);
    put32(body + AT_DATA_ARTIFACT, data->artifact);
    put32(body + AT_DATA_RESERVED, 0);
    put64(body + AT_DATA_ARTIFACT_SIZE, data->artifact_size);
    put64(body + AT_DATA_OFFSET, data->offset);
    return frame_data_overhead();
}

size_t frame_write_manifest(uint8_t *out, const struct frame_manifest *manifest)
{
    assert(manifest_is_legal(manifest));
    assert(manifest->lanes >= 1 && manifest->lanes <= LIMIT_LANES);
    size_t overhead = frame_manifest_overhead(manifest->lanes);
    uint8_t *body = write_header(out, FRAME_MANIFEST, FRAME_FLAG_CRITICAL | FRAME_FLAG_TRANSFER,
                                 overhead - FRAME_HEADER_SIZE + manifest->size);
    memcpy(body, manifest->transfer_id, TRANSFER_ID_SIZE);
    put32(body + AT_MANIFEST_TOTAL, manifest->total);
    put32(body + AT_MANIFEST_OFFSET, manifest->offset);
    put16(body + AT_MANIFEST_LANES, manifest->lanes);
    put16(body + AT_MANIFEST_COPY, manifest->copy);
    put32(body + AT_MANIFEST_RESERVED, 0);
    for (unsigned i = 0; i < manifest->lanes; i++)
        put64(body + FRAME_MANIFEST_FIXED_SIZE + 8 * i, manifest->watermark[i]);
    return overhead;
}

size_t frame_write_signed(uint8_t *out, enum frame_type type, const uint8_t *transfer_id, const uint8_t *bytes,
                          uint32_t size)
{
    bool of_transfer;
    bool legal = carries_signed((uint8_t)type, &of_transfer);

    assert(legal && of_transfer == (transfer_id != NULL));
    assert(size > 0 && size <= LIMIT_MESSAGE_SIZE + LIMIT_SIGNED_OVERHEAD);
    size_t total = frame_signed_size(transfer_id, size);
    uint8_t *body = write_header(out, type, of_transfer ? FRAME_FLAG_TRANSFER : 0, total - FRAME_HEADER_SIZE);
    if (of_transfer) {
        memcpy(body, transfer_id, TRANSFER_ID_SIZE);
        body += TRANSFER_ID_SIZE;
    }
    memcpy(body, bytes, size);
    return total;
}

size_t frame_signed_size(const uint8_t *transfer_id, uint32_t size)
{
    return FRAME_HEADER_SIZE + (transfer_id != NULL ? (size_t)TRANSFER_ID_SIZE : 0) + size;
}
