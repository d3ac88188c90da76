// SPDX-License-Identifier: Apache-2.0
#include "sender/reopen.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/identity.h"
#include "proto/manifest.h"
#include "proto/signed.h"
#include "sender/ledger_again.h"

static void say(char message[static LEDGER_MESSAGE_SIZE], const char *text)
{
    snprintf(message, LEDGER_MESSAGE_SIZE, "%s", text);
}

/* Sizes and number of the artifacts of signed bytes. */
static enum status sizes_of(const uint8_t *bytes, size_t size, uint64_t **sizes, size_t *count)
{
    char reason[256];
    struct signed_message signed_message;
    struct manifest_reader *reader = NULL;
    struct manifest_entry entry;
    *sizes = NULL;
    *count = 0;
    if (signed_decode(bytes, size, LIMIT_MANIFEST_SIZE, &signed_message) != STATUS_OK)
        return STATUS_CORRUPT;
    enum status status = manifest_reader_create(signed_message.body, signed_message.body_size, &reader, reason);
    if (status == STATUS_OK) {
        *sizes = calloc((size_t)manifest_reader_head(reader)->artifact_count + 1, sizeof **sizes);
        assert(*sizes != NULL);
        while (manifest_reader_next(reader, &entry))
            if (entry.kind == MANIFEST_FILE)
                (*sizes)[(*count)++] = entry.size;
    }
    manifest_reader_destroy(reader);
    signed_message_deinit(&signed_message);
    return status == STATUS_INVALID ? STATUS_CORRUPT : status;
}

enum status reopen_sizes(struct ledger *ledger, uint64_t sequence, uint64_t **sizes, size_t *count)
{
    uint8_t hash[SHA256_SIZE], *bytes = NULL;
    size_t size = 0;
    *sizes = NULL;
    enum status status = ledger_signed_bytes(ledger, sequence, &bytes, &size, hash);
    if (status == STATUS_OK)
        status = sizes_of(bytes, size, sizes, count);
    free(bytes);
    return status;
}

bool reopen_is_kept(const struct claim *claim, const struct ledger_transfer *transfer)
{
    char path[TRANSFER_ID_TEXT_SIZE + 1 + LIMIT_COMPONENT_LENGTH + 1], id[TRANSFER_ID_TEXT_SIZE];
    struct stat meta;
    identity_transfer_text(transfer->id, id);
    snprintf(path, sizeof path, "%s/%s", id, transfer->name);
    return fstatat(claim->dirs->sent, path, &meta, AT_SYMLINK_NOFOLLOW) == 0;
}

static struct transfer *make_transfer(const struct claim *claim, const struct ledger_transfer *row,
                                      enum transfer_kind kind)
{
    const struct config_channel *rule = config_channel_find(claim->config, row->channel);
    struct transfer *transfer = transfer_create();
    transfer->kind = kind;
    memcpy(transfer->id, row->id, TRANSFER_ID_SIZE);
    memcpy(transfer->channel, row->channel, sizeof transfer->channel);
    memcpy(transfer->name, row->name, sizeof transfer->name);
    memcpy(transfer->origin_user, row->origin_user, sizeof transfer->origin_user);
    transfer->priority = rule->priority;
    transfer->symlinks = rule->symlinks;
    transfer->in_root = row->in_root;
    transfer->sequence = row->sequence;
    transfer->total_bytes = row->bytes;
    return transfer;
}

/* Opens and lists .sent/ID. */
static enum reopen_result open_item(const struct claim *claim, struct transfer *transfer,
                                    char message[static LEDGER_MESSAGE_SIZE])
{
    char id[TRANSFER_ID_TEXT_SIZE], reason[CLAIM_MESSAGE_SIZE];
    identity_transfer_text(transfer->id, id);
    transfer->directory_fd = openat(claim->dirs->sent, id, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (transfer->directory_fd < 0) {
        int error = errno;
        if (error == ENOENT || error == ENOTDIR)
            say(message, "is no longer retained: it was removed from .sent");
        else
            snprintf(message, LEDGER_MESSAGE_SIZE, ".sent/%s can't be opened: %s", id, strerror(error));
        return error == EMFILE || error == ENFILE || error == ENOMEM ? REOPEN_LATER : REOPEN_GONE;
    }
    if (claim_list(claim, transfer, reason))
        return REOPEN_GOOD;
    int error = errno;
    snprintf(message, LEDGER_MESSAGE_SIZE, "is no longer what was sent: %.300s", reason);
    return error == EMFILE || error == ENFILE || error == ENOMEM ? REOPEN_LATER : REOPEN_GONE;
}

/* Which of its parts are left to send behind the mark. */
static void set_parts(struct transfer *transfer, const struct parts *asked, uint64_t mark)
{
    struct parts parts = *asked;
    uint64_t *sizes = NULL;
    size_t count = 0;
    if (mark > 0 && sizes_of(transfer->signed_bytes, transfer->signed_size, &sizes, &count) == STATUS_OK)
        parts_skip(&parts, sizes, count, mark);
    free(sizes);
    transfer->manifest_only = parts.manifest_only;
    transfer->range_count = parts.range_count;
    if (parts.range_count == 0)
        return;
    transfer->ranges = calloc(parts.range_count, sizeof transfer->ranges[0]);
    assert(transfer->ranges != NULL);
    memcpy(transfer->ranges, parts.ranges, parts.range_count * sizeof parts.ranges[0]);
}

static enum reopen_result reopen(const struct claim *claim, struct transfer *transfer,
                                 const struct ledger_transfer *row, const struct parts *parts, uint64_t mark,
                                 char message[static LEDGER_MESSAGE_SIZE])
{
    enum status status = ledger_signed_bytes(claim->ledger, row->sequence, &transfer->signed_bytes,
                                             &transfer->signed_size, transfer->manifest_hash);
    if (status != STATUS_OK) {
        say(message, "its manifest can't be read from the ledger");
        return status == STATUS_CORRUPT || status == STATUS_NOT_FOUND ? REOPEN_GONE : REOPEN_LATER;
    }
    set_parts(transfer, parts, mark);
    if (!transfer->manifest_only) {
        if (row->state == LEDGER_SENT)
            return open_item(claim, transfer, message);
        if (row->state < LEDGER_SENT) {
            say(message, "the ledger does not know it as sent yet");
            return REOPEN_LATER;
        }
        say(message, row->state == LEDGER_EXPIRED ? "is no longer retained" : "was given up and is no longer there");
        return REOPEN_GONE;
    }
    uint64_t *sizes = NULL;
    size_t count = 0;
    if (sizes_of(transfer->signed_bytes, transfer->signed_size, &sizes, &count) != STATUS_OK) {
        say(message, "its manifest in the ledger is damaged");
        return REOPEN_GONE;
    }
    transfer->artifact_count = (uint32_t)count;
    free(sizes);
    return REOPEN_GOOD;
}

enum reopen_result reopen_transfer(const struct claim *claim, uint64_t sequence, enum transfer_kind kind,
                                   const struct parts *parts, uint64_t mark, struct transfer **transfer,
                                   char message[static LEDGER_MESSAGE_SIZE])
{
    struct ledger_transfer row;
    *transfer = NULL;
    message[0] = '\0';
    enum status status = ledger_next(claim->ledger, sequence - 1, INT64_MIN, &row);
    if (status != STATUS_OK && status != STATUS_NOT_FOUND) {
        say(message, "the ledger can't be read");
        return REOPEN_LATER;
    }
    if (status == STATUS_NOT_FOUND || row.sequence != sequence) {
        say(message, "is no longer known to the ledger");
        return REOPEN_GONE;
    }
    struct transfer *made = make_transfer(claim, &row, kind);
    enum reopen_result result = reopen(claim, made, &row, parts, mark, message);
    if (result == REOPEN_GOOD)
        *transfer = made;
    else
        transfer_destroy(made);
    return result;
}
