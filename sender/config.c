// SPDX-License-Identifier: Apache-2.0
#include "sender/config.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
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
#include "common/rtnetlink.h"
#include "common/signature.h"
#include "common/units.h"
#include "proto/datagram.h"
#include "proto/relpath.h"
#include "sender/pack.h"
#include "sender/passed.h"

enum {
    MTU_MIN = 576,
    MTU_MAX = 9216,
    MTU_AUTO_MAX = 9000, /* a loopback's 65536 is no link's */
    MESSAGE_SIZE = 256,
    IDLE_COPIES_MAX = 100,
};

#define RATE_MIN  UINT64_C(64000)             /* bits per second; below, a single block takes longer than a heartbeat */
#define RATE_MAX  UINT64_C(1000000000000)     /* 1 Tbit/s */
#define BURST_MAX (UINT64_C(60) * 1000000000) /* ns */

static const struct config_channel default_channel = {
    .priority = CONFIG_PRIORITY_NORMAL, .complete = CONFIG_COMPLETE_SETTLE, .symlinks = CONFIG_SYMLINKS_REFUSE};

/* What is being filled, and the lines that problems between several keys are reported at. */
struct loading {
    struct config config;
    int rate_line, mtu_line, peer_line, source_line, repair_line, burst_line, lanes_line;
    bool has_peer;
};

static void replace_string(char **target, const char *value)
{
    free(*target);
    *target = strdup(value);
    assert(*target != NULL);
}

/* A directory that must be there, and writable: the message says how to make it so. */
static void set_directory(struct conf_context *context, const struct conf_key *key, const char *name, const char *value,
                          void *target)
{
    struct stat meta;
    (void)name;
    if (value[0] != '/')
        conf_problem(context, "%s: %s is not an absolute path", key->key, value);
    else if (stat(value, &meta) != 0 && errno == ENOENT)
        conf_problem(context, "%s: %s does not exist; run \"mkdir -p %s\" and give it to the sender's user", key->key,
                     value, value);
    else if (stat(value, &meta) != 0)
        conf_problem(context, "%s: %s can't be looked at: %s", key->key, value, strerror(errno));
    else if (!S_ISDIR(meta.st_mode))
        conf_problem(context, "%s: %s is not a directory", key->key, value);
    else if (faccessat(AT_FDCWD, value, R_OK | W_OK | X_OK, AT_EACCESS) != 0)
        conf_problem(context, "%s: %s can't be written by uid %u: %s; run \"chown %u %s\" or correct its mode",
                     key->key, value, (unsigned)geteuid(), strerror(errno), (unsigned)geteuid(), value);
    else
        replace_string((char **)((char *)target + key->offset), value);
}

static void set_status(struct conf_context *context, const struct conf_key *key, const char *name, const char *value,
                       void *target)
{
    char parent[PATH_MAX];
    struct stat meta;
    (void)name;
    snprintf(parent, sizeof parent, "%s", value);
    const char *directory = dirname(parent);
    if (value[0] != '/' || strlen(value) >= sizeof parent || value[strlen(value) - 1] == '/')
        conf_problem(context, "%s: %s is not the absolute path of a file", key->key, value);
    else if (stat(directory, &meta) != 0 || !S_ISDIR(meta.st_mode))
        conf_problem(context,
                     "%s: its directory %s does not exist; run \"mkdir -p %s\" and give it to the sender's user",
                     key->key, directory, directory);
    else if (faccessat(AT_FDCWD, directory, W_OK | X_OK, AT_EACCESS) != 0)
        conf_problem(context, "%s: its directory %s can't be written by uid %u: %s", key->key, directory,
                     (unsigned)geteuid(), strerror(errno));
    else
        replace_string((char **)((char *)target + key->offset), value);
}

static void set_signing_key(struct conf_context *context, const struct conf_key *key, const char *name,
                            const char *value, void *target)
{
    char reason[MESSAGE_SIZE];
    struct signature_key *loaded = NULL;
    (void)name;
    if (signature_key_load(value, &loaded, reason) != STATUS_OK) {
        conf_problem(context, "%s: %s", key->key, reason);
        return;
    }
    signature_key_destroy(loaded);
    replace_string((char **)((char *)target + key->offset), value);
}

/* The key that will follow the signing key: only its public half, for the new secret may lie elsewhere until then. */
static void set_next_key(struct conf_context *context, const struct conf_key *key, const char *name, const char *value,
                         void *target)
{
    char reason[MESSAGE_SIZE];
    struct loading *loading = target;
    (void)name;
    loading->config.has_next_key = signature_public_load(value, &loading->config.next_key, reason) == STATUS_OK;
    if (!loading->config.has_next_key)
        conf_problem(context, "%s: %s", key->key, reason);
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

static void set_peer(struct conf_context *context, const struct conf_key *key, const char *name, const char *value,
                     void *target)
{
    struct loading *loading = target;
    (void)name;
    loading->peer_line = context->line;
    loading->has_peer = socket_address_parse(value, &loading->config.peer);
    if (!loading->has_peer)
        conf_problem(context,
                     "%s: %s is not a numeric address with a port, such as 192.0.2.2:4700, [2001:db8::2]:4700 or "
                     "[fe80::2%%eth0]:4700 (with an interface that exists)",
                     key->key, value);
}

static void set_mtu(struct conf_context *context, const struct conf_key *key, const char *name, const char *value,
                    void *target)
{
    struct loading *loading = target;
    loading->mtu_line = context->line;
    if (strcmp(value, "auto") == 0) {
        loading->config.mtu = 0;
        return;
    }
    int before = context->problems;
    conf_set_uint(context, key, name, value, target);
    if (context->problems == before && (loading->config.mtu < MTU_MIN || loading->config.mtu > MTU_MAX)) {
        conf_problem(context, "%s: %s is neither \"auto\" nor %d to %d bytes", key->key, value, MTU_MIN, MTU_MAX);
        loading->config.mtu = 0;
    }
}

/* A whole number within the bounds that belong to the key. */
static void set_count(struct conf_context *context, const struct conf_key *key, const char *name, const char *value,
                      void *target)
{
    struct loading *loading = target;
    uint32_t *count = (uint32_t *)(void *)((char *)target + key->offset);
    uint32_t before = *count, low, high;
    int problems = context->problems;
    if (count == &loading->config.lanes) {
        low = 1;
        high = LIMIT_LANES;
        loading->lanes_line = context->line;
    } else if (count == &loading->config.source_symbols) {
        low = 1;
        high = LIMIT_SOURCE_SYMBOLS;
        loading->source_line = context->line;
    } else if (count == &loading->config.idle_copies) {
        low = 1;
        high = IDLE_COPIES_MAX;
    } else if (count == &loading->config.idle_share) {
        low = 1;
        high = 100;
    } else {
        low = LIMIT_REPAIR_SYMBOLS_MIN;
        high = LIMIT_REPAIR_SYMBOLS;
        loading->repair_line = context->line;
    }
    conf_set_uint(context, key, name, value, target);
    if (context->problems == problems && (*count < low || *count > high)) {
        conf_problem(context, "%s: %s is not between %u and %u", key->key, value, low, high);
        *count = before;
    }
}

static void set_rate(struct conf_context *context, const struct conf_key *key, const char *name, const char *value,
                     void *target)
{
    struct loading *loading = target;
    uint64_t before = loading->config.rate_bits_per_s;
    int problems = context->problems;
    loading->rate_line = context->line;
    conf_set_rate(context, key, name, value, target);
    uint64_t rate = loading->config.rate_bits_per_s;
    if (context->problems == problems && (rate < RATE_MIN || rate > RATE_MAX)) {
        conf_problem(context, "%s: %s is not between 64kbit/s and 1000Gbit/s", key->key, value);
        loading->config.rate_bits_per_s = before;
    }
}

static void set_burst(struct conf_context *context, const struct conf_key *key, const char *name, const char *value,
                      void *target)
{
    struct loading *loading = target;
    uint64_t before = loading->config.burst_ns;
    int problems = context->problems;
    loading->burst_line = context->line;
    conf_set_duration(context, key, name, value, target);
    if (context->problems == problems && loading->config.burst_ns > BURST_MAX) {
        conf_problem(context, "%s: %s is longer than 60s", key->key, value);
        loading->config.burst_ns = before;
    }
}

static void set_max_size(struct conf_context *context, const struct conf_key *key, const char *name, const char *value,
                         void *target)
{
    struct loading *loading = target;
    int problems = context->problems;
    conf_set_size(context, key, name, value, target);
    uint64_t size = loading->config.max_size;
    if (context->problems == problems && (size == 0 || size > LIMIT_TRANSFER_SIZE)) {
        conf_problem(context, "%s: %s is not between 1 byte and 8TiB", key->key, value);
        loading->config.max_size = LIMIT_TRANSFER_SIZE;
    }
}

/* None at all would be idle re-sending that never does anything. */
static void set_window(struct conf_context *context, const struct conf_key *key, const char *name, const char *value,
                       void *target)
{
    struct loading *loading = target;
    uint64_t before = loading->config.idle_window_ns;
    int problems = context->problems;
    conf_set_duration(context, key, name, value, target);
    if (context->problems > problems || loading->config.idle_window_ns > 0)
        return;
    conf_problem(context, "%s: %s is no time at all; set idle_resend = off to send nothing again", key->key, value);
    loading->config.idle_window_ns = before;
}

/* A group that exists and that the sender may give its directory of requests to. */
static void set_group(struct conf_context *context, const struct conf_key *key, const char *name, const char *value,
                      void *target)
{
    struct loading *loading = target;
    const struct group *group = value[0] != '\0' ? getgrnam(value) : NULL;
    (void)name;
    if (value[0] == '\0')
        conf_problem(context, "%s: is empty; leave the key out where only the sender's own user may ask", key->key);
    else if (group == NULL)
        conf_problem(context, "%s: there is no group %s; run \"groupadd %s\"", key->key, value, value);
    else if (geteuid() != 0 && getegid() != group->gr_gid && group_member(group->gr_gid) == 0)
        conf_problem(context,
                     "%s: uid %u is not in the group %s, so that it can't let it in; run \"usermod -a -G %s USER\" for "
                     "the sender's user",
                     key->key, (unsigned)geteuid(), value, value);
    else
        replace_string(&loading->config.replay_group, value);
}

/* Index of `value` in `words`, or -1 after reporting. */
static int pick(struct conf_context *context, const struct conf_key *key, const char *value, const char *const words[],
                int count)
{
    char list[MESSAGE_SIZE] = "";
    size_t used = 0;
    for (int i = 0; i < count; i++) {
        if (strcmp(value, words[i]) == 0)
            return i;
        used += (size_t)snprintf(list + used, sizeof list - used, "%s%s", i > 0 ? ", " : "", words[i]);
    }
    conf_problem(context, "%s: \"%s\" is none of: %s", key->key, value, list);
    return -1;
}

static void set_carrier(struct conf_context *context, const struct conf_key *key, const char *name, const char *value,
                        void *target)
{
    static const char *const words[] = {"require", "ignore"};
    struct loading *loading = target;
    (void)name;
    int picked = pick(context, key, value, words, 2);
    if (picked >= 0)
        loading->config.carrier_required = picked == 0;
}

/* The section of channel `name`, made on first use; NULL after reporting a name that can't be one. */
static struct config_channel *channel_section(struct conf_context *context, struct config *config, const char *name)
{
    const char *wrong = relpath_check_channel(name, strlen(name));
    if (wrong != NULL) {
        conf_problem(context, "channel name \"%s\" %s", name, wrong);
        return NULL;
    }
    for (size_t i = 0; i < config->channel_count; i++)
        if (strcmp(config->channels[i].name, name) == 0)
            return &config->channels[i];
    config->channels = reallocarray(config->channels, config->channel_count + 1, sizeof *config->channels);
    assert(config->channels != NULL);
    struct config_channel *channel = &config->channels[config->channel_count++];
    *channel = default_channel;
    memcpy(channel->name, name, strlen(name) + 1);
    return channel;
}

static void set_channel(struct conf_context *context, const struct conf_key *key, const char *name, const char *value,
                        void *target)
{
    static const char *const priorities[] = {"high", "normal", "low"};
    static const char *const completes[] = {"settle", "rename", "marker"};
    static const char *const symlinks[] = {"refuse", "inside"};
    struct loading *loading = target;
    struct config_channel *channel = channel_section(context, &loading->config, name);
    if (channel == NULL)
        return;
    int picked;
    if (strcmp(key->key, "priority") == 0) {
        if ((picked = pick(context, key, value, priorities, CONFIG_PRIORITY_COUNT)) >= 0)
            channel->priority = (enum config_priority)picked;
    } else if (strcmp(key->key, "complete") == 0) {
        if ((picked = pick(context, key, value, completes, 3)) >= 0)
            channel->complete = (enum config_complete)picked;
    } else if ((picked = pick(context, key, value, symlinks, 2)) >= 0) {
        channel->symlinks = (enum config_symlinks)picked;
    }
}

/* How long, or how much, of a channel's own is kept: the ready-made setters work on the channel's record. */
static void set_channel_retention(struct conf_context *context, const struct conf_key *key, const char *name,
                                  const char *value, void *target)
{
    struct loading *loading = target;
    struct config_channel *channel = channel_section(context, &loading->config, name);
    struct conf_key plain = *key;
    int problems = context->problems;
    if (channel == NULL)
        return;
    bool is_time = strcmp(key->key, "retain") == 0;
    plain.offset = is_time ? offsetof(struct config_channel, retain_ns) : offsetof(struct config_channel, retain_bytes);
    if (is_time)
        conf_set_duration(context, &plain, name, value, channel);
    else
        conf_set_size(context, &plain, name, value, channel);
    if (context->problems == problems && (is_time ? channel->retain_ns : channel->retain_bytes) == 0)
        conf_problem(context, "%s: 0 is no bound of a channel; leave the key out where those of [replay] are to apply",
                     key->key);
}

static void set_channel_approvals(struct conf_context *context, const struct conf_key *key, const char *name,
                                  const char *value, void *target)
{
    struct loading *loading = target;
    struct config_channel *channel = channel_section(context, &loading->config, name);
    struct conf_key plain = *key;
    if (channel == NULL)
        return;
    plain.offset = offsetof(struct config_channel, approvals);
    conf_set_uint(context, &plain, name, value, channel);
    if (channel->approvals <= LIMIT_APPROVALS)
        return;
    conf_problem(context, "%s: %s is more than the %d that a transfer can carry", key->key, value, LIMIT_APPROVALS);
    channel->approvals = 0;
}

#define AT(member) offsetof(struct loading, config.member)
static const struct conf_key keys[] = {
    {"sender", "spool", true, set_directory, AT(spool)},
    {"sender", "state", true, set_directory, AT(state)},
    {"sender", "status", true, set_status, AT(status)},
    {"sender", "signing_key", true, set_signing_key, AT(signing_key)},
    {"sender", "next_key", false, set_next_key, 0},
    {"sender", "settle", false, conf_set_duration, AT(settle_ns)},
    {"sender", "settle_tree", false, conf_set_duration, AT(settle_tree_ns)},
    {"sender", "max_size", false, set_max_size, AT(max_size)},
    {"sender", "cpus", false, conf_set_cpus, AT(cpus)},
    {"sender", "sandbox", false, conf_set_bool, AT(sandbox)},
    {"sender", "log_names", false, conf_set_log_names, AT(hide_names)},
    {"link", "peer", true, set_peer, AT(peer)},
    {"link", "lanes", false, set_count, AT(lanes)},
    {"link", "rate", false, set_rate, AT(rate_bits_per_s)},
    {"link", "mtu", false, set_mtu, AT(mtu)},
    {"link", "carrier", false, set_carrier, AT(carrier_required)},
    {"link", "key", false, set_link_key, AT(link_key)},
    {"fec", "source_symbols", false, set_count, AT(source_symbols)},
    {"fec", "repair_symbols", false, set_count, AT(repair_symbols)},
    {"fec", "burst", false, set_burst, AT(burst_ns)},
    {"replay", "retain", false, conf_set_duration, AT(retain_ns)},
    {"replay", "retain_bytes", false, conf_set_size, AT(retain_bytes)},
    {"replay", "idle_resend", false, conf_set_bool, AT(idle_resend)},
    {"replay", "retain_free", false, conf_set_size, AT(retain_free)},
    {"replay", "idle_copies", false, set_count, AT(idle_copies)},
    {"replay", "idle_share", false, set_count, AT(idle_share)},
    {"replay", "idle_window", false, set_window, AT(idle_window_ns)},
    {"replay", "group", false, set_group, 0},
    {"channel *", "priority", false, set_channel, 0},
    {"channel *", "complete", false, set_channel, 0},
    {"channel *", "symlinks", false, set_channel, 0},
    {"channel *", "approvals", false, set_channel_approvals, 0},
    {"channel *", "retain", false, set_channel_retention, 0},
    {"channel *", "retain_bytes", false, set_channel_retention, 0},
};

uint64_t config_depth(uint64_t rate_bits_per_s, uint64_t burst_ns, uint64_t wire_bits, uint32_t repair_symbols)
{
    /* ceil(ceil(rate * burst / wire bits) / (r / 2)); 128 bits because 1 Tbit/s times 60 s in ns is more than 64. */
    unsigned __int128 bits = (unsigned __int128)rate_bits_per_s * burst_ns;
    unsigned __int128 unit = (unsigned __int128)wire_bits * 1000000000u;
    uint64_t datagrams = (uint64_t)((bits + unit - 1) / unit);
    uint64_t depth = (2 * datagrams + repair_symbols - 1) / repair_symbols;
    return depth > 0 ? depth : 1;
}

static bool find_route(struct config *config, uint32_t *mtu)
{
    if (config->passed == NULL)
        return socket_route(&config->peer, mtu, config->interface) == STATUS_OK;
    int questions = passed_questions(config->passed);
    return questions >= 0 && rtnetlink_route(questions, &config->peer, mtu, config->interface) == STATUS_OK;
}

/* Symbol size and depth, from the link as it is now. */
static void derive(struct conf_context *context, struct loading *loading)
{
    struct config *config = &loading->config;
    char peer[SOCKET_TEXT_SIZE];
    struct socket_address last;
    uint32_t route_mtu = 0, mtu = config->mtu;

    context->line = loading->lanes_line;
    if (!socket_address_lane(&config->peer, config->lanes - 1, &last))
        conf_problem(context, "lanes: %u lanes from the peer's port on pass port 65535", config->lanes);
    bool routed = find_route(config, &route_mtu);
    socket_address_text(&config->peer, peer);
    if (!routed && mtu == 0) {
        context->line = loading->peer_line;
        conf_problem(context,
                     "peer: there is no route to %s, so mtu = auto has nothing to go by; bring its interface up, run "
                     "\"ip route add\", or set mtu",
                     peer);
        return;
    }
    context->line = loading->mtu_line;
    if (routed && mtu > route_mtu)
        conf_problem(context,
                     "mtu: %u is more than the %u of %s, the way to %s; run \"ip link set %s mtu %u\" or lower it", mtu,
                     route_mtu, config->interface, peer, config->interface, mtu);
    if (mtu == 0)
        mtu = route_mtu < MTU_AUTO_MAX ? route_mtu : MTU_AUTO_MAX;
    bool ipv6 = socket_address_is_ipv6(&config->peer);
    config->symbol_size = datagram_symbol_size_for_mtu(mtu, ipv6);
    if (config->symbol_size == 0) {
        conf_problem(context, "mtu: %u is too small for the datagrams", mtu);
        return;
    }
    if ((size_t)config->source_symbols * config->symbol_size < PACK_CAPACITY_MIN) {
        context->line = loading->source_line != 0 ? loading->source_line : loading->mtu_line;
        conf_problem(context,
                     "source_symbols: a block of %u symbols of %u bytes is too small for an announce; raise it or mtu "
                     "until a block holds %d bytes",
                     config->source_symbols, config->symbol_size, PACK_CAPACITY_MIN);
    }
    uint64_t depth = config_depth(config->rate_bits_per_s, config->burst_ns,
                                  datagram_wire_bits(config->symbol_size, ipv6), config->repair_symbols);
    if (depth > LIMIT_DEPTH) {
        context->line = loading->burst_line;
        conf_problem(context,
                     "burst: spreading it at this rate takes %llu blocks in a group, and the limit is %d; lower burst "
                     "or rate, or raise repair_symbols",
                     (unsigned long long)depth, LIMIT_DEPTH);
        return;
    }
    config->depth = (uint16_t)depth;
}

enum status config_load(const char *file, struct passed *passed, struct config *config)
{
    struct loading loading = {.config = {.passed = passed,
                                         .settle_ns = 1000000000,
                                         .settle_tree_ns = UINT64_C(30) * 1000000000,
                                         .max_size = LIMIT_TRANSFER_SIZE,
                                         .lanes = 1,
                                         .rate_bits_per_s = 1000000000,
                                         .carrier_required = true,
                                         .sandbox = true,
                                         .source_symbols = 128,
                                         .repair_symbols = 16,
                                         .burst_ns = 5000000,
                                         .retain_ns = UINT64_C(7) * 86400 * 1000000000,
                                         .retain_bytes = UINT64_C(500) << 30,
                                         .idle_resend = true,
                                         .idle_copies = 2,
                                         .idle_share = 50,
                                         .idle_window_ns = UINT64_C(86400) * 1000000000}};
    enum status status = conf_load(file, keys, sizeof keys / sizeof keys[0], &loading);
    struct conf_context context = {.file = file};
    if (loading.has_peer && status != STATUS_SYSTEM)
        derive(&context, &loading);
    if (status == STATUS_OK && context.problems > 0)
        status = STATUS_INVALID;
    if (status != STATUS_OK) {
        config_deinit(&loading.config);
        *config = (struct config){0};
        return status;
    }
    *config = loading.config;
    return STATUS_OK;
}

void config_deinit(struct config *config)
{
    free(config->spool);
    free(config->state);
    free(config->status);
    free(config->signing_key);
    free(config->link_key);
    free(config->replay_group);
    free(config->channels);
    *config = (struct config){0};
}

const struct config_channel *config_channel_find(const struct config *config, const char *name)
{
    for (size_t i = 0; i < config->channel_count; i++)
        if (strcmp(config->channels[i].name, name) == 0)
            return &config->channels[i];
    return &default_channel;
}
