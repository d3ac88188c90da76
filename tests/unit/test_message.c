// SPDX-License-Identifier: Apache-2.0
#include "proto/message.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/diodecast.pb-c.h"

static uint8_t sixteen[16] = {1, 2, 3};
static uint8_t digest[SHA256_SIZE] = {4, 5, 6};

static struct message_heartbeat example_beat(void)
{
    struct message_heartbeat beat = {
        .sender_id = 0xdeadbeef,
        .chain_id = {9, 8, 7},
        .epoch = UINT64_C(0x0000000200000001),
        .beat = 17,
        .time_ns = INT64_C(1700000000000000000),
        .newest_sequence = 42,
        .newest_hash = {1},
        .settled_sequence = 41,
        .in_flight_count = 2,
        .in_flight = {{.transfer_id = {1}, .sequence = 42}, {.transfer_id = {2}}},
        .healing_count = 2,
        .healing = {{30, 41}, {1, 1}},
        .queue_depth = 3,
        .queue_bytes = UINT64_C(1) << 40,
        .lanes = 1,
        .source_symbols = 128,
        .repair_symbols = 16,
        .symbol_size = 1392,
        .depth = 51,
        .rate_bits_per_second = 1000000000,
    };
    return beat;
}

static void an_announce_comes_back(void **state)
{
    (void)state;
    struct message_announce in[LIMIT_ANNOUNCED] = {
        {.channel = "models", .name = "größe.bin", .total_bytes = 1, .artifact_count = 1, .time_ns = 7}};
    struct message_announce out[LIMIT_ANNOUNCED];
    uint8_t *bytes;
    size_t size, count;

    memcpy(in[0].transfer_id, sixteen, 16);
    for (size_t i = 1; i < LIMIT_ANNOUNCED; i++) {
        in[i] =
            (struct message_announce){.channel = "c", .total_bytes = i, .artifact_count = (uint32_t)i, .time_ns = 7};
        memset(in[i].name, 'n', i);
        in[i].transfer_id[0] = (uint8_t)i;
    }
    for (size_t told = 1; told <= LIMIT_ANNOUNCED; told += LIMIT_ANNOUNCED - 1) {
        message_encode_announce(in, told, &bytes, &size);
        assert_int_equal(message_decode_announce(bytes, size, out, &count), STATUS_OK);
        assert_int_equal(count, told);
        assert_memory_equal(in, out, told * sizeof *in);
        free(bytes);
    }
}

static void an_abort_comes_back_with_a_cleaned_reason(void **state)
{
    (void)state;
    struct message_abort in = {.time_ns = 5}, out;
    uint8_t *bytes;
    size_t size;
    char text[600];

    memset(text, 'r', sizeof text);
    text[sizeof text - 1] = '\0';
    memcpy(text, "a\nb\xff", 4);
    message_abort_reason(&in, text);
    assert_int_equal(strlen(in.reason), LIMIT_REASON_LENGTH);
    assert_memory_equal(in.reason, "a?b?r", 5);
    message_abort_reason(&in, "größe changed");
    assert_string_equal(in.reason, "größe changed");
    message_encode_abort(&in, &bytes, &size);
    assert_int_equal(message_decode_abort(bytes, size, &out), STATUS_OK);
    assert_string_equal(out.reason, in.reason);
    assert_int_equal(out.time_ns, 5);
    free(bytes);
}

static void a_heartbeat_comes_back_with_its_lists_and_padding(void **state)
{
    (void)state;
    struct message_heartbeat in = example_beat(), out;
    uint8_t *bytes;
    size_t size;

    in.padding_size = 1000;
    message_encode_heartbeat(&in, &bytes, &size);
    assert_true(size > 1000);
    assert_int_equal(message_decode_heartbeat(bytes, size, &out), STATUS_OK);
    assert_int_equal(out.sender_id, in.sender_id);
    assert_true(out.epoch == in.epoch && out.beat == in.beat && out.time_ns == in.time_ns);
    assert_int_equal(out.newest_sequence, 42);
    assert_memory_equal(out.newest_hash, in.newest_hash, SHA256_SIZE);
    assert_int_equal(out.settled_sequence, 41);
    assert_int_equal(out.in_flight_count, 2);
    assert_memory_equal(out.in_flight, in.in_flight, sizeof in.in_flight);
    assert_int_equal(out.healing_count, 2);
    assert_memory_equal(out.healing, in.healing, sizeof in.healing);
    assert_int_equal(out.queue_depth, 3);
    assert_true(out.queue_bytes == in.queue_bytes);
    assert_int_equal(out.symbol_size, 1392);
    assert_int_equal(out.depth, 51);
    assert_int_equal(out.padding_size, 1000);
    free(bytes);
}

static void the_largest_heartbeat_fits_a_message(void **state)
{
    (void)state;
    struct message_heartbeat in = example_beat(), out;
    uint8_t *bytes;
    size_t size;

    in.newest_sequence = in.settled_sequence = LIMIT_SEQUENCE;
    in.in_flight_count = LIMIT_IN_FLIGHT;
    in.healing_count = LIMIT_HEALING_RANGES;
    for (size_t i = 0; i < LIMIT_HEALING_RANGES; i++)
        in.healing[i] = (struct message_range){LIMIT_SEQUENCE, LIMIT_SEQUENCE};
    message_encode_heartbeat(&in, &bytes, &size);
    assert_int_equal(message_decode_heartbeat(bytes, size, &out), STATUS_OK);
    in.padding_size = (uint32_t)(LIMIT_MESSAGE_SIZE - size - 4);
    free(bytes);
    message_encode_heartbeat(&in, &bytes, &size);
    assert_int_equal(size, LIMIT_MESSAGE_SIZE);
    assert_int_equal(message_decode_heartbeat(bytes, size, &out), STATUS_OK);
    bytes = realloc(bytes, size + 3);
    assert_non_null(bytes);
    memcpy(bytes + size, "\xf8\x07\x01", 3); /* an unknown field beyond the limit */
    assert_int_equal(message_decode_heartbeat(bytes, size + 3, &out), STATUS_INVALID);
    free(bytes);
}

static void one_message_is_never_taken_for_another(void **state)
{
    (void)state;
    struct message_announce announce[LIMIT_ANNOUNCED] = {{.channel = "c", .name = "n"}};
    struct message_abort abort_message = {.reason = "r"};
    struct message_heartbeat beat = example_beat();
    uint8_t *bytes[3];
    size_t size[3], count;

    message_encode_announce(announce, 1, &bytes[0], &size[0]);
    message_encode_abort(&abort_message, &bytes[1], &size[1]);
    message_encode_heartbeat(&beat, &bytes[2], &size[2]);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(message_decode_announce(bytes[i], size[i], announce, &count) == STATUS_OK, i == 0);
        assert_int_equal(message_decode_abort(bytes[i], size[i], &abort_message) == STATUS_OK, i == 1);
        assert_int_equal(message_decode_heartbeat(bytes[i], size[i], &beat) == STATUS_OK, i == 2);
        free(bytes[i]);
    }
}

static void no_truncation_is_read_beyond_its_end(void **state)
{
    (void)state;
    struct message_heartbeat in = example_beat(), out;
    uint8_t *bytes;
    size_t size;

    message_encode_heartbeat(&in, &bytes, &size);
    for (size_t cut = 0; cut < size; cut++) {
        uint8_t *copy = malloc(cut > 0 ? cut : 1);
        assert_non_null(copy);
        memcpy(copy, bytes, cut);
        enum status status = message_decode_heartbeat(copy, cut, &out);
        assert_true(status == STATUS_OK || status == STATUS_INVALID);
        free(copy);
    }
    free(bytes);
}

static Diodecast__Announce good_announce(void)
{
    Diodecast__Announce wire = DIODECAST__ANNOUNCE__INIT;

    wire.context = (char *)"diodecast announce 1";
    wire.transfer_id = (ProtobufCBinaryData){.len = 16, .data = sixteen};
    wire.channel = (char *)"default";
    wire.name = (char *)"item";
    return wire;
}

static enum status decode_announce(const Diodecast__Announce *wire)
{
    uint8_t bytes[20000];
    struct message_announce out[LIMIT_ANNOUNCED];
    size_t count;

    assert_true(diodecast__announce__get_packed_size(wire) <= sizeof bytes);
    return message_decode_announce(bytes, diodecast__announce__pack(wire, bytes), out, &count);
}

static void hostile_announces_are_refused(void **state)
{
    (void)state;
    Diodecast__Announce bad = good_announce();
    char name[LIMIT_COMPONENT_LENGTH + 2];

    assert_int_equal(decode_announce(&bad), STATUS_OK);
    bad.context = (char *)"diodecast announce 2";
    assert_int_equal(decode_announce(&bad), STATUS_INVALID);
    bad = good_announce();
    bad.transfer_id.len = 15;
    assert_int_equal(decode_announce(&bad), STATUS_INVALID);
    bad = good_announce();
    bad.channel = (char *)"../x";
    assert_int_equal(decode_announce(&bad), STATUS_INVALID);
    bad = good_announce();
    bad.name = (char *)"a/b";
    assert_int_equal(decode_announce(&bad), STATUS_INVALID);
    bad.name = (char *)"..";
    assert_int_equal(decode_announce(&bad), STATUS_INVALID);
    bad.name = (char *)"";
    assert_int_equal(decode_announce(&bad), STATUS_INVALID);
    memset(name, 'n', sizeof name);
    name[LIMIT_COMPONENT_LENGTH + 1] = '\0';
    bad.name = name;
    assert_int_equal(decode_announce(&bad), STATUS_INVALID);
    bad = good_announce();
    bad.total_bytes = LIMIT_TRANSFER_SIZE + 1;
    assert_int_equal(decode_announce(&bad), STATUS_INVALID);
    bad = good_announce();
    bad.artifact_count = LIMIT_ARTIFACTS + 1;
    assert_int_equal(decode_announce(&bad), STATUS_INVALID);
    bad = good_announce();
    bad.time_ns = -1;
    assert_int_equal(decode_announce(&bad), STATUS_INVALID);
}

static Diodecast__Announced good_announced(void)
{
    Diodecast__Announced wire = DIODECAST__ANNOUNCED__INIT;

    wire.transfer_id = (ProtobufCBinaryData){.len = 16, .data = sixteen};
    wire.channel = (char *)"default";
    wire.name = (char *)"item";
    return wire;
}

static void each_transfer_that_goes_along_is_held_to_the_same_rules(void **state)
{
    (void)state;
    Diodecast__Announced also[LIMIT_ANNOUNCED], *list[LIMIT_ANNOUNCED];
    Diodecast__Announce wire = good_announce();
    for (size_t i = 0; i < LIMIT_ANNOUNCED; i++) {
        also[i] = good_announced();
        list[i] = &also[i];
    }
    Diodecast__Announced *last = &also[LIMIT_ANNOUNCED - 2];
    wire.also = list;
    wire.n_also = LIMIT_ANNOUNCED;
    assert_int_equal(decode_announce(&wire), STATUS_INVALID); /* one too many */
    wire.n_also = LIMIT_ANNOUNCED - 1;
    assert_int_equal(decode_announce(&wire), STATUS_OK);
    last->transfer_id.len = 15;
    assert_int_equal(decode_announce(&wire), STATUS_INVALID);
    *last = good_announced();
    last->channel = (char *)"../x";
    assert_int_equal(decode_announce(&wire), STATUS_INVALID);
    *last = good_announced();
    last->name = (char *)"a/b";
    assert_int_equal(decode_announce(&wire), STATUS_INVALID);
    *last = good_announced();
    last->total_bytes = LIMIT_TRANSFER_SIZE + 1;
    assert_int_equal(decode_announce(&wire), STATUS_INVALID);
    *last = good_announced();
    last->artifact_count = LIMIT_ARTIFACTS + 1;
    assert_int_equal(decode_announce(&wire), STATUS_INVALID);
}

static void a_nul_inside_a_string_is_refused(void **state)
{
    (void)state;
    Diodecast__Announce wire = good_announce();
    struct message_announce out[LIMIT_ANNOUNCED];
    uint8_t bytes[256];
    size_t count, size = diodecast__announce__pack(&wire, bytes);

    assert_int_equal(message_decode_announce(bytes, size, out, &count), STATUS_OK);
    uint8_t *name = memmem(bytes, size, "item", 4);
    assert_non_null(name);
    name[2] = '\0';
    assert_int_equal(message_decode_announce(bytes, size, out, &count), STATUS_INVALID);
}

static Diodecast__Heartbeat good_beat(void)
{
    Diodecast__Heartbeat wire = DIODECAST__HEARTBEAT__INIT;

    wire.context = (char *)"diodecast heartbeat 1";
    wire.chain_id = (ProtobufCBinaryData){.len = 16, .data = sixteen};
    wire.beat = 1;
    wire.newest_sequence = 9;
    wire.newest_hash = (ProtobufCBinaryData){.len = SHA256_SIZE, .data = digest};
    wire.settled_sequence = 9;
    wire.lanes = 1;
    wire.source_symbols = 1;
    wire.repair_symbols = 4;
    wire.symbol_size = 64;
    wire.depth = 1;
    return wire;
}

static enum status decode_beat(const Diodecast__Heartbeat *wire)
{
    uint8_t bytes[20000];
    struct message_heartbeat out;

    assert_true(diodecast__heartbeat__get_packed_size(wire) <= sizeof bytes);
    return message_decode_heartbeat(bytes, diodecast__heartbeat__pack(wire, bytes), &out);
}

static void heartbeats_with_impossible_numbers_are_refused(void **state)
{
    (void)state;
    const Diodecast__Heartbeat good = good_beat();
    Diodecast__Heartbeat bad;

    assert_int_equal(decode_beat(&good), STATUS_OK);
#define REFUSED(change)                                      \
    do {                                                     \
        bad = good;                                          \
        change;                                              \
        assert_int_equal(decode_beat(&bad), STATUS_INVALID); \
    } while (0)
    REFUSED(bad.beat = 0);
    REFUSED(bad.time_ns = INT64_MIN);
    REFUSED(bad.newest_sequence = LIMIT_SEQUENCE + 1);
    REFUSED(bad.newest_sequence = 0);
    REFUSED(bad.newest_hash.len = 31);
    REFUSED(bad.newest_hash.len = 0);
    REFUSED(bad.chain_id.len = 0);
    REFUSED(bad.settled_sequence = 10);
    REFUSED(bad.lanes = 0);
    REFUSED(bad.lanes = LIMIT_LANES + 1);
    REFUSED(bad.source_symbols = 0);
    REFUSED(bad.source_symbols = 201);
    REFUSED(bad.repair_symbols = 3);
    REFUSED(bad.repair_symbols = 56);
    REFUSED(bad.symbol_size = 0);
    REFUSED(bad.symbol_size = 72);
    REFUSED(bad.symbol_size = UINT32_MAX);
    REFUSED(bad.depth = 0);
    REFUSED(bad.depth = LIMIT_DEPTH + 1);
    REFUSED(bad.queue_depth = UINT64_MAX);
    REFUSED(bad.queue_bytes = UINT64_MAX);
    REFUSED(bad.rate_bits_per_second = UINT64_MAX);
#undef REFUSED
}

static void heartbeats_with_bad_lists_are_refused(void **state)
{
    (void)state;
    Diodecast__Heartbeat bad = good_beat();
    Diodecast__InFlight flight = DIODECAST__IN_FLIGHT__INIT, *flights[LIMIT_IN_FLIGHT + 1];
    Diodecast__SequenceRange range = DIODECAST__SEQUENCE_RANGE__INIT, *ranges[LIMIT_HEALING_RANGES + 1];

    for (size_t i = 0; i < LIMIT_IN_FLIGHT + 1; i++)
        flights[i] = &flight;
    for (size_t i = 0; i < LIMIT_HEALING_RANGES + 1; i++)
        ranges[i] = &range;
    flight.transfer_id = (ProtobufCBinaryData){.len = 16, .data = sixteen};
    bad.in_flight = flights;
    bad.n_in_flight = LIMIT_IN_FLIGHT;
    assert_int_equal(decode_beat(&bad), STATUS_OK);
    bad.n_in_flight = LIMIT_IN_FLIGHT + 1;
    assert_int_equal(decode_beat(&bad), STATUS_INVALID);
    bad.n_in_flight = 1;
    flight.sequence = 10;
    assert_int_equal(decode_beat(&bad), STATUS_INVALID);
    flight.sequence = 9;
    flight.transfer_id.len = 17;
    uint8_t seventeen[17] = {0};
    flight.transfer_id.data = seventeen;
    assert_int_equal(decode_beat(&bad), STATUS_INVALID);

    static const struct message_range refused[] = {{0, 0}, {0, 5}, {5, 4}, {9, 10}, {1, UINT64_MAX}};
    bad = good_beat();
    bad.healing = ranges;
    bad.n_healing = LIMIT_HEALING_RANGES;
    range.first = range.last = 9;
    assert_int_equal(decode_beat(&bad), STATUS_OK);
    bad.n_healing = LIMIT_HEALING_RANGES + 1;
    assert_int_equal(decode_beat(&bad), STATUS_INVALID);
    bad.n_healing = 1;
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        range.first = refused[i].first;
        range.last = refused[i].last;
        assert_int_equal(decode_beat(&bad), STATUS_INVALID);
    }
}

static void a_number_wider_than_its_field_is_refused(void **state)
{
    (void)state;
    Diodecast__Heartbeat wire = good_beat();
    struct message_heartbeat out;
    uint8_t bytes[256];
    size_t size = diodecast__heartbeat__pack(&wire, bytes);

    memcpy(bytes + size, "\x10\x80\x80\x80\x80\x10", 6); /* sender_id = 2^32 */
    assert_int_equal(message_decode_heartbeat(bytes, size + 6, &out), STATUS_INVALID);
    memcpy(bytes + size, "\x10\xff\xff\xff\xff\x0f", 6); /* sender_id = 2^32 - 1 */
    assert_int_equal(message_decode_heartbeat(bytes, size + 6, &out), STATUS_OK);
}

static void a_key_comes_back_and_only_a_whole_one(void **state)
{
    (void)state;
    struct message_key in = {.not_before_ns = 5, .time_ns = 6}, out;
    uint8_t *bytes;
    size_t size;
    memset(in.key.key_id, 0x11, sizeof in.key.key_id);
    memset(in.key.key, 0x22, sizeof in.key.key);
    message_encode_key(&in, &bytes, &size);
    assert_int_equal(message_decode_key(bytes, size, &out), STATUS_OK);
    assert_memory_equal(&in.key, &out.key, sizeof in.key);
    assert_int_equal(out.not_before_ns, 5);
    assert_int_equal(out.time_ns, 6);
    /* Cut behind the public key its times are absent, which is 0; everywhere else it is none. */
    for (size_t i = 0; i < size; i++)
        assert_int_equal(message_decode_key(bytes, i, &out),
                         i == size - 2 || i == size - 4 ? STATUS_OK : STATUS_INVALID);
    bytes[10] ^= 1; /* in the context */
    assert_int_equal(message_decode_key(bytes, size, &out), STATUS_INVALID);
    free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_announce_comes_back),
        cmocka_unit_test(an_abort_comes_back_with_a_cleaned_reason),
        cmocka_unit_test(a_heartbeat_comes_back_with_its_lists_and_padding),
        cmocka_unit_test(the_largest_heartbeat_fits_a_message),
        cmocka_unit_test(one_message_is_never_taken_for_another),
        cmocka_unit_test(no_truncation_is_read_beyond_its_end),
        cmocka_unit_test(hostile_announces_are_refused),
        cmocka_unit_test(each_transfer_that_goes_along_is_held_to_the_same_rules),
        cmocka_unit_test(a_nul_inside_a_string_is_refused),
        cmocka_unit_test(heartbeats_with_impossible_numbers_are_refused),
        cmocka_unit_test(heartbeats_with_bad_lists_are_refused),
        cmocka_unit_test(a_number_wider_than_its_field_is_refused),
        cmocka_unit_test(a_key_comes_back_and_only_a_whole_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
