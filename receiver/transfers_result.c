// SPDX-License-Identifier: Apache-2.0
#include <assert.h>
#include <string.h>

#include "receiver/acceptance.h"
#include "receiver/inspection.h"
#include "receiver/transfers_private.h"

/* What the publish stage made of transfers, and what operators ask for. */

static void note_delivery(struct transfers *transfers, const struct ledger_delivery *delivery)
{
    (void)knowledge_add(transfers->knowledge, delivery->sender_id, delivery->chain_id, delivery->sequence, true);
    transfers->delivered_total++;
    transfers->has_delivered = true;
    transfers->last_delivered = *delivery;
}

/* It was received, whatever becomes of it; so nobody misses it. */
static void note_held(struct transfers *transfers, const struct publish_job *job)
{
    const struct ledger_delivery *delivery = &job->delivery;
    (void)knowledge_add(transfers->knowledge, delivery->sender_id, delivery->chain_id, delivery->sequence, true);
}

static void forget_published(struct transfers *transfers, struct assembly *assembly)
{
    keeper_forget(transfers->keeper, assembly, true);
    writer_forget(transfers->writer, assembly, NULL);
    catalog_forget(transfers->catalog, assembly, true);
}

static void take_held(struct transfers *transfers, const struct publish_job *job)
{
    log_warning("%s/" LOG_NAME " is held back in %s/.quarantine/" LOG_DELIVERED ": %s", job->delivery.channel,
                job->delivery.name, transfers->setup.intake->path, job->held->place, log_delivered(job->held->place),
                job->held->reason);
    note_held(transfers, job);
    forget_published(transfers, job->assembly);
}

static void take_delivery(struct transfers *transfers, const struct publish_job *job)
{
    struct assembly *assembly = job->assembly;
    log_info("delivered %s/%s/" LOG_DELIVERED " (%llu bytes, %u artifacts)", transfers->setup.intake->path,
             job->delivery.channel, job->delivery.directory, log_delivered(job->delivery.directory),
             (unsigned long long)assembly->total_bytes, assembly->artifact_count);
    note_delivery(transfers, &job->delivery);
    forget_published(transfers, assembly);
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

static void accept_loss(struct transfers *transfers, struct acceptance *acceptance, struct publish_job *job,
                        uint64_t now_ns)
{
    acceptance->audit = transfers->setup.audit;
    acceptance_decide(acceptance, transfers->catalog, transfers->knowledge, now_ns);
    job->kind = PUBLISH_RECORD;
    job->record = acceptance_record;
    job->acceptance = acceptance;
}

void transfers_carry_out(struct transfers *transfers, struct errand *errand, uint64_t now_ns)
{
    static const uint8_t no_id[TRANSFER_ID_SIZE];
    struct publish_job *job = publish_job_create(PUBLISH_INSPECTION, 0, no_id);
    assert(job != NULL);
    if (errand->request.kind == REQUEST_QUARANTINE)
        job->inspection = (struct inspection *)errand;
    else
        accept_loss(transfers, (struct acceptance *)errand, job, now_ns);
    if (job->acceptance != NULL && !acceptance_changes(job->acceptance)) {
        publish_job_destroy(job);
        errand->done(errand);
        return;
    }
    publish_post(transfers->setup.publish, job);
}

static bool take_errand(struct transfers *transfers, const struct publish_job *job)
{
    if (job->acceptance != NULL) {
        acceptance_apply(job->acceptance, job->recorded, transfers->catalog, transfers->knowledge);
        job->acceptance->errand.done(&job->acceptance->errand);
        return false;
    }
    struct inspection *inspection = job->inspection;
    bool delivered = inspection->released_count > 0;
    for (size_t i = 0; i < inspection->released_count; i++)
        note_delivery(transfers, &inspection->released[i]);
    inspection->errand.done(&inspection->errand);
    return delivered;
}

bool transfers_take_result(struct transfers *transfers, struct publish_job *job, uint64_t now_ns)
{
    transfers->now_ns = now_ns;
    bool news = job->outcome == PUBLISH_DELIVERED || job->outcome == PUBLISH_HELD;
    if (job->acceptance != NULL || job->inspection != NULL)
        news = take_errand(transfers, job);
    else if (job->assembly == NULL && job->outcome == PUBLISH_HELD)
        note_held(transfers, job);
    else if (job->assembly == NULL)
        note_delivery(transfers, &job->delivery);
    if (job->assembly == NULL) {
        publish_job_destroy(job);
        return news;
    }
    hasher_forget(transfers->hasher, job->assembly);
    job->assembly->state = ASSEMBLY_OPEN;
    switch (job->outcome) {
    case PUBLISH_DELIVERED:
        job->assembly->state = ASSEMBLY_PUBLISHING;
        take_delivery(transfers, job);
        break;
    case PUBLISH_HELD:
        job->assembly->state = ASSEMBLY_PUBLISHING;
        take_held(transfers, job);
        break;
    case PUBLISH_DAMAGED:
        take_damage(transfers, job);
        break;
    case PUBLISH_FAILED:
        if (job->error != 0)
            (void)transfers_note_error(transfers, job->error);
        catalog_close(transfers->catalog, job->assembly, CATALOG_FAILED);
        break;
    case PUBLISH_STOPPED:
        break;
    }
    publish_job_destroy(job);
    return news;
}
