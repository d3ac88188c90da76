// SPDX-License-Identifier: Apache-2.0
#include "sender/announce.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/signed.h"

enum {
    FRAME_SIZE = 192,     /* of the frame, the envelope and the context */
    TRANSFER_FIELDS = 48, /* of one transfer without its texts */
};
_Static_assert(FRAME_SIZE + TRANSFER_FIELDS + LIMIT_CHANNEL_LENGTH + LIMIT_COMPONENT_LENGTH <= PACK_CAPACITY_MIN,
               "the first always fits");

void announce_begin(struct announce *announce, int64_t time_ns, uint64_t data_limit)
{
    announce->count = 0;
    announce->time_ns = time_ns > 0 ? time_ns : 0;
    announce->data_limit = data_limit;
    announce->data = 0;
    announce->size = FRAME_SIZE;
}

bool announce_add(struct announce *announce, const uint8_t transfer_id[static TRANSFER_ID_SIZE], const char *channel,
                  const char *name, uint64_t total_bytes, uint32_t artifact_count)
{
    size_t size = TRANSFER_FIELDS + strlen(channel) + strlen(name);
    if (announce->count > 0) {
        if (announce->count == LIMIT_ANNOUNCED || size > PACK_CAPACITY_MIN - announce->size)
            return false;
        if (announce->data > announce->data_limit || total_bytes > announce->data_limit - announce->data)
            return false;
    }
    struct message_announce *transfer = &announce->transfers[announce->count++];
    *transfer = (struct message_announce){
        .total_bytes = total_bytes, .artifact_count = artifact_count, .time_ns = announce->time_ns};
    memcpy(transfer->transfer_id, transfer_id, TRANSFER_ID_SIZE);
    snprintf(transfer->channel, sizeof transfer->channel, "%s", channel);
    snprintf(transfer->name, sizeof transfer->name, "%s", name);
    announce->data += total_bytes;
    announce->size += size;
    return true;
}

void announce_pack(const struct announce *announce, const struct signature_key *key, struct pack *pack)
{
    uint8_t *body, *bytes;
    size_t body_size, size;
    message_encode_announce(announce->transfers, announce->count, &body, &body_size);
    signed_encode(key, body, body_size, NULL, &bytes, &size, NULL);
    free(body);
    assert(size <= announce->size);
    bool packed = pack_signed(pack, FRAME_ANNOUNCE, announce->transfers[0].transfer_id, bytes, (uint32_t)size);
    assert(packed);
    (void)packed;
    free(bytes);
}
