// SPDX-License-Identifier: Apache-2.0
#include "receiver/senders.h"

#include <stdlib.h>
#include <string.h>

#include "common/clock.h"

#define STORE_INTERVAL_NS CLOCK_SECOND_NS

struct sender {
    uint32_t id;
    uint64_t heard_ns;
    int64_t heard_at_ns;
    struct message_heartbeat beat;
};

struct stored_chain {
    uint8_t chain_id[CHAIN_ID_SIZE];
    uint64_t changed;
};

struct senders {
    const struct trust *trust;
    struct ledger *ledger;
    struct lane_progress *progress;
    struct knowledge *knowledge;
    struct sender *list; /* those heard of, at most as many as are trusted */
    size_t count;
    struct stored_chain stored[KNOWLEDGE_CHAINS]; /* what the ledger was given last */
    unsigned stored_count;
    uint64_t store_ns;
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
                                    .settled_sequence = chain->settled_sequence,
                                    .epoch = chain->epoch};
    memcpy(facts.chain_id, chain->chain_id, CHAIN_ID_SIZE);
    knowledge_load(senders->knowledge, &facts);
    if (find_or_add(senders, chain->sender_id) != NULL)
        progress_confirm_epoch(senders->progress, chain->sender_id, chain->epoch);
}

static void load_sequence(uint64_t sequence, void *context)
{
    struct senders *senders = context;
    (void)knowledge_add(senders->knowledge, senders->loading->sender_id, senders->loading->chain_id, sequence, true);
}

static void load_sequences(const struct knowledge_chain *chain, void *context)
{
    struct senders *senders = context;
    senders->loading = chain;
    enum status status =
        ledger_each_sequence(senders->ledger, chain->chain_id, chain->baseline, load_sequence, senders);
    if (status != STATUS_OK)
        senders->status = status;
    knowledge_raise_baseline(senders->knowledge, chain->chain_id);
}

struct senders *senders_create(const struct trust *trust, struct ledger *ledger, struct lane_progress *progress)
{
    struct senders *senders = calloc(1, sizeof *senders);
    if (senders == NULL)
        return NULL;
    senders->trust = trust;
    senders->ledger = ledger;
    senders->progress = progress;
    senders->knowledge = knowledge_create();
    senders->list = calloc(trust_count(trust), sizeof *senders->list);
    if (senders->knowledge != NULL && senders->list != NULL &&
        ledger_each_chain(ledger, load_chain, senders) == STATUS_OK) {
        knowledge_each_chain(senders->knowledge, load_sequences, senders);
        if (senders->status == STATUS_OK)
            return senders;
    }
    senders_destroy(senders);
    return NULL;
}

void senders_destroy(struct senders *senders)
{
    if (senders == NULL)
        return;
    knowledge_destroy(senders->knowledge);
    free(senders->list);
    free(senders);
}

struct knowledge *senders_knowledge(struct senders *senders)
{
    return senders->knowledge;
}

void senders_heartbeat(struct senders *senders, const struct message_heartbeat *beat, uint64_t now_ns)
{
    struct sender *sender = find_or_add(senders, beat->sender_id);
    if (sender == NULL || !knowledge_heartbeat(senders->knowledge, beat, now_ns))
        return;
    progress_confirm_epoch(senders->progress, beat->sender_id, beat->epoch);
    /* Late repetitions of older beats would turn the figures back. */
    if (sender->heard_ns != 0 && sender->beat.epoch == beat->epoch && sender->beat.beat >= beat->beat)
        return;
    sender->beat = *beat;
    sender->heard_ns = now_ns;
    sender->heard_at_ns = clock_realtime_ns();
}

bool senders_are_healing(const struct senders *senders, uint32_t sender_id, uint64_t first, uint64_t last)
{
    const struct sender *sender = find(senders, sender_id);
    return sender != NULL && sender->heard_ns != 0 && report_is_healing(&sender->beat, first, last);
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
    job->chain = (struct ledger_chain){.sender_id = chain->sender_id,
                                       .baseline = chain->baseline,
                                       .newest_sequence = chain->newest_sequence,
                                       .settled_sequence = chain->settled_sequence,
                                       .epoch = chain->epoch};
    memcpy(job->chain.chain_id, chain->chain_id, CHAIN_ID_SIZE);
    publish_post(senders->publish, job);
}

void senders_store(struct senders *senders, struct publish *publish, uint64_t now_ns)
{
    if (now_ns < senders->store_ns)
        return;
    senders->store_ns = now_ns + STORE_INTERVAL_NS;
    senders->publish = publish;
    knowledge_each_chain(senders->knowledge, store_chain, senders);
}

struct filling {
    const struct senders *senders;
    struct report_snapshot *snapshot;
    uint32_t sender_id;
};

static void fill_range(uint64_t first, uint64_t last, void *context)
{
    struct filling *filling = context;
    struct report_snapshot *snapshot = filling->snapshot;
    bool healing = senders_are_healing(filling->senders, filling->sender_id, first, last);
    struct report_range range = {.sender_id = filling->sender_id, .first = first, .last = last, .healing = healing};
    if (!healing && !snapshot->never_seen_not_healing) {
        snapshot->never_seen_not_healing = true;
        snapshot->unseen = range;
    }
    if (snapshot->never_seen_count < REPORT_RANGES)
        snapshot->never_seen[snapshot->never_seen_count++] = range;
}

static void fill_sender(struct senders *senders, const struct sender *sender, struct report_snapshot *snapshot,
                        uint64_t now_ns)
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
                                  .heard_at_ns = sender->heard_at_ns,
                                  .offset_ns = sender->beat.time_ns - sender->heard_at_ns};
    memcpy(out->chain_id, chain->chain_id, CHAIN_ID_SIZE);
    struct filling filling = {.senders = senders, .snapshot = snapshot, .sender_id = sender->id};
    uint64_t total;
    knowledge_each_never_seen(senders->knowledge, sender->id, now_ns, fill_range, &filling, REPORT_RANGES, &total);
    snapshot->never_seen_total += total;
}

void senders_fill(struct senders *senders, struct report_snapshot *snapshot, uint64_t now_ns)
{
    for (size_t i = 0; i < senders->count; i++)
        fill_sender(senders, &senders->list[i], snapshot, now_ns);
}
