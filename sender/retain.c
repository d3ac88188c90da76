// SPDX-License-Identifier: Apache-2.0
#include "sender/retain.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

#include "common/clock.h"
#include "common/durable.h"
#include "common/log.h"
#include "common/units.h"
#include "proto/identity.h"
#include "sender/expire.h"
#include "sender/ledger_again.h"
#include "sender/ledger_replay.h"
#include "sender/witness.h"

#define INTERVAL_NS    (60 * CLOCK_SECOND_NS)
#define INTERVAL_BYTES (UINT64_C(1) << 30)
#define KNOWN_NS       (INT64_C(90) * 86400 * (int64_t)CLOCK_SECOND_NS) /* how long the ledger knows what is gone */

enum { REMOVE_MAX = 1000 /* in one pass; the rest in the next */, STUCK_MAX = 10, PRUNE_MAX = 1000 };

struct kept {
    uint8_t id[TRANSFER_ID_SIZE];
    uint64_t sequence;
    bool gone; /* removed in this pass */
};

/* What is kept, oldest first, and what is decided about it. */
struct list {
    const struct retain_pass *pass;
    struct kept *kept;
    struct expire_item *items;
    size_t count, capacity;
};

static bool is_held(const struct retain_pass *pass, uint64_t sequence)
{
    for (size_t i = 0; i < pass->held_count; i++)
        if (pass->held[i] == sequence)
            return true;
    return false;
}

static void collect(const struct ledger_transfer *transfer, void *context)
{
    struct list *list = context;
    if (list->count == list->capacity) {
        list->capacity = list->capacity == 0 ? 256 : 2 * list->capacity;
        list->kept = reallocarray(list->kept, list->capacity, sizeof *list->kept);
        list->items = reallocarray(list->items, list->capacity, sizeof *list->items);
        assert(list->kept != NULL && list->items != NULL);
    }
    struct kept *kept = &list->kept[list->count];
    memcpy(kept->id, transfer->id, TRANSFER_ID_SIZE);
    kept->sequence = transfer->sequence;
    kept->gone = false;
    list->items[list->count++] =
        (struct expire_item){.channel = config_channel_find(list->pass->claim->config, transfer->channel),
                             .finished_at_ns = transfer->finished_at_ns,
                             .bytes = transfer->bytes,
                             .held = is_held(list->pass, transfer->sequence)};
}

enum removal { REMOVED, STUCK, WANTED, UNRECORDED };

static enum removal remove_one(const struct claim *claim, const struct kept *kept, struct retain_result *result)
{
    struct ledger_change change = {.state = LEDGER_EXPIRED};
    char id[TRANSFER_ID_TEXT_SIZE];
    bool due = false;
    if (ledger_replay_is_due(claim->ledger, kept->sequence, &due) != STATUS_OK || due)
        return WANTED;
    identity_transfer_text(kept->id, id);
    memcpy(change.id, kept->id, TRANSFER_ID_SIZE);
    if (durable_remove_tree(claim->dirs->sent, id) != STATUS_OK) {
        result->stuck = true;
        snprintf(result->message, sizeof result->message, "remove %s/.sent/%s, which the sender can't: %s",
                 claim->dirs->path, id, strerror(errno));
        return STUCK;
    }
    uint8_t chain_id[CHAIN_ID_SIZE];
    ledger_chain_id(claim->ledger, chain_id);
    struct audit_entry entry = {
        .event = AUDIT_EXPIRED, .transfer_id = kept->id, .chain_id = chain_id, .sequence = kept->sequence};
    audit_note(claim->audit, &entry);
    return ledger_apply(claim->ledger, &change, 1) == STATUS_OK ? REMOVED : UNRECORDED;
}

/* Removes what was chosen for `reason`, oldest first. False when the choice is to be made anew, because some stay: the
 * others go all the more. */
static bool remove_for(struct list *list, enum expire_reason reason, unsigned *stuck, struct retain_result *result)
{
    bool settled = true;
    for (size_t i = 0; i < list->count && result->removed < REMOVE_MAX && *stuck < STUCK_MAX; i++) {
        if (list->items[i].reason != reason)
            continue;
        enum removal removal = remove_one(list->pass->claim, &list->kept[i], result);
        list->items[i].held = removal == STUCK || removal == WANTED;
        *stuck += removal == STUCK;
        settled = settled && !list->items[i].held;
        list->kept[i].gone = !list->items[i].held;
        result->removed += removal == REMOVED;
    }
    return settled;
}

/* Takes what was removed off the list. */
static void compact(struct list *list)
{
    size_t count = 0;
    for (size_t i = 0; i < list->count; i++) {
        if (list->kept[i].gone)
            continue;
        list->kept[count] = list->kept[i];
        list->items[count++] = list->items[i];
    }
    list->count = count;
}

static void remove_chosen(struct list *list, struct retain_result *result)
{
    unsigned stuck = 0;
    for (bool settled = false; !settled && stuck < STUCK_MAX && result->removed < REMOVE_MAX;) {
        uint64_t free_bytes = list->pass->free_bytes(list->pass->claim);
        result->free_missing =
            expire_choose(list->pass->claim->config, list->items, list->count, list->pass->now_ns, free_bytes);
        settled = true;
        for (int reason = EXPIRE_AGE; settled && reason < EXPIRE_REASON_COUNT; reason++)
            settled = remove_for(list, (enum expire_reason)reason, &stuck, result);
        compact(list);
    }
}

uint64_t retain_free_bytes(const struct claim *claim)
{
    struct statvfs facts;
    if (fstatvfs(claim->dirs->sent, &facts) != 0)
        return UINT64_MAX / 2;
    return (uint64_t)facts.f_bavail * facts.f_frsize;
}

void retain_run(const struct retain_pass *pass, struct retain_result *result)
{
    struct list list = {.pass = pass};
    size_t pruned = 0;
    *result = (struct retain_result){0};
    if (ledger_each_sent(pass->claim->ledger, collect, &list) == STATUS_OK) {
        remove_chosen(&list, result);
        result->kept = list.count;
        for (size_t i = 0; i < list.count; i++)
            result->kept_bytes += list.items[i].bytes;
    }
    int64_t known_ns = KNOWN_NS;
    if (pass->claim->config->retain_ns > (uint64_t)KNOWN_NS / 2 && pass->claim->config->retain_ns < INT64_MAX / 4)
        known_ns = 2 * (int64_t)pass->claim->config->retain_ns;
    if (pass->now_ns > known_ns &&
        ledger_prune(pass->claim->ledger, pass->now_ns - known_ns, PRUNE_MAX, &pruned) == STATUS_OK && pruned > 0)
        log_info("the ledger forgot %zu transfer%s gone for long", pruned, units_plural(pruned));
    free(list.kept);
    free(list.items);
}

struct retain {
    struct retain_pass pass;
    uint64_t held[RETAIN_HELD];
    uv_loop_t *loop;
    uv_work_t work;
    void (*done)(void *context);
    void *context;
    bool busy;
    struct retain_result working, last; /* the worker's, and ours */
    uint64_t next_ns, sent_bytes;       /* the next pass: when, or after how much more */
    int64_t realtime_start_ns;
    uint64_t monotonic_start_ns;
};

struct retain *retain_create(const struct claim *claim, uv_loop_t *loop, void (*done)(void *context), void *context)
{
    struct retain *retain = calloc(1, sizeof *retain);
    assert(retain != NULL);
    *retain = (struct retain){.pass = {.claim = claim, .held = retain->held, .free_bytes = retain_free_bytes},
                              .loop = loop,
                              .work = {.data = retain},
                              .done = done,
                              .context = context,
                              .realtime_start_ns = clock_realtime_ns(),
                              .monotonic_start_ns = clock_monotonic_ns()};
    return retain;
}

void retain_destroy(struct retain *retain)
{
    assert(retain == NULL || !retain->busy);
    free(retain);
}

static void work(uv_work_t *request)
{
    struct retain *retain = request->data;
    retain_run(&retain->pass, &retain->working);
}

static void after_work(uv_work_t *request, int result)
{
    struct retain *retain = request->data;
    (void)result;
    retain->busy = false;
    retain->last = retain->working;
    if (retain->last.removed > 0)
        log_info("removed %llu sent transfer%s, no longer retained", (unsigned long long)retain->last.removed,
                 units_plural(retain->last.removed));
    if (retain->last.removed == REMOVE_MAX)
        retain->next_ns = 0;
    retain->done(retain->context);
}

void retain_if_due(struct retain *retain, const uint64_t *held, size_t held_count, uint64_t now_ns)
{
    assert(held_count <= RETAIN_HELD);
    if (retain->busy || (now_ns < retain->next_ns && retain->sent_bytes < INTERVAL_BYTES))
        return;
    retain->next_ns = now_ns + INTERVAL_NS;
    retain->sent_bytes = 0;
    retain->busy = true;
    retain->pass.now_ns = retain->realtime_start_ns + (int64_t)(now_ns - retain->monotonic_start_ns);
    retain->pass.held_count = held_count;
    if (held_count > 0)
        memcpy(retain->held, held, held_count * sizeof held[0]);
    int result = uv_queue_work(retain->loop, &retain->work, work, after_work);
    assert(result == 0);
    (void)result;
}

bool retain_is_busy(const struct retain *retain)
{
    return retain->busy;
}

void retain_note_sent(struct retain *retain, uint64_t bytes)
{
    retain->sent_bytes += bytes;
    retain->last.kept++;
    retain->last.kept_bytes += bytes;
}

const struct retain_result *retain_last(const struct retain *retain)
{
    return &retain->last;
}
