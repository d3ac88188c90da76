// SPDX-License-Identifier: Apache-2.0
#include "sender/recover.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/log.h"
#include "common/units.h"
#include "proto/identity.h"
#include "proto/relpath.h"
#include "sender/filing.h"
#include "sender/printable.h"
#include "sender/witness.h"

enum { SHOWN_SIZE = 128, REASON_SIZE = CLAIM_MESSAGE_SIZE };

struct rows {
    struct ledger_transfer *rows;
    size_t count, capacity;
};

static void collect(const struct ledger_transfer *transfer, void *context)
{
    struct rows *rows = context;
    if (rows->count == rows->capacity) {
        rows->capacity = rows->capacity == 0 ? 64 : 2 * rows->capacity;
        rows->rows = reallocarray(rows->rows, rows->capacity, sizeof *rows->rows);
        assert(rows->rows != NULL);
    }
    rows->rows[rows->count++] = *transfer;
}

/* Whether DIRECTORY/ID/NAME is there, and whether it is a tree. */
static bool is_in(int directory_fd, const struct ledger_transfer *row, bool *tree)
{
    char path[TRANSFER_ID_TEXT_SIZE + 1 + LIMIT_COMPONENT_LENGTH + 1];
    char id[TRANSFER_ID_TEXT_SIZE];
    struct stat meta;
    identity_transfer_text(row->id, id);
    snprintf(path, sizeof path, "%s/%s", id, row->name);
    if (fstatat(directory_fd, path, &meta, AT_SYMLINK_NOFOLLOW) != 0)
        return false;
    *tree = S_ISDIR(meta.st_mode);
    return true;
}

/* What the last run did of which nobody knows whether it could record it; once more is better than never. */
static void witness(const struct claim *claim, const struct ledger_transfer *row, enum audit_event event,
                    const char *detail)
{
    struct audit_entry entry;
    uint8_t chain_id[CHAIN_ID_SIZE];
    if (audit_was_recorded(claim->audit, event, row->id))
        return;
    ledger_chain_id(claim->ledger, chain_id);
    witness_row(&entry, event, row, chain_id, detail != NULL ? detail : "found at the start");
    witness_record(claim->audit, &entry, 1);
}

static enum status set_state(const struct claim *claim, const struct ledger_transfer *row, enum ledger_state state,
                             uint64_t bytes, const char *reason)
{
    struct ledger_change change = {.state = state, .bytes = bytes, .reason = reason};
    memcpy(change.id, row->id, TRANSFER_ID_SIZE);
    return ledger_apply(claim->ledger, &change, 1);
}

static struct transfer *make_transfer(const struct claim *claim, const struct ledger_transfer *row)
{
    const struct config_channel *rule = config_channel_find(claim->config, row->channel);
    struct transfer *transfer = transfer_create();
    char id[TRANSFER_ID_TEXT_SIZE];
    memcpy(transfer->id, row->id, TRANSFER_ID_SIZE);
    memcpy(transfer->channel, row->channel, sizeof transfer->channel);
    memcpy(transfer->name, row->name, sizeof transfer->name);
    memcpy(transfer->origin_user, row->origin_user, sizeof transfer->origin_user);
    transfer->priority = rule->priority;
    transfer->symlinks = rule->symlinks;
    transfer->approvals = rule->approvals;
    transfer->in_root = row->in_root;
    if (row->state == LEDGER_SEALED)
        transfer->sequence = row->sequence;
    identity_transfer_text(row->id, id);
    transfer->directory_fd = openat(claim->dirs->sending, id, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return transfer;
}

/* The item is in .sending: lists it anew and hands it on, or refuses it. */
static enum status resume(const struct claim *claim, const struct ledger_transfer *row, struct recover_result *result)
{
    char reason[REASON_SIZE];
    struct transfer *transfer = make_transfer(claim, row);
    enum status status = STATUS_OK;
    if (transfer->directory_fd < 0) {
        log_error("an item in .sending can't be opened: %s; raise LimitNOFILE or correct its mode", strerror(errno));
        transfer_destroy(transfer);
        return STATUS_SYSTEM;
    }
    if (row->state == LEDGER_CLAIMING)
        witness(claim, row, AUDIT_ACCEPTED, NULL);
    if (!claim_list(claim, transfer, reason)) {
        witness(claim, row, AUDIT_REFUSED, reason);
        char name[SHOWN_SIZE];
        log_warning("%s/" LOG_NAME " is refused: " LOG_DETAIL, row->channel,
                    printable_name(row->name, name, sizeof name), reason);
        status = filing_refuse(claim->dirs, row->id, row->name, reason);
        if (status == STATUS_OK)
            status = set_state(claim, row, LEDGER_FAILED, 0, reason);
        transfer_destroy(transfer);
        result->refused++;
        return status;
    }
    if (memcmp(transfer->fingerprint, row->fingerprint, sizeof row->fingerprint) == 0 &&
        row->mark <= transfer->total_bytes)
        transfer->resume_at = row->mark;
    atomic_store(&transfer->mark, transfer->resume_at);
    if (row->state == LEDGER_SEALED) {
        witness(claim, row, AUDIT_SEALED, NULL);
        status = ledger_signed_bytes(claim->ledger, row->sequence, &transfer->signed_bytes, &transfer->signed_size,
                                     transfer->manifest_hash);
    } else {
        status = set_state(claim, row, LEDGER_CLAIMED, transfer->total_bytes, NULL);
    }
    if (status != STATUS_OK) {
        transfer_destroy(transfer);
        return status;
    }
    result->transfers[result->count++] = transfer;
    return STATUS_OK;
}

static enum status settle_row(const struct claim *claim, const struct ledger_transfer *row,
                              struct recover_result *result)
{
    bool tree;
    if (is_in(claim->dirs->sending, row, &tree))
        return resume(claim, row, result);
    if (is_in(claim->dirs->failed, row, &tree)) {
        witness(claim, row, AUDIT_REFUSED, NULL);
        return set_state(claim, row, LEDGER_FAILED, 0, NULL);
    }
    char name[SHOWN_SIZE];
    bool sent = is_in(claim->dirs->sent, row, &tree);
    if (sent && row->state != LEDGER_SEALED)
        log_error("%s/" LOG_NAME
                  " was sent completely, under a number that this state does not know: it was restored from a "
                  "backup; what the high side lacks of it can't be replayed: drop it again then",
                  row->channel, printable_name(row->name, name, sizeof name));
    if (sent) {
        witness(claim, row, AUDIT_SENT, NULL);
        return set_state(claim, row, LEDGER_SENT, 0, NULL);
    }
    if (row->state != LEDGER_SEALED) {
        witness(claim, row, AUDIT_RETURNED, NULL);
        return set_state(claim, row, LEDGER_RETURNED, 0, NULL);
    }
    log_error("%s/" LOG_NAME ", sequence %" PRIu64
              ", was removed from .sending before it was sent completely; the high side may "
              "lack it: drop it again",
              row->channel, printable_name(row->name, name, sizeof name), row->sequence);
    witness(claim, row, AUDIT_REFUSED, "removed from .sending before it was sent completely");
    return set_state(claim, row, LEDGER_FAILED, 0, "removed from .sending");
}

static bool parse_id(const char *text, uint8_t id[static TRANSFER_ID_SIZE])
{
    size_t size = 0;
    return sodium_hex2bin(id, TRANSFER_ID_SIZE, text, strlen(text), NULL, &size, NULL) == 0 && size == TRANSFER_ID_SIZE;
}

/* The item in .sending/ID, or else its approvals; false when there is nothing. */
static bool find_item(int sending_fd, const char *id, char name[static LIMIT_COMPONENT_LENGTH + 1])
{
    int fd = openat(sending_fd, id, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *stream = fd >= 0 ? fdopendir(fd) : NULL;
    bool found = false;
    if (stream == NULL) {
        if (fd >= 0)
            close(fd);
        return false;
    }
    bool certain = false;
    for (const struct dirent *entry; !certain && (entry = readdir(stream)) != NULL;) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        certain = !relpath_is_approval(entry->d_name);
        snprintf(name, LIMIT_COMPONENT_LENGTH + 1, "%s", entry->d_name);
        found = true;
    }
    closedir(stream);
    return found;
}

/* Moves what should not be in .sending to where it belongs. */
static enum status sweep_one(const struct claim *claim, const char *text, const uint8_t id[static TRANSFER_ID_SIZE])
{
    static const char unknown[] =
        "the sender's ledger does not know this item (was its state directory replaced?); its "
        "channel is not known any more: drop it again";
    char name[LIMIT_COMPONENT_LENGTH + 1], shown[SHOWN_SIZE];
    struct ledger_transfer row;
    bool tree = false;
    enum status status = ledger_find(claim->ledger, id, &row);
    if (status != STATUS_OK && status != STATUS_NOT_FOUND)
        return status;
    bool known = status == STATUS_OK;
    if (known && (row.state == LEDGER_CLAIMED || row.state == LEDGER_SEALED))
        return STATUS_OK;
    if (!find_item(claim->dirs->sending, text, name)) {
        (void)unlinkat(claim->dirs->sending, text, AT_REMOVEDIR);
        return STATUS_OK;
    }
    log_notice(LOG_NAME " is found in .sending, where it does not belong", printable_name(name, shown, sizeof shown));
    if (!known)
        return filing_refuse(claim->dirs, id, name, unknown);
    if (row.state == LEDGER_SENT || row.state == LEDGER_EXPIRED)
        return filing_sent(claim->dirs, id);
    if (row.state == LEDGER_RETURNED && !is_in(claim->dirs->sending, &row, &tree) && relpath_is_approval(name))
        return filing_give_back_approvals(claim->dirs, id, filing_directory(row.channel, row.in_root), row.name);
    if (row.state == LEDGER_RETURNED && is_in(claim->dirs->sending, &row, &tree)) {
        status = filing_give_back(claim->dirs, id, filing_directory(row.channel, row.in_root), row.name);
        if (status != STATUS_EXISTS)
            return status;
    }
    return filing_refuse(claim->dirs, id, name, "was given up; the sender's log says why");
}

static enum status sweep(const struct claim *claim)
{
    int fd = openat(claim->dirs->sending, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *stream = fd >= 0 ? fdopendir(fd) : NULL;
    if (stream == NULL) {
        log_error("%s/.sending can't be listed: %s", claim->dirs->path, strerror(errno));
        if (fd >= 0)
            close(fd);
        return STATUS_SYSTEM;
    }
    for (const struct dirent *entry; (entry = readdir(stream)) != NULL;) {
        uint8_t id[TRANSFER_ID_SIZE];
        if (!parse_id(entry->d_name, id))
            continue;
        if (sweep_one(claim, entry->d_name, id) != STATUS_OK)
            log_error("%s/.sending/%s can't be put in order: %s; correct its owner and mode and start again",
                      claim->dirs->path, entry->d_name, strerror(errno));
    }
    closedir(stream);
    return STATUS_OK;
}

enum status recover_run(const struct claim *claim, struct recover_result *result)
{
    struct rows rows = {0};
    *result = (struct recover_result){0};
    enum status status = ledger_each(claim->ledger, LEDGER_CLAIMING, collect, &rows);
    if (status == STATUS_OK)
        status = ledger_each(claim->ledger, LEDGER_CLAIMED, collect, &rows);
    if (status == STATUS_OK)
        status = ledger_each(claim->ledger, LEDGER_SEALED, collect, &rows);
    if (status != STATUS_OK)
        goto cleanup;
    result->transfers = calloc(rows.count > 0 ? rows.count : 1, sizeof(struct transfer *));
    assert(result->transfers != NULL);
    for (size_t i = 0; i < rows.count; i++) {
        enum status passed = settle_row(claim, &rows.rows[i], result);
        if (passed != STATUS_OK)
            log_warning("a transfer of the last run can't be taken up; it is tried again at the next start");
    }
    status = sweep(claim);
    if (result->count > 0)
        log_notice("takes up %zu transfer%s of the last run", result->count, units_plural(result->count));

cleanup:
    free(rows.rows);
    if (status != STATUS_OK) {
        for (size_t i = 0; i < result->count; i++)
            transfer_destroy(result->transfers[i]);
        free(result->transfers);
        *result = (struct recover_result){0};
    }
    return status;
}
