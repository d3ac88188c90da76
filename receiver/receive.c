// SPDX-License-Identifier: Apache-2.0
#include "receiver/receive.h"

#include <assert.h>
#include <errno.h>
#include <netinet/udp.h>
#include <poll.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/descriptors.h"
#include "common/log.h"
#include "common/ring.h"
#include "common/units.h"
#include "common/worker.h"
#include "receiver/buffers.h"
#include "receiver/epochs.h"
#include "receiver/progress.h"
#include "receiver/receive_private.h"

enum { SUBMISSIONS = 8 };
#define PUBLISH_NS (10 * CLOCK_MILLISECOND_NS)  /* between two looks at what has passed, while something changes */
#define RETURN_NS  (50 * CLOCK_MILLISECOND_NS)  /* until blocks that are out are looked for, when nothing arrives */
#define LOOK_NS    (5 * CLOCK_MILLISECOND_NS)   /* between two looks at the socket's room, while the rest waits in it */
#define TURN_NS    CLOCK_SECOND_NS              /* longest sleep */
#define HASTE_NS   (500 * CLOCK_MILLISECOND_NS) /* of a stop, that later stages have to take what is in the ring */
#define RETRY_NS   (100 * CLOCK_MILLISECOND_NS)

enum completion { COMPLETION_RECEIVE = 1, COMPLETION_BELL, COMPLETION_CANCEL };

struct receive {
    unsigned lane;
    int fd;
    uint32_t socket_buffer;
    struct buffers *buffers;
    uint64_t arena_size;
    struct epochs *epochs;
    const struct lane_progress *progress;
    struct linkkey *key;
    struct queue *ready, *done;
    size_t queue_capacity;
    const struct cpus *cpus;
    struct doorbell *store_bell;

    struct worker *worker;
    struct doorbell *bell;      /* for the stop */
    struct doorbell *done_bell; /* rung when blocks come back */
    sem_t started;
    enum status start_status;
    bool separate; /* the socket is in the thread's own table of descriptors only */
    atomic_bool stopping;
    char name[16];
    struct receive_shared shared;
    struct key_use *key_use; /* NULL without a link key */

    /* The thread's. */
    bool receiving;
    bool in_haste;             /* waits for nothing: a stop takes too long */
    bool changed;              /* since the last publishing */
    uint32_t overflow_seen;    /* newest value of SO_RXQ_OVFL, which counts from the socket's beginning and wraps */
    uint64_t receive_after_ns; /* no earlier, after a failure */
    uint64_t publish_ns;
    uint64_t memory_drops; /* as of the last publishing */
    struct io_uring ring;
    struct msghdr message; /* what multishot recvmsg wants: sizes only */
    struct receive_counters counters;
    struct log_limit error_limit;
};

/* What arrived. */

static void drop(struct receive *receive, enum datagram_drop reason)
{
    receive->counters.drops[reason]++;
}

static void take_datagram(struct receive *receive, uint8_t *bytes, size_t size, uint64_t now_ns)
{
    struct datagram datagram;
    receive->counters.datagrams++;
    enum datagram_drop reason = datagram_parse(bytes, size, &datagram);
    if (reason == DATAGRAM_OK && datagram.lane != receive->lane)
        reason = DATAGRAM_DROP_LANE;
    if (reason == DATAGRAM_OK)
        reason = epochs_check(receive->epochs, &datagram);
    if (reason == DATAGRAM_OK)
        epochs_expect(receive->epochs, &datagram);
    if (reason == DATAGRAM_OK)
        reason = datagram_open(bytes, &datagram, receive->key);
    if (reason == DATAGRAM_OK)
        reason = epochs_push(receive->epochs, &datagram, bytes + DATAGRAM_HEADER_SIZE, now_ns);
    if (reason != DATAGRAM_OK)
        drop(receive, reason);
}

/* The segment size of a buffer that the kernel coalesced (0: one datagram), and what it says of its own drops. */
static size_t read_control(struct receive *receive, struct io_uring_recvmsg_out *out)
{
    size_t segment = 0;
    for (struct cmsghdr *control = io_uring_recvmsg_cmsg_firsthdr(out, &receive->message); control != NULL;
         control = io_uring_recvmsg_cmsg_nexthdr(out, &receive->message, control)) {
        if (control->cmsg_level == SOL_UDP && control->cmsg_type == UDP_GRO &&
            control->cmsg_len >= CMSG_LEN(sizeof(int))) {
            int value;
            memcpy(&value, CMSG_DATA(control), sizeof value);
            segment = value > 0 ? (size_t)value : 0;
        } else if (control->cmsg_level == SOL_SOCKET && control->cmsg_type == SO_RXQ_OVFL &&
                   control->cmsg_len >= CMSG_LEN(sizeof(uint32_t))) {
            uint32_t value;
            memcpy(&value, CMSG_DATA(control), sizeof value);
            /* What waited in the socket while nobody ran tells older values than the one we began with. */
            int32_t more = (int32_t)(value - receive->overflow_seen);
            if (more > 0) {
                receive->counters.kernel_socket_buffer += (uint32_t)more;
                receive->overflow_seen = value;
            }
        }
    }
    return segment;
}

static void take_buffer(struct receive *receive, uint8_t *buffer, int length, uint64_t now_ns)
{
    struct io_uring_recvmsg_out *out = io_uring_recvmsg_validate(buffer, length, &receive->message);
    if (out == NULL || (out->flags & MSG_TRUNC) != 0 || out->controllen > BUFFERS_CONTROL_SIZE) {
        receive->counters.datagrams++;
        drop(receive, DATAGRAM_DROP_TRUNCATED);
        return;
    }
    uint8_t *bytes = io_uring_recvmsg_payload(out, &receive->message);
    size_t size = io_uring_recvmsg_payload_length(out, length, &receive->message);
    size_t segment = read_control(receive, out);
    if (segment == 0 || segment > size)
        segment = size;
    if (size == 0)
        take_datagram(receive, bytes, 0, now_ns);
    for (size_t offset = 0; offset < size; offset += segment)
        take_datagram(receive, bytes + offset, size - offset < segment ? size - offset : segment, now_ns);
}

static void receive_failed(struct receive *receive, int error, uint64_t now_ns)
{
    if (error == ENOBUFS) {
        receive->counters.buffer_ring_exhausted++;
        return;
    }
    if (error == EINTR || error == EAGAIN || error == ECANCELED)
        return;
    receive->receive_after_ns = now_ns + RETRY_NS;
    uint64_t suppressed;
    if (log_limit_pass(&receive->error_limit, now_ns, &suppressed))
        log_error("lane %u: receiving fails: %s; retrying", receive->lane, strerror(error));
}

static void take_completion(struct receive *receive, const struct io_uring_cqe *cqe, uint64_t now_ns)
{
    if (cqe->user_data != COMPLETION_RECEIVE)
        return;
    if ((cqe->flags & IORING_CQE_F_MORE) == 0)
        receive->receiving = false;
    if (cqe->res < 0)
        receive_failed(receive, -cqe->res, now_ns);
    if ((cqe->flags & IORING_CQE_F_BUFFER) == 0)
        return;
    unsigned id = cqe->flags >> IORING_CQE_BUFFER_SHIFT;
    if (cqe->res >= 0)
        take_buffer(receive, buffers_at(receive->buffers, id), cqe->res, now_ns);
    buffers_recycle(receive->buffers, id);
    receive->changed = true;
}

/* Later stages are behind, and what arrives can wait in the socket. */
static bool is_behind(const struct receive *receive)
{
    return !receive->in_haste && epochs_are_crowded(receive->epochs) && socket_has_room(receive->fd);
}

static bool take_completions(struct receive *receive, uint64_t now_ns)
{
    struct io_uring_cqe *cqe;
    unsigned head, count = 0;
    io_uring_for_each_cqe(&receive->ring, head, cqe)
    {
        if (is_behind(receive))
            break;
        take_completion(receive, cqe, now_ns);
        count++;
    }
    io_uring_cq_advance(&receive->ring, count);
    return count > 0;
}

/* What goes on to later stages, and comes back. */

static void take_back(struct receive *receive)
{
    for (struct block *block; (block = queue_pop(receive->done)) != NULL;) {
        epochs_return(receive->epochs, block);
        receive->changed = true;
    }
}

static void hand_on(struct receive *receive, uint64_t now_ns)
{
    bool any = false;
    for (struct block *block; (block = epochs_pop(receive->epochs, now_ns)) != NULL; any = true) {
        /* The way back has the same length, so that it never fills. */
        if (epochs_held(receive->epochs) <= receive->queue_capacity && queue_push(receive->ready, block))
            continue;
        epochs_return(receive->epochs, block);
        receive->counters.store_queue_full++;
    }
    if (any)
        doorbell_ring(receive->store_bell);
}

/* What found no memory while the disk was behind is the disk's, and no more counted as memory's. */
static uint64_t attribute_drops(struct receive *receive, uint64_t dropped)
{
    if (progress_is_disk_behind(receive->progress, clock_monotonic_ns()))
        receive->counters.disk_too_slow += dropped - receive->memory_drops;
    receive->memory_drops = dropped;
    return dropped - receive->counters.disk_too_slow;
}

static void publish_counters(struct receive *receive)
{
    struct receive_counters told = receive->counters;
    struct epochs_totals totals;
    epochs_totals(receive->epochs, &totals);
    for (unsigned i = 0; i < DATAGRAM_DROP_COUNT; i++)
        told.drops[i] += totals.gathers.drops[i];
    told.drops[DATAGRAM_DROP_MEMORY] = attribute_drops(receive, told.drops[DATAGRAM_DROP_MEMORY]);
    told.disk_too_slow = receive->counters.disk_too_slow;
    told.lost = totals.gathers.lost;
    told.blocks_complete = totals.gathers.blocks_complete;
    told.blocks_given_up = totals.gathers.blocks_given_up;
    told.memory_needed = totals.gathers.memory_needed;
    told.last_datagram_ns = totals.last_datagram_ns;
    receive_shared_set(&receive->shared, &told);
}

static void publish(struct receive *receive, uint64_t now_ns)
{
    receive_shared_set_turns(&receive->shared, ++receive->counters.turns);
    if (!receive->changed || now_ns < receive->publish_ns)
        return;
    receive->changed = false;
    receive->publish_ns = now_ns + PUBLISH_NS;
    epochs_publish(receive->epochs, now_ns);
    publish_counters(receive);
    if (receive->key_use != NULL)
        key_use_note(receive->key_use, receive->key, receive->epochs, (uint8_t)receive->lane);
}

/* The thread. */

static void start_receiving(struct receive *receive, uint64_t now_ns)
{
    if (receive->receiving || now_ns < receive->receive_after_ns)
        return;
    struct io_uring_sqe *sqe = ring_sqe(&receive->ring);
    io_uring_prep_recvmsg_multishot(sqe, receive->fd, &receive->message, 0);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = BUFFERS_GROUP;
    sqe->user_data = COMPLETION_RECEIVE;
    receive->receiving = true;
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t deadline(const struct receive *receive, uint64_t now_ns)
{
    uint64_t deadline_ns = earlier(now_ns + TURN_NS, epochs_deadline_ns(receive->epochs));
    if (receive->changed)
        deadline_ns = earlier(deadline_ns, receive->publish_ns);
    if (epochs_held(receive->epochs) > 0)
        deadline_ns = earlier(deadline_ns, now_ns + RETURN_NS);
    if (!receive->receiving)
        deadline_ns = earlier(deadline_ns, receive->receive_after_ns);
    return deadline_ns;
}

/* The ring is left alone meanwhile: its buffers fill, and then the kernel leaves the rest in the socket. */
static void wait_for_blocks(struct receive *receive)
{
    doorbell_arm(receive->done_bell);
    take_back(receive);
    if (is_behind(receive))
        doorbell_wait(receive->done_bell, LOOK_NS);
    doorbell_disarm(receive->done_bell);
}

/* The request ends with a last completion, behind those of all buffers that it has filled. */
static void end_receiving(struct receive *receive)
{
    if (receive->receiving) {
        struct io_uring_sqe *sqe = ring_sqe(&receive->ring);
        io_uring_prep_cancel64(sqe, COMPLETION_RECEIVE, 0);
        sqe->user_data = COMPLETION_CANCEL;
    }
    uint64_t until_ns = clock_monotonic_ns() + HASTE_NS;
    do {
        uint64_t now_ns = clock_monotonic_ns();
        receive->in_haste = now_ns >= until_ns;
        if (is_behind(receive))
            wait_for_blocks(receive);
        else if (receive->receiving)
            ring_wait(&receive->ring, now_ns, now_ns + RETURN_NS);
        (void)take_completions(receive, now_ns);
        take_back(receive);
        hand_on(receive, now_ns);
    } while (receive->receiving || io_uring_cq_ready(&receive->ring) > 0);
}

static void loop(struct receive *receive)
{
    while (!atomic_load(&receive->stopping)) {
        uint64_t now_ns = clock_monotonic_ns();
        bool arrived = take_completions(receive, now_ns);
        take_back(receive);
        hand_on(receive, now_ns);
        epochs_settle(receive->epochs, now_ns);
        /* Deadlines pass without a datagram too: of blocks given up, and of what has passed by time. */
        receive->changed = receive->changed || !arrived;
        publish(receive, now_ns);
        if (is_behind(receive)) {
            wait_for_blocks(receive);
            continue;
        }
        start_receiving(receive, now_ns);
        ring_wait(&receive->ring, now_ns, deadline(receive, now_ns));
    }
    end_receiving(receive);
    epochs_release(receive->epochs);
    hand_on(receive, clock_monotonic_ns());
    epochs_publish(receive->epochs, clock_monotonic_ns());
    publish_counters(receive);
}

/*
 * The socket and the ring that can receive are out of the reach of all other threads, whose rings and system calls can
 * write: a write to a UDP socket sends.
 */
static enum status open_ring(struct receive *receive)
{
    const int kept[] = {receive->fd, doorbell_fd(receive->bell), doorbell_fd(receive->done_bell),
                        doorbell_fd(receive->store_bell)};
    enum status status = descriptors_separate(kept, sizeof kept / sizeof *kept);
    if (status == STATUS_OK)
        status = ring_prepare(SUBMISSIONS, 2 * buffers_count(receive->buffers), &receive->ring);
    if (status != STATUS_OK)
        return status;
    status = buffers_register(receive->buffers, &receive->ring);
    if (status != STATUS_OK)
        log_error("io_uring: the buffers of lane %u can't be registered: %s", receive->lane, strerror(errno));
    else
        status = ring_seal(&receive->ring, RING_RECEIVES);
    if (status != STATUS_OK) {
        ring_close(&receive->ring);
        return status;
    }
    doorbell_arm(receive->bell);
    struct io_uring_sqe *sqe = ring_sqe(&receive->ring);
    io_uring_prep_poll_add(sqe, doorbell_fd(receive->bell), POLLIN);
    sqe->user_data = COMPLETION_BELL;
    return STATUS_OK;
}

static void run(void *context)
{
    struct receive *receive = context;
    receive->start_status = open_ring(receive);
    bool good = receive->start_status == STATUS_OK;
    sem_post(&receive->started);
    if (!good)
        return;
    loop(receive);
    ring_close(&receive->ring);
    descriptors_close(receive->fd);
}

/* Making and ending it. */

uint64_t receive_memory_for(uint64_t arena, size_t senders)
{
    uint64_t arenas = senders * (uint64_t)epochs_share_for(arena);
    return arenas + buffers_bytes(8 * arenas);
}

static enum status make_memory(struct receive *receive, const struct receive_setup *setup)
{
    char text[UNITS_TEXT_SIZE];
    uint64_t buffers = buffers_bytes(setup->memory);
    assert(setup->memory > buffers);
    uint64_t share = (setup->memory - buffers) / trust_count(setup->trust);
    if (buffers_create(setup->memory, &receive->buffers) == STATUS_OK)
        receive->epochs = epochs_create((uint8_t)setup->lane, setup->trust, share, setup->progress);
    if (receive->epochs == NULL) {
        log_error("lane %u: %s of memory can't be had: %s; lower 'memory' or free some", setup->lane,
                  units_format_size(setup->memory, text), strerror(errno));
        return STATUS_SYSTEM;
    }
    receive->arena_size = epochs_arena_of(share);
    return STATUS_OK;
}

static enum status get_socket(struct receive *receive, const struct receive_setup *setup)
{
    int passed = receive->fd;
    receive->fd = -1;
    if (passed < 0)
        return socket_open_receiver(setup->address, RECEIVE_SOCKET_BUFFER, &receive->fd, &receive->socket_buffer);
    enum status status = socket_adopt_receiver(passed, setup->address, RECEIVE_SOCKET_BUFFER, &receive->socket_buffer);
    if (status != STATUS_OK)
        return status;
    receive->fd = passed;
    receive->overflow_seen = socket_drops(passed);
    return STATUS_OK;
}

static bool set_keys(struct receive *receive, const struct receive_setup *setup)
{
    if (setup->link_secret == NULL)
        return true;
    receive->key = linkkey_create(setup->link_secret);
    if (setup->link_secret_next != NULL)
        linkkey_add(receive->key, setup->link_secret_next, LIMIT_SYMBOL_SIZE);
    epochs_set_sealed(receive->epochs);
    receive->key_use = key_use_create(trust_count(setup->trust));
    return receive->key_use != NULL;
}

enum status receive_create(const struct receive_setup *setup, struct receive **receive)
{
    *receive = NULL;
    struct receive *made = calloc(1, sizeof *made);
    if (made == NULL) {
        if (setup->fd >= 0)
            close(setup->fd);
        return STATUS_SYSTEM;
    }
    made->fd = setup->fd;
    made->lane = setup->lane;
    made->ready = setup->ready;
    made->done = setup->done;
    made->queue_capacity = setup->queue_capacity;
    made->store_bell = setup->store_bell;
    made->progress = setup->progress;
    made->cpus = setup->cpus;
    made->message.msg_controllen = BUFFERS_CONTROL_SIZE;
    made->error_limit.interval_ns = 10 * CLOCK_SECOND_NS;
    snprintf(made->name, sizeof made->name, "receive %u", setup->lane);
    sem_init(&made->started, 0, 0);
    enum status status = make_memory(made, setup);
    if (status == STATUS_OK) {
        made->bell = doorbell_create();
        made->done_bell = doorbell_create();
        if (made->bell == NULL || made->done_bell == NULL || !set_keys(made, setup)) {
            log_error("lane %u can't be set up: %s", setup->lane, strerror(errno));
            status = STATUS_SYSTEM;
        }
    }
    if (status == STATUS_OK)
        status = get_socket(made, setup);
    if (status != STATUS_OK) {
        receive_destroy(made);
        return status;
    }
    *receive = made;
    return STATUS_OK;
}

enum status receive_start(struct receive *receive)
{
    enum status status = worker_start_nice(receive->name, WORKER_PUNCTUAL, run, receive, &receive->worker);
    if (status != STATUS_OK) {
        log_error("lane %u: a thread can't be started: %s", receive->lane, strerror(errno));
        return status;
    }
    worker_pin(receive->worker, receive->cpus, receive->lane);
    while (sem_wait(&receive->started) != 0)
        assert(errno == EINTR);
    receive->separate = receive->start_status == STATUS_OK;
    if (receive->separate)
        descriptors_close(receive->fd);
    return receive->start_status;
}

void receive_stop(struct receive *receive)
{
    if (receive == NULL || receive->worker == NULL)
        return;
    atomic_store(&receive->stopping, true);
    doorbell_ring(receive->bell);
    worker_join(receive->worker);
    receive->worker = NULL;
}

size_t receive_export(const struct receive *receive, struct handover_writer *writer)
{
    assert(receive->worker == NULL);
    const struct handover_record record = {.kind = HANDOVER_LANE, .lane = {receive->lane, receive->overflow_seen}};
    handover_writer_add(writer, &record);
    return epochs_export(receive->epochs, writer);
}

bool receive_import(struct receive *receive, const struct handover_record *record, uint64_t now_ns)
{
    assert(receive->worker == NULL);
    if (record->kind != HANDOVER_LANE)
        return epochs_import(receive->epochs, record, now_ns);
    /* What was dropped while nobody ran counts from there, unless the socket is a new one. */
    if ((int32_t)(receive->overflow_seen - record->lane.overflow_seen) > 0)
        receive->overflow_seen = record->lane.overflow_seen;
    return true;
}

size_t receive_open_blocks(const struct receive *receive)
{
    return epochs_open(receive->epochs);
}

void receive_give_up(struct receive *receive)
{
    assert(receive->worker == NULL);
    epochs_finish(receive->epochs);
    publish_counters(receive);
}

void receive_destroy(struct receive *receive)
{
    if (receive == NULL)
        return;
    assert(receive->worker == NULL);
    if (receive->epochs != NULL) {
        for (struct block *block; (block = queue_pop(receive->ready)) != NULL;)
            epochs_return(receive->epochs, block);
        take_back(receive);
    }
    epochs_destroy(receive->epochs);
    if (receive->fd >= 0 && !receive->separate)
        close(receive->fd);
    buffers_destroy(receive->buffers);
    linkkey_destroy(receive->key);
    key_use_destroy(receive->key_use);
    doorbell_destroy(receive->done_bell);
    doorbell_destroy(receive->bell);
    sem_destroy(&receive->started);
    free(receive);
}

void receive_counters(const struct receive *receive, struct receive_counters *counters)
{
    receive_shared_get(&receive->shared, counters);
}

const struct key_use *receive_key_use(const struct receive *receive)
{
    return receive->key_use;
}

struct doorbell *receive_done_bell(const struct receive *receive)
{
    return receive->done_bell;
}

uint32_t receive_socket_buffer(const struct receive *receive)
{
    return receive->socket_buffer;
}

uint64_t receive_arena_size(const struct receive *receive)
{
    return receive->arena_size;
}
