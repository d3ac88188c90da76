// SPDX-License-Identifier: Apache-2.0
#include "sender/retain.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/durable.h"
#include "common/log.h"
#include "proto/identity.h"

#define INTERVAL_NS    (60 * CLOCK_SECOND_NS)
#define INTERVAL_BYTES (UINT64_C(1) << 30)

enum { REMOVE_MAX = 1000 /* in one pass; the rest in the next */ };

struct kept {
    uint8_t id[TRANSFER_ID_SIZE];
    int64_t finished_at_ns;
    uint64_t bytes;
};

struct list {
    struct kept *kept;
    size_t count, capacity;
    uint64_t bytes;
};

static void collect(const struct ledger_transfer *transfer, void *context)
{
    struct list *list = context;
    if (list->count == list->capacity) {
        list->capacity = list->capacity == 0 ? 256 : 2 * list->capacity;
        list->kept = reallocarray(list->kept, list->capacity, sizeof *list->kept);
        assert(list->kept != NULL);
    }
    struct kept *kept = &list->kept[list->count++];
    memcpy(kept->id, transfer->id, TRANSFER_ID_SIZE);
    kept->finished_at_ns = transfer->finished_at_ns;
    kept->bytes = transfer->bytes;
    list->bytes += transfer->bytes;
}

static int compare_finished(const void *a, const void *b)
{
    const struct kept *x = a, *y = b;
    return (x->finished_at_ns > y->finished_at_ns) - (x->finished_at_ns < y->finished_at_ns);
}

static bool is_expired(const struct config *config, const struct kept *kept, uint64_t bytes, int64_t now_ns)
{
    return bytes > config->retain_bytes ||
           (now_ns > kept->finished_at_ns && (uint64_t)(now_ns - kept->finished_at_ns) > config->retain_ns);
}

void retain_run(const struct claim *claim, int64_t now_ns, struct retain_result *result)
{
    struct list list = {0};
    *result = (struct retain_result){0};
    if (ledger_each(claim->ledger, LEDGER_SENT, collect, &list) != STATUS_OK)
        goto cleanup;
    if (list.count > 0)
        qsort(list.kept, list.count, sizeof *list.kept, compare_finished);
    result->kept = list.count;
    for (size_t i = 0; i < list.count && result->removed < REMOVE_MAX; i++) {
        struct ledger_change change = {.state = LEDGER_EXPIRED};
        char id[TRANSFER_ID_TEXT_SIZE];
        if (!is_expired(claim->config, &list.kept[i], list.bytes, now_ns))
            break;
        identity_transfer_text(list.kept[i].id, id);
        memcpy(change.id, list.kept[i].id, TRANSFER_ID_SIZE);
        if (durable_remove_tree(claim->dirs->sent, id) != STATUS_OK) {
            result->stuck = true;
            snprintf(result->message, sizeof result->message, "remove %s/.sent/%s, which the sender can't: %s",
                     claim->dirs->path, id, strerror(errno));
            continue;
        }
        if (ledger_apply(claim->ledger, &change, 1) != STATUS_OK)
            break;
        list.bytes -= list.kept[i].bytes;
        result->kept--;
        result->removed++;
    }
    result->kept_bytes = list.bytes;

cleanup:
    free(list.kept);
}

struct retain {
    const struct claim *claim;
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
    *retain = (struct retain){.claim = claim,
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
    int64_t now_ns = retain->realtime_start_ns + (int64_t)(clock_monotonic_ns() - retain->monotonic_start_ns);
    retain_run(retain->claim, now_ns, &retain->working);
}

static void after_work(uv_work_t *request, int result)
{
    struct retain *retain = request->data;
    (void)result;
    retain->busy = false;
    retain->last = retain->working;
    if (retain->last.removed > 0)
        log_info("removed %llu sent transfers that are no longer retained", (unsigned long long)retain->last.removed);
    if (retain->last.removed == REMOVE_MAX)
        retain->next_ns = 0;
    retain->done(retain->context);
}

void retain_if_due(struct retain *retain, uint64_t now_ns)
{
    if (retain->busy || (now_ns < retain->next_ns && retain->sent_bytes < INTERVAL_BYTES))
        return;
    retain->next_ns = now_ns + INTERVAL_NS;
    retain->sent_bytes = 0;
    retain->busy = true;
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
