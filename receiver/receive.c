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
#include <sys/mman.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/ring.h"
#include "common/slab.h"
#include "common/units.h"
#include "common/worker.h"
#include "receiver/epochs.h"

enum {
    BUFFER_COUNT = 32, /* a power of two; multishot fills no more in one turn, and more would not stay in the cache */
    BUFFER_COUNT_MIN = 16,
    BUFFER_GROUP = 0,
    CONTROL_SIZE = 64, /* UDP_GRO and SO_RXQ_OVFL take 24 bytes each */
    PAYLOAD_SIZE = 65536,
    BUFFER_SIZE = (int)sizeof(struct io_uring_recvmsg_out) + CONTROL_SIZE + PAYLOAD_SIZE,
    SUBMISSIONS = 8,
};
#define PUBLISH_NS (10 * CLOCK_MILLISECOND_NS) /* between two looks at what has passed, while something changes */
#define RETURN_NS  (50 * CLOCK_MILLISECOND_NS) /* until blocks that are out are looked for, when nothing arrives */
#define TURN_NS    CLOCK_SECOND_NS             /* longest sleep */
#define RETRY_NS   (100 * CLOCK_MILLISECOND_NS)

enum completion { COMPLETION_RECEIVE = 1, COMPLETION_BELL };

/* One writer, the receive thread; read by the control thread. */
struct shared_counters {
    _Atomic uint64_t datagrams, lost, drops[DATAGRAM_DROP_COUNT], kernel_socket_buffer, buffer_ring_exhausted,
        store_queue_full, blocks_complete, blocks_given_up, memory_needed, last_datagram_ns, turns;
};

struct receive {
    unsigned lane;
    int fd;
    uint32_t socket_buffer;
    unsigned buffer_count;
    struct slab *buffers;
    struct io_uring_buf_ring *buffer_ring;
    size_t buffer_ring_size;
    uint8_t *buffer_base;
    size_t buffer_stride;
    uint64_t arena_size;
    struct epochs *epochs;
    struct linkkey *key;
    struct queue *ready, *done;
    size_t queue_capacity;
    struct doorbell *store_bell;

    struct worker *worker;
    struct doorbell *bell; /* for the stop */
    sem_t started;
    enum status start_status;
    atomic_bool stopping;
    char name[16];
    struct shared_counters shared;

    /* The thread's. */
    bool receiving;
    bool changed;              /* since the last publishing */
    uint32_t overflow_seen;    /* newest value of SO_RXQ_OVFL, which counts from the socket's beginning and wraps */
    uint64_t receive_after_ns; /* no earlier, after a failure */
    uint64_t publish_ns;
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
            receive->counters.kernel_socket_buffer += value - receive->overflow_seen;
            receive->overflow_seen = value;
        }
    }
    return segment;
}

static void take_buffer(struct receive *receive, uint8_t *buffer, int length, uint64_t now_ns)
{
    struct io_uring_recvmsg_out *out = io_uring_recvmsg_validate(buffer, length, &receive->message);
    if (out == NULL || (out->flags & MSG_TRUNC) != 0 || out->controllen > CONTROL_SIZE) {
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

static void recycle(struct receive *receive, unsigned id)
{
    int mask = io_uring_buf_ring_mask(receive->buffer_count);
    io_uring_buf_ring_add(receive->buffer_ring, receive->buffer_base + id * receive->buffer_stride, BUFFER_SIZE,
                          (unsigned short)id, mask, 0);
    io_uring_buf_ring_advance(receive->buffer_ring, 1);
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
    assert(id < receive->buffer_count);
    if (cqe->res >= 0)
        take_buffer(receive, receive->buffer_base + id * receive->buffer_stride, cqe->res, now_ns);
    recycle(receive, id);
    receive->changed = true;
}

static bool take_completions(struct receive *receive, uint64_t now_ns)
{
    struct io_uring_cqe *cqe;
    unsigned head, count = 0;
    io_uring_for_each_cqe(&receive->ring, head, cqe)
    {
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

static void set(_Atomic uint64_t *shared, uint64_t value)
{
    atomic_store_explicit(shared, value, memory_order_relaxed);
}

static void publish_counters(struct receive *receive)
{
    const struct receive_counters *own = &receive->counters;
    struct shared_counters *shared = &receive->shared;
    struct epochs_totals totals;
    epochs_totals(receive->epochs, &totals);
    set(&shared->datagrams, own->datagrams);
    set(&shared->lost, totals.gathers.lost);
    for (unsigned i = 0; i < DATAGRAM_DROP_COUNT; i++)
        set(&shared->drops[i], own->drops[i] + totals.gathers.drops[i]);
    set(&shared->kernel_socket_buffer, own->kernel_socket_buffer);
    set(&shared->buffer_ring_exhausted, own->buffer_ring_exhausted);
    set(&shared->store_queue_full, own->store_queue_full);
    set(&shared->blocks_complete, totals.gathers.blocks_complete);
    set(&shared->blocks_given_up, totals.gathers.blocks_given_up);
    set(&shared->memory_needed, totals.gathers.memory_needed);
    set(&shared->last_datagram_ns, totals.last_datagram_ns);
}

static void publish(struct receive *receive, uint64_t now_ns)
{
    set(&receive->shared.turns, ++receive->counters.turns);
    if (!receive->changed || now_ns < receive->publish_ns)
        return;
    receive->changed = false;
    receive->publish_ns = now_ns + PUBLISH_NS;
    epochs_publish(receive->epochs, now_ns);
    publish_counters(receive);
}

/* The thread. */

static void start_receiving(struct receive *receive, uint64_t now_ns)
{
    if (receive->receiving || now_ns < receive->receive_after_ns)
        return;
    struct io_uring_sqe *sqe = ring_sqe(&receive->ring);
    io_uring_prep_recvmsg_multishot(sqe, receive->fd, &receive->message, 0);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = BUFFER_GROUP;
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
        start_receiving(receive, now_ns);
        ring_wait(&receive->ring, now_ns, deadline(receive, now_ns));
    }
    epochs_finish(receive->epochs);
    hand_on(receive, clock_monotonic_ns());
    publish_counters(receive);
}

static enum status open_ring(struct receive *receive)
{
    enum status status = ring_open(SUBMISSIONS, 2 * receive->buffer_count, &receive->ring);
    if (status != STATUS_OK)
        return status;
    struct io_uring_buf_reg registration = {
        .ring_addr = (uintptr_t)receive->buffer_ring, .ring_entries = receive->buffer_count, .bgid = BUFFER_GROUP};
    int result = io_uring_register_buf_ring(&receive->ring, &registration, 0);
    if (result < 0) {
        log_error("io_uring: the buffers of lane %u can't be registered: %s", receive->lane, strerror(-result));
        ring_close(&receive->ring);
        return status_from_errno(-result);
    }
    io_uring_buf_ring_init(receive->buffer_ring);
    for (unsigned i = 0; i < receive->buffer_count; i++)
        recycle(receive, i);
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
}

/* Making and ending it. */

static unsigned buffer_count_for(uint64_t memory)
{
    unsigned count = BUFFER_COUNT;
    while (count > BUFFER_COUNT_MIN && (uint64_t)count * BUFFER_SIZE > memory / 8)
        count /= 2;
    return count;
}

static uint64_t buffer_bytes(uint64_t memory)
{
    return (uint64_t)(buffer_count_for(memory) + 1) * BUFFER_SIZE;
}

uint64_t receive_memory_for(uint64_t arena, size_t senders)
{
    uint64_t arenas = senders * (uint64_t)epochs_share_for(arena);
    return arenas + buffer_bytes(8 * arenas);
}

static enum status make_buffers(struct receive *receive, uint64_t memory)
{
    receive->buffer_count = buffer_count_for(memory);
    enum status status = slab_create(BUFFER_SIZE, receive->buffer_count, &receive->buffers);
    if (status != STATUS_OK)
        return status;
    /* All are taken at once and given to the kernel by number: they lie in one piece. */
    receive->buffer_base = slab_take(receive->buffers);
    uint8_t *second = slab_take(receive->buffers);
    assert(receive->buffer_base != NULL && second > receive->buffer_base);
    receive->buffer_stride = (size_t)(second - receive->buffer_base);
    receive->buffer_ring_size = receive->buffer_count * sizeof(struct io_uring_buf);
    void *ring = mmap(NULL, receive->buffer_ring_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (ring == MAP_FAILED)
        return STATUS_SYSTEM;
    receive->buffer_ring = ring;
    return STATUS_OK;
}

static enum status make_memory(struct receive *receive, const struct receive_setup *setup)
{
    char text[UNITS_TEXT_SIZE];
    uint64_t buffers = buffer_bytes(setup->memory);
    assert(setup->memory > buffers);
    uint64_t share = (setup->memory - buffers) / trust_count(setup->trust);
    if (make_buffers(receive, setup->memory) == STATUS_OK)
        receive->epochs = epochs_create((uint8_t)setup->lane, setup->trust, share, setup->progress);
    if (receive->epochs == NULL) {
        log_error("lane %u: %s of memory can't be had: %s; lower 'memory' or free some", setup->lane,
                  units_format_size(setup->memory, text), strerror(errno));
        return STATUS_SYSTEM;
    }
    receive->arena_size = epochs_arena_of(share);
    return STATUS_OK;
}

enum status receive_create(const struct receive_setup *setup, struct receive **receive)
{
    *receive = NULL;
    struct receive *made = calloc(1, sizeof *made);
    if (made == NULL)
        return STATUS_SYSTEM;
    made->fd = -1;
    made->lane = setup->lane;
    made->ready = setup->ready;
    made->done = setup->done;
    made->queue_capacity = setup->queue_capacity;
    made->store_bell = setup->store_bell;
    made->message.msg_controllen = CONTROL_SIZE;
    made->error_limit.interval_ns = 10 * CLOCK_SECOND_NS;
    snprintf(made->name, sizeof made->name, "receive %u", setup->lane);
    sem_init(&made->started, 0, 0);
    enum status status = make_memory(made, setup);
    if (status == STATUS_OK) {
        made->bell = doorbell_create();
        made->key = setup->link_secret == NULL ? NULL : linkkey_create(setup->link_secret);
        if (made->bell == NULL || (setup->link_secret != NULL && made->key == NULL)) {
            log_error("lane %u can't be set up: %s", setup->lane, strerror(errno));
            status = STATUS_SYSTEM;
        }
    }
    if (status == STATUS_OK)
        status = socket_open_receiver(setup->address, RECEIVE_SOCKET_BUFFER, &made->fd, &made->socket_buffer);
    if (status != STATUS_OK) {
        receive_destroy(made);
        return status;
    }
    *receive = made;
    return STATUS_OK;
}

enum status receive_start(struct receive *receive)
{
    enum status status = worker_start(receive->name, run, receive, &receive->worker);
    if (status != STATUS_OK) {
        log_error("lane %u: a thread can't be started: %s", receive->lane, strerror(errno));
        return status;
    }
    while (sem_wait(&receive->started) != 0)
        assert(errno == EINTR);
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
    if (receive->fd >= 0)
        close(receive->fd);
    if (receive->buffer_ring != NULL)
        munmap(receive->buffer_ring, receive->buffer_ring_size);
    slab_destroy(receive->buffers);
    linkkey_destroy(receive->key);
    doorbell_destroy(receive->bell);
    sem_destroy(&receive->started);
    free(receive);
}

static uint64_t get(const _Atomic uint64_t *shared)
{
    return atomic_load_explicit(shared, memory_order_relaxed);
}

void receive_counters(const struct receive *receive, struct receive_counters *counters)
{
    const struct shared_counters *shared = &receive->shared;
    counters->datagrams = get(&shared->datagrams);
    counters->lost = get(&shared->lost);
    for (unsigned i = 0; i < DATAGRAM_DROP_COUNT; i++)
        counters->drops[i] = get(&shared->drops[i]);
    counters->kernel_socket_buffer = get(&shared->kernel_socket_buffer);
    counters->buffer_ring_exhausted = get(&shared->buffer_ring_exhausted);
    counters->store_queue_full = get(&shared->store_queue_full);
    counters->blocks_complete = get(&shared->blocks_complete);
    counters->blocks_given_up = get(&shared->blocks_given_up);
    counters->memory_needed = get(&shared->memory_needed);
    counters->last_datagram_ns = get(&shared->last_datagram_ns);
    counters->turns = get(&shared->turns);
}

uint32_t receive_socket_buffer(const struct receive *receive)
{
    return receive->socket_buffer;
}

uint64_t receive_arena_size(const struct receive *receive)
{
    return receive->arena_size;
}
