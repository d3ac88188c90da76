// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_RECEIVER_POSTPONED_H
#define DIODECAST_RECEIVER_POSTPONED_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/frame.h"
#include "receiver/unpack.h"

/*
 * Announces whose signature is not checked yet. The manifest of a small transfer is mostly right behind its announce
 * and vouches for all of it, while one signature costs more than the rest of such a transfer: so its announce waits a
 * little for being needed no more. First in, first out, in fixed memory. Sans I/O; one thread.
 */
enum {
    POSTPONED_MAX = 120,  /* well below CATALOG_UNANNOUNCED */
    POSTPONED_BODY = 640, /* bytes of a frame's body: longer ones do not wait */
};
#define POSTPONED_NS          UINT64_C(50000000)
#define POSTPONED_TOTAL_BYTES (UINT64_C(256) << 10) /* larger transfers do not wait */

struct postponed_entry {
    struct unpack_source source;
    uint32_t size;
    uint8_t body[POSTPONED_BODY];
};

struct postponed {
    unsigned first, count;
    struct postponed_entry entries[POSTPONED_MAX]; /* a ring */
};

/* Copies an ANNOUNCE frame; false when it is too long, or no place is left. */
bool postponed_put(struct postponed *postponed, const struct unpack_source *source, const struct frame *frame);
/* The oldest one, if it came at `until_ns` or before; its views are good until the next call. */
bool postponed_take(struct postponed *postponed, uint64_t until_ns, struct unpack_source *source, struct frame *frame);
bool postponed_is_full(const struct postponed *postponed);

#endif
