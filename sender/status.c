// SPDX-License-Identifier: Apache-2.0
#include "sender/status.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/fingerprint.h"
#include "common/sandbox.h"
#include "common/statusfile.h"
#include "common/units.h"
#include "proto/identity.h"
#include "sender/overflow.h"
#include "sender/printable.h"

enum {
    REFUSED_SHOWN = 20,
    SENDING_SHOWN = 100,
    WAITING_SHOWN = 100,
    NAME_SIZE = 300,
    CHAIN_TEXT_SIZE = 2 * CHAIN_ID_SIZE + 1,
};

#define RECENT_NS (10 * CLOCK_SECOND_NS) /* how long a send error counts after the newest one */

struct refused {
    char channel[LIMIT_CHANNEL_LENGTH + 1];
    char name[NAME_SIZE];
    char reason[LIMIT_REASON_LENGTH + 1];
    int64_t at_ns;
};

struct status_board {
    const struct config *config;
    struct statusfile *file;
    struct health *health;
    char sender[SENDER_ID_TEXT_SIZE];
    char chain[CHAIN_TEXT_SIZE];
    struct refused refused[REFUSED_SHOWN]; /* a ring */
    size_t refused_count;
    struct refused last_sent; /* without reason */
    uint64_t last_sent_sequence;
    uint64_t rate_bits_per_s, rate_since_ns, rate_bytes;
    uint64_t too_long, too_long_ns; /* EMSGSIZE so far, and when it last grew */
    struct overflow overflow;
    uint64_t overflow_start, overflow_count, overflow_ns; /* at the start, now, and when it last grew */
};

struct status_board *status_board_create(const struct config *config, uint32_t sender_id,
                                         const uint8_t chain_id[static CHAIN_ID_SIZE])
{
    struct status_board *board = calloc(1, sizeof *board);
    assert(board != NULL);
    board->config = config;
    board->file = statusfile_create(config->status);
    board->health = health_create();
    assert(board->file != NULL && board->health != NULL);
    overflow_open(&board->overflow, config);
    board->overflow_start = board->overflow_count = overflow_total(&board->overflow);
    identity_sender_text(sender_id, board->sender);
    for (size_t i = 0; i < CHAIN_ID_SIZE; i++)
        snprintf(board->chain + 2 * i, 3, "%02x", chain_id[i]);
    return board;
}

void status_board_destroy(struct status_board *board)
{
    if (board == NULL)
        return;
    statusfile_destroy(board->file);
    health_destroy(board->health);
    overflow_close(&board->overflow);
    free(board);
}

void status_board_refused(struct status_board *board, const char *channel, const char *name, const char *reason,
                          int64_t realtime_ns)
{
    struct refused *refused = &board->refused[board->refused_count++ % REFUSED_SHOWN];
    refused->at_ns = realtime_ns;
    snprintf(refused->channel, sizeof refused->channel, "%s", channel);
    printable_name(name, refused->name, sizeof refused->name);
    printable_name(reason, refused->reason, sizeof refused->reason);
}

void status_board_sent(struct status_board *board, const struct transfer *transfer, int64_t realtime_ns)
{
    board->last_sent.at_ns = realtime_ns;
    memcpy(board->last_sent.channel, transfer->channel, sizeof board->last_sent.channel);
    printable_name(transfer->name, board->last_sent.name, sizeof board->last_sent.name);
    board->last_sent_sequence = transfer->sequence;
}

uint64_t status_board_rate(const struct status_board *board)
{
    return board->rate_bits_per_s;
}

static void set_text(json_t *object, const char *key, const char *text)
{
    char shown[LIMIT_REASON_LENGTH + 1];
    json_object_set_new(object, key, json_string(printable_name(text, shown, sizeof shown)));
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

static const char *stage_text(int stage)
{
    switch (stage) {
    case TRANSFER_STAGE_QUEUED:
        return "queued";
    case TRANSFER_STAGE_READING:
        return "reading";
    case TRANSFER_STAGE_SEALING:
        return "sealing";
    default:
        return "copies";
    }
}

static const char *kind_text(enum transfer_kind kind)
{
    switch (kind) {
    case TRANSFER_FRESH:
        return "fresh";
    case TRANSFER_REPLAY:
        return "replay";
    case TRANSFER_HEAL:
        break;
    }
    return "heal";
}

static json_t *transfer_json(const struct transfer *transfer)
{
    char id[TRANSFER_ID_TEXT_SIZE];
    json_t *one = json_object();
    identity_transfer_text(transfer->id, id);
    json_object_set_new(one, "id", json_string(id));
    json_object_set_new(one, "kind", json_string(kind_text(transfer->kind)));
    set_text(one, "channel", transfer->channel);
    set_text(one, "name", transfer->name);
    if (transfer->kind != TRANSFER_FRESH)
        set_count(one, "sequence", transfer->sequence);
    set_count(one, "bytes_total", transfer->total_bytes);
    set_count(one, "bytes_sent", atomic_load(&transfer->bytes_sent));
    set_count(one, "artifact_count", transfer->artifact_count);
    json_object_set_new(one, "state", json_string(stage_text(atomic_load(&transfer->announced_stage))));
    return one;
}

/* Replays and heals first: there are few of them. */
static json_t *sending_json(const struct status_facts *facts)
{
    json_t *list = json_array();
    for (size_t i = 0; i < facts->repeat.count; i++)
        json_array_append_new(list, transfer_json(facts->repeat.transfers[i]));
    for (size_t i = 0; i < facts->in_flight_count && i < SENDING_SHOWN; i++)
        json_array_append_new(list, transfer_json(facts->in_flight[i]));
    return list;
}

static json_t *replays_json(const struct ledger_replay_summary *replays)
{
    json_t *root = json_object(), *requests = json_array();
    set_count(root, "waiting", replays->waiting);
    set_count(root, "waiting_now", replays->waiting_now);
    set_count(root, "waiting_bytes", replays->waiting_bytes);
    set_count(root, "done_total", replays->done_total);
    set_count(root, "failed_total", replays->failed_total);
    for (size_t i = 0; i < replays->request_count; i++) {
        const struct ledger_request_shown *request = &replays->requests[i];
        json_t *one = json_object();
        set_text(one, "id", request->id);
        set_text(one, "requester", request->requester);
        set_text(one, "what", request->what);
        set_time(one, "made_at", request->made_at_ns);
        set_time(one, "taken_at", request->taken_at_ns);
        set_count(one, "waiting", request->waiting);
        set_count(one, "done", request->done);
        set_count(one, "failed", request->failed);
        set_text(one, "message", request->message);
        json_array_append_new(requests, one);
    }
    json_object_set_new(root, "requests", requests);
    return root;
}

struct waiting {
    json_t *list;
    uint64_t blocked;
    char first[NAME_SIZE + LIMIT_REASON_LENGTH];
};

static void add_waiting(const struct settle_item *item, bool blocked, const char *message, void *context)
{
    struct waiting *waiting = context;
    const char *channel = spool_channel_name(item->channel);
    if (blocked && waiting->blocked++ == 0) {
        char name[NAME_SIZE];
        snprintf(waiting->first, sizeof waiting->first, "%s/%s: %s", channel,
                 printable_name(item->name, name, sizeof name), message);
    }
    if (json_array_size(waiting->list) == WAITING_SHOWN)
        return;
    json_t *one = json_object();
    set_text(one, "channel", channel);
    set_text(one, "name", item->name);
    json_object_set_new(one, "blocked", json_boolean(blocked));
    set_text(one, "action", message);
    json_array_append_new(waiting->list, one);
}

static json_t *refused_json(const struct status_board *board)
{
    json_t *list = json_array();
    size_t first = board->refused_count > REFUSED_SHOWN ? board->refused_count - REFUSED_SHOWN : 0;
    for (size_t i = board->refused_count; i > first; i--) {
        const struct refused *refused = &board->refused[(i - 1) % REFUSED_SHOWN];
        json_t *one = json_object();
        set_text(one, "channel", refused->channel);
        set_text(one, "name", refused->name);
        set_text(one, "reason", refused->reason);
        set_time(one, "at", refused->at_ns);
        json_array_append_new(list, one);
    }
    return list;
}

/* The fingerprint of the key that is announced, or null. */
static json_t *next_key_json(const struct config *config)
{
    char text[FINGERPRINT_SIZE];
    if (!config->has_next_key)
        return json_null();
    fingerprint_text(&config->next_key, text);
    return json_string(text);
}

static json_t *last_sent_json(const struct status_board *board)
{
    if (board->last_sent_sequence == 0)
        return json_null();
    json_t *one = json_object();
    set_text(one, "channel", board->last_sent.channel);
    set_text(one, "name", board->last_sent.name);
    set_count(one, "sequence", board->last_sent_sequence);
    set_time(one, "at", board->last_sent.at_ns);
    return one;
}

static json_t *link_json(const struct status_board *board, const struct status_facts *facts, uint64_t now_ns,
                         int64_t realtime_ns)
{
    const struct config *config = board->config;
    const struct pipeline_counters *counters = &facts->counters;
    char peer[SOCKET_TEXT_SIZE];
    json_t *link = json_object();
    json_object_set_new(link, "peer", json_string(socket_address_text(&config->peer, peer)));
    set_text(link, "interface", config->interface);
    json_object_set_new(link, "carrier", json_boolean(facts->carrier_up));
    json_object_set_new(link, "paused", json_boolean(counters->paused));
    set_count(link, "lanes", config->lanes);
    set_count(link, "symbol_size", config->symbol_size);
    set_count(link, "depth", config->depth);
    set_count(link, "rate_limit_bits_per_second", config->rate_bits_per_s);
    set_count(link, "datagrams_sent", counters->datagrams_sent);
    set_count(link, "wire_bytes_sent", counters->wire_bytes_sent);
    set_count(link, "blocks_sent", counters->blocks_sent);
    set_count(link, "heartbeats_sent", counters->heartbeats_sent);
    set_count(link, "send_errors", counters->send_errors);
    set_count(link, "message_too_long", counters->message_too_long);
    set_count(link, "queue_overflows", board->overflow_count - board->overflow_start);
    if (counters->last_send_errno != 0) {
        uint64_t age_ns = now_ns > counters->last_send_error_ns ? now_ns - counters->last_send_error_ns : 0;
        json_object_set_new(link, "last_error", json_string(strerrorname_np(counters->last_send_errno)));
        set_time(link, "last_error_at", realtime_ns - (int64_t)age_ns);
    } else {
        json_object_set_new(link, "last_error", json_null());
    }
    return link;
}

/* Sets or clears one reason; `text` is printed behind nothing else. */
static void judge(struct status_board *board, bool wrong, enum health_level level, const char *code,
                  int64_t realtime_ns, const char *text)
{
    if (wrong)
        health_set(board->health, level, code, realtime_ns, "%s", text);
    else
        health_clear(board->health, code);
}

static void explain_send_error(const struct status_board *board, int error, char text[static LIMIT_REASON_LENGTH])
{
    const char *interface = board->config->interface;
    const char *what = strerror(error);
    if (error == EPERM || error == EACCES)
        snprintf(text, LIMIT_REASON_LENGTH,
                 "sends are refused (%s): look for an output rule of the local firewall, "
                 "\"nft list ruleset\"",
                 what);
    else if (error == ENOBUFS || error == ENOMEM)
        snprintf(text, LIMIT_REASON_LENGTH,
                 "the queue of %s is full (%s): lower rate, or run \"ip link set %s txqueuelen 10000\"", interface,
                 what, interface);
    else if (error == ENETDOWN || error == ENETUNREACH || error == EHOSTUNREACH || error == ENODEV)
        snprintf(text, LIMIT_REASON_LENGTH,
                 "the peer can't be reached (%s): run \"ip link set %s up\" and look at \"ip route\" and \"ip neigh\"",
                 what, interface);
    else
        snprintf(text, LIMIT_REASON_LENGTH, "datagrams can't be sent (%s); they are tried again", what);
}

static void judge_link(struct status_board *board, const struct status_facts *facts, uint64_t now_ns,
                       int64_t realtime_ns)
{
    const struct pipeline_counters *counters = &facts->counters;
    const struct config *config = board->config;
    char text[LIMIT_REASON_LENGTH];

    snprintf(text, sizeof text,
             "%s has no carrier, so sending is paused: check cable, transceiver and \"ip link show %s\"; for "
             "transmit-only fibre set carrier = ignore",
             config->interface, config->interface);
    judge(board, config->carrier_required && !facts->carrier_up, HEALTH_FAILED, "no_carrier", realtime_ns, text);

    bool recent = counters->last_send_errno != 0 && now_ns < counters->last_send_error_ns + RECENT_NS;
    explain_send_error(board, counters->last_send_errno, text);
    judge(board, recent && counters->last_send_errno != EMSGSIZE, HEALTH_DEGRADED, "send_errors", realtime_ns, text);

    if (counters->message_too_long != board->too_long)
        board->too_long_ns = now_ns;
    board->too_long = counters->message_too_long;
    snprintf(text, sizeof text,
             "datagrams of %u-byte symbols do not fit the way to the peer (EMSGSIZE): its MTU became smaller; run \"ip "
             "link show %s\", set mtu, and restart the sender",
             (unsigned)config->symbol_size, config->interface);
    judge(board, board->too_long > 0 && now_ns < board->too_long_ns + RECENT_NS, HEALTH_FAILED, "message_too_long",
          realtime_ns, text);

    uint64_t overflow_count = overflow_total(&board->overflow);
    if (overflow_count > board->overflow_count) {
        board->overflow_count = overflow_count;
        board->overflow_ns = now_ns;
    }
    snprintf(text, sizeof text,
             "datagrams wait or are dropped before they leave this machine: lower rate to what %s "
             "carries, or run \"ip link set %s txqueuelen 10000\" and look at \"tc -s qdisc\"",
             config->interface, config->interface);
    judge(board, board->overflow_ns != 0 && now_ns < board->overflow_ns + RECENT_NS, HEALTH_DEGRADED, "queue_overflow",
          realtime_ns, text);
}

static void judge_spool(struct status_board *board, const struct status_facts *facts, const struct waiting *waiting,
                        int64_t realtime_ns)
{
    const struct spool_trouble *trouble = facts->trouble;
    char text[NAME_SIZE + LIMIT_REASON_LENGTH + 64];

    judge(board, facts->counters.ledger_stalled, HEALTH_FAILED, "ledger_stalled", realtime_ns,
          "the ledger in the state directory can't be written, so nothing can be finished: make room, or see the log");
    judge(board, facts->counters.audit_failed, HEALTH_FAILED, "audit_failed", realtime_ns,
          "the audit log in the state directory can't be written, so nothing is claimed: make room, or see the log");
    snprintf(text, sizeof text, "%llu item%s can't be claimed; the first is %s", (unsigned long long)waiting->blocked,
             units_plural(waiting->blocked), waiting->first);
    judge(board, waiting->blocked > 0, HEALTH_DEGRADED, "cannot_claim", realtime_ns, text);
    snprintf(text, sizeof text,
             "channel %s is on a network file system, where remote writers can't be seen: set complete = rename or "
             "marker in its section",
             trouble->network_channel);
    judge(board, trouble->network, HEALTH_DEGRADED, "network_filesystem", realtime_ns, text);
    judge(board, trouble->watch_limit, HEALTH_DEGRADED, "watch_limit", realtime_ns,
          "the spool is only scanned, for want of watches: run \"sysctl fs.inotify.max_user_watches=1048576\"");
    judge(board, trouble->unreadable, HEALTH_DEGRADED, "channel_unusable", realtime_ns, trouble->unreadable_message);
    snprintf(text, sizeof text, "%s was removed, renamed or unmounted: put it back and restart the sender",
             board->config->spool);
    judge(board, trouble->gone, HEALTH_FAILED, "spool_gone", realtime_ns, text);
    judge(board, facts->writers_unknown, HEALTH_DEGRADED, "writers_unknown", realtime_ns,
          "whether other users still write their files can't be told, so only the settle time is waited for: give the "
          "sender CAP_LEASE");
}

static void judge_kept(struct status_board *board, const struct status_facts *facts, int64_t realtime_ns)
{
    const struct retain_result *retain = facts->retain;
    char text[LIMIT_REASON_LENGTH], missing[UNITS_TEXT_SIZE];
    judge(board, retain->stuck, HEALTH_DEGRADED, "retention_stuck", realtime_ns, retain->message);
    snprintf(text, sizeof text,
             "the disk of %s lacks %s to retain_free, though nothing more of .sent may go: make room, or lower "
             "retain_free",
             board->config->spool, units_format_size(retain->free_missing, missing));
    judge(board, retain->free_missing > 0, HEALTH_DEGRADED, "disk_low", realtime_ns, text);
    judge(board, facts->repeat.stuck, HEALTH_DEGRADED, "replays_stuck", realtime_ns,
          "requests for replays can't be taken up or begun at the moment and are tried again; the log says why");
}

static void measure_rate(struct status_board *board, uint64_t wire_bytes, uint64_t now_ns)
{
    if (board->rate_since_ns == 0) {
        board->rate_since_ns = now_ns;
        board->rate_bytes = wire_bytes;
    }
    uint64_t span_ns = now_ns - board->rate_since_ns;
    if (span_ns < CLOCK_SECOND_NS)
        return;
    double bits = 8.0 * (double)(wire_bytes - board->rate_bytes);
    board->rate_bits_per_s = (uint64_t)(bits * (double)CLOCK_SECOND_NS / (double)span_ns);
    board->rate_since_ns = now_ns;
    board->rate_bytes = wire_bytes;
}

void status_board_write(struct status_board *board, const struct status_facts *facts, uint64_t now_ns,
                        int64_t realtime_ns)
{
    struct waiting waiting = {.list = json_array()};
    json_t *root = json_object();
    json_t *queue = json_object();

    measure_rate(board, facts->counters.wire_bytes_sent, now_ns);
    settle_each_waiting(facts->settle, add_waiting, &waiting);
    judge_link(board, facts, now_ns, realtime_ns);
    judge_spool(board, facts, &waiting, realtime_ns);
    judge_kept(board, facts, realtime_ns);
    judge(board, !sandbox_is_on(), HEALTH_DEGRADED, "sandbox_off", realtime_ns, SANDBOX_OFF_ACTION);

    json_object_set_new(root, "state", json_string(facts->state));
    health_to_json(board->health, root);
    json_object_set_new(root, "sandbox", json_string(sandbox_is_on() ? "on" : "off"));
    json_object_set_new(root, "sender_id", json_string(board->sender));
    json_object_set_new(root, "chain_id", json_string(board->chain));
    set_count(queue, "depth", facts->queue_depth);
    set_count(queue, "bytes", facts->queue_bytes);
    set_count(queue, "blocked", waiting.blocked);
    json_object_set_new(root, "queue", queue);
    json_object_set_new(root, "sending", sending_json(facts));
    set_count(root, "sent_total", facts->sent_total);
    set_count(root, "failed_total", facts->failed_total);
    set_count(root, "returned_total", facts->returned_total);
    set_count(root, "rate_bits_per_second", board->rate_bits_per_s);
    set_count(root, "last_sequence", facts->last_sequence);
    json_object_set_new(root, "last_sent", last_sent_json(board));
    json_object_set_new(root, "link", link_json(board, facts, now_ns, realtime_ns));
    json_object_set_new(root, "fec",
                        json_pack("{s:i, s:i}", "source_symbols", (int)board->config->source_symbols, "repair_symbols",
                                  (int)board->config->repair_symbols));
    json_object_set_new(root, "waiting", waiting.list);
    set_count(root, "approvals_without_item", facts->trouble->approvals_alone);
    json_object_set_new(root, "next_key", next_key_json(board->config));
    json_object_set_new(root, "refused", refused_json(board));
    json_object_set_new(root, "retained",
                        json_pack("{s:I, s:I}", "count", (json_int_t)facts->retain->kept, "bytes",
                                  (json_int_t)facts->retain->kept_bytes));
    json_object_set_new(root, "replays", replays_json(facts->repeat.replays));
    json_object_set_new(root, "healing",
                        json_pack("{s:I, s:I}", "pending", (json_int_t)facts->repeat.heals_pending, "sent_total",
                                  (json_int_t)facts->repeat.heals_total));
    statusfile_write(board->file, root, realtime_ns);
}
