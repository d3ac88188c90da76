// SPDX-License-Identifier: Apache-2.0
#include "receiver/recover.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/durable.h"
#include "common/log.h"
#include "receiver/delivery.h"
#include "receiver/ledger_partial.h"
#include "receiver/release.h"
#include "receiver/witness.h"

struct list {
    struct ledger_delivery *deliveries;
    size_t count, capacity;
    bool failed;
};

static void collect(const struct ledger_delivery *delivery, void *context)
{
    struct list *list = context;
    if (list->count == list->capacity) {
        size_t capacity = list->capacity == 0 ? 16 : 2 * list->capacity;
        struct ledger_delivery *grown = realloc(list->deliveries, capacity * sizeof *grown);
        if (grown == NULL) {
            list->failed = true;
            return;
        }
        list->deliveries = grown;
        list->capacity = capacity;
    }
    list->deliveries[list->count++] = *delivery;
}

static bool exists(int dirfd, const char *name)
{
    struct stat stat;
    return fstatat(dirfd, name, &stat, AT_SYMLINK_NOFOLLOW) == 0;
}

/* Renames the finished tree, under another name when the recorded one was taken meanwhile. */
static enum status finish_rename(const struct intake *intake, struct ledger *ledger, int channel_fd, const char *tree,
                                 struct ledger_delivery *delivery)
{
    if (exists(channel_fd, delivery->directory)) {
        char wanted[IDENTITY_DELIVERED_NAME_SIZE];
        unsigned suffix;
        identity_delivered_name(delivery->sequence, delivery->sender_id, delivery->name, wanted);
        if (!delivery_free_name(channel_fd, wanted, 1, delivery->directory, &suffix))
            return STATUS_EXISTS;
        enum status status = ledger_publishing(ledger, delivery, 1);
        if (status != STATUS_OK)
            return status;
    }
    return durable_rename(intake->staging_fd, tree, channel_fd, delivery->directory);
}

/* Records it unless the last run did. */
static enum status attest(struct audit *audit, enum audit_event event, const struct ledger_delivery *delivery)
{
    struct audit_entry entry;
    if (audit_was_recorded(audit, event, delivery->transfer_id))
        return STATUS_OK;
    witness_delivery(&entry, event, delivery);
    entry.detail = "found at the start, its delivery was interrupted";
    return audit_record(audit, &entry, 1);
}

enum status recover_delivery(const struct intake *intake, struct ledger *ledger, struct audit *audit,
                             struct ledger_delivery *delivery, bool *delivered)
{
    char tree[INTAKE_STAGING_NAME_SIZE];
    char staged[INTAKE_STAGING_NAME_SIZE];
    int channel_fd;
    intake_tree_name(delivery->sender_id, delivery->transfer_id, tree);
    intake_staging_name(delivery->sender_id, delivery->transfer_id, staged);
    enum status status = intake_open_channel(intake, delivery->channel, &channel_fd);
    if (status != STATUS_OK)
        return status;
    *delivered = true;
    if (exists(intake->staging_fd, tree)) {
        status = attest(audit, AUDIT_VERIFIED, delivery);
        if (status == STATUS_OK)
            status = finish_rename(intake, ledger, channel_fd, tree, delivery);
    } else if (exists(intake->staging_fd, staged)) {
        status = durable_sync_directory(channel_fd, NULL);
    } else {
        *delivered = exists(channel_fd, delivery->directory);
    }
    if (status == STATUS_OK && *delivered)
        status = attest(audit, AUDIT_DELIVERED, delivery);
    int error = errno;
    close(channel_fd);
    errno = error;
    if (status != STATUS_OK)
        return status;
    struct ledger_key key = {.sender_id = delivery->sender_id};
    memcpy(key.transfer_id, delivery->transfer_id, TRANSFER_ID_SIZE);
    status = *delivered ? ledger_delivered(ledger, &key, 1)
                        : ledger_publish_failed(ledger, delivery->sender_id, delivery->transfer_id);
    if (status != STATUS_OK)
        return status;
    if (*delivered)
        log_notice("%s/%s/" LOG_DELIVERED ": its interrupted delivery is finished", intake->path, delivery->channel,
                   delivery->directory, log_delivered(delivery->directory));
    else
        log_warning("%s/" LOG_NAME
                    ": was about to be delivered, and nothing of it is left in %s/.staging; it counts as not "
                    "received",
                    delivery->channel, delivery->name, intake->path);
    return STATUS_OK;
}

/* Renames the tree of what is held back, under another name when the recorded one was taken meanwhile. */
static enum status finish_holding(const struct intake *intake, struct ledger *ledger, const char *tree,
                                  struct ledger_held *held)
{
    if (exists(intake->quarantine_fd, held->place)) {
        char wanted[IDENTITY_DELIVERED_NAME_SIZE];
        unsigned suffix;
        identity_delivered_name(held->delivery.sequence, held->delivery.sender_id, held->delivery.name, wanted);
        if (!delivery_free_name(intake->quarantine_fd, wanted, 1, held->place, &suffix))
            return STATUS_EXISTS;
        enum status status = ledger_holding(ledger, held);
        if (status != STATUS_OK)
            return status;
    }
    return durable_rename(intake->staging_fd, tree, intake->quarantine_fd, held->place);
}

static enum status attest_held(struct audit *audit, const struct ledger_held *held)
{
    struct audit_entry entry;
    if (audit_was_recorded(audit, AUDIT_HELD, held->delivery.transfer_id))
        return STATUS_OK;
    witness_delivery(&entry, AUDIT_HELD, &held->delivery);
    entry.detail = held->reason;
    return audit_record(audit, &entry, 1);
}

/* As recover_delivery(), with the quarantine for the channel. */
static enum status recover_holding(const struct intake *intake, struct ledger *ledger, struct audit *audit,
                                   struct ledger_held *held, bool *is_held)
{
    const struct ledger_delivery *delivery = &held->delivery;
    struct ledger_key key = {.sender_id = delivery->sender_id};
    char tree[INTAKE_STAGING_NAME_SIZE];
    char staged[INTAKE_STAGING_NAME_SIZE];
    enum status status = STATUS_OK;
    intake_tree_name(delivery->sender_id, delivery->transfer_id, tree);
    intake_staging_name(delivery->sender_id, delivery->transfer_id, staged);
    memcpy(key.transfer_id, delivery->transfer_id, TRANSFER_ID_SIZE);
    *is_held = true;
    if (held->kept == LEDGER_KEPT_NOTHING) {
        status = attest(audit, AUDIT_VERIFIED, delivery);
    } else if (exists(intake->staging_fd, tree)) {
        status = attest(audit, AUDIT_VERIFIED, delivery);
        if (status == STATUS_OK)
            status = finish_holding(intake, ledger, tree, held);
    } else if (exists(intake->staging_fd, staged)) {
        status = durable_sync_directory(intake->quarantine_fd, NULL);
    } else {
        *is_held = exists(intake->quarantine_fd, held->place);
    }
    if (status == STATUS_OK && *is_held)
        status = attest_held(audit, held);
    if (status == STATUS_OK)
        status = *is_held ? ledger_delivered(ledger, &key, 1)
                          : ledger_publish_failed(ledger, delivery->sender_id, delivery->transfer_id);
    return status;
}

enum status recover_held(const struct intake *intake, struct ledger *ledger, struct audit *audit,
                         struct ledger_held *held, bool *attested, enum recover_end *end)
{
    enum status status = STATUS_OK;
    bool is_held = true;
    switch (held->state) {
    case LEDGER_HOLDING:
        status = recover_holding(intake, ledger, audit, held, &is_held);
        *end = is_held ? RECOVER_HELD : RECOVER_FORGOTTEN;
        break;
    case LEDGER_RELEASING:
        status = release_finish(intake, ledger, audit, held, attested);
        *end = RECOVER_DELIVERED;
        break;
    case LEDGER_HELD:
        *end = RECOVER_HELD;
        return STATUS_OK;
    }
    if (status != STATUS_OK)
        return status;
    if (*end == RECOVER_DELIVERED)
        log_notice("%s/%s/" LOG_DELIVERED ": its release from the quarantine is finished", intake->path,
                   held->delivery.channel, held->delivery.directory, log_delivered(held->delivery.directory));
    else if (*end == RECOVER_HELD)
        log_notice("%s/.quarantine/" LOG_DELIVERED ": it is held back, as an interrupted run was about to do",
                   intake->path, held->place, log_delivered(held->place));
    else
        log_warning("%s/" LOG_NAME
                    ": was about to be held back, and nothing of it is left in %s/.staging; it counts as not "
                    "received",
                    held->delivery.channel, held->delivery.name, intake->path);
    return STATUS_OK;
}

static DIR *open_list(int dirfd)
{
    int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *directory = fd < 0 ? NULL : fdopendir(fd);
    if (directory == NULL && fd >= 0)
        close(fd);
    return directory;
}

/* Names in .staging that somebody still needs. */
struct needed {
    char (*names)[INTAKE_STAGING_NAME_SIZE];
    size_t count, capacity;
    bool failed;
};

static char *need(struct needed *needed)
{
    static char nowhere[INTAKE_STAGING_NAME_SIZE];
    if (needed->count == needed->capacity) {
        size_t capacity = needed->capacity == 0 ? 16 : 2 * needed->capacity;
        void *grown = realloc(needed->names, capacity * sizeof *needed->names);
        if (grown == NULL) {
            needed->failed = true;
            return nowhere;
        }
        needed->names = grown;
        needed->capacity = capacity;
    }
    return needed->names[needed->count++];
}

static void need_delivery(const struct ledger_delivery *delivery, void *context)
{
    intake_staging_name(delivery->sender_id, delivery->transfer_id, need(context));
    intake_tree_name(delivery->sender_id, delivery->transfer_id, need(context));
}

static bool need_held(const struct ledger_held *held, void *context)
{
    if (held->state == LEDGER_HOLDING)
        need_delivery(&held->delivery, context);
    return true;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(a, b);
}

/* Open transfers that are recorded, and deliveries that could not be finished. */
static enum status list_needed(struct ledger *ledger, struct needed *needed)
{
    struct ledger_key *keys;
    size_t count;
    enum status status = ledger_each_publishing(ledger, need_delivery, needed);
    if (status == STATUS_OK)
        status = ledger_each_held(ledger, need_held, needed);
    if (status == STATUS_OK)
        status = ledger_partial_keys(ledger, &keys, &count);
    if (status != STATUS_OK)
        return status;
    for (size_t i = 0; i < count; i++)
        intake_staging_name(keys[i].sender_id, keys[i].transfer_id, need(needed));
    free(keys);
    if (needed->failed)
        return status_from_errno(ENOMEM);
    if (needed->count > 0)
        qsort(needed->names, needed->count, sizeof *needed->names, by_name);
    return STATUS_OK;
}

/* What can't be removed does no harm but for the room it takes. */
static void clear_staging(const struct intake *intake, struct ledger *ledger)
{
    struct needed needed = {0};
    DIR *directory = open_list(intake->staging_fd);
    struct dirent *entry;
    if (directory == NULL || list_needed(ledger, &needed) != STATUS_OK) {
        log_warning("%s/.staging can't be cleared: %s; the next start tries again", intake->path, strerror(errno));
        goto cleanup;
    }
    while ((entry = readdir(directory)) != NULL) {
        char name[INTAKE_STAGING_NAME_SIZE] = "";
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        if (strlen(entry->d_name) < sizeof name)
            memcpy(name, entry->d_name, strlen(entry->d_name) + 1);
        if (needed.count > 0 && bsearch(name, needed.names, needed.count, sizeof *needed.names, by_name) != NULL)
            continue;
        if (durable_remove_tree(intake->staging_fd, entry->d_name) != STATUS_OK)
            log_warning("%s/.staging/%s can't be removed: %s; remove it by hand", intake->path, entry->d_name,
                        strerror(errno));
    }

cleanup:
    if (directory != NULL)
        closedir(directory);
    free(needed.names);
}

/* A rename across file systems is none. */
static enum status check_file_systems(const struct intake *intake)
{
    struct stat root;
    struct stat stat;
    DIR *directory = open_list(intake->fd);
    if (directory == NULL || fstat(intake->staging_fd, &root) != 0) {
        log_error("%s can't be read: %s", intake->path, strerror(errno));
        if (directory != NULL)
            closedir(directory);
        return status_from_errno(errno);
    }
    struct dirent *entry;
    enum status status = STATUS_OK;
    while ((entry = readdir(directory)) != NULL) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
            fstatat(intake->fd, entry->d_name, &stat, 0) != 0 || !S_ISDIR(stat.st_mode) || stat.st_dev == root.st_dev)
            continue;
        log_error("%s/%s lies on another file system than %s/.staging, so that nothing can be renamed into it; mount "
                  "the file system over the whole intake instead",
                  intake->path, entry->d_name, intake->path);
        status = STATUS_INVALID;
    }
    closedir(directory);
    return status;
}

/* What was interrupted on its way into the quarantine or out of it. */
struct held_list {
    struct ledger_held *held;
    size_t count, capacity;
    bool failed;
};

static bool collect_held(const struct ledger_held *held, void *context)
{
    struct held_list *list = context;
    if (held->state == LEDGER_HELD)
        return true;
    if (list->count == list->capacity) {
        size_t capacity = list->capacity == 0 ? 16 : 2 * list->capacity;
        struct ledger_held *grown = realloc(list->held, capacity * sizeof *grown);
        if (grown == NULL) {
            list->failed = true;
            return false;
        }
        list->held = grown;
        list->capacity = capacity;
    }
    list->held[list->count++] = *held;
    return true;
}

static enum status recover_quarantine(const struct intake *intake, struct ledger *ledger, struct audit *audit)
{
    struct held_list list = {0};
    enum status status = ledger_each_held(ledger, collect_held, &list);
    if (status == STATUS_OK && list.failed)
        status = status_from_errno(ENOMEM);
    for (size_t i = 0; i < list.count && status == STATUS_OK; i++) {
        struct ledger_held *held = &list.held[i];
        enum recover_end end;
        bool attested = false;
        if (recover_held(intake, ledger, audit, held, &attested, &end) != STATUS_OK)
            log_error("%s/.quarantine/" LOG_DELIVERED
                      ": its way %s was interrupted and can't be finished now: %s; it waits and is "
                      "tried again",
                      intake->path, held->place, log_delivered(held->place),
                      held->state == LEDGER_HOLDING ? "in" : "out", strerror(errno));
    }
    free(list.held);
    return status;
}

enum status recover_run(const struct intake *intake, struct ledger *ledger, struct audit *audit)
{
    struct list list = {0};
    enum status status = check_file_systems(intake);
    if (status == STATUS_OK)
        status = ledger_each_publishing(ledger, collect, &list);
    if (status == STATUS_OK && list.failed)
        status = status_from_errno(ENOMEM);
    for (size_t i = 0; i < list.count && status == STATUS_OK; i++) {
        struct ledger_delivery *delivery = &list.deliveries[i];
        bool delivered;
        if (recover_delivery(intake, ledger, audit, delivery, &delivered) != STATUS_OK)
            log_error("%s/%s/" LOG_DELIVERED
                      ": its delivery was interrupted and can't be finished now: %s; it waits and is tried again",
                      intake->path, delivery->channel, delivery->directory, log_delivered(delivery->directory),
                      strerror(errno));
    }
    free(list.deliveries);
    if (status == STATUS_OK)
        status = recover_quarantine(intake, ledger, audit);
    if (status == STATUS_OK)
        clear_staging(intake, ledger);
    return status;
}
