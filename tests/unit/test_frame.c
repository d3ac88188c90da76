// SPDX-License-Identifier: Apache-2.0
#include "proto/frame.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/wire.h"

static const uint8_t id[TRANSFER_ID_SIZE] = {0xa0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

static size_t put_data(uint8_t *out, uint64_t artifact_size, uint64_t offset, const char *text)
{
    struct frame_data data = {
        .transfer_id = id,
        .artifact = 7,
        .artifact_size = artifact_size,
        .offset = offset,
        .size = (uint32_t)strlen(text),
    };
    size_t size = frame_write_data(out, &data);
    assert_int_equal(size, frame_data_overhead());
    memcpy(out + size, text, data.size);
    return size + data.size;
}

static void frames_are_read_back_in_order_and_padding_ends_them(void **state)
{
    (void)state;
    uint8_t payload[512] = {0};
    struct frame frame;
    struct frame_data data;
    struct frame_manifest manifest = {.transfer_id = id, .total = 100, .offset = 90, .copy = 2, .lanes = 3, .size = 10};
    const uint8_t *bytes;
    uint32_t size;

    manifest.watermark[0] = 5;
    manifest.watermark[2] = UINT64_MAX;
    size_t end = put_data(payload, 6, 0, "hello\n");
    end += frame_write_manifest(payload + end, &manifest);
    memcpy(payload + end, "0123456789", 10);
    end += 10;
    end += frame_write_signed(payload + end, FRAME_ANNOUNCE, id, (const uint8_t *)"announce", 8);
    end += frame_write_signed(payload + end, FRAME_HEARTBEAT, NULL, (const uint8_t *)"beat", 4);

    size_t position = 0;
    assert_int_equal(frame_next(payload, sizeof payload, &position, &frame), FRAME_OK);
    assert_true(frame_parse_data(&frame, &data));
    assert_memory_equal(data.transfer_id, id, TRANSFER_ID_SIZE);
    assert_int_equal(data.artifact, 7);
    assert_int_equal(data.artifact_size, 6);
    assert_int_equal(data.size, 6);
    assert_memory_equal(data.bytes, "hello\n", 6);

    assert_int_equal(frame_next(payload, sizeof payload, &position, &frame), FRAME_OK);
    assert_true(frame_parse_manifest(&frame, &manifest));
    assert_int_equal(manifest.total, 100);
    assert_int_equal(manifest.offset, 90);
    assert_int_equal(manifest.copy, 2);
    assert_int_equal(manifest.lanes, 3);
    assert_true(manifest.watermark[0] == 5 && manifest.watermark[1] == 0 && manifest.watermark[2] == UINT64_MAX);
    assert_memory_equal(manifest.bytes, "0123456789", manifest.size);

    assert_int_equal(frame_next(payload, sizeof payload, &position, &frame), FRAME_OK);
    assert_true(frame_parse_signed(&frame, &bytes, &size));
    assert_memory_equal(bytes, "announce", size);
    assert_int_equal(frame_next(payload, sizeof payload, &position, &frame), FRAME_OK);
    assert_null(frame.transfer_id);
    assert_true(frame_parse_signed(&frame, &bytes, &size));
    assert_memory_equal(bytes, "beat", size);
    assert_int_equal(position, end);
    assert_int_equal(frame_next(payload, sizeof payload, &position, &frame), FRAME_END);
    assert_int_equal(frame_next(payload, end, &position, &frame), FRAME_END);
}

static void every_truncation_ends_in_malformed(void **state)
{
    (void)state;
    uint8_t whole[128];
    struct frame frame;
    size_t end = put_data(whole, 6, 0, "hello\n");

    for (size_t size = 1; size < end; size++) {
        uint8_t *payload = malloc(size);
        size_t position = 0;
        assert_non_null(payload);
        memcpy(payload, whole, size);
        assert_int_equal(frame_next(payload, size, &position, &frame), FRAME_MALFORMED);
        assert_int_equal(position, 0);
        free(payload);
    }
}

static void lengths_that_overflow_are_malformed(void **state)
{
    (void)state;
    static const uint32_t lengths[] = {UINT32_MAX, UINT32_MAX - 7, UINT32_MAX - 8, 0x80000000u, 0x7fffffffu,
                                       57,         56 - 7};
    uint8_t payload[64] = {FRAME_HEARTBEAT};
    struct frame frame;

    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        size_t position = 0;
        put32(payload + 4, lengths[i]);
        assert_int_equal(frame_next(payload, sizeof payload, &position, &frame),
                         lengths[i] <= 56 ? FRAME_OK : FRAME_MALFORMED);
    }
}

static void a_reserved_field_that_is_set_is_malformed(void **state)
{
    (void)state;
    uint8_t payload[64] = {FRAME_HEARTBEAT, 0, 1, 0, 4};
    struct frame frame;
    size_t position = 0;

    assert_int_equal(frame_next(payload, sizeof payload, &position, &frame), FRAME_MALFORMED);
}

static void a_transfer_frame_without_room_for_the_id_is_malformed(void **state)
{
    (void)state;
    uint8_t payload[64] = {77, FRAME_FLAG_TRANSFER, 0, 0, TRANSFER_ID_SIZE - 1};
    struct frame frame;
    size_t position = 0;

    assert_int_equal(frame_next(payload, sizeof payload, &position, &frame), FRAME_MALFORMED);
}

static void an_unknown_type_is_stepped_over_with_its_flags_and_id(void **state)
{
    (void)state;
    uint8_t payload[64] = {200, FRAME_FLAG_CRITICAL | FRAME_FLAG_TRANSFER | 0x80, 0, 0, 20};
    struct frame frame;
    size_t position = 0;

    memcpy(payload + 8, id, sizeof id);
    assert_int_equal(frame_next(payload, sizeof payload, &position, &frame), FRAME_OK);
    assert_int_equal(frame.type, 200);
    assert_true((frame.flags & FRAME_FLAG_CRITICAL) != 0);
    assert_ptr_equal(frame.transfer_id, payload + 8);
    assert_int_equal(position, 28);
}

struct data_case {
    uint32_t artifact;
    uint32_t reserved;
    uint64_t artifact_size;
    uint64_t offset;
    uint32_t size;
    bool legal;
};

static void data_outside_its_artifact_or_chunk_is_refused(void **state)
{
    (void)state;
    static const struct data_case cases[] = {
        {0, 0, 10, 0, 10, true},
        {0, 0, 10, 9, 1, true},
        {0, 0, 10, 9, 2, false},
        {0, 0, 10, 10, 1, false},
        {0, 0, 10, 11, 1, false},
        {0, 0, 10, UINT64_MAX, 1, false},
        {0, 0, 10, UINT64_MAX - 5, 10, false},
        {0, 0, 10, 0, 0, false},
        {0, 0, 0, 0, 1, false},
        {0, 1, 10, 0, 10, false},
        {LIMIT_ARTIFACTS - 1, 0, 10, 0, 10, true},
        {LIMIT_ARTIFACTS, 0, 10, 0, 10, false},
        {UINT32_MAX, 0, 10, 0, 10, false},
        {0, 0, LIMIT_ARTIFACT_SIZE, LIMIT_ARTIFACT_SIZE - 4, 4, true},
        {0, 0, LIMIT_ARTIFACT_SIZE + 1, 0, 4, false},
        {0, 0, UINT64_MAX, UINT64_MAX - 4, 4, false},
        {0, 0, 2 * CHUNK_SIZE, CHUNK_SIZE - 4, 4, true},
        {0, 0, 2 * CHUNK_SIZE, CHUNK_SIZE - 4, 5, false},
        {0, 0, 2 * CHUNK_SIZE, CHUNK_SIZE, 5, true},
    };
    uint8_t payload[256] = {FRAME_DATA, FRAME_FLAG_TRANSFER};
    struct frame frame;
    struct frame_data data;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct data_case *c = &cases[i];
        size_t position = 0;
        put32(payload + 4, FRAME_DATA_FIXED_SIZE + c->size);
        put32(payload + 24, c->artifact);
        put32(payload + 28, c->reserved);
        put64(payload + 32, c->artifact_size);
        put64(payload + 40, c->offset);
        assert_int_equal(frame_next(payload, sizeof payload, &position, &frame), FRAME_OK);
        assert_int_equal(frame_parse_data(&frame, &data), c->legal);
    }
}

struct manifest_case {
    uint32_t total, offset, size;
    uint16_t lanes;
    uint32_t reserved;
    bool legal;
};

static void manifest_parts_outside_the_whole_are_refused(void **state)
{
    (void)state;
    enum { MOST = LIMIT_MANIFEST_SIZE + LIMIT_SIGNED_OVERHEAD };
    static const struct manifest_case cases[] = {
        {100, 0, 100, 1, 0, true},          {100, 99, 1, 1, 0, true},
        {100, 100, 1, 1, 0, false},         {100, 99, 2, 1, 0, false},
        {100, 101, 1, 1, 0, false},         {100, UINT32_MAX, 1, 1, 0, false},
        {100, 0, 0, 1, 0, false},           {0, 0, 1, 1, 0, false},
        {MOST, MOST - 1, 1, 1, 0, true},    {MOST + 1, 0, 1, 1, 0, false},
        {UINT32_MAX, 0, 1, 1, 0, false},    {100, 0, 50, 0, 0, false},
        {100, 0, 50, LIMIT_LANES, 0, true}, {100, 0, 50, LIMIT_LANES + 1, 0, false},
        {100, 0, 50, 0xffff, 0, false},     {100, 0, 50, 1, 1, false},
    };
    uint8_t payload[512] = {FRAME_MANIFEST, FRAME_FLAG_TRANSFER};
    struct frame frame;
    struct frame_manifest manifest;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct manifest_case *c = &cases[i];
        size_t position = 0;
        unsigned lanes = c->lanes < 20 ? c->lanes : 20;
        put32(payload + 4, FRAME_MANIFEST_FIXED_SIZE + 8 * lanes + c->size);
        put32(payload + 24, c->total);
        put32(payload + 28, c->offset);
        put16(payload + 32, c->lanes);
        put32(payload + 36, c->reserved);
        assert_int_equal(frame_next(payload, sizeof payload, &position, &frame), FRAME_OK);
        assert_int_equal(frame_parse_manifest(&frame, &manifest), c->legal);
    }
}

static void bodies_shorter_than_their_fixed_fields_are_refused(void **state)
{
    (void)state;
    uint8_t payload[128] = {0};
    struct frame frame;
    struct frame_data data;
    struct frame_manifest manifest;

    payload[1] = FRAME_FLAG_TRANSFER;
    for (uint8_t size = TRANSFER_ID_SIZE; size <= FRAME_DATA_FIXED_SIZE; size++) {
        size_t position = 0;
        payload[0] = FRAME_DATA;
        payload[4] = size;
        assert_int_equal(frame_next(payload, sizeof payload, &position, &frame), FRAME_OK);
        assert_false(frame_parse_data(&frame, &data));
        frame.type = FRAME_MANIFEST;
        assert_false(frame_parse_manifest(&frame, &manifest));
    }
}

static void a_known_type_with_the_wrong_transfer_flag_is_refused(void **state)
{
    (void)state;
    uint8_t payload[128] = {FRAME_DATA, 0, 0, 0, 60};
    struct frame frame;
    struct frame_data data;
    struct frame_manifest manifest;
    const uint8_t *bytes;
    uint32_t size;
    size_t position = 0;

    assert_int_equal(frame_next(payload, sizeof payload, &position, &frame), FRAME_OK);
    assert_false(frame_parse_data(&frame, &data));
    frame.type = FRAME_MANIFEST;
    assert_false(frame_parse_manifest(&frame, &manifest));
    frame.type = FRAME_ANNOUNCE;
    assert_false(frame_parse_signed(&frame, &bytes, &size));
    frame.type = FRAME_HEARTBEAT;
    assert_true(frame_parse_signed(&frame, &bytes, &size));
    frame.transfer_id = frame.body;
    assert_false(frame_parse_signed(&frame, &bytes, &size));
    frame.type = FRAME_DATA;
    assert_false(frame_parse_signed(&frame, &bytes, &size));
}

static void a_signed_message_must_not_be_empty_or_over_its_limit(void **state)
{
    (void)state;
    enum { MOST = LIMIT_MESSAGE_SIZE + LIMIT_SIGNED_OVERHEAD };
    static const uint8_t payload[MOST + 64];
    const uint8_t *bytes;
    uint32_t size;
    struct frame frame = {.type = FRAME_ABORT, .transfer_id = payload, .body = payload, .body_size = TRANSFER_ID_SIZE};

    assert_false(frame_parse_signed(&frame, &bytes, &size));
    frame.body_size = TRANSFER_ID_SIZE + MOST;
    assert_true(frame_parse_signed(&frame, &bytes, &size));
    frame.body_size++;
    assert_false(frame_parse_signed(&frame, &bytes, &size));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_are_read_back_in_order_and_padding_ends_them),
        cmocka_unit_test(every_truncation_ends_in_malformed),
        cmocka_unit_test(lengths_that_overflow_are_malformed),
        cmocka_unit_test(a_reserved_field_that_is_set_is_malformed),
        cmocka_unit_test(a_transfer_frame_without_room_for_the_id_is_malformed),
        cmocka_unit_test(an_unknown_type_is_stepped_over_with_its_flags_and_id),
        cmocka_unit_test(data_outside_its_artifact_or_chunk_is_refused),
        cmocka_unit_test(manifest_parts_outside_the_whole_are_refused),
        cmocka_unit_test(bodies_shorter_than_their_fixed_fields_are_refused),
        cmocka_unit_test(a_known_type_with_the_wrong_transfer_flag_is_refused),
        cmocka_unit_test(a_signed_message_must_not_be_empty_or_over_its_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
