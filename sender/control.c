// SPDX-License-Identifier: Apache-2.0
#include "sender/control.h"

#include <assert.h>
#include <signal.h>
#include <stdlib.h>
#include <uv.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/notify.h"
#include "common/units.h"
#include "sender/claiming.h"
#include "sender/finishing.h"
#include "sender/flight.h"
#include "sender/marking.h"
#include "sender/repeat.h"
#include "sender/retain.h"
#include "sender/watchdog.h"

enum {
    TICK_MS = 1000,
    CHANGED_MS = 100, /* least interval of status files */
    ONCE_MS = 50,
};

struct control {
    struct control_setup setup;
    uv_loop_t loop;
    uv_poll_t spool_poll, finished_poll, carrier_poll, request_poll;
    uv_timer_t tick, claim_timer, status_timer, scan_timer, once_timer;
    uv_signal_t signals[3];
    bool stopping, ended;
    bool left_behind; /* something was refused or could not be claimed, or a signal came first */

    struct claiming *claiming;
    struct finishing *finishing;
    struct marking *marking;
    struct repeat *repeat;
    struct retain *retain;
    struct flight flight;

    uint64_t sent_total, failed_total, returned_total, last_sequence;
    uint64_t status_written_ns;
    struct watchdog watchdog;
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
    return facts->in_flight_count > 0 || facts->repeat.count > 0 ? "sending" : "idle";
}

static void write_status(struct control *control)
{
    uint64_t now = now_ns();
    struct settle_totals totals;
    struct status_facts facts = {
        .settle = control->setup.settle,
        .trouble = spool_trouble(control->setup.spool),
        .in_flight = control->flight.transfers,
        .in_flight_count = control->flight.count,
        .carrier_up = control->setup.carrier == NULL || carrier_is_up(control->setup.carrier),
        .writers_unknown = claiming_writers_unknown(control->claiming, now),
        .sent_total = control->sent_total,
        .failed_total = control->failed_total,
        .returned_total = control->returned_total,
        .last_sequence = control->last_sequence,
        .retain = retain_last(control->retain),
    };
    settle_totals(control->setup.settle, &totals);
    facts.queue_depth = totals.count + control->flight.count;
    facts.queue_bytes = totals.bytes + flight_bytes_left(&control->flight);
    pipeline_set_queue(control->setup.pipeline, facts.queue_depth, facts.queue_bytes);
    pipeline_counters(control->setup.pipeline, &facts.counters);
    repeat_facts(control->repeat, &facts.repeat);
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
    if (control->ended || uv_is_active((uv_handle_t *)&control->status_timer))
        return;
    uint64_t since_ms = (now_ns() - control->status_written_ns) / CLOCK_MILLISECOND_NS;
    uv_timer_start(&control->status_timer, on_status_timer, since_ms < CHANGED_MS ? CHANGED_MS - since_ms : 0, 0);
}

/* A worker has come back. */
static void done(void *context)
{
    struct control *control = context;
    changed(control);
    pump(control);
}

static void recorded(void *context)
{
    pump(context);
}

static void claimed(void *context, struct transfer *transfer)
{
    struct control *control = context;
    flight_add(&control->flight, transfer);
    pipeline_submit(control->setup.pipeline, transfer);
}

void control_resume(struct control *control, struct transfer *const *transfers, size_t count)
{
    for (size_t i = 0; i < count; i++)
        claimed(control, transfers[i]);
    repeat_learn(control->repeat);
}

static void refused(void *context, const char *channel, const char *name, const char *reason)
{
    struct control *control = context;
    control->failed_total++;
    control->left_behind = true;
    status_board_refused(control->setup.board, channel, name, reason, clock_realtime_ns());
}

/* The transfer is done with: counts it and takes it off the list. */
static void filed(void *context, const struct finish_item *item)
{
    struct control *control = context;
    const struct transfer *transfer = item->transfer;
    switch (item->result) {
    case FINISH_SENT:
        control->sent_total++;
        retain_note_sent(control->retain, transfer->total_bytes);
        if (transfer->sequence > control->last_sequence)
            control->last_sequence = transfer->sequence;
        status_board_sent(control->setup.board, transfer, clock_realtime_ns());
        repeat_note_sent(control->repeat, transfer);
        break;
    case FINISH_REFUSED:
        refused(control, transfer->channel, transfer->name, transfer->reason);
        break;
    case FINISH_RETURNED:
        control->returned_total++;
        break;
    }
    flight_remove(&control->flight, transfer);
}

static void repeated(void *context, struct transfer *transfer)
{
    struct control *control = context;
    repeat_finished(control->repeat, transfer);
    changed(control);
}

static void on_finished(uv_poll_t *poll, int status, int events)
{
    struct control *control = poll->data;
    (void)status;
    (void)events;
    finishing_wake(control->finishing);
    pump(control);
}

static void on_request(uv_poll_t *poll, int status, int events)
{
    struct control *control = poll->data;
    (void)status;
    (void)events;
    requests_clear(control->setup.requests);
    repeat_requested(control->repeat);
    pump(control);
}

static void on_claim_timer(uv_timer_t *timer)
{
    pump(timer->data);
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
    marking_stop(control->marking);
    if (control->ended || claiming_is_busy(control->claiming) || finishing_is_busy(control->finishing) ||
        retain_is_busy(control->retain) || repeat_is_busy(control->repeat) || marking_is_busy(control->marking))
        return;
    write_status(control);
    control->ended = true;
    uv_walk(&control->loop, close_handle, NULL);
}

static bool is_all_sent(const struct control *control)
{
    struct settle_totals totals;
    settle_totals(control->setup.settle, &totals);
    return totals.pending == 0 && control->flight.count == 0 && !claiming_is_busy(control->claiming) &&
           !finishing_is_busy(control->finishing) && repeat_is_through(control->repeat) &&
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
    finishing_pump(control->finishing);
    uint64_t wait_ms = claiming_pump(control->claiming, &control->flight, now_ns());
    uv_timer_stop(&control->claim_timer);
    if (wait_ms != UINT64_MAX)
        uv_timer_start(&control->claim_timer, on_claim_timer, wait_ms, 0);
    bool idle = control->flight.count == 0 && !claiming_is_busy(control->claiming) &&
                !retain_is_busy(control->retain) && !audit_is_failing(control->setup.claim->audit);
    repeat_pump(control->repeat, idle);
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
    if (!control->stopping) {
        uint64_t held[REPEAT_UNDER_WAY];
        retain_if_due(control->retain, held, repeat_sequences(control->repeat, held), now);
        repeat_tick(control->repeat);
    }
    write_status(control);
    pipeline_counters(control->setup.pipeline, &counters);
    watchdog_feed(&control->watchdog, &counters, now);
    notify_status("%llu transfer%s sent, %zu under way, %s", (unsigned long long)control->sent_total,
                  units_plural(control->sent_total), control->flight.count,
                  units_format_rate(status_board_rate(control->setup.board), rate));
    pump(control);
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
    claiming_destroy(control->claiming);
    finishing_destroy(control->finishing);
    marking_destroy(control->marking);
    repeat_destroy(control->repeat);
    retain_destroy(control->retain);
    flight_deinit(&control->flight);
    free(control);
}

static enum status create_parts(struct control *control)
{
    const struct control_setup *setup = &control->setup;
    const struct config *config = setup->claim->config;
    const struct claiming_setup claiming = {.claim = setup->claim,
                                            .settle = setup->settle,
                                            .spool = setup->spool,
                                            .loop = &control->loop,
                                            .descriptor_limit = setup->descriptor_limit,
                                            .claimed = claimed,
                                            .refused = refused,
                                            .done = done,
                                            .context = control};
    const struct finishing_setup finishing = {.claim = setup->claim,
                                              .settle = setup->settle,
                                              .spool = setup->spool,
                                              .finished = setup->finished,
                                              .bell = setup->bell,
                                              .loop = &control->loop,
                                              .filed = filed,
                                              .repeated = repeated,
                                              .done = done,
                                              .context = control};
    const struct repeat_setup repeat = {.claim = setup->claim,
                                        .requests = setup->requests,
                                        .pipeline = setup->pipeline,
                                        .loop = &control->loop,
                                        .heals = config->idle_resend && !setup->once,
                                        .done = done,
                                        .context = control};
    control->claiming = claiming_create(&claiming);
    control->finishing = finishing_create(&finishing);
    control->marking = marking_create(setup->claim->ledger, &control->loop, &control->flight, recorded, control);
    control->retain = retain_create(setup->claim, &control->loop, recorded, control);
    return repeat_create(&repeat, &control->repeat);
}

enum status control_create(const struct control_setup *setup, struct control **control)
{
    struct control *made = calloc(1, sizeof *made);
    assert(made != NULL);
    made->setup = *setup;
    watchdog_init(&made->watchdog, now_ns());
    made->last_sequence = setup->newest_sequence;
    flight_init(&made->flight, setup->descriptor_limit);
    *control = NULL;
    bool looped = uv_loop_init(&made->loop) == 0;
    if (!looped || create_parts(made) != STATUS_OK ||
        ledger_count_sent(setup->claim->ledger, &made->sent_total, &made->failed_total) != STATUS_OK) {
        log_error("the control thread can't start: the ledger can't be read, or descriptors are missing");
        if (looped)
            uv_loop_close(&made->loop);
        free_control(made);
        return STATUS_SYSTEM;
    }
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
    add_poll(control, &control->request_poll, requests_fd(control->setup.requests), on_request);
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
    marking_start(control->marking);
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
    finishing_drain(control->finishing);
    uv_loop_close(&control->loop);
    free_control(control);
}
