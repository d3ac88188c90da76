// SPDX-License-Identifier: Apache-2.0
#include "receiver/discards.h"

#include <string.h>

void discards_note(struct discards *discards, const struct assembly *assembly, const char *why, int64_t realtime_ns)
{
    struct report_discard *discard = &discards->newest[discards->total++ % REPORT_DISCARDED];
    *discard = (struct report_discard){.sender_id = assembly->sender_id,
                                       .sequence = assembly->sequence,
                                       .bytes_held = assembly->held_bytes,
                                       .at_ns = realtime_ns,
                                       .why = why};
    memcpy(discard->id, assembly->id, TRANSFER_ID_SIZE);
    memcpy(discard->channel, assembly->channel, sizeof discard->channel);
    memcpy(discard->name, assembly->name, sizeof discard->name);
}

void discards_fill(const struct discards *discards, struct report_snapshot *snapshot)
{
    for (uint64_t i = discards->total; i > 0 && snapshot->discarded_count < REPORT_DISCARDED; i--)
        snapshot->discarded[snapshot->discarded_count++] = discards->newest[(i - 1) % REPORT_DISCARDED];
    snapshot->discarded_total = discards->total;
}
