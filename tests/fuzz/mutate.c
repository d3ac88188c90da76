// SPDX-License-Identifier: Apache-2.0
#include "tests/fuzz/mutate.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "proto/diodecast.pb-c.h"
#include "proto/field.h"
#include "proto/frame.h"
#include "proto/wire.h"

enum { FIELDS = 256, FRAMES = 256, VARINT_SIZE = 10, DEPTH = 4 };

uint64_t mutate_next(struct mutate *mutate)
{
    mutate->state += UINT64_C(0x9E3779B97F4A7C15);
    uint64_t word = mutate->state;
    word = (word ^ word >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    word = (word ^ word >> 27) * UINT64_C(0x94D049BB133111EB);
    return word ^ word >> 31;
}

uint64_t mutate_below(struct mutate *mutate, uint64_t limit)
{
    return mutate_next(mutate) % limit;
}

bool mutate_chance(struct mutate *mutate, unsigned one_in)
{
    return mutate_below(mutate, one_in) == 0;
}

uint64_t mutate_number(struct mutate *mutate, uint64_t value)
{
    switch (mutate_below(mutate, 5)) {
    case 0:
        return mutate_below(mutate, 4);
    case 1:
        return (UINT64_C(1) << mutate_below(mutate, 64)) + mutate_below(mutate, 3) - 1;
    case 2:
        return value + mutate_below(mutate, 5) - 2;
    case 3:
        return UINT64_MAX - mutate_below(mutate, 2);
    default:
        return value ^ UINT64_C(1) << mutate_below(mutate, 64);
    }
}

bool mutate_splice(uint8_t *bytes, size_t *size, size_t size_max, size_t first, size_t old_size,
                   const uint8_t *replacement, size_t new_size)
{
    assert(first <= *size && old_size <= *size - first);
    if (*size - old_size > size_max || new_size > size_max - (*size - old_size))
        return false;
    memmove(bytes + first + new_size, bytes + first + old_size, *size - first - old_size);
    if (new_size > 0)
        memcpy(bytes + first, replacement, new_size);
    *size = *size - old_size + new_size;
    return true;
}

/* Protobuf messages. */

struct place {
    size_t first, size; /* of the whole field */
    struct field field;
};

static size_t find_fields(const uint8_t *bytes, size_t size, struct place places[static FIELDS])
{
    size_t count = 0, position = 0;
    while (count < FIELDS) {
        struct place *place = &places[count];
        place->first = position;
        if (field_next(bytes, size, &position, &place->field) != FIELD_OK)
            break;
        place->size = position - place->first;
        count++;
    }
    return count;
}

static size_t put_varint(uint8_t *out, uint64_t value)
{
    size_t size = 0;
    for (; value >= 0x80; value >>= 7)
        out[size++] = (uint8_t)(value | 0x80);
    out[size++] = (uint8_t)value;
    return size;
}

static const ProtobufCMessageDescriptor *inside(const ProtobufCMessageDescriptor *descriptor, uint32_t number)
{
    if (descriptor == NULL)
        return NULL;
    const ProtobufCFieldDescriptor *field = protobuf_c_message_descriptor_get_field(descriptor, number);
    if (field == NULL)
        return NULL;
    if (strcmp(field->name, "statement") == 0)
        return &diodecast__statement__descriptor;
    if (descriptor == &diodecast__signed__descriptor && strcmp(field->name, "body") == 0)
        return &diodecast__manifest__descriptor;
    return field->type == PROTOBUF_C_TYPE_MESSAGE ? field->descriptor : NULL;
}

static size_t change_content(struct mutate *mutate, const ProtobufCMessageDescriptor *descriptor, uint8_t *bytes,
                             size_t size, size_t size_max, unsigned depth);

/* Another value in the place of one. */
static bool change_value(struct mutate *mutate, const ProtobufCMessageDescriptor *descriptor, uint8_t *bytes,
                         size_t *size, size_t size_max, const struct place *place, unsigned depth)
{
    size_t room = size_max > *size ? size_max - *size : 0;
    uint8_t *out = malloc(place->size + room + 2 * VARINT_SIZE + 1);
    assert(out != NULL);
    size_t used = put_varint(out, (uint64_t)place->field.number << 3 | (uint64_t)place->field.wire);
    if (place->field.wire == FIELD_VARINT) {
        used += put_varint(out + used, mutate_number(mutate, place->field.value));
    } else if (place->field.wire == FIELD_BYTES) {
        uint8_t *content = out + used + VARINT_SIZE;
        memcpy(content, place->field.bytes, place->field.size);
        size_t new_size = change_content(mutate, inside(descriptor, place->field.number), content, place->field.size,
                                         place->field.size + room, depth + 1);
        used += put_varint(out + used, new_size);
        memmove(out + used, content, new_size);
        used += new_size;
    } else {
        memcpy(out, bytes + place->first, place->size);
        used = LLVMFuzzerMutate(out, place->size, place->size);
    }
    bool fits = mutate_splice(bytes, size, size_max, place->first, place->size, out, used);
    free(out);
    return fits;
}

static size_t change_content(struct mutate *mutate, const ProtobufCMessageDescriptor *descriptor, uint8_t *bytes,
                             size_t size, size_t size_max, unsigned depth)
{
    struct place *places = malloc(FIELDS * sizeof *places);
    assert(places != NULL);
    size_t count = descriptor == NULL || depth > DEPTH ? 0 : find_fields(bytes, size, places);
    if (count == 0 || mutate_chance(mutate, 50)) {
        free(places);
        return size_max == 0 ? 0 : LLVMFuzzerMutate(bytes, size, size_max);
    }
    struct place place = places[mutate_below(mutate, count)], other = places[mutate_below(mutate, count)];
    free(places);
    uint8_t *copy = malloc(place.size);
    assert(copy != NULL);
    memcpy(copy, bytes + place.first, place.size);
    switch (mutate_below(mutate, 8)) {
    case 0:
        (void)mutate_splice(bytes, &size, size_max, place.first, place.size, NULL, 0);
        break;
    case 1: /* here and there */
        (void)mutate_splice(bytes, &size, size_max, other.first, 0, copy, place.size);
        break;
    case 2: /* there instead of here */
        (void)mutate_splice(bytes, &size, size_max, place.first, place.size, NULL, 0);
        (void)mutate_splice(bytes, &size, size_max, other.first > place.first ? other.first - place.size : other.first,
                            0, copy, place.size);
        break;
    default:
        (void)change_value(mutate, descriptor, bytes, &size, size_max, &place, depth);
    }
    free(copy);
    return size;
}

size_t mutate_message(struct mutate *mutate, const ProtobufCMessageDescriptor *descriptor, uint8_t *bytes, size_t size,
                      size_t size_max)
{
    return change_content(mutate, descriptor, bytes, size, size_max, 0);
}

/* Frames. */

struct frame_place {
    size_t first, size;
    struct frame frame;
};

static size_t find_frames(const uint8_t *bytes, size_t size, struct frame_place places[static FRAMES])
{
    size_t count = 0, position = 0;
    while (count < FRAMES) {
        struct frame_place *place = &places[count];
        place->first = position;
        if (frame_next(bytes, size, &position, &place->frame) != FRAME_OK)
            break;
        place->size = position - place->first;
        count++;
    }
    return count;
}

static void put_frame_size(uint8_t *frame, size_t size)
{
    put32(frame + 4, (uint32_t)(size - FRAME_HEADER_SIZE));
}

/* The number of some bits in the fixed part of the body: where artifacts, sizes, offsets and watermarks are. */
static void change_number(struct mutate *mutate, uint8_t *frame, size_t size)
{
    size_t first = FRAME_HEADER_SIZE + TRANSFER_ID_SIZE;
    if (size < first + 8)
        return;
    size_t words = (size - first) / 4;
    uint8_t *at = frame + first + 4 * mutate_below(mutate, words < 10 ? words : 10);
    if (at + 8 <= frame + size && mutate_chance(mutate, 2))
        put64(at, mutate_number(mutate, get64(at)));
    else
        put32(at, (uint32_t)mutate_number(mutate, get32(at)));
}

static void change_frame(struct mutate *mutate, uint8_t *bytes, size_t *size, size_t size_max,
                         const struct frame_place *place)
{
    size_t room = size_max > *size ? size_max - *size : 0;
    uint8_t *out = malloc(place->size + room);
    assert(out != NULL);
    memcpy(out, bytes + place->first, place->size);
    size_t used = place->size;
    bool with_message =
        place->frame.type == FRAME_ANNOUNCE || place->frame.type == FRAME_ABORT || place->frame.type == FRAME_HEARTBEAT;
    size_t id_size = place->frame.transfer_id != NULL ? TRANSFER_ID_SIZE : 0;
    size_t fixed = FRAME_HEADER_SIZE + id_size;
    if (mutate_chance(mutate, 8)) {
        out[mutate_below(mutate, 2)] ^= (uint8_t)(1 << mutate_below(mutate, 4));
    } else if (with_message) {
        used = fixed + mutate_message(mutate, &diodecast__signed__descriptor, out + fixed, place->size - fixed,
                                      place->size - fixed + room);
    } else if (mutate_chance(mutate, 2)) {
        change_number(mutate, out, place->size);
    } else if (place->size + room > FRAME_HEADER_SIZE) {
        used = FRAME_HEADER_SIZE + LLVMFuzzerMutate(out + FRAME_HEADER_SIZE, place->size - FRAME_HEADER_SIZE,
                                                    place->size - FRAME_HEADER_SIZE + room);
    }
    put_frame_size(out, used);
    (void)mutate_splice(bytes, size, size_max, place->first, place->size, out, used);
    free(out);
}

size_t mutate_frames(struct mutate *mutate, uint8_t *bytes, size_t size, size_t size_max)
{
    struct frame_place *places = malloc(FRAMES * sizeof *places);
    assert(places != NULL);
    size_t count = find_frames(bytes, size, places);
    if (count == 0 || mutate_chance(mutate, 20)) {
        free(places);
        return size_max == 0 ? 0 : LLVMFuzzerMutate(bytes, size, size_max);
    }
    struct frame_place place = places[mutate_below(mutate, count)], other = places[mutate_below(mutate, count)];
    free(places);
    uint8_t *copy = malloc(place.size);
    assert(copy != NULL);
    memcpy(copy, bytes + place.first, place.size);
    switch (mutate_below(mutate, 8)) {
    case 0:
        (void)mutate_splice(bytes, &size, size_max, place.first, place.size, NULL, 0);
        break;
    case 1:
        (void)mutate_splice(bytes, &size, size_max, other.first, 0, copy, place.size);
        break;
    default:
        change_frame(mutate, bytes, &size, size_max, &place);
    }
    free(copy);
    return size;
}
