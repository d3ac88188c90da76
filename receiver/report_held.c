// SPDX-License-Identifier: Apache-2.0
#include "receiver/report_held.h"

#include <stdio.h>

#include "common/clock.h"
#include "common/units.h"
#include "proto/identity.h"

static const char *const kept_words[] = {
    [LEDGER_KEPT_NOTHING] = "nothing", [LEDGER_KEPT_MANIFEST] = "manifest", [LEDGER_KEPT_ALL] = "all"};

static void set_text(json_t *object, const char *key, const char *text)
{
    json_object_set_new(object, key, json_string(text));
}

static void set_count(json_t *object, const char *key, uint64_t count)
{
    json_object_set_new(object, key, json_integer((json_int_t)count));
}

static json_t *held_json(const struct ledger_held *held)
{
    char sender[SENDER_ID_TEXT_SIZE], id[TRANSFER_ID_TEXT_SIZE], since[CLOCK_RFC3339_SIZE];
    const struct ledger_delivery *delivery = &held->delivery;
    json_t *object = json_object();
    identity_sender_text(delivery->sender_id, sender);
    identity_transfer_text(delivery->transfer_id, id);
    clock_rfc3339(held->since_ns, since);
    set_count(object, "sequence", delivery->sequence);
    set_text(object, "channel", delivery->channel);
    set_text(object, "name", delivery->name);
    set_text(object, "reason", held->reason);
    set_text(object, "since", since);
    set_text(object, "sender_id", sender);
    set_text(object, "id", id);
    set_text(object, "quarantine_name", held->place);
    set_count(object, "bytes", delivery->bytes);
    set_text(object, "kept", kept_words[held->kept]);
    return object;
}

void report_held_to_json(const struct held_facts *facts, json_t *transfers, json_t *root)
{
    json_t *list = json_array();
    for (unsigned i = 0; i < facts->listed; i++)
        json_array_append_new(list, held_json(&facts->list[i]));
    json_object_set_new(transfers, "held", list);
    set_count(transfers, "held_total", facts->totals.count);

    json_t *quarantine = json_object();
    set_count(quarantine, "bytes", facts->totals.whole_bytes);
    set_count(quarantine, "limit_bytes", facts->limit_bytes);
    set_count(quarantine, "not_kept_total", facts->totals.count - facts->totals.whole_count);
    json_object_set_new(root, "quarantine", quarantine);
}

void report_held_health(const struct held_facts *facts, const char *intake, struct health *health, int64_t realtime_ns)
{
    const struct ledger_held_totals *totals = &facts->totals;
    if (totals->count == 0 || facts->listed == 0) {
        health_clear(health, "transfers_held");
        return;
    }
    const struct ledger_held *first = &facts->list[0];
    uint64_t lost = totals->count - totals->whole_count;
    char full[192] = "";
    if (lost > 0)
        snprintf(full, sizeof full,
                 "; of %llu the data was not kept because the quarantine is full: enlarge quarantine or discard some",
                 (unsigned long long)lost);
    health_set(health, HEALTH_DEGRADED, "transfers_held", realtime_ns,
               "%llu transfer%s held back in %s/.quarantine, such as %.64s/%.60s: %.200s; look with \"diodecast "
               "quarantine list\", mend it, then \"recheck\" or \"discard\"%s",
               (unsigned long long)totals->count, units_plural(totals->count), intake, first->delivery.channel,
               first->delivery.name, first->reason, full);
}
