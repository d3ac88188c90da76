// SPDX-License-Identifier: Apache-2.0
#include "proto/identity.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>

#include "proto/relpath.h"

void identity_transfer_text(const uint8_t id[static TRANSFER_ID_SIZE], char text[static TRANSFER_ID_TEXT_SIZE])
{
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < TRANSFER_ID_SIZE; i++) {
        text[2 * i] = digits[id[i] >> 4];
        text[2 * i + 1] = digits[id[i] & 0x0f];
    }
    text[2 * TRANSFER_ID_SIZE] = '\0';
}

void identity_sender_text(uint32_t sender_id, char text[static SENDER_ID_TEXT_SIZE])
{
    int length = snprintf(text, SENDER_ID_TEXT_SIZE, "%08" PRIx32, sender_id);
    assert(length == SENDER_ID_TEXT_SIZE - 1);
}

void identity_delivered_name(uint64_t sequence, uint32_t sender_id, const char *name,
                             char out[static IDENTITY_DELIVERED_NAME_SIZE])
{
    assert(sequence <= LIMIT_SEQUENCE);
    int kept = (int)relpath_cut(name, LIMIT_DELIVERED_NAME_LENGTH);
    int length = snprintf(out, IDENTITY_DELIVERED_NAME_SIZE, "%016" PRIu64 "-%08" PRIx32 "-%.*s", sequence, sender_id,
                          kept, name);
    assert(length > 0 && length < IDENTITY_DELIVERED_NAME_SIZE);
}
