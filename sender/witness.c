// SPDX-License-Identifier: Apache-2.0
#include "sender/witness.h"

#include <stdio.h>

#include "common/units.h"

void witness_transfer(struct audit_entry *entry, enum audit_event event, const struct transfer *transfer,
                      const uint8_t chain_id[static CHAIN_ID_SIZE], const char *detail)
{
    *entry = (struct audit_entry){.event = event,
                                  .transfer_id = transfer->id,
                                  .channel = transfer->channel,
                                  .name = transfer->name,
                                  .bytes = transfer->total_bytes,
                                  .actor = transfer->origin_user,
                                  .detail = detail};
    if (transfer->sequence == 0)
        return;
    entry->chain_id = chain_id;
    entry->sequence = transfer->sequence;
    entry->manifest_hash = transfer->manifest_hash;
}

void witness_row(struct audit_entry *entry, enum audit_event event, const struct ledger_transfer *row,
                 const uint8_t chain_id[static CHAIN_ID_SIZE], const char *detail)
{
    *entry = (struct audit_entry){.event = event,
                                  .transfer_id = row->id,
                                  .channel = row->channel,
                                  .name = row->name,
                                  .bytes = row->bytes,
                                  .actor = row->origin_user,
                                  .detail = detail};
    if (row->sequence == 0)
        return;
    entry->chain_id = chain_id;
    entry->sequence = row->sequence;
}

void witness_replayed(struct audit *audit, const struct ledger *ledger, const struct transfer *transfer)
{
    struct audit_entry entry;
    uint8_t chain_id[CHAIN_ID_SIZE];
    char what[64] = "all of it";
    char detail[128];
    ledger_chain_id(ledger, chain_id);
    if (transfer->manifest_only)
        snprintf(what, sizeof what, "its manifest");
    else if (transfer->range_count > 0)
        snprintf(what, sizeof what, "%zu range%s of its chunks", transfer->range_count,
                 units_plural(transfer->range_count));
    snprintf(detail, sizeof detail, "%s, %s", what,
             transfer->kind == TRANSFER_HEAL ? "because the link was idle" : "as asked for");
    witness_transfer(&entry, AUDIT_REPLAYED, transfer, chain_id, detail);
    audit_note(audit, &entry);
}

void witness_record(struct audit *audit, const struct audit_entry *entries, size_t count)
{
    if (audit_record(audit, entries, count) == STATUS_OK)
        return;
    for (size_t i = 0; i < count; i++)
        audit_note(audit, &entries[i]);
}
