// SPDX-License-Identifier: Apache-2.0
#include <assert.h>
#include <string.h>

#include "proto/frame.h"
#include "tests/fuzz/mutate.h"

static volatile uint8_t sink;

/* Reads every byte of a view, so that the sanitizer sees one that leaves the payload. */
static void touch(const uint8_t *payload, size_t payload_size, const uint8_t *view, size_t size)
{
    assert(view >= payload && size <= payload_size && (size_t)(view - payload) <= payload_size - size);
    for (size_t i = 0; i < size; i++)
        sink = view[i];
}

static void check_data(const uint8_t *bytes, size_t size, const struct frame *frame, size_t start)
{
    uint8_t again[64];
    struct frame_data data;

    if (!frame_parse_data(frame, &data))
        return;
    touch(bytes, size, data.bytes, data.size);
    assert(data.size > 0 && data.offset + data.size <= data.artifact_size);
    assert(data.offset / CHUNK_SIZE == (data.offset + data.size - 1) / CHUNK_SIZE);
    size_t written = frame_write_data(again, &data);
    again[1] = bytes[start + 1];
    assert(written == frame_data_overhead() && memcmp(again, bytes + start, written) == 0);
}

static void check_manifest(const uint8_t *bytes, size_t size, const struct frame *frame, size_t start)
{
    uint8_t again[FRAME_HEADER_SIZE + FRAME_MANIFEST_FIXED_SIZE + 8 * LIMIT_LANES];
    struct frame_manifest manifest;

    if (!frame_parse_manifest(frame, &manifest))
        return;
    touch(bytes, size, manifest.bytes, manifest.size);
    assert(manifest.size > 0 && (uint64_t)manifest.offset + manifest.size <= manifest.total);
    size_t written = frame_write_manifest(again, &manifest);
    again[1] = bytes[start + 1];
    assert(memcmp(again, bytes + start, written) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    size_t position = 0;
    struct frame frame;

    for (;;) {
        size_t start = position;
        enum frame_result result = frame_next(bytes, size, &position, &frame);
        if (result != FRAME_OK) {
            assert(position == start);
            return 0;
        }
        assert(position >= start + FRAME_HEADER_SIZE && position <= size);
        touch(bytes, size, frame.body, frame.body_size);
        check_data(bytes, size, &frame, start);
        check_manifest(bytes, size, &frame, start);
        const uint8_t *message;
        uint32_t message_size;
        if (frame_parse_signed(&frame, &message, &message_size))
            touch(bytes, size, message, message_size);
    }
}

size_t LLVMFuzzerCustomMutator(uint8_t *bytes, size_t size, size_t size_max, unsigned seed)
{
    struct mutate mutate = {seed};
    return mutate_frames(&mutate, bytes, size, size_max);
}
