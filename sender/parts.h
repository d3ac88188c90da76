// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_SENDER_PARTS_H
#define DIODECAST_SENDER_PARTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sender/transfer.h"

/* Which parts of a transfer are sent again: everything, some chunks, or only its manifest. Pure. */

enum { PARTS_RANGES = 64, PARTS_ENCODED_SIZE = PARTS_RANGES * 16 };

/* Everything when there are no ranges and it is not the manifest alone; {0} therefore is everything. */
struct parts {
    bool manifest_only;
    size_t range_count;
    struct transfer_range ranges[PARTS_RANGES]; /* ascending, not touching */
};

/* Adds chunks [first, last]. Beyond PARTS_RANGES the two ranges that lie nearest become one: more is sent, never less.
 */
void parts_add(struct parts *parts, uint64_t first, uint64_t last);
/* Adds what `from` names. */
void parts_merge(struct parts *parts, const struct parts *from);

/* Of a transfer whose artifacts have `sizes`, in manifest order: its chunks, and the bytes that the parts hold. */
uint64_t parts_chunk_count(const uint64_t *sizes, size_t count);
uint64_t parts_bytes(const struct parts *parts, const uint64_t *sizes, size_t count);
/* Takes off the chunks that lie wholly in the first `mark` bytes: only the manifest when nothing else is left. */
void parts_skip(struct parts *parts, const uint64_t *sizes, size_t count, uint64_t mark);

/* The ranges as they are stored; the size is a multiple of 16. Decoding is false for what parts_encode() never makes.
 */
size_t parts_encode(const struct parts *parts, uint8_t bytes[static PARTS_ENCODED_SIZE]);
bool parts_decode(struct parts *parts, const uint8_t *bytes, size_t size);

#endif
