// SPDX-License-Identifier: Apache-2.0
#include "sender/pack.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/signature.h"
#include "proto/message.h"
#include "proto/signed.h"

enum { K = 32, SYMBOL = 256, CAPACITY = K * SYMBOL };

static const uint8_t id[TRANSFER_ID_SIZE] = {1, 2, 3};
static uint8_t payload[CAPACITY + 64];
static struct pack pack;

static int setup(void **state)
{
    (void)state;
    memset(payload, 0xee, sizeof payload);
    pack_open(&pack, payload, CAPACITY);
    return 0;
}

static uint32_t add_data(uint64_t size, uint64_t offset, uint8_t **place)
{
    const struct frame_data data = {.transfer_id = id, .artifact = 7, .artifact_size = size, .offset = offset};
    return pack_data(&pack, &data, place);
}

static struct frame_data read_data(size_t *position)
{
    struct frame frame;
    struct frame_data data = {0};
    assert_int_equal(frame_next(payload, CAPACITY, position, &frame), FRAME_OK);
    assert_true(frame_parse_data(&frame, &data));
    return data;
}

static void data_is_read_into_its_final_place(void **state)
{
    (void)state;
    uint8_t *place;
    assert_int_equal(add_data(100, 0, &place), 100);
    memset(place, 'a', 100);
    assert_int_equal(add_data(1, 0, &place), 1);
    memset(place, 'b', 1);
    assert_int_equal(pack_close(&pack, SYMBOL), 1);

    size_t position = 0;
    struct frame_data data = read_data(&position);
    assert_int_equal(data.artifact, 7);
    assert_int_equal(data.size, 100);
    assert_int_equal(data.bytes[99], 'a');
    data = read_data(&position);
    assert_int_equal(data.size, 1);
    assert_int_equal(data.bytes[0], 'b');
    struct frame frame;
    assert_int_equal(frame_next(payload, SYMBOL, &position, &frame), FRAME_END);
    for (size_t i = position; i < SYMBOL; i++)
        assert_int_equal(payload[i], 0);
    assert_int_equal(payload[SYMBOL], 0xee);
}

static void data_never_crosses_a_chunk(void **state)
{
    (void)state;
    uint8_t *place;
    assert_int_equal(add_data(3 * (uint64_t)CHUNK_SIZE, CHUNK_SIZE - 10, &place), 10);
    assert_int_equal(add_data(3 * (uint64_t)CHUNK_SIZE, CHUNK_SIZE, &place),
                     CAPACITY - 10 - 2 * (uint32_t)frame_data_overhead());
    assert_int_equal(add_data(1, 0, &place), 0);
    assert_int_equal(pack_close(&pack, SYMBOL), K);
}

static void large_artifact_fills_blocks_to_the_last_byte(void **state)
{
    (void)state;
    uint8_t *place;
    uint64_t offset = 0, size = UINT64_C(300) << 30;
    offset = size - 3 * (uint64_t)CHUNK_SIZE;
    while (offset < size) {
        pack_open(&pack, payload, CAPACITY);
        uint32_t taken;
        while (offset < size && (taken = add_data(size, offset, &place)) > 0)
            offset += taken;
        if (offset < size)
            assert_true(pack.capacity - pack.used < PACK_PIECE_MIN + frame_data_overhead());
    }
    assert_int_equal(offset, size);
}

static void rest_that_is_not_worth_a_frame_stays_empty(void **state)
{
    (void)state;
    uint8_t *place;
    uint32_t first = CAPACITY - (uint32_t)frame_data_overhead() * 2 - 100;
    assert_int_equal(add_data(first, 0, &place), first);
    assert_int_equal(add_data(100000, 0, &place), 0);
    assert_int_equal(add_data(101, 0, &place), 0);
    assert_int_equal(add_data(100, 0, &place), 100);
    assert_int_equal(pack.used, CAPACITY);
}

static void signed_frame_is_never_split(void **state)
{
    (void)state;
    uint8_t bytes[600] = {5}, *place;
    uint32_t room = (uint32_t)frame_signed_size(id, sizeof bytes);
    uint32_t first = CAPACITY - (uint32_t)frame_data_overhead() - room + 1;
    assert_int_equal(add_data(first, 0, &place), first);
    assert_false(pack_signed(&pack, FRAME_ANNOUNCE, id, bytes, sizeof bytes));
    assert_int_equal(pack.used, CAPACITY - room + 1);
    pack_open(&pack, payload, CAPACITY);
    assert_int_equal(add_data(first - 1, 0, &place), first - 1);
    assert_true(pack_signed(&pack, FRAME_ANNOUNCE, id, bytes, sizeof bytes));
    assert_int_equal(pack.used, CAPACITY);
}

static void manifest_parts_join_to_the_whole(void **state)
{
    (void)state;
    enum { TOTAL = 30000 };
    uint8_t *whole = malloc(TOTAL), *joined = calloc(1, TOTAL);
    for (size_t i = 0; i < TOTAL; i++)
        whole[i] = (uint8_t)(i * 7 + i / 251);
    struct frame_manifest part = {
        .transfer_id = id, .total = TOTAL, .lanes = 2, .copy = 1, .watermark = {9, 11}, .bytes = whole};
    while (part.offset < TOTAL) {
        pack_open(&pack, payload, CAPACITY);
        uint32_t taken = pack_manifest(&pack, &part);
        assert_true(taken > 0);
        size_t position = 0;
        struct frame frame;
        struct frame_manifest read;
        assert_int_equal(frame_next(payload, CAPACITY, &position, &frame), FRAME_OK);
        assert_true(frame_parse_manifest(&frame, &read));
        assert_int_equal(read.watermark[1], 11);
        assert_int_equal(read.size, taken);
        memcpy(joined + read.offset, read.bytes, read.size);
        part.offset += taken;
    }
    assert_memory_equal(joined, whole, TOTAL);
    free(whole);
    free(joined);
}

static void many_small_manifests_share_a_block(void **state)
{
    (void)state;
    uint8_t whole[300] = {1};
    const struct frame_manifest part = {.transfer_id = id, .total = sizeof whole, .lanes = 1, .bytes = whole};
    int count = 0;
    while (pack_manifest(&pack, &part) == sizeof whole)
        count++;
    assert_true(count >= CAPACITY / 350 - 1);
}

static void empty_block_has_no_symbols(void **state)
{
    (void)state;
    assert_int_equal(pack_close(&pack, SYMBOL), 0);
}

static void largest_abort_and_announce_fit_the_smallest_capacity(void **state)
{
    (void)state;
    struct message_abort text = {0};
    memset(text.reason, 'r', LIMIT_REASON_LENGTH);
    struct message_announce announce = {
        .total_bytes = LIMIT_TRANSFER_SIZE, .artifact_count = LIMIT_ARTIFACTS, .time_ns = INT64_MAX};
    memset(announce.name, 'n', LIMIT_COMPONENT_LENGTH);
    memset(announce.channel, 'c', LIMIT_CHANNEL_LENGTH);
    assert_int_equal(signature_init(), STATUS_OK);
    struct signature_key *key = signature_key_from_seed((const uint8_t[32]){1});
    for (int i = 0; i < 2; i++) {
        uint8_t *body, *bytes;
        size_t body_size, size;
        if (i == 0)
            message_encode_abort(&text, &body, &body_size);
        else
            message_encode_announce(&announce, 1, &body, &body_size);
        signed_encode(key, body, body_size, NULL, &bytes, &size, NULL);
        assert_true(frame_signed_size(id, (uint32_t)size) <= PACK_CAPACITY_MIN);
        free(body);
        free(bytes);
    }
    signature_key_destroy(key);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(data_is_read_into_its_final_place, setup),
        cmocka_unit_test_setup(data_never_crosses_a_chunk, setup),
        cmocka_unit_test_setup(large_artifact_fills_blocks_to_the_last_byte, setup),
        cmocka_unit_test_setup(rest_that_is_not_worth_a_frame_stays_empty, setup),
        cmocka_unit_test_setup(signed_frame_is_never_split, setup),
        cmocka_unit_test_setup(manifest_parts_join_to_the_whole, setup),
        cmocka_unit_test_setup(many_small_manifests_share_a_block, setup),
        cmocka_unit_test_setup(empty_block_has_no_symbols, setup),
        cmocka_unit_test_setup(largest_abort_and_announce_fit_the_smallest_capacity, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
