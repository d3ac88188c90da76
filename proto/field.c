// SPDX-License-Identifier: Apache-2.0
#include "proto/field.h"

#include <assert.h>
#include <limits.h>
#include <string.h>

#include "proto/limits.h"

enum { VARINT_SIZE_MAX = 10, FIELD_NUMBER_MAX = (1 << 29) - 1 };

/* Only the shortest form of a number is accepted, so that no two encodings mean the same. */
static bool read_varint(const uint8_t *bytes, size_t size, size_t *position, uint64_t *value)
{
    *value = 0;
    for (unsigned i = 0; i < VARINT_SIZE_MAX && *position < size; i++) {
        uint8_t byte = bytes[(*position)++];
        if (i == VARINT_SIZE_MAX - 1 && byte > 1)
            return false;
        *value |= (uint64_t)(byte & 0x7f) << (7 * i);
        if ((byte & 0x80) == 0)
            return byte != 0 || i == 0;
    }
    return false;
}

enum field_result field_next(const uint8_t *bytes, size_t size, size_t *position, struct field *field)
{
    uint64_t tag, skip = 0;

    assert(*position <= size);
    if (*position == size)
        return FIELD_END;
    if (!read_varint(bytes, size, position, &tag) || tag >> 3 == 0 || tag >> 3 > FIELD_NUMBER_MAX)
        return FIELD_MALFORMED;
    *field = (struct field){.number = (uint32_t)(tag >> 3), .wire = (enum field_wire)(tag & 7)};
    switch (field->wire) {
    case FIELD_VARINT:
        return read_varint(bytes, size, position, &field->value) ? FIELD_OK : FIELD_MALFORMED;
    case FIELD_FIXED64:
        skip = 8;
        break;
    case FIELD_FIXED32:
        skip = 4;
        break;
    case FIELD_BYTES:
        if (!read_varint(bytes, size, position, &skip))
            return FIELD_MALFORMED;
        break;
    default:
        return FIELD_MALFORMED;
    }
    if (skip > size - *position)
        return FIELD_MALFORMED;
    if (field->wire == FIELD_BYTES) {
        field->bytes = bytes + *position;
        field->size = (size_t)skip;
    }
    *position += (size_t)skip;
    return FIELD_OK;
}

/* Whether the field has the wire type and range of its declared type. All types that diodecast.proto uses are here. */
static bool fits(const ProtobufCFieldDescriptor *declared, const struct field *field)
{
    switch (declared->type) {
    case PROTOBUF_C_TYPE_STRING:
        return field->wire == FIELD_BYTES && (field->size == 0 || memchr(field->bytes, 0, field->size) == NULL);
    case PROTOBUF_C_TYPE_BYTES:
    case PROTOBUF_C_TYPE_MESSAGE:
        return field->wire == FIELD_BYTES;
    case PROTOBUF_C_TYPE_BOOL:
        return field->wire == FIELD_VARINT && field->value <= 1;
    case PROTOBUF_C_TYPE_ENUM:
        return field->wire == FIELD_VARINT && field->value <= INT_MAX;
    case PROTOBUF_C_TYPE_UINT32:
        return field->wire == FIELD_VARINT && field->value <= UINT32_MAX;
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_SINT64:
        return field->wire == FIELD_VARINT;
    default:
        assert(false && "a type that diodecast.proto does not use");
        return false;
    }
}

bool field_check(const ProtobufCMessageDescriptor *descriptor, const uint8_t *bytes, size_t size)
{
    uint64_t seen = 0;
    unsigned unknown = 0;
    size_t position = 0;
    struct field field;
    enum field_result result;

    assert(descriptor->n_fields <= 64);
    while ((result = field_next(bytes, size, &position, &field)) == FIELD_OK) {
        const ProtobufCFieldDescriptor *declared = protobuf_c_message_descriptor_get_field(descriptor, field.number);
        if (declared == NULL) {
            if (++unknown > LIMIT_UNKNOWN_FIELDS)
                return false;
            continue;
        }
        if (!fits(declared, &field))
            return false;
        if (declared->label == PROTOBUF_C_LABEL_REPEATED)
            continue;
        uint64_t bit = UINT64_C(1) << (declared - descriptor->fields);
        if ((seen & bit) != 0)
            return false;
        seen |= bit;
    }
    return result == FIELD_END;
}

bool field_check_each(const ProtobufCMessageDescriptor *descriptor, uint32_t number, size_t limit, const uint8_t *bytes,
                      size_t size)
{
    size_t count = 0, position = 0;
    struct field field;

    while (field_next(bytes, size, &position, &field) == FIELD_OK) {
        if (field.number != number)
            continue;
        if (field.wire != FIELD_BYTES || ++count > limit || !field_check(descriptor, field.bytes, field.size))
            return false;
    }
    return true;
}
