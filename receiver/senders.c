// SPDX-License-Identifier: Apache-2.0
#include "receiver/senders.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/digest.h"
#include "common/log.h"
#include "proto/ticket.h"
#include "receiver/ledger_beat.h"
#include "receiver/ledger_loss.h"

#define STORE_INTERVAL_NS CLOCK_SECOND_NS
#define BEAT_INTERVAL_NS \
    (30 * CLOCK_SECOND_NS) /* so much of what was recorded of an epoch may pass for new after a crash */

struct sender {
    uint32_t id;
    uint64_t heard_ns;
    int64_t heard_at_ns;
    struct message_heartbeat beat;
    struct vigil vigil;
    uint64_t beat_stored_ns;
    struct extents healing; /* numbers of the current chain that it is going to repeat */
    struct extents shown;   /* while a snapshot is filled: numbers that stand in another list */
};

struct stored_chain {
    uint8_t chain_id[CHAIN_ID_SIZE];
    uint64_t changed;
};

struct senders {
    const struct trust *trust;
    struct ledger *ledger;
    struct lane_progress *progress;
    struct audit *audit;
    struct knowledge *knowledge;
    struct sender *list; /* those heard of, at most as many as are trusted */
    size_t count;
    struct stored_chain stored[KNOWLEDGE_CHAINS]; /* what the ledger was given last */
    unsigned stored_count;
    uint64_t store_ns;
    uint64_t now_ns;         /* of loading, and of filling */
    enum status status;      /* of loading */
    struct publish *publish; /* while storing */
    const struct knowledge_chain *loading;
};

static const struct sender *find(const struct senders *senders, uint32_t sender_id)
{
    for (size_t i = 0; i < senders->count; i++)
        if (senders->list[i].id == sender_id)
            return &senders->list[i];
    return NULL;
}

/* NULL for a sender that is not trusted (any more). */
static struct sender *find_or_add(struct senders *senders, uint32_t sender_id)
{
    const struct sender *found = find(senders, sender_id);
    if (found != NULL)
        return &senders->list[found - senders->list];
    if (trust_find(senders->trust, sender_id) == NULL)
        return NULL;
    struct sender *sender = &senders->list[senders->count++];
    *sender = (struct sender){.id = sender_id};
    return sender;
}

static void load_chain(const struct ledger_chain *chain, void *context)
{
    struct senders *senders = context;
    struct knowledge_chain facts = {.sender_id = chain->sender_id,
                                    .baseline = chain->baseline,
                                    .newest_sequence = chain->newest_sequence,
                                    .told_sequence = chain->told_sequence,
                                    .settled_sequence = chain->settled_sequence,
                                    .delivered_through = chain->delivered_through,
                                    .epoch = chain->epoch};
    memcpy(facts.chain_id, chain->chain_id, CHAIN_ID_SIZE);
    memcpy(facts.told_hash, chain->told_hash, SHA256_SIZE);
    knowledge_load(senders->knowledge, &facts, senders->now_ns);
    if (find_or_add(senders, chain->sender_id) != NULL)
        progress_confirm_epoch(senders->progress, chain->sender_id, chain->epoch);
}

static void load_beat(uint32_t sender_id, const struct vigil_beat *beat, void *context)
{
    struct sender *sender = find_or_add(context, sender_id);
    if (sender != NULL)
        vigil_restore(&sender->vigil, beat);
}

static void load_sequence(uint64_t sequence, void *context)
{
    struct senders *senders = context;
    (void)knowledge_add(senders->knowledge, senders->loading->sender_id, senders->loading->chain_id, sequence, true);
}

static void load_written_off(uint64_t first, uint64_t last, void *context)
{
    struct senders *senders = context;
    (void)knowledge_write_off(senders->knowledge, senders->loading->chain_id, first, last);
}

static void load_alarm(const struct knowledge_alarm *alarm, void *context)
{
    struct senders *senders = context;
    knowledge_load_alarm(senders->knowledge, alarm);
}

static void load_sequences(const struct knowledge_chain *chain, void *context)
{
    struct senders *senders = context;
    uint64_t above = chain->baseline > chain->delivered_through ? chain->baseline : chain->delivered_through;
    senders->loading = chain;
    enum status status = ledger_each_sequence(senders->ledger, chain->chain_id, above, load_sequence, senders);
    if (status == STATUS_OK)
        status = ledger_each_written_off(senders->ledger, chain->chain_id, load_written_off, senders);
    if (status != STATUS_OK)
        senders->status = status;
}

static bool load(struct senders *senders)
{
    if (ledger_each_chain(senders->ledger, load_chain, senders) != STATUS_OK ||
        ledger_each_beat(senders->ledger, load_beat, senders) != STATUS_OK)
        return false;
    knowledge_each_chain(senders->knowledge, load_sequences, senders);
    return senders->status == STATUS_OK && ledger_each_alarm(senders->ledger, load_alarm, senders) == STATUS_OK;
}

struct senders *senders_create(const struct trust *trust, struct ledger *ledger, struct lane_progress *progress,
                               struct audit *audit, uint64_t now_ns)
{
    struct senders *senders = calloc(1, sizeof *senders);
    if (senders == NULL)
        return NULL;
    senders->trust = trust;
    senders->ledger = ledger;
    senders->progress = progress;
    senders->audit = audit;
    senders->now_ns = now_ns;
    senders->knowledge = knowledge_create();
    senders->list = calloc(trust_count(trust), sizeof *senders->list);
    if (senders->knowledge != NULL && senders->list != NULL && load(senders))
        return senders;
    senders_destroy(senders);
    return NULL;
}

void senders_destroy(struct senders *senders)
{
    if (senders == NULL)
        return;
    knowledge_destroy(senders->knowledge);
    for (size_t i = 0; i < senders->count; i++) {
        extents_deinit(&senders->list[i].healing);
        extents_deinit(&senders->list[i].shown);
    }
    free(senders->list);
    free(senders);
}

struct knowledge *senders_knowledge(struct senders *senders)
{
    return senders->knowledge;
}

static struct ledger_chain to_store(const struct knowledge_chain *chain)
{
    struct ledger_chain stored = {.sender_id = chain->sender_id,
                                  .baseline = chain->baseline,
                                  .newest_sequence = chain->newest_sequence,
                                  .told_sequence = chain->told_sequence,
                                  .settled_sequence = chain->settled_sequence,
                                  .delivered_through = chain->delivered_through,
                                  .epoch = chain->epoch};
    memcpy(stored.chain_id, chain->chain_id, CHAIN_ID_SIZE);
    memcpy(stored.told_hash, chain->told_hash, SHA256_SIZE);
    return stored;
}

/*
 * A receiver that is killed now would take a later heartbeat for the first one, and never know what was lost between
 * them; and it would listen to recordings of the epoch before, after it has published what came in this one. So neither
 * the baseline nor a new epoch waits for its turn on the publish thread, once in the life of a chain and of a run of
 * the sender; where the ledger does not take it, it is tried again from there.
 */
static void store_at_once(struct senders *senders, const uint8_t *chain_id)
{
    const struct ledger_chain chain = to_store(knowledge_find(senders->knowledge, chain_id));
    if (ledger_store_chain(senders->ledger, &chain) != STATUS_OK)
        log_warning("sender %08x: where its numbers and its new run begin for us can't be recorded yet",
                    chain.sender_id);
}

void senders_heartbeat(struct senders *senders, const struct message_heartbeat *beat, uint64_t now_ns)
{
    struct sender *sender = find_or_add(senders, beat->sender_id);
    const struct knowledge_chain *before = knowledge_find(senders->knowledge, beat->chain_id);
    bool is_known = before != NULL && before->has_baseline && before->epoch == beat->epoch;
    if (sender == NULL || !knowledge_heartbeat(senders->knowledge, beat, now_ns))
        return;
    if (!is_known)
        store_at_once(senders, beat->chain_id);
    progress_confirm_epoch(senders->progress, beat->sender_id, beat->epoch);
    if (sender->heard_ns == 0 || sender->beat.epoch != beat->epoch)
        senders->store_ns = 0;
    /* Late or recorded ones would turn the figures back. */
    const struct vigil_beat heard = {
        .epoch = beat->epoch, .beat = beat->beat, .time_ns = beat->time_ns, .at_ns = clock_realtime_ns()};
    if (!vigil_take(&sender->vigil, &heard, now_ns))
        return;
    sender->beat = *beat;
    sender->heard_ns = now_ns;
    sender->heard_at_ns = heard.at_ns;
    extents_deinit(&sender->healing);
    for (uint32_t i = 0; i < beat->healing_count; i++)
        (void)extents_add(&sender->healing, beat->healing[i].first, beat->healing[i].last + 1, LIMIT_HEALING_RANGES);
}

/* What is said of a number is compared with what was said before, or was delivered. */
static void claim(struct senders *senders, const uint8_t *chain_id, uint64_t sequence, const uint8_t *hash, bool held)
{
    uint8_t delivered[SHA256_SIZE];
    if (!knowledge_claim(senders->knowledge, chain_id, sequence, hash, held) &&
        ledger_manifest_hash(senders->ledger, chain_id, sequence, delivered) == STATUS_OK)
        knowledge_compare(senders->knowledge, chain_id, sequence, hash, delivered, held);
}

bool senders_manifest(struct senders *senders, const struct assembly *assembly)
{
    const struct manifest_head *head = manifest_reader_head(assembly->reader);
    uint8_t hash[SHA256_SIZE];
    bool noted = knowledge_add(senders->knowledge, assembly->sender_id, assembly->chain_id, assembly->sequence, false);
    digest_once(assembly->manifest.body, assembly->manifest.body_size, hash);
    claim(senders, assembly->chain_id, assembly->sequence, hash, true);
    if (assembly->sequence > 1)
        claim(senders, assembly->chain_id, assembly->sequence - 1, head->previous_hash, false);
    return noted;
}

static bool is_current(const struct senders *senders, uint32_t sender_id, const uint8_t *chain_id)
{
    const struct knowledge_chain *chain = knowledge_chain_of(senders->knowledge, sender_id);
    return chain != NULL && memcmp(chain->chain_id, chain_id, CHAIN_ID_SIZE) == 0;
}

bool senders_are_healing(const struct senders *senders, uint32_t sender_id,
                         const uint8_t chain_id[static CHAIN_ID_SIZE], uint64_t sequence)
{
    const struct sender *sender = find(senders, sender_id);
    return sender != NULL && is_current(senders, sender_id, chain_id) && extents_contain(&sender->healing, sequence);
}

static struct stored_chain *find_stored(struct senders *senders, const uint8_t *chain_id)
{
    for (unsigned i = 0; i < senders->stored_count; i++)
        if (memcmp(senders->stored[i].chain_id, chain_id, CHAIN_ID_SIZE) == 0)
            return &senders->stored[i];
    if (senders->stored_count == KNOWLEDGE_CHAINS)
        senders->stored_count = 0; /* all are given once more, which does no harm */
    struct stored_chain *stored = &senders->stored[senders->stored_count++];
    *stored = (struct stored_chain){0};
    memcpy(stored->chain_id, chain_id, CHAIN_ID_SIZE);
    return stored;
}

static void store_chain(const struct knowledge_chain *chain, void *context)
{
    static const uint8_t no_id[TRANSFER_ID_SIZE];
    struct senders *senders = context;
    struct stored_chain *stored = find_stored(senders, chain->chain_id);
    if (!chain->has_baseline || stored->changed == chain->changed)
        return;
    struct publish_job *job = publish_job_create(PUBLISH_CHAIN, chain->sender_id, no_id);
    if (job == NULL)
        return;
    stored->changed = chain->changed;
    job->chain = to_store(chain);
    publish_post(senders->publish, job);
}

/* Publish thread. */
static enum status record_beat(struct publish_job *job, struct ledger *ledger)
{
    return ledger_store_beat(ledger, job->sender_id, &job->beat);
}

static void store_beats(struct senders *senders, struct publish *publish, uint64_t now_ns, bool all)
{
    static const uint8_t no_id[TRANSFER_ID_SIZE];
    struct publish_facts facts;
    publish_facts(publish, &facts);
    for (size_t i = 0; i < senders->count && !facts.ledger_failed; i++) {
        struct sender *sender = &senders->list[i];
        if (sender->heard_ns == 0 || sender->heard_ns == sender->beat_stored_ns ||
            (!all && sender->beat_stored_ns != 0 && now_ns < sender->beat_stored_ns + BEAT_INTERVAL_NS))
            continue;
        struct publish_job *job = publish_job_create(PUBLISH_RECORD, sender->id, no_id);
        if (job == NULL)
            return;
        job->record = record_beat;
        job->beat = sender->vigil.newest;
        publish_post(publish, job);
        sender->beat_stored_ns = sender->heard_ns;
    }
}

/* Publish thread. */
static enum status record_alarm(struct publish_job *job, struct ledger *ledger)
{
    const struct knowledge_alarm *alarm = &job->alarm;
    enum status status = ledger_store_alarm(ledger, alarm);
    if (status == STATUS_OK && alarm->kind == KNOWLEDGE_ROLLBACK)
        status = ledger_roll_back(ledger, alarm->chain_id, alarm->back_to);
    return status;
}

static enum status record_end(struct publish_job *job, struct ledger *ledger)
{
    return ledger_clear_alarms(ledger, job->alarm.chain_id, job->alarm.at_ns);
}

static void post_alarm(struct publish *publish, const struct knowledge_alarm *alarm,
                       enum status (*record)(struct publish_job *job, struct ledger *ledger))
{
    static const uint8_t no_id[TRANSFER_ID_SIZE];
    struct publish_job *job = publish_job_create(PUBLISH_RECORD, alarm->sender_id, no_id);
    assert(job != NULL);
    job->record = record;
    job->alarm = *alarm;
    publish_post(publish, job);
}

static void tell_alarm(const struct senders *senders, const struct knowledge_alarm *alarm)
{
    char detail[256];
    if (alarm->kind == KNOWLEDGE_ROLLBACK)
        snprintf(detail, sizeof detail,
                 "rollback: the sender's state is older than before, its newest sequence is %llu",
                 (unsigned long long)alarm->back_to);
    else
        snprintf(detail, sizeof detail, "fork: sequence %llu has two manifests", (unsigned long long)alarm->first);
    log_error("sender %08x: %s; see chain_%s in the status", alarm->sender_id, detail,
              alarm->kind == KNOWLEDGE_ROLLBACK ? "rollback" : "fork");
    const struct audit_entry entry = {.event = AUDIT_ALARM,
                                      .sender_id = alarm->sender_id,
                                      .chain_id = alarm->chain_id,
                                      .sequence = alarm->first,
                                      .last_sequence = alarm->last,
                                      .detail = detail};
    audit_note(senders->audit, &entry);
}

static void store_alarms(struct senders *senders, struct publish *publish)
{
    struct knowledge_alarm alarm;
    int64_t realtime_ns = clock_realtime_ns();
    while (knowledge_take_alarm(senders->knowledge, realtime_ns, &alarm)) {
        if (alarm.at_ns == realtime_ns)
            tell_alarm(senders, &alarm);
        post_alarm(publish, &alarm, record_alarm);
    }
    while (knowledge_take_ended(senders->knowledge, alarm.chain_id)) {
        alarm.at_ns = realtime_ns;
        alarm.sender_id = 0;
        post_alarm(publish, &alarm, record_end);
    }
}

/* Publish thread. */
static enum status record_had(struct publish_job *job, struct ledger *ledger)
{
    struct ledger_write_off range = {.first = job->alarm.first, .last = job->alarm.last};
    memcpy(range.chain_id, job->alarm.chain_id, CHAIN_ID_SIZE);
    return ledger_write_off(ledger, &range, 1, NULL, 0, "diodecast-receiver",
                            "its transfer was delivered under another number", job->alarm.at_ns);
}

void senders_had(struct senders *senders, struct publish *publish, uint32_t sender_id, const struct opening *opening)
{
    const struct manifest_head *head = manifest_reader_head(opening->reader);
    uint8_t hash[SHA256_SIZE];
    digest_once(opening->message.body, opening->message.body_size, hash);
    /* A rollback that is not recorded yet would void what is recorded before it. */
    store_alarms(senders, publish);
    (void)knowledge_add(senders->knowledge, sender_id, head->chain_id, head->sequence, true);
    claim(senders, head->chain_id, head->sequence, hash, true);
    struct knowledge_alarm had = {
        .sender_id = sender_id, .first = head->sequence, .last = head->sequence, .at_ns = clock_realtime_ns()};
    memcpy(had.chain_id, head->chain_id, CHAIN_ID_SIZE);
    post_alarm(publish, &had, record_had);
    log_notice("sender %08x: sequence %llu is %s/" LOG_NAME ", which was delivered under another number before",
               sender_id, (unsigned long long)head->sequence, head->channel, head->name);
    const struct audit_entry entry = {.event = AUDIT_SEEN,
                                      .sender_id = sender_id,
                                      .chain_id = head->chain_id,
                                      .sequence = head->sequence,
                                      .transfer_id = head->transfer_id,
                                      .manifest_hash = hash,
                                      .channel = head->channel,
                                      .name = head->name,
                                      .detail = "it was delivered under another number before"};
    audit_note(senders->audit, &entry);
}

void senders_finish(struct senders *senders, struct publish *publish)
{
    senders->store_ns = 0;
    store_beats(senders, publish, 0, true);
    senders_store(senders, publish, 0);
}

void senders_store(struct senders *senders, struct publish *publish, uint64_t now_ns)
{
    store_alarms(senders, publish);
    if (now_ns < senders->store_ns)
        return;
    senders->store_ns = now_ns + STORE_INTERVAL_NS;
    senders->publish = publish;
    store_beats(senders, publish, now_ns, false);
    knowledge_each_chain(senders->knowledge, store_chain, senders);
}

void senders_begin_fill(struct senders *senders)
{
    for (size_t i = 0; i < senders->count; i++)
        extents_deinit(&senders->list[i].shown);
}

void senders_show(struct senders *senders, uint32_t sender_id, uint64_t sequence)
{
    const struct sender *found = find(senders, sender_id);
    if (found != NULL)
        (void)extents_add(&senders->list[found - senders->list].shown, sequence, sequence + 1, REPORT_TRANSFERS);
}

struct filling {
    const struct sender *sender;
    enum config_tickets tickets;
    struct report_snapshot *snapshot;
};

static void add_range(const struct filling *filling, const struct knowledge_chain *chain, uint64_t first, uint64_t end,
                      bool healing)
{
    struct report_snapshot *snapshot = filling->snapshot;
    bool is_first = !healing && !snapshot->never_seen_not_healing;
    snapshot->never_seen_total += end - first;
    if (snapshot->never_seen_count == REPORT_RANGES && !is_first)
        return;
    struct report_range range = {.sender_id = chain->sender_id,
                                 .first = first,
                                 .last = end - 1,
                                 .healing = healing,
                                 .replaced = !chain->current};
    memcpy(range.chain_id, chain->chain_id, CHAIN_ID_SIZE);
    if (filling->tickets != CONFIG_TICKETS_OFF) {
        struct ticket ticket;
        ticket_init(&ticket, TICKET_WHOLE, chain->chain_id, first, end - 1);
        ticket_format(&ticket, range.ticket);
    }
    if (is_first) {
        snapshot->never_seen_not_healing = true;
        snapshot->unseen = range;
    }
    if (snapshot->never_seen_count < REPORT_RANGES)
        snapshot->never_seen[snapshot->never_seen_count++] = range;
}

/* A range that is repeated in part is told in parts. */
static void fill_range(const struct knowledge_chain *chain, uint64_t first, uint64_t last, void *context)
{
    static const struct extents none;
    const struct filling *filling = context;
    const struct extents *shown = chain->current ? &filling->sender->shown : &none;
    const struct extents *healing = chain->current ? &filling->sender->healing : &none;
    struct extent lost = {0, first};
    while (extents_hole(shown, lost.end, last + 1, &lost)) {
        struct extent rest = {lost.first, lost.first};
        while (rest.end < lost.end) {
            uint64_t at = rest.end;
            if (!extents_hole(healing, at, lost.end, &rest))
                rest = (struct extent){lost.end, lost.end};
            if (rest.first > at)
                add_range(filling, chain, at, rest.first, true);
            if (rest.end > rest.first)
                add_range(filling, chain, rest.first, rest.end, false);
        }
    }
}

static void fill_sender(struct senders *senders, const struct sender *sender, enum config_tickets tickets,
                        struct report_snapshot *snapshot, uint64_t now_ns)
{
    const struct knowledge_chain *chain = knowledge_chain_of(senders->knowledge, sender->id);
    if (chain == NULL || snapshot->sender_count == REPORT_SENDERS)
        return;
    struct report_sender *out = &snapshot->senders[snapshot->sender_count++];
    *out = (struct report_sender){.sender_id = sender->id,
                                  .epoch = chain->epoch,
                                  .baseline = chain->baseline,
                                  .newest_sequence = chain->newest_sequence,
                                  .settled_sequence = chain->settled_sequence,
                                  .queue_depth = sender->beat.queue_depth,
                                  .queue_bytes = sender->beat.queue_bytes,
                                  .rate_bits_per_second = sender->beat.rate_bits_per_second,
                                  .in_flight = sender->beat.in_flight_count,
                                  .heard_ns = sender->heard_ns,
                                  .recorded_ns = sender->vigil.recorded_ns,
                                  .lag_ns = sender->vigil.lag_ns,
                                  .heard_at_ns = sender->heard_at_ns,
                                  .offset_ns = sender->beat.time_ns - sender->heard_at_ns};
    memcpy(out->chain_id, chain->chain_id, CHAIN_ID_SIZE);
    struct filling filling = {.sender = sender, .tickets = tickets, .snapshot = snapshot};
    knowledge_each_never_seen(senders->knowledge, sender->id, now_ns, fill_range, &filling);
}

static void fill_alarm(const struct knowledge_alarm *alarm, void *context)
{
    const struct filling *filling = context;
    struct report_snapshot *snapshot = filling->snapshot;
    snapshot->alarm_total++;
    if (snapshot->alarm_count == REPORT_ALARMS)
        return;
    struct report_alarm *out = &snapshot->alarms[snapshot->alarm_count++];
    *out = (struct report_alarm){.facts = *alarm};
    if (filling->tickets == CONFIG_TICKETS_OFF)
        return;
    struct ticket ticket;
    ticket_init(&ticket, TICKET_WHOLE, alarm->chain_id, alarm->first, alarm->last);
    ticket_format(&ticket, out->ticket);
}

void senders_fill(struct senders *senders, enum config_tickets tickets, struct report_snapshot *snapshot,
                  uint64_t now_ns)
{
    for (size_t i = 0; i < senders->count; i++)
        fill_sender(senders, &senders->list[i], tickets, snapshot, now_ns);
    struct filling filling = {.tickets = tickets, .snapshot = snapshot};
    knowledge_each_alarm(senders->knowledge, fill_alarm, &filling);
}
