// SPDX-License-Identifier: Apache-2.0
#include "proto/message.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/diodecast.pb-c.h"
#include "proto/field.h"
#include "proto/relpath.h"

static const char announce_context[] = "diodecast announce 1";
static const char abort_context[] = "diodecast abort 1";
static const char key_context[] = "diodecast key 1";
static const char heartbeat_context[] = "diodecast heartbeat 1";

/* Field numbers of sub-messages (diodecast.proto). */
enum { FIELD_ALSO = 8, FIELD_IN_FLIGHT = 10, FIELD_HEALING = 11 };

static bool announce_is_legal(const struct message_announce *announce)
{
    return relpath_check_channel(announce->channel, strlen(announce->channel)) == NULL &&
           relpath_check_component(announce->name, strlen(announce->name)) == NULL &&
           announce->total_bytes <= LIMIT_TRANSFER_SIZE && announce->artifact_count <= LIMIT_ARTIFACTS &&
           announce->time_ns >= 0;
}

static bool abort_is_legal(const struct message_abort *message)
{
    return relpath_check_text(message->reason, strlen(message->reason)) == NULL && message->time_ns >= 0;
}

static bool geometry_is_legal(const struct message_heartbeat *beat)
{
    return beat->lanes >= 1 && beat->lanes <= LIMIT_LANES && beat->source_symbols >= 1 &&
           beat->source_symbols <= LIMIT_SOURCE_SYMBOLS && beat->repair_symbols >= LIMIT_REPAIR_SYMBOLS_MIN &&
           beat->repair_symbols <= LIMIT_REPAIR_SYMBOLS && beat->symbol_size >= LIMIT_SYMBOL_SIZE_MIN &&
           beat->symbol_size <= LIMIT_SYMBOL_SIZE && beat->symbol_size % LIMIT_SYMBOL_ALIGNMENT == 0 &&
           beat->depth >= 1 && beat->depth <= LIMIT_DEPTH;
}

static bool heartbeat_is_legal(const struct message_heartbeat *beat)
{
    if (beat->beat < 1 || beat->time_ns < 0 || beat->newest_sequence > LIMIT_SEQUENCE ||
        beat->settled_sequence > beat->newest_sequence || !geometry_is_legal(beat))
        return false;
    if (beat->queue_depth > INT64_MAX || beat->queue_bytes > INT64_MAX || beat->rate_bits_per_second > INT64_MAX)
        return false;
    if (beat->in_flight_count > LIMIT_IN_FLIGHT || beat->healing_count > LIMIT_HEALING_RANGES)
        return false;
    for (uint32_t i = 0; i < beat->in_flight_count; i++) {
        if (beat->in_flight[i].sequence > beat->newest_sequence)
            return false;
    }
    for (uint32_t i = 0; i < beat->healing_count; i++) {
        const struct message_range *range = &beat->healing[i];
        if (range->first < 1 || range->first > range->last || range->last > beat->newest_sequence)
            return false;
    }
    return true;
}

static void encode(const ProtobufCMessage *message, uint8_t **out, size_t *size)
{
    *size = protobuf_c_message_get_packed_size(message);
    assert(*size <= LIMIT_MESSAGE_SIZE);
    *out = malloc(*size);
    assert(*out != NULL);
    protobuf_c_message_pack(message, *out);
}

/* NULL with STATUS_INVALID or STATUS_SYSTEM in *status. */
static ProtobufCMessage *decode(const ProtobufCMessageDescriptor *descriptor, const uint8_t *bytes, size_t size,
                                enum status *status)
{
    *status = STATUS_INVALID;
    if (size == 0 || size > LIMIT_MESSAGE_SIZE || !field_check(descriptor, bytes, size))
        return NULL;
    ProtobufCMessage *message = protobuf_c_message_unpack(descriptor, NULL, size, bytes);
    if (message == NULL) {
        errno = ENOMEM; /* the bytes are well-formed, so memory is all that can be missing */
        *status = STATUS_SYSTEM;
    }
    return message;
}

static bool take_bytes(uint8_t *out, size_t size, const ProtobufCBinaryData *field)
{
    if (field->len != size)
        return false;
    if (size > 0)
        memcpy(out, field->data, size);
    return true;
}

/* `size` is that of the place, NUL included. */
static bool take_text(char *out, size_t size, const char *field)
{
    size_t length = strlen(field);
    if (length >= size)
        return false;
    memcpy(out, field, length + 1);
    return true;
}

static ProtobufCBinaryData view(const uint8_t *bytes, size_t size)
{
    return (ProtobufCBinaryData){.len = size, .data = (uint8_t *)bytes};
}

void message_encode_key(const struct message_key *key, uint8_t **out, size_t *size)
{
    Diodecast__Key wire = DIODECAST__KEY__INIT;

    assert(key->not_before_ns >= 0 && key->time_ns >= 0);
    wire.context = (char *)key_context;
    wire.key_id = view(key->key.key_id, SIGNATURE_KEY_ID_SIZE);
    wire.public_key = view(key->key.key, SIGNATURE_PUBLIC_SIZE);
    wire.not_before_ns = key->not_before_ns;
    wire.time_ns = key->time_ns;
    encode(&wire.base, out, size);
}

enum status message_decode_key(const uint8_t *bytes, size_t size, struct message_key *key)
{
    enum status status;
    ProtobufCMessage *message = decode(&diodecast__key__descriptor, bytes, size, &status);
    if (message == NULL)
        return status;

    const Diodecast__Key *wire = (const Diodecast__Key *)message;
    *key = (struct message_key){.not_before_ns = wire->not_before_ns, .time_ns = wire->time_ns};
    bool legal = strcmp(wire->context, key_context) == 0 &&
                 take_bytes(key->key.key_id, SIGNATURE_KEY_ID_SIZE, &wire->key_id) &&
                 take_bytes(key->key.key, SIGNATURE_PUBLIC_SIZE, &wire->public_key) && key->not_before_ns >= 0 &&
                 key->time_ns >= 0;
    protobuf_c_message_free_unpacked(message, NULL);
    return legal ? STATUS_OK : STATUS_INVALID;
}

void message_encode_announce(const struct message_announce announces[], size_t count, uint8_t **out, size_t *size)
{
    Diodecast__Announce wire = DIODECAST__ANNOUNCE__INIT;
    Diodecast__Announced also[LIMIT_ANNOUNCED], *also_list[LIMIT_ANNOUNCED];

    assert(count >= 1 && count <= LIMIT_ANNOUNCED);
    for (size_t i = 0; i < count; i++)
        assert(announce_is_legal(&announces[i]));
    wire.context = (char *)announce_context;
    wire.transfer_id = view(announces[0].transfer_id, TRANSFER_ID_SIZE);
    wire.channel = (char *)announces[0].channel;
    wire.name = (char *)announces[0].name;
    wire.total_bytes = announces[0].total_bytes;
    wire.artifact_count = announces[0].artifact_count;
    wire.time_ns = announces[0].time_ns;
    for (size_t i = 1; i < count; i++) {
        also[i] = (Diodecast__Announced)DIODECAST__ANNOUNCED__INIT;
        also[i].transfer_id = view(announces[i].transfer_id, TRANSFER_ID_SIZE);
        also[i].channel = (char *)announces[i].channel;
        also[i].name = (char *)announces[i].name;
        also[i].total_bytes = announces[i].total_bytes;
        also[i].artifact_count = announces[i].artifact_count;
        also_list[i] = &also[i];
    }
    wire.n_also = count - 1;
    wire.also = also_list + 1;
    encode(&wire.base, out, size);
}

static bool take_announced(struct message_announce *announce, const ProtobufCBinaryData *transfer_id,
                           const char *channel, const char *name)
{
    return take_bytes(announce->transfer_id, TRANSFER_ID_SIZE, transfer_id) &&
           take_text(announce->channel, sizeof announce->channel, channel) &&
           take_text(announce->name, sizeof announce->name, name) && announce_is_legal(announce);
}

static bool take_also(struct message_announce announces[static LIMIT_ANNOUNCED], const Diodecast__Announce *wire)
{
    for (size_t i = 0; i < wire->n_also; i++) {
        const Diodecast__Announced *also = wire->also[i];
        announces[1 + i] = (struct message_announce){
            .total_bytes = also->total_bytes, .artifact_count = also->artifact_count, .time_ns = wire->time_ns};
        if (!take_announced(&announces[1 + i], &also->transfer_id, also->channel, also->name))
            return false;
    }
    return true;
}

enum status message_decode_announce(const uint8_t *bytes, size_t size,
                                    struct message_announce announces[static LIMIT_ANNOUNCED], size_t *count)
{
    enum status status;

    if (!field_check_each(&diodecast__announced__descriptor, FIELD_ALSO, LIMIT_ANNOUNCED - 1, bytes, size))
        return STATUS_INVALID;
    ProtobufCMessage *message = decode(&diodecast__announce__descriptor, bytes, size, &status);
    if (message == NULL)
        return status;

    const Diodecast__Announce *wire = (const Diodecast__Announce *)message;
    announces[0] = (struct message_announce){
        .total_bytes = wire->total_bytes,
        .artifact_count = wire->artifact_count,
        .time_ns = wire->time_ns,
    };
    bool legal = strcmp(wire->context, announce_context) == 0 &&
                 take_announced(&announces[0], &wire->transfer_id, wire->channel, wire->name) &&
                 take_also(announces, wire);
    *count = 1 + wire->n_also;
    protobuf_c_message_free_unpacked(message, NULL);
    return legal ? STATUS_OK : STATUS_INVALID;
}

void message_abort_reason(struct message_abort *message, const char *text)
{
    size_t size = relpath_cut(text, LIMIT_REASON_LENGTH);

    memcpy(message->reason, text, size);
    message->reason[size] = '\0';
    if (relpath_check_text(message->reason, size) == NULL)
        return;
    for (size_t i = 0; i < size; i++) {
        unsigned char c = (unsigned char)message->reason[i];
        if (c < 0x20 || c >= 0x7f)
            message->reason[i] = '?';
    }
}

void message_encode_abort(const struct message_abort *abort_message, uint8_t **out, size_t *size)
{
    Diodecast__Abort wire = DIODECAST__ABORT__INIT;

    assert(abort_is_legal(abort_message));
    wire.context = (char *)abort_context;
    wire.transfer_id = view(abort_message->transfer_id, TRANSFER_ID_SIZE);
    wire.reason = (char *)abort_message->reason;
    wire.time_ns = abort_message->time_ns;
    encode(&wire.base, out, size);
}

enum status message_decode_abort(const uint8_t *bytes, size_t size, struct message_abort *abort_message)
{
    enum status status;
    ProtobufCMessage *message = decode(&diodecast__abort__descriptor, bytes, size, &status);
    if (message == NULL)
        return status;

    const Diodecast__Abort *wire = (const Diodecast__Abort *)message;
    *abort_message = (struct message_abort){.time_ns = wire->time_ns};
    bool legal = strcmp(wire->context, abort_context) == 0 &&
                 take_bytes(abort_message->transfer_id, TRANSFER_ID_SIZE, &wire->transfer_id) &&
                 take_text(abort_message->reason, sizeof abort_message->reason, wire->reason) &&
                 abort_is_legal(abort_message);
    protobuf_c_message_free_unpacked(message, NULL);
    return legal ? STATUS_OK : STATUS_INVALID;
}

void message_encode_heartbeat(const struct message_heartbeat *heartbeat, uint8_t **out, size_t *size)
{
    static const uint8_t zeros[LIMIT_MESSAGE_SIZE];
    Diodecast__Heartbeat wire = DIODECAST__HEARTBEAT__INIT;
    Diodecast__InFlight flights[LIMIT_IN_FLIGHT], *flight_list[LIMIT_IN_FLIGHT];
    Diodecast__SequenceRange ranges[LIMIT_HEALING_RANGES], *range_list[LIMIT_HEALING_RANGES];

    assert(heartbeat_is_legal(heartbeat));
    assert(heartbeat->padding_size <= sizeof zeros);
    for (uint32_t i = 0; i < heartbeat->in_flight_count; i++) {
        flights[i] = (Diodecast__InFlight)DIODECAST__IN_FLIGHT__INIT;
        flights[i].transfer_id = view(heartbeat->in_flight[i].transfer_id, TRANSFER_ID_SIZE);
        flights[i].sequence = heartbeat->in_flight[i].sequence;
        flight_list[i] = &flights[i];
    }
    for (uint32_t i = 0; i < heartbeat->healing_count; i++) {
        ranges[i] = (Diodecast__SequenceRange)DIODECAST__SEQUENCE_RANGE__INIT;
        ranges[i].first = heartbeat->healing[i].first;
        ranges[i].last = heartbeat->healing[i].last;
        range_list[i] = &ranges[i];
    }
    wire.context = (char *)heartbeat_context;
    wire.sender_id = heartbeat->sender_id;
    wire.chain_id = view(heartbeat->chain_id, CHAIN_ID_SIZE);
    wire.epoch = heartbeat->epoch;
    wire.beat = heartbeat->beat;
    wire.time_ns = heartbeat->time_ns;
    wire.newest_sequence = heartbeat->newest_sequence;
    wire.newest_hash = view(heartbeat->newest_hash, heartbeat->newest_sequence > 0 ? SHA256_SIZE : 0);
    wire.settled_sequence = heartbeat->settled_sequence;
    wire.n_in_flight = heartbeat->in_flight_count;
    wire.in_flight = flight_list;
    wire.n_healing = heartbeat->healing_count;
    wire.healing = range_list;
    wire.queue_depth = heartbeat->queue_depth;
    wire.queue_bytes = heartbeat->queue_bytes;
    wire.lanes = heartbeat->lanes;
    wire.source_symbols = heartbeat->source_symbols;
    wire.repair_symbols = heartbeat->repair_symbols;
    wire.symbol_size = heartbeat->symbol_size;
    wire.depth = heartbeat->depth;
    wire.rate_bits_per_second = heartbeat->rate_bits_per_second;
    wire.padding = view(zeros, heartbeat->padding_size);
    encode(&wire.base, out, size);
}

static bool take_lists(struct message_heartbeat *beat, const Diodecast__Heartbeat *wire)
{
    if (wire->n_in_flight > LIMIT_IN_FLIGHT || wire->n_healing > LIMIT_HEALING_RANGES)
        return false;
    beat->in_flight_count = (uint32_t)wire->n_in_flight;
    for (size_t i = 0; i < wire->n_in_flight; i++) {
        if (!take_bytes(beat->in_flight[i].transfer_id, TRANSFER_ID_SIZE, &wire->in_flight[i]->transfer_id))
            return false;
        beat->in_flight[i].sequence = wire->in_flight[i]->sequence;
    }
    beat->healing_count = (uint32_t)wire->n_healing;
    for (size_t i = 0; i < wire->n_healing; i++)
        beat->healing[i] = (struct message_range){.first = wire->healing[i]->first, .last = wire->healing[i]->last};
    return true;
}

enum status message_decode_heartbeat(const uint8_t *bytes, size_t size, struct message_heartbeat *heartbeat)
{
    enum status status;

    if (!field_check_each(&diodecast__in_flight__descriptor, FIELD_IN_FLIGHT, LIMIT_IN_FLIGHT, bytes, size) ||
        !field_check_each(&diodecast__sequence_range__descriptor, FIELD_HEALING, LIMIT_HEALING_RANGES, bytes, size))
        return STATUS_INVALID;
    ProtobufCMessage *message = decode(&diodecast__heartbeat__descriptor, bytes, size, &status);
    if (message == NULL)
        return status;

    const Diodecast__Heartbeat *wire = (const Diodecast__Heartbeat *)message;
    *heartbeat = (struct message_heartbeat){
        .sender_id = wire->sender_id,
        .epoch = wire->epoch,
        .beat = wire->beat,
        .time_ns = wire->time_ns,
        .newest_sequence = wire->newest_sequence,
        .settled_sequence = wire->settled_sequence,
        .queue_depth = wire->queue_depth,
        .queue_bytes = wire->queue_bytes,
        .lanes = wire->lanes,
        .source_symbols = wire->source_symbols,
        .repair_symbols = wire->repair_symbols,
        .symbol_size = wire->symbol_size,
        .depth = wire->depth,
        .rate_bits_per_second = wire->rate_bits_per_second,
        .padding_size = (uint32_t)wire->padding.len,
    };
    size_t hash_size = wire->newest_sequence > 0 ? SHA256_SIZE : 0;
    bool legal = strcmp(wire->context, heartbeat_context) == 0 &&
                 take_bytes(heartbeat->chain_id, CHAIN_ID_SIZE, &wire->chain_id) &&
                 take_bytes(heartbeat->newest_hash, hash_size, &wire->newest_hash) && take_lists(heartbeat, wire) &&
                 heartbeat_is_legal(heartbeat);
    protobuf_c_message_free_unpacked(message, NULL);
    return legal ? STATUS_OK : STATUS_INVALID;
}
