// SPDX-License-Identifier: Apache-2.0
#include "sender/control.h"

#include <assert.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/notify.h"
#include "common/units.h"
#include "sender/filing.h"
#include "sender/finish.h"
#include "sender/flight.h"
#include "sender/printable.h"
#include "sender/retain.h"
#include "sender/watchdog.h"

enum {
    TICK_MS = 1000,
    CHANGED_MS = 100,     /* least interval of status files */
    WINDOW_RETRY_MS = 25, /* while the window is full: how soon a transfer that was read makes room */
    ONCE_MS = 50,
    BATCH_SHARE = 16, /* of the descriptors that a batch of claims may have as items, which take two each */
    SHOWN_SIZE = 128,
};

#define UNKNOWN_RECENT_NS (600 * CLOCK_SECOND_NS) /* how long a refused lease counts */

/* A batch of claims in a worker thread; one for each priority, for a large tree takes its time. */
struct claiming {
    struct control *control;
    uv_work_t work;
    struct claim_item *items; /* [claim_batch] */
    size_t count;             /* 0: no worker is at it */
};

struct control {
    struct control_setup setup;
    uv_loop_t loop;
    uv_poll_t spool_poll, finished_poll, carrier_poll;
    uv_timer_t tick, claim_timer, status_timer, scan_timer, once_timer;
    uv_signal_t signals[3];
    uv_work_t finish_work;
    bool finishing; /* a worker is at it */
    bool stopping, ended;
    bool left_behind; /* something was refused or could not be claimed, or a signal came first */

    struct claiming claiming[CONFIG_PRIORITY_COUNT];
    size_t claim_batch;               /* largest, for each item in it holds descriptors */
    struct finish_item *finish_items; /* [CLAIM_BATCH] */
    bool *finish_expected;            /* [CLAIM_BATCH] the settle stage expects it back */
    size_t finish_count;
    struct flight flight;

    uint64_t sent_total, failed_total, returned_total, last_sequence;
    uint64_t writers_unknown_ns;
    uint64_t status_written_ns;
    struct watchdog watchdog;
    struct retain *retain;
};

static void pump(struct control *control);

static uint64_t now_ns(void)
{
    return clock_monotonic_ns();
}

static const char *state_text(const struct control *control, const struct status_facts *facts)
{
    if (control->stopping)
        return "stopping";
    if (facts->counters.paused)
        return "paused";
    return facts->in_flight_count > 0 ? "sending" : "idle";
}

static void write_status(struct control *control)
{
    uint64_t now = now_ns();
    const struct retain_result *retain = retain_last(control->retain);
    struct settle_totals totals;
    struct status_facts facts = {
        .settle = control->setup.settle,
        .trouble = spool_trouble(control->setup.spool),
        .in_flight = control->flight.transfers,
        .in_flight_count = control->flight.count,
        .carrier_up = control->setup.carrier == NULL || carrier_is_up(control->setup.carrier),
        .writers_unknown = control->writers_unknown_ns != 0 && now < control->writers_unknown_ns + UNKNOWN_RECENT_NS,
        .sent_total = control->sent_total,
        .failed_total = control->failed_total,
        .returned_total = control->returned_total,
        .last_sequence = control->last_sequence,
        .retained_count = retain->kept,
        .retained_bytes = retain->kept_bytes,
        .retain_message = retain->stuck ? retain->message : NULL,
    };
    settle_totals(control->setup.settle, &totals);
    facts.queue_depth = totals.count + control->flight.count;
    facts.queue_bytes = totals.bytes + flight_bytes_left(&control->flight);
    pipeline_set_queue(control->setup.pipeline, facts.queue_depth, facts.queue_bytes);
    pipeline_counters(control->setup.pipeline, &facts.counters);
    facts.state = state_text(control, &facts);
    status_board_write(control->setup.board, &facts, now, clock_realtime_ns());
    control->status_written_ns = now;
}

static void on_status_timer(uv_timer_t *timer)
{
    write_status(timer->data);
}

/* Something worth showing happened. */
static void changed(struct control *control)
{
    if (uv_is_active((uv_handle_t *)&control->status_timer) || control->ended)
        return;
    uint64_t since_ms = (now_ns() - control->status_written_ns) / CLOCK_MILLISECOND_NS;
    uv_timer_start(&control->status_timer, on_status_timer, since_ms < CHANGED_MS ? CHANGED_MS - since_ms : 0, 0);
}

static void retained(void *context)
{
    pump(context);
}

static void submit(struct control *control, struct transfer *transfer)
{
    flight_add(&control->flight, transfer);
    pipeline_submit(control->setup.pipeline, transfer);
}

void control_resume(struct control *control, struct transfer *transfer)
{
    submit(control, transfer);
}

/* The transfer is done with: counts it, takes it off the list and frees it. */
static void retire(struct control *control, const struct finish_item *item)
{
    struct transfer *transfer = item->transfer;
    int64_t realtime = clock_realtime_ns();
    switch (item->result) {
    case FINISH_SENT:
        control->sent_total++;
        retain_note_sent(control->retain, transfer->total_bytes);
        if (transfer->sequence > control->last_sequence)
            control->last_sequence = transfer->sequence;
        status_board_sent(control->setup.board, transfer, realtime);
        break;
    case FINISH_REFUSED:
        control->failed_total++;
        control->left_behind = true;
        status_board_refused(control->setup.board, transfer->channel, transfer->name, transfer->reason, realtime);
        break;
    case FINISH_RETURNED:
        control->returned_total++;
        break;
    }
    flight_remove(&control->flight, transfer);
    transfer_destroy(transfer);
}

static void work_finish(uv_work_t *work)
{
    struct control *control = work->data;
    finish_batch(control->setup.claim, control->finish_items, control->finish_count);
}

static void item_of(const struct control *control, const struct transfer *transfer, struct settle_item *item)
{
    *item = (struct settle_item){.rule = config_channel_find(control->setup.claim->config, transfer->channel),
                                 .how = SETTLE_RETURNED,
                                 .tree = transfer->tree,
                                 .bytes = transfer->total_bytes};
    snprintf(item->channel, sizeof item->channel, "%s", filing_directory(transfer->channel, transfer->in_root));
    memcpy(item->name, transfer->name, sizeof item->name);
}

static void after_finish(uv_work_t *work, int result)
{
    struct control *control = work->data;
    (void)result;
    control->finishing = false;
    /* First what the kernel said about items moved back: it does not count. */
    (void)spool_read(control->setup.spool, now_ns());
    for (size_t i = 0; i < control->finish_count; i++) {
        struct finish_item *done = &control->finish_items[i];
        if (control->finish_expected[i]) {
            struct settle_item item;
            item_of(control, done->transfer, &item);
            if (done->result == FINISH_RETURNED) {
                item.watched = spool_came_back(control->setup.spool, item.channel, item.name);
                settle_returned(control->setup.settle, &item, now_ns());
            } else {
                (void)settle_done(control->setup.settle, &item, SETTLE_GONE, NULL, "", now_ns());
            }
        }
        retire(control, done);
    }
    control->finish_count = 0;
    changed(control);
    pump(control);
}

/* Takes what the pipeline is done with, up to a batch. */
static void collect_finished(struct control *control)
{
    while (control->finish_count < CLAIM_BATCH) {
        struct transfer *transfer = (struct transfer *)mailbox_take(control->setup.finished);
        if (transfer == NULL)
            return;
        size_t i = control->finish_count++;
        control->finish_items[i] = (struct finish_item){.transfer = transfer, .may_return = true};
        control->finish_expected[i] = false;
        if (transfer->outcome == TRANSFER_RETURNED) {
            struct settle_item item;
            item_of(control, transfer, &item);
            control->finish_expected[i] = settle_expect(control->setup.settle, &item);
            control->finish_items[i].may_return = control->finish_expected[i];
        }
    }
}

static void start_finish(struct control *control)
{
    if (control->finishing)
        return;
    collect_finished(control);
    if (control->finish_count == 0)
        return;
    control->finishing = true;
    int result = uv_queue_work(&control->loop, &control->finish_work, work_finish, after_finish);
    assert(result == 0);
}

/* The bell is rung only while it is armed (doorbell.h), and armed only when the mailbox was seen empty. */
static void on_finished(uv_poll_t *poll, int status, int events)
{
    struct control *control = poll->data;
    (void)status;
    (void)events;
    doorbell_disarm(control->setup.bell);
    pump(control);
}

static void wait_for_finished(struct control *control)
{
    /* A batch under way ends in pump(), so that nothing is waited for until then. */
    while (!control->finishing) {
        doorbell_arm(control->setup.bell);
        size_t before = control->finish_count;
        collect_finished(control);
        if (control->finish_count == before)
            return;
        doorbell_disarm(control->setup.bell);
        start_finish(control);
    }
}

static bool is_claiming(const struct control *control)
{
    for (int i = 0; i < CONFIG_PRIORITY_COUNT; i++)
        if (control->claiming[i].count > 0)
            return true;
    return false;
}

static void work_claim(uv_work_t *work)
{
    struct claiming *claiming = work->data;
    claim_batch(claiming->control->setup.claim, claiming->items, claiming->count);
}

static void end_claim(struct control *control, struct claim_item *done)
{
    const struct settle_item *item = &done->item;
    const struct probe *probe = done->probed ? &done->probe : NULL;
    const char *channel = spool_channel_name(item->channel);
    uint64_t now = now_ns();
    if (probe != NULL && probe->writers == PROBE_UNKNOWN && item->watched)
        control->writers_unknown_ns = now;
    if (done->given_back) {
        struct settle_item back = *item;
        back.watched = spool_came_back(control->setup.spool, item->channel, item->name);
        settle_returned(control->setup.settle, &back, now);
        return;
    }
    if (settle_done(control->setup.settle, item, done->verdict, probe, done->message, now)) {
        char name[SHOWN_SIZE];
        log_warning("%s/%s can't be claimed and stays: %s", channel, printable_name(item->name, name, sizeof name),
                    done->message);
    }
    if (done->verdict != SETTLE_TAKE)
        return;
    if (item->tree)
        spool_left(control->setup.spool, item->channel, item->name);
    if (done->refused) {
        control->failed_total++;
        control->left_behind = true;
        status_board_refused(control->setup.board, channel, item->name, done->message, clock_realtime_ns());
    } else {
        submit(control, done->transfer);
    }
}

static void after_claim(uv_work_t *work, int result)
{
    struct claiming *claiming = work->data;
    struct control *control = claiming->control;
    (void)result;
    (void)spool_read(control->setup.spool, now_ns());
    for (size_t i = 0; i < claiming->count; i++)
        end_claim(control, &claiming->items[i]);
    claiming->count = 0;
    changed(control);
    pump(control);
}

static void on_claim_timer(uv_timer_t *timer)
{
    pump(timer->data);
}

/* Takes what may be tried of one priority. */
static void start_claiming(struct control *control, int priority, size_t room, uint64_t now)
{
    struct settle_item taken[CLAIM_BATCH];
    struct claiming *claiming = &control->claiming[priority];
    size_t rooms[CONFIG_PRIORITY_COUNT] = {0};
    rooms[priority] = room;
    if (claiming->count > 0)
        return;
    size_t count = settle_take(control->setup.settle, now, rooms, taken, control->claim_batch);
    if (count == 0)
        return;
    for (size_t i = 0; i < count; i++)
        claiming->items[i].item = taken[i];
    claiming->count = count;
    int result = uv_queue_work(&control->loop, &claiming->work, work_claim, after_claim);
    assert(result == 0);
}

static void start_claims(struct control *control)
{
    size_t room[CONFIG_PRIORITY_COUNT];
    uint64_t now = now_ns();
    if (settle_next_ns(control->setup.settle) <= now) {
        flight_room(&control->flight, room);
        for (int priority = 0; priority < CONFIG_PRIORITY_COUNT; priority++)
            start_claiming(control, priority, room[priority], now);
    }
    /* What is due and was not taken waits for room, or for the batch before it. */
    uint64_t next = settle_next_ns(control->setup.settle);
    uint64_t wait_ms = next > now ? (next - now) / CLOCK_MILLISECOND_NS + 1 : WINDOW_RETRY_MS;
    uv_timer_stop(&control->claim_timer);
    if (next != UINT64_MAX)
        uv_timer_start(&control->claim_timer, on_claim_timer, wait_ms, 0);
}

static void close_handle(uv_handle_t *handle, void *context)
{
    (void)context;
    if (!uv_is_closing(handle))
        uv_close(handle, NULL);
}

/* No more events: the loop ends when the workers have. */
static void stop(struct control *control)
{
    control->stopping = true;
    if (control->ended || is_claiming(control) || control->finishing || retain_is_busy(control->retain))
        return;
    write_status(control);
    control->ended = true;
    uv_walk(&control->loop, close_handle, NULL);
}

static bool is_all_sent(const struct control *control)
{
    struct settle_totals totals;
    settle_totals(control->setup.settle, &totals);
    return totals.pending == 0 && control->flight.count == 0 && !is_claiming(control) && !control->finishing &&
           pipeline_is_idle(control->setup.pipeline);
}

/* Whatever happened: starts what can be started. */
static void pump(struct control *control)
{
    if (control->ended)
        return;
    if (control->stopping) {
        stop(control);
        return;
    }
    start_finish(control);
    wait_for_finished(control);
    start_claims(control);
}

static void on_once(uv_timer_t *timer)
{
    struct control *control = timer->data;
    struct settle_totals totals;
    if (control->stopping || !is_all_sent(control))
        return;
    settle_totals(control->setup.settle, &totals);
    if (totals.blocked > 0)
        control->left_behind = true;
    stop(control);
}

static void scan(struct control *control)
{
    spool_scan(control->setup.spool, now_ns(), clock_realtime_ns());
    uv_timer_set_repeat(&control->scan_timer, spool_scan_interval_ns(control->setup.spool) / CLOCK_MILLISECOND_NS);
    uv_timer_again(&control->scan_timer);
    changed(control);
    pump(control);
}

static void on_scan(uv_timer_t *timer)
{
    scan(timer->data);
}

static void on_spool(uv_poll_t *poll, int status, int events)
{
    struct control *control = poll->data;
    (void)status;
    (void)events;
    if (spool_read(control->setup.spool, now_ns()))
        scan(control);
    pump(control);
}

static void on_carrier(uv_poll_t *poll, int status, int events)
{
    struct control *control = poll->data;
    bool before = carrier_is_up(control->setup.carrier);
    (void)status;
    (void)events;
    carrier_read(control->setup.carrier);
    bool up = carrier_is_up(control->setup.carrier);
    if (up == before)
        return;
    if (up)
        log_notice("%s has a carrier again; sending goes on", control->setup.claim->config->interface);
    else
        log_warning("%s has no carrier; sending is paused", control->setup.claim->config->interface);
    pipeline_set_carrier(control->setup.pipeline, up);
    changed(control);
}

static void on_tick(uv_timer_t *timer)
{
    struct control *control = timer->data;
    struct pipeline_counters counters;
    uint64_t now = now_ns();
    char rate[UNITS_TEXT_SIZE];
    if (!control->stopping)
        retain_if_due(control->retain, now);
    write_status(control);
    pipeline_counters(control->setup.pipeline, &counters);
    watchdog_feed(&control->watchdog, &counters, now);
    notify_status("%llu transfers sent, %zu under way, %s", (unsigned long long)control->sent_total,
                  control->flight.count, units_format_rate(status_board_rate(control->setup.board), rate));
}

static void on_signal(uv_signal_t *handle, int number)
{
    struct control *control = handle->data;
    if (number == SIGUSR1) {
        scan(control);
        return;
    }
    control->left_behind = true;
    log_notice("%s: stops at the next block boundary", number == SIGTERM ? "SIGTERM" : "SIGINT");
    notify_stopping();
    stop(control);
}

static void free_control(struct control *control)
{
    for (int i = 0; i < CONFIG_PRIORITY_COUNT; i++)
        free(control->claiming[i].items);
    free(control->finish_items);
    free(control->finish_expected);
    flight_deinit(&control->flight);
    free(control);
}

static void *allocate(size_t count, size_t size)
{
    void *memory = calloc(count, size);
    assert(memory != NULL);
    return memory;
}

enum status control_create(const struct control_setup *setup, struct control **control)
{
    struct control *made = allocate(1, sizeof *made);
    size_t usable = setup->descriptor_limit / BATCH_SHARE;
    made->setup = *setup;
    made->claim_batch = usable < CLAIM_BATCH ? usable + 1 : CLAIM_BATCH;
    for (int i = 0; i < CONFIG_PRIORITY_COUNT; i++) {
        struct claiming *claiming = &made->claiming[i];
        *claiming = (struct claiming){.control = made, .work = {.data = claiming}};
        claiming->items = allocate(made->claim_batch, sizeof *claiming->items);
    }
    made->finish_items = allocate(CLAIM_BATCH, sizeof *made->finish_items);
    made->finish_expected = allocate(CLAIM_BATCH, sizeof *made->finish_expected);
    watchdog_init(&made->watchdog, now_ns());
    made->last_sequence = setup->newest_sequence;
    flight_init(&made->flight, setup->descriptor_limit);
    *control = NULL;
    if (ledger_count_sent(setup->claim->ledger, &made->sent_total, &made->failed_total) != STATUS_OK ||
        uv_loop_init(&made->loop) != 0) {
        log_error("the control thread can't start: the ledger can't be read, or descriptors are missing");
        free_control(made);
        return STATUS_SYSTEM;
    }
    made->retain = retain_create(setup->claim, &made->loop, retained, made);
    *control = made;
    return STATUS_OK;
}

static void add_poll(struct control *control, uv_poll_t *poll, int fd, uv_poll_cb callback)
{
    poll->data = control;
    int result = uv_poll_init(&control->loop, poll, fd);
    assert(result == 0);
    result = uv_poll_start(poll, UV_READABLE, callback);
    assert(result == 0);
}

static void add_timer(struct control *control, uv_timer_t *timer, uv_timer_cb callback, uint64_t repeat_ms)
{
    timer->data = control;
    uv_timer_init(&control->loop, timer);
    if (repeat_ms > 0)
        uv_timer_start(timer, callback, repeat_ms, repeat_ms);
}

static void add_handles(struct control *control)
{
    static const int numbers[] = {SIGTERM, SIGINT, SIGUSR1};
    add_poll(control, &control->spool_poll, spool_fd(control->setup.spool), on_spool);
    add_poll(control, &control->finished_poll, doorbell_fd(control->setup.bell), on_finished);
    if (control->setup.carrier != NULL)
        add_poll(control, &control->carrier_poll, carrier_fd(control->setup.carrier), on_carrier);
    add_timer(control, &control->tick, on_tick, TICK_MS);
    add_timer(control, &control->claim_timer, on_claim_timer, 0);
    add_timer(control, &control->status_timer, on_status_timer, 0);
    add_timer(control, &control->scan_timer, on_scan, TICK_MS);
    add_timer(control, &control->once_timer, on_once, control->setup.once ? ONCE_MS : 0);
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        control->signals[i].data = control;
        uv_signal_init(&control->loop, &control->signals[i]);
        uv_signal_start(&control->signals[i], on_signal, numbers[i]);
    }
    control->finish_work.data = control;
}

bool control_run(struct control *control)
{
    add_handles(control);
    scan(control);
    if (control->setup.once)
        settle_freeze(control->setup.settle);
    write_status(control);
    notify_ready("watching the spool");
    int left = uv_run(&control->loop, UV_RUN_DEFAULT);
    assert(left == 0 && control->ended);
    return !control->setup.once || !control->left_behind;
}

void control_destroy(struct control *control)
{
    if (control == NULL)
        return;
    /* What left completely must be known as sent, or the next start sends it again. */
    for (;;) {
        collect_finished(control);
        if (control->finish_count == 0)
            break;
        finish_batch(control->setup.claim, control->finish_items, control->finish_count);
        for (size_t i = 0; i < control->finish_count; i++)
            retire(control, &control->finish_items[i]);
        control->finish_count = 0;
    }
    retain_destroy(control->retain);
    uv_loop_close(&control->loop);
    free_control(control);
}
