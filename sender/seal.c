// SPDX-License-Identifier: Apache-2.0
#include "sender/seal.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/digest.h"
#include "common/doorbell.h"
#include "common/log.h"
#include "common/worker.h"
#include "proto/identity.h"
#include "proto/manifest.h"
#include "proto/message.h"
#include "proto/signed.h"
#include "sender/approvals.h"

enum {
    BATCH_SIZE = 256,        /* transfers in one ledger transaction */
    BATCH_ENTRIES = 1 << 17, /* entries after which a batch is closed, for the memory that its manifests take */
    CHAIN_SHOWN_SIZE = 4,    /* bytes of the chain id in a trusted comment */
    RETRY_NS = 1000 * 1000 * 1000,
};

/* What is being sealed: the statement is written once, the head each time that the ledger assigns numbers. */
struct candidate {
    struct transfer *transfer;
    const struct signature_key *key;
    struct manifest_writer *writer;
};

struct seal {
    struct ledger *ledger;
    const struct signature_key *key;
    struct mailbox *sealed;
    seal_committed *committed;
    void *context;
    struct doorbell *bell;
    struct mailbox *inbox;
    struct worker *worker;
    atomic_bool stopping;
    struct transfer *batch[BATCH_SIZE];
    struct candidate candidates[BATCH_SIZE];
    struct ledger_seal records[BATCH_SIZE];
};

static struct manifest_writer *write_statement(const struct transfer *transfer)
{
    struct manifest_writer *writer = manifest_writer_create(transfer->channel, transfer->name);
    const struct listing *listing = transfer->listing;
    size_t artifact = 0, chunk = 0;

    for (size_t i = 0; i < listing->count; i++) {
        const struct listing_entry *from = &listing->entries[i];
        struct manifest_entry entry = {.path = from->path, .kind = from->kind, .mtime_ns = from->mtime_ns};
        if (from->kind == MANIFEST_SYMLINK)
            entry.target = from->target;
        if (from->kind != MANIFEST_FILE) {
            manifest_writer_add(writer, &entry);
            continue;
        }
        entry.size = from->size;
        entry.executable = from->executable;
        memcpy(entry.sha256, transfer->sha256[artifact++], SHA256_SIZE);
        manifest_writer_add(writer, &entry);
        uint64_t chunks = manifest_chunk_count(from->size);
        if (chunks > 1) {
            assert(chunk + chunks <= transfer->chunk_hash_count);
            manifest_writer_add_chunk_hashes(writer, transfer->chunk_hashes[chunk], (size_t)chunks);
            chunk += (size_t)chunks;
        }
    }
    assert(artifact == listing->artifact_count && chunk == transfer->chunk_hash_count);
    return writer;
}

/* ledger_seal()'s callback: the numbers are known, so the manifest can be finished and signed. */
static void sign(struct ledger_seal *seal, const uint8_t chain_id[static CHAIN_ID_SIZE], uint64_t sequence,
                 const uint8_t previous_hash[static SHA256_SIZE], uint64_t previous_in_channel)
{
    const struct candidate *candidate = seal->context;
    const struct transfer *transfer = candidate->transfer;
    int64_t now_ns = clock_realtime_ns();
    struct manifest_head head = {
        .sequence = sequence, .previous_in_channel = previous_in_channel, .time_ns = now_ns > 0 ? now_ns : 0};
    memcpy(head.chain_id, chain_id, CHAIN_ID_SIZE);
    memcpy(head.previous_hash, previous_hash, SHA256_SIZE);
    memcpy(head.transfer_id, transfer->id, TRANSFER_ID_SIZE);
    memcpy(head.origin_user, transfer->origin_user, sizeof head.origin_user);

    uint8_t *body = NULL;
    size_t body_size = 0;
    manifest_writer_finish(candidate->writer, &head, &body, &body_size);
    digest_once(body, body_size, seal->hash);

    char chain[2 * CHAIN_SHOWN_SIZE + 1];
    char id[TRANSFER_ID_TEXT_SIZE];
    char comment[SIGNATURE_COMMENT_SIZE];
    for (size_t i = 0; i < CHAIN_SHOWN_SIZE; i++)
        snprintf(chain + 2 * i, 3, "%02x", chain_id[i]);
    identity_transfer_text(transfer->id, id);
    snprintf(comment, sizeof comment, "diodecast chain %s sequence %" PRIu64 " transfer %s", chain, sequence, id);
    signed_encode(candidate->key, body, body_size, comment, &seal->signed_bytes, &seal->signed_size, NULL);
    free(body);
}

/* Gives the transfer up: signs the ABORT that tells the high side. Its outcome and reason are set. */
static void end_unsealed(const struct seal *seal, struct transfer *transfer)
{
    int64_t now_ns = clock_realtime_ns();
    struct message_abort message = {.time_ns = now_ns > 0 ? now_ns : 0};
    uint8_t *body = NULL;
    size_t body_size = 0;

    assert(transfer->outcome == TRANSFER_REFUSED || transfer->outcome == TRANSFER_RETURNED);
    memcpy(message.transfer_id, transfer->id, TRANSFER_ID_SIZE);
    message_abort_reason(&message, transfer->reason);
    message_encode_abort(&message, &body, &body_size);
    free(transfer->signed_bytes);
    signed_encode(seal->key, body, body_size, NULL, &transfer->signed_bytes, &transfer->signed_size, NULL);
    free(body);
    transfer->sequence = 0;
}

static void set_outcome(struct transfer *transfer, enum transfer_outcome outcome, const char *reason)
{
    transfer->outcome = outcome;
    snprintf(transfer->reason, sizeof transfer->reason, "%s", reason);
}

/* Takes the approvals that came with the item into the manifest; false when it ends here (its outcome says how). */
static bool take_approvals(struct transfer *transfer, struct manifest_writer *writer)
{
    struct approvals approvals;
    char what[256], reason[LIMIT_REASON_LENGTH];
    enum status status = approvals_read(transfer->directory_fd, transfer->name, &approvals, what);
    size_t count = approvals.bundle.count;
    reason[0] = '\0';
    if (status != STATUS_OK && status != STATUS_INVALID) {
        snprintf(reason, sizeof reason, "its approvals can't be read: %s", strerror(errno));
        set_outcome(transfer, TRANSFER_RETURNED, reason);
    } else if (status == STATUS_INVALID) {
        snprintf(reason, sizeof reason, "its approvals can't be used: %s; make them anew with \"diodecast sign\"",
                 what);
        set_outcome(transfer, TRANSFER_REFUSED, reason);
    } else if (approvals.bytes != NULL && !manifest_writer_adopt(writer, &approvals.bundle, what)) {
        snprintf(reason, sizeof reason, "it is not what was approved: %s", what);
        set_outcome(transfer, TRANSFER_REFUSED, reason);
    } else if (count < transfer->approvals) {
        snprintf(reason, sizeof reason, "%zu of the %" PRIu32 " approvals that its channel asks for are there", count,
                 transfer->approvals);
        set_outcome(transfer, TRANSFER_RETURNED, reason);
    }
    approvals_deinit(&approvals);
    return reason[0] == '\0';
}

/* Looks at the item again and writes its statement; false when the transfer ends here (its outcome says how). */
static bool prepare(const struct seal *seal, struct transfer *transfer, struct candidate *candidate)
{
    char reason[LIMIT_REASON_LENGTH];
    struct listing *now = NULL;

    if (transfer->outcome != TRANSFER_PENDING)
        return false;
    /* Only differences matter here: limits were checked at the claim, and an item that now exceeds one has changed. */
    enum status status =
        scan_item(transfer->directory_fd, transfer->name, transfer->symlinks, UINT64_MAX, &now, reason);
    bool same = status == STATUS_OK && scan_same(transfer->listing, now, reason);
    scan_listing_destroy(now);
    if (!same) {
        set_outcome(transfer, TRANSFER_RETURNED, reason);
        return false;
    }
    struct manifest_writer *writer = write_statement(transfer);
    if (!take_approvals(transfer, writer)) {
        manifest_writer_destroy(writer);
        return false;
    }
    if (manifest_writer_size(writer) > LIMIT_MANIFEST_SIZE) {
        manifest_writer_destroy(writer);
        set_outcome(transfer, TRANSFER_REFUSED, "its manifest would be larger than 64 MiB; split the item");
        return false;
    }
    *candidate = (struct candidate){.transfer = transfer, .key = seal->key, .writer = writer};
    return true;
}

static void post(const struct seal *seal, struct transfer *transfer)
{
    if (transfer->directory_fd >= 0)
        close(transfer->directory_fd);
    transfer->directory_fd = -1;
    mailbox_post(seal->sealed, &transfer->entry);
}

/* Commits the batch; retries as long as the ledger refuses, for the transfers have nowhere else to go. */
static bool commit(struct seal *seal, size_t count)
{
    struct candidate *candidates = seal->candidates;
    struct ledger_seal *records = seal->records;
    for (;;) {
        for (size_t i = 0; i < count; i++) {
            const struct transfer *transfer = candidates[i].transfer;
            records[i] = (struct ledger_seal){.transfer_id = transfer->id,
                                              .channel = transfer->channel,
                                              .bytes = transfer->listing->total_bytes,
                                              .sign = sign,
                                              .context = &candidates[i]};
        }
        if (ledger_seal(seal->ledger, records, count) == STATUS_OK)
            break;
        for (size_t i = 0; i < count; i++)
            free(records[i].signed_bytes);
        /* Without the commit nothing may be sent; the ledger says CLAIMED, so that the next start takes it up again. */
        if (atomic_load(&seal->stopping))
            return false;
        doorbell_disarm(seal->bell);
        doorbell_arm(seal->bell);
        if (!atomic_load(&seal->stopping))
            doorbell_wait(seal->bell, RETRY_NS);
        doorbell_disarm(seal->bell);
    }
    return true;
}

static void seal_batch(struct seal *seal, size_t count)
{
    struct transfer **batch = seal->batch;
    struct candidate *candidates = seal->candidates;
    const struct ledger_seal *records = seal->records;
    size_t ready = 0;

    for (size_t i = 0; i < count; i++) {
        atomic_store(&batch[i]->announced_stage, TRANSFER_STAGE_SEALING);
        if (prepare(seal, batch[i], &candidates[ready])) {
            ready++;
            continue;
        }
        end_unsealed(seal, batch[i]);
        post(seal, batch[i]);
    }
    bool committed = ready == 0 || commit(seal, ready);
    for (size_t i = 0; i < ready; i++) {
        struct transfer *transfer = candidates[i].transfer;
        manifest_writer_destroy(candidates[i].writer);
        if (!committed) {
            transfer_destroy(transfer);
            continue;
        }
        transfer->sequence = records[i].sequence;
        memcpy(transfer->manifest_hash, records[i].hash, SHA256_SIZE);
        transfer->signed_bytes = records[i].signed_bytes;
        transfer->signed_size = records[i].signed_size;
        seal->committed(seal->context, transfer);
        post(seal, transfer);
    }
}

static void run(void *context)
{
    struct seal *seal = context;

    for (;;) {
        size_t count = 0, entries = 0;
        doorbell_arm(seal->bell);
        bool stopping = atomic_load(&seal->stopping);
        while (count < BATCH_SIZE && entries < BATCH_ENTRIES) {
            struct transfer *transfer = (struct transfer *)mailbox_take(seal->inbox);
            if (transfer == NULL)
                break;
            entries += transfer->listing != NULL ? transfer->listing->count : 0;
            seal->batch[count++] = transfer;
        }
        if (count > 0) {
            doorbell_disarm(seal->bell);
            seal_batch(seal, count);
        } else if (stopping) {
            doorbell_disarm(seal->bell);
            return;
        } else {
            doorbell_wait(seal->bell, UINT64_MAX);
            doorbell_disarm(seal->bell);
        }
    }
}

enum status seal_start(struct ledger *ledger, const struct signature_key *key, struct mailbox *sealed,
                       seal_committed *committed, void *context, struct seal **seal)
{
    *seal = NULL;
    struct seal *made = calloc(1, sizeof *made);
    assert(made != NULL);
    *made = (struct seal){.ledger = ledger, .key = key, .sealed = sealed, .committed = committed, .context = context};
    made->bell = doorbell_create();
    made->inbox = made->bell != NULL ? mailbox_create(made->bell) : NULL;
    enum status status = made->inbox != NULL ? worker_start("seal", run, made, &made->worker) : STATUS_SYSTEM;
    if (status != STATUS_OK) {
        log_error("the seal stage can't start: a descriptor or thread is missing; raise LimitNOFILE or TasksMax");
        mailbox_destroy(made->inbox);
        doorbell_destroy(made->bell);
        free(made);
        return status;
    }
    *seal = made;
    return STATUS_OK;
}

void seal_submit(struct seal *seal, struct transfer *transfer)
{
    mailbox_post(seal->inbox, &transfer->entry);
}

void seal_stop(struct seal *seal)
{
    if (seal == NULL)
        return;
    atomic_store(&seal->stopping, true);
    doorbell_ring(seal->bell);
    worker_join(seal->worker);
    mailbox_destroy(seal->inbox);
    doorbell_destroy(seal->bell);
    free(seal);
}
