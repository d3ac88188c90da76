// SPDX-License-Identifier: Apache-2.0
#include "receiver/transfers.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "receiver/acceptance.h"
#include "receiver/catalog.h"
#include "receiver/hasher.h"
#include "receiver/judge.h"
#include "receiver/keeper.h"
#include "receiver/knowledge.h"
#include "receiver/losses.h"
#include "receiver/restore.h"
#include "receiver/senders.h"
#include "receiver/witness.h"

enum {
    QUARANTINES_PER_TICK = 4,                              /* more refused manifests than that are only counted */
    QUARANTINE_WAITING = LIMIT_MANIFEST_SIZE + (16 << 20), /* bytes of them that wait for the publish stage, likewise */
};
#define LOG_INTERVAL_NS (10 * CLOCK_SECOND_NS)

struct transfers {
    struct transfers_setup setup;
    struct unpack unpack;
    struct catalog *catalog;
    struct senders *senders;
    struct knowledge *knowledge; /* the senders' */
    struct losses *losses;
    struct writer *writer;
    struct hasher *hasher;
    struct keeper *keeper;
    bool restoring;
    struct writer_block *block; /* being unpacked */
    uint64_t now_ns;

    uint64_t delivered_total, damaged_total;
    bool has_delivered;
    struct ledger_delivery last_delivered;
    unsigned quarantines; /* since the last tick */
    uint64_t no_space_ns, io_error_ns, quarantined_ns;
    struct log_limit space_limit, refused_limit;
    struct report_discard discarded[REPORT_DISCARDED]; /* a ring */
    uint64_t discarded_total;
};

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
    if (!transfers->restoring)
        witness_assembly(transfers->setup.audit, AUDIT_SEEN, assembly, NULL);
    if (!senders_manifest(transfers->senders, assembly))
        log_warning("sender %08x: sequence %llu can't be noted: its chain has too many gaps", assembly->sender_id,
                    (unsigned long long)assembly->sequence);
}

static void on_complete(void *context, struct assembly *assembly)
{
    struct transfers *transfers = context;
    witness_assembly(transfers->setup.audit, AUDIT_COMPLETED, assembly, NULL);
    assembly->state = ASSEMBLY_PUBLISHING;
    hasher_finish(transfers->hasher, assembly);
    writer_when_idle(transfers->writer, assembly);
}

static void note_discard(struct transfers *transfers, const struct assembly *assembly, const char *why)
{
    struct report_discard *discard = &transfers->discarded[transfers->discarded_total++ % REPORT_DISCARDED];
    *discard = (struct report_discard){.sender_id = assembly->sender_id,
                                       .sequence = assembly->sequence,
                                       .bytes_held = assembly->held_bytes,
                                       .at_ns = clock_realtime_ns(),
                                       .why = why};
    memcpy(discard->id, assembly->id, TRANSFER_ID_SIZE);
    memcpy(discard->channel, assembly->channel, sizeof discard->channel);
    memcpy(discard->name, assembly->name, sizeof discard->name);
}

static void on_closing(void *context, struct assembly *assembly, enum catalog_end end)
{
    static const char *const why[] = {"the sender took it back",    "it was refused",        "it made room for others",
                                      "its data could not be kept", "nobody vouches for it", "its loss was accepted"};
    struct transfers *transfers = context;
    if (assembly->name[0] != '\0')
        log_notice("%s/%s is given up: %s", assembly->channel, assembly->name, why[end]);
    if (assembly->announced && (end == CATALOG_EVICTED || end == CATALOG_FAILED))
        note_discard(transfers, assembly, why[end]);
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
    uint64_t suppressed;
    transfers->quarantined_ns = transfers->now_ns;
    if (log_limit_pass(&transfers->refused_limit, transfers->now_ns, &suppressed))
        log_warning("a manifest of sender %08x is refused: it %s (%llu more since the last such message)",
                    assembly->sender_id, reason, (unsigned long long)suppressed);
    if (transfers->quarantines++ >= QUARANTINES_PER_TICK ||
        publish_quarantine_bytes(transfers->setup.publish) + size > QUARANTINE_WAITING)
        return;
    struct publish_job *job = publish_job_create(PUBLISH_QUARANTINE, assembly->sender_id, assembly->id);
    uint8_t *copy = malloc(size);
    if (job == NULL || copy == NULL) {
        publish_job_destroy(job);
        free(copy);
        return;
    }
    memcpy(copy, bytes, size);
    job->bytes = copy;
    job->size = size;
    snprintf(job->reason, sizeof job->reason, "%s", reason);
    publish_post(transfers->setup.publish, job);
}

static const struct catalog_actions actions = {.is_delivered = on_is_delivered,
                                               .write = on_write,
                                               .reset = on_reset,
                                               .bound = on_bound,
                                               .complete = on_complete,
                                               .closing = on_closing,
                                               .refused = on_refused};

static bool wants_announce(void *context, const struct unpack_source *source, const uint8_t *transfer_id)
{
    return catalog_wants_announce(((struct transfers *)context)->catalog, source, transfer_id);
}

static void take_announce(void *context, const struct unpack_source *source, const struct message_announce *announce)
{
    catalog_announce(((struct transfers *)context)->catalog, source, announce);
}

static void take_data(void *context, const struct unpack_source *source, const struct frame_data *data)
{
    catalog_data(((struct transfers *)context)->catalog, source, data);
}

static void take_manifest(void *context, const struct unpack_source *source, const struct frame_manifest *part)
{
    catalog_manifest(((struct transfers *)context)->catalog, source, part);
}

static void take_abort(void *context, const struct unpack_source *source, const struct message_abort *message)
{
    catalog_abort(((struct transfers *)context)->catalog, source, message);
}

static void take_refusal(void *context, const struct unpack_source *source, const uint8_t *transfer_id)
{
    catalog_refuse(((struct transfers *)context)->catalog, source, transfer_id);
}

static void take_heartbeat(void *context, const struct unpack_source *source, const struct message_heartbeat *beat)
{
    senders_heartbeat(((struct transfers *)context)->senders, beat, source->now_ns);
}

static const struct unpack_handler handler = {.wants_announce = wants_announce,
                                              .announce = take_announce,
                                              .data = take_data,
                                              .manifest = take_manifest,
                                              .abort = take_abort,
                                              .heartbeat = take_heartbeat,
                                              .refuse = take_refusal};

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

static void post_complete(struct transfers *transfers, struct assembly *assembly)
{
    struct publish_job *job = publish_job_create(PUBLISH_TRANSFER, assembly->sender_id, assembly->id);
    assert(job != NULL);
    writer_close_files(transfers->writer, assembly);
    job->assembly = assembly;
    publish_post(transfers->setup.publish, job);
}

static void on_publishable(void *context, struct assembly *assembly)
{
    post_complete(context, assembly);
}

static void on_flush_failed(void *context, struct assembly *assembly, int error)
{
    struct transfers *transfers = context;
    log_error("%s/.staging: flushing %s%s%s to the disk failed: %s; it is given up and must be sent again",
              transfers->setup.intake->path, assembly->channel, assembly->announced ? "/" : "",
              assembly->announced ? assembly->name : "a transfer not announced yet", strerror(error));
    *(may_pass(error) ? &transfers->no_space_ns : &transfers->io_error_ns) = transfers->now_ns;
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
    transfers->unpack = (struct unpack){.trust = setup->trust, .handler = &handler, .context = transfers};
    transfers->space_limit.interval_ns = LOG_INTERVAL_NS;
    transfers->refused_limit.interval_ns = LOG_INTERVAL_NS;
    struct writer_setup writer = {.intake = setup->intake,
                                  .ring = setup->ring,
                                  .reads_back = setup->lane_count > 1,
                                  .release = setup->release,
                                  .wait = setup->wait,
                                  .context = setup->context};
    transfers->catalog = catalog_create(setup->trust, &actions, transfers);
    transfers->senders =
        senders_create(setup->trust, setup->ledger, setup->progress, setup->audit, clock_monotonic_ns());
    transfers->writer = writer_create(&writer);
    struct hasher_setup hasher = {.intake = setup->intake,
                                  .writer = transfers->writer,
                                  .bell = setup->bell,
                                  .memory = setup->hash_memory,
                                  .cpus = setup->cpus,
                                  .cpu_index = setup->lane_count + 1};
    transfers->hasher = transfers->writer == NULL ? NULL : hasher_create(&hasher);
    struct keeper_setup keeper = {.checkpoint = setup->checkpoint,
                                  .writer = transfers->writer,
                                  .catalog = transfers->catalog,
                                  .lost = on_flush_failed,
                                  .publish = on_publishable,
                                  .context = transfers};
    transfers->keeper = keeper_create(&keeper);
    if (transfers->catalog == NULL || transfers->senders == NULL || transfers->writer == NULL ||
        transfers->hasher == NULL || transfers->keeper == NULL || load_ledger(transfers) != STATUS_OK) {
        log_error("the store stage can't be set up: %s", strerror(errno));
        transfers_destroy(transfers);
        return NULL;
    }
    transfers->knowledge = senders_knowledge(transfers->senders);
    transfers->losses = losses_create(transfers->senders, transfers->catalog, setup->tickets);
    if (transfers->losses == NULL) {
        transfers_destroy(transfers);
        return NULL;
    }
    catalog_set_limits(transfers->catalog, &setup->limits);
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
    catalog_destroy(transfers->catalog);
    senders_destroy(transfers->senders);
    writer_destroy(transfers->writer);
    hasher_destroy(transfers->hasher);
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
        log_error("%s/.staging: writing %s%s%s failed: %s; what was lost counts as missing (%llu more since the last "
                  "such message)",
                  transfers->setup.intake->path, assembly->channel, assembly->announced ? "/" : "",
                  assembly->announced ? assembly->name : "a transfer not announced yet", strerror(loss->error),
                  (unsigned long long)suppressed);
    struct assembly_artifact *artifact = assembly_artifact(assembly, loss->index);
    if (artifact != NULL)
        hasher_drop(transfers->hasher, artifact);
    keeper_lose(transfers->keeper, assembly, loss->index, loss->first, loss->end);
    catalog_lose(transfers->catalog, assembly, loss->index, loss->first, loss->end);
    if (may_pass(loss->error)) {
        transfers->no_space_ns = transfers->now_ns;
        return;
    }
    transfers->io_error_ns = transfers->now_ns;
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

static void note_delivery(struct transfers *transfers, const struct ledger_delivery *delivery)
{
    (void)knowledge_add(transfers->knowledge, delivery->sender_id, delivery->chain_id, delivery->sequence, true);
    transfers->delivered_total++;
    transfers->has_delivered = true;
    transfers->last_delivered = *delivery;
}

static void take_delivery(struct transfers *transfers, const struct publish_job *job)
{
    struct assembly *assembly = job->assembly;
    log_info("delivered %s/%s/%s (%llu bytes, %u artifacts)", transfers->setup.intake->path, job->delivery.channel,
             job->delivery.directory, (unsigned long long)assembly->total_bytes, assembly->artifact_count);
    note_delivery(transfers, &job->delivery);
    keeper_forget(transfers->keeper, assembly, true);
    writer_forget(transfers->writer, assembly, NULL);
    catalog_forget(transfers->catalog, assembly, true);
}

static void take_damage(struct transfers *transfers, const struct publish_job *job)
{
    struct assembly *assembly = job->assembly;
    transfers->damaged_total++;
    for (size_t i = 0; i < job->report.count; i++) {
        const struct verify_range *range = &job->report.ranges[i];
        hasher_drop(transfers->hasher, assembly_artifact(assembly, range->index));
        keeper_lose(transfers->keeper, assembly, range->index, range->first, range->end);
        catalog_lose(transfers->catalog, assembly, range->index, range->first, range->end);
    }
}

void transfers_accept_loss(struct transfers *transfers, struct acceptance *acceptance, uint64_t now_ns)
{
    static const uint8_t no_id[TRANSFER_ID_SIZE];
    acceptance->audit = transfers->setup.audit;
    acceptance_decide(acceptance, transfers->catalog, transfers->knowledge, now_ns);
    if (!acceptance_changes(acceptance)) {
        acceptance->done(acceptance);
        return;
    }
    struct publish_job *job = publish_job_create(PUBLISH_RECORD, 0, no_id);
    assert(job != NULL);
    job->record = acceptance_record;
    job->acceptance = acceptance;
    publish_post(transfers->setup.publish, job);
}

static void take_acceptance(struct transfers *transfers, const struct publish_job *job)
{
    struct acceptance *acceptance = job->acceptance;
    acceptance_apply(acceptance, job->recorded, transfers->catalog, transfers->knowledge);
    acceptance->done(acceptance);
}

bool transfers_take_result(struct transfers *transfers, struct publish_job *job, uint64_t now_ns)
{
    if (job->acceptance != NULL) {
        transfers->now_ns = now_ns;
        take_acceptance(transfers, job);
        publish_job_destroy(job);
        return false;
    }
    bool delivered = job->outcome == PUBLISH_DELIVERED;
    transfers->now_ns = now_ns;
    if (job->assembly == NULL) {
        note_delivery(transfers, &job->delivery);
        publish_job_destroy(job);
        return delivered;
    }
    hasher_forget(transfers->hasher, job->assembly);
    job->assembly->state = ASSEMBLY_OPEN;
    switch (job->outcome) {
    case PUBLISH_DELIVERED:
        job->assembly->state = ASSEMBLY_PUBLISHING;
        take_delivery(transfers, job);
        break;
    case PUBLISH_DAMAGED:
        take_damage(transfers, job);
        break;
    case PUBLISH_FAILED:
        catalog_close(transfers->catalog, job->assembly, CATALOG_FAILED);
        break;
    case PUBLISH_STOPPED:
        break;
    }
    publish_job_destroy(job);
    return delivered;
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
}

void transfers_tick(struct transfers *transfers, uint64_t now_ns)
{
    struct publish_facts facts;
    transfers->now_ns = now_ns;
    transfers->quarantines = 0;
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
    for (uint64_t i = transfers->discarded_total; i > 0 && snapshot->discarded_count < REPORT_DISCARDED; i--)
        snapshot->discarded[snapshot->discarded_count++] = transfers->discarded[(i - 1) % REPORT_DISCARDED];
    snapshot->discarded_total = transfers->discarded_total;
    snapshot->delivered_total = transfers->delivered_total;
    snapshot->damaged_total = transfers->damaged_total;
    snapshot->aborted_total = counters->ended[CATALOG_ABORTED];
    snapshot->evicted_total = counters->ended[CATALOG_EVICTED];
    snapshot->quarantined_total = counters->manifests_refused;
    snapshot->frames_malformed = frames->malformed + frames->bad_messages;
    snapshot->frames_unknown = frames->unknown + frames->unknown_blocks + frames->refused;
    snapshot->frames_bad_signature = frames->bad_signatures;
    snapshot->frames_duplicate = counters->duplicates;
    snapshot->frames_over_limit = counters->over_limit;
    snapshot->has_delivered = transfers->has_delivered;
    snapshot->last_delivered = transfers->last_delivered;
    snapshot->no_space_ns = transfers->no_space_ns;
    snapshot->io_error_ns = transfers->io_error_ns;
    snapshot->quarantined_ns = transfers->quarantined_ns;
    publish_facts(transfers->setup.publish, &snapshot->facts);
}
