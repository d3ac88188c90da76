// SPDX-License-Identifier: Apache-2.0
#include "receiver/unpack.h"

#include <assert.h>
#include <string.h>

#include "common/checksum.h"
#include "common/signature.h"
#include "proto/signed.h"

static enum checks_verdict check(const struct unpack *unpack, const struct unpack_source *source,
                                 const struct signed_message *message)
{
    if (unpack->checks != NULL)
        return checks_verify(unpack->checks, source->sender_id, message, source->now_ns);
    const struct signature_public *key = trust_find(unpack->trust, source->sender_id);
    bool good = key != NULL && signature_verify(key, message->body, message->body_size, &message->signature);
    return good ? CHECKS_GOOD : CHECKS_BAD;
}

/* Decodes and checks the envelope of a small message; false when it was counted. */
static bool open_signed(struct unpack *unpack, const struct unpack_source *source, const struct frame *frame,
                        struct signed_message *message)
{
    const uint8_t *bytes;
    uint32_t size;
    if (!frame_parse_signed(frame, &bytes, &size) ||
        signed_decode(bytes, size, LIMIT_MESSAGE_SIZE, message) != STATUS_OK) {
        unpack->counters.malformed++;
        return false;
    }
    enum checks_verdict verdict = check(unpack, source, message);
    if (verdict == CHECKS_GOOD)
        return true;
    unpack->counters.bad_signatures += verdict == CHECKS_BAD;
    unpack->counters.over_limit += verdict == CHECKS_OVER_LIMIT;
    signed_message_deinit(message);
    return false;
}

/* Those that go along with another are asked for too: one may be there already. */
static void take_announced(struct unpack *unpack, const struct unpack_source *source,
                           const struct message_announce announces[], size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (i == 0 || unpack->handler->wants_announce(unpack->context, source, announces[i].transfer_id, true))
            unpack->handler->announce(unpack->context, source, &announces[i]);
}

static void take_announce(struct unpack *unpack, const struct unpack_source *source, const struct frame *frame)
{
    struct signed_message message;
    struct message_announce announces[LIMIT_ANNOUNCED];
    size_t count;
    if (frame->transfer_id != NULL &&
        !unpack->handler->wants_announce(unpack->context, source, frame->transfer_id, false))
        return;
    if (!open_signed(unpack, source, frame, &message))
        return;
    assert(frame->transfer_id != NULL); /* frame_parse_signed() has seen it */
    if (message_decode_announce(message.body, message.body_size, announces, &count) == STATUS_OK &&
        memcmp(announces[0].transfer_id, frame->transfer_id, TRANSFER_ID_SIZE) == 0)
        take_announced(unpack, source, announces, count);
    else
        unpack->counters.bad_messages++;
    signed_message_deinit(&message);
}

static void take_abort(struct unpack *unpack, const struct unpack_source *source, const struct frame *frame)
{
    struct signed_message message;
    struct message_abort abort_message;
    if (!open_signed(unpack, source, frame, &message))
        return;
    if (message_decode_abort(message.body, message.body_size, &abort_message) == STATUS_OK &&
        memcmp(abort_message.transfer_id, frame->transfer_id, TRANSFER_ID_SIZE) == 0)
        unpack->handler->abort(unpack->context, source, &abort_message);
    else
        unpack->counters.bad_messages++;
    signed_message_deinit(&message);
}

static void take_heartbeat(struct unpack *unpack, const struct unpack_source *source, const struct frame *frame)
{
    struct signed_message message;
    struct message_heartbeat heartbeat;
    if (!open_signed(unpack, source, frame, &message))
        return;
    /* The epoch of the datagrams around it is not signed; a beat recorded in another epoch proves nothing of theirs. */
    if (message_decode_heartbeat(message.body, message.body_size, &heartbeat) == STATUS_OK &&
        heartbeat.sender_id == source->sender_id && heartbeat.epoch == source->epoch)
        unpack->handler->heartbeat(unpack->context, source, &heartbeat);
    else
        unpack->counters.bad_messages++;
    signed_message_deinit(&message);
}

static void take_key(struct unpack *unpack, const struct unpack_source *source, const struct frame *frame)
{
    struct signed_message message;
    struct message_key key;
    uint64_t hash = checksum64(frame->body, frame->body_size) ^ source->sender_id;
    if (unpack->handler->key == NULL || hash == unpack->key_frame || !open_signed(unpack, source, frame, &message))
        return;
    if (message_decode_key(message.body, message.body_size, &key) == STATUS_OK) {
        unpack->key_frame = hash;
        unpack->handler->key(unpack->context, source, &key);
    } else {
        unpack->counters.bad_messages++;
    }
    signed_message_deinit(&message);
}

static void take_data(struct unpack *unpack, const struct unpack_source *source, const struct frame *frame)
{
    struct frame_data data;
    if (frame_parse_data(frame, &data))
        unpack->handler->data(unpack->context, source, &data);
    else
        unpack->counters.malformed++;
}

static void take_manifest(struct unpack *unpack, const struct unpack_source *source, const struct frame *frame)
{
    struct frame_manifest part;
    if (frame_parse_manifest(frame, &part))
        unpack->handler->manifest(unpack->context, source, &part);
    else
        unpack->counters.malformed++;
}

/* False when the rest of the block must not be read. */
static bool take_unknown(struct unpack *unpack, const struct unpack_source *source, const struct frame *frame)
{
    if ((frame->flags & FRAME_FLAG_CRITICAL) == 0) {
        unpack->counters.unknown++;
        return true;
    }
    if (frame->transfer_id == NULL) {
        unpack->counters.unknown_blocks++;
        return false;
    }
    unpack->counters.refused++;
    unpack->handler->refuse(unpack->context, source, frame->transfer_id);
    return true;
}

void unpack_payload(struct unpack *unpack, const struct unpack_source *source, const uint8_t *payload, size_t size)
{
    size_t position = 0;
    struct frame frame;
    enum frame_result result;
    while ((result = frame_next(payload, size, &position, &frame)) == FRAME_OK) {
        unpack->counters.frames++;
        switch (frame.type) {
        case FRAME_ANNOUNCE:
            take_announce(unpack, source, &frame);
            break;
        case FRAME_DATA:
            take_data(unpack, source, &frame);
            break;
        case FRAME_MANIFEST:
            take_manifest(unpack, source, &frame);
            break;
        case FRAME_ABORT:
            take_abort(unpack, source, &frame);
            break;
        case FRAME_HEARTBEAT:
            take_heartbeat(unpack, source, &frame);
            break;
        case FRAME_KEY:
            take_key(unpack, source, &frame);
            break;
        default:
            if (!take_unknown(unpack, source, &frame))
                return;
        }
    }
    if (result == FRAME_MALFORMED)
        unpack->counters.malformed++;
}
