// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_RECEIVER_RENUMBER_H
#define DIODECAST_RECEIVER_RENUMBER_H

#include <stdbool.h>
#include <stdint.h>

#include "receiver/assembly.h"
#include "receiver/checks.h"
#include "receiver/knowledge.h"
#include "receiver/opening.h"
#include "receiver/unpack.h"

/*
 * Transfers that get a second number. A sender whose state is put back to a time when it had claimed a transfer, but
 * not sealed it yet, seals it once more: the same transfer, under the number that comes next now. The number it had
 * before is nothing any more, and the new one must not count as never seen because the transfer was received already.
 *
 * So, while the chain contradicts itself or lacks numbers, and at no other time, manifests of transfers are read whose
 * manifest is held or that were delivered. Of a delivered one the new number counts as had from then on; an open one is
 * bound to the new manifest when its number has become void, so that its ticket names what the sender knows. Sans I/O;
 * one thread.
 */
struct renumber;

enum {
    RENUMBER_SLOTS = 16,                  /* manifests put together at a time; the one without news for longest goes */
    RENUMBER_BYTES = LIMIT_MANIFEST_SIZE, /* that they take together */
    RENUMBER_JUDGED = 4096,               /* manifests remembered as of no interest */
};

/* Tells of a delivered transfer which number it has as well: to be recorded for good. The opening is borrowed. */
typedef void renumber_had(void *context, uint32_t sender_id, const struct opening *opening);

/* `trust`, `checks` and `knowledge` are borrowed. NULL when memory is short. */
struct renumber *renumber_create(const struct trust *trust, struct checks *checks, struct knowledge *knowledge,
                                 renumber_had *had, void *context);
void renumber_destroy(struct renumber *renumber);

/* These bytes are a manifest that was bound: its other copies need not be read. */
void renumber_note(struct renumber *renumber, const struct manifest_head *head, const uint8_t *bytes, size_t size);

/*
 * A part of a manifest of `assembly`, which is open and has one, or with NULL of a transfer that was delivered. True
 * when the transfer is to be bound to the one in `opening`, which is the caller's then, instead of that which it has.
 */
bool renumber_take(struct renumber *renumber, const struct unpack_source *source, const struct frame_manifest *part,
                   const struct assembly *assembly, struct opening *opening);

#endif
