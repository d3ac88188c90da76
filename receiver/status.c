// SPDX-License-Identifier: Apache-2.0
#include "receiver/status.h"

#include <stdlib.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/sandbox.h"
#include "common/statusfile.h"
#include "common/units.h"
#include "proto/identity.h"
#include "receiver/report.h"
#include "receiver/store.h"

#define RECENT_NS (60 * CLOCK_SECOND_NS) /* how long something that happened is a reason after the last time */
#define QUIET_NS  (5 * CLOCK_SECOND_NS)  /* several heartbeats */

/* A counter of which each growth is a reason for a while. */
enum watched {
    WATCHED_SOCKET_BUFFER,
    WATCHED_STORE_QUEUE,
    WATCHED_DISK,
    WATCHED_MEMORY,
    WATCHED_TAG,
    WATCHED_SENDER,
    WATCHED_VERSION,
    WATCHED_LANE,
    WATCHED_COUNT
};

struct status_board {
    const struct config *config;
    const struct keys *keys;
    struct statusfile *file;
    struct health *health;
    uint64_t started_ns;
    bool key_is_unused; /* the old link key, as last told */
    struct {
        uint64_t value;
        uint64_t grew_ns; /* 0: never */
    } watched[WATCHED_COUNT];
};

struct status_board *status_board_create(const struct config *config, const struct keys *keys, uint64_t now_ns)
{
    struct status_board *board = calloc(1, sizeof *board);
    if (board == NULL)
        return NULL;
    board->config = config;
    board->keys = keys;
    board->started_ns = now_ns;
    board->file = statusfile_create(config->status);
    board->health = health_create();
    if (board->file == NULL || board->health == NULL) {
        status_board_destroy(board);
        return NULL;
    }
    return board;
}

void status_board_destroy(struct status_board *board)
{
    if (board == NULL)
        return;
    statusfile_destroy(board->file);
    health_destroy(board->health);
    free(board);
}

static void set_count(json_t *object, const char *key, uint64_t count)
{
    json_object_set_new(object, key, json_integer((json_int_t)count));
}

static void set_time(json_t *object, const char *key, int64_t realtime_ns)
{
    char text[CLOCK_RFC3339_SIZE];
    clock_rfc3339(realtime_ns, text);
    json_object_set_new(object, key, json_string(text));
}

static json_t *drops_json(const struct receive_counters *counters)
{
    json_t *drops = json_object();
    for (enum datagram_drop drop = DATAGRAM_OK + 1; drop < DATAGRAM_DROP_COUNT; drop++)
        if (drop != DATAGRAM_DROP_SURPLUS)
            set_count(drops, datagram_drop_name(drop), counters->drops[drop]);
    set_count(drops, "kernel_socket_buffer", counters->kernel_socket_buffer);
    set_count(drops, "store_queue_full", counters->store_queue_full);
    set_count(drops, "disk_too_slow", counters->disk_too_slow);
    return drops;
}

/* One of the two link keys, and who uses it. */
static json_t *link_key_json(const struct key_use_entry uses[], size_t count, unsigned secret, uint64_t now_ns,
                             int64_t realtime_ns)
{
    uint64_t last_ns = 0;
    json_t *key = json_object();
    json_t *senders = json_array();
    for (size_t i = 0; i < count; i++) {
        char text[SENDER_ID_TEXT_SIZE];
        if (uses[i].secret != secret)
            continue;
        identity_sender_text(uses[i].sender_id, text);
        json_array_append_new(senders, json_string(text));
        last_ns = uses[i].last_ns > last_ns ? uses[i].last_ns : last_ns;
    }
    if (last_ns != 0)
        set_time(key, "last_used_at", realtime_ns - (int64_t)(now_ns - last_ns));
    else
        json_object_set_new(key, "last_used_at", json_null());
    json_object_set_new(key, "senders", senders);
    return key;
}

/* While there are two link keys the operator waits for the moment when no sender uses the first any more. */
static json_t *link_keys_json(struct status_board *board, struct pipeline *pipeline,
                              const struct pipeline_counters *counters, uint64_t now_ns, int64_t realtime_ns)
{
    struct key_use_entry uses[REPORT_SENDERS];
    if (board->config->link_key == NULL)
        return json_null();
    size_t count = pipeline_key_uses(pipeline, uses, REPORT_SENDERS);
    bool unused = board->config->link_key_next != NULL && count == counters->senders;
    for (size_t i = 0; i < count; i++)
        unused = unused && uses[i].secret != 0;
    if (unused && !board->key_is_unused)
        log_notice("all trusted senders use the link key of key_next: make that the key, and remove key_next");
    board->key_is_unused = unused;
    json_t *keys = json_object();
    json_object_set_new(keys, "key", link_key_json(uses, count, 0, now_ns, realtime_ns));
    json_object_set_new(keys, "key_next",
                        board->config->link_key_next == NULL ? json_null()
                                                             : link_key_json(uses, count, 1, now_ns, realtime_ns));
    json_object_set_new(keys, "key_is_unused", json_boolean(unused));
    return keys;
}

static json_t *link_json(const struct status_board *board, const struct pipeline_counters *counters,
                         struct store *store, uint64_t now_ns, int64_t realtime_ns)
{
    char listen[SOCKET_TEXT_SIZE];
    int64_t heartbeat_ns, offset_ns;
    json_t *link = json_object();
    json_object_set_new(link, "listen", json_string(socket_address_text(&board->config->listen, listen)));
    set_count(link, "lanes", board->config->lanes);
    json_object_set_new(link, "sealed", json_boolean(board->config->link_key != NULL));
    if (counters->lanes.last_datagram_ns != 0)
        set_time(link, "last_datagram_at", realtime_ns - (int64_t)(now_ns - counters->lanes.last_datagram_ns));
    else
        json_object_set_new(link, "last_datagram_at", json_null());
    if (store != NULL && store_last_heartbeat(store, &heartbeat_ns, &offset_ns)) {
        set_time(link, "last_heartbeat_at", heartbeat_ns);
        json_object_set_new(link, "clock_offset_s", json_real((double)offset_ns / (double)CLOCK_SECOND_NS));
    } else {
        json_object_set_new(link, "last_heartbeat_at", json_null());
        json_object_set_new(link, "clock_offset_s", json_null());
    }
    set_count(link, "datagrams_total", counters->lanes.datagrams);
    set_count(link, "lost_total", counters->lanes.lost);
    set_count(link, "surplus_total", counters->lanes.drops[DATAGRAM_DROP_SURPLUS]);
    json_object_set_new(link, "drops", drops_json(&counters->lanes));
    set_count(link, "receive_buffer_bytes", counters->socket_buffer);
    /* No drops: the socket's buffer bridges it. */
    set_count(link, "buffer_ring_exhausted_total", counters->lanes.buffer_ring_exhausted);
    return link;
}

static json_t *memory_json(const struct pipeline_counters *counters)
{
    json_t *memory = json_object();
    set_count(memory, "bound_bytes", counters->memory);
    if (counters->memory_to_set != 0)
        set_count(memory, "needed_bytes", counters->memory_to_set);
    else
        json_object_set_new(memory, "needed_bytes", json_null());
    return memory;
}

/* The store stage counts blocks that reached it; those that never had enough symbols are known here. */
static void add_given_up(json_t *root, uint64_t given_up)
{
    static const char *const keys[] = {"blocks_total", "failed_total"};
    json_t *fec = json_object_get(root, "fec");
    for (size_t i = 0; fec != NULL && i < sizeof keys / sizeof *keys; i++)
        set_count(fec, keys[i], (uint64_t)json_integer_value(json_object_get(fec, keys[i])) + given_up);
}

static bool grew_lately(struct status_board *board, enum watched watched, uint64_t value, uint64_t now_ns)
{
    if (value > board->watched[watched].value)
        board->watched[watched].grew_ns = now_ns;
    board->watched[watched].value = value;
    return board->watched[watched].grew_ns != 0 && now_ns < board->watched[watched].grew_ns + RECENT_NS;
}

static void judge_memory(struct status_board *board, const struct pipeline_counters *counters, uint64_t now_ns,
                         int64_t realtime_ns)
{
    char text[UNITS_TEXT_SIZE];
    struct health *health = board->health;
    uint64_t mebibytes = (counters->memory_to_set + (1 << 20) - 1) >> 20;
    bool dropped = grew_lately(board, WATCHED_MEMORY, counters->lanes.drops[DATAGRAM_DROP_MEMORY], now_ns);

    if (counters->memory_to_set != 0)
        health_set(health, HEALTH_DEGRADED, "memory_too_small", realtime_ns,
                   "a sender's interleave groups do not fit: set memory = %lluMiB in the configuration and restart",
                   (unsigned long long)mebibytes);
    else
        health_clear(health, "memory_too_small");

    if (counters->memory_to_set == 0 &&
        (dropped | grew_lately(board, WATCHED_STORE_QUEUE, counters->lanes.store_queue_full, now_ns)))
        health_set(health, HEALTH_DEGRADED, "store_too_slow", realtime_ns,
                   "blocks were dropped because they were not hashed and stored fast enough: give this machine more "
                   "processor time, set memory above %s, or lower the sender's rate",
                   units_format_size(counters->memory, text));
    else
        health_clear(health, "store_too_slow");
    if (grew_lately(board, WATCHED_DISK, counters->lanes.disk_too_slow, now_ns))
        health_set(health, HEALTH_DEGRADED, "disk_too_slow", realtime_ns,
                   "datagrams were dropped because the disk under %s did not take the writes fast enough: give it a "
                   "faster disk, set memory above %s, or lower the sender's rate",
                   board->config->intake, units_format_size(counters->memory, text));
    else
        health_clear(health, "disk_too_slow");
}

static void judge_socket(struct status_board *board, const struct pipeline_counters *counters, uint64_t now_ns,
                         int64_t realtime_ns)
{
    char granted[UNITS_TEXT_SIZE];
    struct health *health = board->health;
    bool dropped = grew_lately(board, WATCHED_SOCKET_BUFFER, counters->lanes.kernel_socket_buffer, now_ns);
    bool small = counters->socket_buffer < counters->socket_buffer_wanted;

    if (dropped && small)
        health_set(health, HEALTH_DEGRADED, "socket_buffer_small", realtime_ns,
                   "the kernel dropped datagrams, its buffer has only %s: run \"sysctl net.core.rmem_max=%u\", keep it "
                   "in /etc/sysctl.d, and restart the receiver",
                   units_format_size(counters->socket_buffer, granted), counters->socket_buffer_wanted);
    else
        health_clear(health, "socket_buffer_small");
    if (dropped && !small)
        health_set(health, HEALTH_DEGRADED, "receiver_too_slow", realtime_ns,
                   "the kernel dropped datagrams because they were not taken fast enough: lower the sender's rate, use "
                   "more lanes, or give this machine more processor time");
    else
        health_clear(health, "receiver_too_slow");
}

/* What arrives is dropped for one reason, and nothing good arrives: both sides were set up differently. */
static void judge_setup(struct status_board *board, const struct pipeline_counters *counters, uint64_t now_ns,
                        int64_t realtime_ns)
{
    static const struct {
        enum watched watched;
        enum datagram_drop drop;
        const char *code, *action;
    } rules[] = {
        {WATCHED_TAG, DATAGRAM_DROP_TAG, "link_key_differs",
         "datagrams arrive, but their tags are wrong: both sides need the same link key file, or none"},
        {WATCHED_SENDER, DATAGRAM_DROP_SENDER, "sender_not_trusted",
         "datagrams arrive from a sender whose key is not trusted: put its public key (*.pub) into trusted_keys and "
         "restart the receiver"},
        {WATCHED_VERSION, DATAGRAM_DROP_VERSION, "wire_version_unknown",
         "datagrams of another wire version arrive: upgrade the receiver before the sender"},
        {WATCHED_LANE, DATAGRAM_DROP_LANE, "lanes_differ",
         "datagrams of another lane arrive: lanes and ports must be the same on both sides"},
    };
    uint64_t last_ns = counters->lanes.last_datagram_ns;
    bool quiet = last_ns == 0 || now_ns >= last_ns + QUIET_NS;
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
        if (grew_lately(board, rules[i].watched, counters->lanes.drops[rules[i].drop], now_ns) && quiet)
            health_set(board->health, HEALTH_DEGRADED, rules[i].code, realtime_ns, "%s", rules[i].action);
        else
            health_clear(board->health, rules[i].code);
    }
}

/* The one reason that only the first heartbeat ends; that later ones stay out is the store stage's to tell. */
static void judge_heartbeat(struct status_board *board, struct store *store, uint64_t now_ns, int64_t realtime_ns)
{
    int64_t heartbeat_ns, offset_ns;
    char listen[SOCKET_TEXT_SIZE];
    bool waiting = store != NULL && !store_last_heartbeat(store, &heartbeat_ns, &offset_ns);
    if (waiting && now_ns >= board->started_ns + QUIET_NS)
        health_set(board->health, HEALTH_DEGRADED, "waiting_for_sender", realtime_ns,
                   "no signed heartbeat has come since the start: is the sender running, with this receiver's address "
                   "%s as its peer, is the link up, and do the static neighbour entries fit?",
                   socket_address_text(&board->config->listen, listen));
    else
        health_clear(board->health, "waiting_for_sender");
}

void status_board_write(struct status_board *board, struct pipeline *pipeline, const char *state, uint64_t now_ns,
                        int64_t realtime_ns)
{
    struct store *store = pipeline_store(pipeline);
    struct pipeline_counters counters;
    pipeline_counters(pipeline, &counters);
    json_t *root = json_object();
    json_object_set_new(root, "state", json_string(state));
    judge_memory(board, &counters, now_ns, realtime_ns);
    judge_socket(board, &counters, now_ns, realtime_ns);
    judge_setup(board, &counters, now_ns, realtime_ns);
    judge_heartbeat(board, store, now_ns, realtime_ns);
    if (!sandbox_is_on())
        health_set(board->health, HEALTH_DEGRADED, "sandbox_off", realtime_ns, "%s", SANDBOX_OFF_ACTION);
    json_object_set_new(root, "sandbox", json_string(sandbox_is_on() ? "on" : "off"));
    keys_health(board->keys, board->health, realtime_ns);
    if (store != NULL)
        store_health(store, board->health, realtime_ns);
    health_to_json(board->health, root);
    json_t *link = link_json(board, &counters, store, now_ns, realtime_ns);
    json_object_set_new(link, "keys", link_keys_json(board, pipeline, &counters, now_ns, realtime_ns));
    json_object_set_new(root, "link", link);
    json_object_set_new(root, "memory", memory_json(&counters));
    keys_to_json(board->keys, root, realtime_ns);
    if (store != NULL)
        store_to_json(store, root, realtime_ns);
    add_given_up(root, counters.lanes.blocks_given_up);
    statusfile_write(board->file, root, realtime_ns);
}
