// SPDX-License-Identifier: Apache-2.0
#include "sender/finishing.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "sender/filing.h"

struct finishing {
    struct finishing_setup setup;
    uv_work_t work;
    bool busy;
    struct finish_item items[CLAIM_BATCH];
    bool expected[CLAIM_BATCH]; /* the settle stage expects it back */
    size_t count;
    struct finish_backlog backlog; /* the worker's while busy */
    uint64_t retry_ns;             /* not before */
};

#define RETRY_NS (2 * CLOCK_SECOND_NS)

struct finishing *finishing_create(const struct finishing_setup *setup)
{
    struct finishing *finishing = calloc(1, sizeof *finishing);
    assert(finishing != NULL);
    finishing->setup = *setup;
    finishing->work.data = finishing;
    return finishing;
}

void finishing_destroy(struct finishing *finishing)
{
    if (finishing == NULL)
        return;
    assert(!finishing->busy);
    finish_backlog_deinit(&finishing->backlog);
    free(finishing);
}

bool finishing_is_busy(const struct finishing *finishing)
{
    return finishing->busy;
}

static void work(uv_work_t *request)
{
    struct finishing *finishing = request->data;
    finish_batch(finishing->setup.claim, &finishing->backlog, finishing->items, finishing->count);
}

static void item_of(const struct finishing *finishing, const struct transfer *transfer, struct settle_item *item)
{
    *item = (struct settle_item){.rule = config_channel_find(finishing->setup.claim->config, transfer->channel),
                                 .how = SETTLE_RETURNED,
                                 .tree = transfer->tree,
                                 .bytes = transfer->total_bytes};
    snprintf(item->channel, sizeof item->channel, "%s", filing_directory(transfer->channel, transfer->in_root));
    memcpy(item->name, transfer->name, sizeof item->name);
}

static void retire(struct finishing *finishing, const struct finish_item *done)
{
    struct transfer *transfer = done->transfer;
    finishing->setup.filed(finishing->setup.context, done);
    transfer_destroy(transfer);
}

static void after_work(uv_work_t *request, int result)
{
    struct finishing *finishing = request->data;
    const struct finishing_setup *setup = &finishing->setup;
    (void)result;
    finishing->busy = false;
    finishing->retry_ns = clock_monotonic_ns() + RETRY_NS;
    /* First what the kernel said about items moved back: it does not count. */
    (void)spool_read(setup->spool, clock_monotonic_ns());
    for (size_t i = 0; i < finishing->count; i++) {
        struct finish_item *done = &finishing->items[i];
        struct settle_item item;
        item_of(finishing, done->transfer, &item);
        if (finishing->expected[i] && done->result == FINISH_RETURNED) {
            item.watched = spool_came_back(setup->spool, item.channel, item.name);
            settle_returned(setup->settle, &item, clock_monotonic_ns());
        } else if (finishing->expected[i]) {
            (void)settle_done(setup->settle, &item, SETTLE_GONE, NULL, "", clock_monotonic_ns());
        }
        retire(finishing, done);
    }
    finishing->count = 0;
    setup->done(setup->context);
}

/* Takes what the pipeline is done with, up to a batch. */
static void collect(struct finishing *finishing)
{
    while (finishing->count < CLAIM_BATCH) {
        struct transfer *transfer = (struct transfer *)mailbox_take(finishing->setup.finished);
        if (transfer == NULL)
            return;
        if (transfer->kind != TRANSFER_FRESH) {
            finishing->setup.repeated(finishing->setup.context, transfer);
            continue;
        }
        size_t i = finishing->count++;
        finishing->items[i] = (struct finish_item){.transfer = transfer, .may_return = true};
        finishing->expected[i] = false;
        if (transfer->outcome == TRANSFER_RETURNED) {
            struct settle_item item;
            item_of(finishing, transfer, &item);
            finishing->expected[i] = settle_expect(finishing->setup.settle, &item);
            finishing->items[i].may_return = finishing->expected[i];
        }
    }
}

static void start(struct finishing *finishing)
{
    if (finishing->busy)
        return;
    collect(finishing);
    bool retries = finishing->backlog.count > 0 && clock_monotonic_ns() >= finishing->retry_ns;
    if (finishing->count == 0 && !retries)
        return;
    finishing->busy = true;
    int result = uv_queue_work(finishing->setup.loop, &finishing->work, work, after_work);
    assert(result == 0);
}

void finishing_wake(struct finishing *finishing)
{
    /* The bell is rung only while it is armed (doorbell.h), and armed only when the mailbox was seen empty. */
    doorbell_disarm(finishing->setup.bell);
}

void finishing_pump(struct finishing *finishing)
{
    start(finishing);
    /* A batch under way ends in another call, so that nothing is waited for until then. */
    while (!finishing->busy) {
        doorbell_arm(finishing->setup.bell);
        size_t before = finishing->count;
        collect(finishing);
        if (finishing->count == before)
            return;
        doorbell_disarm(finishing->setup.bell);
        start(finishing);
    }
}

void finishing_drain(struct finishing *finishing)
{
    assert(!finishing->busy);
    for (;;) {
        collect(finishing);
        if (finishing->count == 0 && finishing->backlog.count == 0)
            return;
        finish_batch(finishing->setup.claim, &finishing->backlog, finishing->items, finishing->count);
        for (size_t i = 0; i < finishing->count; i++)
            retire(finishing, &finishing->items[i]);
        if (finishing->count == 0)
            return; /* what the ledger still does not take is the next start's */
        finishing->count = 0;
    }
}
