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
#include "sender/encode.h"
#include "sender/interleave.h"
#include "sender/pace.h"

#define TRAIN_SPAN_NS    CLOCK_MILLISECOND_NS         /* most that one train takes on the link */
#define BURST_SPAN_NS    (2 * CLOCK_MILLISECOND_NS)   /* train and credit together */
#define WAIT_NS          (20 * CLOCK_MILLISECOND_NS)  /* for the rest of a group, at least */
#define REPEAT_MARGIN_NS (2 * CLOCK_MILLISECOND_NS)   /* behind a burst */
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

/* Blocks that are sent interleaved. */
struct group {
    struct block **blocks; /* [depth] */
    uint8_t *totals;       /* k + r of each */
    uint16_t count;
    uint16_t symbol_size;
    uint16_t train_limit; /* datagrams */
    bool is_repeat, is_beat;
    uint64_t first_sbn;
    uint64_t since_ns; /* filling: first block; held: end of the first sending */
    struct interleave order;
    unsigned under_way; /* trains */
};

struct send_stage {
    struct send_setup setup;
    uint64_t rate_bits_per_s;
    uint64_t wait_ns, repeat_after_ns;
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
    struct group groups[3];
    struct group *filling, *sending, *held; /* distinct ones of `groups`; count 0: none */
    struct group beat;
    struct block beat_block;
    struct block *beat_blocks[1];
    uint8_t beat_totals[1];
    uint64_t beat_due_ns, beat_number;
    uint64_t next_sbn, next_sequence;
    uint64_t taken; /* blocks popped from `filled` */
    bool was_idle, carrier_was_up;

    struct send_counters counters; /* the thread's; published below */
    _Atomic uint64_t published[8];
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
                               stage->counters.heartbeats, trains.last_error_ns};
    _Static_assert(sizeof values == sizeof stage->published, "every counter has its place");
    for (size_t i = 0; i < sizeof values / sizeof *values; i++)
        atomic_store_explicit(&stage->published[i], values[i], memory_order_relaxed);
    atomic_store_explicit(&stage->last_errno, trains.last_errno, memory_order_relaxed);
}

void send_counters(const struct send_stage *stage, struct send_counters *counters)
{
    uint64_t values[8];
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
                                       .last_errno = atomic_load_explicit(&stage->last_errno, memory_order_relaxed)};
}

/* Fixes what all datagrams of a group share, and starts its first (or only) sending. */
static void begin_group(struct send_stage *stage, struct group *group)
{
    uint8_t repair_min = UINT8_MAX;
    for (uint16_t i = 0; i < group->count; i++) {
        const struct block *block = group->blocks[i];
        group->totals[i] = (uint8_t)(block->source_symbols + block->repair_symbols);
        repair_min = block->repair_symbols < repair_min ? block->repair_symbols : repair_min;
    }
    group->symbol_size = group->blocks[0]->symbol_size;
    bool ipv6 = socket_address_is_ipv6(&stage->to);
    uint64_t by_time =
        TRAIN_SPAN_NS / pace_span_ns(stage->rate_bits_per_s, datagram_wire_bits(group->symbol_size, ipv6));
    unsigned limit = interleave_train_limit(group->count, repair_min);
    if (limit > train_limit(group->symbol_size))
        limit = train_limit(group->symbol_size);
    if (limit > by_time)
        limit = by_time > 0 ? (unsigned)by_time : 1;
    group->train_limit = (uint16_t)limit;
    group->first_sbn = stage->next_sbn;
    stage->next_sbn += group->count;
    group->is_repeat = false;
    interleave_start(&group->order, group->totals, group->count);
}

/* Sends the next train of the group, if one may leave now. */
static bool send_train(struct send_stage *stage, struct group *group, uint64_t now_ns)
{
    uint16_t index;
    uint8_t esi;
    if (interleave_is_done(&group->order) || now_ns < pace_ready_ns(&stage->pace))
        return false;
    if (!group->is_beat && group->under_way >= TRAINS_UNDER_WAY)
        return false;
    if (!train_begin(stage->yard, group->symbol_size, group->is_beat, &group->under_way))
        return false;
    struct datagram datagram = {.flags = stage->key != NULL ? DATAGRAM_FLAG_SEALED : 0,
                                .lane = (uint8_t)stage->setup.lane->index,
                                .symbol_size = group->symbol_size,
                                .sender_id = stage->setup.sender_id,
                                .depth = group->count,
                                .epoch = stage->setup.epoch,
                                .salt = stage->setup.salt};
    unsigned count = 0;
    while (count < group->train_limit && interleave_next(&group->order, &index, &esi)) {
        const struct block *block = group->blocks[index];
        datagram.source_symbols = block->source_symbols;
        datagram.repair_symbols = block->repair_symbols;
        datagram.esi = esi;
        datagram.group_index = index;
        datagram.sequence = stage->next_sequence++;
        datagram.sbn = group->first_sbn + index;
        datagram.block_hash = block->block_hash;
        train_add(stage->yard, &datagram, block->symbols + (size_t)esi * group->symbol_size);
        count++;
    }
    pace_sent(&stage->pace, count * datagram_wire_bits(group->symbol_size, socket_address_is_ipv6(&stage->to)), now_ns);
    train_go(stage->yard);
    return true;
}

static bool group_is_out(const struct group *group)
{
    return interleave_is_done(&group->order) && group->under_way == 0;
}

static void return_blocks(struct send_stage *stage, struct group *group)
{
    struct lane *lane = stage->setup.lane;
    for (uint16_t i = 0; i < group->count; i++) {
        bool pushed = queue_push(lane->empty, group->blocks[i]);
        assert(pushed);
        (void)pushed;
    }
    atomic_fetch_add(&lane->returned, group->count);
    group->count = 0;
    doorbell_ring(lane->read_bell);
}

/* Much less than a full group has little diversity in time: a burst that it should survive may take all of it. */
static bool is_short(const struct send_stage *stage, const struct group *group)
{
    const struct config *config = stage->setup.config;
    unsigned full = (unsigned)config->depth * (config->source_symbols + config->repair_symbols);
    unsigned symbols = 0;
    for (uint16_t i = 0; i < group->count; i++)
        symbols += (unsigned)group->blocks[i]->source_symbols + group->blocks[i]->repair_symbols;
    return symbols < full - full / 8;
}

static void end_sending(struct send_stage *stage, uint64_t now_ns)
{
    struct group *group = stage->sending;
    struct lane *lane = stage->setup.lane;
    if (group->is_repeat) {
        return_blocks(stage, group);
        return;
    }
    stage->counters.groups++;
    stage->counters.blocks += group->count;
    publish(stage);
    atomic_fetch_add(&lane->sent, group->count);
    if (!is_short(stage, group)) {
        return_blocks(stage, group);
        return;
    }
    assert(stage->held->count == 0);
    group->since_ns = now_ns;
    stage->sending = stage->held;
    stage->held = group;
    doorbell_ring(lane->read_bell);
}

/* Takes one block out of the queue, so that encoding fills the pauses between trains. */
static bool take_block(struct send_stage *stage, uint64_t now_ns)
{
    struct group *group = stage->filling;
    if (group->count == stage->setup.config->depth)
        return false;
    struct block *block = queue_pop(stage->setup.lane->filled);
    if (block == NULL)
        return false;
    block->block_hash =
        encode_block(stage->codes, block->symbols, block->source_symbols, block->repair_symbols, block->symbol_size);
    if (group->count == 0)
        group->since_ns = now_ns;
    group->blocks[group->count++] = block;
    stage->taken++;
    return true;
}

/* Nothing will come soon behind the blocks that were taken. */
static bool is_flushed(const struct send_stage *stage)
{
    return atomic_load(&stage->setup.lane->flush) >= stage->taken && queue_count(stage->setup.lane->filled) == 0;
}

/*
 * Starts the next group, when there is one: a due repeat, a full group, or a short one for which nothing more will come
 * soon. Only one repeat can be pending, so a short group waits for the one before to be repeated.
 */
static bool start_next(struct send_stage *stage, uint64_t now_ns)
{
    struct group *filling = stage->filling, *held = stage->held;
    if (held->count > 0 && now_ns >= held->since_ns + stage->repeat_after_ns) {
        stage->held = stage->sending;
        stage->sending = held;
        held->is_repeat = true;
        interleave_start(&held->order, held->totals, held->count);
        return true;
    }
    if (filling->count == 0)
        return false;
    bool complete = filling->count == stage->setup.config->depth || is_flushed(stage);
    if (!complete && now_ns < filling->since_ns + stage->wait_ns)
        return false;
    if (held->count > 0 && is_short(stage, filling))
        return false;
    stage->filling = stage->sending;
    stage->sending = filling;
    begin_group(stage, filling);
    return true;
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
    block->block_hash =
        encode_block(stage->codes, block->symbols, block->source_symbols, block->repair_symbols, block->symbol_size);
    stage->beat.count = 1;
    begin_group(stage, &stage->beat);
}

/* A beat waits for the end of a group, so as not to disturb the order of blocks, but not for long. */
static bool beat_is_due(const struct send_stage *stage, uint64_t now_ns)
{
    if (stage->beat.count > 0)
        return false;
    return now_ns >= stage->beat_due_ns + (stage->sending->count > 0 ? BEAT_PATIENCE_NS : 0);
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
    if (stage->sending->count > 0) {
        if (interleave_is_done(&stage->beat.order) && send_train(stage, stage->sending, now_ns))
            return true;
        if (group_is_out(stage->sending)) {
            end_sending(stage, now_ns);
            return true;
        }
        return take_block(stage, now_ns);
    }
    if (start_next(stage, now_ns)) {
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
    uint64_t earliest_ns = train_retry_ns(stage->yard);
    if (stage->beat.count == 0)
        earliest_ns = earlier(earliest_ns, stage->beat_due_ns + (stage->sending->count > 0 ? BEAT_PATIENCE_NS : 0));
    bool beating = stage->beat.count > 0 && !interleave_is_done(&stage->beat.order);
    bool sending = stage->sending->count > 0 && !interleave_is_done(&stage->sending->order) &&
                   stage->sending->under_way < TRAINS_UNDER_WAY;
    if (beating || sending)
        return earlier(earliest_ns, pace_ready_ns(&stage->pace));
    if (stage->sending->count > 0)
        return earliest_ns;
    if (stage->held->count > 0)
        earliest_ns = earlier(earliest_ns, stage->held->since_ns + stage->repeat_after_ns);
    else if (stage->filling->count > 0)
        earliest_ns = earlier(earliest_ns, stage->filling->since_ns + stage->wait_ns);
    return earliest_ns;
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

/* What was sent since the carrier went is lost: the group under way starts anew; a held one is repeated anyway. */
static void carrier_is_back(struct send_stage *stage, uint64_t now_ns)
{
    if (stage->sending->count > 0)
        interleave_start(&stage->sending->order, stage->sending->totals, stage->sending->count);
    stage->beat_due_ns = now_ns;
    pace_resume(&stage->pace, now_ns);
}

static bool round_of_work(struct send_stage *stage)
{
    uint64_t now_ns = clock_monotonic_ns();
    reap(stage);
    bool carrier = atomic_load(&stage->carrier);
    if (carrier && !stage->carrier_was_up)
        carrier_is_back(stage, now_ns);
    stage->carrier_was_up = carrier;
    if (!carrier)
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
            if (stage->sending->count == 0)
                stage->was_idle = true;
            wait(stage, atomic_load(&stage->carrier) ? deadline_ns(stage) : UINT64_MAX);
        }
        doorbell_disarm(bell);
    }
    leave_ring(stage);
    publish(stage);
}

static void make_groups(struct send_stage *stage)
{
    const struct config *config = stage->setup.config;
    for (unsigned i = 0; i < 3; i++) {
        stage->groups[i].blocks = calloc(config->depth, sizeof *stage->groups[i].blocks);
        stage->groups[i].totals = calloc(config->depth, sizeof *stage->groups[i].totals);
        assert(stage->groups[i].blocks != NULL && stage->groups[i].totals != NULL);
    }
    stage->filling = &stage->groups[0];
    stage->sending = &stage->groups[1];
    stage->held = &stage->groups[2];
    stage->beat = (struct group){.blocks = stage->beat_blocks, .totals = stage->beat_totals, .is_beat = true};
    stage->beat_blocks[0] = &stage->beat_block;
    stage->beat_block.symbols = malloc(HEARTBEAT_PAYLOAD_SIZE + (size_t)LIMIT_REPAIR_SYMBOLS * config->symbol_size);
    assert(stage->beat_block.symbols != NULL);
}

static void destroy_groups(struct send_stage *stage)
{
    for (unsigned i = 0; i < 3; i++) {
        free(stage->groups[i].blocks);
        free(stage->groups[i].totals);
    }
    free(stage->beat_block.symbols);
}

static void run(void *context)
{
    struct send_stage *stage = context;
    /* The default slack of 50 us is a train at 10 Gbit/s. */
    (void)prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL);
    enum status status = stage->start_status = ring_open(RING_ENTRIES, RING_COMPLETIONS, &stage->ring);
    sem_post(&stage->started);
    if (status != STATUS_OK)
        return;
    uint64_t now_ns = clock_monotonic_ns();
    bool ipv6 = socket_address_is_ipv6(&stage->to);
    uint64_t datagram_ns =
        pace_span_ns(stage->rate_bits_per_s, datagram_wire_bits(stage->setup.config->symbol_size, ipv6));
    /* At low rates a train is one datagram, and another one may be made up for. */
    pace_init(&stage->pace, stage->rate_bits_per_s,
              datagram_ns > TRAIN_SPAN_NS ? datagram_ns : BURST_SPAN_NS - TRAIN_SPAN_NS, now_ns);
    stage->codes = fec_cache_create();
    stage->yard = train_create(&stage->ring, stage->fd, &stage->to, stage->key);
    stage->beat_due_ns = now_ns;
    loop(stage);
    ring_close(&stage->ring);
    train_destroy(stage->yard);
    fec_cache_destroy(stage->codes);
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
    made->wait_ns = WAIT_SPANS * send_group_span_ns(config);
    if (made->wait_ns < WAIT_NS)
        made->wait_ns = WAIT_NS;
    made->repeat_after_ns = config->burst_ns + config->burst_ns / 4 + REPEAT_MARGIN_NS;
    made->was_idle = made->carrier_was_up = true;
    atomic_store(&made->carrier, true);
    sem_init(&made->started, 0, 0);
    if (setup->secret != NULL)
        made->key = linkkey_create(setup->secret);
    made->setup.secret = NULL;
    make_groups(made);
    bool port_fits = socket_address_lane(&config->peer, setup->lane->index, &made->to);
    assert(port_fits);
    (void)port_fits;
    enum status status = socket_open_sender(&made->to, SEND_BUFFER, &made->fd);
    if (status != STATUS_OK) {
        send_destroy(made);
        return status;
    }
    *stage = made;
    return STATUS_OK;
}

enum status send_start(struct send_stage *stage)
{
    enum status status = worker_start("send", run, stage, &stage->worker);
    if (status == STATUS_OK) {
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
    destroy_groups(stage);
    linkkey_destroy(stage->key);
    if (stage->fd >= 0)
        close(stage->fd);
    sem_destroy(&stage->started);
    free(stage);
}
