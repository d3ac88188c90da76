// SPDX-License-Identifier: Apache-2.0
#include "receiver/publish.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/doorbell.h"
#include "common/durable.h"
#include "common/log.h"
#include "common/ring.h"
#include "common/worker.h"
#include "receiver/backlog.h"
#include "receiver/delivery.h"
#include "receiver/inspection.h"
#include "receiver/interrupted.h"
#include "receiver/quarantine.h"

enum {
    RING_ENTRIES = 128,
    BATCH_FILES = 20000,
    BACKLOG_SHARE = 20, /* of this thread's time goes into counting what consumers leave lying: one part in so many */
};
#define LONG_VERIFY_BYTES   (UINT64_C(64) << 20)
#define RETRY_INTERVAL_NS   (5 * CLOCK_SECOND_NS)
#define FREE_INTERVAL_NS    CLOCK_SECOND_NS
#define BACKLOG_INTERVAL_NS (10 * CLOCK_SECOND_NS)

struct publish {
    const struct intake *intake;
    struct ledger *ledger;
    struct audit *audit;
    struct mailbox *results;
    struct quarantine *quarantine;
    struct held *held;
    struct doorbell *bell, *long_bell;
    struct mailbox *mailbox, *long_mailbox;
    struct worker *worker, *long_worker;
    struct verify *verify, *long_verify;
    struct delivery *delivery;
    struct io_uring ring;
    sem_t started;
    enum status start_status;
    atomic_bool stopping, long_stopping, never;
    atomic_size_t quarantine_bytes; /* posted and not yet kept */

    /* The publish thread's. */
    struct publish_job *ready, **ready_end;
    struct publish_job *waiting, **waiting_end;
    struct interrupted *interrupted;
    struct publish_job *chains; /* that could not be stored yet, one job for each, and records */
    uint64_t retry_ns, free_ns;
    uint64_t backlog_ns;      /* when it is counted next… */
    uint64_t backlog_rest_ns; /* …and not before, whatever is delivered */
    struct publish_facts found;

    pthread_mutex_t mutex;
    struct publish_facts facts; /* under the mutex: what was found when the thread last came to rest */
};

struct publish_job *publish_job_create(enum publish_kind kind, uint32_t sender_id,
                                       const uint8_t id[static TRANSFER_ID_SIZE])
{
    struct publish_job *job = calloc(1, sizeof *job);
    if (job == NULL)
        return NULL;
    job->kind = kind;
    job->sender_id = sender_id;
    memcpy(job->id, id, TRANSFER_ID_SIZE);
    return job;
}

void publish_job_destroy(struct publish_job *job)
{
    if (job == NULL)
        return;
    free(job->bytes);
    free(job->report.ranges);
    free(job->held);
    free(job);
}

void publish_set_recheck(struct publish *publish, uint64_t bytes_per_s)
{
    verify_set_rate(publish->long_verify, bytes_per_s);
}

void publish_post(struct publish *publish, struct publish_job *job)
{
    if (job->kind == PUBLISH_QUARANTINE)
        atomic_fetch_add(&publish->quarantine_bytes, job->size);
    mailbox_post(publish->mailbox, &job->entry);
}

size_t publish_quarantine_bytes(const struct publish *publish)
{
    return atomic_load(&publish->quarantine_bytes);
}

void publish_facts(struct publish *publish, struct publish_facts *facts)
{
    pthread_mutex_lock(&publish->mutex);
    *facts = publish->facts;
    pthread_mutex_unlock(&publish->mutex);
}

static void answer(struct publish *publish, struct publish_job *job, enum publish_outcome outcome)
{
    job->outcome = outcome;
    mailbox_post(publish->results, &job->entry);
}

static void append(struct publish_job ***end, struct publish_job *job)
{
    job->next = NULL;
    **end = job;
    *end = &job->next;
}

/* Tries again later. The operator reads why in the status, and once in the log. */
static void wait_with(struct publish *publish, struct publish_job *job, enum status status, const char *what)
{
    int error = errno;
    append(&publish->waiting_end, job);
    if (publish->retry_ns == UINT64_MAX)
        publish->retry_ns = clock_monotonic_ns() + RETRY_INTERVAL_NS;
    snprintf(publish->found.problem, sizeof publish->found.problem, "%.64s/%.200s: %s: %s", job->assembly->channel,
             job->assembly->name, what, strerror(error));
    if (!job->told)
        log_error("%s/" LOG_NAME ": %s: %s; the transfer waits and is tried again", job->assembly->channel,
                  job->assembly->name, what, strerror(error));
    job->told = true;
    publish->found.waiting++;
    publish->found.waiting_for_space |= status == STATUS_NO_SPACE;
}

/* True when the transfer is good; else it was answered. */
static bool check(struct publish *publish, struct publish_job *job)
{
    if (!job->checked)
        verify_assembly(publish->verify, job->assembly, &job->report);
    job->checked = true;
    switch (job->report.result) {
    case VERIFY_GOOD:
        return true;
    case VERIFY_DAMAGED:
        log_warning("%s/" LOG_NAME ": %zu ranges do not match the manifest and count as missing again",
                    job->assembly->channel, job->assembly->name, job->report.count);
        answer(publish, job, PUBLISH_DAMAGED);
        return false;
    case VERIFY_STOPPED:
        answer(publish, job, PUBLISH_STOPPED);
        return false;
    case VERIFY_HOPELESS:
        log_error("%s/" LOG_NAME ": the manifest contradicts itself; refused", job->assembly->channel,
                  job->assembly->name);
        break;
    case VERIFY_FAILED:
        log_error("%s/" LOG_NAME ": staged data can't be read: %s; it is given up and must be sent again",
                  job->assembly->channel, job->assembly->name, strerror(job->report.error));
        job->error = job->report.error;
        break;
    }
    answer(publish, job, PUBLISH_FAILED);
    return false;
}

/* Called by the delivery for each job that does not get through it. */
static void stopped_short(void *context, struct publish_job *job, enum delivery_trouble trouble, enum status status,
                          const char *what)
{
    struct publish *publish = context;
    switch (trouble) {
    case DELIVERY_AUDIT:
        job->told = true; /* the audit log tells of its trouble itself, once for all */
        wait_with(publish, job, status, what);
        break;
    case DELIVERY_WAIT:
        wait_with(publish, job, status, what);
        break;
    case DELIVERY_LEDGER:
        publish->found.ledger_failed = true;
        wait_with(publish, job, status, what);
        break;
    case DELIVERY_LOST:
        job->error = status == STATUS_SYSTEM || status == STATUS_NO_SPACE ? errno : 0;
        log_error("%s/" LOG_NAME ": %s: %s; the staged data is given up and must be sent again", job->assembly->channel,
                  job->assembly->name, what, strerror(errno));
        answer(publish, job, PUBLISH_FAILED);
        break;
    }
}

static enum publish_outcome outcome_of(struct publish *publish, const struct publish_job *job)
{
    if (job->held == NULL)
        return PUBLISH_DELIVERED;
    held_changed(publish->held);
    return PUBLISH_HELD;
}

static void publish_batch(struct publish *publish)
{
    struct publish_job *batch[DELIVERY_BATCH];
    size_t count = 0;
    uint64_t files = 0;
    while (publish->ready != NULL && count < DELIVERY_BATCH && files < BATCH_FILES) {
        struct publish_job *job = publish->ready;
        publish->ready = job->next;
        if (publish->ready == NULL)
            publish->ready_end = &publish->ready;
        if (!check(publish, job))
            continue;
        held_judge(publish->held, job);
        files += tree_file_count(job->assembly);
        batch[count++] = job;
    }
    if (count == 0)
        return;
    count = delivery_run(publish->delivery, batch, count, stopped_short, publish);
    for (size_t i = 0; i < count; i++) {
        /* Out of the way before the store forgets the transfer; from then on a name in staging belongs to its next. */
        delivery_clear_staging(publish->delivery, batch[i]);
        answer(publish, batch[i], outcome_of(publish, batch[i]));
    }
    if (count > 0)
        publish->backlog_ns = publish->backlog_rest_ns;
}

/* Keeps what the ledger did not take for the next try; of one chain the newest. */
static void keep_chain(struct publish *publish, struct publish_job *job)
{
    struct publish_job **link = &publish->chains;
    while (*link != NULL && ((*link)->kind != PUBLISH_CHAIN || job->kind != PUBLISH_CHAIN ||
                             memcmp((*link)->chain.chain_id, job->chain.chain_id, CHAIN_ID_SIZE) != 0))
        link = &(*link)->next;
    struct publish_job *older = *link;
    job->next = older == NULL ? NULL : older->next;
    *link = job;
    publish_job_destroy(older);
}

static void store_chain(struct publish *publish, struct publish_job *job)
{
    job->recorded = job->kind == PUBLISH_RECORD ? job->record(job, publish->ledger)
                                                : ledger_store_chain(publish->ledger, &job->chain);
    if (job->acceptance != NULL) {
        mailbox_post(publish->results, &job->entry);
        return;
    }
    if (job->recorded == STATUS_OK) {
        publish_job_destroy(job);
        return;
    }
    publish->found.ledger_failed = true;
    if (publish->retry_ns == UINT64_MAX)
        publish->retry_ns = clock_monotonic_ns() + RETRY_INTERVAL_NS;
    keep_chain(publish, job);
}

static void retry_chains(struct publish *publish)
{
    struct publish_job *job = publish->chains;
    publish->chains = NULL;
    while (job != NULL) {
        struct publish_job *next = job->next;
        store_chain(publish, job);
        job = next;
    }
}

static void answer_interrupted(void *context, struct publish_job *job, enum publish_outcome outcome)
{
    struct publish *publish = context;
    held_changed(publish->held);
    answer(publish, job, outcome);
}

static void retry_interrupted(struct publish *publish)
{
    if (interrupted_retry(publish->interrupted, &publish->found, answer_interrupted, publish))
        publish->retry_ns = clock_monotonic_ns() + RETRY_INTERVAL_NS;
}

/* Puts what waited in front again. */
static void retry_waiting(struct publish *publish, uint64_t now_ns)
{
    if (now_ns < publish->retry_ns)
        return;
    publish->retry_ns = UINT64_MAX;
    publish->found.waiting = 0;
    publish->found.waiting_for_space = false;
    publish->found.ledger_failed = false;
    retry_chains(publish);
    retry_interrupted(publish);
    if (publish->waiting == NULL)
        return;
    *publish->waiting_end = publish->ready;
    if (publish->ready == NULL)
        publish->ready_end = publish->waiting_end;
    publish->ready = publish->waiting;
    publish->waiting = NULL;
    publish->waiting_end = &publish->waiting;
}

static void look_at_space(struct publish *publish)
{
    struct statvfs space;
    if (fstatvfs(publish->intake->fd, &space) == 0)
        publish->found.free_bytes = (uint64_t)space.f_bavail * space.f_frsize;
}

static void count_backlog(struct publish *publish)
{
    uint64_t begun_ns = clock_monotonic_ns();
    backlog_count(publish->intake, publish->ledger, &publish->found.backlog_count, &publish->found.backlog_bytes);
    uint64_t end_ns = clock_monotonic_ns();
    publish->backlog_rest_ns = end_ns + (BACKLOG_SHARE - 1) * (end_ns - begun_ns);
    publish->backlog_ns = end_ns + BACKLOG_INTERVAL_NS;
    if (publish->backlog_ns < publish->backlog_rest_ns)
        publish->backlog_ns = publish->backlog_rest_ns;
}

static void look_around(struct publish *publish, uint64_t now_ns)
{
    if (now_ns >= publish->free_ns) {
        look_at_space(publish);
        publish->free_ns = now_ns + FREE_INTERVAL_NS;
    }
    if (now_ns >= publish->backlog_ns && publish->ready == NULL)
        count_backlog(publish);
    held_tick(publish->held, now_ns);
    quarantine_tick(publish->quarantine, now_ns);
    publish->found.held = *held_facts(publish->held);
    publish->found.audit_failed = audit_is_failing(publish->audit);
    pthread_mutex_lock(&publish->mutex);
    publish->facts = publish->found;
    pthread_mutex_unlock(&publish->mutex);
}

static void take_transfer(struct publish *publish, struct publish_job *job)
{
    if (!job->checked && verify_bytes_to_read(job->assembly) > LONG_VERIFY_BYTES)
        mailbox_post(publish->long_mailbox, &job->entry);
    else
        append(&publish->ready_end, job);
}

static void take_job(struct publish *publish, struct publish_job *job)
{
    switch (job->kind) {
    case PUBLISH_TRANSFER:
    case PUBLISH_INTERRUPTED:
        take_transfer(publish, job);
        return;
    case PUBLISH_REMOVE:
        if (durable_remove_tree(publish->intake->staging_fd, job->trash) != STATUS_OK)
            log_warning("%s/.staging/%s can't be removed: %s; the next start tries again", publish->intake->path,
                        job->trash, strerror(errno));
        break;
    case PUBLISH_CHAIN:
    case PUBLISH_RECORD:
        store_chain(publish, job);
        return;
    case PUBLISH_INSPECTION:
        inspection_run(job->inspection, &(struct inspection_stage){.intake = publish->intake,
                                                                   .ledger = publish->ledger,
                                                                   .audit = publish->audit,
                                                                   .held = publish->held,
                                                                   .interrupted = publish->interrupted});
        publish->retry_ns = 0; /* a release may have come to a halt */
        mailbox_post(publish->results, &job->entry);
        return;
    case PUBLISH_QUARANTINE: {
        enum status status = quarantine_keep(publish->quarantine, job->sender_id, job->id, job->reason, job->bytes,
                                             job->size, clock_realtime_ns());
        if (status != STATUS_OK && status != STATUS_LIMIT)
            log_warning("a refused manifest can't be kept in %s/.quarantine: %s", publish->intake->path,
                        strerror(errno));
        if (status != STATUS_LIMIT) /* as bounded as the quarantine itself */
            audit_note(publish->audit, &(struct audit_entry){.event = AUDIT_QUARANTINED,
                                                             .sender_id = job->sender_id,
                                                             .transfer_id = job->id,
                                                             .detail = job->reason});
        atomic_fetch_sub(&publish->quarantine_bytes, job->size);
        break;
    }
    }
    publish_job_destroy(job);
}

static bool take_all(struct publish *publish)
{
    struct mailbox_entry *entry;
    bool any = false;
    while ((entry = mailbox_take(publish->mailbox)) != NULL) {
        take_job(publish, (struct publish_job *)entry);
        any = true;
    }
    return any;
}

static uint64_t next_due_ns(const struct publish *publish)
{
    uint64_t due_ns = publish->retry_ns;
    if (publish->free_ns < due_ns)
        due_ns = publish->free_ns;
    return publish->backlog_ns < due_ns ? publish->backlog_ns : due_ns;
}

static void run(void *context)
{
    struct publish *publish = context;
    publish->start_status = ring_open(RING_ENTRIES, RING_ENTRIES, RING_FLUSHES, &publish->ring);
    sem_post(&publish->started);
    if (publish->start_status != STATUS_OK)
        return;
    delivery_set_ring(publish->delivery, &publish->ring);
    interrupted_load(publish->interrupted);
    retry_interrupted(publish);
    for (;;) {
        bool stop = atomic_load(&publish->stopping);
        (void)take_all(publish);
        uint64_t now_ns = clock_monotonic_ns();
        retry_waiting(publish, now_ns);
        publish_batch(publish);
        look_around(publish, now_ns);
        if (publish->ready != NULL)
            continue;
        doorbell_arm(publish->bell);
        if (!take_all(publish) && !stop) {
            now_ns = clock_monotonic_ns();
            uint64_t due_ns = next_due_ns(publish);
            doorbell_wait(publish->bell, due_ns > now_ns ? due_ns - now_ns : 0);
        }
        doorbell_disarm(publish->bell);
        if (stop && publish->ready == NULL)
            break;
    }
    while (publish->waiting != NULL) {
        struct publish_job *job = publish->waiting;
        publish->waiting = job->next;
        answer(publish, job, PUBLISH_STOPPED);
    }
    retry_chains(publish);
    ring_close(&publish->ring);
}

/* The second thread: only reads, and hands the transfer back with its report. */
static void run_long(void *context)
{
    struct publish *publish = context;
    for (;;) {
        struct publish_job *job = (struct publish_job *)mailbox_take(publish->long_mailbox);
        if (job == NULL) {
            doorbell_arm(publish->long_bell);
            job = (struct publish_job *)mailbox_take(publish->long_mailbox);
            bool stop = atomic_load(&publish->long_stopping);
            if (job == NULL && !stop)
                doorbell_wait(publish->long_bell, UINT64_MAX);
            doorbell_disarm(publish->long_bell);
            if (job == NULL && stop)
                return;
        }
        if (job == NULL)
            continue;
        log_info("%s/" LOG_NAME ": verifying what did not arrive in order", job->assembly->channel,
                 job->assembly->name);
        atomic_store(&job->assembly->verified_bytes, 0);
        atomic_store(&job->assembly->verify_total, verify_bytes_to_read(job->assembly));
        verify_assembly(publish->long_verify, job->assembly, &job->report);
        atomic_store(&job->assembly->verify_total, 0);
        job->checked = true;
        publish_post(publish, job);
    }
}

static void destroy(struct publish *publish)
{
    while (publish->chains != NULL) {
        struct publish_job *next = publish->chains->next;
        publish_job_destroy(publish->chains);
        publish->chains = next;
    }
    mailbox_destroy(publish->mailbox);
    mailbox_destroy(publish->long_mailbox);
    doorbell_destroy(publish->bell);
    doorbell_destroy(publish->long_bell);
    verify_destroy(publish->verify);
    verify_destroy(publish->long_verify);
    quarantine_destroy(publish->quarantine);
    held_destroy(publish->held);
    interrupted_destroy(publish->interrupted);
    delivery_destroy(publish->delivery);
    sem_destroy(&publish->started);
    pthread_mutex_destroy(&publish->mutex);
    free(publish);
}

enum status publish_start(const struct intake *intake, struct ledger *ledger, struct audit *audit,
                          const struct held_setup *hold, struct mailbox *results, struct publish **out)
{
    struct publish *publish = calloc(1, sizeof *publish);
    if (publish == NULL)
        return status_from_errno(ENOMEM);
    *publish = (struct publish){
        .intake = intake, .ledger = ledger, .audit = audit, .results = results, .retry_ns = UINT64_MAX};
    publish->ready_end = &publish->ready;
    publish->waiting_end = &publish->waiting;
    sem_init(&publish->started, 0, 0);
    pthread_mutex_init(&publish->mutex, NULL);
    look_at_space(publish);
    publish->facts = publish->found; /* admission asks before the thread has had its first turn */
    publish->bell = doorbell_create();
    publish->long_bell = doorbell_create();
    publish->mailbox = mailbox_create(publish->bell);
    publish->long_mailbox = mailbox_create(publish->long_bell);
    publish->verify = verify_create(intake->staging_fd, &publish->never);
    publish->long_verify = verify_create(intake->staging_fd, &publish->long_stopping);
    publish->quarantine = quarantine_create(intake->quarantine_fd);
    if (publish->quarantine != NULL)
        quarantine_set_age(publish->quarantine, hold != NULL ? hold->age_ns : HELD_AGE_NS);
    publish->held = held_create(intake, ledger, audit, hold);
    publish->interrupted = interrupted_create(intake, ledger, audit);
    publish->delivery = delivery_create(intake, ledger, audit);
    enum status status = STATUS_OK;
    if (publish->bell == NULL || publish->long_bell == NULL || publish->mailbox == NULL ||
        publish->long_mailbox == NULL || publish->verify == NULL || publish->long_verify == NULL ||
        publish->quarantine == NULL || publish->held == NULL || publish->interrupted == NULL ||
        publish->delivery == NULL) {
        log_error("the publish stage can't be set up: %s", strerror(errno));
        status = status_from_errno(errno);
    }
    if (status == STATUS_OK) {
        verify_set_ledger(publish->verify, ledger);
        verify_set_ledger(publish->long_verify, ledger);
        status = worker_start("publish", run, publish, &publish->worker);
    }
    if (status == STATUS_OK) {
        while (sem_wait(&publish->started) != 0)
            continue;
        status = publish->start_status;
    }
    if (status == STATUS_OK)
        status = worker_start("verify", run_long, publish, &publish->long_worker);
    if (status != STATUS_OK) {
        publish_stop(publish);
        return status;
    }
    *out = publish;
    return STATUS_OK;
}

void publish_stop(struct publish *publish)
{
    if (publish == NULL)
        return;
    struct mailbox_entry *entry;
    atomic_store(&publish->long_stopping, true);
    if (publish->long_worker != NULL)
        doorbell_ring(publish->long_bell);
    worker_join(publish->long_worker);
    atomic_store(&publish->stopping, true);
    if (publish->worker != NULL)
        doorbell_ring(publish->bell);
    worker_join(publish->worker);
    /* What the one thread handed to the other after its end. */
    while (publish->long_mailbox != NULL && (entry = mailbox_take(publish->long_mailbox)) != NULL)
        answer(publish, (struct publish_job *)entry, PUBLISH_STOPPED);
    destroy(publish);
}
