// SPDX-License-Identifier: Apache-2.0
#include "receiver/knowledge.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "receiver/claims.h"

enum { MARKS = 12, FORKED_RANGES = 1024 };
#define MARK_NS (KNOWLEDGE_GRACE_NS / 8)

/* Numbers up to this were told as settled; what is told within MARK_NS shares a mark, and its grace is the last one's.
 */
struct mark {
    uint64_t sequence;
    uint64_t opened_ns, since_ns;
};

struct alarm {
    struct knowledge_alarm facts;
    bool on, news;
};

struct in_flight {
    uint8_t transfer_id[TRANSFER_ID_SIZE];
    uint64_t sequence;
};

struct chain {
    struct knowledge_chain facts;
    uint64_t used;        /* order of use, for making room */
    struct extents known; /* held or delivered, above the baseline */
    struct extents delivered;
    struct extents written_off;
    struct extents forked; /* held, and other than what was said of these numbers before */
    uint64_t settled;      /* for longer than the grace */
    struct mark marks[MARKS];
    unsigned mark_count;
    struct claims claims;
    struct alarm alarms[KNOWLEDGE_ALARM_KINDS];
    bool lacks;                  /* numbers, as the last heartbeat has left it */
    bool ended;                  /* its alarms are over, and nobody was told yet */
    struct in_flight *in_flight; /* a ring of KNOWLEDGE_IN_FLIGHT, made with the first one */
    unsigned in_flight_next;
};

struct knowledge {
    uint64_t uses;
    unsigned count;
    struct chain chains[KNOWLEDGE_CHAINS];
};

struct knowledge *knowledge_create(void)
{
    return calloc(1, sizeof(struct knowledge));
}

static void forget_chain(struct chain *chain)
{
    extents_deinit(&chain->known);
    extents_deinit(&chain->delivered);
    extents_deinit(&chain->written_off);
    extents_deinit(&chain->forked);
    claims_deinit(&chain->claims);
    free(chain->in_flight);
    *chain = (struct chain){0};
}

void knowledge_destroy(struct knowledge *knowledge)
{
    if (knowledge == NULL)
        return;
    for (unsigned i = 0; i < knowledge->count; i++)
        forget_chain(&knowledge->chains[i]);
    free(knowledge);
}

static struct chain *find_chain(struct knowledge *knowledge, const uint8_t chain_id[static CHAIN_ID_SIZE])
{
    for (unsigned i = 0; i < knowledge->count; i++)
        if (memcmp(knowledge->chains[i].facts.chain_id, chain_id, CHAIN_ID_SIZE) == 0)
            return &knowledge->chains[i];
    return NULL;
}

static const struct chain *look_for_chain(const struct knowledge *knowledge, const uint8_t *chain_id)
{
    for (unsigned i = 0; i < knowledge->count; i++)
        if (memcmp(knowledge->chains[i].facts.chain_id, chain_id, CHAIN_ID_SIZE) == 0)
            return &knowledge->chains[i];
    return NULL;
}

static const struct chain *find_current(const struct knowledge *knowledge, uint32_t sender_id)
{
    for (unsigned i = 0; i < knowledge->count; i++)
        if (knowledge->chains[i].facts.current && knowledge->chains[i].facts.sender_id == sender_id)
            return &knowledge->chains[i];
    return NULL;
}

static struct chain *make_chain(struct knowledge *knowledge, uint32_t sender_id,
                                const uint8_t chain_id[static CHAIN_ID_SIZE])
{
    struct chain *chain;
    if (knowledge->count < KNOWLEDGE_CHAINS) {
        chain = &knowledge->chains[knowledge->count++];
    } else {
        chain = &knowledge->chains[0];
        for (unsigned i = 1; i < knowledge->count; i++)
            if (knowledge->chains[i].used < chain->used)
                chain = &knowledge->chains[i];
        forget_chain(chain);
    }
    chain->facts.sender_id = sender_id;
    memcpy(chain->facts.chain_id, chain_id, CHAIN_ID_SIZE);
    chain->used = ++knowledge->uses;
    return chain;
}

static void clear_alarms(struct chain *chain)
{
    for (unsigned i = 0; i < KNOWLEDGE_ALARM_KINDS; i++)
        chain->alarms[i] = (struct alarm){0};
}

static bool has_alarm(const struct chain *chain)
{
    return chain->alarms[0].on || chain->alarms[1].on;
}

static void make_current(struct knowledge *knowledge, struct chain *chain)
{
    for (unsigned i = 0; i < knowledge->count; i++)
        if (knowledge->chains[i].facts.sender_id == chain->facts.sender_id)
            knowledge->chains[i].facts.current = false;
    chain->facts.current = true;
}

static void end_alarms_of_others(struct knowledge *knowledge, const struct chain *chain)
{
    for (unsigned i = 0; i < knowledge->count; i++) {
        struct chain *other = &knowledge->chains[i];
        if (other == chain || other->facts.sender_id != chain->facts.sender_id || !has_alarm(other))
            continue;
        clear_alarms(other);
        other->ended = true;
    }
}

/* Whether numbers up to and including `sequence` need no room in the sets. */
static bool is_before_our_time(const struct chain *chain, uint64_t sequence)
{
    return chain->facts.has_baseline && sequence <= chain->facts.baseline;
}

static void note_settled(struct chain *chain, uint64_t now_ns)
{
    uint64_t sequence = chain->facts.settled_sequence;
    struct mark *last = chain->mark_count > 0 ? &chain->marks[chain->mark_count - 1] : NULL;
    if (sequence <= (last != NULL ? last->sequence : chain->settled))
        return;
    if (last == NULL || (now_ns - last->opened_ns >= MARK_NS && chain->mark_count < MARKS)) {
        last = &chain->marks[chain->mark_count++];
        last->opened_ns = now_ns;
    }
    last->sequence = sequence;
    last->since_ns = now_ns;
}

static void mature(struct chain *chain, uint64_t now_ns)
{
    unsigned over = 0;
    while (over < chain->mark_count && now_ns - chain->marks[over].since_ns >= KNOWLEDGE_GRACE_NS)
        chain->settled = chain->marks[over++].sequence;
    chain->mark_count -= over;
    memmove(chain->marks, chain->marks + over, chain->mark_count * sizeof *chain->marks);
}

/* The delivered numbers that follow the baseline without a gap need not be loaded one by one at the next start. */
static void note_delivered_through(struct chain *chain)
{
    if (!chain->facts.has_baseline || chain->delivered.count == 0)
        return;
    struct extent lowest = extents_get(&chain->delivered, 0);
    if (lowest.first > chain->facts.baseline + 1 || lowest.end - 1 <= chain->facts.delivered_through)
        return;
    chain->facts.delivered_through = lowest.end - 1;
    chain->facts.changed++;
}

void knowledge_load(struct knowledge *knowledge, const struct knowledge_chain *facts, uint64_t now_ns)
{
    struct chain *chain = find_chain(knowledge, facts->chain_id);
    if (chain == NULL)
        chain = make_chain(knowledge, facts->sender_id, facts->chain_id);
    bool current = chain->facts.current;
    chain->facts = *facts;
    chain->facts.current = current;
    chain->facts.has_baseline = true;
    chain->facts.changed = 0;
    chain->settled = facts->baseline;
    note_settled(chain, now_ns);
    if (facts->delivered_through > facts->baseline) {
        bool added = extents_add(&chain->delivered, facts->baseline + 1, facts->delivered_through + 1, 2) &&
                     extents_add(&chain->known, facts->baseline + 1, facts->delivered_through + 1, 2);
        assert(added); /* one range lies inside the struct */
        (void)added;
    }
    if (facts->told_sequence != 0)
        (void)claims_put(&chain->claims, facts->told_sequence, facts->told_hash);
    const struct chain *newest = find_current(knowledge, facts->sender_id);
    if (newest == NULL || newest->facts.epoch < facts->epoch)
        make_current(knowledge, chain);
}

static uint64_t newest_epoch(const struct knowledge *knowledge, uint32_t sender_id)
{
    uint64_t epoch = 0;
    for (unsigned i = 0; i < knowledge->count; i++)
        if (knowledge->chains[i].facts.sender_id == sender_id && knowledge->chains[i].facts.epoch > epoch)
            epoch = knowledge->chains[i].facts.epoch;
    return epoch;
}

static struct alarm *raise_alarm(struct chain *chain, enum knowledge_alarm_kind kind, uint64_t first, uint64_t last)
{
    struct alarm *alarm = &chain->alarms[kind - 1];
    if (!alarm->on) {
        *alarm = (struct alarm){.on = true, .news = true};
        alarm->facts =
            (struct knowledge_alarm){.kind = kind, .sender_id = chain->facts.sender_id, .first = first, .last = last};
        memcpy(alarm->facts.chain_id, chain->facts.chain_id, CHAIN_ID_SIZE);
    }
    if (first < alarm->facts.first) {
        alarm->facts.first = first;
        alarm->news = true;
    }
    if (last > alarm->facts.last) {
        alarm->facts.last = last;
        alarm->news = true;
    }
    return alarm;
}

/* Takes all above `sequence` out of a set, which never splits a range. */
static void cut(struct extents *set, uint64_t sequence)
{
    bool removed = extents_remove(set, sequence + 1, UINT64_MAX, KNOWLEDGE_RANGES);
    assert(removed);
    (void)removed;
}

static void roll_back(struct chain *chain, uint64_t sequence)
{
    struct knowledge_chain *facts = &chain->facts;
    struct alarm *alarm = raise_alarm(chain, KNOWLEDGE_ROLLBACK, sequence + 1, facts->newest_sequence);
    alarm->facts.back_to = sequence;
    alarm->news = true;
    cut(&chain->delivered, sequence);
    cut(&chain->known, sequence);
    cut(&chain->written_off, sequence);
    /* What came in advance of the new run's first heartbeat is of the numbers given anew. */
    for (uint32_t i = 0; i < chain->forked.count; i++) {
        struct extent held = extents_get(&chain->forked, i);
        if (held.first > sequence)
            (void)extents_add(&chain->known, held.first, held.end, KNOWLEDGE_RANGES);
    }
    claims_forget_above(&chain->claims, sequence);
    facts->newest_sequence = sequence;
    facts->told_sequence = 0;
    if (facts->settled_sequence > sequence)
        facts->settled_sequence = sequence;
    if (facts->delivered_through > sequence)
        facts->delivered_through = sequence;
    if (facts->baseline > sequence)
        facts->baseline = sequence;
    if (chain->settled > sequence)
        chain->settled = sequence;
    chain->mark_count = 0;
    chain->in_flight_next = 0;
    free(chain->in_flight);
    chain->in_flight = NULL;
}

static void note_in_flight(struct chain *chain, const struct message_heartbeat *heartbeat)
{
    for (uint32_t i = 0; i < heartbeat->in_flight_count; i++) {
        const struct message_in_flight *told = &heartbeat->in_flight[i];
        if (told->sequence == 0)
            continue;
        if (chain->in_flight == NULL &&
            (chain->in_flight = calloc(KNOWLEDGE_IN_FLIGHT, sizeof *chain->in_flight)) == NULL)
            return;
        unsigned at = 0;
        while (at < KNOWLEDGE_IN_FLIGHT && chain->in_flight[at].sequence != told->sequence &&
               memcmp(chain->in_flight[at].transfer_id, told->transfer_id, TRANSFER_ID_SIZE) != 0)
            at++;
        if (at == KNOWLEDGE_IN_FLIGHT)
            at = chain->in_flight_next++ % KNOWLEDGE_IN_FLIGHT;
        chain->in_flight[at].sequence = told->sequence;
        memcpy(chain->in_flight[at].transfer_id, told->transfer_id, TRANSFER_ID_SIZE);
    }
}

/* The next numbers behind lost->end and below `end` that are neither known nor written off. */
static bool next_lost(const struct chain *chain, uint64_t end, struct extent *lost)
{
    struct extent unknown = *lost;
    while (extents_hole(&chain->known, unknown.end, end, &unknown)) {
        *lost = (struct extent){0, unknown.first};
        if (extents_hole(&chain->written_off, lost->end, unknown.end, lost))
            return true;
    }
    return false;
}

static void take_newest(struct knowledge *knowledge, struct chain *chain, const struct message_heartbeat *heartbeat)
{
    struct knowledge_chain *facts = &chain->facts;
    if (heartbeat->epoch > facts->epoch) {
        if (facts->epoch != 0 && heartbeat->newest_sequence < facts->told_sequence)
            roll_back(chain, heartbeat->newest_sequence);
        facts->epoch = heartbeat->epoch;
        facts->changed++;
    }
    if (heartbeat->newest_sequence > facts->newest_sequence) {
        facts->newest_sequence = heartbeat->newest_sequence;
        facts->changed++;
    }
    if (heartbeat->newest_sequence != 0)
        (void)knowledge_claim(knowledge, heartbeat->chain_id, heartbeat->newest_sequence, heartbeat->newest_hash,
                              false);
    if (heartbeat->newest_sequence > facts->told_sequence) {
        facts->told_sequence = heartbeat->newest_sequence;
        memcpy(facts->told_hash, heartbeat->newest_hash, SHA256_SIZE);
        facts->changed++;
    }
    if (heartbeat->settled_sequence > facts->settled_sequence) {
        facts->settled_sequence = heartbeat->settled_sequence;
        facts->changed++;
    }
}

bool knowledge_heartbeat(struct knowledge *knowledge, const struct message_heartbeat *heartbeat, uint64_t now_ns)
{
    if (heartbeat->epoch < newest_epoch(knowledge, heartbeat->sender_id))
        return false;
    struct chain *chain = find_chain(knowledge, heartbeat->chain_id);
    if (chain == NULL)
        chain = make_chain(knowledge, heartbeat->sender_id, heartbeat->chain_id);
    if (chain->facts.sender_id != heartbeat->sender_id)
        return false;
    if (!chain->facts.current) {
        make_current(knowledge, chain);
        end_alarms_of_others(knowledge, chain);
    }
    chain->used = ++knowledge->uses;
    if (!chain->facts.has_baseline) {
        chain->facts.has_baseline = true;
        chain->facts.baseline = heartbeat->newest_sequence;
        chain->settled = heartbeat->newest_sequence;
        chain->facts.changed++;
    }
    take_newest(knowledge, chain, heartbeat);
    note_in_flight(chain, heartbeat);
    mature(chain, now_ns);
    note_settled(chain, now_ns);
    struct extent lost = {0, chain->facts.baseline + 1};
    chain->lacks = next_lost(chain, chain->settled + 1, &lost);
    return true;
}

bool knowledge_add(struct knowledge *knowledge, uint32_t sender_id, const uint8_t chain_id[static CHAIN_ID_SIZE],
                   uint64_t sequence, bool delivered)
{
    struct chain *chain = find_chain(knowledge, chain_id);
    if (chain == NULL)
        chain = make_chain(knowledge, sender_id, chain_id);
    if (chain->facts.sender_id != sender_id)
        return false;
    chain->used = ++knowledge->uses;
    if (sequence > chain->facts.newest_sequence) {
        chain->facts.newest_sequence = sequence;
        chain->facts.changed++;
    }
    if (is_before_our_time(chain, sequence))
        return true;
    if (delivered) {
        if (!extents_add(&chain->delivered, sequence, sequence + 1, KNOWLEDGE_RANGES))
            return false;
        note_delivered_through(chain);
    }
    return extents_add(&chain->known, sequence, sequence + 1, KNOWLEDGE_RANGES);
}

void knowledge_remove(struct knowledge *knowledge, const uint8_t chain_id[static CHAIN_ID_SIZE], uint64_t sequence)
{
    struct chain *chain = find_chain(knowledge, chain_id);
    if (chain == NULL || extents_contain(&chain->delivered, sequence))
        return;
    /* A set too full to be split keeps the number: that loss is then not reported, as the bound says. */
    (void)extents_remove(&chain->known, sequence, sequence + 1, KNOWLEDGE_RANGES);
}

bool knowledge_write_off(struct knowledge *knowledge, const uint8_t chain_id[static CHAIN_ID_SIZE], uint64_t first,
                         uint64_t last)
{
    struct chain *chain = find_chain(knowledge, chain_id);
    return chain == NULL || extents_add(&chain->written_off, first, last + 1, KNOWLEDGE_RANGES);
}

bool knowledge_is_written_off(const struct knowledge *knowledge, const uint8_t chain_id[static CHAIN_ID_SIZE],
                              uint64_t sequence)
{
    const struct chain *chain = look_for_chain(knowledge, chain_id);
    return chain != NULL && extents_contain(&chain->written_off, sequence);
}

bool knowledge_doubts(const struct knowledge *knowledge, uint32_t sender_id)
{
    const struct chain *chain = find_current(knowledge, sender_id);
    return chain != NULL && (chain->lacks || has_alarm(chain));
}

bool knowledge_accounts_for(const struct knowledge *knowledge, const uint8_t chain_id[static CHAIN_ID_SIZE],
                            uint64_t sequence)
{
    const struct chain *chain = look_for_chain(knowledge, chain_id);
    return chain != NULL && (is_before_our_time(chain, sequence) || extents_contain(&chain->known, sequence) ||
                             extents_contain(&chain->written_off, sequence));
}

bool knowledge_is_void(const struct knowledge *knowledge, const uint8_t chain_id[static CHAIN_ID_SIZE],
                       uint64_t sequence)
{
    const struct chain *chain = look_for_chain(knowledge, chain_id);
    if (chain == NULL || is_before_our_time(chain, sequence))
        return chain == NULL;
    const struct alarm *fork = &chain->alarms[KNOWLEDGE_FORK - 1];
    return !extents_contain(&chain->known, sequence) ||
           (fork->on && sequence >= fork->facts.first && sequence <= fork->facts.last);
}

bool knowledge_is_delivered(const struct knowledge *knowledge, uint32_t sender_id, uint64_t sequence)
{
    const struct chain *chain = find_current(knowledge, sender_id);
    return chain != NULL && extents_contain(&chain->delivered, sequence) && !extents_contain(&chain->forked, sequence);
}

static void contradict(struct chain *chain, uint64_t sequence, bool held)
{
    (void)raise_alarm(chain, KNOWLEDGE_FORK, sequence, sequence);
    if (held)
        (void)extents_add(&chain->forked, sequence, sequence + 1, FORKED_RANGES);
}

bool knowledge_claim(struct knowledge *knowledge, const uint8_t chain_id[static CHAIN_ID_SIZE], uint64_t sequence,
                     const uint8_t hash[static SHA256_SIZE], bool held)
{
    struct chain *chain = find_chain(knowledge, chain_id);
    if (chain == NULL)
        return true;
    enum claims_answer answer = claims_put(&chain->claims, sequence, hash);
    if (answer == CLAIMS_OTHER)
        contradict(chain, sequence, held);
    return answer != CLAIMS_NEW || !extents_contain(&chain->delivered, sequence);
}

void knowledge_compare(struct knowledge *knowledge, const uint8_t chain_id[static CHAIN_ID_SIZE], uint64_t sequence,
                       const uint8_t claimed[static SHA256_SIZE], const uint8_t delivered[static SHA256_SIZE],
                       bool held)
{
    struct chain *chain = find_chain(knowledge, chain_id);
    if (chain != NULL && memcmp(claimed, delivered, SHA256_SIZE) != 0)
        contradict(chain, sequence, held);
}

void knowledge_load_alarm(struct knowledge *knowledge, const struct knowledge_alarm *facts)
{
    struct chain *chain = find_chain(knowledge, facts->chain_id);
    if (chain == NULL || (facts->kind != KNOWLEDGE_ROLLBACK && facts->kind != KNOWLEDGE_FORK))
        return;
    chain->alarms[facts->kind - 1] = (struct alarm){.facts = *facts, .on = true};
    /* Which of these numbers were given twice is not kept: all of them are read when they are repeated. */
    if (facts->kind == KNOWLEDGE_FORK)
        (void)extents_add(&chain->forked, facts->first, facts->last + 1, FORKED_RANGES);
}

bool knowledge_take_alarm(struct knowledge *knowledge, int64_t realtime_ns, struct knowledge_alarm *out)
{
    for (unsigned i = 0; i < knowledge->count; i++) {
        for (unsigned kind = 0; kind < KNOWLEDGE_ALARM_KINDS; kind++) {
            struct alarm *alarm = &knowledge->chains[i].alarms[kind];
            if (!alarm->news)
                continue;
            if (alarm->facts.at_ns == 0)
                alarm->facts.at_ns = realtime_ns;
            alarm->news = false;
            *out = alarm->facts;
            return true;
        }
    }
    return false;
}

bool knowledge_take_ended(struct knowledge *knowledge, uint8_t chain_id[static CHAIN_ID_SIZE])
{
    for (unsigned i = 0; i < knowledge->count; i++) {
        struct chain *chain = &knowledge->chains[i];
        if (!chain->ended)
            continue;
        chain->ended = false;
        memcpy(chain_id, chain->facts.chain_id, CHAIN_ID_SIZE);
        return true;
    }
    return false;
}

void knowledge_clear_alarms(struct knowledge *knowledge, const uint8_t chain_id[static CHAIN_ID_SIZE])
{
    struct chain *chain = find_chain(knowledge, chain_id);
    if (chain != NULL)
        clear_alarms(chain);
}

void knowledge_each_alarm(const struct knowledge *knowledge,
                          void (*visit)(const struct knowledge_alarm *alarm, void *context), void *context)
{
    for (unsigned i = 0; i < knowledge->count; i++)
        for (unsigned kind = 0; kind < KNOWLEDGE_ALARM_KINDS; kind++)
            if (knowledge->chains[i].alarms[kind].on)
                visit(&knowledge->chains[i].alarms[kind].facts, context);
}

static uint64_t lost_up_to(struct chain *chain, uint64_t now_ns)
{
    mature(chain, now_ns);
    return chain->facts.current ? chain->settled : chain->facts.newest_sequence;
}

uint64_t knowledge_lost_manifest(struct knowledge *knowledge, uint32_t sender_id,
                                 const uint8_t transfer_id[static TRANSFER_ID_SIZE], uint64_t now_ns)
{
    const struct chain *found = find_current(knowledge, sender_id);
    if (found == NULL || found->in_flight == NULL)
        return 0;
    struct chain *chain = &knowledge->chains[found - knowledge->chains];
    for (unsigned i = 0; i < KNOWLEDGE_IN_FLIGHT; i++) {
        uint64_t sequence = chain->in_flight[i].sequence;
        if (sequence == 0 || memcmp(chain->in_flight[i].transfer_id, transfer_id, TRANSFER_ID_SIZE) != 0)
            continue;
        bool lost = sequence <= lost_up_to(chain, now_ns) && !is_before_our_time(chain, sequence) &&
                    !extents_contain(&chain->known, sequence) && !extents_contain(&chain->written_off, sequence);
        return lost ? sequence : 0;
    }
    return 0;
}

void knowledge_each_never_seen(struct knowledge *knowledge, uint32_t sender_id, uint64_t now_ns,
                               void (*visit)(const struct knowledge_chain *chain, uint64_t first, uint64_t last,
                                             void *context),
                               void *context)
{
    for (unsigned i = 0; i < knowledge->count; i++) {
        struct chain *chain = &knowledge->chains[i];
        if (chain->facts.sender_id != sender_id || !chain->facts.has_baseline)
            continue;
        uint64_t end = lost_up_to(chain, now_ns) + 1;
        struct extent lost = {0, chain->facts.baseline + 1};
        while (next_lost(chain, end, &lost))
            visit(&chain->facts, lost.first, lost.end - 1, context);
    }
}

const struct knowledge_chain *knowledge_chain_of(const struct knowledge *knowledge, uint32_t sender_id)
{
    const struct chain *chain = find_current(knowledge, sender_id);
    return chain == NULL ? NULL : &chain->facts;
}

const struct knowledge_chain *knowledge_find(const struct knowledge *knowledge,
                                             const uint8_t chain_id[static CHAIN_ID_SIZE])
{
    const struct chain *chain = look_for_chain(knowledge, chain_id);
    return chain == NULL ? NULL : &chain->facts;
}

void knowledge_each_chain(const struct knowledge *knowledge,
                          void (*visit)(const struct knowledge_chain *chain, void *context), void *context)
{
    for (unsigned i = 0; i < knowledge->count; i++)
        visit(&knowledge->chains[i].facts, context);
}
