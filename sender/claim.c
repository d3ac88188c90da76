// SPDX-License-Identifier: Apache-2.0
#include "sender/claim.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"
#include "proto/relpath.h"
#include "sender/approvals.h"
#include "sender/filing.h"
#include "sender/owner.h"
#include "sender/printable.h"
#include "sender/spool.h"
#include "sender/witness.h"

enum { SHOWN_SIZE = 128 };

/* A batch on its way through the steps. */
struct batch {
    const struct claim *claim;
    struct claim_item *items;
    size_t count;
    int channel_fds[CLAIM_BATCH]; /* of each item; -1 when it has none */
    struct ledger_transfer *intents;
    size_t intent_count;
};

static int64_t marker_ctime_ns(int channel_fd, const char *name)
{
    char marker[LIMIT_COMPONENT_LENGTH + sizeof ".ready"];
    struct stat meta;
    snprintf(marker, sizeof marker, "%s.ready", name);
    if (fstatat(channel_fd, marker, &meta, AT_SYMLINK_NOFOLLOW) != 0)
        return INT64_MIN;
    return (int64_t)meta.st_ctim.tv_sec * 1000000000 + meta.st_ctim.tv_nsec;
}

static void remove_marker(int channel_fd, const struct claim_item *entry)
{
    char marker[LIMIT_COMPONENT_LENGTH + sizeof ".ready"];
    if (entry->item.rule->complete != CONFIG_COMPLETE_MARKER)
        return;
    snprintf(marker, sizeof marker, "%s.ready", entry->item.name);
    /* One that stays is older than any later item of that name, so it speaks for none. */
    (void)unlinkat(channel_fd, marker, 0);
}

static bool is_immutable(int channel_fd, const char *name)
{
    struct statx meta;
    return statx(channel_fd, name, AT_SYMLINK_NOFOLLOW, 0, &meta) == 0 &&
           (meta.stx_attributes & (STATX_ATTR_IMMUTABLE | STATX_ATTR_APPEND)) != 0;
}

/* Says, for an item that could not be claimed, what the operator can do. errno tells why. */
static void block(const struct batch *batch, size_t index, const char *step)
{
    struct claim_item *entry = &batch->items[index];
    const char *spool = batch->claim->dirs->path, *channel = entry->item.channel;
    const char *slash = channel[0] != '\0' ? "/" : "";
    unsigned uid = (unsigned)geteuid();
    int error = errno;
    char name[SHOWN_SIZE];
    printable_name(entry->item.name, name, sizeof name);
    entry->verdict = SETTLE_BLOCKED;
    int fd = batch->channel_fds[index];
    bool channel_writable = fd >= 0 && faccessat(fd, ".", W_OK | X_OK, AT_EACCESS) == 0;
    if ((error == EACCES || error == EPERM) && !channel_writable)
        snprintf(entry->message, sizeof entry->message,
                 "uid %u may not take items out of %s%s%s: run \"setfacl -m u:%u:rwx '%s%s%s'\"", uid, spool, slash,
                 channel, uid, spool, slash, channel);
    else if (error == EPERM && is_immutable(fd, entry->item.name))
        snprintf(entry->message, sizeof entry->message, "is immutable: run \"chattr -R -ia '%s%s%s/%s'\"", spool, slash,
                 channel, name);
    else if (error == EACCES || error == EPERM)
        snprintf(entry->message, sizeof entry->message,
                 "belongs to uid %u and may not be moved by uid %u: run \"setfacl -R -m u:%u:rwX '%s%s%s/%s'\" (or "
                 "keep CAP_DAC_OVERRIDE for the sender)",
                 (unsigned)entry->probe.owner, uid, uid, spool, slash, channel, name);
    else if (error == ENOENT)
        snprintf(entry->message, sizeof entry->message, "%s/.sending was removed: restart the sender", spool);
    else if (error == EXDEV)
        snprintf(entry->message, sizeof entry->message,
                 "%s%s%s is on another file system than %s: run \"umount '%s%s%s'\" and keep the channel inside the "
                 "spool's file system",
                 spool, slash, channel, spool, spool, slash, channel);
    else if (error == ENOSPC || error == EDQUOT)
        snprintf(entry->message, sizeof entry->message, "the spool's file system is full: make room on %s", spool);
    else if (error == EROFS)
        snprintf(entry->message, sizeof entry->message,
                 "the spool's file system is read-only: run \"mount -o remount,rw\" for %s", spool);
    else
        snprintf(entry->message, sizeof entry->message, "%s: %s", step, strerror(error));
}

/* A transfer with all that is known before the item is listed. */
static struct transfer *make_transfer(const struct settle_item *item, uid_t owner)
{
    struct transfer *transfer = transfer_create();
    randombytes_buf(transfer->id, sizeof transfer->id);
    snprintf(transfer->channel, sizeof transfer->channel, "%s", spool_channel_name(item->channel));
    memcpy(transfer->name, item->name, sizeof transfer->name);
    owner_name(owner, clock_monotonic_ns(), transfer->origin_user);
    transfer->priority = item->rule->priority;
    transfer->symlinks = item->rule->symlinks;
    transfer->approvals = item->rule->approvals;
    transfer->in_root = item->channel[0] == '\0';
    return transfer;
}

/* Whether a complete item has the approvals that its channel asks for; else its verdict says what it waits for. */
static bool is_approved(const struct batch *batch, struct claim_item *entry, int fd)
{
    struct approvals approvals;
    char why[256];
    uint32_t wanted = entry->item.rule->approvals;
    enum status status = approvals_read(fd, entry->item.name, &approvals, why);
    size_t count = approvals.bundle.count;
    const char *channel = entry->item.channel, *slash = channel[0] != '\0' ? "/" : "";
    char name[SHOWN_SIZE];
    printable_name(entry->item.name, name, sizeof name);
    approvals_deinit(&approvals);
    if (status == STATUS_INVALID) {
        entry->verdict = SETTLE_BLOCKED;
        snprintf(
            entry->message, sizeof entry->message,
            "its approvals, %s.approval, can't be used: %.150s; make them anew with \"diodecast sign\", or remove them",
            name, why);
    } else if (status != STATUS_OK) {
        entry->verdict = SETTLE_BLOCKED;
        snprintf(entry->message, sizeof entry->message,
                 "its approvals can't be read by uid %u: %s; run \"chmod a+r '%s%s%s/%s.approval'\"",
                 (unsigned)geteuid(), strerror(errno), batch->claim->dirs->path, slash, channel, name);
    } else if (count < wanted) {
        entry->verdict = SETTLE_UNAPPROVED;
        snprintf(entry->message, sizeof entry->message,
                 "waits for approvals: %zu of %" PRIu32 " are in %s.approval beside it (diodecast sign)", count, wanted,
                 name);
    } else {
        return true;
    }
    return false;
}

static void probe_and_judge(struct batch *batch, size_t index)
{
    struct claim_item *entry = &batch->items[index];
    const struct settle_item *item = &entry->item;
    int fd = spooldirs_channel(batch->claim->dirs, item->channel);
    batch->channel_fds[index] = fd;
    if (fd < 0) {
        entry->verdict = SETTLE_GONE;
        if (errno != ENOENT)
            block(batch, index, "its channel can't be opened");
        return;
    }
    enum status status = probe_item(fd, item->name, true, NULL, NULL, &entry->probe);
    if (status == STATUS_NOT_FOUND) {
        entry->verdict = SETTLE_GONE;
        return;
    }
    if (status != STATUS_OK) {
        block(batch, index, "can't be looked at");
        return;
    }
    entry->probed = true;
    int64_t marker_ns = item->rule->complete == CONFIG_COMPLETE_MARKER ? marker_ctime_ns(fd, item->name) : INT64_MIN;
    entry->verdict = settle_judge(item, &entry->probe, marker_ns);
    if (entry->verdict == SETTLE_TAKE && is_approved(batch, entry, fd))
        entry->transfer = make_transfer(item, entry->probe.owner);
}

static void drop_transfer(struct claim_item *entry)
{
    transfer_destroy(entry->transfer);
    entry->transfer = NULL;
}

/* Step 1: the intents. False when the ledger refuses; then all is to be tried again. */
static bool record_intents(struct batch *batch)
{
    int64_t now_ns = clock_realtime_ns();
    batch->intent_count = 0;
    for (size_t i = 0; i < batch->count; i++) {
        const struct transfer *transfer = batch->items[i].transfer;
        if (transfer == NULL)
            continue;
        struct ledger_transfer *intent = &batch->intents[batch->intent_count++];
        *intent = (struct ledger_transfer){
            .device = batch->items[i].probe.device, .inode = batch->items[i].probe.inode, .claimed_at_ns = now_ns};
        memcpy(intent->id, transfer->id, TRANSFER_ID_SIZE);
        memcpy(intent->channel, transfer->channel, sizeof intent->channel);
        memcpy(intent->name, transfer->name, sizeof intent->name);
        memcpy(intent->origin_user, transfer->origin_user, sizeof intent->origin_user);
        intent->in_root = transfer->in_root;
    }
    if (batch->intent_count == 0 ||
        ledger_claim(batch->claim->ledger, batch->intents, batch->intent_count) == STATUS_OK)
        return true;
    for (size_t i = 0; i < batch->count; i++) {
        if (batch->items[i].transfer == NULL)
            continue;
        batch->items[i].verdict = SETTLE_RETRY;
        drop_transfer(&batch->items[i]);
    }
    return false;
}

/* Step 2: the renames. */
static void move(struct batch *batch, size_t index)
{
    struct claim_item *entry = &batch->items[index];
    struct transfer *transfer = entry->transfer;
    enum status status = filing_take(batch->claim->dirs, batch->channel_fds[index], transfer->name, transfer->id,
                                     &transfer->directory_fd);
    if (status == STATUS_NOT_FOUND)
        entry->verdict = SETTLE_GONE;
    else if (status != STATUS_OK)
        block(batch, index, "can't be moved to .sending");
    if (status != STATUS_OK)
        drop_transfer(entry);
}

/* Takes the claim back: the item goes to where it was, and waits for its quiet time. */
static void undo(const struct batch *batch, struct claim_item *entry)
{
    struct transfer *transfer = entry->transfer;
    char name[SHOWN_SIZE];
    enum status status = filing_give_back(batch->claim->dirs, transfer->id, entry->item.channel, transfer->name);
    entry->given_back = status == STATUS_OK;
    if (status == STATUS_EXISTS) {
        snprintf(entry->message, sizeof entry->message,
                 "was still written to when it was claimed, and could not go back because a new item has its name");
        status = filing_refuse(batch->claim->dirs, transfer->id, transfer->name, entry->message);
        entry->verdict = SETTLE_TAKE;
        entry->refused = true;
    }
    if (status != STATUS_OK)
        log_error("%s/" LOG_NAME " can't leave .sending: %s; the next start of the sender sorts it out",
                  transfer->channel, printable_name(transfer->name, name, sizeof name), strerror(errno));
}

/* Step 3: what was renamed is made durable, both ends. Flushing an unchanged directory again costs next to nothing. */
static void flush(struct batch *batch)
{
    bool good = fsync(batch->claim->dirs->sending) == 0;
    for (size_t i = 0; i < batch->count && good; i++) {
        if (batch->items[i].transfer == NULL)
            continue;
        bool repeated = i > 0 && batch->items[i - 1].transfer != NULL &&
                        strcmp(batch->items[i - 1].item.channel, batch->items[i].item.channel) == 0;
        good = fsync(batch->items[i].transfer->directory_fd) == 0 && (repeated || fsync(batch->channel_fds[i]) == 0);
    }
    if (good)
        return;
    log_error("the spool %s can't be flushed: %s; nothing is claimed until it can", batch->claim->dirs->path,
              strerror(errno));
    for (size_t i = 0; i < batch->count; i++) {
        if (batch->items[i].transfer == NULL)
            continue;
        block(batch, i, "the spool can't be flushed");
        undo(batch, &batch->items[i]);
    }
}

bool claim_list(const struct claim *claim, struct transfer *transfer, char reason[static CLAIM_MESSAGE_SIZE])
{
    /* What is signed is sent, whatever the configuration has become since: the high side knows its number. */
    bool is_signed = transfer->sequence != 0;
    if (scan_item(transfer->directory_fd, transfer->name, is_signed ? CONFIG_SYMLINKS_INSIDE : transfer->symlinks,
                  is_signed ? UINT64_MAX : claim->config->max_size, &transfer->listing, reason) != STATUS_OK)
        return false;
    transfer->total_bytes = transfer->listing->total_bytes;
    transfer->artifact_count = transfer->listing->artifact_count;
    transfer->tree = transfer->listing->entries[0].kind == MANIFEST_DIRECTORY;
    scan_fingerprint(transfer->listing, transfer->fingerprint);
    return true;
}

/* What the seal stage would refuse when all of it has crossed. */
static bool fits_its_approvals(const struct transfer *transfer, char reason[static CLAIM_MESSAGE_SIZE])
{
    struct approvals approvals;
    char difference[256];
    /* What can't be read now is told of by the seal stage. */
    bool fits = approvals_read(transfer->directory_fd, transfer->name, &approvals, difference) != STATUS_OK ||
                approvals_fit(&approvals, transfer->channel, transfer->name, transfer->listing, difference);
    if (!fits)
        snprintf(reason, CLAIM_MESSAGE_SIZE, "it is not what was approved: %s", difference);
    approvals_deinit(&approvals);
    return fits;
}

/* Step 4, in .sending, where nobody else can reach it: what is it? */
static void inspect(struct batch *batch, size_t index)
{
    struct claim_item *entry = &batch->items[index];
    struct transfer *transfer = entry->transfer;
    struct probe probe;
    /* Somebody may have opened it between the probe and the rename; now nobody can any more. */
    enum status status = probe_item(transfer->directory_fd, transfer->name, true, NULL, NULL, &probe);
    if (status == STATUS_OK && probe.writers == PROBE_WRITER) {
        entry->verdict = SETTLE_BUSY;
        undo(batch, entry);
        return;
    }
    remove_marker(batch->channel_fds[index], entry);
    if (claim_list(batch->claim, transfer, entry->message) && fits_its_approvals(transfer, entry->message))
        return;
    char name[SHOWN_SIZE];
    log_warning("%s/" LOG_NAME " is refused: " LOG_DETAIL, transfer->channel,
                printable_name(transfer->name, name, sizeof name), entry->message);
    entry->refused = true;
    if (filing_refuse(batch->claim->dirs, transfer->id, transfer->name, entry->message) != STATUS_OK)
        log_error("it can't be moved to .failed: %s; the next start of the sender tries again", strerror(errno));
}

/* Before the ledger, so that whatever it holds as claimed or failed is in the audit log too. */
static void witness(const struct batch *batch, const struct ledger_change *changes)
{
    struct audit_entry *entries = calloc(batch->intent_count, sizeof *entries);
    uint8_t chain_id[CHAIN_ID_SIZE] = {0};
    size_t count = 0;
    assert(entries != NULL);
    for (size_t i = 0; i < batch->intent_count; i++) {
        if (changes[i].state != LEDGER_CLAIMED && changes[i].state != LEDGER_FAILED)
            continue;
        witness_row(&entries[count], changes[i].state == LEDGER_CLAIMED ? AUDIT_ACCEPTED : AUDIT_REFUSED,
                    &batch->intents[i], chain_id, changes[i].reason);
        entries[count++].bytes = changes[i].bytes;
    }
    witness_record(batch->claim->audit, entries, count);
    free(entries);
}

/* What became of the intents. What fails here is put right by the next start, from what .sending holds. */
static void record_results(struct batch *batch)
{
    struct ledger_change *changes = calloc(batch->intent_count, sizeof *changes);
    assert(changes != NULL);
    size_t next = 0;
    for (size_t i = 0; i < batch->intent_count; i++) {
        memcpy(changes[i].id, batch->intents[i].id, TRANSFER_ID_SIZE);
        changes[i].state = LEDGER_FORGOTTEN;
    }
    for (size_t i = 0; i < batch->count; i++) {
        struct claim_item *entry = &batch->items[i];
        if (entry->transfer == NULL)
            continue;
        while (memcmp(changes[next].id, entry->transfer->id, TRANSFER_ID_SIZE) != 0)
            next++;
        if (entry->verdict != SETTLE_TAKE && !entry->given_back)
            changes[next].state = LEDGER_RETURNED; /* still in .sending: the next start moves it back */
        if (entry->verdict == SETTLE_TAKE) {
            changes[next].state = entry->refused ? LEDGER_FAILED : LEDGER_CLAIMED;
            changes[next].bytes = entry->transfer->total_bytes;
            changes[next].reason = entry->refused ? entry->message : NULL;
        }
        if (entry->refused || entry->verdict != SETTLE_TAKE)
            drop_transfer(entry);
    }
    witness(batch, changes);
    if (ledger_apply(batch->claim->ledger, changes, batch->intent_count) != STATUS_OK)
        log_warning("the ledger could not record %zu claims; it will catch up", batch->intent_count);
    free(changes);
}

void claim_batch(const struct claim *claim, struct claim_item *items, size_t count)
{
    struct batch batch = {.claim = claim, .items = items, .count = count};
    assert(count <= CLAIM_BATCH);
    batch.intents = calloc(count, sizeof *batch.intents);
    assert(batch.intents != NULL);
    for (size_t i = 0; i < count; i++) {
        items[i].transfer = NULL;
        items[i].refused = items[i].probed = items[i].given_back = false;
        items[i].message[0] = '\0';
        probe_and_judge(&batch, i);
    }
    if (record_intents(&batch) && batch.intent_count > 0) {
        for (size_t i = 0; i < count; i++)
            if (items[i].transfer != NULL)
                move(&batch, i);
        flush(&batch);
        for (size_t i = 0; i < count; i++)
            if (items[i].transfer != NULL && items[i].verdict == SETTLE_TAKE && !items[i].refused)
                inspect(&batch, i);
        record_results(&batch);
    }
    for (size_t i = 0; i < count; i++)
        if (batch.channel_fds[i] >= 0)
            close(batch.channel_fds[i]);
    free(batch.intents);
}
