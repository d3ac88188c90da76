// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/receiver_fixture.h"

#include "receiver/unpack.h"

static struct signature_key *key, *other_key;
static struct trust *trust;

struct calls {
    unsigned announces, early, data, parts, aborts, beats, keys, refused;
    bool decline;
    uint8_t there; /* a transfer whose announce is not wanted; 0: none */
};

static bool on_wants(void *context, const struct unpack_source *source, const uint8_t *transfer_id, bool early)
{
    (void)source;
    ((struct calls *)context)->early += early;
    const struct calls *seen = context;
    uint8_t there[TRANSFER_ID_SIZE];
    assert_non_null(transfer_id);
    fixture_id(seen->there, there);
    return !seen->decline && (seen->there == 0 || memcmp(transfer_id, there, sizeof there) != 0);
}

static void on_announce(void *context, const struct unpack_source *source, const struct message_announce *announce)
{
    (void)source;
    assert_string_equal(announce->channel, "tools");
    ((struct calls *)context)->announces++;
}

static void on_data(void *context, const struct unpack_source *source, const struct frame_data *data)
{
    (void)source;
    assert_int_equal(data->size, 5);
    ((struct calls *)context)->data++;
}

static void on_manifest(void *context, const struct unpack_source *source, const struct frame_manifest *part)
{
    (void)source;
    assert_int_equal(part->watermark[1], 77);
    ((struct calls *)context)->parts++;
}

static void on_abort(void *context, const struct unpack_source *source, const struct message_abort *message)
{
    (void)source;
    assert_string_equal(message->reason, "changed");
    ((struct calls *)context)->aborts++;
}

static void on_heartbeat(void *context, const struct unpack_source *source, const struct message_heartbeat *beat)
{
    assert_int_equal(beat->epoch, source->epoch);
    ((struct calls *)context)->beats++;
}

static void on_key(void *context, const struct unpack_source *source, const struct message_key *message)
{
    (void)source;
    assert_memory_equal(&message->key, signature_key_public(other_key), sizeof message->key);
    ((struct calls *)context)->keys++;
}

static void on_refuse(void *context, const struct unpack_source *source, const uint8_t *transfer_id)
{
    (void)source;
    assert_int_equal(transfer_id[0], 1);
    ((struct calls *)context)->refused++;
}

static const struct unpack_handler handler = {.wants_announce = on_wants,
                                              .announce = on_announce,
                                              .data = on_data,
                                              .manifest = on_manifest,
                                              .abort = on_abort,
                                              .heartbeat = on_heartbeat,
                                              .key = on_key,
                                              .refuse = on_refuse};

static struct calls calls;
static struct unpack unpack;
static struct unpack_source source;
static uint8_t payload[65536];
static size_t used;
static uint8_t id[TRANSFER_ID_SIZE];

static int reset(void **state)
{
    (void)state;
    calls = (struct calls){0};
    unpack = (struct unpack){.trust = trust, .handler = &handler, .context = &calls};
    source =
        (struct unpack_source){.sender_id = signature_sender_id(signature_key_public(key)), .epoch = 5, .now_ns = 1};
    memset(payload, 0, sizeof payload);
    used = 0;
    fixture_id(1, id);
    return 0;
}

static void put_signed(enum frame_type type, const struct signature_key *by, uint8_t *body, size_t body_size)
{
    uint8_t *bytes;
    size_t size;
    signed_encode(by, body, body_size, NULL, &bytes, &size, NULL);
    used += frame_write_signed(payload + used, type, type == FRAME_HEARTBEAT || type == FRAME_KEY ? NULL : id, bytes,
                               (uint32_t)size);
    free(bytes);
    free(body);
}

/* `count` transfers, numbered from the first on. */
static void put_announces(const struct signature_key *by, uint8_t first, uint8_t count)
{
    struct message_announce announces[LIMIT_ANNOUNCED];
    uint8_t *body;
    size_t size;
    for (uint8_t i = 0; i < count; i++) {
        announces[i] =
            (struct message_announce){.channel = "tools", .name = "x", .total_bytes = 5, .artifact_count = 1};
        fixture_id(first + i, announces[i].transfer_id);
    }
    message_encode_announce(announces, count, &body, &size);
    put_signed(FRAME_ANNOUNCE, by, body, size);
}

static void put_announce(const struct signature_key *by, uint8_t transfer)
{
    put_announces(by, transfer, 1);
}

static void put_beat(const struct signature_key *by, uint32_t sender_id, uint64_t epoch)
{
    struct message_heartbeat beat = {.sender_id = sender_id,
                                     .epoch = epoch,
                                     .beat = 1,
                                     .lanes = 1,
                                     .source_symbols = 128,
                                     .repair_symbols = 16,
                                     .symbol_size = 1376,
                                     .depth = 1};
    uint8_t *body;
    size_t size;
    message_encode_heartbeat(&beat, &body, &size);
    put_signed(FRAME_HEARTBEAT, by, body, size);
}

static void put_key(const struct signature_key *by)
{
    struct message_key message = {.key = *signature_key_public(other_key), .not_before_ns = 1, .time_ns = 1};
    uint8_t *body;
    size_t size;
    message_encode_key(&message, &body, &size);
    put_signed(FRAME_KEY, by, body, size);
}

static void put_abort(const struct signature_key *by, uint8_t transfer)
{
    struct message_abort message = {.reason = "changed"};
    uint8_t *body;
    size_t size;
    fixture_id(transfer, message.transfer_id);
    message_encode_abort(&message, &body, &size);
    put_signed(FRAME_ABORT, by, body, size);
}

static void put_data(void)
{
    struct frame_data data = {.transfer_id = id, .artifact_size = 100, .offset = 20, .size = 5};
    used += frame_write_data(payload + used, &data);
    memcpy(payload + used, "bytes", 5);
    used += 5;
}

static void put_unknown(uint8_t flags)
{
    payload[used] = 200;
    payload[used + 1] = flags;
    payload[used + 4] = TRANSFER_ID_SIZE;
    memcpy(payload + used + FRAME_HEADER_SIZE, id, TRANSFER_ID_SIZE);
    used += FRAME_HEADER_SIZE + TRANSFER_ID_SIZE;
}

static void every_kind_of_frame_reaches_its_handler(void **state)
{
    (void)state;
    struct frame_manifest part = {
        .transfer_id = id, .total = 50, .offset = 10, .lanes = 2, .watermark = {7, 77}, .size = 5};
    put_announce(key, 1);
    put_data();
    put_data();
    used += frame_write_manifest(payload + used, &part);
    used += 5;
    put_abort(key, 1);
    put_beat(key, source.sender_id, 5);
    unpack_payload(&unpack, &source, payload, used + 100);
    assert_int_equal(calls.announces, 1);
    assert_int_equal(calls.data, 2);
    assert_int_equal(calls.parts, 1);
    assert_int_equal(calls.aborts, 1);
    assert_int_equal(calls.beats, 1);
    assert_int_equal(unpack.counters.frames, 6);
    assert_int_equal(unpack.counters.malformed, 0);
}

static void signatures_of_another_key_are_counted(void **state)
{
    (void)state;
    put_announce(other_key, 1);
    put_abort(other_key, 1);
    put_beat(other_key, source.sender_id, 5);
    put_data();
    unpack_payload(&unpack, &source, payload, sizeof payload);
    assert_int_equal(unpack.counters.bad_signatures, 3);
    assert_int_equal(calls.announces + calls.aborts + calls.beats, 0);
    assert_int_equal(calls.data, 1);
}

static void signed_content_must_fit_its_frame(void **state)
{
    (void)state;
    put_announce(key, 2);                   /* signed for another transfer */
    put_abort(key, 2);                      /* likewise */
    put_beat(key, source.sender_id, 4);     /* recorded in another epoch */
    put_beat(key, source.sender_id + 1, 5); /* names another sender */
    unpack_payload(&unpack, &source, payload, sizeof payload);
    assert_int_equal(unpack.counters.bad_messages, 4);
    assert_int_equal(calls.announces + calls.aborts + calls.beats, 0);
}

static void an_unwanted_announce_is_not_verified(void **state)
{
    (void)state;
    calls.decline = true;
    put_announce(other_key, 1);
    unpack_payload(&unpack, &source, payload, sizeof payload);
    assert_int_equal(unpack.counters.bad_signatures, 0);
}

static void those_that_go_along_are_announced_unless_they_are_there(void **state)
{
    (void)state;
    put_announces(key, 1, LIMIT_ANNOUNCED);
    unpack_payload(&unpack, &source, payload, sizeof payload);
    assert_int_equal(calls.announces, LIMIT_ANNOUNCED);
    assert_int_equal(calls.early, LIMIT_ANNOUNCED - 1);

    calls = (struct calls){.there = 3};
    unpack_payload(&unpack, &source, payload, sizeof payload);
    assert_int_equal(calls.announces, LIMIT_ANNOUNCED - 1);

    used = 0;
    put_announces(other_key, 1, LIMIT_ANNOUNCED);
    calls = (struct calls){0};
    unpack_payload(&unpack, &source, payload, sizeof payload);
    assert_int_equal(calls.announces, 0);
    assert_int_equal(unpack.counters.bad_signatures, 1);
}

static void unknown_frames_follow_the_critical_rules(void **state)
{
    (void)state;
    put_unknown(0);
    put_unknown(FRAME_FLAG_TRANSFER);
    put_unknown(FRAME_FLAG_CRITICAL | FRAME_FLAG_TRANSFER);
    put_data();
    put_unknown(FRAME_FLAG_CRITICAL);
    put_data(); /* behind a critical one of no transfer: skipped */
    unpack_payload(&unpack, &source, payload, sizeof payload);
    assert_int_equal(unpack.counters.unknown, 2);
    assert_int_equal(unpack.counters.refused, 1);
    assert_int_equal(unpack.counters.unknown_blocks, 1);
    assert_int_equal(calls.refused, 1);
    assert_int_equal(calls.data, 1);
}

static void damage_ends_the_block_and_is_counted(void **state)
{
    (void)state;
    put_data();
    payload[used] = FRAME_DATA;
    payload[used + 1] = FRAME_FLAG_CRITICAL | FRAME_FLAG_TRANSFER;
    memset(payload + used + 4, 0xff, 4);
    unpack_payload(&unpack, &source, payload, sizeof payload);
    assert_int_equal(calls.data, 1);
    assert_int_equal(unpack.counters.malformed, 1);
    srand(1);
    for (int round = 0; round < 20000; round++) {
        size_t size = (size_t)(rand() % 300);
        for (size_t i = 0; i < size; i++)
            payload[i] = (uint8_t)(rand() % 8 == 0 ? rand() : rand() % 6);
        calls = (struct calls){0};
        unpack.counters = (struct unpack_counters){0};
        uint8_t *exact = malloc(size + 1);
        memcpy(exact, payload, size);
        exact[0] = exact[0] == FRAME_DATA || exact[0] == FRAME_MANIFEST ? 0 : exact[0];
        unpack_payload(&unpack, &source, exact, size);
        free(exact);
    }
}

static int make_keys(void **state)
{
    (void)state;
    if (signature_init() != STATUS_OK)
        return -1;
    key = fixture_key(1);
    other_key = fixture_key(2);
    const struct signature_key *keys[] = {key};
    trust = fixture_trust(keys, 1);
    return 0;
}

static int drop_keys(void **state)
{
    (void)state;
    signature_key_destroy(key);
    signature_key_destroy(other_key);
    trust_destroy(trust);
    return 0;
}

static void an_announced_key_is_taken_once_when_the_sender_signed_it(void **state)
{
    (void)state;
    put_key(other_key); /* the new key does not vouch for itself */
    unpack_payload(&unpack, &source, payload, sizeof payload);
    assert_int_equal(calls.keys, 0);
    assert_int_equal(unpack.counters.bad_signatures, 1);

    used = 0;
    put_key(key);
    unpack_payload(&unpack, &source, payload, sizeof payload);
    unpack_payload(&unpack, &source, payload, sizeof payload);
    assert_int_equal(calls.keys, 1);

    static struct unpack_handler without;
    without = handler;
    without.key = NULL;
    unpack = (struct unpack){.trust = trust, .handler = &without, .context = &calls};
    unpack_payload(&unpack, &source, payload, sizeof payload);
    assert_int_equal(calls.keys, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(an_announced_key_is_taken_once_when_the_sender_signed_it, reset),
        cmocka_unit_test_setup(every_kind_of_frame_reaches_its_handler, reset),
        cmocka_unit_test_setup(signatures_of_another_key_are_counted, reset),
        cmocka_unit_test_setup(signed_content_must_fit_its_frame, reset),
        cmocka_unit_test_setup(an_unwanted_announce_is_not_verified, reset),
        cmocka_unit_test_setup(those_that_go_along_are_announced_unless_they_are_there, reset),
        cmocka_unit_test_setup(unknown_frames_follow_the_critical_rules, reset),
        cmocka_unit_test_setup(damage_ends_the_block_and_is_counted, reset),
    };
    return cmocka_run_group_tests(tests, make_keys, drop_keys);
}
