// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_RECEIVER_BOUNDS_H
#define DIODECAST_RECEIVER_BOUNDS_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/limits.h"
#include "proto/manifest.h"
#include "proto/message.h"

/*
 * What one transfer may be at most on this receiver, where an operator wants it lower than the wire format's limits
 * (proto/limits.h). Only what is signed is measured; a transfer that exceeds one is refused, and nothing else. Pure.
 */
struct bounds {
    uint64_t size;      /* bytes of all its artifacts */
    uint32_t artifacts; /* files */
    uint32_t path;      /* bytes of a path below payload/ */
    uint32_t depth;     /* components of one */
    uint64_t manifest;  /* bytes of its manifest */
};

enum { BOUNDS_REASON_SIZE = 256 };

/* Those of the wire format. */
extern const struct bounds bounds_none;

/* Whether it keeps them; else `reason` says which it exceeds, as a phrase for the operator that follows "the manifest"
 * or "the transfer". */
bool bounds_allow_announce(const struct bounds *bounds, const struct message_announce *announce,
                           char reason[static BOUNDS_REASON_SIZE]);
/* Rewinds the reader. */
bool bounds_allow_manifest(const struct bounds *bounds, struct manifest_reader *reader,
                           char reason[static BOUNDS_REASON_SIZE]);

#endif
