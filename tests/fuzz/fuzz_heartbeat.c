// SPDX-License-Identifier: Apache-2.0
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "proto/message.h"
#include "proto/relpath.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

/* What is accepted can be encoded again, in which the encoder asserts every bound, and then says the same. */
static void check_heartbeat(const uint8_t *bytes, size_t size)
{
    struct message_heartbeat beat, again;
    uint8_t *out;
    size_t out_size;

    if (message_decode_heartbeat(bytes, size, &beat) != STATUS_OK)
        return;
    message_encode_heartbeat(&beat, &out, &out_size);
    enum status status = message_decode_heartbeat(out, out_size, &again);
    assert(status == STATUS_OK);
    assert(beat.newest_sequence == again.newest_sequence && beat.healing_count == again.healing_count);
    assert(memcmp(beat.healing, again.healing, sizeof beat.healing) == 0);
    assert(memcmp(beat.in_flight, again.in_flight, sizeof beat.in_flight) == 0);
    free(out);
}

static void check_announce(const uint8_t *bytes, size_t size)
{
    struct message_announce announces[LIMIT_ANNOUNCED];
    uint8_t *out;
    size_t count, out_size;

    if (message_decode_announce(bytes, size, announces, &count) != STATUS_OK)
        return;
    assert(count >= 1 && count <= LIMIT_ANNOUNCED);
    for (size_t i = 0; i < count; i++)
        assert(strchr(announces[i].channel, '/') == NULL && strchr(announces[i].name, '/') == NULL);
    message_encode_announce(announces, count, &out, &out_size);
    free(out);
}

static void check_abort(const uint8_t *bytes, size_t size)
{
    struct message_abort message, cleaned = {0};
    uint8_t *out;
    size_t out_size;
    char text[1024];

    if (message_decode_abort(bytes, size, &message) == STATUS_OK) {
        message_encode_abort(&message, &out, &out_size);
        free(out);
    }
    /* Any text at all becomes a legal reason. */
    size_t length = size < sizeof text ? size : sizeof text - 1;
    if (length > 0)
        memcpy(text, bytes, length);
    text[length] = '\0';
    message_abort_reason(&cleaned, text);
    assert(relpath_check_text(cleaned.reason, strlen(cleaned.reason)) == NULL);
}

static void check_key(const uint8_t *bytes, size_t size)
{
    struct message_key key, again;
    uint8_t *out;
    size_t out_size;

    if (message_decode_key(bytes, size, &key) != STATUS_OK)
        return;
    message_encode_key(&key, &out, &out_size);
    enum status status = message_decode_key(out, out_size, &again);
    assert(status == STATUS_OK && again.time_ns == key.time_ns && again.not_before_ns == key.not_before_ns);
    assert(memcmp(&again.key, &key.key, sizeof key.key) == 0);
    free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    check_key(bytes, size);
    check_heartbeat(bytes, size);
    check_announce(bytes, size);
    check_abort(bytes, size);
    return 0;
}
