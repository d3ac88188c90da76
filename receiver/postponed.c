// SPDX-License-Identifier: Apache-2.0
#include "receiver/postponed.h"

#include <assert.h>
#include <string.h>

bool postponed_put(struct postponed *postponed, const struct unpack_source *source, const struct frame *frame)
{
    assert(frame->type == FRAME_ANNOUNCE && frame->transfer_id == frame->body);
    if (postponed_is_full(postponed) || frame->body_size > POSTPONED_BODY)
        return false;
    struct postponed_entry *entry = &postponed->entries[(postponed->first + postponed->count++) % POSTPONED_MAX];
    entry->source = *source;
    entry->size = frame->body_size;
    memcpy(entry->body, frame->body, frame->body_size);
    return true;
}

bool postponed_take(struct postponed *postponed, uint64_t until_ns, struct unpack_source *source, struct frame *frame)
{
    const struct postponed_entry *entry = &postponed->entries[postponed->first];
    if (postponed->count == 0 || entry->source.now_ns > until_ns)
        return false;
    postponed->first = (postponed->first + 1) % POSTPONED_MAX;
    postponed->count--;
    *source = entry->source;
    *frame = (struct frame){.type = FRAME_ANNOUNCE,
                            .flags = FRAME_FLAG_TRANSFER,
                            .transfer_id = entry->body,
                            .body = entry->body,
                            .body_size = entry->size};
    return true;
}

bool postponed_is_full(const struct postponed *postponed)
{
    return postponed->count == POSTPONED_MAX;
}
