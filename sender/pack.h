// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_SENDER_PACK_H
#define DIODECAST_SENDER_PACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/frame.h"

/*
 * Lays frames back to back into the payload of a source block. Writes the frames' headers; the bytes of artifacts are
 * read by the caller straight into the place that pack_data() names, so that nothing is copied. Pure.
 */
struct pack {
    uint8_t *payload; /* borrowed */
    size_t capacity;
    size_t used;
};

enum {
    /* A payload must have room for the largest frame that can't be split: an abort with its strings at their limits, or
     * an announce, which takes further transfers along as they fit (announce.h). */
    PACK_CAPACITY_MIN = 1536,
    /* A piece of data or manifest that does not end its artifact or copy is at least so long: a frame around less
     * costs more than the room is worth. Less in small blocks. */
    PACK_PIECE_MIN = 1024,
};

void pack_open(struct pack *pack, uint8_t *payload, size_t capacity);

/* Adds a Signed message whole (ANNOUNCE, ABORT with id, HEARTBEAT without). False, changing nothing, when the block has
 * no room for it. */
bool pack_signed(struct pack *pack, enum frame_type type, const uint8_t *transfer_id, const uint8_t *bytes,
                 uint32_t size);

/*
 * Adds a DATA frame for as much of the artifact from `data->offset` on as the block and the chunk hold. Returns the
 * number of bytes and sets *place, where they have to be read to; 0, changing nothing, when the rest of this block is
 * not worth a frame. bytes and size of `data` are ignored.
 */
uint32_t pack_data(struct pack *pack, const struct frame_data *data, uint8_t **place);

/*
 * Adds a MANIFEST frame with as much of the Signed message as fits from `part->offset` on; part->bytes is the whole
 * message, part->size is ignored. Returns the number of bytes; 0 as above.
 */
uint32_t pack_manifest(struct pack *pack, const struct frame_manifest *part);

/* Ends the payload: zeros up to the next multiple of symbol_size. Returns the number of source symbols; 0 for an empty
 * block. */
uint8_t pack_close(struct pack *pack, uint16_t symbol_size);

#endif
