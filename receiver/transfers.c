// SPDX-License-Identifier: Apache-2.0
#include "receiver/transfers.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "receiver/judge.h"
#include "receiver/restore.h"
#include "receiver/transfers_private.h"
#include "receiver/witness.h"

#define LOG_INTERVAL_NS (10 * CLOCK_SECOND_NS)

static enum catalog_answer on_is_delivered(void *context, uint32_t sender_id, const uint8_t *transfer_id)
{
    struct transfers *transfers = context;
    enum status status = ledger_knows_transfer(transfers->setup.ledger, sender_id, transfer_id);
    return status == STATUS_OK ? CATALOG_DELIVERED : status == STATUS_NOT_FOUND ? CATALOG_UNKNOWN : CATALOG_UNSURE;
}

static void on_write(void *context, struct assembly *assembly, uint32_t index, struct assembly_artifact *artifact,
                     uint64_t offset, const uint8_t *bytes, uint32_t size)
{
    struct transfers *transfers = context;
    writer_put(transfers->writer, assembly, index, artifact, offset, bytes, size, transfers->block);
    hasher_take(transfers->hasher, assembly, artifact, index, offset, bytes, size, transfers->block);
    keeper_hold(transfers->keeper, assembly, index, artifact, offset, bytes, size, transfers->now_ns);
}

static void on_reset(void *context, struct assembly *assembly, uint32_t index, struct assembly_artifact *artifact)
{
    struct transfers *transfers = context;
    keeper_reset(transfers->keeper, assembly, index, artifact);
    /* Writes of the void bytes may still be under way and land last; so nothing hashed from memory counts any more. */
    hasher_drop(transfers->hasher, artifact);
    artifact->placed = false;
}

static void on_bound(void *context, struct assembly *assembly)
{
    struct transfers *transfers = context;
    assembly->first_seen_ns = clock_realtime_ns();
    keeper_bound(assembly);
    if (!transfers->restoring)
        witness_assembly(transfers->setup.audit, AUDIT_SEEN, assembly, NULL);
    if (!senders_manifest(transfers->senders, assembly))
        log_warning("sender %08x: sequence %llu can't be noted: its chain has too many gaps", assembly->sender_id,
                    (unsigned long long)assembly->sequence);
}

/* A delivered transfer has this number as well. */
static void on_had(void *context, uint32_t sender_id, const struct opening *opening)
{
    struct transfers *transfers = context;
    senders_had(transfers->senders, transfers->setup.publish, sender_id, opening);
}

static void on_complete(void *context, struct assembly *assembly)
{
    struct transfers *transfers = context;
    witness_assembly(transfers->setup.audit, AUDIT_COMPLETED, assembly, NULL);
    assembly->state = ASSEMBLY_PUBLISHING;
    hasher_finish(transfers->hasher, assembly);
    writer_when_idle(transfers->writer, assembly);
}

static void on_closing(void *context, struct assembly *assembly, enum catalog_end end)
{
    static const char *const why[] = {"the sender took it back",    "it was refused",        "it made room for others",
                                      "its data could not be kept", "nobody vouches for it", "its loss was accepted"};
    struct transfers *transfers = context;
    if (assembly->name[0] != '\0')
        log_notice("%s/" LOG_NAME " is given up: %s", assembly->channel, assembly->name, why[end]);
    if (assembly->announced && (end == CATALOG_EVICTED || end == CATALOG_FAILED))
        discards_note(&transfers->discards, assembly, why[end], clock_realtime_ns());
    if (assembly->announced) /* signed content named it, so that no flood of forgeries fills the log */
        witness_assembly(transfers->setup.audit, AUDIT_DISCARDED, assembly, why[end]);
    if (assembly->reader != NULL)
        knowledge_remove(transfers->knowledge, assembly->chain_id, assembly->sequence);
    hasher_forget(transfers->hasher, assembly);
    writer_detach(transfers->writer, assembly);
    writer_when_idle(transfers->writer, assembly);
}

static void on_refused(void *context, const struct assembly *assembly, const char *reason, const uint8_t *bytes,
                       size_t size)
{
    struct transfers *transfers = context;
    refusals_take(&transfers->refusals, assembly, reason, bytes, size, transfers->now_ns);
}

static const struct catalog_actions actions = {.is_delivered = on_is_delivered,
                                               .write = on_write,
                                               .reset = on_reset,
                                               .bound = on_bound,
                                               .complete = on_complete,
                                               .closing = on_closing,
                                               .refused = on_refused};

static enum status load_ledger(struct transfers *transfers)
{
    struct ledger *ledger = transfers->setup.ledger;
    enum status status = ledger_delivered_count(ledger, &transfers->delivered_total);
    if (status == STATUS_OK) {
        status = ledger_last_delivered(ledger, &transfers->last_delivered);
        transfers->has_delivered = status == STATUS_OK;
        if (status == STATUS_NOT_FOUND)
            status = STATUS_OK;
    }
    return status;
}

/* Nothing that waits helps when the disk is broken; what does not fit now may fit when it is sent again. */
static bool may_pass(int error)
{
    return error == ENOSPC || error == EDQUOT || error == EMFILE || error == ENFILE || error == ENOMEM;
}

bool transfers_note_error(struct transfers *transfers, int error)
{
    *(may_pass(error) ? &transfers->no_space_ns : &transfers->io_error_ns) = transfers->now_ns;
    return may_pass(error);
}

static void post_complete(void *context, struct assembly *assembly)
{
    struct transfers *transfers = context;
    if (transfers->finished) {
        assembly->state = ASSEMBLY_OPEN; /* nobody publishes any more; it is recorded, and the next start goes on */
        return;
    }
    struct publish_job *job = publish_job_create(PUBLISH_TRANSFER, assembly->sender_id, assembly->id);
    assert(job != NULL);
    writer_close_files(transfers->writer, assembly);
    job->assembly = assembly;
    publish_post(transfers->setup.publish, job);
}

static void on_flush_failed(void *context, struct assembly *assembly, int error)
{
    struct transfers *transfers = context;
    log_error("%s/.staging: flushing %s%s" LOG_NAME " to the disk failed: %s; it is given up and must be sent again",
              transfers->setup.intake->path, assembly->channel, assembly->announced ? "/" : "",
              assembly->announced ? assembly->name : "a transfer not announced yet", strerror(error));
    (void)transfers_note_error(transfers, error);
    catalog_close(transfers->catalog, assembly, CATALOG_FAILED);
}

/* A recorded transfer that can't be opened again: its record goes, and its bytes. */
static void on_not_restored(void *context, const struct ledger_key *key)
{
    struct transfers *transfers = context;
    struct checkpoint_job *forget = checkpoint_job_create(key->sender_id, key->transfer_id);
    struct publish_job *job = publish_job_create(PUBLISH_REMOVE, key->sender_id, key->transfer_id);
    assert(forget != NULL && job != NULL);
    audit_note(transfers->setup.audit, &(struct audit_entry){.event = AUDIT_DISCARDED,
                                                             .sender_id = key->sender_id,
                                                             .transfer_id = key->transfer_id,
                                                             .detail = "it can't be taken up again after a restart"});
    forget->remove = true;
    checkpoint_post(transfers->setup.checkpoint, forget);
    intake_staging_name(key->sender_id, key->transfer_id, job->trash);
    publish_post(transfers->setup.publish, job);
}

static void restore(struct transfers *transfers)
{
    const struct transfers_setup *setup = &transfers->setup;
    struct restore restore = {.ledger = setup->ledger,
                              .intake = setup->intake,
                              .catalog = transfers->catalog,
                              .writer = transfers->writer,
                              .keeper = transfers->keeper,
                              .trust = setup->trust,
                              .refused = on_not_restored,
                              .context = transfers};
    transfers->now_ns = clock_monotonic_ns();
    transfers->restoring = true;
    restore_run(&restore, transfers->now_ns);
    transfers->restoring = false;
}

struct transfers *transfers_create(const struct transfers_setup *setup)
{
    struct transfers *transfers = calloc(1, sizeof *transfers);
    if (transfers == NULL)
        return NULL;
    transfers->setup = *setup;
    transfers->unpack =
        (struct unpack){.trust = setup->trust, .handler = &frames_handler, .context = &transfers->frames};
    transfers->space_limit.interval_ns = LOG_INTERVAL_NS;
    transfers->refusals.publish = setup->publish;
    struct writer_setup writer = {.intake = setup->intake,
                                  .ring = setup->ring,
                                  .reads_back = setup->lane_count > 1,
                                  .release = setup->release,
                                  .wait = setup->wait,
                                  .context = setup->context};
    transfers->catalog = catalog_create(setup->trust, &actions, transfers);
    transfers->senders =
        senders_create(setup->trust, setup->ledger, setup->progress, setup->audit, clock_monotonic_ns());
    transfers->frames = (struct frames){.catalog = transfers->catalog,
                                        .senders = transfers->senders,
                                        .announced = announced_create(setup->state_directory, setup->trust,
                                                                      setup->policies, setup->audit, setup->publish)};
    transfers->writer = writer_create(&writer);
    transfers->hasher = setup->hasher;
    hasher_set_writer(setup->hasher, transfers->writer);
    struct keeper_setup keeper = {.checkpoint = setup->checkpoint,
                                  .writer = transfers->writer,
                                  .catalog = transfers->catalog,
                                  .lost = on_flush_failed,
                                  .publish = post_complete,
                                  .context = transfers};
    transfers->keeper = keeper_create(&keeper);
    if (transfers->catalog == NULL || transfers->senders == NULL || transfers->frames.announced == NULL ||
        transfers->writer == NULL || transfers->keeper == NULL || load_ledger(transfers) != STATUS_OK) {
        log_error("the store stage can't be set up: %s", strerror(errno));
        transfers_destroy(transfers);
        return NULL;
    }
    transfers->knowledge = senders_knowledge(transfers->senders);
    transfers->losses = losses_create(transfers->senders, transfers->catalog, setup->tickets);
    transfers->renumber =
        renumber_create(setup->trust, catalog_checks(transfers->catalog), transfers->knowledge, on_had, transfers);
    if (transfers->losses == NULL || transfers->renumber == NULL) {
        transfers_destroy(transfers);
        return NULL;
    }
    transfers->unpack.checks = catalog_checks(transfers->catalog);
    catalog_set_renumber(transfers->catalog, transfers->renumber);
    catalog_set_limits(transfers->catalog, &setup->limits);
    catalog_set_bounds(transfers->catalog, &setup->bounds);
    restore(transfers);
    return transfers;
}

static void let_go(struct assembly *assembly, void *context)
{
    struct transfers *transfers = context;
    keeper_let_go(transfers->keeper, assembly);
    writer_forget(transfers->writer, assembly, NULL);
}

void transfers_destroy(struct transfers *transfers)
{
    if (transfers == NULL)
        return;
    if (transfers->catalog != NULL && transfers->writer != NULL && transfers->keeper != NULL) {
        while (writer_next_idle(transfers->writer) != NULL)
            continue;
        catalog_each(transfers->catalog, let_go, transfers);
    }
    losses_destroy(transfers->losses);
    announced_destroy(transfers->frames.announced);
    catalog_destroy(transfers->catalog);
    renumber_destroy(transfers->renumber);
    senders_destroy(transfers->senders);
    writer_destroy(transfers->writer);
    keeper_destroy(transfers->keeper);
    free(transfers);
}

bool transfers_is_delivered(const struct transfers *transfers, uint32_t sender_id, uint64_t sequence)
{
    return knowledge_is_delivered(transfers->knowledge, sender_id, sequence);
}

unsigned transfers_under_way(const struct transfers *transfers)
{
    return writer_under_way(transfers->writer);
}

bool transfers_are_hashing(const struct transfers *transfers)
{
    return hasher_is_busy(transfers->hasher);
}

bool transfers_have_hashed(const struct transfers *transfers)
{
    return hasher_has_results(transfers->hasher);
}

void transfers_take_block(struct transfers *transfers, struct writer_block *block, size_t size, uint64_t now_ns)
{
    struct unpack_source source = {.sender_id = block->block->sender_id,
                                   .lane = block->block->lane,
                                   .epoch = block->block->epoch,
                                   .now_ns = now_ns};
    transfers->block = block;
    transfers->now_ns = now_ns;
    unpack_payload(&transfers->unpack, &source, block->block->symbols, size);
    transfers->block = NULL;
    writer_unuse(transfers->writer, block);
}

void transfers_flush(struct transfers *transfers)
{
    writer_flush(transfers->writer);
}

void transfers_complete(struct transfers *transfers, const struct io_uring_cqe *cqe)
{
    writer_complete(transfers->writer, cqe);
}

static void take_loss(struct transfers *transfers, const struct writer_loss *loss)
{
    struct assembly *assembly = loss->assembly;
    uint64_t suppressed;
    if (assembly->state == ASSEMBLY_CLOSED)
        return;
    assembly->state = ASSEMBLY_OPEN;
    if (log_limit_pass(&transfers->space_limit, transfers->now_ns, &suppressed))
        log_error("%s/.staging: writing %s%s" LOG_NAME
                  " failed: %s; what was lost counts as missing (%llu more since the last "
                  "such message)",
                  transfers->setup.intake->path, assembly->channel, assembly->announced ? "/" : "",
                  assembly->announced ? assembly->name : "a transfer not announced yet", strerror(loss->error),
                  (unsigned long long)suppressed);
    struct assembly_artifact *artifact = assembly_artifact(assembly, loss->index);
    if (artifact != NULL)
        hasher_drop(transfers->hasher, artifact);
    keeper_lose(transfers->keeper, assembly, loss->index, loss->first, loss->end);
    catalog_lose(transfers->catalog, assembly, loss->index, loss->first, loss->end);
    if (!transfers_note_error(transfers, loss->error))
        catalog_close(transfers->catalog, assembly, CATALOG_FAILED);
}

/* The last write of a closed transfer is over: its bytes go, and its name with them. */
static void clear_closed(struct transfers *transfers, struct assembly *assembly)
{
    struct publish_job *job = publish_job_create(PUBLISH_REMOVE, assembly->sender_id, assembly->id);
    assert(job != NULL);
    keeper_forget(transfers->keeper, assembly, false);
    writer_forget(transfers->writer, assembly, job->trash);
    catalog_forget(transfers->catalog, assembly, false);
    if (job->trash[0] != '\0')
        publish_post(transfers->setup.publish, job);
    else
        publish_job_destroy(job);
}

void transfers_settle(struct transfers *transfers, uint64_t now_ns)
{
    struct writer_loss loss;
    struct assembly *assembly;
    transfers->now_ns = now_ns;
    hasher_settle(transfers->hasher);
    progress_set_oldest_write(transfers->setup.progress, writer_oldest_ns(transfers->writer));
    while (writer_next_loss(transfers->writer, &loss))
        take_loss(transfers, &loss);
    while ((assembly = writer_next_idle(transfers->writer)) != NULL) {
        if (assembly->state == ASSEMBLY_PUBLISHING) {
            if (keeper_may_publish(transfers->keeper, assembly))
                post_complete(transfers, assembly);
        } else if (assembly->state == ASSEMBLY_CLOSED) {
            clear_closed(transfers, assembly);
        }
    }
}

void transfers_take_checkpoint(struct transfers *transfers, struct checkpoint_job *job, uint64_t now_ns)
{
    transfers->now_ns = now_ns;
    keeper_take_result(transfers->keeper, job, now_ns);
}

void transfers_record_all(struct transfers *transfers)
{
    keeper_record_all(transfers->keeper);
}

void transfers_finish(struct transfers *transfers)
{
    senders_finish(transfers->senders, transfers->setup.publish);
    transfers->finished = true;
}

void transfers_tick(struct transfers *transfers, uint64_t now_ns)
{
    struct publish_facts facts;
    transfers->now_ns = now_ns;
    refusals_tick(&transfers->refusals);
    publish_facts(transfers->setup.publish, &facts);
    catalog_set_free_bytes(transfers->catalog, facts.free_bytes, now_ns);
    judge_all(transfers->catalog, transfers->knowledge, transfers->setup.progress, transfers->setup.lane_count, now_ns);
    keeper_tick(transfers->keeper, now_ns);
    senders_store(transfers->senders, transfers->setup.publish, now_ns);
}

void transfers_fill(struct transfers *transfers, struct report_snapshot *snapshot, uint64_t now_ns)
{
    const struct catalog_counters *counters = catalog_counters(transfers->catalog);
    const struct unpack_counters *frames = &transfers->unpack.counters;
    losses_fill(transfers->losses, snapshot, now_ns);
    discards_fill(&transfers->discards, snapshot);
    snapshot->delivered_total = transfers->delivered_total;
    snapshot->damaged_total = transfers->damaged_total;
    snapshot->aborted_total = counters->ended[CATALOG_ABORTED];
    snapshot->evicted_total = counters->ended[CATALOG_EVICTED];
    snapshot->quarantined_total = counters->manifests_refused;
    snapshot->frames_malformed = frames->malformed + frames->bad_messages;
    snapshot->frames_unknown = frames->unknown + frames->unknown_blocks + frames->refused;
    snapshot->frames_bad_signature = frames->bad_signatures;
    snapshot->frames_duplicate = counters->duplicates;
    snapshot->frames_over_limit = counters->over_limit + frames->over_limit;
    snapshot->has_delivered = transfers->has_delivered;
    snapshot->last_delivered = transfers->last_delivered;
    snapshot->no_space_ns = transfers->no_space_ns;
    snapshot->io_error_ns = transfers->io_error_ns;
    snapshot->quarantined_ns = transfers->refusals.last_ns;
    publish_facts(transfers->setup.publish, &snapshot->facts);
}
