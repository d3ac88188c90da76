// SPDX-License-Identifier: Apache-2.0
#include "receiver/keys_private.h"

#include <stdio.h>
#include <string.h>

#include "common/clock.h"
#include "common/fingerprint.h"
#include "proto/identity.h"

enum { SHOWN = 256, SHOWN_NAMES_SIZE = 256 };
#define SOON_NS (INT64_C(14) * 24 * 3600 * (int64_t)CLOCK_SECOND_NS)

/* Of a sender: the receive stage was started without this very key. */
static bool needs_restart(const struct keys *keys, const struct trust_key *key)
{
    const struct signature_public *running = trust_find(keys->running, signature_sender_id(&key->public_key));
    return running == NULL || memcmp(running, &key->public_key, sizeof *running) != 0;
}

static bool is_expired(const struct trust_key *key, int64_t realtime_ns)
{
    return !key->revoked && realtime_ns >= key->expires_ns;
}

static bool expires_soon(const struct trust_key *key, int64_t realtime_ns)
{
    return !key->revoked && realtime_ns < key->expires_ns && key->expires_ns != TRUST_NEVER &&
           key->expires_ns - realtime_ns < SOON_NS;
}

static void set_time(json_t *object, const char *member, int64_t at_ns)
{
    char text[CLOCK_RFC3339_SIZE];
    clock_rfc3339(at_ns, text);
    json_object_set_new(object, member, json_string(text));
}

static json_t *key_json(const struct trust_key *key)
{
    char key_id[FINGERPRINT_KEY_ID_SIZE], fingerprint[FINGERPRINT_SIZE];
    json_t *object = json_object();
    fingerprint_key_id(key->public_key.key_id, key_id);
    fingerprint_text(&key->public_key, fingerprint);
    json_object_set_new(object, "name", json_string(key->name));
    json_object_set_new(object, "key_id", json_string(key_id));
    json_object_set_new(object, "fingerprint", json_string(fingerprint));
    return object;
}

/* Of senders and approvers. */
static json_t *role_json(const struct trust *trust, const struct keys *senders_of, int64_t realtime_ns)
{
    json_t *list = json_array();
    for (size_t i = 0; trust != NULL && i < trust_count(trust) && i < SHOWN; i++) {
        const struct trust_key *key = trust_at(trust, i);
        const char *state = key->revoked ? "revoked" : is_expired(key, realtime_ns) ? "expired" : "good";
        json_t *object = key_json(key);
        if (senders_of != NULL) {
            char sender_id[SENDER_ID_TEXT_SIZE];
            identity_sender_text(signature_sender_id(&key->public_key), sender_id);
            json_object_set_new(object, "sender_id", json_string(sender_id));
            if (needs_restart(senders_of, key))
                state = "needs_restart";
        }
        json_object_set_new(object, "state", json_string(state));
        if (key->expires_ns == TRUST_NEVER)
            json_object_set_new(object, "expires", json_null());
        else
            set_time(object, "expires", key->expires_ns);
        json_object_set_new(object, "revoked", json_boolean(key->revoked));
        json_object_set_new(object, "why_revoked", key->revoked ? json_string(key->why_revoked) : json_null());
        json_array_append_new(list, object);
    }
    return list;
}

/* Announced, and not in use yet. */
static bool is_news(const struct keys *keys, const struct trust_key *key)
{
    return !trust_has_bytes(policy_senders(keys->policy), key->public_key.key);
}

static json_t *announced_json(const struct keys *keys)
{
    json_t *list = json_array();
    for (size_t i = 0; i < trust_count(keys->announced) && i < KEYS_ANNOUNCED; i++) {
        const struct trust_key *key = trust_at(keys->announced, i);
        json_t *object = key_json(key);
        json_object_set_new(object, "announcement", json_string(keys->announcements[i]));
        json_object_set_new(object, "file", json_sprintf("%s/%s.pub", keys->announced_directory, key->name));
        json_object_set_new(object, "in_use", json_boolean(!is_news(keys, key)));
        json_array_append_new(list, object);
    }
    return list;
}

void keys_to_json(const struct keys *keys, json_t *root, int64_t realtime_ns)
{
    json_t *object = json_object();
    json_object_set_new(object, "senders", role_json(policy_senders(keys->policy), keys, realtime_ns));
    json_object_set_new(object, "approvers", role_json(policy_approvers(keys->policy), NULL, realtime_ns));
    json_object_set_new(object, "announced", announced_json(keys));
    json_object_set_new(object, "required_signatures",
                        json_integer((json_int_t)keys->config->policy.required_signatures));
    set_time(object, "read_at", keys->read_at_ns);
    json_object_set_new(object, "problem", keys->problem[0] == '\0' ? json_null() : json_string(keys->problem));
    json_object_set_new(root, "keys", object);
}

/* Keys that a reason is about, named one by one as long as there is room. */
struct found {
    unsigned count;
    size_t size;
    char names[SHOWN_NAMES_SIZE];
};

static void note(struct found *found, const char *directory, const struct trust_key *key, const char *detail)
{
    char more[SHOWN_NAMES_SIZE];
    int length =
        snprintf(more, sizeof more, "%s%s/%s.pub%s", found->count == 0 ? "" : ", ", directory, key->name, detail);
    found->count++;
    if (length < 0 || found->size + (size_t)length >= sizeof found->names)
        return;
    memcpy(found->names + found->size, more, (size_t)length + 1);
    found->size += (size_t)length;
}

struct findings {
    struct found expired, soon, revoked, restart;
};

static void look_at(const struct keys *keys, const char *directory, const struct trust *trust, bool of_senders,
                    int64_t realtime_ns, struct findings *findings)
{
    for (size_t i = 0; trust != NULL && i < trust_count(trust); i++) {
        const struct trust_key *key = trust_at(trust, i);
        char detail[CLOCK_RFC3339_SIZE + 8] = "", when[CLOCK_RFC3339_SIZE];
        if (key->expires_ns != TRUST_NEVER) {
            clock_rfc3339(key->expires_ns, when);
            snprintf(detail, sizeof detail, " (%s)", when);
        }
        if (is_expired(key, realtime_ns))
            note(&findings->expired, directory, key, detail);
        if (expires_soon(key, realtime_ns))
            note(&findings->soon, directory, key, detail);
        if (key->revoked)
            note(&findings->revoked, directory, key, "");
        if (of_senders && needs_restart(keys, key))
            note(&findings->restart, directory, key, "");
    }
}

/* Senders that the receive stage serves and that are trusted no more. */
static void find_removed(const struct keys *keys, struct found *found)
{
    for (size_t i = 0; i < trust_count(keys->running); i++) {
        const struct trust_key *key = trust_at(keys->running, i);
        if (trust_find(policy_senders(keys->policy), signature_sender_id(&key->public_key)) == NULL)
            note(found, keys->config->trusted_keys, key, " (removed)");
    }
}

#define TELL(health, code, found, ...)                                           \
    do {                                                                         \
        if ((found)->count > 0)                                                  \
            health_set(health, HEALTH_DEGRADED, code, realtime_ns, __VA_ARGS__); \
        else                                                                     \
            health_clear(health, code);                                          \
    } while (0)

/* How many keys of a role may approve in the channel now. */
static uint32_t count_approvers(const struct keys *keys, const struct policy_channel *channel, int64_t realtime_ns)
{
    const struct trust *approvers = policy_approvers(keys->policy);
    uint32_t count = 0;
    for (size_t i = 0; approvers != NULL && i < trust_count(approvers); i++) {
        const struct trust_key *key = trust_at(approvers, i);
        count += policy_may_approve(keys->policy, channel, key, realtime_ns);
    }
    return count;
}

static void judge_approvers(const struct keys *keys, struct health *health, int64_t realtime_ns)
{
    const struct policy_rules *rules = &keys->config->policy;
    uint32_t required = rules->required_signatures, able = count_approvers(keys, NULL, realtime_ns);
    const char *where = "every channel";
    for (size_t i = 0; i < rules->channel_count && able >= required; i++) {
        const struct policy_channel *channel = &rules->channels[i];
        where = channel->name;
        required = channel->has_required ? channel->required_signatures : rules->required_signatures;
        able = count_approvers(keys, channel, realtime_ns);
    }
    if (able < required)
        health_set(health, HEALTH_DEGRADED, "approvers_too_few", realtime_ns,
                   "%s: required_signatures is %u, and only %u keys may approve now, so all transfers there are held: "
                   "put public keys of approvers into %s",
                   where, required, able, keys->config->approval_keys);
    else
        health_clear(health, "approvers_too_few");
}

void keys_health(const struct keys *keys, struct health *health, int64_t realtime_ns)
{
    struct findings findings = {0};
    struct found announced = {0};
    const struct config *config = keys->config;
    look_at(keys, config->trusted_keys, policy_senders(keys->policy), true, realtime_ns, &findings);
    look_at(keys, config->approval_keys, policy_approvers(keys->policy), false, realtime_ns, &findings);
    find_removed(keys, &findings.restart);
    for (size_t i = 0; i < trust_count(keys->announced); i++)
        if (is_news(keys, trust_at(keys->announced, i)))
            note(&announced, keys->announced_directory, trust_at(keys->announced, i), "");

    TELL(health, "key_expired", &findings.expired,
         "what is first seen after the end of a key is held, or not approved by it: %s; put the successor's key there, "
         "or a later date into its .expires file",
         findings.expired.names);
    TELL(health, "key_expires_soon", &findings.soon,
         "the end of a key is near: %s; put the successor's key there, or a later date into its .expires file",
         findings.soon.names);
    TELL(health, "key_revoked", &findings.revoked,
         "what a revoked key signs is held, or not approved by it: %s; once nothing signed by it is to come, remove it "
         "there (a sender's: and restart the receiver)",
         findings.revoked.names);
    TELL(health, "sender_key_needs_restart", &findings.restart,
         "the senders' keys are not those of the receiver's start any more: %s; restart the receiver",
         findings.restart.names);
    TELL(health, "key_announced", &announced,
         "a sender announces its next key: %s; compare \"diodecast key show\" of it with what the low side shows, then "
         "put it into %s and restart the receiver, or delete it",
         announced.names, config->trusted_keys);
    if (keys->problem[0] != '\0')
        health_set(health, HEALTH_DEGRADED, "key_file_wrong", realtime_ns, "%s", keys->problem);
    else
        health_clear(health, "key_file_wrong");
    judge_approvers(keys, health, realtime_ns);
}
