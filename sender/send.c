// SPDX-License-Identifier: Apache-2.0
#include "sender/send.h"

#include <assert.h>
#include <poll.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/fec.h"
#include "common/log.h"
#include "common/ring.h"
#include "common/socket.h"
#include "common/worker.h"
#include "sender/carrier.h"
#include "sender/encode.h"
#include "sender/group.h"
#include "sender/interleave.h"
#include "sender/pace.h"
#include "sender/passed.h"

#define TRAIN_SPAN_NS    CLOCK_MILLISECOND_NS         /* most that one train takes on the link */
#define CREDIT_NS        (25 * CLOCK_MILLISECOND_NS)  /* lateness that is made up for */
#define CARRIER_LOOK_NS  (100 * CLOCK_MILLISECOND_NS) /* between two looks for a carrier that was lost */
#define BEAT_PATIENCE_NS (250 * CLOCK_MILLISECOND_NS) /* that a beat waits for the end of a group */
enum {
    RING_ENTRIES = 128,
    RING_COMPLETIONS = 512,
    SEND_BUFFER = 4 << 20,
    TRAINS_UNDER_WAY = 4, /* of a group; the slots beyond are for beats, so that they go on whatever happens */
    BELL = TRAIN_USER_DATA_LIMIT,
    CANCEL,
    WAIT_SPANS =
        4, /* group spans waited for the rest of a group: reading at a quarter of the rate still fills groups */
};

struct send_stage {
    struct send_setup setup;
    uint64_t rate_bits_per_s;
    int fd;
    struct socket_address to;
    struct worker *worker;
    sem_t started;
    enum status start_status;
    atomic_bool stopping, carrier;

    /* The thread's own. */
    struct io_uring ring;
    bool bell_watched;
    struct linkkey *key;
    struct train_yard *yard;
    struct fec_cache *codes;
    struct pace pace;
    struct group_set set;
    struct group beat;
    struct block beat_block;
    uint64_t beat_due_ns, beat_number;
    uint64_t next_sbn, next_sequence;
    uint64_t taken; /* blocks popped from `filled` */
    bool was_idle;
    struct carrier *watch; /* NULL: it does not matter */
    uint32_t losses;       /* of the carrier, when it was last known to be there */
    bool down;             /* it is not, or not for long */
    uint64_t look_ns;      /* when to look for it again */

    struct send_counters counters; /* the thread's; published below */
    _Atomic uint64_t published[9];
    atomic_int last_errno;
};

static uint64_t lane_rate(const struct config *config)
{
    uint64_t rate = config->rate_bits_per_s / config->lanes;
    return rate > 0 ? rate : 1;
}

uint64_t send_group_span_ns(const struct config *config)
{
    uint64_t datagrams = (uint64_t)config->depth * (config->source_symbols + config->repair_symbols);
    bool ipv6 = socket_address_is_ipv6(&config->peer);
    return pace_span_ns(lane_rate(config), datagrams * datagram_wire_bits(config->symbol_size, ipv6));
}

static void publish(struct send_stage *stage)
{
    struct train_counters trains;
    train_counters(stage->yard, &trains);
    const uint64_t values[] = {trains.datagrams,           stage->counters.blocks, stage->counters.groups,
                               trains.wire_bytes,          trains.errors,          trains.message_too_long,
                               stage->counters.heartbeats, trains.last_error_ns,   trains.segmentation_refused};
    _Static_assert(sizeof values == sizeof stage->published, "every counter has its place");
    for (size_t i = 0; i < sizeof values / sizeof *values; i++)
        atomic_store_explicit(&stage->published[i], values[i], memory_order_relaxed);
    atomic_store_explicit(&stage->last_errno, trains.last_errno, memory_order_relaxed);
}

void send_counters(const struct send_stage *stage, struct send_counters *counters)
{
    uint64_t values[9];
    for (size_t i = 0; i < sizeof values / sizeof *values; i++)
        values[i] = atomic_load_explicit(&stage->published[i], memory_order_relaxed);
    *counters = (struct send_counters){.datagrams = values[0],
                                       .blocks = values[1],
                                       .groups = values[2],
                                       .wire_bytes = values[3],
                                       .errors = values[4],
                                       .message_too_long = values[5],
                                       .heartbeats = values[6],
                                       .last_error_ns = values[7],
                                       .segmentation_refused = values[8],
                                       .last_errno = atomic_load_explicit(&stage->last_errno, memory_order_relaxed)};
}

/* How many datagrams of the group may leave at once. */
static unsigned train_length(const struct send_stage *stage, const struct group *group)
{
    uint64_t bits = datagram_wire_bits(group->symbol_size, socket_address_is_ipv6(&stage->to));
    uint64_t by_time = TRAIN_SPAN_NS / pace_span_ns(stage->rate_bits_per_s, bits);
    unsigned limit = interleave_train_limit(group->count, group_repair_min(group));
    if (limit > train_limit(group->symbol_size))
        limit = train_limit(group->symbol_size);
    if (limit > by_time)
        limit = by_time > 0 ? (unsigned)by_time : 1;
    return limit;
}

/* Sends the next train of the group, if one may leave now. */
static bool send_train(struct send_stage *stage, struct group *group, uint64_t now_ns)
{
    bool is_beat = group == &stage->beat;
    uint16_t index;
    uint8_t esi;
    if (interleave_is_done(&group->order) || now_ns < pace_ready_ns(&stage->pace))
        return false;
    if (!is_beat && group->under_way >= TRAINS_UNDER_WAY)
        return false;
    if (!train_begin(stage->yard, group->symbol_size, is_beat, &group->under_way))
        return false;
    struct datagram datagram = {.flags = stage->key != NULL ? DATAGRAM_FLAG_SEALED : 0,
                                .lane = (uint8_t)stage->setup.lane->index,
                                .sender_id = stage->setup.sender_id,
                                .epoch = stage->setup.epoch,
                                .salt = stage->setup.salt};
    unsigned limit = train_length(stage, group), count = 0;
    while (count < limit && interleave_next(&group->order, &index, &esi)) {
        group_expect(group, (uint16_t)(index + 1), esi);
        group_fill(group, index, esi, &datagram);
        datagram.sequence = stage->next_sequence++;
        train_add(stage->yard, &datagram, group->blocks[index]->symbols + (size_t)esi * group->symbol_size);
        count++;
    }
    train_go(stage->yard);
    /* The clock anew, behind the call that sends: so a train counts at the interface no later than with the pacer. */
    pace_sent(&stage->pace, count * datagram_wire_bits(group->symbol_size, socket_address_is_ipv6(&stage->to)),
              clock_monotonic_ns());
    return true;
}

static bool group_is_out(const struct group *group)
{
    return interleave_is_done(&group->order) && group->under_way == 0;
}

static void return_block(void *context, struct block *block)
{
    struct send_stage *stage = context;
    bool pushed = queue_push(stage->setup.lane->empty, block);
    assert(pushed);
    (void)pushed;
    atomic_fetch_add(&stage->setup.lane->returned, 1);
}

static void end_sending(struct send_stage *stage, uint64_t now_ns)
{
    struct lane *lane = stage->setup.lane;
    unsigned first_time = group_end(&stage->set, now_ns, return_block, stage);
    if (first_time > 0) {
        stage->counters.groups++;
        stage->counters.blocks += first_time;
        publish(stage);
        atomic_fetch_add(&lane->sent, first_time);
    }
    atomic_store(&lane->settled, group_settled(&stage->set));
    doorbell_ring(lane->read_bell);
}

/* Takes one block out of the queue, so that encoding fills the pauses between trains. */
static bool take_block(struct send_stage *stage, uint64_t now_ns)
{
    if (!group_has_room(&stage->set))
        return false;
    struct block *block = queue_pop(stage->setup.lane->filled);
    if (block == NULL)
        return false;
    encode_block(stage->codes, block);
    group_add(&stage->set, block, now_ns);
    stage->taken++;
    return true;
}

/* Nothing will come soon behind the blocks that were taken. */
static bool is_flushed(const struct send_stage *stage)
{
    return atomic_load(&stage->setup.lane->flush) >= stage->taken && queue_count(stage->setup.lane->filled) == 0;
}

static void start_beat(struct send_stage *stage, uint64_t now_ns)
{
    struct block *block = &stage->beat_block;
    bool padded = ++stage->beat_number % HEARTBEAT_PADDED_EACH == 0;
    int64_t realtime_ns = clock_realtime_ns();
    atomic_fetch_add(&stage->setup.lane->beat_blocks,
                     1); /* before the facts are taken: who leaves now is in the next */
    stage->beat_due_ns += HEARTBEAT_INTERVAL_NS;
    if (stage->beat_due_ns <= now_ns)
        stage->beat_due_ns = now_ns + HEARTBEAT_INTERVAL_NS;
    block->source_symbols = heartbeat_build(stage->setup.heartbeat, padded, realtime_ns > 0 ? realtime_ns : 0,
                                            block->symbols, &block->symbol_size);
    block->repair_symbols = datagram_repair_for(block->source_symbols, (uint8_t)stage->setup.config->source_symbols,
                                                (uint8_t)stage->setup.config->repair_symbols);
    encode_block(stage->codes, block);
    stage->beat.blocks[0] = block;
    stage->beat.count = 1;
    group_begin(&stage->beat, stage->next_sbn++);
}

/* A beat waits for the end of a group, so as not to disturb the order of blocks, but not for long. */
static bool beat_is_due(const struct send_stage *stage, uint64_t now_ns)
{
    if (stage->beat.count > 0)
        return false;
    return now_ns >= stage->beat_due_ns + (stage->set.sending->count > 0 ? BEAT_PATIENCE_NS : 0);
}

/* The kernel tells of a loss up to a second late, but counts it at once. */
static bool carrier_was_lost(struct send_stage *stage)
{
    if (stage->watch == NULL)
        return false;
    carrier_ask(stage->watch);
    return !carrier_is_up(stage->watch) || carrier_losses(stage->watch) != stage->losses;
}

/* One step of work; false when there is nothing to do before *deadline_ns or an event. */
static bool step(struct send_stage *stage, uint64_t now_ns)
{
    if (beat_is_due(stage, now_ns)) {
        start_beat(stage, now_ns);
        return true;
    }
    if (stage->beat.count > 0) {
        if (send_train(stage, &stage->beat, now_ns))
            return true;
        if (group_is_out(&stage->beat)) {
            stage->beat.count = 0;
            stage->counters.heartbeats++;
            publish(stage);
            return true;
        }
    }
    if (stage->set.sending->count > 0) {
        if (interleave_is_done(&stage->beat.order) && send_train(stage, stage->set.sending, now_ns))
            return true;
        if (group_is_out(stage->set.sending)) {
            stage->down = carrier_was_lost(stage);
            if (!stage->down)
                end_sending(stage, now_ns);
            return true;
        }
        return take_block(stage, now_ns);
    }
    if (group_start(&stage->set, is_flushed(stage), &stage->next_sbn, now_ns)) {
        if (stage->was_idle)
            pace_resume(&stage->pace, now_ns);
        stage->was_idle = false;
        return true;
    }
    return take_block(stage, now_ns);
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t deadline_ns(const struct send_stage *stage)
{
    if (stage->down)
        return atomic_load(&stage->carrier) ? stage->look_ns : UINT64_MAX;
    uint64_t earliest_ns = train_retry_ns(stage->yard);
    if (stage->beat.count == 0)
        earliest_ns = earlier(earliest_ns, stage->beat_due_ns + (stage->set.sending->count > 0 ? BEAT_PATIENCE_NS : 0));
    bool beating = stage->beat.count > 0 && !interleave_is_done(&stage->beat.order);
    bool sending = stage->set.sending->count > 0 && !interleave_is_done(&stage->set.sending->order) &&
                   stage->set.sending->under_way < TRAINS_UNDER_WAY;
    if (beating || sending)
        return earlier(earliest_ns, pace_ready_ns(&stage->pace));
    if (stage->set.sending->count > 0)
        return earliest_ns;
    return earlier(earliest_ns, group_deadline_ns(&stage->set, stage->next_sbn));
}

static void reap(struct send_stage *stage)
{
    struct io_uring_cqe *cqe;
    while (io_uring_peek_cqe(&stage->ring, &cqe) == 0) {
        uint64_t user_data = io_uring_cqe_get_data64(cqe);
        int result = cqe->res;
        io_uring_cqe_seen(&stage->ring, cqe);
        if (user_data == BELL)
            stage->bell_watched = false;
        else if (user_data != CANCEL)
            train_completed(stage->yard, user_data, result, clock_monotonic_ns());
    }
}

static void wait(struct send_stage *stage, uint64_t deadline)
{
    publish(stage);
    if (!stage->bell_watched) {
        struct io_uring_sqe *sqe = ring_sqe(&stage->ring);
        io_uring_prep_poll_add(sqe, doorbell_fd(stage->setup.lane->send_bell), POLLIN);
        io_uring_sqe_set_data64(sqe, BELL);
        stage->bell_watched = true;
    }
    ring_wait(&stage->ring, clock_monotonic_ns(), deadline);
}

/*
 * Told by the control thread or found at the end of a group. The carrier counts as back when it was there at two looks
 * and not lost between them. What was sent meanwhile is lost: the group under way starts anew; those that are held are
 * repeated anyway.
 */
static bool link_is_up(struct send_stage *stage, uint64_t now_ns)
{
    struct group *group = stage->set.sending;
    if (!atomic_load(&stage->carrier)) {
        stage->down = true;
        return false;
    }
    if (!stage->down)
        return true;
    if (now_ns < stage->look_ns)
        return false;
    if (carrier_was_lost(stage)) {
        stage->losses = carrier_losses(stage->watch);
        stage->look_ns = now_ns + CARRIER_LOOK_NS;
        return false;
    }
    stage->down = false;
    if (group->count > 0)
        interleave_start(&group->order, group->totals, group->count);
    stage->beat_due_ns = now_ns;
    pace_resume(&stage->pace, now_ns);
    return true;
}

static bool round_of_work(struct send_stage *stage)
{
    uint64_t now_ns = clock_monotonic_ns();
    reap(stage);
    if (!link_is_up(stage, now_ns))
        return take_block(stage, now_ns);
    train_retry(stage->yard, now_ns);
    return step(stage, now_ns);
}

/* The kernel must not hold on to buffers that will be freed. */
static void leave_ring(struct send_stage *stage)
{
    if (train_submitted(stage->yard) > 0) {
        struct io_uring_sqe *sqe = ring_sqe(&stage->ring);
        io_uring_prep_cancel64(sqe, 0, IORING_ASYNC_CANCEL_ANY | IORING_ASYNC_CANCEL_ALL);
        io_uring_sqe_set_data64(sqe, CANCEL);
    }
    while (train_submitted(stage->yard) > 0) {
        ring_wait(&stage->ring, clock_monotonic_ns(), UINT64_MAX);
        reap(stage);
    }
}

static void loop(struct send_stage *stage)
{
    struct doorbell *bell = stage->setup.lane->send_bell;
    while (!atomic_load(&stage->stopping)) {
        if (round_of_work(stage))
            continue;
        doorbell_arm(bell);
        if (!round_of_work(stage) && !atomic_load(&stage->stopping)) {
            /* Who waits for blocks of a transfer that goes on is late, not idle. */
            if (stage->set.sending->count == 0 && is_flushed(stage))
                stage->was_idle = true;
            wait(stage, deadline_ns(stage));
        }
        doorbell_disarm(bell);
    }
    leave_ring(stage);
    publish(stage);
}

static void run(void *context)
{
    struct send_stage *stage = context;
    /* The default slack of 50 us is a train at 10 Gbit/s. */
    (void)prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL);
    enum status status = stage->start_status = ring_open(RING_ENTRIES, RING_COMPLETIONS, RING_SENDS, &stage->ring);
    sem_post(&stage->started);
    if (status != STATUS_OK)
        return;
    uint64_t now_ns = clock_monotonic_ns();
    bool ipv6 = socket_address_is_ipv6(&stage->to);
    uint64_t datagram_ns =
        pace_span_ns(stage->rate_bits_per_s, datagram_wire_bits(stage->setup.config->symbol_size, ipv6));
    /* At low rates a train is one datagram, and another one may be made up for. */
    pace_init(&stage->pace, stage->rate_bits_per_s, datagram_ns > CREDIT_NS ? datagram_ns : CREDIT_NS,
              stage->setup.config->burst_ns, now_ns);
    stage->codes = fec_cache_create();
    stage->yard = train_create(&stage->ring, stage->fd, &stage->to, stage->key);
    stage->beat_due_ns = now_ns;
    loop(stage);
    ring_close(&stage->ring);
    train_destroy(stage->yard);
    fec_cache_destroy(stage->codes);
}

static enum status open_socket(struct send_stage *stage)
{
    struct passed *passed = stage->setup.config->passed;
    if (passed == NULL)
        return socket_open_sender(&stage->to, SEND_BUFFER, &stage->fd);
    int fd = passed_socket(passed, socket_address_is_ipv6(&stage->to));
    if (fd < 0)
        return STATUS_INVALID;
    enum status status = socket_adopt_sender(fd, &stage->to, SEND_BUFFER);
    stage->fd = status == STATUS_OK ? fd : -1;
    return status;
}

enum status send_create(const struct send_setup *setup, struct send_stage **stage)
{
    const struct config *config = setup->config;
    *stage = NULL;
    struct send_stage *made = calloc(1, sizeof *made);
    assert(made != NULL);
    made->setup = *setup;
    made->fd = -1;
    made->rate_bits_per_s = lane_rate(config);
    group_set_init(&made->set, config->depth, (uint8_t)config->source_symbols, (uint8_t)config->repair_symbols,
                   send_group_span_ns(config), config->burst_ns);
    group_init(&made->beat, 1);
    made->beat_block.symbols = malloc(HEARTBEAT_PAYLOAD_SIZE + (size_t)LIMIT_REPAIR_SYMBOLS * config->symbol_size);
    assert(made->beat_block.symbols != NULL);
    made->was_idle = true;
    atomic_store(&made->carrier, true);
    sem_init(&made->started, 0, 0);
    if (setup->secret != NULL)
        made->key = linkkey_create(setup->secret);
    made->setup.secret = NULL;
    bool port_fits = socket_address_lane(&config->peer, setup->lane->index, &made->to);
    assert(port_fits);
    (void)port_fits;
    enum status status = open_socket(made);
    if (status == STATUS_OK && config->carrier_required && config->interface[0] != '\0')
        status = carrier_open(config->interface, config->passed, &made->watch);
    if (made->watch != NULL)
        made->losses = carrier_losses(made->watch);
    if (status != STATUS_OK) {
        send_destroy(made);
        return status;
    }
    *stage = made;
    return STATUS_OK;
}

enum status send_start(struct send_stage *stage)
{
    enum status status = worker_start_nice("send", WORKER_TIMED, run, stage, &stage->worker);
    if (status == STATUS_OK) {
        worker_pin(stage->worker, &stage->setup.config->cpus, 1 + stage->setup.lane->index);
        while (sem_wait(&stage->started) != 0)
            continue;
        status = stage->start_status;
    }
    if (status != STATUS_OK)
        log_error("the send stage of lane %u can't start", stage->setup.lane->index);
    return status;
}

void send_set_carrier(struct send_stage *stage, bool up)
{
    atomic_store(&stage->carrier, up);
    doorbell_ring(stage->setup.lane->send_bell);
}

void send_stop(struct send_stage *stage)
{
    atomic_store(&stage->stopping, true);
    doorbell_ring(stage->setup.lane->send_bell);
    worker_join(stage->worker);
    stage->worker = NULL;
}

void send_destroy(struct send_stage *stage)
{
    if (stage == NULL)
        return;
    assert(stage->worker == NULL);
    group_set_deinit(&stage->set);
    group_deinit(&stage->beat);
    free(stage->beat_block.symbols);
    linkkey_destroy(stage->key);
    carrier_close(stage->watch);
    if (stage->fd >= 0)
        close(stage->fd);
    sem_destroy(&stage->started);
    free(stage);
}
