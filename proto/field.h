// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_PROTO_FIELD_H
#define DIODECAST_PROTO_FIELD_H

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * A bounded walk over the fields of one encoded protobuf message (protobuf.dev/programming-guides/encoding), for what
 * protobuf-c does not tell: where a large field lies in the caller's bytes, and whether a message is ambiguous. Pure;
 * views into the caller's bytes.
 */

enum field_wire { FIELD_VARINT = 0, FIELD_FIXED64 = 1, FIELD_BYTES = 2, FIELD_FIXED32 = 5 };

struct field {
    uint32_t number;
    enum field_wire wire;
    uint64_t value;       /* FIELD_VARINT only */
    const uint8_t *bytes; /* FIELD_BYTES only */
    size_t size;          /* FIELD_BYTES only */
};

enum field_result {
    FIELD_OK,
    FIELD_END,
    FIELD_MALFORMED, /* a truncated field, a length beyond the end, an over-long varint, field number 0, a group */
};

/* Reads the field at *position and moves *position behind it. Never reads outside bytes[0..size). */
enum field_result field_next(const uint8_t *bytes, size_t size, size_t *position, struct field *field);

/*
 * Whether bytes[0..size) can be read in one way only, and cheaply: every field is well-formed; those of `descriptor`
 * have its wire type, a value in range of their type and no NUL inside a string; none that is not repeated comes twice;
 * at most LIMIT_UNKNOWN_FIELDS others. Does not descend into sub-messages.
 */
bool field_check(const ProtobufCMessageDescriptor *descriptor, const uint8_t *bytes, size_t size);

/* field_check() for each sub-message in the repeated field `number`, at most `limit` of them. */
bool field_check_each(const ProtobufCMessageDescriptor *descriptor, uint32_t number, size_t limit, const uint8_t *bytes,
                      size_t size);

#endif
