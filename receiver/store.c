// SPDX-License-Identifier: Apache-2.0
#include "receiver/store.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/fec.h"
#include "common/log.h"
#include "common/mailbox.h"
#include "common/ring.h"
#include "common/worker.h"
#include "receiver/catalog.h"
#include "receiver/checkpoint.h"
#include "receiver/decode.h"
#include "receiver/errand.h"
#include "receiver/hasher.h"
#include "receiver/intake.h"
#include "receiver/policy.h"
#include "receiver/progress.h"
#include "receiver/publish.h"
#include "receiver/recover.h"
#include "receiver/report.h"
#include "receiver/transfers.h"

enum {
    RING_ENTRIES = 256,
    HASH_SHARE = 4,       /* of the memory may be held for hashing */
    BLOCKS_PER_TURN = 16, /* of a lane, before other lanes, completions and results have their turn */
};
#define TICK_NS            (250 * CLOCK_MILLISECOND_NS)
#define DELIVERY_REPORT_NS (50 * CLOCK_MILLISECOND_NS) /* least time between reports because of deliveries */

static char bell_mark; /* its address is the user data of the poll for the doorbell */

struct store {
    struct intake intake;
    struct publish *publish;
    struct mailbox *results;
    struct checkpoint *checkpoint;
    struct mailbox *checkpoints; /* its results */
    struct mailbox *requests;    /* struct errand */
    struct report *report;
    struct lane_progress *progress;
    struct doorbell *bell;
    struct worker *worker;
    sem_t started;
    enum status start_status;
    atomic_bool stopping;
    _Atomic uint64_t turns;

    pthread_mutex_t mutex;
    void (*notify)(void *context); /* under the mutex */
    void *notify_context;

    struct hasher *hasher; /* called by the thread */

    /* The thread's own. */
    const struct trust *trust;
    struct policy_slot *policies;
    const char *state_directory;
    struct ledger *ledger;
    struct audit *audit;
    enum config_tickets tickets;
    struct room_limits limits;
    struct bounds bounds;
    struct store_lane lanes[LIMIT_LANES];
    unsigned lane_count;
    struct io_uring ring;
    bool bell_is_polled;
    struct transfers *transfers;
    struct fec_cache *codes;
    struct writer_block *free_blocks;
    uint64_t tick_ns, reported_ns;
    bool delivered; /* since the last report */
    uint64_t lost;  /* losses in it */
    uint64_t blocks_total, repaired_total, failed_total;
};

/* The queue has room for all blocks that can be out, so a push never fails. */
static void give_back(const struct store_lane *lane, struct block *block)
{
    bool pushed = queue_push(lane->done, block);
    assert(pushed);
    (void)pushed;
    if (lane->done_bell != NULL)
        doorbell_ring(lane->done_bell);
}

static void release(void *context, struct writer_block *use)
{
    struct store *store = context;
    give_back(use->owner, use->block);
    use->next = store->free_blocks;
    store->free_blocks = use;
}

static struct writer_block *use_block(struct store *store, struct block *block, struct store_lane *lane)
{
    struct writer_block *use = store->free_blocks;
    if (use != NULL)
        store->free_blocks = use->next;
    else
        use = malloc(sizeof *use); /* as many as there are blocks, which are bounded */
    assert(use != NULL);
    *use = (struct writer_block){.block = block, .owner = lane, .uses = 1};
    return use;
}

static void take_completions(struct store *store)
{
    struct io_uring_cqe *cqe;
    while (io_uring_peek_cqe(&store->ring, &cqe) == 0) {
        struct io_uring_cqe copy = *cqe;
        io_uring_cqe_seen(&store->ring, cqe);
        if (io_uring_cqe_get_data(&copy) == &bell_mark)
            store->bell_is_polled = false;
        else
            transfers_complete(store->transfers, &copy);
    }
}

static void wait_for_writes(void *context)
{
    struct store *store = context;
    int result = io_uring_submit_and_wait(&store->ring, 1);
    assert(result >= 0 || result == -EINTR || result == -EAGAIN || result == -EBUSY || result == -ENOMEM);
    (void)result;
    take_completions(store);
}

static void take_block(struct store *store, struct store_lane *lane, struct block *block)
{
    store->blocks_total++;
    if (block->repeat_of != 0 && transfers_is_delivered(store->transfers, block->sender_id, block->repeat_of)) {
        give_back(lane, block);
        return;
    }
    switch (decode_block(store->codes, block)) {
    case DECODE_FAILED:
        store->failed_total++;
        give_back(lane, block);
        return;
    case DECODE_REPAIRED:
        store->repaired_total++;
        break;
    case DECODE_COMPLETE:
        break;
    }
    size_t size = (size_t)block->source_symbols * block->symbol_size;
    transfers_take_block(store->transfers, use_block(store, block, lane), size, clock_monotonic_ns());
}

static bool take_blocks(struct store *store)
{
    bool any = false;
    for (unsigned i = 0; i < store->lane_count; i++) {
        struct block *block;
        for (unsigned n = 0; n < BLOCKS_PER_TURN && (block = queue_pop(store->lanes[i].ready)) != NULL; n++) {
            take_block(store, &store->lanes[i], block);
            any = true;
        }
    }
    return any;
}

static bool take_results(struct store *store)
{
    struct mailbox_entry *entry;
    bool any = false;
    while ((entry = mailbox_take(store->results)) != NULL) {
        store->delivered |= transfers_take_result(store->transfers, (struct publish_job *)entry, clock_monotonic_ns());
        any = true;
    }
    while ((entry = mailbox_take(store->checkpoints)) != NULL) {
        transfers_take_checkpoint(store->transfers, (struct checkpoint_job *)entry, clock_monotonic_ns());
        any = true;
    }
    return any;
}

static bool take_requests(struct store *store)
{
    struct mailbox_entry *entry;
    bool any = false;
    while ((entry = mailbox_take(store->requests)) != NULL) {
        transfers_carry_out(store->transfers, (struct errand *)entry, clock_monotonic_ns());
        any = true;
    }
    return any;
}

static void make_report(struct store *store, uint64_t now_ns)
{
    struct report_snapshot *snapshot = report_begin(store->report);
    transfers_fill(store->transfers, snapshot, now_ns);
    snapshot->blocks_total = store->blocks_total;
    snapshot->repaired_total = store->repaired_total;
    snapshot->failed_total = store->failed_total;
    /* The operator reads of a new loss as soon as of a delivery. */
    uint64_t lost = snapshot->incomplete_total + snapshot->never_seen_total + snapshot->alarm_total;
    bool news = store->delivered || lost > store->lost;
    store->lost = lost;
    report_commit(store->report);
    store->reported_ns = now_ns;
    if (!news)
        return;
    store->delivered = false;
    pthread_mutex_lock(&store->mutex);
    if (store->notify != NULL)
        store->notify(store->notify_context);
    pthread_mutex_unlock(&store->mutex);
}

static uint64_t next_due_ns(const struct store *store)
{
    uint64_t report_ns = store->reported_ns + DELIVERY_REPORT_NS;
    return store->delivered && report_ns < store->tick_ns ? report_ns : store->tick_ns;
}

static void keep_time(struct store *store)
{
    uint64_t now_ns = clock_monotonic_ns();
    if (now_ns < next_due_ns(store))
        return;
    if (now_ns >= store->tick_ns) {
        transfers_tick(store->transfers, now_ns);
        store->tick_ns = now_ns + TICK_NS;
    }
    make_report(store, now_ns);
}

static bool has_work(const struct store *store)
{
    for (unsigned i = 0; i < store->lane_count; i++)
        if (queue_peek(store->lanes[i].ready) != NULL)
            return true;
    return transfers_have_hashed(store->transfers);
}

/* Sleeps until blocks, results or completions come, or the clock has something to do. */
static void rest(struct store *store)
{
    doorbell_arm(store->bell);
    if (!has_work(store) && !take_results(store) && !take_requests(store) && !atomic_load(&store->stopping)) {
        if (!store->bell_is_polled) {
            struct io_uring_sqe *sqe = ring_sqe(&store->ring);
            io_uring_prep_poll_add(sqe, doorbell_fd(store->bell), POLLIN);
            io_uring_sqe_set_data(sqe, &bell_mark);
            store->bell_is_polled = true;
        }
        ring_wait(&store->ring, clock_monotonic_ns(), next_due_ns(store));
    }
    doorbell_disarm(store->bell);
}

static void wait_for_hashes(struct store *store)
{
    doorbell_arm(store->bell);
    if (!transfers_have_hashed(store->transfers))
        doorbell_wait(store->bell, UINT64_MAX);
    doorbell_disarm(store->bell);
}

static enum status set_up(struct store *store)
{
    enum status status = ring_open(RING_ENTRIES, 2 * WRITER_OPERATIONS, RING_WRITES, &store->ring);
    if (status != STATUS_OK)
        return status;
    struct transfers_setup setup = {.trust = store->trust,
                                    .policies = store->policies,
                                    .state_directory = store->state_directory,
                                    .ledger = store->ledger,
                                    .audit = store->audit,
                                    .tickets = store->tickets,
                                    .intake = &store->intake,
                                    .publish = store->publish,
                                    .progress = store->progress,
                                    .checkpoint = store->checkpoint,
                                    .limits = store->limits,
                                    .bounds = store->bounds,
                                    .lane_count = store->lane_count,
                                    .hasher = store->hasher,
                                    .ring = &store->ring,
                                    .release = release,
                                    .wait = wait_for_writes,
                                    .context = store};
    store->transfers = transfers_create(&setup);
    if (store->transfers != NULL)
        return STATUS_OK;
    ring_close(&store->ring);
    return STATUS_SYSTEM;
}

static void run(void *context)
{
    struct store *store = context;
    store->start_status = set_up(store);
    if (store->start_status == STATUS_OK)
        keep_time(store);
    sem_post(&store->started);
    if (store->start_status != STATUS_OK)
        return;
    for (;;) {
        /* Read before the queues, so that what was pushed before the stop is still stored. */
        bool stop = atomic_load(&store->stopping);
        atomic_store_explicit(&store->turns, store->turns + 1, memory_order_relaxed);
        bool busy = take_blocks(store);
        busy |= take_results(store);
        busy |= take_requests(store);
        transfers_flush(store->transfers);
        if (transfers_under_way(store->transfers) > 0)
            io_uring_submit_and_get_events(&store->ring);
        take_completions(store);
        transfers_settle(store->transfers, clock_monotonic_ns());
        keep_time(store);
        if (busy)
            continue;
        bool writing = transfers_under_way(store->transfers) > 0, hashing = transfers_are_hashing(store->transfers);
        if (stop && !writing && !hashing)
            break;
        if (stop && writing)
            wait_for_writes(store);
        else if (stop)
            wait_for_hashes(store);
        else
            rest(store);
    }
    transfers_finish(store->transfers);
    ring_close(&store->ring);
}

static void destroy(struct store *store)
{
    hasher_destroy(store->hasher);
    fec_cache_destroy(store->codes);
    mailbox_destroy(store->results);
    mailbox_destroy(store->requests);
    mailbox_destroy(store->checkpoints);
    report_destroy(store->report);
    intake_close(&store->intake);
    while (store->free_blocks != NULL) {
        struct writer_block *next = store->free_blocks->next;
        free(store->free_blocks);
        store->free_blocks = next;
    }
    sem_destroy(&store->started);
    pthread_mutex_destroy(&store->mutex);
    free(store);
}

/* Publish thread. */
static bool is_held_back(void *context, uint32_t sender_id, int64_t first_seen_ns,
                         const struct manifest_reader *manifest, char reason[static HELD_REASON_SIZE])
{
    struct policy_slot *policies = context;
    const struct policy *policy = policy_slot_take(policies);
    enum policy_verdict verdict = policy_judge(policy, sender_id, first_seen_ns, manifest, reason);
    policy_slot_put(policies, policy);
    return verdict == POLICY_HOLD;
}

static enum status start_publishing(struct store *store, const struct config *config)
{
    struct held_setup hold = {.rule = store->policies != NULL ? is_held_back : NULL,
                              .context = store->policies,
                              .bytes = config->quarantine,
                              .age_ns = config->quarantine_age_ns};
    return publish_start(&store->intake, store->ledger, store->audit, &hold, store->results, &store->publish);
}

enum status store_start(const struct config *config, const struct trust *trust, struct ledger *ledger,
                        struct audit *audit, struct policy_slot *policies, const struct store_lane lanes[],
                        unsigned lane_count, struct doorbell *bell, struct lane_progress *progress, struct store **out)
{
    *out = NULL;
    assert(lane_count >= 1 && lane_count <= LIMIT_LANES);
    struct store *store = calloc(1, sizeof *store);
    if (store == NULL)
        return status_from_errno(ENOMEM);
    store->intake = (struct intake){.fd = -1, .staging_fd = -1, .quarantine_fd = -1};
    store->trust = trust;
    store->policies = policies;
    store->state_directory = config->state;
    store->ledger = ledger;
    store->tickets = config->tickets;
    store->limits = (struct room_limits){.staging = config->staging == 0 ? UINT64_MAX : config->staging,
                                         .reserve = config->reserve,
                                         .max_open = config->max_open == 0 ? CATALOG_OPEN : config->max_open};
    store->bounds = config->bounds.size == 0 ? bounds_none : config->bounds;
    store->audit = audit;
    memcpy(store->lanes, lanes, lane_count * sizeof *lanes);
    store->lane_count = lane_count;
    store->bell = bell;
    store->progress = progress;
    sem_init(&store->started, 0, 0);
    pthread_mutex_init(&store->mutex, NULL);
    enum status status = intake_open(config->intake, &store->intake);
    if (status == STATUS_OK) {
        store->results = mailbox_create(bell);
        store->requests = mailbox_create(bell);
        store->checkpoints = mailbox_create(bell);
        store->report = report_create(store->intake.path);
        store->codes = fec_cache_create();
        const struct hasher_setup hasher = {.intake = &store->intake,
                                            .bell = bell,
                                            .memory = (size_t)config->memory / HASH_SHARE,
                                            .cpus = &config->cpus,
                                            .cpu_index = lane_count + 1};
        store->hasher = hasher_create(&hasher);
        if (store->results == NULL || store->requests == NULL || store->checkpoints == NULL || store->report == NULL ||
            store->codes == NULL || store->hasher == NULL) {
            log_error("the store stage can't be set up: %s (no memory, or no thread: raise TasksMax)", strerror(errno));
            status = STATUS_SYSTEM;
        }
    }
    if (status == STATUS_OK)
        status = start_publishing(store, config);
    if (status == STATUS_OK) {
        publish_set_recheck(store->publish, config->recheck_bytes_per_s);
        status = checkpoint_start(&store->intake, ledger, store->checkpoints, &store->checkpoint);
    }
    if (status == STATUS_OK)
        status = worker_start("store", run, store, &store->worker);
    if (status == STATUS_OK) {
        worker_pin(store->worker, &config->cpus, config->lanes);
        while (sem_wait(&store->started) != 0)
            continue;
        status = store->start_status;
    }
    if (status != STATUS_OK) {
        store_stop(store);
        return status;
    }
    *out = store;
    return STATUS_OK;
}

void store_stop(struct store *store)
{
    if (store == NULL)
        return;
    atomic_store(&store->stopping, true);
    doorbell_ring(store->bell);
    worker_join(store->worker);
    publish_stop(store->publish);
    /* The thread is gone, so its part is done here. */
    struct mailbox_entry *late;
    if (store->transfers != NULL) {
        (void)take_results(store);
        transfers_record_all(store->transfers);
    }
    checkpoint_stop(store->checkpoint);
    while (store->checkpoints != NULL && (late = mailbox_take(store->checkpoints)) != NULL)
        checkpoint_job_destroy((struct checkpoint_job *)late);
    while (store->requests != NULL && (late = mailbox_take(store->requests)) != NULL)
        ((struct errand *)late)->done((struct errand *)late);
    transfers_destroy(store->transfers);
    destroy(store);
}

enum status store_recover(const struct config *config, struct ledger *ledger, struct audit *audit)
{
    struct intake intake;
    enum status status = intake_open(config->intake, &intake);
    if (status != STATUS_OK)
        return status;
    status = recover_run(&intake, ledger, audit);
    intake_close(&intake);
    return status;
}

uint64_t store_turns(const struct store *store)
{
    return atomic_load_explicit(&store->turns, memory_order_relaxed);
}

void store_carry_out(struct store *store, struct errand *errand)
{
    mailbox_post(store->requests, &errand->entry);
}

void store_on_delivery(struct store *store, void (*notify)(void *context), void *context)
{
    pthread_mutex_lock(&store->mutex);
    store->notify = notify;
    store->notify_context = context;
    pthread_mutex_unlock(&store->mutex);
}

void store_to_json(struct store *store, struct json_t *root, int64_t realtime_ns)
{
    (void)realtime_ns;
    report_to_json(store->report, root);
}

void store_health(struct store *store, struct health *health, int64_t realtime_ns)
{
    report_health(store->report, health, clock_monotonic_ns(), realtime_ns);
}

bool store_last_heartbeat(struct store *store, int64_t *received_at_ns, int64_t *clock_offset_ns)
{
    return report_last_heartbeat(store->report, received_at_ns, clock_offset_ns);
}

uint64_t store_confirmed_epoch(const struct store *store, uint32_t sender_id)
{
    return progress_confirmed_epoch(store->progress, sender_id);
}
