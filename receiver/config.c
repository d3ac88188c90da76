// SPDX-License-Identifier: Apache-2.0
#include "receiver/config.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/conf.h"
#include "common/linkkey.h"
#include "common/units.h"
#include "proto/limits.h"
#include "receiver/config_private.h"
#include "receiver/held.h"

enum { MESSAGE_SIZE = 256, RECHECK_MIN = 1 << 20, STAGING_MIN = 1 << 20 };

static void replace_string(char **target, const char *value)
{
    free(*target);
    *target = strdup(value);
    assert(*target != NULL);
}

bool config_check_directory(struct conf_context *context, const char *key, const char *value, int mode)
{
    struct stat meta;
    if (value[0] != '/')
        conf_problem(context, "%s: %s is not an absolute path", key, value);
    else if (stat(value, &meta) != 0 && errno == ENOENT)
        conf_problem(context, "%s: %s does not exist; run \"mkdir -p %s\" and give it to the receiver's user", key,
                     value, value);
    else if (stat(value, &meta) != 0)
        conf_problem(context, "%s: %s can't be looked at: %s", key, value, strerror(errno));
    else if (!S_ISDIR(meta.st_mode))
        conf_problem(context, "%s: %s is not a directory", key, value);
    else if (faccessat(AT_FDCWD, value, mode, AT_EACCESS) != 0)
        conf_problem(context, "%s: %s can't be used by uid %u: %s; run \"chown %u %s\" or correct its mode", key, value,
                     (unsigned)geteuid(), strerror(errno), (unsigned)geteuid(), value);
    else
        return true;
    return false;
}

static void set_directory(struct conf_context *context, const struct conf_key *key, const char *name, const char *value,
                          void *target)
{
    (void)name;
    if (config_check_directory(context, key->key, value, R_OK | W_OK | X_OK))
        replace_string((char **)((char *)target + key->offset), value);
}

static void set_status(struct conf_context *context, const struct conf_key *key, const char *name, const char *value,
                       void *target)
{
    char parent[PATH_MAX];
    (void)name;
    snprintf(parent, sizeof parent, "%s", value);
    if (value[0] != '/' || strlen(value) >= sizeof parent || value[strlen(value) - 1] == '/')
        conf_problem(context, "%s: %s is not the absolute path of a file", key->key, value);
    else if (config_check_directory(context, key->key, dirname(parent), W_OK | X_OK))
        replace_string((char **)((char *)target + key->offset), value);
}

static void set_memory(struct conf_context *context, const struct conf_key *key, const char *name, const char *value,
                       void *target)
{
    struct loading *loading = target;
    loading->memory_line = context->line;
    conf_set_size(context, key, name, value, target);
}

static void set_listen(struct conf_context *context, const struct conf_key *key, const char *name, const char *value,
                       void *target)
{
    struct loading *loading = target;
    (void)name;
    if (socket_address_parse(value, &loading->config.listen))
        loading->listen_line = context->line;
    else
        conf_problem(context,
                     "%s: %s is not a numeric address with a port, such as 192.0.2.2:4700, [2001:db8::2]:4700 or "
                     "[fe80::2%%eth0]:4700 (with an interface that exists)",
                     key->key, value);
}

static void set_lanes(struct conf_context *context, const struct conf_key *key, const char *name, const char *value,
                      void *target)
{
    struct loading *loading = target;
    int before = context->problems;
    loading->lanes_line = context->line;
    conf_set_uint(context, key, name, value, target);
    if (context->problems == before && (loading->config.lanes < 1 || loading->config.lanes > LIMIT_LANES)) {
        conf_problem(context, "%s: %s is not between 1 and %d", key->key, value, LIMIT_LANES);
        loading->config.lanes = 1;
    }
}

static void set_recheck(struct conf_context *context, const struct conf_key *key, const char *name, const char *value,
                        void *target)
{
    struct loading *loading = target;
    char size[UNITS_TEXT_SIZE];
    uint64_t bytes = 0;
    size_t length = strlen(value);
    (void)name;
    if (length > 2 && length < sizeof size && strcmp(value + length - 2, "/s") == 0) {
        memcpy(size, value, length - 2);
        size[length - 2] = '\0';
        if (units_parse_size(size, &bytes) && bytes >= RECHECK_MIN) {
            loading->config.recheck_bytes_per_s = bytes;
            return;
        }
    }
    conf_problem(context, "%s: %s is not a rate of at least 1MiB/s, such as 200MiB/s", key->key, value);
}

static void set_tickets(struct conf_context *context, const struct conf_key *key, const char *name, const char *value,
                        void *target)
{
    static const char *const words[] = {
        [CONFIG_TICKETS_OFF] = "off", [CONFIG_TICKETS_WHOLE] = "whole", [CONFIG_TICKETS_CHUNKS] = "chunks"};
    struct loading *loading = target;
    (void)name;
    for (unsigned i = 0; i < sizeof words / sizeof *words; i++)
        if (strcmp(value, words[i]) == 0) {
            loading->config.tickets = (enum config_tickets)i;
            return;
        }
    conf_problem(context, "%s: %s is none of off, whole, chunks", key->key, value);
}

static void set_staging(struct conf_context *context, const struct conf_key *key, const char *name, const char *value,
                        void *target)
{
    struct loading *loading = target;
    int before = context->problems;
    conf_set_size(context, key, name, value, target);
    if (context->problems == before && loading->config.staging < STAGING_MIN)
        conf_problem(context, "%s: %s is less than 1MiB", key->key, value);
}

static void set_max_open(struct conf_context *context, const struct conf_key *key, const char *name, const char *value,
                         void *target)
{
    struct loading *loading = target;
    int before = context->problems;
    conf_set_uint(context, key, name, value, target);
    if (context->problems == before && (loading->config.max_open < 1 || loading->config.max_open > CONFIG_MAX_OPEN))
        conf_problem(context, "%s: %s is not between 1 and %d", key->key, value, CONFIG_MAX_OPEN);
}

static void set_link_key(struct conf_context *context, const struct conf_key *key, const char *name, const char *value,
                         void *target)
{
    char reason[MESSAGE_SIZE];
    uint8_t secret[LINKKEY_SIZE];
    (void)name;
    if (linkkey_load(value, secret, reason) != STATUS_OK) {
        conf_problem(context, "%s: %s", key->key, reason);
        return;
    }
    sodium_memzero(secret, sizeof secret);
    replace_string((char **)((char *)target + key->offset), value);
}

static void set_link_key_next(struct conf_context *context, const struct conf_key *key, const char *name,
                              const char *value, void *target)
{
    struct loading *loading = target;
    loading->key_next_line = context->line;
    set_link_key(context, key, name, value, target);
}

#define MEMBER(member) offsetof(struct loading, config.member)
static const struct conf_key keys[] = {
    {"receiver", "intake", true, set_directory, MEMBER(intake)},
    {"receiver", "state", true, set_directory, MEMBER(state)},
    {"receiver", "status", true, set_status, MEMBER(status)},
    {"receiver", "trusted_keys", true, config_keys_set_trusted, 0},
    {"receiver", "approval_keys", false, config_keys_set_approval, 0},
    {"receiver", "required_signatures", false, config_keys_set_required, 0},
    {"receiver", "memory", false, set_memory, MEMBER(memory)},
    {"receiver", "staging", false, set_staging, MEMBER(staging)},
    {"receiver", "reserve", false, conf_set_size, MEMBER(reserve)},
    {"receiver", "recheck", false, set_recheck, MEMBER(recheck_bytes_per_s)},
    {"receiver", "max_open", false, set_max_open, MEMBER(max_open)},
    {"receiver", "max_size", false, config_limits_set_size, MEMBER(bounds.size)},
    {"receiver", "max_artifacts", false, config_limits_set_artifacts, MEMBER(bounds.artifacts)},
    {"receiver", "max_path", false, config_limits_set_path, MEMBER(bounds.path)},
    {"receiver", "max_depth", false, config_limits_set_depth, MEMBER(bounds.depth)},
    {"receiver", "max_manifest", false, config_limits_set_manifest, MEMBER(bounds.manifest)},
    {"receiver", "quarantine", false, conf_set_size, MEMBER(quarantine)},
    {"receiver", "quarantine_age", false, config_limits_set_age, MEMBER(quarantine_age_ns)},
    {"receiver", "tickets", false, set_tickets, MEMBER(tickets)},
    {"receiver", "sandbox", false, conf_set_bool, MEMBER(sandbox)},
    {"receiver", "log_names", false, conf_set_log_names, MEMBER(hide_names)},
    {"receiver", "cpus", false, conf_set_cpus, MEMBER(cpus)},
    {"link", "listen", true, set_listen, MEMBER(listen)},
    {"link", "lanes", false, set_lanes, MEMBER(lanes)},
    {"link", "key", false, set_link_key, MEMBER(link_key)},
    {"link", "key_next", false, set_link_key_next, MEMBER(link_key_next)},
    {"channel *", "required_signatures", false, config_keys_set_required, 0},
    {"channel *", "senders", false, config_keys_set_senders, 0},
    {"channel *", "approvers", false, config_keys_set_approvers, 0},
};

/* Each lane has a port of its own, above the first one. */
static void check_ports(struct conf_context *context, struct loading *loading)
{
    struct socket_address last;
    if (loading->listen_line == 0 || socket_address_lane(&loading->config.listen, loading->config.lanes - 1, &last))
        return;
    context->line = loading->listen_line;
    conf_problem(context, "listen: with %u lanes the last port would be above 65535", loading->config.lanes);
}

/* Two link keys are the old one and the new one, for as long as some sender uses the old one. */
static void check_link_keys(struct conf_context *context, const struct config *config, int line)
{
    char reason[MESSAGE_SIZE];
    uint8_t key[LINKKEY_SIZE], next[LINKKEY_SIZE];
    if (config->link_key_next == NULL)
        return;
    context->line = line;
    if (config->link_key == NULL)
        conf_problem(context, "key_next: needs key; with one link key only, that is it");
    else if (linkkey_load(config->link_key, key, reason) == STATUS_OK &&
             linkkey_load(config->link_key_next, next, reason) == STATUS_OK && memcmp(key, next, sizeof key) == 0)
        conf_problem(context, "key_next: %s holds the same link key as %s", config->link_key_next, config->link_key);
    sodium_memzero(key, sizeof key);
    sodium_memzero(next, sizeof next);
}

static void check_memory(struct conf_context *context, struct loading *loading)
{
    char least_text[UNITS_TEXT_SIZE];
    uint64_t present = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
    uint64_t lanes = loading->config.lanes;
    size_t senders = loading->senders == NULL ? 0 : trust_count(loading->senders);
    uint64_t least = lanes * (CONFIG_MEMORY_PER_LANE + senders * CONFIG_MEMORY_PER_SHARE);
    if (least < CONFIG_MEMORY_MIN)
        least = CONFIG_MEMORY_MIN;
    context->line = loading->memory_line;
    if (loading->config.memory > present)
        conf_problem(context, "memory: this machine has only %s", units_format_size(present, least_text));
    if (loading->config.memory >= least)
        return;
    conf_problem(context, "memory: for %zu trusted keys on %u lanes at least %s is needed", senders,
                 loading->config.lanes, units_format_size(least, least_text));
}

enum status config_load(const char *file, struct config *config)
{
    struct loading loading = {.config = {.memory = UINT64_C(64) << 20,
                                         .reserve = UINT64_C(256) << 20,
                                         .quarantine = HELD_BYTES,
                                         .quarantine_age_ns = HELD_AGE_NS,
                                         .bounds = bounds_none,
                                         .recheck_bytes_per_s = UINT64_C(200) << 20,
                                         .max_open = CONFIG_MAX_OPEN,
                                         .tickets = CONFIG_TICKETS_CHUNKS,
                                         .sandbox = true,
                                         .lanes = 1}};
    struct conf_context context = {.file = file};
    enum status status = conf_load(file, keys, sizeof keys / sizeof *keys, &loading);
    if (status == STATUS_OK || status == STATUS_INVALID) {
        check_ports(&context, &loading);
        check_memory(&context, &loading);
        check_link_keys(&context, &loading.config, loading.key_next_line);
        config_keys_check(&context, &loading);
        if (context.problems > 0)
            status = STATUS_INVALID;
    }
    trust_destroy(loading.senders);
    trust_destroy(loading.approvers);
    if (status != STATUS_OK) {
        config_deinit(&loading.config);
        return status;
    }
    *config = loading.config;
    return STATUS_OK;
}

void config_deinit(struct config *config)
{
    free(config->intake);
    free(config->state);
    free(config->status);
    free(config->trusted_keys);
    free(config->approval_keys);
    policy_rules_deinit(&config->policy);
    free(config->link_key);
    free(config->link_key_next);
    memset(config, 0, sizeof *config);
}
