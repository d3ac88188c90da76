// SPDX-License-Identifier: Apache-2.0
#include "receiver/knowledge.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

struct chain {
    struct knowledge_chain facts;
    bool current;         /* named by the sender's newest heartbeat */
    uint64_t used;        /* order of use, for making room */
    struct extents known; /* held or delivered, above the baseline */
    struct extents delivered;
    uint64_t settled;  /* for longer than the grace */
    uint64_t settling; /* since settling_since_ns; 0: nothing is */
    uint64_t settling_since_ns;
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

static const struct chain *find_current(const struct knowledge *knowledge, uint32_t sender_id)
{
    for (unsigned i = 0; i < knowledge->count; i++)
        if (knowledge->chains[i].current && knowledge->chains[i].facts.sender_id == sender_id)
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

static void make_current(struct knowledge *knowledge, struct chain *chain)
{
    for (unsigned i = 0; i < knowledge->count; i++)
        if (knowledge->chains[i].facts.sender_id == chain->facts.sender_id)
            knowledge->chains[i].current = false;
    chain->current = true;
}

void knowledge_load(struct knowledge *knowledge, const struct knowledge_chain *facts)
{
    struct chain *chain = find_chain(knowledge, facts->chain_id);
    if (chain == NULL)
        chain = make_chain(knowledge, facts->sender_id, facts->chain_id);
    chain->facts = *facts;
    chain->facts.has_baseline = true;
    chain->facts.changed = 0;
    chain->settled = facts->settled_sequence;
    const struct chain *current = find_current(knowledge, facts->sender_id);
    if (current == NULL || current->facts.epoch < facts->epoch)
        make_current(knowledge, chain);
}

/* Whether numbers up to and including `sequence` need no room in the sets. */
static bool is_before_our_time(const struct chain *chain, uint64_t sequence)
{
    return chain->facts.has_baseline && sequence <= chain->facts.baseline;
}

void knowledge_raise_baseline(struct knowledge *knowledge, const uint8_t chain_id[static CHAIN_ID_SIZE])
{
    struct chain *chain = find_chain(knowledge, chain_id);
    if (chain == NULL || !chain->facts.has_baseline || chain->delivered.count == 0)
        return;
    struct extent lowest = extents_get(&chain->delivered, 0);
    if (lowest.first > chain->facts.baseline + 1)
        return;
    chain->facts.baseline = lowest.end - 1;
    chain->facts.changed++;
    bool removed = extents_remove(&chain->delivered, 0, lowest.end, KNOWLEDGE_RANGES) &&
                   extents_remove(&chain->known, 0, lowest.end, KNOWLEDGE_RANGES);
    assert(removed); /* taking off the lower end never splits a range */
    (void)removed;
}

static uint64_t newest_epoch(const struct knowledge *knowledge, uint32_t sender_id)
{
    uint64_t epoch = 0;
    for (unsigned i = 0; i < knowledge->count; i++)
        if (knowledge->chains[i].facts.sender_id == sender_id && knowledge->chains[i].facts.epoch > epoch)
            epoch = knowledge->chains[i].facts.epoch;
    return epoch;
}

static void mature(struct chain *chain, uint64_t now_ns)
{
    if (chain->settling == 0 || now_ns - chain->settling_since_ns < KNOWLEDGE_GRACE_NS)
        return;
    chain->settled = chain->settling;
    chain->settling = chain->facts.settled_sequence > chain->settled ? chain->facts.settled_sequence : 0;
    chain->settling_since_ns = now_ns;
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
    if (!chain->current)
        make_current(knowledge, chain);
    chain->used = ++knowledge->uses;

    struct knowledge_chain *facts = &chain->facts;
    if (!facts->has_baseline) {
        facts->has_baseline = true;
        facts->baseline = heartbeat->newest_sequence;
        chain->settled = facts->baseline;
        facts->changed++;
    }
    if (heartbeat->epoch > facts->epoch) {
        facts->epoch = heartbeat->epoch;
        facts->changed++;
    }
    if (heartbeat->newest_sequence > facts->newest_sequence) {
        facts->newest_sequence = heartbeat->newest_sequence;
        facts->changed++;
    }
    if (heartbeat->settled_sequence > facts->settled_sequence) {
        facts->settled_sequence = heartbeat->settled_sequence;
        facts->changed++;
    }
    mature(chain, now_ns);
    if (chain->settling == 0 && facts->settled_sequence > chain->settled) {
        chain->settling = facts->settled_sequence;
        chain->settling_since_ns = now_ns;
    }
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
    if (delivered && !extents_add(&chain->delivered, sequence, sequence + 1, KNOWLEDGE_RANGES))
        return false;
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

bool knowledge_is_delivered(const struct knowledge *knowledge, uint32_t sender_id, uint64_t sequence)
{
    const struct chain *chain = find_current(knowledge, sender_id);
    return chain != NULL && extents_contain(&chain->delivered, sequence);
}

void knowledge_each_never_seen(struct knowledge *knowledge, uint32_t sender_id, uint64_t now_ns,
                               void (*visit)(uint64_t first, uint64_t last, void *context), void *context,
                               unsigned limit, uint64_t *total)
{
    *total = 0;
    const struct chain *found = find_current(knowledge, sender_id);
    if (found == NULL || !found->facts.has_baseline)
        return;
    struct chain *chain = &knowledge->chains[found - knowledge->chains];
    mature(chain, now_ns);
    unsigned visited = 0;
    struct extent hole = {0, chain->facts.baseline + 1};
    while (extents_hole(&chain->known, hole.end, chain->settled + 1, &hole)) {
        *total += hole.end - hole.first;
        if (visited++ < limit)
            visit(hole.first, hole.end - 1, context);
    }
}

const struct knowledge_chain *knowledge_chain_of(const struct knowledge *knowledge, uint32_t sender_id)
{
    const struct chain *chain = find_current(knowledge, sender_id);
    return chain == NULL ? NULL : &chain->facts;
}

void knowledge_each_chain(const struct knowledge *knowledge,
                          void (*visit)(const struct knowledge_chain *chain, void *context), void *context)
{
    for (unsigned i = 0; i < knowledge->count; i++)
        visit(&knowledge->chains[i].facts, context);
}
