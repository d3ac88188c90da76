// SPDX-License-Identifier: Apache-2.0
#include "sender/claiming.h"

#include <assert.h>
#include <stdlib.h>

#include "common/clock.h"
#include "common/log.h"
#include "sender/printable.h"

enum {
    WINDOW_RETRY_MS = 25, /* while the window is full: how soon a transfer that was read makes room */
    AUDIT_RETRY_MS = 1000,
    BATCH_SHARE = 16, /* of the descriptors that a batch of claims may have as items, which take two each */
    SHOWN_SIZE = 128,
};

#define UNKNOWN_RECENT_NS (600 * CLOCK_SECOND_NS) /* how long a refused lease counts */

struct batch {
    struct claiming *claiming;
    uv_work_t work;
    struct claim_item *items; /* [limit] */
    size_t count;             /* 0: no worker is at it */
};

struct claiming {
    struct claiming_setup setup;
    size_t limit; /* of a batch, for each item in it holds descriptors */
    struct batch batches[CONFIG_PRIORITY_COUNT];
    uint64_t writers_unknown_ns; /* 0: never */
};

struct claiming *claiming_create(const struct claiming_setup *setup)
{
    struct claiming *claiming = calloc(1, sizeof *claiming);
    size_t usable = setup->descriptor_limit / BATCH_SHARE;
    assert(claiming != NULL);
    claiming->setup = *setup;
    claiming->limit = usable < CLAIM_BATCH ? usable + 1 : CLAIM_BATCH;
    for (int i = 0; i < CONFIG_PRIORITY_COUNT; i++) {
        struct batch *batch = &claiming->batches[i];
        *batch = (struct batch){.claiming = claiming, .work = {.data = batch}};
        batch->items = calloc(claiming->limit, sizeof *batch->items);
        assert(batch->items != NULL);
    }
    return claiming;
}

void claiming_destroy(struct claiming *claiming)
{
    if (claiming == NULL)
        return;
    assert(!claiming_is_busy(claiming));
    for (int i = 0; i < CONFIG_PRIORITY_COUNT; i++)
        free(claiming->batches[i].items);
    free(claiming);
}

bool claiming_is_busy(const struct claiming *claiming)
{
    for (int i = 0; i < CONFIG_PRIORITY_COUNT; i++)
        if (claiming->batches[i].count > 0)
            return true;
    return false;
}

bool claiming_writers_unknown(const struct claiming *claiming, uint64_t now_ns)
{
    return claiming->writers_unknown_ns != 0 && now_ns < claiming->writers_unknown_ns + UNKNOWN_RECENT_NS;
}

static void work(uv_work_t *request)
{
    struct batch *batch = request->data;
    claim_batch(batch->claiming->setup.claim, batch->items, batch->count);
}

static void end_item(struct claiming *claiming, struct claim_item *done)
{
    const struct claiming_setup *setup = &claiming->setup;
    const struct settle_item *item = &done->item;
    const struct probe *probe = done->probed ? &done->probe : NULL;
    const char *channel = spool_channel_name(item->channel);
    uint64_t now_ns = clock_monotonic_ns();
    if (probe != NULL && probe->writers == PROBE_UNKNOWN && item->watched)
        claiming->writers_unknown_ns = now_ns;
    if (done->given_back) {
        struct settle_item back = *item;
        back.watched = spool_came_back(setup->spool, item->channel, item->name);
        settle_returned(setup->settle, &back, now_ns);
        return;
    }
    if (settle_done(setup->settle, item, done->verdict, probe, done->message, now_ns)) {
        char name[SHOWN_SIZE];
        log_warning("%s/" LOG_NAME " can't be claimed and stays: " LOG_DETAIL, channel,
                    printable_name(item->name, name, sizeof name), done->message);
    }
    if (done->verdict != SETTLE_TAKE)
        return;
    if (item->tree)
        spool_left(setup->spool, item->channel, item->name);
    if (done->refused)
        setup->refused(setup->context, channel, item->name, done->message);
    else
        setup->claimed(setup->context, done->transfer);
}

static void after_work(uv_work_t *request, int result)
{
    struct batch *batch = request->data;
    struct claiming *claiming = batch->claiming;
    (void)result;
    /* First what the kernel said about items moved: it does not count. */
    (void)spool_read(claiming->setup.spool, clock_monotonic_ns());
    for (size_t i = 0; i < batch->count; i++)
        end_item(claiming, &batch->items[i]);
    batch->count = 0;
    claiming->setup.done(claiming->setup.context);
}

/* Takes what may be tried of one priority. */
static void start(struct claiming *claiming, int priority, size_t room, uint64_t now_ns)
{
    struct settle_item taken[CLAIM_BATCH];
    struct batch *batch = &claiming->batches[priority];
    size_t rooms[CONFIG_PRIORITY_COUNT] = {0};
    rooms[priority] = room;
    if (batch->count > 0)
        return;
    size_t count = settle_take(claiming->setup.settle, now_ns, rooms, taken, claiming->limit);
    if (count == 0)
        return;
    for (size_t i = 0; i < count; i++)
        batch->items[i].item = taken[i];
    batch->count = count;
    int result = uv_queue_work(claiming->setup.loop, &batch->work, work, after_work);
    assert(result == 0);
}

uint64_t claiming_pump(struct claiming *claiming, const struct flight *flight, uint64_t now_ns)
{
    const struct settle *settle = claiming->setup.settle;
    size_t room[CONFIG_PRIORITY_COUNT];
    bool may_claim = !audit_is_failing(claiming->setup.claim->audit); /* nothing happens that can't be recorded */
    if (may_claim && settle_next_ns(settle) <= now_ns) {
        flight_room(flight, room);
        for (int priority = 0; priority < CONFIG_PRIORITY_COUNT; priority++)
            start(claiming, priority, room[priority], now_ns);
    }
    uint64_t next_ns = settle_next_ns(settle);
    if (next_ns == UINT64_MAX)
        return UINT64_MAX;
    if (next_ns > now_ns)
        return (next_ns - now_ns) / CLOCK_MILLISECOND_NS + 1;
    /* What is due and was not taken waits for room, or for the batch before it. */
    return may_claim ? WINDOW_RETRY_MS : AUDIT_RETRY_MS;
}
