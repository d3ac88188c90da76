// SPDX-License-Identifier: Apache-2.0
#include "receiver/delivery.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/digest.h"
#include "common/durable.h"
#include "common/log.h"
#include "proto/manifest.h"
#include "receiver/witness.h"

enum {
    CHANNELS = DELIVERY_BATCH, /* distinct ones in a batch */
    SYNCFS_ABOVE = 16,         /* files in a batch from which one syncfs pays */
    SUFFIXES = 1000,
};

struct channel {
    char name[LIMIT_CHANNEL_LENGTH + 1];
    int fd;
    gid_t group;
};

struct delivery {
    const struct intake *intake;
    struct ledger *ledger;
    struct audit *audit;
    struct io_uring *ring;
    int syncfs_fd;      /* of its own, so that each error of the file system is told to it once */
    bool syncfs_is_all; /* behind it nothing is left to flush, nor an error to be told */

    /* Of the batch at hand. */
    delivery_fell *fell;
    void *context;
    struct channel channels[CHANNELS];
    unsigned channel_count;
    struct ledger_delivery records[DELIVERY_BATCH];
    struct audit_entry entries[DELIVERY_BATCH];
    struct ledger_key keys[DELIVERY_BATCH];
};

/*
 * Whether syncfs(2) makes all durable there that fsync(2) would, and tells of the same errors. Elsewhere it may leave
 * out the flush of a disk's or a server's cache, as on vfat, cifs, 9p and FUSE, or miss errors, as on overlayfs.
 */
static bool syncfs_is_all(long type)
{
    static const long known[] = {EXT4_SUPER_MAGIC, XFS_SUPER_MAGIC, BTRFS_SUPER_MAGIC, F2FS_SUPER_MAGIC, TMPFS_MAGIC};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (type == known[i])
            return true;
    return false;
}

struct delivery *delivery_create(const struct intake *intake, struct ledger *ledger, struct audit *audit)
{
    struct delivery *delivery = calloc(1, sizeof *delivery);
    if (delivery == NULL)
        return NULL;
    delivery->intake = intake;
    delivery->ledger = ledger;
    delivery->audit = audit;
    delivery->syncfs_fd = openat(intake->fd, ".staging", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct statfs facts;
    if (delivery->syncfs_fd < 0 || fstatfs(delivery->syncfs_fd, &facts) != 0) {
        delivery_destroy(delivery);
        return NULL;
    }
    delivery->syncfs_is_all = syncfs_is_all(facts.f_type);
    return delivery;
}

void delivery_destroy(struct delivery *delivery)
{
    if (delivery == NULL)
        return;
    if (delivery->syncfs_fd >= 0)
        close(delivery->syncfs_fd);
    free(delivery);
}

void delivery_set_ring(struct delivery *delivery, struct io_uring *ring)
{
    delivery->ring = ring;
}

static struct channel *find_channel(struct delivery *delivery, const char *name)
{
    for (unsigned i = 0; i < delivery->channel_count; i++)
        if (strcmp(delivery->channels[i].name, name) == 0)
            return &delivery->channels[i];
    return NULL;
}

/* The channel's directory, opened once a batch; NULL with errno. */
static struct channel *open_channel(struct delivery *delivery, const char *name)
{
    struct channel *channel = find_channel(delivery, name);
    if (channel != NULL)
        return channel;
    assert(delivery->channel_count < CHANNELS);
    channel = &delivery->channels[delivery->channel_count];
    if (strcmp(name, INTAKE_QUARANTINE) == 0)
        channel->fd = fcntl(delivery->intake->quarantine_fd, F_DUPFD_CLOEXEC, 0);
    else if (intake_open_channel(delivery->intake, name, &channel->fd) != STATUS_OK)
        channel->fd = -1;
    if (channel->fd < 0)
        return NULL;
    struct stat stat;
    if (fstat(channel->fd, &stat) != 0) {
        close(channel->fd);
        return NULL;
    }
    snprintf(channel->name, sizeof channel->name, "%s", name);
    channel->group = stat.st_gid;
    delivery->channel_count++;
    return channel;
}

/* Where the job's tree is to appear: a directory of the intake. */
static const char *place_of(const struct publish_job *job)
{
    return job->held != NULL ? INTAKE_QUARANTINE : job->assembly->channel;
}

/* Its name there, of LIMIT_COMPONENT_LENGTH + 1 bytes. */
static char *name_of(struct publish_job *job)
{
    return job->held != NULL ? job->held->place : job->delivery.directory;
}

/* Nothing of it is kept: there is only the record. */
static bool is_bare(const struct publish_job *job)
{
    return job->held != NULL && job->held->kept == LEDGER_KEPT_NOTHING;
}

static enum tree_form form_of(const struct publish_job *job)
{
    if (job->held == NULL)
        return TREE_DELIVERY;
    return job->held->kept == LEDGER_KEPT_ALL ? TREE_HELD : TREE_MANIFEST;
}

/* Of the channel that it is meant for, which it does not make: what is held back may never get there. */
static gid_t group_of(const struct delivery *delivery, const struct publish_job *job)
{
    struct stat stat;
    if (fstatat(delivery->intake->fd, job->assembly->channel, &stat, 0) == 0 || fstat(delivery->intake->fd, &stat) == 0)
        return stat.st_gid;
    return getegid();
}

static void close_channels(struct delivery *delivery)
{
    for (unsigned i = 0; i < delivery->channel_count; i++)
        close(delivery->channels[i].fd);
    delivery->channel_count = 0;
}

/* Keeps, in order, the jobs for which `step` holds; returns their number. The step has given the others away. */
static size_t keep(struct delivery *delivery, struct publish_job *batch[], size_t count,
                   bool (*step)(struct delivery *delivery, struct publish_job *job))
{
    size_t kept = 0;
    for (size_t i = 0; i < count; i++)
        if (step(delivery, batch[i]))
            batch[kept++] = batch[i];
    return kept;
}

static bool drop(struct delivery *delivery, struct publish_job *job, enum delivery_trouble trouble, enum status status,
                 const char *what)
{
    int error = errno;
    if (!job->renamed && !job->intended)
        tree_remove(delivery->intake, job->sender_id, job->id);
    errno = error;
    delivery->fell(delivery->context, job, trouble, status, what);
    return false;
}

/*
 * Takes the intent back. As long as it may be in the ledger, and be it that only the answer to its commit was an error,
 * the tree stays as it is: without the tree the next start would take the transfer for delivered.
 */
static bool withdraw(struct delivery *delivery, struct publish_job *job)
{
    if (job->intended && ledger_publish_failed(delivery->ledger, job->sender_id, job->id) != STATUS_OK)
        return false;
    job->intended = false;
    return true;
}

/* The staged directory must be there when the intent is read after a crash (recover.h), for an empty transfer too. */
static bool have_staging(const struct delivery *delivery, const struct publish_job *job)
{
    char name[INTAKE_STAGING_NAME_SIZE];
    intake_staging_name(job->sender_id, job->id, name);
    return mkdirat(delivery->intake->staging_fd, name, 0700) == 0 || errno == EEXIST;
}

static void fill_record(struct publish_job *job, const struct tree_facts *facts)
{
    const struct assembly *assembly = job->assembly;
    struct ledger_delivery *record = &job->delivery;
    *record = (struct ledger_delivery){.sender_id = assembly->sender_id,
                                       .sequence = assembly->sequence,
                                       .bytes = assembly->total_bytes,
                                       .at_ns = facts->delivered_at_ns};
    memcpy(record->transfer_id, assembly->id, TRANSFER_ID_SIZE);
    memcpy(record->chain_id, assembly->chain_id, CHAIN_ID_SIZE);
    memcpy(record->channel, assembly->channel, sizeof record->channel);
    memcpy(record->name, assembly->name, sizeof record->name);
    memcpy(record->manifest_hash, facts->manifest_hash, SHA256_SIZE);
}

static bool build(struct delivery *delivery, struct publish_job *job)
{
    struct assembly *assembly = job->assembly;
    struct channel *channel = open_channel(delivery, place_of(job));
    if (channel == NULL)
        return drop(delivery, job, DELIVERY_WAIT, status_from_errno(errno), "the channel's directory can't be opened");
    if (job->renamed)
        return true; /* its parents are flushed with the others' */
    if (!withdraw(delivery, job))
        return drop(delivery, job, DELIVERY_LEDGER, status_from_errno(errno), "the ledger can't be written");
    uint64_t newest;
    enum status status = ledger_newest_in_channel(delivery->ledger, assembly->chain_id, assembly->channel, &newest);
    if (status != STATUS_OK)
        return drop(delivery, job, DELIVERY_LEDGER, status, "the ledger can't be read");
    struct tree_facts facts = {.form = form_of(job),
                               .reason = job->held != NULL ? job->held->reason : NULL,
                               .group = job->held != NULL ? group_of(delivery, job) : channel->group,
                               .late = newest > assembly->sequence,
                               .delivered_at_ns = clock_realtime_ns()};
    digest_once(assembly->manifest.body, assembly->manifest.body_size, facts.manifest_hash);
    fill_record(job, &facts);

    const char *what = "its directory in .staging";
    if (!have_staging(delivery, job))
        return drop(delivery, job, DELIVERY_WAIT, status_from_errno(errno), what);
    if (is_bare(job))
        return true;
    status = tree_build(delivery->intake, assembly, &facts, &what);
    return status == STATUS_OK || drop(delivery, job, DELIVERY_WAIT, status, what);
}

static bool flush(struct delivery *delivery, struct publish_job *job)
{
    if (job->renamed || is_bare(job))
        return true;
    enum status status = tree_flush(delivery->intake, job->assembly, form_of(job), delivery->ring);
    return status == STATUS_OK || drop(delivery, job, DELIVERY_LOST, status, "flushing to disk failed");
}

/* Drops what is not renamed yet. */
static size_t drop_unrenamed(struct delivery *delivery, struct publish_job *batch[], size_t count,
                             enum delivery_trouble trouble, enum status status, const char *what)
{
    int error = errno;
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        errno = error;
        if (batch[i]->renamed || drop(delivery, batch[i], trouble, status, what))
            batch[kept++] = batch[i];
    }
    return kept;
}

static size_t flush_all(struct delivery *delivery, struct publish_job *batch[], size_t count)
{
    uint64_t files = 0;
    for (size_t i = 0; i < count; i++)
        files += tree_file_count(batch[i]->assembly);
    if (files <= SYNCFS_ABOVE)
        return keep(delivery, batch, count, flush);
    /* Also tells of pages of files that were closed long ago, whose inodes may be forgotten. Whose they were nobody
     * knows, so all of the batch is held to be damaged; and what is published later is asked file by file, because
     * this was said once for all. */
    if (syncfs(delivery->syncfs_fd) != 0) {
        delivery->syncfs_is_all = false;
        return drop_unrenamed(delivery, batch, count, DELIVERY_LOST, status_from_errno(errno),
                              "flushing to disk failed");
    }
    return delivery->syncfs_is_all ? count : keep(delivery, batch, count, flush);
}

bool delivery_free_name(int channel_fd, const char *wanted, unsigned first_suffix,
                        char name[static LIMIT_COMPONENT_LENGTH + 1], unsigned *suffix)
{
    struct stat stat;
    for (unsigned i = first_suffix; i < SUFFIXES; i++) {
        if (i < 2)
            snprintf(name, LIMIT_COMPONENT_LENGTH + 1, "%s", wanted);
        else
            snprintf(name, LIMIT_COMPONENT_LENGTH + 1, "%s~%u", wanted, i);
        if (fstatat(channel_fd, name, &stat, AT_SYMLINK_NOFOLLOW) != 0 && errno == ENOENT) {
            *suffix = i;
            return true;
        }
    }
    errno = EEXIST;
    return false;
}

/* Whether an earlier job of the batch goes to the same place. */
static bool is_taken(struct publish_job *const batch[], size_t count, struct publish_job *job)
{
    for (size_t i = 0; i < count; i++)
        if (batch[i]->delivery.sequence == job->delivery.sequence && !batch[i]->renamed &&
            strcmp(name_of(batch[i]), name_of(job)) == 0 && strcmp(place_of(batch[i]), place_of(job)) == 0)
            return true;
    return false;
}

static size_t choose_names(struct delivery *delivery, struct publish_job *batch[], size_t count)
{
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        struct publish_job *job = batch[i];
        struct ledger_delivery *record = &job->delivery;
        char wanted[IDENTITY_DELIVERED_NAME_SIZE];
        unsigned suffix = 0;
        bool found = true;
        if (!job->renamed) {
            identity_delivered_name(record->sequence, record->sender_id, record->name, wanted);
            int fd = find_channel(delivery, place_of(job))->fd;
            do {
                found = delivery_free_name(fd, wanted, suffix == 0 ? 1 : suffix + 1, name_of(job), &suffix);
            } while (found && is_taken(batch, kept, job));
        }
        if (found || drop(delivery, job, DELIVERY_WAIT, STATUS_EXISTS, "no free name in the channel"))
            batch[kept++] = job;
    }
    return kept;
}

static int by_sequence(const void *a, const void *b)
{
    const struct publish_job *const *first = a;
    const struct publish_job *const *second = b;
    uint64_t x = (*first)->assembly->sequence;
    uint64_t y = (*second)->assembly->sequence;
    return (x > y) - (x < y);
}

/* One by one, because a row that is there already fails the transaction of all. */
static bool record_intent(struct delivery *delivery, struct publish_job *job)
{
    if (job->renamed)
        return true;
    job->intended = true;
    if (job->held != NULL)
        job->held->delivery = job->delivery;
    enum status status = job->held != NULL ? ledger_holding(delivery->ledger, job->held)
                                           : ledger_publishing(delivery->ledger, &job->delivery, 1);
    if (status == STATUS_OK)
        return true;
    job->intended = status != STATUS_EXISTS;
    return status == STATUS_EXISTS
               ? drop(delivery, job, DELIVERY_LOST, status, "a transfer with this id was delivered before")
               : drop(delivery, job, DELIVERY_LEDGER, status, "the ledger can't be written");
}

/* Of those that are not held back. */
static void set_intended(struct publish_job *batch[], size_t count, bool intended)
{
    for (size_t i = 0; i < count; i++)
        if (batch[i]->held == NULL)
            batch[i]->intended = intended;
}

static bool any_is_held(struct publish_job *const batch[], size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (batch[i]->held != NULL && !batch[i]->renamed)
            return true;
    return false;
}

static bool record_held_intent(struct delivery *delivery, struct publish_job *job)
{
    return job->held == NULL || record_intent(delivery, job);
}

static size_t record_intents(struct delivery *delivery, struct publish_job *batch[], size_t count)
{
    size_t records = 0;
    for (size_t i = 0; i < count; i++)
        if (!batch[i]->renamed && batch[i]->held == NULL)
            delivery->records[records++] = batch[i]->delivery;
    if (records == 0 && !any_is_held(batch, count))
        return count;
    /* The trees' names in .staging come first: a recorded intent without its tree means that it was renamed. */
    enum status status = durable_sync_directory(delivery->intake->staging_fd, NULL);
    if (status != STATUS_OK)
        return drop_unrenamed(delivery, batch, count, DELIVERY_LOST, status, "flushing .staging failed");
    if (records > 0) {
        set_intended(batch, count, true);
        status = ledger_publishing(delivery->ledger, delivery->records, records);
    }
    if (status == STATUS_EXISTS) {
        set_intended(batch, count, false);
        return keep(delivery, batch, count, record_intent);
    }
    if (status != STATUS_OK)
        return drop_unrenamed(delivery, batch, count, DELIVERY_LEDGER, status, "the ledger can't be written");
    return keep(delivery, batch, count, record_held_intent);
}

/* Nothing becomes visible that the audit log does not say was verified. */
static size_t record_verified(struct delivery *delivery, struct publish_job *batch[], size_t count)
{
    size_t records = 0;
    for (size_t i = 0; i < count; i++)
        if (!batch[i]->attested)
            witness_delivery(&delivery->entries[records++], AUDIT_VERIFIED, &batch[i]->delivery);
    enum status status = audit_record(delivery->audit, delivery->entries, records);
    if (status != STATUS_OK)
        return drop_unrenamed(delivery, batch, count, DELIVERY_AUDIT, status, "the audit log can't be written");
    for (size_t i = 0; i < count; i++)
        batch[i]->attested = true;
    return count;
}

static bool rename_tree(struct delivery *delivery, struct publish_job *job)
{
    if (job->renamed)
        return true;
    char tree[INTAKE_STAGING_NAME_SIZE];
    intake_tree_name(job->sender_id, job->id, tree);
    const struct channel *channel = find_channel(delivery, place_of(job));
    if (is_bare(job) ||
        renameat2(delivery->intake->staging_fd, tree, channel->fd, name_of(job), RENAME_NOREPLACE) == 0) {
        job->renamed = true;
        return true;
    }
    int error = errno;
    const char *what = error == EXDEV ? "the channel's directory lies on another file system than .staging"
                                      : "the rename into the channel failed";
    if (!withdraw(delivery, job))
        what = "the rename into the channel failed, and so did the ledger";
    errno = error;
    return drop(delivery, job, DELIVERY_WAIT, status_from_errno(error), what);
}

static enum status flush_parents(const struct delivery *delivery)
{
    enum status status = durable_sync_directory(delivery->intake->staging_fd, NULL);
    for (unsigned i = 0; i < delivery->channel_count && status == STATUS_OK; i++)
        status = durable_sync_directory(delivery->channels[i].fd, NULL);
    return status;
}

static size_t drop_all(struct delivery *delivery, struct publish_job *batch[], size_t count,
                       enum delivery_trouble trouble, enum status status, const char *what)
{
    int error = errno;
    for (size_t i = 0; i < count; i++) {
        errno = error;
        (void)drop(delivery, batch[i], trouble, status, what);
    }
    return 0;
}

/* Before the ledger: a crash in between is told by the audit log's end (recover.h), so that it is recorded once. */
static enum status record_visible(struct delivery *delivery, struct publish_job *batch[], size_t count)
{
    size_t records = 0;
    for (size_t i = 0; i < count; i++) {
        if (batch[i]->audited)
            continue;
        struct audit_entry *entry = &delivery->entries[records++];
        witness_delivery(entry, batch[i]->held != NULL ? AUDIT_HELD : AUDIT_DELIVERED, &batch[i]->delivery);
        entry->detail = batch[i]->held != NULL ? batch[i]->held->reason : NULL;
    }
    enum status status = audit_record(delivery->audit, delivery->entries, records);
    for (size_t i = 0; i < count && status == STATUS_OK; i++)
        batch[i]->audited = true;
    return status;
}

/* A rename that is not known to be durable is not recorded: the intent and what lies where decide after a crash. */
static size_t record_deliveries(struct delivery *delivery, struct publish_job *batch[], size_t count)
{
    enum status status = flush_parents(delivery);
    if (status != STATUS_OK)
        return drop_all(delivery, batch, count, DELIVERY_WAIT, status, "flushing the channel's directory failed");
    status = record_visible(delivery, batch, count);
    if (status != STATUS_OK)
        return drop_all(delivery, batch, count, DELIVERY_AUDIT, status, "the audit log can't be written");
    for (size_t i = 0; i < count; i++) {
        delivery->keys[i].sender_id = batch[i]->sender_id;
        memcpy(delivery->keys[i].transfer_id, batch[i]->id, TRANSFER_ID_SIZE);
    }
    status = ledger_delivered(delivery->ledger, delivery->keys, count);
    if (status != STATUS_OK)
        return drop_all(delivery, batch, count, DELIVERY_LEDGER, status, "the delivery can't be recorded");
    return count;
}

size_t delivery_run(struct delivery *delivery, struct publish_job *batch[], size_t count, delivery_fell *fell,
                    void *context)
{
    assert(count <= DELIVERY_BATCH);
    delivery->fell = fell;
    delivery->context = context;
    /* In this order none is called late because of another one of the same batch. */
    qsort(batch, count, sizeof *batch, by_sequence);
    count = keep(delivery, batch, count, build);
    count = flush_all(delivery, batch, count);
    count = choose_names(delivery, batch, count);
    count = record_intents(delivery, batch, count);
    count = record_verified(delivery, batch, count);
    count = keep(delivery, batch, count, rename_tree);
    if (count > 0)
        count = record_deliveries(delivery, batch, count);
    close_channels(delivery);
    return count;
}

void delivery_clear_staging(struct delivery *delivery, const struct publish_job *job)
{
    char name[INTAKE_STAGING_NAME_SIZE];
    intake_staging_name(job->sender_id, job->id, name);
    if (durable_remove_tree(delivery->intake->staging_fd, name) != STATUS_OK)
        log_warning("%s/.staging/%s can't be removed: %s; the next start tries again", delivery->intake->path, name,
                    strerror(errno));
}
