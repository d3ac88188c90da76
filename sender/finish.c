// SPDX-License-Identifier: Apache-2.0
#include "sender/finish.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/log.h"
#include "proto/relpath.h"
#include "sender/filing.h"
#include "sender/printable.h"
#include "sender/witness.h"

enum { SHOWN_SIZE = 128 };

static const char name_taken[] = "; it could not go back to the spool, where a new item has its name";

static enum status refuse(const struct claim *claim, struct finish_item *item)
{
    item->result = FINISH_REFUSED;
    return filing_refuse(claim->dirs, item->transfer->id, item->transfer->name, item->transfer->reason);
}

static enum status give_back(const struct claim *claim, struct finish_item *item)
{
    struct transfer *transfer = item->transfer;
    enum status status = STATUS_EXISTS;
    if (item->may_return)
        status = filing_give_back(claim->dirs, transfer->id, filing_directory(transfer->channel, transfer->in_root),
                                  transfer->name);
    item->result = FINISH_RETURNED;
    if (status != STATUS_EXISTS)
        return status;
    size_t length = relpath_cut(transfer->reason, sizeof transfer->reason - sizeof name_taken);
    memcpy(transfer->reason + length, name_taken, sizeof name_taken);
    return refuse(claim, item);
}

static enum status file_away(const struct claim *claim, struct finish_item *item)
{
    switch (item->transfer->outcome) {
    case TRANSFER_SENT:
        item->result = FINISH_SENT;
        return filing_sent(claim->dirs, item->transfer->id);
    case TRANSFER_REFUSED:
        return refuse(claim, item);
    case TRANSFER_RETURNED:
        return give_back(claim, item);
    case TRANSFER_PENDING:
        break;
    }
    assert(!"a transfer that came back has an outcome");
    return STATUS_INVALID;
}

static void witness(const struct claim *claim, const struct finish_item *items, size_t count)
{
    static const enum audit_event events[] = {
        [FINISH_SENT] = AUDIT_SENT, [FINISH_REFUSED] = AUDIT_REFUSED, [FINISH_RETURNED] = AUDIT_RETURNED};
    struct audit_entry *entries = calloc(count, sizeof *entries);
    uint8_t chain_id[CHAIN_ID_SIZE];
    assert(entries != NULL);
    ledger_chain_id(claim->ledger, chain_id);
    for (size_t i = 0; i < count; i++)
        witness_transfer(&entries[i], events[items[i].result], items[i].transfer, chain_id,
                         items[i].result != FINISH_SENT ? items[i].transfer->reason : NULL);
    witness_record(claim->audit, entries, count);
    free(entries);
}

static void keep(struct finish_backlog *backlog, const struct ledger_change *changes, size_t count)
{
    size_t room = FINISH_UNRECORDED - backlog->count;
    size_t kept = count < room ? count : room;
    for (size_t i = 0; i < kept; i++) {
        struct ledger_change *change = &backlog->changes[backlog->count++];
        *change = changes[i];
        if (change->reason != NULL) {
            change->reason = strdup(change->reason);
            assert(change->reason != NULL);
        }
    }
    log_warning("the ledger could not record %zu finished transfers; %zu wait until it can, the next start of the "
                "sender finds the rest",
                count, backlog->count);
}

void finish_backlog_deinit(struct finish_backlog *backlog)
{
    for (size_t i = 0; i < backlog->count; i++)
        free((char *)backlog->changes[i].reason);
    backlog->count = 0;
}

static void record(const struct claim *claim, struct finish_backlog *backlog, const struct ledger_change *changes,
                   size_t count)
{
    bool waited = backlog->count > 0;
    if (waited && ledger_apply(claim->ledger, backlog->changes, backlog->count) == STATUS_OK) {
        log_notice("the ledger has recorded %zu finished transfers that had to wait", backlog->count);
        finish_backlog_deinit(backlog);
    }
    if (count > 0 && ledger_apply(claim->ledger, changes, count) != STATUS_OK)
        keep(backlog, changes, count);
}

void finish_batch(const struct claim *claim, struct finish_backlog *backlog, struct finish_item *items, size_t count)
{
    static const enum ledger_state states[] = {
        [FINISH_SENT] = LEDGER_SENT, [FINISH_REFUSED] = LEDGER_FAILED, [FINISH_RETURNED] = LEDGER_RETURNED};
    struct ledger_change *changes = calloc(count + 1, sizeof *changes); /* never of nothing */
    assert(changes != NULL);
    bool sent = false;

    for (size_t i = 0; i < count; i++) {
        struct transfer *transfer = items[i].transfer;
        char name[SHOWN_SIZE];
        printable_name(transfer->name, name, sizeof name);
        if (file_away(claim, &items[i]) != STATUS_OK)
            log_error("%s/" LOG_NAME " can't leave .sending: %s; the next start of the sender sorts it out",
                      transfer->channel, name, strerror(errno));
        if (items[i].result != FINISH_SENT)
            log_warning("%s/" LOG_NAME " %s: " LOG_DETAIL, transfer->channel, name,
                        items[i].result == FINISH_REFUSED ? "is refused" : "goes back to the spool", transfer->reason);
        sent = sent || items[i].result == FINISH_SENT;
        memcpy(changes[i].id, transfer->id, TRANSFER_ID_SIZE);
        changes[i].state = states[items[i].result];
        changes[i].reason = items[i].result != FINISH_SENT ? transfer->reason : NULL;
    }
    if (sent && (fsync(claim->dirs->sent) != 0 || fsync(claim->dirs->sending) != 0))
        log_error("the spool %s can't be flushed: %s", claim->dirs->path, strerror(errno));
    if (count > 0)
        witness(claim, items, count);
    record(claim, backlog, changes, count);
    free(changes);
}
