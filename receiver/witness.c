// SPDX-License-Identifier: Apache-2.0
#include "receiver/witness.h"

#include "common/digest.h"

enum {
    DIGEST_AT_ONCE = 1 << 20
}; /* bytes of a manifest; a larger one is hashed where it is verified, off the hot path */

void witness_delivery(struct audit_entry *entry, enum audit_event event, const struct ledger_delivery *delivery)
{
    *entry = (struct audit_entry){.event = event,
                                  .sender_id = delivery->sender_id,
                                  .chain_id = delivery->chain_id,
                                  .sequence = delivery->sequence,
                                  .transfer_id = delivery->transfer_id,
                                  .manifest_hash = delivery->manifest_hash,
                                  .channel = delivery->channel,
                                  .name = delivery->name,
                                  .bytes = delivery->bytes};
}

void witness_assembly(struct audit *audit, enum audit_event event, const struct assembly *assembly, const char *detail)
{
    uint8_t hash[SHA256_SIZE];
    struct audit_entry entry = {.event = event,
                                .sender_id = assembly->sender_id,
                                .transfer_id = assembly->id,
                                .channel = assembly->channel,
                                .name = assembly->name,
                                .bytes = assembly->total_bytes,
                                .detail = detail};
    if (audit == NULL)
        return;
    if (assembly->reader != NULL) {
        entry.chain_id = assembly->chain_id;
        entry.sequence = assembly->sequence;
    }
    if (event == AUDIT_SEEN && assembly->manifest.body_size <= DIGEST_AT_ONCE) {
        digest_once(assembly->manifest.body, assembly->manifest.body_size, hash);
        entry.manifest_hash = hash;
    }
    audit_note(audit, &entry);
}
