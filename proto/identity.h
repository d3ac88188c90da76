// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_PROTO_IDENTITY_H
#define DIODECAST_PROTO_IDENTITY_H

#include <stddef.h>
#include <stdint.h>

#include "proto/limits.h"

/* Identifiers in their printed forms, and the names of directories made from them. Pure. */

enum {
    TRANSFER_ID_TEXT_SIZE = 2 * TRANSFER_ID_SIZE + 1, /* lower-case hex and a NUL */
    SENDER_ID_TEXT_SIZE = 9,
    IDENTITY_DELIVERED_NAME_SIZE = 16 + 1 + 8 + 1 + LIMIT_DELIVERED_NAME_LENGTH + 1,
};

void identity_transfer_text(const uint8_t id[static TRANSFER_ID_SIZE], char text[static TRANSFER_ID_TEXT_SIZE]);
void identity_sender_text(uint32_t sender_id, char text[static SENDER_ID_TEXT_SIZE]);

/* SEQUENCE-SENDERID-NAME of the intake queue: 16 decimal digits, 8 hex digits, NAME cut at 200 bytes on a character
 * boundary. */
void identity_delivered_name(uint64_t sequence, uint32_t sender_id, const char *name,
                             char out[static IDENTITY_DELIVERED_NAME_SIZE]);

#endif
