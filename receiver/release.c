// SPDX-License-Identifier: Apache-2.0
#include "receiver/release.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/durable.h"
#include "common/log.h"
#include "receiver/delivery.h"
#include "receiver/describe.h"
#include "receiver/tree.h"
#include "receiver/witness.h"

static bool exists(int dirfd, const char *name)
{
    struct stat stat;
    return fstatat(dirfd, name, &stat, AT_SYMLINK_NOFOLLOW) == 0;
}

static bool choose_name(int channel_fd, struct ledger_delivery *delivery)
{
    char wanted[IDENTITY_DELIVERED_NAME_SIZE];
    unsigned suffix;
    identity_delivered_name(delivery->sequence, delivery->sender_id, delivery->name, wanted);
    return delivery_free_name(channel_fd, wanted, 1, delivery->directory, &suffix);
}

enum status release_begin(const struct intake *intake, struct ledger *ledger, struct audit *audit,
                          struct ledger_held *held, const char *actor)
{
    struct audit_entry entry;
    int channel_fd;
    assert(held->state == LEDGER_HELD && held->kept == LEDGER_KEPT_ALL);
    enum status status = intake_open_channel(intake, held->delivery.channel, &channel_fd);
    if (status != STATUS_OK)
        return status;
    bool found = choose_name(channel_fd, &held->delivery);
    int error = errno;
    close(channel_fd);
    errno = error;
    if (!found)
        return STATUS_EXISTS;
    held->delivery.at_ns = clock_realtime_ns();
    witness_delivery(&entry, AUDIT_RELEASED, &held->delivery);
    entry.actor = actor;
    status = audit_record(audit, &entry, 1);
    if (status == STATUS_OK)
        status = ledger_releasing(ledger, held);
    if (status == STATUS_OK)
        held->state = LEDGER_RELEASING;
    return status;
}

/* What was newest when it was held back is not what is newest now: the manifest.json says so. */
static enum status amend(struct ledger *ledger, int tree_fd, const struct ledger_delivery *delivery)
{
    uint64_t newest;
    enum status status = ledger_newest_in_channel(ledger, delivery->chain_id, delivery->channel, &newest);
    if (status == STATUS_OK)
        status = describe_again(tree_fd, newest > delivery->sequence, delivery->at_ns);
    if (status == STATUS_OK && unlinkat(tree_fd, TREE_REASON_FILE, 0) != 0 && errno != ENOENT)
        status = status_from_errno(errno);
    return status == STATUS_OK ? durable_sync_directory(tree_fd, NULL) : status;
}

static enum status move(const struct intake *intake, struct ledger *ledger, struct ledger_held *held, int channel_fd)
{
    int tree_fd = openat(intake->quarantine_fd, held->place, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (tree_fd < 0)
        return status_from_errno(errno);
    enum status status = amend(ledger, tree_fd, &held->delivery);
    int error = errno;
    close(tree_fd);
    errno = error;
    if (status != STATUS_OK)
        return status;
    if (exists(channel_fd, held->delivery.directory)) {
        if (!choose_name(channel_fd, &held->delivery))
            return STATUS_EXISTS;
        status = ledger_releasing(ledger, held);
        if (status != STATUS_OK)
            return status;
    }
    return durable_rename(intake->quarantine_fd, held->place, channel_fd, held->delivery.directory);
}

static enum status attest(struct audit *audit, const struct ledger_delivery *delivery, bool *attested)
{
    struct audit_entry entry;
    if (*attested || audit_was_recorded(audit, AUDIT_DELIVERED, delivery->transfer_id))
        return STATUS_OK;
    witness_delivery(&entry, AUDIT_DELIVERED, delivery);
    entry.detail = "from the quarantine";
    enum status status = audit_record(audit, &entry, 1);
    *attested = status == STATUS_OK;
    return status;
}

enum status release_finish(const struct intake *intake, struct ledger *ledger, struct audit *audit,
                           struct ledger_held *held, bool *attested)
{
    struct ledger_delivery *delivery = &held->delivery;
    struct ledger_key key = {.sender_id = delivery->sender_id};
    int channel_fd;
    assert(held->state == LEDGER_RELEASING);
    memcpy(key.transfer_id, delivery->transfer_id, TRANSFER_ID_SIZE);
    enum status status = intake_open_channel(intake, delivery->channel, &channel_fd);
    if (status != STATUS_OK)
        return status;
    if (exists(intake->quarantine_fd, held->place)) {
        status = move(intake, ledger, held, channel_fd);
    } else {
        status = durable_sync_directory(channel_fd, NULL);
        if (status == STATUS_OK)
            status = durable_sync_directory(intake->quarantine_fd, NULL);
    }
    if (status == STATUS_OK)
        status = attest(audit, delivery, attested);
    if (status == STATUS_OK)
        status = ledger_delivered(ledger, &key, 1);
    int error = errno;
    close(channel_fd);
    errno = error;
    return status;
}
