// SPDX-License-Identifier: Apache-2.0
#include "receiver/checkpoint.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/checksum.h"
#include "common/doorbell.h"
#include "common/durable.h"
#include "common/log.h"
#include "common/worker.h"

enum {
    BATCH = 256,       /* jobs in a transaction */
    SYNCFS_ABOVE = 16, /* files in a batch from which one syncfs is cheaper */
    READ_SIZE = 1 << 20,
    PAGE = 4096,
};
/*
 * Files from here on are not kept in the page cache, also where the writer has no RWF_DONTCACHE for them.
 */
#define DROP_SIZE (INT64_C(256) << 20)

struct checkpoint {
    const struct intake *intake;
    struct ledger *ledger;
    struct mailbox *results;
    struct doorbell *bell;
    struct mailbox *mailbox;
    struct worker *worker;
    atomic_bool stopping;
    int syncfs_fd; /* of its own, so that each error of the file system is told to it once */
    struct checksum *checksum;
    uint8_t *buffer;

    /* Of the batch at hand. */
    struct checkpoint_job *batch[BATCH];
    uint32_t *files[BATCH]; /* of each job, ascending; malloc'ed */
    size_t file_count[BATCH];
    size_t count;
};

struct checkpoint_job *checkpoint_job_create(uint32_t sender_id, const uint8_t id[static TRANSFER_ID_SIZE])
{
    struct checkpoint_job *job = calloc(1, sizeof *job);
    if (job == NULL)
        return NULL;
    job->partial.key.sender_id = sender_id;
    memcpy(job->partial.key.transfer_id, id, TRANSFER_ID_SIZE);
    return job;
}

void checkpoint_job_destroy(struct checkpoint_job *job)
{
    if (job == NULL)
        return;
    partial_list_deinit(&job->list);
    ledger_partial_deinit(&job->partial);
    free(job);
}

void checkpoint_post(struct checkpoint *checkpoint, struct checkpoint_job *job)
{
    mailbox_post(checkpoint->mailbox, &job->entry);
}

static int by_number(const void *a, const void *b)
{
    const uint32_t *x = a;
    const uint32_t *y = b;
    return (*x > *y) - (*x < *y);
}

/* The distinct files that the job's ranges lie in. */
static bool list_files(struct checkpoint *checkpoint, size_t index)
{
    const struct partial_list *list = &checkpoint->batch[index]->list;
    uint32_t *files = malloc((list->count + 1) * sizeof *files);
    size_t count = 0;
    if (files == NULL)
        return false;
    for (size_t i = 0; i < list->count; i++)
        if (list->entries[i].kind == PARTIAL_HELD && (count == 0 || files[count - 1] != list->entries[i].file))
            files[count++] = list->entries[i].file;
    qsort(files, count, sizeof *files, by_number);
    size_t distinct = 0;
    for (size_t i = 0; i < count; i++)
        if (distinct == 0 || files[distinct - 1] != files[i])
            files[distinct++] = files[i];
    checkpoint->files[index] = files;
    checkpoint->file_count[index] = distinct;
    return true;
}

static int open_directory(const struct checkpoint *checkpoint, const struct checkpoint_job *job)
{
    char name[INTAKE_STAGING_NAME_SIZE];
    intake_staging_name(job->partial.key.sender_id, job->partial.key.transfer_id, name);
    return openat(checkpoint->intake->staging_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

static int open_file(int directory_fd, uint32_t file)
{
    char name[INTAKE_ARTIFACT_NAME_SIZE] = INTAKE_SMALL_NAME;
    if (file != PARTIAL_SMALL)
        intake_artifact_name(file, name);
    return openat(directory_fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
}

static void set_lost(struct checkpoint_job *job, int error)
{
    job->outcome = CHECKPOINT_LOST;
    job->error = error;
    job->remove = true;
}

/* Ranges of a file that is not there (any more) are not held. */
static void leave_out(struct partial_list *list, uint32_t file)
{
    size_t kept = 0;
    for (size_t i = 0; i < list->count; i++)
        if (list->entries[i].kind != PARTIAL_HELD || list->entries[i].file != file)
            list->entries[kept++] = list->entries[i];
    list->count = kept;
}

/* Reads a range back. False when it is not there as a whole. */
static bool hash_range(struct checkpoint *checkpoint, int fd, struct partial_entry *entry)
{
    checksum_reset(checkpoint->checksum);
    for (uint64_t at = entry->first; at < entry->end;) {
        size_t wanted = entry->end - at < READ_SIZE ? (size_t)(entry->end - at) : READ_SIZE;
        ssize_t got = pread(fd, checkpoint->buffer, wanted, (off_t)at);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return false;
        checksum_update(checkpoint->checksum, checkpoint->buffer, (size_t)got);
        at += (uint64_t)got;
    }
    checksum_final(checkpoint->checksum, entry->hash);
    entry->hashed = true;
    return true;
}

/* Hashes what was not hashed on arrival, and drops the pages of a large file. */
static void finish_file(struct checkpoint *checkpoint, struct checkpoint_job *job, int fd, uint32_t file)
{
    struct stat stat;
    bool drop = fstat(fd, &stat) == 0 && stat.st_size >= DROP_SIZE;
    size_t kept = 0;
    for (size_t i = 0; i < job->list.count; i++) {
        struct partial_entry *entry = &job->list.entries[i];
        bool is_ours = entry->kind == PARTIAL_HELD && entry->file == file;
        if (is_ours && !entry->hashed && !job->anew && !hash_range(checkpoint, fd, entry))
            continue;
        /* The page at the end is written to next. */
        if (is_ours && drop && entry->end / PAGE > entry->first / PAGE)
            (void)posix_fadvise(fd, (off_t)(entry->first / PAGE * PAGE),
                                (off_t)((entry->end / PAGE - entry->first / PAGE) * PAGE), POSIX_FADV_DONTNEED);
        job->list.entries[kept++] = *entry;
    }
    job->list.count = kept;
}

/* False when a flush failed; the job is lost then. */
static bool flush_file(struct checkpoint *checkpoint, struct checkpoint_job *job, int directory_fd, uint32_t file,
                       bool flushed)
{
    int fd = open_file(directory_fd, file);
    if (fd < 0 && errno == ENOENT) {
        leave_out(&job->list, file);
        return true;
    }
    if (fd < 0 || (!flushed && fdatasync(fd) != 0)) {
        set_lost(job, errno);
        if (fd >= 0)
            close(fd);
        return false;
    }
    finish_file(checkpoint, job, fd, file);
    close(fd);
    return true;
}

static void flush_job(struct checkpoint *checkpoint, size_t index, bool flushed)
{
    struct checkpoint_job *job = checkpoint->batch[index];
    if (checkpoint->file_count[index] == 0)
        return;
    int directory_fd = open_directory(checkpoint, job);
    bool good = directory_fd >= 0;
    if (directory_fd < 0 && errno != ENOENT)
        set_lost(job, errno);
    for (size_t i = 0; i < checkpoint->file_count[index]; i++) {
        if (good)
            good = flush_file(checkpoint, job, directory_fd, checkpoint->files[index][i], flushed);
        else if (job->outcome != CHECKPOINT_LOST)
            leave_out(&job->list, checkpoint->files[index][i]);
    }
    if (good && !flushed && fsync(directory_fd) != 0)
        set_lost(job, errno);
    if (directory_fd >= 0)
        close(directory_fd);
}

static void lose_all(struct checkpoint *checkpoint, int error)
{
    for (size_t i = 0; i < checkpoint->count; i++)
        if (checkpoint->file_count[i] > 0)
            set_lost(checkpoint->batch[i], error);
}

static void flush_all(struct checkpoint *checkpoint)
{
    size_t files = 0;
    for (size_t i = 0; i < checkpoint->count; i++)
        files += checkpoint->file_count[i];
    if (files == 0)
        return;
    bool flushed = files > SYNCFS_ABOVE;
    /* Whose pages could not be written nobody knows then. */
    if (flushed && syncfs(checkpoint->syncfs_fd) != 0) {
        lose_all(checkpoint, errno);
        return;
    }
    for (size_t i = 0; i < checkpoint->count; i++)
        flush_job(checkpoint, i, flushed);
    if (!flushed && fsync(checkpoint->syncfs_fd) != 0)
        lose_all(checkpoint, errno);
}

static void record(struct checkpoint *checkpoint)
{
    struct ledger_checkpoint changes[BATCH];
    uint8_t *encoded[BATCH];
    enum status status = STATUS_OK;
    for (size_t i = 0; i < checkpoint->count; i++) {
        struct checkpoint_job *job = checkpoint->batch[i];
        size_t size = 0;
        encoded[i] = partial_encode(&job->list, &size);
        if (encoded[i] == NULL)
            status = status_from_errno(ENOMEM);
        changes[i] = (struct ledger_checkpoint){.partial = &job->partial,
                                                .remove = job->remove,
                                                .anew = job->anew || job->first,
                                                .entries = encoded[i],
                                                .entries_size = size};
    }
    if (status == STATUS_OK)
        status = ledger_partial_record(checkpoint->ledger, changes, checkpoint->count);
    for (size_t i = 0; i < checkpoint->count; i++) {
        struct checkpoint_job *job = checkpoint->batch[i];
        free(encoded[i]);
        if (job->outcome != CHECKPOINT_LOST)
            job->outcome = status == STATUS_OK ? CHECKPOINT_RECORDED : CHECKPOINT_UNRECORDED;
    }
}

static bool run_batch(struct checkpoint *checkpoint)
{
    struct mailbox_entry *entry;
    checkpoint->count = 0;
    while (checkpoint->count < BATCH && (entry = mailbox_take(checkpoint->mailbox)) != NULL)
        checkpoint->batch[checkpoint->count++] = (struct checkpoint_job *)entry;
    if (checkpoint->count == 0)
        return false;
    bool listed = true;
    for (size_t i = 0; i < checkpoint->count; i++) {
        checkpoint->files[i] = NULL;
        checkpoint->file_count[i] = 0;
        listed = listed && list_files(checkpoint, i);
    }
    if (listed) {
        flush_all(checkpoint);
        record(checkpoint);
    }
    for (size_t i = 0; i < checkpoint->count; i++) {
        if (!listed)
            checkpoint->batch[i]->outcome = CHECKPOINT_UNRECORDED;
        free(checkpoint->files[i]);
        mailbox_post(checkpoint->results, &checkpoint->batch[i]->entry);
    }
    return true;
}

static void run(void *context)
{
    struct checkpoint *checkpoint = context;
    for (;;) {
        /* Read before the mailbox, so that what was posted before the stop is still recorded. */
        bool stop = atomic_load(&checkpoint->stopping);
        if (run_batch(checkpoint))
            continue;
        if (stop)
            return;
        doorbell_arm(checkpoint->bell);
        if (!run_batch(checkpoint) && !atomic_load(&checkpoint->stopping))
            doorbell_wait(checkpoint->bell, UINT64_MAX);
        doorbell_disarm(checkpoint->bell);
    }
}

enum status checkpoint_start(const struct intake *intake, struct ledger *ledger, struct mailbox *results,
                             struct checkpoint **out)
{
    struct checkpoint *checkpoint = calloc(1, sizeof *checkpoint);
    *out = NULL;
    if (checkpoint == NULL)
        return status_from_errno(ENOMEM);
    checkpoint->intake = intake;
    checkpoint->ledger = ledger;
    checkpoint->results = results;
    checkpoint->bell = doorbell_create();
    checkpoint->mailbox = mailbox_create(checkpoint->bell);
    checkpoint->checksum = checksum_create();
    checkpoint->buffer = malloc(READ_SIZE);
    checkpoint->syncfs_fd = openat(intake->fd, ".staging", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    enum status status = STATUS_OK;
    if (checkpoint->bell == NULL || checkpoint->mailbox == NULL || checkpoint->buffer == NULL ||
        checkpoint->syncfs_fd < 0) {
        log_error("the checkpoint stage can't be set up: %s", strerror(errno));
        status = status_from_errno(errno);
    }
    if (status == STATUS_OK)
        status = worker_start("checkpoint", run, checkpoint, &checkpoint->worker);
    if (status != STATUS_OK) {
        checkpoint_stop(checkpoint);
        return status;
    }
    *out = checkpoint;
    return STATUS_OK;
}

void checkpoint_stop(struct checkpoint *checkpoint)
{
    if (checkpoint == NULL)
        return;
    atomic_store(&checkpoint->stopping, true);
    if (checkpoint->worker != NULL)
        doorbell_ring(checkpoint->bell);
    worker_join(checkpoint->worker);
    mailbox_destroy(checkpoint->mailbox);
    doorbell_destroy(checkpoint->bell);
    checksum_destroy(checkpoint->checksum);
    free(checkpoint->buffer);
    if (checkpoint->syncfs_fd >= 0)
        close(checkpoint->syncfs_fd);
    free(checkpoint);
}
