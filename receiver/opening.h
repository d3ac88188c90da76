// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_RECEIVER_OPENING_H
#define DIODECAST_RECEIVER_OPENING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/trust.h"
#include "proto/manifest.h"
#include "proto/signed.h"

/* From the bytes of a MANIFEST to a manifest that may be believed. Pure. */

enum { OPENING_REASON_SIZE = 256 };

struct opening {
    const char *why; /* it is none, in words that follow "a manifest"; NULL: it is a good one; lives as long as this */
    bool is_signed;  /* where `why` is set: by its sender, all the same */
    char reason[OPENING_REASON_SIZE];
    struct signed_message message; /* of a good one: the caller's to free, and the reader too */
    struct manifest_reader *reader;
};

/* `bytes` are borrowed for the call. */
void opening_read(const struct trust *trust, uint32_t sender_id, const uint8_t transfer_id[static TRANSFER_ID_SIZE],
                  const uint8_t *bytes, size_t size, struct opening *opening);
/* Frees what a good one holds. */
void opening_deinit(struct opening *opening);

#endif
