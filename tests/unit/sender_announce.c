// SPDX-License-Identifier: Apache-2.0
#include "sender/announce.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "proto/signed.h"

static struct signature_key *key;
static struct announce announce;
static uint8_t payload[PACK_CAPACITY_MIN];

static bool add(uint8_t number, const char *channel, const char *name, uint64_t bytes)
{
    const uint8_t id[TRANSFER_ID_SIZE] = {number};
    return announce_add(&announce, id, channel, name, bytes, 1);
}

/* Packs into the least room there is, and reads what came of it. */
static size_t pack_and_read(struct message_announce transfers[static LIMIT_ANNOUNCED])
{
    struct pack pack;
    struct frame frame;
    struct signed_message message;
    const uint8_t *bytes;
    uint32_t size;
    size_t position = 0, count;
    pack_open(&pack, payload, sizeof payload);
    announce_pack(&announce, key, &pack);
    assert_int_equal(frame_next(payload, pack.used, &position, &frame), FRAME_OK);
    assert_int_equal(frame.type, FRAME_ANNOUNCE);
    assert_memory_equal(frame.transfer_id, announce.transfers[0].transfer_id, TRANSFER_ID_SIZE);
    assert_true(frame_parse_signed(&frame, &bytes, &size));
    assert_int_equal(signed_decode(bytes, size, LIMIT_MESSAGE_SIZE, &message), STATUS_OK);
    assert_true(signature_verify(signature_key_public(key), message.body, message.body_size, &message.signature));
    assert_int_equal(message_decode_announce(message.body, message.body_size, transfers, &count), STATUS_OK);
    signed_message_deinit(&message);
    return count;
}

static void as_many_go_along_as_one_message_tells(void **state)
{
    (void)state;
    struct message_announce out[LIMIT_ANNOUNCED];
    uint8_t number = 0;
    announce_begin(&announce, -1, 1000);
    while (add(number, "pypi", "x", 10))
        number++;
    assert_int_equal(number, LIMIT_ANNOUNCED);
    assert_int_equal(pack_and_read(out), LIMIT_ANNOUNCED);
    for (uint8_t i = 0; i < LIMIT_ANNOUNCED; i++) {
        assert_int_equal(out[i].transfer_id[0], i);
        assert_string_equal(out[i].channel, "pypi");
        assert_int_equal(out[i].total_bytes, 10);
        assert_int_equal(out[i].artifact_count, 1);
        assert_int_equal(out[i].time_ns, 0);
    }
}

static void no_more_go_along_than_follow_at_once(void **state)
{
    (void)state;
    struct message_announce out[LIMIT_ANNOUNCED];
    announce_begin(&announce, 1, 1000);
    assert_true(add(0, "c", "a", 600));
    assert_true(add(1, "c", "b", 400));
    assert_false(add(2, "c", "c", 1));
    assert_true(add(3, "c", "d", 0));
    assert_int_equal(pack_and_read(out), 3);

    announce_begin(&announce, 1, 1000);
    assert_true(add(0, "c", "large", LIMIT_TRANSFER_SIZE));
    assert_false(add(1, "c", "b", 0));
    assert_int_equal(pack_and_read(out), 1);
}

static void names_of_any_length_fill_the_least_room_and_fit_it(void **state)
{
    (void)state;
    struct message_announce out[LIMIT_ANNOUNCED];
    char channel[LIMIT_CHANNEL_LENGTH + 1] = {0}, name[LIMIT_COMPONENT_LENGTH + 1] = {0};
    memset(channel, 'c', LIMIT_CHANNEL_LENGTH);
    for (size_t length = 1; length <= LIMIT_COMPONENT_LENGTH; length++) {
        uint8_t number = 0;
        name[length - 1] = 'n';
        announce_begin(&announce, INT64_MAX, UINT64_MAX);
        while (announce_add(&announce, (const uint8_t[TRANSFER_ID_SIZE]){number}, channel, name, LIMIT_TRANSFER_SIZE,
                            LIMIT_ARTIFACTS))
            number++;
        assert_in_range(number, 2, LIMIT_ANNOUNCED - 1);
        assert_int_equal(pack_and_read(out), number);
        assert_string_equal(out[number - 1].name, name);
    }
}

static int setup(void **state)
{
    (void)state;
    key = signature_init() == STATUS_OK ? signature_key_from_seed((const uint8_t[32]){1}) : NULL;
    return key == NULL;
}

static int teardown(void **state)
{
    (void)state;
    signature_key_destroy(key);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_many_go_along_as_one_message_tells),
        cmocka_unit_test(no_more_go_along_than_follow_at_once),
        cmocka_unit_test(names_of_any_length_fill_the_least_room_and_fit_it),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
