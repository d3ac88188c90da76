// SPDX-License-Identifier: Apache-2.0
#include "receiver/opening.h"

#include <string.h>

#include "common/signature.h"

void opening_read(const struct trust *trust, uint32_t sender_id, const uint8_t transfer_id[static TRANSFER_ID_SIZE],
                  const uint8_t *bytes, size_t size, struct opening *opening)
{
    struct signed_message *message = &opening->message;
    *opening = (struct opening){0};
    if (signed_decode(bytes, size, LIMIT_MANIFEST_SIZE, message) != STATUS_OK) {
        opening->why = "is not a signed message";
        return;
    }
    const struct signature_public *key = trust_find(trust, sender_id);
    if (key == NULL || !signature_verify(key, message->body, message->body_size, &message->signature))
        opening->why = "is not signed by the key of its sender";
    else if (!message->signature.has_comment)
        opening->why = "has no trusted comment";
    if (opening->why == NULL) {
        opening->is_signed = true;
        enum status status =
            manifest_reader_create(message->body, message->body_size, &opening->reader, opening->reason);
        if (status == STATUS_INVALID)
            opening->why = opening->reason;
        else if (status != STATUS_OK)
            opening->why = "can't be read for want of memory";
        opening->is_signed = status == STATUS_INVALID;
    }
    if (opening->why == NULL &&
        memcmp(manifest_reader_head(opening->reader)->transfer_id, transfer_id, TRANSFER_ID_SIZE) != 0) {
        manifest_reader_destroy(opening->reader);
        opening->reader = NULL;
        opening->why = "is the manifest of another transfer";
    }
    if (opening->why != NULL)
        signed_message_deinit(message);
}

void opening_deinit(struct opening *opening)
{
    manifest_reader_destroy(opening->reader);
    opening->reader = NULL;
    signed_message_deinit(&opening->message);
}
