// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_PROTO_FRAME_H
#define DIODECAST_PROTO_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/limits.h"

/* Typed records inside the payload of a source block (proto/README.md, "Frames"). Pure: views into the caller's bytes.
 */

enum frame_type {
    FRAME_PADDING = 0, /* the rest of the payload is padding */
    FRAME_ANNOUNCE = 1,
    FRAME_DATA = 2,
    FRAME_MANIFEST = 3,
    FRAME_ABORT = 4,
    FRAME_HEARTBEAT = 5,
    FRAME_KEY = 6,
};

enum frame_flag {
    FRAME_FLAG_CRITICAL = 0x01, /* whoever does not know the type must refuse what it belongs to */
    FRAME_FLAG_TRANSFER = 0x02, /* the body starts with a transfer id */
};

enum {
    FRAME_HEADER_SIZE = 8,
    FRAME_DATA_FIXED_SIZE = TRANSFER_ID_SIZE + 24,     /* body bytes in front of the data */
    FRAME_MANIFEST_FIXED_SIZE = TRANSFER_ID_SIZE + 16, /* body bytes in front of watermarks and part */
};

struct frame {
    uint8_t type; /* enum frame_type, or one we do not know */
    uint8_t flags;
    const uint8_t *transfer_id; /* TRANSFER_ID_SIZE bytes when FRAME_FLAG_TRANSFER is set, else NULL */
    const uint8_t *body;        /* whole body, the id included */
    uint32_t body_size;
};

struct frame_data {
    const uint8_t *transfer_id;
    uint32_t artifact;      /* index among the file entries of the statement */
    uint64_t artifact_size; /* bytes */
    uint64_t offset;        /* bytes, absolute in the artifact */
    const uint8_t *bytes;
    uint32_t size; /* > 0; offset + size <= artifact_size; inside one chunk */
};

struct frame_manifest {
    const uint8_t *transfer_id;
    uint32_t total;  /* bytes of the whole Signed message */
    uint32_t offset; /* of this part */
    uint16_t copy;   /* 0 for the first copy; for statistics only */
    uint16_t lanes;
    uint64_t watermark[LIMIT_LANES]; /* per lane: first SBN after all data of the transfer */
    const uint8_t *bytes;
    uint32_t size; /* > 0; offset + size <= total */
};

enum frame_result {
    FRAME_OK,
    FRAME_END,       /* padding or the exact end of the payload */
    FRAME_MALFORMED, /* a length that overflows, a reserved field that is not zero: nothing behind it can be read */
};

/* Reads the frame at *position and moves *position behind it. Never reads outside payload[0..size). */
enum frame_result frame_next(const uint8_t *payload, size_t size, size_t *position, struct frame *frame);

/* Parse the body of a frame of the given type; false when it breaks a rule of the format. */
bool frame_parse_data(const struct frame *frame, struct frame_data *data);
bool frame_parse_manifest(const struct frame *frame, struct frame_manifest *manifest);
/* For ANNOUNCE, ABORT, HEARTBEAT, KEY: the bytes of the Signed message behind the optional transfer id. */
bool frame_parse_signed(const struct frame *frame, const uint8_t **bytes, uint32_t *size);

/* Bytes that a frame's header and fixed body fields take in front of the variable part. */
size_t frame_data_overhead(void);
size_t frame_manifest_overhead(uint16_t lanes);

/*
 * Writers put header and fixed fields at `out` and return the bytes written; the variable part (data->size,
 * manifest->size bytes) comes directly behind and is the caller's to fill, so that a read can land in place.
 */
size_t frame_write_data(uint8_t *out, const struct frame_data *data);
size_t frame_write_manifest(uint8_t *out, const struct frame_manifest *manifest);
/* Writes a whole ANNOUNCE, ABORT (with id), HEARTBEAT or KEY (id NULL) frame; `out` has frame_signed_size() bytes. */
size_t frame_write_signed(uint8_t *out, enum frame_type type, const uint8_t *transfer_id, const uint8_t *bytes,
                          uint32_t size);
size_t frame_signed_size(const uint8_t *transfer_id, uint32_t size);

#endif
