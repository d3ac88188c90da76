// SPDX-License-Identifier: Apache-2.0
#include "receiver/policy.h"

#include <assert.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/fingerprint.h"
#include "common/signature.h"
#include "proto/relpath.h"

enum { NAME_SHOWN = 40 }; /* bytes of a key's name in a reason, which has little room */

struct policy {
    const struct policy_rules *rules;
    const struct trust *running;
    struct trust *senders, *approvers;
    bool *is_senders; /* of each approver: it is a sender's key too */
    unsigned takers;  /* the slot's, under its mutex */
};

/* A reason that is being written; what does not fit is left out, on a character boundary. */
struct text {
    char *bytes;
    size_t size;
};

__attribute__((format(printf, 2, 3))) static void add(struct text *text, const char *format, ...)
{
    char more[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(more, sizeof more, format, arguments);
    va_end(arguments);
    size_t kept = relpath_cut(more, POLICY_REASON_SIZE - 1 - text->size);
    memcpy(text->bytes + text->size, more, kept);
    text->size += kept;
    text->bytes[text->size] = '\0';
}

struct policy_channel *policy_rules_channel(struct policy_rules *rules, const char *name)
{
    for (size_t i = 0; i < rules->channel_count; i++)
        if (strcmp(rules->channels[i].name, name) == 0)
            return &rules->channels[i];
    if (rules->channel_count == POLICY_CHANNELS)
        return NULL;
    if (rules->channels == NULL)
        rules->channels = calloc(POLICY_CHANNELS, sizeof *rules->channels);
    assert(rules->channels != NULL && strlen(name) <= LIMIT_CHANNEL_LENGTH);
    struct policy_channel *channel = &rules->channels[rules->channel_count++];
    memcpy(channel->name, name, strlen(name) + 1);
    return channel;
}

static void names_deinit(struct policy_names *names)
{
    for (size_t i = 0; i < names->count; i++)
        free(names->list[i]);
    free(names->list);
}

void policy_rules_deinit(struct policy_rules *rules)
{
    for (size_t i = 0; i < rules->channel_count; i++) {
        names_deinit(&rules->channels[i].senders);
        names_deinit(&rules->channels[i].approvers);
    }
    free(rules->channels);
    *rules = (struct policy_rules){0};
}

struct policy *policy_create(const struct policy_rules *rules, const struct trust *running, struct trust *senders,
                             struct trust *approvers)
{
    struct policy *policy = calloc(1, sizeof *policy);
    assert(policy != NULL && senders != NULL);
    *policy = (struct policy){.rules = rules, .running = running, .senders = senders, .approvers = approvers};
    size_t count = approvers == NULL ? 0 : trust_count(approvers);
    policy->is_senders = calloc(count + 1, sizeof *policy->is_senders);
    assert(policy->is_senders != NULL);
    for (size_t i = 0; i < count; i++) {
        const uint8_t *key = trust_at(approvers, i)->public_key.key;
        policy->is_senders[i] = trust_has_bytes(senders, key) || trust_has_bytes(running, key);
    }
    return policy;
}

void policy_destroy(struct policy *policy)
{
    if (policy == NULL)
        return;
    trust_destroy(policy->senders);
    trust_destroy(policy->approvers);
    free(policy->is_senders);
    free(policy);
}

const struct trust *policy_senders(const struct policy *policy)
{
    return policy->senders;
}

const struct trust *policy_approvers(const struct policy *policy)
{
    return policy->approvers;
}

static bool allows(const struct policy_names *names, const char *name)
{
    for (size_t i = 0; i < names->count; i++)
        if (strcmp(names->list[i], name) == 0)
            return true;
    return !names->given;
}

static void add_name(struct text *text, const struct trust_key *key)
{
    add(text, "%.*s", (int)relpath_cut(key->name, NAME_SHOWN), key->name);
}

/* What takes the key out of use, as the end of a sentence; false when nothing does. */
static bool add_end(struct text *text, const struct trust_key *key, int64_t first_seen_ns)
{
    char expired[CLOCK_RFC3339_SIZE], seen[CLOCK_RFC3339_SIZE];
    if (key->revoked) {
        add(text, " is revoked%s%s", key->why_revoked[0] == '\0' ? "" : ": ", key->why_revoked);
        return true;
    }
    if (first_seen_ns < key->expires_ns)
        return false;
    if (key->expires_ns == INT64_MIN) {
        add(text, " has an expiry that can't be read");
        return true;
    }
    clock_rfc3339(key->expires_ns, expired);
    clock_rfc3339(first_seen_ns, seen);
    add(text, " expired at %s, and this was first seen at %s", expired, seen);
    return true;
}

/* Whether what this sender signed may pass at all. */
static bool sender_passes(const struct policy *policy, const struct policy_channel *channel, const char *channel_name,
                          uint32_t sender_id, int64_t first_seen_ns, struct text *text)
{
    const struct trust_key *key = trust_find_sender(policy->senders, sender_id);
    const struct trust_key *running = trust_find_sender(policy->running, sender_id);
    if (key == NULL) {
        add(text, "the key of its sender %08" PRIx32 " is not in trusted_keys any more", sender_id);
        return false;
    }
    add(text, "the key of its sender ");
    add_name(text, key);
    if (running == NULL || memcmp(&running->public_key, &key->public_key, sizeof key->public_key) != 0) {
        add(text, " is another one than at the start of the receiver: restart it");
        return false;
    }
    if (add_end(text, key, first_seen_ns))
        return false;
    if (channel != NULL && !allows(&channel->senders, key->name)) {
        add(text, " is not among the senders of channel %s", channel_name);
        return false;
    }
    text->size = 0;
    return true;
}

/* Approvals that were looked at. */
struct tally {
    const struct trust_key *good[LIMIT_APPROVALS];
    unsigned good_count;
    char rest_bytes[POLICY_REASON_SIZE]; /* why others do not count */
    struct text rest;
};

static bool was_counted(const struct tally *tally, const struct trust_key *key)
{
    for (unsigned i = 0; i < tally->good_count; i++)
        if (memcmp(tally->good[i]->public_key.key, key->public_key.key, SIGNATURE_PUBLIC_SIZE) == 0)
            return true;
    return false;
}

/* Of a key of policy->approvers. */
static bool is_senders(const struct policy *policy, const struct trust_key *key)
{
    return policy->is_senders[key - trust_at(policy->approvers, 0)];
}

bool policy_may_approve(const struct policy *policy, const struct policy_channel *channel, const struct trust_key *key,
                        int64_t first_seen_ns)
{
    return !is_senders(policy, key) && !key->revoked && first_seen_ns < key->expires_ns &&
           (channel == NULL || allows(&channel->approvers, key->name));
}

static void look_at(const struct policy *policy, const struct policy_channel *channel, int64_t first_seen_ns,
                    const struct signature *approval, const uint8_t *statement, size_t size, struct tally *tally)
{
    const uint8_t *key_id = approval->bytes + 2;
    const struct trust_key *key = policy->approvers == NULL ? NULL : trust_find_key(policy->approvers, key_id);
    if (key == NULL) {
        char text[FINGERPRINT_KEY_ID_SIZE];
        fingerprint_key_id(key_id, text);
        add(&tally->rest, "; %s is no approver's key", text);
        return;
    }
    if (was_counted(tally, key))
        return;
    size_t before = tally->rest.size;
    add(&tally->rest, "; ");
    add_name(&tally->rest, key);
    if (is_senders(policy, key))
        add(&tally->rest, " is a sender's key too");
    else if (channel != NULL && !allows(&channel->approvers, key->name))
        add(&tally->rest, " is not among the approvers of the channel");
    else if (add_end(&tally->rest, key, first_seen_ns))
        return;
    else if (!signature_verify(&key->public_key, statement, size, approval))
        add(&tally->rest, "'s signature is wrong");
    else {
        tally->good[tally->good_count++] = key;
        tally->rest.size = before;
        tally->rest_bytes[before] = '\0';
    }
}

static void tell(const struct tally *tally, uint32_t required, struct text *text)
{
    add(text, "%" PRIu32 " approval%s needed, %u there", required, required == 1 ? " is" : "s are", tally->good_count);
    for (unsigned i = 0; i < tally->good_count; i++) {
        add(text, i == 0 ? " (" : ", ");
        add_name(text, tally->good[i]);
    }
    add(text, "%s%s", tally->good_count == 0 ? "" : ")", tally->rest_bytes);
}

static const struct policy_channel *find_channel(const struct policy_rules *rules, const char *name)
{
    for (size_t i = 0; i < rules->channel_count; i++)
        if (strcmp(rules->channels[i].name, name) == 0)
            return &rules->channels[i];
    return NULL;
}

enum policy_verdict policy_judge(const struct policy *policy, uint32_t sender_id, int64_t first_seen_ns,
                                 const struct manifest_reader *manifest, char reason[static POLICY_REASON_SIZE])
{
    struct text text = {.bytes = reason};
    struct signature approval;
    size_t size;
    const char *name = manifest_reader_head(manifest)->channel;
    const struct policy_channel *channel = find_channel(policy->rules, name);
    reason[0] = '\0';
    if (!sender_passes(policy, channel, name, sender_id, first_seen_ns, &text))
        return POLICY_HOLD;
    reason[0] = '\0';
    uint32_t required =
        channel != NULL && channel->has_required ? channel->required_signatures : policy->rules->required_signatures;
    struct tally tally = {.rest = {.bytes = tally.rest_bytes}};
    const uint8_t *statement = manifest_reader_statement(manifest, &size);
    for (size_t i = 0; i < LIMIT_APPROVALS && tally.good_count < required; i++) {
        if (!manifest_reader_approval(manifest, i, &approval))
            break;
        look_at(policy, channel, first_seen_ns, &approval, statement, size, &tally);
    }
    if (tally.good_count >= required)
        return POLICY_DELIVER;
    tell(&tally, required, &text);
    return POLICY_HOLD;
}

struct policy_slot {
    pthread_mutex_t mutex;
    struct policy *current;
};

struct policy_slot *policy_slot_create(struct policy *policy)
{
    struct policy_slot *slot = calloc(1, sizeof *slot);
    if (slot == NULL)
        return NULL;
    pthread_mutex_init(&slot->mutex, NULL);
    slot->current = policy;
    return slot;
}

void policy_slot_destroy(struct policy_slot *slot)
{
    if (slot == NULL)
        return;
    assert(slot->current->takers == 0);
    policy_destroy(slot->current);
    pthread_mutex_destroy(&slot->mutex);
    free(slot);
}

void policy_slot_replace(struct policy_slot *slot, struct policy *policy)
{
    pthread_mutex_lock(&slot->mutex);
    struct policy *old = slot->current;
    bool is_free = old->takers == 0;
    slot->current = policy;
    pthread_mutex_unlock(&slot->mutex);
    if (is_free)
        policy_destroy(old);
}

const struct policy *policy_slot_take(struct policy_slot *slot)
{
    pthread_mutex_lock(&slot->mutex);
    struct policy *policy = slot->current;
    policy->takers++;
    pthread_mutex_unlock(&slot->mutex);
    return policy;
}

void policy_slot_put(struct policy_slot *slot, const struct policy *policy)
{
    struct policy *taken = (struct policy *)policy;
    pthread_mutex_lock(&slot->mutex);
    assert(taken->takers > 0);
    bool is_last = --taken->takers == 0 && taken != slot->current;
    pthread_mutex_unlock(&slot->mutex);
    if (is_last)
        policy_destroy(taken);
}
