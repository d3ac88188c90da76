// SPDX-License-Identifier: Apache-2.0
#include "common/units.h"
#include "receiver/config_private.h"

/* Setters of the keys that bound one transfer, and what is held back. */

/* A whole number of pieces, bytes of a path and the like, between 1 and what the wire format has. */
static void set_number(struct conf_context *context, const struct conf_key *key, const char *value, uint32_t most,
                       struct loading *loading)
{
    uint32_t *number = (uint32_t *)((char *)loading + key->offset);
    int before = context->problems;
    conf_set_uint(context, key, NULL, value, loading);
    if (context->problems == before && (*number < 1 || *number > most)) {
        conf_problem(context, "%s: %s is not between 1 and %u", key->key, value, most);
        *number = most;
    }
}

static void set_size(struct conf_context *context, const struct conf_key *key, const char *value, uint64_t least,
                     uint64_t most, struct loading *loading)
{
    uint64_t *size = (uint64_t *)((char *)loading + key->offset);
    char least_text[UNITS_TEXT_SIZE], most_text[UNITS_TEXT_SIZE];
    int before = context->problems;
    conf_set_size(context, key, NULL, value, loading);
    if (context->problems == before && (*size < least || *size > most)) {
        conf_problem(context, "%s: %s is not between %s and %s", key->key, value, units_format_size(least, least_text),
                     units_format_size(most, most_text));
        *size = most;
    }
}

void config_limits_set_size(struct conf_context *context, const struct conf_key *key, const char *name,
                            const char *value, void *target)
{
    (void)name;
    set_size(context, key, value, 1, LIMIT_TRANSFER_SIZE, target);
}

void config_limits_set_manifest(struct conf_context *context, const struct conf_key *key, const char *name,
                                const char *value, void *target)
{
    (void)name;
    set_size(context, key, value, 4 << 10, LIMIT_MANIFEST_SIZE, target);
}

void config_limits_set_artifacts(struct conf_context *context, const struct conf_key *key, const char *name,
                                 const char *value, void *target)
{
    (void)name;
    set_number(context, key, value, LIMIT_ARTIFACTS, target);
}

void config_limits_set_path(struct conf_context *context, const struct conf_key *key, const char *name,
                            const char *value, void *target)
{
    (void)name;
    set_number(context, key, value, LIMIT_PATH_LENGTH, target);
}

void config_limits_set_depth(struct conf_context *context, const struct conf_key *key, const char *name,
                             const char *value, void *target)
{
    (void)name;
    set_number(context, key, value, LIMIT_PATH_DEPTH, target);
}

void config_limits_set_age(struct conf_context *context, const struct conf_key *key, const char *name,
                           const char *value, void *target)
{
    struct loading *loading = target;
    int before = context->problems;
    conf_set_duration(context, key, name, value, target);
    if (context->problems == before && loading->config.quarantine_age_ns < CONFIG_QUARANTINE_AGE_MIN)
        conf_problem(context, "%s: %s is less than a minute", key->key, value);
}
