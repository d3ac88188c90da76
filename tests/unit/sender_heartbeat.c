// SPDX-License-Identifier: Apache-2.0
#include "sender/heartbeat.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "proto/frame.h"
#include "proto/message.h"
#include "proto/signed.h"

enum { EPOCH = 77 };

static const uint8_t chain_id[CHAIN_ID_SIZE] = {9, 8, 7};
static const uint8_t hash_of_5[SHA256_SIZE] = {5}, hash_of_6[SHA256_SIZE] = {6};
static const struct config config = {.lanes = 2,
                                     .source_symbols = 128,
                                     .repair_symbols = 16,
                                     .symbol_size = 1376,
                                     .depth = 51,
                                     .rate_bits_per_s = 1000000000};
static struct signature_key *key;
static struct heartbeat *heartbeat;
static uint8_t payload[HEARTBEAT_PAYLOAD_SIZE];
static uint16_t symbol_size;

static int setup(void **state)
{
    (void)state;
    assert_int_equal(signature_init(), STATUS_OK);
    key = signature_key_from_seed((const uint8_t[32]){3});
    heartbeat = heartbeat_create(&config, key, chain_id, EPOCH, 5, hash_of_5);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    heartbeat_destroy(heartbeat);
    signature_key_destroy(key);
    return 0;
}

static void transfer_id(unsigned number, uint8_t id[static TRANSFER_ID_SIZE])
{
    memset(id, 0, TRANSFER_ID_SIZE);
    memcpy(id, &number, sizeof number);
}

static void enter(unsigned number, uint64_t sequence)
{
    uint8_t id[TRANSFER_ID_SIZE];
    transfer_id(number, id);
    heartbeat_entered(heartbeat, id, sequence);
}

/* Builds a beat, checks frame and signature, and decodes it. */
static struct message_heartbeat beat(bool padded)
{
    struct message_heartbeat decoded;
    memset(payload, 0xee, sizeof payload);
    uint8_t k = heartbeat_build(heartbeat, padded, 1234, payload, &symbol_size);
    assert_true(k >= 1 && symbol_size % LIMIT_SYMBOL_ALIGNMENT == 0);
    size_t size = (size_t)k * symbol_size, position = 0;
    struct frame frame;
    const uint8_t *bytes;
    uint32_t signed_size;
    assert_int_equal(frame_next(payload, size, &position, &frame), FRAME_OK);
    assert_true(frame_parse_signed(&frame, &bytes, &signed_size));
    for (size_t i = position; i < size; i++)
        assert_int_equal(payload[i], 0);
    assert_int_equal(payload[size], 0xee);
    struct signed_message message;
    assert_int_equal(signed_decode(bytes, signed_size, LIMIT_MESSAGE_SIZE, &message), STATUS_OK);
    assert_true(signature_verify(signature_key_public(key), message.body, message.body_size, &message.signature));
    assert_int_equal(message_decode_heartbeat(message.body, message.body_size, &decoded), STATUS_OK);
    signed_message_deinit(&message);
    return decoded;
}

static void beat_says_who_and_what(void **state)
{
    (void)state;
    heartbeat_set_queue(heartbeat, 12, 3456);
    struct message_heartbeat first = beat(false), second = beat(false);
    assert_int_equal(first.sender_id, signature_sender_id(signature_key_public(key)));
    assert_memory_equal(first.chain_id, chain_id, CHAIN_ID_SIZE);
    assert_memory_equal(first.newest_hash, hash_of_5, SHA256_SIZE);
    assert_int_equal(first.epoch, EPOCH);
    assert_int_equal(first.beat, 1);
    assert_int_equal(second.beat, 2);
    assert_int_equal(first.time_ns, 1234);
    assert_int_equal(first.newest_sequence, 5);
    assert_int_equal(first.settled_sequence, 5);
    assert_int_equal(first.in_flight_count, 0);
    assert_int_equal(first.queue_depth, 12);
    assert_int_equal(first.queue_bytes, 3456);
    assert_int_equal(first.lanes, 2);
    assert_int_equal(first.source_symbols, 128);
    assert_int_equal(first.repair_symbols, 16);
    assert_int_equal(first.symbol_size, 1376);
    assert_int_equal(first.depth, 51);
    assert_int_equal(first.rate_bits_per_second, 1000000000);
    assert_true(symbol_size < 1376);
}

static void what_will_be_healed_is_said_as_far_as_it_exists(void **state)
{
    (void)state;
    struct message_range ranges[LIMIT_HEALING_RANGES + 3] = {{0, 2}, {4, 9}, {6, 7}};
    for (size_t i = 3; i < sizeof ranges / sizeof *ranges; i++)
        ranges[i] = (struct message_range){3, 3};
    heartbeat_set_healing(heartbeat, ranges, 3);
    struct message_heartbeat decoded = beat(false);
    assert_int_equal(decoded.healing_count, 2);
    assert_int_equal(decoded.healing[0].first, 1);
    assert_int_equal(decoded.healing[0].last, 2);
    assert_int_equal(decoded.healing[1].first, 4);
    assert_int_equal(decoded.healing[1].last, 5);
    heartbeat_set_healing(heartbeat, ranges, sizeof ranges / sizeof *ranges);
    assert_int_equal(beat(true).healing_count, LIMIT_HEALING_RANGES);
    heartbeat_set_healing(heartbeat, NULL, 0);
    assert_int_equal(beat(false).healing_count, 0);
}

static void settled_stops_in_front_of_the_oldest_that_is_not_sent(void **state)
{
    (void)state;
    uint8_t id[TRANSFER_ID_SIZE];
    enter(1, 4);
    enter(2, 0);
    assert_int_equal(beat(false).settled_sequence, 3);
    transfer_id(2, id);
    heartbeat_sealed(heartbeat, id, 6, hash_of_6);
    struct message_heartbeat decoded = beat(false);
    assert_int_equal(decoded.newest_sequence, 6);
    assert_memory_equal(decoded.newest_hash, hash_of_6, SHA256_SIZE);
    assert_int_equal(decoded.settled_sequence, 3);
    assert_int_equal(decoded.in_flight_count, 2);
    assert_memory_equal(decoded.in_flight[1].transfer_id, id, TRANSFER_ID_SIZE);
    assert_int_equal(decoded.in_flight[1].sequence, 6);
    transfer_id(1, id);
    heartbeat_left(heartbeat, id);
    assert_int_equal(beat(false).settled_sequence, 5);
    transfer_id(2, id);
    heartbeat_left(heartbeat, id);
    assert_int_equal(beat(false).settled_sequence, 6);
}

static void unsealed_transfers_do_not_hold_settled_back(void **state)
{
    (void)state;
    enter(1, 0);
    assert_int_equal(heartbeat_settled_sequence(heartbeat), 5);
}

static void only_the_first_sixteen_are_listed(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 5000; i++)
        enter(i, 0);
    assert_int_equal(beat(false).in_flight_count, LIMIT_IN_FLIGHT);
    for (unsigned i = 0; i < 4999; i++) {
        uint8_t id[TRANSFER_ID_SIZE];
        transfer_id(i, id);
        heartbeat_left(heartbeat, id);
    }
    assert_int_equal(beat(false).in_flight_count, 1);
}

static void padded_beat_fills_the_symbol(void **state)
{
    (void)state;
    struct message_heartbeat decoded = beat(true);
    assert_int_equal(symbol_size, 1376);
    assert_true(decoded.padding_size > 800);
}

static void beat_of_any_size_fits_any_symbol(void **state)
{
    (void)state;
    static const uint16_t sizes[] = {64, 128, 512, 8896, 9216};
    for (unsigned i = 0; i < 16; i++)
        enter(i, 0);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct config other = config;
        other.symbol_size = sizes[i];
        struct heartbeat *kept = heartbeat;
        heartbeat = heartbeat_create(&other, key, chain_id, EPOCH, 5, hash_of_5);
        for (unsigned t = 0; t < 16; t++)
            enter(t, 5);
        assert_int_equal(beat(false).in_flight_count, 16);
        assert_true(symbol_size <= sizes[i]);
        assert_int_equal(beat(true).in_flight_count, 16);
        assert_int_equal(symbol_size, sizes[i]);
        heartbeat_destroy(heartbeat);
        heartbeat = kept;
    }
}

/* The announcement in the block of the next beat; false when there is none. */
static bool next_key(bool padded, struct message_key *announced)
{
    struct frame frame;
    struct signed_message message;
    size_t position = 0;
    const uint8_t *bytes;
    uint32_t size;
    size_t k = heartbeat_build(heartbeat, padded, 1234, payload, &symbol_size);
    assert_int_equal(frame_next(payload, k * symbol_size, &position, &frame), FRAME_OK);
    assert_int_equal(frame.type, FRAME_HEARTBEAT);
    if (frame_next(payload, k * symbol_size, &position, &frame) != FRAME_OK)
        return false;
    assert_int_equal(frame.type, FRAME_KEY);
    assert_int_equal(frame.flags, 0);
    assert_true(frame_parse_signed(&frame, &bytes, &size));
    assert_int_equal(signed_decode(bytes, size, LIMIT_MESSAGE_SIZE, &message), STATUS_OK);
    assert_true(signature_verify(signature_key_public(key), message.body, message.body_size, &message.signature));
    assert_int_equal(message_decode_key(message.body, message.body_size, announced), STATUS_OK);
    signed_message_deinit(&message);
    return true;
}

static void the_next_key_is_announced_once_a_minute_on_beats_with_room(void **state)
{
    (void)state;
    struct heartbeat *kept = heartbeat;
    struct message_key announced;
    struct config other = config;
    other.has_next_key = true;
    memset(other.next_key.key_id, 0x11, sizeof other.next_key.key_id);
    memset(other.next_key.key, 0x22, sizeof other.next_key.key);
    heartbeat = heartbeat_create(&other, key, chain_id, EPOCH, 5, hash_of_5);
    assert_false(next_key(true, &announced));
    assert_true(next_key(false, &announced));
    assert_memory_equal(&announced.key, &other.next_key, sizeof announced.key);
    assert_int_equal(announced.time_ns, 1234);
    for (unsigned i = 1; i < HEARTBEAT_KEY_EACH * config.lanes; i++)
        assert_false(next_key(false, &announced));
    assert_true(next_key(false, &announced));
    heartbeat_destroy(heartbeat);
    heartbeat = kept;
    assert_false(next_key(false, &announced));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(beat_says_who_and_what, setup, teardown),
        cmocka_unit_test_setup_teardown(what_will_be_healed_is_said_as_far_as_it_exists, setup, teardown),
        cmocka_unit_test_setup_teardown(settled_stops_in_front_of_the_oldest_that_is_not_sent, setup, teardown),
        cmocka_unit_test_setup_teardown(unsealed_transfers_do_not_hold_settled_back, setup, teardown),
        cmocka_unit_test_setup_teardown(only_the_first_sixteen_are_listed, setup, teardown),
        cmocka_unit_test_setup_teardown(padded_beat_fills_the_symbol, setup, teardown),
        cmocka_unit_test_setup_teardown(beat_of_any_size_fits_any_symbol, setup, teardown),
        cmocka_unit_test_setup_teardown(the_next_key_is_announced_once_a_minute_on_beats_with_room, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
