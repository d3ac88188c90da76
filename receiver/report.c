// SPDX-License-Identifier: Apache-2.0
#include "receiver/report.h"

#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/statusfile.h"
#include "common/units.h"
#include "proto/identity.h"
#include "receiver/report_held.h"

enum { HEX_SIZE = 2 * CHAIN_ID_SIZE + 1 };
#define HEARTBEAT_MISSING_NS (5 * CLOCK_SECOND_NS) /* five of them in a row */
#define RECENT_NS            (60 * CLOCK_SECOND_NS)
#define QUARANTINE_RECENT_NS (600 * CLOCK_SECOND_NS)

struct report {
    const char *intake;
    uint64_t created_ns;
    pthread_mutex_t mutex;
    struct report_snapshot *shown; /* under the mutex */
    struct report_snapshot *spare; /* the filling thread's */
};

struct report *report_create(const char *intake)
{
    struct report *report = calloc(1, sizeof *report);
    if (report == NULL)
        return NULL;
    report->intake = intake;
    report->created_ns = clock_monotonic_ns();
    pthread_mutex_init(&report->mutex, NULL);
    report->shown = calloc(1, sizeof *report->shown);
    report->spare = calloc(1, sizeof *report->spare);
    if (report->shown == NULL || report->spare == NULL) {
        report_destroy(report);
        return NULL;
    }
    return report;
}

void report_destroy(struct report *report)
{
    if (report == NULL)
        return;
    pthread_mutex_destroy(&report->mutex);
    free(report->shown);
    free(report->spare);
    free(report);
}

struct report_snapshot *report_begin(struct report *report)
{
    memset(report->spare, 0, sizeof *report->spare);
    return report->spare;
}

void report_commit(struct report *report)
{
    pthread_mutex_lock(&report->mutex);
    struct report_snapshot *old = report->shown;
    report->shown = report->spare;
    report->spare = old;
    pthread_mutex_unlock(&report->mutex);
}

/* A copy of the newest snapshot, the caller frees; NULL when memory is short. */
static struct report_snapshot *copy_shown(struct report *report)
{
    struct report_snapshot *copy = malloc(sizeof *copy);
    if (copy == NULL)
        return NULL;
    pthread_mutex_lock(&report->mutex);
    memcpy(copy, report->shown, sizeof *copy);
    pthread_mutex_unlock(&report->mutex);
    return copy;
}

static void set_count(json_t *object, const char *key, uint64_t count)
{
    json_object_set_new(object, key, json_integer((json_int_t)count));
}

static void set_hex(json_t *object, const char *key, const uint8_t *bytes, size_t size)
{
    char text[HEX_SIZE];
    for (size_t i = 0; i < size; i++)
        snprintf(text + 2 * i, 3, "%02x", bytes[i]);
    json_object_set_new(object, key, json_string(text));
}

static void set_sender(json_t *object, uint32_t sender_id)
{
    char text[SENDER_ID_TEXT_SIZE];
    identity_sender_text(sender_id, text);
    json_object_set_new(object, "sender_id", json_string(text));
}

static void set_time(json_t *object, const char *key, int64_t at_ns)
{
    char text[CLOCK_RFC3339_SIZE];
    clock_rfc3339(at_ns, text);
    json_object_set_new(object, key, json_string(text));
}

static json_t *transfer_json(const struct report_transfer *transfer)
{
    static const char *const states[] = {"receiving", "incomplete", "waiting_for_space", "publishing", "verifying"};
    json_t *object = json_object();
    set_hex(object, "id", transfer->id, TRANSFER_ID_SIZE);
    set_sender(object, transfer->sender_id);
    json_object_set_new(object, "channel", transfer->channel[0] == '\0' ? json_null() : json_string(transfer->channel));
    json_object_set_new(object, "name", transfer->name[0] == '\0' ? json_null() : json_string(transfer->name));
    json_object_set_new(object, "sequence",
                        transfer->sequence == 0 ? json_null() : json_integer((json_int_t)transfer->sequence));
    set_count(object, "bytes_total", transfer->bytes_total);
    set_count(object, "bytes_received", transfer->bytes_held);
    set_count(object, "artifact_count", transfer->artifact_count);
    json_object_set_new(object, "state", json_string(states[transfer->state]));
    if (transfer->state == REPORT_VERIFYING) {
        set_count(object, "verified_bytes", transfer->verified_bytes);
        set_count(object, "verify_bytes_total", transfer->verify_total);
    }
    return object;
}

static json_t *text_or_null(const char *text)
{
    return text[0] == '\0' ? json_null() : json_string(text);
}

static json_t *discard_json(const struct report_discard *discard)
{
    json_t *object = json_object();
    set_hex(object, "id", discard->id, TRANSFER_ID_SIZE);
    set_sender(object, discard->sender_id);
    json_object_set_new(object, "channel", text_or_null(discard->channel));
    json_object_set_new(object, "name", text_or_null(discard->name));
    json_object_set_new(object, "sequence",
                        discard->sequence == 0 ? json_null() : json_integer((json_int_t)discard->sequence));
    set_count(object, "bytes_received", discard->bytes_held);
    set_time(object, "at", discard->at_ns);
    json_object_set_new(object, "why", json_string(discard->why));
    return object;
}

static void set_ticket(json_t *object, const char *ticket)
{
    json_object_set_new(object, "ticket", ticket[0] == '\0' ? json_null() : json_string(ticket));
}

static json_t *missing_json(const struct report_incomplete *incomplete)
{
    if (!incomplete->chunks_known)
        return json_null();
    json_t *object = json_object();
    json_t *ranges = json_array();
    for (unsigned i = 0; i < incomplete->listed; i++)
        json_array_append_new(
            ranges, json_pack("[II]", (json_int_t)incomplete->ranges[i].first, (json_int_t)incomplete->ranges[i].last));
    set_count(object, "count", incomplete->chunk_count);
    set_count(object, "ranges_total", incomplete->range_count);
    json_object_set_new(object, "ranges", ranges);
    return object;
}

static json_t *incomplete_json(const struct report_incomplete *incomplete)
{
    const struct report_transfer *transfer = &incomplete->transfer;
    json_t *object = json_object();
    set_hex(object, "id", transfer->id, TRANSFER_ID_SIZE);
    set_sender(object, transfer->sender_id);
    json_object_set_new(object, "channel", text_or_null(transfer->channel));
    json_object_set_new(object, "name", text_or_null(transfer->name));
    set_count(object, "sequence", transfer->sequence);
    set_count(object, "missing_bytes",
              transfer->bytes_total > transfer->bytes_held ? transfer->bytes_total - transfer->bytes_held : 0);
    json_object_set_new(object, "manifest_held", json_boolean(incomplete->manifest_held));
    json_object_set_new(object, "missing_chunks", missing_json(incomplete));
    set_ticket(object, incomplete->ticket);
    json_object_set_new(object, "healing", json_boolean(incomplete->healing));
    return object;
}

static json_t *never_seen_json(const struct report_range *range)
{
    json_t *object = json_object();
    set_sender(object, range->sender_id);
    set_hex(object, "chain_id", range->chain_id, CHAIN_ID_SIZE);
    json_object_set_new(object, "chain_replaced", json_boolean(range->replaced));
    set_count(object, "first", range->first);
    set_count(object, "last", range->last);
    set_ticket(object, range->ticket);
    json_object_set_new(object, "healing", json_boolean(range->healing));
    return object;
}

static json_t *alarm_json(const struct report_alarm *alarm)
{
    json_t *object = json_object();
    json_object_set_new(object, "code",
                        json_string(alarm->facts.kind == KNOWLEDGE_ROLLBACK ? "chain_rollback" : "chain_fork"));
    set_sender(object, alarm->facts.sender_id);
    set_hex(object, "chain_id", alarm->facts.chain_id, CHAIN_ID_SIZE);
    set_count(object, "first", alarm->facts.first);
    set_count(object, "last", alarm->facts.last);
    set_time(object, "since", alarm->facts.at_ns);
    set_ticket(object, alarm->ticket);
    return object;
}

static json_t *alarms_json(const struct report_snapshot *snapshot)
{
    json_t *alarms = json_array();
    for (unsigned i = 0; i < snapshot->alarm_count; i++)
        json_array_append_new(alarms, alarm_json(&snapshot->alarms[i]));
    return alarms;
}

static json_t *transfers_json(const struct report_snapshot *snapshot)
{
    json_t *transfers = json_object();
    json_t *open = json_array();
    json_t *incomplete = json_array();
    json_t *never_seen = json_array();
    json_t *discarded = json_array();
    for (unsigned i = 0; i < snapshot->discarded_count; i++)
        json_array_append_new(discarded, discard_json(&snapshot->discarded[i]));
    for (unsigned i = 0; i < snapshot->open_count; i++)
        json_array_append_new(open, transfer_json(&snapshot->open[i]));
    for (unsigned i = 0; i < snapshot->incomplete_count; i++)
        json_array_append_new(incomplete, incomplete_json(&snapshot->incomplete[i]));
    for (unsigned i = 0; i < snapshot->never_seen_count; i++)
        json_array_append_new(never_seen, never_seen_json(&snapshot->never_seen[i]));
    set_count(transfers, "delivered_total", snapshot->delivered_total);
    set_count(transfers, "aborted_total", snapshot->aborted_total);
    set_count(transfers, "quarantined_total", snapshot->quarantined_total);
    set_count(transfers, "evicted_total", snapshot->evicted_total);
    set_count(transfers, "damaged_total", snapshot->damaged_total);
    set_count(transfers, "open_total", snapshot->open_total);
    set_count(transfers, "incomplete_total", snapshot->incomplete_total);
    set_count(transfers, "never_seen_total", snapshot->never_seen_total);
    set_count(transfers, "discarded_total", snapshot->discarded_total);
    json_object_set_new(transfers, "discarded", discarded);
    json_object_set_new(transfers, "open", open);
    json_object_set_new(transfers, "incomplete", incomplete);
    json_object_set_new(transfers, "never_seen", never_seen);
    return transfers;
}

static json_t *sender_json(const struct report_sender *sender)
{
    json_t *object = json_object();
    set_sender(object, sender->sender_id);
    set_hex(object, "chain_id", sender->chain_id, CHAIN_ID_SIZE);
    set_count(object, "epoch", sender->epoch);
    if (sender->heard_ns != 0) {
        set_time(object, "last_heartbeat_at", sender->heard_at_ns);
        json_object_set_new(object, "clock_offset_s", json_real((double)sender->offset_ns / CLOCK_SECOND_NS));
    } else {
        json_object_set_new(object, "last_heartbeat_at", json_null());
        json_object_set_new(object, "clock_offset_s", json_null());
    }
    set_count(object, "baseline_sequence", sender->baseline);
    set_count(object, "newest_sequence", sender->newest_sequence);
    set_count(object, "settled_sequence", sender->settled_sequence);
    set_count(object, "in_flight", sender->in_flight);
    set_count(object, "queue_depth", sender->queue_depth);
    set_count(object, "queue_bytes", sender->queue_bytes);
    set_count(object, "rate_bits_per_second", sender->rate_bits_per_second);
    return object;
}

static json_t *last_delivered_json(const struct report *report, const struct report_snapshot *snapshot)
{
    const struct ledger_delivery *delivery = &snapshot->last_delivered;
    if (!snapshot->has_delivered)
        return json_null();
    json_t *object = json_object();
    set_count(object, "sequence", delivery->sequence);
    set_sender(object, delivery->sender_id);
    json_object_set_new(object, "channel", json_string(delivery->channel));
    json_object_set_new(object, "name", json_string(delivery->name));
    set_time(object, "at", delivery->at_ns);
    json_object_set_new(object, "path",
                        json_sprintf("%s/%s/%s", report->intake, delivery->channel, delivery->directory));
    set_hex(object, "transfer_id", delivery->transfer_id, TRANSFER_ID_SIZE);
    return object;
}

void report_to_json(struct report *report, json_t *root)
{
    struct report_snapshot *snapshot = copy_shown(report);
    if (snapshot == NULL)
        return;
    json_t *transfers = transfers_json(snapshot);
    report_held_to_json(&snapshot->facts.held, transfers, root);
    json_object_set_new(root, "transfers", transfers);
    json_object_set_new(root, "alarms", alarms_json(snapshot));

    json_t *fec = json_object();
    set_count(fec, "blocks_total", snapshot->blocks_total);
    set_count(fec, "repaired_total", snapshot->repaired_total);
    set_count(fec, "failed_total", snapshot->failed_total);
    json_object_set_new(root, "fec", fec);

    json_t *frames = json_object();
    set_count(frames, "malformed_total", snapshot->frames_malformed);
    set_count(frames, "unknown_total", snapshot->frames_unknown);
    set_count(frames, "bad_signature_total", snapshot->frames_bad_signature);
    set_count(frames, "duplicate_total", snapshot->frames_duplicate);
    set_count(frames, "over_limit_total", snapshot->frames_over_limit);
    json_object_set_new(root, "frames", frames);

    json_object_set_new(root, "last_delivered", last_delivered_json(report, snapshot));
    json_t *intake = json_object();
    json_object_set_new(intake, "path", json_string(report->intake));
    set_count(intake, "backlog_count", snapshot->facts.backlog_count);
    set_count(intake, "backlog_bytes", snapshot->facts.backlog_bytes);
    set_count(intake, "free_bytes", snapshot->facts.free_bytes);
    json_object_set_new(root, "intake", intake);

    json_t *senders = json_array();
    for (unsigned i = 0; i < snapshot->sender_count; i++)
        json_array_append_new(senders, sender_json(&snapshot->senders[i]));
    json_object_set_new(root, "senders", senders);
    free(snapshot);
}

/* The snapshot may be a little younger than `now_ns`. */
static uint64_t age_ns(uint64_t happened_ns, uint64_t now_ns)
{
    return now_ns > happened_ns ? now_ns - happened_ns : 0;
}

static bool is_recent(uint64_t happened_ns, uint64_t now_ns, uint64_t window_ns)
{
    return happened_ns != 0 && age_ns(happened_ns, now_ns) < window_ns;
}

static void judge_disk(const struct report *report, const struct report_snapshot *snapshot, struct health *health,
                       uint64_t now_ns, int64_t realtime_ns)
{
    char text[UNITS_TEXT_SIZE];
    if (snapshot->not_admitted > 0 || snapshot->facts.waiting_for_space ||
        is_recent(snapshot->no_space_ns, now_ns, RECENT_NS))
        health_set(health, HEALTH_DEGRADED, "intake_full", realtime_ns,
                   "%s has only %s free: let the consumers take deliveries or enlarge it, then have the transfers "
                   "listed as incomplete sent again",
                   report->intake, units_format_size(snapshot->facts.free_bytes, text));
    else
        health_clear(health, "intake_full");

    if (is_recent(snapshot->io_error_ns, now_ns, RECENT_NS))
        health_set(health, HEALTH_FAILED, "intake_error", realtime_ns,
                   "writing to %s failed: look at the kernel's log and check the disk, then have what was lost sent "
                   "again",
                   report->intake);
    else
        health_clear(health, "intake_error");

    if (snapshot->facts.ledger_failed)
        health_set(health, HEALTH_FAILED, "ledger_failed", realtime_ns,
                   "the ledger in the state directory can't be written, so nothing is delivered: free space there or "
                   "check the disk");
    else
        health_clear(health, "ledger_failed");

    if (snapshot->facts.audit_failed)
        health_set(
            health, HEALTH_FAILED, "audit_failed", realtime_ns,
            "the audit log in the state directory can't be written, so nothing is delivered: free space there or "
            "check the disk");
    else
        health_clear(health, "audit_failed");

    if (snapshot->facts.waiting > 0 && !snapshot->facts.waiting_for_space && !snapshot->facts.ledger_failed &&
        !snapshot->facts.audit_failed)
        health_set(health, HEALTH_DEGRADED, "publish_failed", realtime_ns, "%u transfer%s can't be delivered yet: %s",
                   snapshot->facts.waiting, units_plural(snapshot->facts.waiting), snapshot->facts.problem);
    else
        health_clear(health, "publish_failed");
}

/* What to do about a loss, as the rest of a sentence. */
static const char *advice(const char *ticket, const char *list, char text[static 512])
{
    if (ticket[0] == '\0')
        snprintf(text, 512, "have the sequences listed in transfers.%s sent again on the low side", list);
    else
        snprintf(text, 512,
                 "on the low side run \"diodecast replay -c sender.conf TICKET\" with the tickets in transfers.%s, the "
                 "first is %s",
                 list, ticket);
    return text;
}

static void judge_transfers(const struct report *report, const struct report_snapshot *snapshot, struct health *health,
                            uint64_t now_ns, int64_t realtime_ns)
{
    char text[512];
    const struct report_incomplete *lacking = &snapshot->lacking;
    if (snapshot->incomplete_not_healing > 0)
        health_set(health, HEALTH_DEGRADED, "transfers_incomplete", realtime_ns,
                   "%llu transfer%s %s data that will not come by itself, such as %.64s/%.60s: %s",
                   (unsigned long long)snapshot->incomplete_not_healing, units_plural(snapshot->incomplete_not_healing),
                   snapshot->incomplete_not_healing == 1 ? "lacks" : "lack", lacking->transfer.channel,
                   lacking->transfer.name, advice(lacking->ticket, "incomplete", text));
    else
        health_clear(health, "transfers_incomplete");

    const struct report_range *unseen = &snapshot->unseen;
    if (snapshot->never_seen_not_healing)
        health_set(health, HEALTH_DEGRADED, "transfers_never_seen", realtime_ns,
                   "%llu transfer%s sent and never received, such as sequence %llu of sender %08x: %s",
                   (unsigned long long)snapshot->never_seen_total, units_plural(snapshot->never_seen_total),
                   (unsigned long long)unseen->first, unseen->sender_id,
                   unseen->replaced
                       ? "its sender was set up anew since, so write them off with \"diodecast accept-loss\""
                       : advice(unseen->ticket, "never_seen", text));
    else
        health_clear(health, "transfers_never_seen");

    if (is_recent(snapshot->quarantined_ns, now_ns, QUARANTINE_RECENT_NS))
        health_set(
            health, HEALTH_DEGRADED, "manifest_quarantined", realtime_ns,
            "a manifest or transfer was refused: read the reason in %s/.quarantine, or with \"diodecast quarantine "
            "list\", then discard it",
            report->intake);
    else
        health_clear(health, "manifest_quarantined");
}

static const char *ticket_or_hint(const char *ticket)
{
    return ticket[0] != '\0' ? ticket : "that the status shows unless tickets = off";
}

static void judge_chains(const struct report_snapshot *snapshot, struct health *health, int64_t realtime_ns)
{
    const struct report_alarm *rollback = NULL, *fork = NULL;
    for (unsigned i = 0; i < snapshot->alarm_count; i++)
        *(snapshot->alarms[i].facts.kind == KNOWLEDGE_ROLLBACK ? &rollback : &fork) = &snapshot->alarms[i];
    if (rollback != NULL)
        health_set(
            health, HEALTH_DEGRADED, "chain_rollback", realtime_ns,
            "sender %08x came back with an older state, without its sequences %llu to %llu: if its state was "
            "restored from a backup, acknowledge with \"diodecast accept-loss\" and the ticket %s; otherwise find out "
            "who else has its key",
            rollback->facts.sender_id, (unsigned long long)rollback->facts.first,
            (unsigned long long)rollback->facts.last, ticket_or_hint(rollback->ticket));
    else
        health_clear(health, "chain_rollback");
    if (fork != NULL)
        health_set(
            health, HEALTH_DEGRADED, "chain_fork", realtime_ns,
            "sender %08x signed two different manifests for sequences within %llu to %llu: if its state was "
            "restored from a backup, acknowledge with \"diodecast accept-loss\" and the ticket %s; otherwise find out "
            "who else has its key",
            fork->facts.sender_id, (unsigned long long)fork->facts.first, (unsigned long long)fork->facts.last,
            ticket_or_hint(fork->ticket));
    else
        health_clear(health, "chain_fork");
}

/* Of the senders that were ever heard; as long as there is none since the start, that is told elsewhere. */
static void judge_senders(const struct report *report, const struct report_snapshot *snapshot, struct health *health,
                          uint64_t now_ns, int64_t realtime_ns)
{
    const struct report_sender *silent = NULL;
    bool heard = false;
    for (unsigned i = 0; i < snapshot->sender_count; i++) {
        const struct report_sender *sender = &snapshot->senders[i];
        uint64_t since_ns = sender->heard_ns != 0 ? sender->heard_ns : report->created_ns;
        heard |= sender->heard_ns != 0;
        if (age_ns(since_ns, now_ns) > HEARTBEAT_MISSING_NS)
            silent = sender;
    }
    if (heard && silent != NULL && is_recent(silent->recorded_ns, now_ns, HEARTBEAT_MISSING_NS))
        health_set(health, HEALTH_DEGRADED, "heartbeat_missing", realtime_ns,
                   "nothing new has been heard of sender %08x for more than %u seconds, but heartbeats come that are "
                   "older: somebody repeats recordings on the link, find out who has access to it",
                   silent->sender_id, (unsigned)(HEARTBEAT_MISSING_NS / CLOCK_SECOND_NS));
    else if (heard && silent != NULL)
        health_set(health, HEALTH_DEGRADED, "heartbeat_missing", realtime_ns,
                   "sender %08x has not been heard for more than %u seconds: is it running, and is the link up? If it "
                   "is retired, remove its key from trusted_keys and restart the receiver",
                   silent->sender_id, (unsigned)(HEARTBEAT_MISSING_NS / CLOCK_SECOND_NS));
    else
        health_clear(health, "heartbeat_missing");
}

/* What comes was sent some time ago: something on the way holds it back, or plays back what it recorded. */
static void judge_delay(const struct report_snapshot *snapshot, struct health *health, int64_t realtime_ns)
{
    const struct report_sender *late = NULL;
    for (unsigned i = 0; i < snapshot->sender_count; i++)
        if (late == NULL || snapshot->senders[i].lag_ns > late->lag_ns)
            late = &snapshot->senders[i];
    if (late != NULL && late->lag_ns > 0)
        health_set(health, HEALTH_DEGRADED, "heartbeat_delayed", realtime_ns,
                   "the clock in the heartbeats of sender %08x is %lld seconds behind what it was: unless it was set "
                   "back there, something on the link holds everything back; compare the clocks of both sides",
                   late->sender_id, (long long)(late->lag_ns / (int64_t)CLOCK_SECOND_NS));
    else
        health_clear(health, "heartbeat_delayed");
}

void report_health(struct report *report, struct health *health, uint64_t now_ns, int64_t realtime_ns)
{
    struct report_snapshot *snapshot = copy_shown(report);
    if (snapshot == NULL)
        return;
    judge_disk(report, snapshot, health, now_ns, realtime_ns);
    judge_transfers(report, snapshot, health, now_ns, realtime_ns);
    report_held_health(&snapshot->facts.held, report->intake, health, realtime_ns);
    judge_chains(snapshot, health, realtime_ns);
    judge_senders(report, snapshot, health, now_ns, realtime_ns);
    judge_delay(snapshot, health, realtime_ns);
    free(snapshot);
}

bool report_last_heartbeat(struct report *report, int64_t *received_at_ns, int64_t *clock_offset_ns)
{
    uint64_t newest_ns = 0;
    pthread_mutex_lock(&report->mutex);
    for (unsigned i = 0; i < report->shown->sender_count; i++) {
        const struct report_sender *sender = &report->shown->senders[i];
        if (sender->heard_ns <= newest_ns)
            continue;
        newest_ns = sender->heard_ns;
        *received_at_ns = sender->heard_at_ns;
        *clock_offset_ns = sender->offset_ns;
    }
    pthread_mutex_unlock(&report->mutex);
    return newest_ns != 0;
}
