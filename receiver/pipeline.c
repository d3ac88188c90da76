// SPDX-License-Identifier: Apache-2.0
#include "receiver/pipeline.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/doorbell.h"
#include "common/log.h"
#include "common/queue.h"
#include "common/stream.h"
#include "common/units.h"
#include "proto/limits.h"
#include "receiver/handover_file.h"
#include "receiver/progress.h"
#include "receiver/store.h"

/*
 *     socket → receive 0 ── ready ──┐            ┌─ verify, fsync, rename → intake queue
 *                 ^                 v            |
 *                 └───── done ─── store → publish┴─ ledger, audit log
 *                 ┌───── done ──────┘ ^ └→ checkpoint: fdatasync, ledger
 *                 v                   |
 *     socket → receive n ── ready ────┘
 *
 * A block's memory belongs to the receive stage's gather. Pointers to complete blocks go through `ready`; each comes
 * back through `done`. The store thread writes files and decides; it never waits for a flush or a transaction: what the
 * publish and checkpoint stages have done comes back to it through mailboxes, and so do operators' requests, from the
 * control thread. A stop writes what the gathers hold to the handover file, from which the next start fills them.
 */

enum { QUEUE_CAPACITY = 4096 }; /* blocks of a lane that are out at a time: far more than memory for normal ones */
/* Programs and libraries, the ledger's caches, and the queues and buffers of the stages behind the data plane. */
#define REST_OF_MEMORY (UINT64_C(28) << 20)
/* A thread that has made no turn for so long hangs. A disk may keep the store thread for long. */
#define RECEIVE_ALIVE_NS (10 * CLOCK_SECOND_NS)
#define STORE_ALIVE_NS   (60 * CLOCK_SECOND_NS)

/* Of a thread's loop. */
struct turns {
    uint64_t count, changed_ns; /* as last seen, and when that had changed */
};

struct lane {
    struct receive *receive;
    struct queue *ready, *done;
    struct turns turns;
};

struct pipeline {
    const struct config *config;
    const struct trust *trust;
    struct ledger *ledger;
    struct audit *audit;
    struct policy_slot *policies;
    bool sealed;
    bool took_over; /* from the run before, so that this one hands over to the next */
    struct doorbell *store_bell;
    struct lane_progress *progress;
    struct store *store;
    struct turns store_turns;
    struct lane lanes[LIMIT_LANES];
};

static enum status create_lane(struct pipeline *pipeline, unsigned index, const uint8_t *const link_secrets[], int *fd)
{
    struct lane *lane = &pipeline->lanes[index];
    struct socket_address address;
    bool legal = socket_address_lane(&pipeline->config->listen, index, &address);
    assert(legal);
    lane->ready = queue_create(QUEUE_CAPACITY);
    lane->done = queue_create(QUEUE_CAPACITY);
    if (lane->ready == NULL || lane->done == NULL) {
        log_error("lane %u can't be set up: %s", index, strerror(ENOMEM));
        return STATUS_SYSTEM;
    }
    struct receive_setup setup = {
        .address = &address,
        .fd = *fd,
        .lane = index,
        .memory = pipeline->config->memory / pipeline->config->lanes,
        .trust = pipeline->trust,
        .link_secret = link_secrets[0],
        .link_secret_next = link_secrets[1],
        .ready = lane->ready,
        .done = lane->done,
        .queue_capacity = QUEUE_CAPACITY,
        .store_bell = pipeline->store_bell,
        .progress = pipeline->progress,
        .cpus = &pipeline->config->cpus,
    };
    *fd = -1;
    return receive_create(&setup, &lane->receive);
}

static void log_bound(const struct pipeline *pipeline)
{
    char whole[UNITS_TEXT_SIZE], rest[UNITS_TEXT_SIZE], memory[UNITS_TEXT_SIZE], arena[UNITS_TEXT_SIZE],
        buffer[UNITS_TEXT_SIZE], address[SOCKET_TEXT_SIZE];
    const struct receive *first = pipeline->lanes[0].receive;
    log_info("listening on %s, %u lane%s, socket buffer %s each; nothing can be sent from there",
             socket_address_text(&pipeline->config->listen, address), pipeline->config->lanes,
             pipeline->config->lanes == 1 ? "" : "s", units_format_size(receive_socket_buffer(first), buffer));
    log_info("data plane memory is %s: on each lane %s for the running epoch of each of %zu trusted senders",
             units_format_size(pipeline->config->memory, memory), units_format_size(receive_arena_size(first), arena),
             trust_count(pipeline->trust));
    log_info(
        "resident memory stays below %s: the data plane's and %s for all else, beside the tables of transfers with "
        "very many artifacts",
        units_format_size(pipeline->config->memory + REST_OF_MEMORY, whole), units_format_size(REST_OF_MEMORY, rest));
}

enum status pipeline_create(const struct config *config, const struct trust *trust, struct ledger *ledger,
                            struct audit *audit, struct policy_slot *policies,
                            const uint8_t *const link_secrets[static LINKKEY_SECRETS], int sockets[],
                            struct pipeline **pipeline)
{
    *pipeline = NULL;
    struct pipeline *made = calloc(1, sizeof *made);
    if (made == NULL)
        return STATUS_SYSTEM;
    made->config = config;
    made->trust = trust;
    made->ledger = ledger;
    made->audit = audit;
    made->policies = policies;
    made->sealed = link_secrets[0] != NULL;
    made->store_bell = doorbell_create();
    made->progress = progress_create(trust, config->lanes);
    enum status status = STATUS_OK;
    if (made->store_bell == NULL || made->progress == NULL) {
        log_error("the pipeline can't be set up: %s", strerror(errno));
        status = STATUS_SYSTEM;
    }
    for (unsigned i = 0; i < config->lanes && status == STATUS_OK; i++)
        status = create_lane(made, i, link_secrets, &sockets[i]);
    if (status != STATUS_OK) {
        pipeline_destroy(made);
        return status;
    }
    log_bound(made);
    *pipeline = made;
    return STATUS_OK;
}

/* Of the whole data plane: symbols, and what is known of the epochs of all senders. */
static uint64_t handover_limit(const struct pipeline *pipeline)
{
    return 4 * pipeline->config->memory + (UINT64_C(64) << 20);
}

static void take_over(struct pipeline *pipeline)
{
    uint64_t begun_ns = clock_monotonic_ns();
    pipeline->took_over = true;
    struct handover_file *file =
        handover_file_take(pipeline->config->status, pipeline->sealed, handover_limit(pipeline));
    if (file == NULL)
        return;
    struct receive *receive = NULL;
    struct handover_record record;
    uint64_t unused = 0;
    while (handover_file_next(file, &record)) {
        if (record.kind == HANDOVER_LANE)
            receive = record.lane.index < pipeline->config->lanes ? pipeline->lanes[record.lane.index].receive : NULL;
        unused += receive == NULL || !receive_import(receive, &record, begun_ns);
    }
    handover_file_close(file);
    stream_fence(); /* the threads of the lanes go on with it */
    size_t open = 0;
    for (unsigned i = 0; i < pipeline->config->lanes; i++)
        open += receive_open_blocks(pipeline->lanes[i].receive);
    log_info("%zu open blocks taken over from the run before in %llu ms", open,
             (unsigned long long)((clock_monotonic_ns() - begun_ns) / CLOCK_MILLISECOND_NS));
    if (unused > 0)
        log_warning("%llu records of the run before are of no use with this configuration", (unsigned long long)unused);
}

enum status pipeline_start(struct pipeline *pipeline, void (*delivered)(void *context), void *context)
{
    struct store_lane lanes[LIMIT_LANES];
    take_over(pipeline);
    for (unsigned i = 0; i < pipeline->config->lanes; i++)
        lanes[i] = (struct store_lane){.ready = pipeline->lanes[i].ready,
                                       .done = pipeline->lanes[i].done,
                                       .done_bell = receive_done_bell(pipeline->lanes[i].receive)};
    enum status status =
        store_start(pipeline->config, pipeline->trust, pipeline->ledger, pipeline->audit, pipeline->policies, lanes,
                    pipeline->config->lanes, pipeline->store_bell, pipeline->progress, &pipeline->store);
    if (status == STATUS_OK)
        store_on_delivery(pipeline->store, delivered, context);
    for (unsigned i = 0; i < pipeline->config->lanes && status == STATUS_OK; i++)
        status = receive_start(pipeline->lanes[i].receive);
    if (status != STATUS_OK)
        pipeline_stop(pipeline);
    return status;
}

static enum status write_handover(const struct pipeline *pipeline, uint64_t deadline_ns, size_t *open)
{
    struct handover_file *file;
    enum status status = handover_file_create(pipeline->config->status, pipeline->sealed, deadline_ns, &file);
    if (status != STATUS_OK)
        return status;
    *open = 0;
    for (unsigned i = 0; i < pipeline->config->lanes; i++)
        *open += receive_export(pipeline->lanes[i].receive, handover_file_writer(file));
    return handover_file_commit(file);
}

static void hand_over(struct pipeline *pipeline, uint64_t begun_ns)
{
    size_t open = 0;
    if (write_handover(pipeline, begun_ns + PIPELINE_HANDOVER_NS, &open) == STATUS_OK) {
        log_info("%zu open blocks handed over to the next run in %llu ms", open,
                 (unsigned long long)((clock_monotonic_ns() - begun_ns) / CLOCK_MILLISECOND_NS));
        return;
    }
    const char *reason = strerror(errno);
    open = 0;
    for (unsigned i = 0; i < pipeline->config->lanes; i++)
        open += receive_open_blocks(pipeline->lanes[i].receive);
    log_error("%zu open blocks can't be handed over to the next run, beside %s: %s; they count as lost", open,
              pipeline->config->status, reason);
    for (unsigned i = 0; i < pipeline->config->lanes; i++)
        receive_give_up(pipeline->lanes[i].receive);
}

void pipeline_stop_receiving(struct pipeline *pipeline)
{
    uint64_t begun_ns = clock_monotonic_ns();
    for (unsigned i = 0; i < pipeline->config->lanes; i++)
        receive_stop(pipeline->lanes[i].receive);
    if (pipeline->took_over)
        hand_over(pipeline, begun_ns);
    pipeline->took_over = false;
}

void pipeline_stop(struct pipeline *pipeline)
{
    pipeline_stop_receiving(pipeline);
    store_stop(pipeline->store);
    pipeline->store = NULL;
}

void pipeline_destroy(struct pipeline *pipeline)
{
    if (pipeline == NULL)
        return;
    pipeline_stop(pipeline);
    for (unsigned i = 0; i < pipeline->config->lanes; i++) {
        receive_destroy(pipeline->lanes[i].receive);
        queue_destroy(pipeline->lanes[i].ready);
        queue_destroy(pipeline->lanes[i].done);
    }
    progress_destroy(pipeline->progress);
    doorbell_destroy(pipeline->store_bell);
    free(pipeline);
}

struct store *pipeline_store(struct pipeline *pipeline)
{
    return pipeline->store;
}

static void keep_largest(uint64_t *largest, uint64_t value)
{
    if (value > *largest)
        *largest = value;
}

static void add_lane(struct receive_counters *sum, const struct receive_counters *lane)
{
    sum->datagrams += lane->datagrams;
    sum->lost += lane->lost;
    for (unsigned i = 0; i < DATAGRAM_DROP_COUNT; i++)
        sum->drops[i] += lane->drops[i];
    sum->kernel_socket_buffer += lane->kernel_socket_buffer;
    sum->buffer_ring_exhausted += lane->buffer_ring_exhausted;
    sum->store_queue_full += lane->store_queue_full;
    sum->disk_too_slow += lane->disk_too_slow;
    sum->blocks_complete += lane->blocks_complete;
    sum->blocks_given_up += lane->blocks_given_up;
    sum->turns += lane->turns;
    keep_largest(&sum->memory_needed, lane->memory_needed);
    keep_largest(&sum->last_datagram_ns, lane->last_datagram_ns);
}

void pipeline_counters(const struct pipeline *pipeline, struct pipeline_counters *counters)
{
    const struct receive *first = pipeline->lanes[0].receive;
    memset(counters, 0, sizeof *counters);
    for (unsigned i = 0; i < pipeline->config->lanes; i++) {
        struct receive_counters lane;
        receive_counters(pipeline->lanes[i].receive, &lane);
        add_lane(&counters->lanes, &lane);
    }
    counters->senders = trust_count(pipeline->trust);
    counters->socket_buffer = receive_socket_buffer(first);
    counters->socket_buffer_wanted = RECEIVE_SOCKET_BUFFER;
    counters->memory = pipeline->config->memory;
    if (counters->lanes.memory_needed > receive_arena_size(first))
        counters->memory_to_set =
            pipeline->config->lanes * receive_memory_for(counters->lanes.memory_needed, trust_count(pipeline->trust));
}

size_t pipeline_key_uses(const struct pipeline *pipeline, struct key_use_entry entries[], size_t capacity)
{
    size_t count = 0;
    struct key_use_entry entry;
    for (unsigned i = 0; i < pipeline->config->lanes; i++) {
        for (size_t j = 0; j < trust_count(pipeline->trust); j++) {
            if (!key_use_get(receive_key_use(pipeline->lanes[i].receive), j, &entry))
                continue;
            size_t at = 0;
            while (at < count && entries[at].sender_id != entry.sender_id)
                at++;
            if (at == capacity)
                continue;
            if (at == count || entry.epoch > entries[at].epoch ||
                (entry.epoch == entries[at].epoch && entry.last_ns > entries[at].last_ns))
                entries[at] = entry;
            count += at == count;
        }
    }
    return count;
}

static bool has_turned(struct turns *turns, uint64_t count, uint64_t patience_ns, uint64_t now_ns)
{
    if (count != turns->count || turns->changed_ns == 0)
        *turns = (struct turns){count, now_ns};
    return now_ns < turns->changed_ns + patience_ns;
}

bool pipeline_is_alive(struct pipeline *pipeline, uint64_t now_ns)
{
    bool alive = has_turned(&pipeline->store_turns, store_turns(pipeline->store), STORE_ALIVE_NS, now_ns);
    for (unsigned i = 0; i < pipeline->config->lanes; i++) {
        struct lane *lane = &pipeline->lanes[i];
        struct receive_counters counters;
        receive_counters(lane->receive, &counters);
        alive = has_turned(&lane->turns, counters.turns, RECEIVE_ALIVE_NS, now_ns) && alive;
    }
    return alive;
}
