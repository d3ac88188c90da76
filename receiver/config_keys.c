// SPDX-License-Identifier: Apache-2.0
#include "receiver/config_private.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"
#include "proto/relpath.h"

static void replace_string(char **target, const char *value)
{
    free(*target);
    *target = strdup(value);
    assert(*target != NULL);
}

/* Reads the directory into *trust and remembers it in *path. */
static void read_keys(struct conf_context *context, const struct conf_key *key, const char *value,
                      struct trust_reading *reading, struct trust **trust, char **path)
{
    if (!config_check_directory(context, key->key, value, R_OK | X_OK))
        return;
    if (trust_read(value, reading, trust) != STATUS_OK || reading->problems > 0) {
        conf_problem(context, "%s: %s holds no usable set of keys (see above)", key->key, value);
        trust_destroy(*trust);
        *trust = NULL;
        return;
    }
    replace_string(path, value);
}

void config_keys_set_trusted(struct conf_context *context, const struct conf_key *key, const char *name,
                             const char *value, void *target)
{
    struct loading *loading = target;
    struct trust_reading reading = {.role = "trusted key", .by_sender_id = true};
    (void)name;
    loading->trusted_keys_line = context->line;
    read_keys(context, key, value, &reading, &loading->senders, &loading->config.trusted_keys);
}

void config_keys_set_approval(struct conf_context *context, const struct conf_key *key, const char *name,
                              const char *value, void *target)
{
    struct loading *loading = target;
    struct trust_reading reading = {.role = "approval key", .may_be_empty = true};
    (void)name;
    loading->approval_keys_line = context->line;
    read_keys(context, key, value, &reading, &loading->approvers, &loading->config.approval_keys);
}

/* The channel's rules and its place in them; NULL, told, when its name is none or there are too many. */
static struct policy_channel *find_channel(struct conf_context *context, struct loading *loading, const char *name,
                                           size_t *index)
{
    const char *wrong = relpath_check_channel(name, strlen(name));
    if (wrong != NULL) {
        conf_problem(context, "[channel %s]: the channel's name %s", name, wrong);
        return NULL;
    }
    struct policy_channel *channel = policy_rules_channel(&loading->config.policy, name);
    if (channel == NULL)
        conf_problem(context, "[channel %s]: there are more than %d channels", name, POLICY_CHANNELS);
    else
        *index = (size_t)(channel - loading->config.policy.channels);
    return channel;
}

void config_keys_set_required(struct conf_context *context, const struct conf_key *key, const char *name,
                              const char *value, void *target)
{
    struct loading *loading = target;
    struct conf_key plain = {.key = key->key, .offset = 0};
    uint32_t required = 0;
    int before = context->problems;
    conf_set_uint(context, &plain, name, value, &required);
    if (context->problems != before)
        return;
    if (required > LIMIT_APPROVALS) {
        conf_problem(context, "%s: %s is more than the %d that a transfer can have", key->key, value, LIMIT_APPROVALS);
        return;
    }
    if (name == NULL) {
        loading->config.policy.required_signatures = required;
        loading->required_line = context->line;
        return;
    }
    size_t index;
    struct policy_channel *channel = find_channel(context, loading, name, &index);
    if (channel == NULL)
        return;
    channel->has_required = true;
    channel->required_signatures = required;
    loading->channel_lines[index].required = context->line;
}

static void set_names(struct conf_context *context, const char *key, const char *value, struct policy_names *names)
{
    static const char blanks[] = " \t";
    names->given = true;
    names->list = calloc(POLICY_NAMES, sizeof *names->list);
    assert(names->list != NULL);
    for (value += strspn(value, blanks); *value != '\0'; value += strspn(value, blanks)) {
        size_t length = strcspn(value, blanks);
        if (names->count == POLICY_NAMES) {
            conf_problem(context, "%s: more than %d names", key, POLICY_NAMES);
            return;
        }
        names->list[names->count] = strndup(value, length);
        assert(names->list[names->count] != NULL);
        names->count++;
        value += length;
    }
    if (names->count == 0)
        conf_problem(context, "%s: no key is named; without this line all are allowed", key);
}

void config_keys_set_senders(struct conf_context *context, const struct conf_key *key, const char *name,
                             const char *value, void *target)
{
    struct loading *loading = target;
    size_t index;
    struct policy_channel *channel = find_channel(context, loading, name, &index);
    if (channel == NULL)
        return;
    loading->channel_lines[index].senders = context->line;
    set_names(context, key->key, value, &channel->senders);
}

void config_keys_set_approvers(struct conf_context *context, const struct conf_key *key, const char *name,
                               const char *value, void *target)
{
    struct loading *loading = target;
    size_t index;
    struct policy_channel *channel = find_channel(context, loading, name, &index);
    if (channel == NULL)
        return;
    loading->channel_lines[index].approvers = context->line;
    set_names(context, key->key, value, &channel->approvers);
}

/* The names that are keys of the set; the others are told. */
static size_t check_names(struct conf_context *context, const char *key, const char *directory,
                          const struct policy_names *names, const struct trust *trust)
{
    size_t known = 0;
    if (!names->given)
        return trust_count(trust);
    for (size_t i = 0; i < names->count; i++) {
        if (trust_find_name(trust, names->list[i]) != NULL)
            known++;
        else
            conf_problem(context, "%s: there is no %s.pub in %s", key, names->list[i], directory);
    }
    return known;
}

/* Keys that do not count now are no mistake, but may be one. */
static void remark(const struct conf_context *context, const char *key, const struct trust *trust, int64_t now_ns)
{
    char when[CLOCK_RFC3339_SIZE];
    for (size_t i = 0; trust != NULL && i < trust_count(trust); i++) {
        const struct trust_key *one = trust_at(trust, i);
        if (one->revoked)
            log_warning("%s:%d: %s: %s.pub is revoked%s%s", context->file, context->line, key, one->name,
                        one->why_revoked[0] == '\0' ? "" : ": ", one->why_revoked);
        if (now_ns < one->expires_ns)
            continue;
        clock_rfc3339(one->expires_ns, when);
        log_warning("%s:%d: %s: %s.pub expired at %s", context->file, context->line, key, one->name, when);
    }
}

/* An approval says something only when its key is not where the sender's is. */
static void check_roles(struct conf_context *context, struct loading *loading)
{
    context->line = loading->approval_keys_line;
    for (size_t i = 0; loading->senders != NULL && i < trust_count(loading->approvers); i++) {
        const struct trust_key *key = trust_at(loading->approvers, i);
        if (trust_has_bytes(loading->senders, key->public_key.key))
            conf_problem(context,
                         "approval_keys: %s.pub is a sender's key too, see %s; approvals must come from keys that are "
                         "on no sender's host",
                         key->name, loading->config.trusted_keys);
    }
}

static void check_required(struct conf_context *context, int line, uint32_t required, size_t approvers)
{
    context->line = line;
    if (required > approvers)
        conf_problem(context, "required_signatures: %u are required, and there are only %zu keys that may approve",
                     required, approvers);
}

static void check_channel(struct conf_context *context, struct loading *loading, size_t index)
{
    const struct policy_rules *rules = &loading->config.policy;
    const struct policy_channel *channel = &rules->channels[index];
    size_t approvers = loading->approvers == NULL ? 0 : trust_count(loading->approvers);
    if (loading->senders != NULL) {
        context->line = loading->channel_lines[index].senders;
        (void)check_names(context, "senders", loading->config.trusted_keys, &channel->senders, loading->senders);
    }
    context->line = loading->channel_lines[index].approvers;
    if (channel->approvers.given && loading->approvers != NULL)
        approvers =
            check_names(context, "approvers", loading->config.approval_keys, &channel->approvers, loading->approvers);
    else if (channel->approvers.given && loading->approval_keys_line == 0)
        conf_problem(context, "approvers: approval_keys in section [receiver] is missing");
    if (loading->approvers == NULL && loading->approval_keys_line != 0)
        return; /* told already */
    if (channel->has_required)
        check_required(context, loading->channel_lines[index].required, channel->required_signatures, approvers);
    else if (channel->approvers.given)
        check_required(context, loading->channel_lines[index].approvers, rules->required_signatures, approvers);
}

void config_keys_check(struct conf_context *context, struct loading *loading)
{
    const struct policy_rules *rules = &loading->config.policy;
    bool unusable = loading->approvers == NULL && loading->approval_keys_line != 0;
    int64_t now_ns = clock_realtime_ns();
    context->line = loading->trusted_keys_line;
    remark(context, "trusted_keys", loading->senders, now_ns);
    context->line = loading->approval_keys_line;
    remark(context, "approval_keys", loading->approvers, now_ns);
    if (loading->approvers != NULL)
        check_roles(context, loading);
    if (!unusable)
        check_required(context, loading->required_line, rules->required_signatures,
                       loading->approvers == NULL ? 0 : trust_count(loading->approvers));
    for (size_t i = 0; i < rules->channel_count; i++)
        check_channel(context, loading, i);
}
