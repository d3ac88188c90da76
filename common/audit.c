// SPDX-License-Identifier: Apache-2.0
#include "common/audit.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/audit_format.h"
#include "common/audit_log.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/worker.h"

/*
 * Callers put bodies of records into two lists, those that wait for the disk and those that don't; one thread gives
 * them numbers, chains, writes and flushes them, as many at once as there are.
 */

enum {
    NOTES_KEPT = 8 << 20,      /* bytes of notes that wait for a disk; later ones are counted */
    CHECKPOINT_RECORDS = 4096, /* from which a batch gets a checkpoint */
    DIRECTORY_SIZE = 4096,
    BODY_GUESS = 512, /* bytes of an ordinary body */
};
#define NOTE_DELAY_NS (500 * CLOCK_MILLISECOND_NS)
#define CHECKPOINT_NS (10 * CLOCK_SECOND_NS) /* of the oldest record without one */
#define RETRY_NS      CLOCK_SECOND_NS
#define NEVER         UINT64_MAX

/* Bodies of one call, one behind the other. */
struct group {
    struct group *next;
    size_t count, size;
    bool waits; /* the caller does, and owns it; else it is malloc'ed */
    bool done;
    enum status status;
    int error;
    char *bytes;
    uint32_t *sizes;   /* [count] */
    uint32_t one_size; /* of a note */
};

struct list {
    struct group *first, **end;
    size_t bytes;
};

struct audit {
    const char *side;
    struct worker *worker;
    atomic_bool failing;

    pthread_mutex_t mutex;
    pthread_cond_t work, done;
    struct list waiting, notes; /* under the mutex, as all below */
    uint64_t lost;              /* notes that were not kept */
    uint64_t note_due_ns;
    bool stopping;

    /* The thread's own. */
    struct audit_log *log;
    uint64_t retry_ns, checkpoint_due_ns;
    int64_t failed_since_ns; /* CLOCK_REALTIME */
    int failed_error;
    char directory[DIRECTORY_SIZE];
};

static void list_clear(struct list *list)
{
    *list = (struct list){.first = NULL};
    list->end = &list->first;
}

static void list_append(struct list *list, struct group *group)
{
    group->next = NULL;
    *list->end = group;
    list->end = &group->next;
    list->bytes += group->size;
}

static struct group *list_take(struct list *list)
{
    struct group *group = list->first;
    list->first = group->next;
    if (list->first == NULL)
        list->end = &list->first;
    list->bytes -= group->size;
    return group;
}

/* Puts `front` before what is in `list`; front is empty afterwards. */
static void list_give_back(struct list *list, struct list *front)
{
    if (front->first != NULL) {
        *front->end = list->first;
        if (list->first == NULL)
            list->end = front->end;
        list->first = front->first;
        list->bytes += front->bytes;
    }
    list_clear(front);
}

static void add_own(struct audit *audit, enum audit_event event, const char *detail)
{
    char body[AUDIT_BODY_SIZE];
    struct audit_entry entry = {.event = event, .detail = detail};
    size_t size = audit_format_body(&entry, audit->side, clock_realtime_ns(), body);
    (void)audit_log_add(audit->log, body, size);
}

static void add_groups(struct audit *audit, const struct list *list)
{
    for (const struct group *group = list->first; group != NULL; group = group->next) {
        const char *at = group->bytes;
        for (size_t i = 0; i < group->count; i++) {
            (void)audit_log_add(audit->log, at, group->sizes[i]);
            at += group->sizes[i];
        }
    }
}

static void add_resumed(struct audit *audit, uint64_t lost)
{
    char since[AUDIT_TIME_SIZE], detail[AUDIT_DETAIL_SIZE];
    audit_time_text(audit->failed_since_ns, since);
    if (audit->failing)
        snprintf(detail, sizeof detail, "the log could not be written since %s: %s; %" PRIu64 " records are lost",
                 since, strerror(audit->failed_error), lost);
    else
        snprintf(detail, sizeof detail, "%" PRIu64 " records came faster than the disk takes them and are lost", lost);
    add_own(audit, AUDIT_RESUMED, detail);
}

static void note_outcome(struct audit *audit, enum status status)
{
    uint64_t now_ns = clock_monotonic_ns();
    if (status != STATUS_OK) {
        int error = errno;
        audit->retry_ns = now_ns + RETRY_NS;
        if (!audit->failing) {
            log_error("the audit log in %s can't be written: %s; nothing is taken in or published until it can",
                      audit->directory, strerror(error));
            audit->failed_since_ns = clock_realtime_ns();
            audit->failed_error = error;
        }
        atomic_store(&audit->failing, true);
        errno = error;
        return;
    }
    if (audit->failing)
        log_notice("the audit log in %s can be written again", audit->directory);
    atomic_store(&audit->failing, false);
    audit->retry_ns = NEVER;
    if (audit_log_unsigned_count(audit->log) == 0)
        audit->checkpoint_due_ns = NEVER;
    else if (audit->checkpoint_due_ns == NEVER)
        audit->checkpoint_due_ns = now_ns + CHECKPOINT_NS;
}

/* Writes what was taken out of the lists, and what is due of the log's own; without the mutex. */
static enum status write_out(struct audit *audit, const struct list *notes, const struct list *waiting, uint64_t lost,
                             bool last)
{
    uint64_t now_ns = clock_monotonic_ns();
    enum status status = audit_log_begin(audit->log, clock_realtime_ns());
    if (status == STATUS_OK) {
        if (audit->failing || lost > 0)
            add_resumed(audit, lost);
        add_groups(audit, notes);
        add_groups(audit, waiting);
        uint64_t unsigned_count = audit_log_pending_count(audit->log);
        if (unsigned_count >= CHECKPOINT_RECORDS ||
            (unsigned_count > 0 && (last || now_ns >= audit->checkpoint_due_ns)))
            audit_log_add_checkpoint(audit->log, clock_realtime_ns());
        status = audit_log_commit(audit->log);
    }
    note_outcome(audit, status);
    return status;
}

static void take_some(struct list *from, struct list *to, size_t limit)
{
    list_clear(to);
    while (from->first != NULL && (to->first == NULL || to->bytes + from->first->size <= limit))
        list_append(to, list_take(from));
}

/* Takes a batch, writes it and tells who waits. With the mutex, which it gives away in between. */
static bool turn(struct audit *audit, bool last)
{
    struct list notes, waiting;
    uint64_t lost = audit->lost;
    int error;
    take_some(&audit->notes, &notes, AUDIT_LOG_BATCH_SIZE);
    take_some(&audit->waiting, &waiting, AUDIT_LOG_BATCH_SIZE);
    audit->note_due_ns = audit->notes.first != NULL ? 0 : NEVER;
    pthread_mutex_unlock(&audit->mutex);
    enum status status = write_out(audit, &notes, &waiting, lost, last);
    error = errno;
    pthread_mutex_lock(&audit->mutex);
    while (waiting.first != NULL) {
        struct group *group = list_take(&waiting);
        group->status = status;
        group->error = error;
        group->done = true;
    }
    pthread_cond_broadcast(&audit->done);
    if (status != STATUS_OK) {
        list_give_back(&audit->notes, &notes);
        return false;
    }
    audit->lost -= lost;
    while (notes.first != NULL)
        free(list_take(&notes));
    return true;
}

/* When the thread has something to do although nobody waits. */
static uint64_t due_ns(const struct audit *audit)
{
    if (audit->failing)
        return audit->retry_ns;
    return audit->note_due_ns < audit->checkpoint_due_ns ? audit->note_due_ns : audit->checkpoint_due_ns;
}

static void wait_until(struct audit *audit, uint64_t until_ns)
{
    struct timespec until = {.tv_sec = (time_t)(until_ns / CLOCK_SECOND_NS),
                             .tv_nsec = (long)(until_ns % CLOCK_SECOND_NS)};
    if (until_ns == NEVER)
        pthread_cond_wait(&audit->work, &audit->mutex);
    else
        pthread_cond_timedwait(&audit->work, &audit->mutex, &until);
}

static void run(void *context)
{
    struct audit *audit = context;
    pthread_mutex_lock(&audit->mutex);
    while (!audit->stopping) {
        if (audit->waiting.first != NULL || clock_monotonic_ns() >= due_ns(audit))
            (void)turn(audit, false);
        else
            wait_until(audit, due_ns(audit));
    }
    while (turn(audit, true) && audit->notes.first != NULL)
        continue;
    if (audit->notes.first != NULL || audit->lost > 0)
        log_error("the audit log in %s lacks what was last noted: it could not be written", audit->directory);
    pthread_mutex_unlock(&audit->mutex);
}

static void destroy(struct audit *audit)
{
    while (audit->notes.first != NULL)
        free(list_take(&audit->notes));
    audit_log_close(audit->log);
    pthread_cond_destroy(&audit->work);
    pthread_cond_destroy(&audit->done);
    pthread_mutex_destroy(&audit->mutex);
    free(audit);
}

enum status audit_open(const char *state_directory, const char *side, struct audit **out)
{
    struct audit *audit = calloc(1, sizeof *audit);
    pthread_condattr_t monotonic;
    assert(audit != NULL);
    *out = NULL;
    audit->side = side;
    audit->note_due_ns = audit->retry_ns = audit->checkpoint_due_ns = NEVER;
    list_clear(&audit->waiting);
    list_clear(&audit->notes);
    snprintf(audit->directory, sizeof audit->directory, "%s/audit", state_directory);
    pthread_mutex_init(&audit->mutex, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&audit->work, &monotonic);
    pthread_cond_init(&audit->done, &monotonic);
    pthread_condattr_destroy(&monotonic);

    enum status status = audit_log_open(audit->directory, side, AUDIT_LOG_SEGMENT_SIZE, &audit->log);
    if (status == STATUS_OK && audit_log_repair(audit->log)[0] != '\0') {
        struct audit_entry repaired = {.event = AUDIT_REPAIRED, .detail = audit_log_repair(audit->log)};
        audit_note(audit, &repaired);
    }
    if (status == STATUS_OK) {
        status = worker_start("audit", run, audit, &audit->worker);
        if (status != STATUS_OK)
            log_error("the audit thread can't start: %s; raise TasksMax", strerror(errno));
    }
    if (status != STATUS_OK) {
        int error = errno;
        destroy(audit);
        errno = error;
        return status;
    }
    *out = audit;
    return STATUS_OK;
}

void audit_close(struct audit *audit)
{
    if (audit == NULL)
        return;
    pthread_mutex_lock(&audit->mutex);
    assert(audit->waiting.first == NULL);
    audit->stopping = true;
    pthread_cond_signal(&audit->work);
    pthread_mutex_unlock(&audit->mutex);
    worker_join(audit->worker);
    destroy(audit);
}

enum status audit_record(struct audit *audit, const struct audit_entry *entries, size_t count)
{
    if (audit == NULL || count == 0)
        return STATUS_OK;
    assert(count <= AUDIT_BATCH);
    struct group group = {.count = count, .waits = true};
    char body[AUDIT_BODY_SIZE];
    size_t capacity = AUDIT_BODY_SIZE + count * BODY_GUESS;
    int64_t now_ns = clock_realtime_ns();
    group.sizes = calloc(count, sizeof *group.sizes);
    group.bytes = malloc(capacity);
    assert(group.sizes != NULL && group.bytes != NULL);
    for (size_t i = 0; i < count; i++) {
        size_t size = audit_format_body(&entries[i], audit->side, now_ns, body);
        if (capacity - group.size < size) {
            capacity = 2 * capacity + AUDIT_BODY_SIZE;
            group.bytes = realloc(group.bytes, capacity);
            assert(group.bytes != NULL);
        }
        memcpy(group.bytes + group.size, body, size);
        group.sizes[i] = (uint32_t)size;
        group.size += size;
    }
    pthread_mutex_lock(&audit->mutex);
    list_append(&audit->waiting, &group);
    pthread_cond_signal(&audit->work);
    while (!group.done)
        pthread_cond_wait(&audit->done, &audit->mutex);
    pthread_mutex_unlock(&audit->mutex);
    free(group.bytes);
    free(group.sizes);
    errno = group.error;
    return group.status;
}

void audit_note(struct audit *audit, const struct audit_entry *entry)
{
    if (audit == NULL)
        return;
    char body[AUDIT_BODY_SIZE];
    size_t size = audit_format_body(entry, audit->side, clock_realtime_ns(), body);
    struct group *group = malloc(sizeof *group + size);
    assert(group != NULL);
    *group = (struct group){.count = 1, .size = size, .one_size = (uint32_t)size, .bytes = (char *)(group + 1)};
    group->sizes = &group->one_size;
    memcpy(group->bytes, body, size);
    pthread_mutex_lock(&audit->mutex);
    bool kept = audit->notes.bytes + size <= NOTES_KEPT;
    if (kept)
        list_append(&audit->notes, group);
    else
        audit->lost++;
    /* The first sets the time for all that come until then; a full batch does not wait for it. */
    bool wakes = audit->note_due_ns == NEVER || (audit->note_due_ns != 0 && audit->notes.bytes > AUDIT_LOG_BATCH_SIZE);
    if (wakes) {
        audit->note_due_ns = audit->notes.bytes > AUDIT_LOG_BATCH_SIZE ? 0 : clock_monotonic_ns() + NOTE_DELAY_NS;
        pthread_cond_signal(&audit->work);
    }
    pthread_mutex_unlock(&audit->mutex);
    if (!kept)
        free(group);
}

bool audit_is_failing(const struct audit *audit)
{
    return audit != NULL && atomic_load(&audit->failing);
}

bool audit_was_recorded(const struct audit *audit, enum audit_event event,
                        const uint8_t transfer_id[static TRANSFER_ID_SIZE])
{
    return audit != NULL && audit_log_was_recorded(audit->log, event, transfer_id);
}
