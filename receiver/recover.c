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

static enum status recover_one(const struct intake *intake, struct ledger *ledger, struct ledger_delivery *delivery)
{
    char tree[INTAKE_STAGING_NAME_SIZE];
    char staged[INTAKE_STAGING_NAME_SIZE];
    int channel_fd;
    intake_tree_name(delivery->sender_id, delivery->transfer_id, tree);
    intake_staging_name(delivery->sender_id, delivery->transfer_id, staged);
    enum status status = intake_open_channel(intake, delivery->channel, &channel_fd);
    if (status != STATUS_OK) {
        log_error("%s/%s can't be opened: %s", intake->path, delivery->channel, strerror(errno));
        return status;
    }
    bool is_there = true;
    if (exists(intake->staging_fd, tree))
        status = finish_rename(intake, ledger, channel_fd, tree, delivery);
    else if (exists(intake->staging_fd, staged))
        status = durable_sync_directory(channel_fd, NULL);
    else
        is_there = exists(channel_fd, delivery->directory);
    int error = errno;
    close(channel_fd);
    if (status != STATUS_OK) {
        log_error("%s/%s/%s: its delivery was interrupted and can't be finished: %s", intake->path, delivery->channel,
                  delivery->directory, strerror(error));
        return status;
    }
    if (!is_there) {
        log_warning("%s/%s: was about to be delivered, and nothing of it is left in %s/.staging; it counts as not "
                    "received",
                    delivery->channel, delivery->name, intake->path);
        return ledger_publish_failed(ledger, delivery->transfer_id);
    }
    log_notice("%s/%s/%s: its interrupted delivery is finished", intake->path, delivery->channel, delivery->directory);
    uint8_t ids[1][TRANSFER_ID_SIZE];
    memcpy(ids[0], delivery->transfer_id, TRANSFER_ID_SIZE);
    return ledger_delivered(ledger, (const uint8_t(*)[TRANSFER_ID_SIZE])ids, 1);
}

static DIR *open_list(int dirfd)
{
    int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *directory = fd < 0 ? NULL : fdopendir(fd);
    if (directory == NULL && fd >= 0)
        close(fd);
    return directory;
}

static enum status clear_staging(const struct intake *intake)
{
    DIR *directory = open_list(intake->staging_fd);
    if (directory == NULL) {
        log_error("%s/.staging can't be read: %s", intake->path, strerror(errno));
        return status_from_errno(errno);
    }
    struct dirent *entry;
    enum status status = STATUS_OK;
    while (status == STATUS_OK && (entry = readdir(directory)) != NULL) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        status = durable_remove_tree(intake->staging_fd, entry->d_name);
        if (status != STATUS_OK)
            log_error("%s/.staging/%s can't be removed: %s; remove it by hand", intake->path, entry->d_name,
                      strerror(errno));
    }
    closedir(directory);
    return status;
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

enum status recover_run(const struct intake *intake, struct ledger *ledger)
{
    struct list list = {0};
    enum status status = check_file_systems(intake);
    if (status == STATUS_OK)
        status = ledger_each_publishing(ledger, collect, &list);
    if (status == STATUS_OK && list.failed)
        status = status_from_errno(ENOMEM);
    for (size_t i = 0; i < list.count && status == STATUS_OK; i++)
        status = recover_one(intake, ledger, &list.deliveries[i]);
    free(list.deliveries);
    return status == STATUS_OK ? clear_staging(intake) : status;
}
