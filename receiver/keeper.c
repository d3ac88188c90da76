// SPDX-License-Identifier: Apache-2.0
#include "receiver/keeper.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "proto/signed.h"
#include "receiver/verify.h"

enum { PARTS_SIZE = 1 << 20 /* a larger manifest is recorded when it is whole, or at the end */ };
#define UNRECORDED_NS UINT64_C(5000000000) /* until the next try after the ledger has failed */

/* At assembly->kept. */
struct kept {
    struct partial *partial;
    uint64_t serial;    /* tells this transfer from a later one of the same id */
    bool recorded;      /* the ledger has it, or will have it when the job that is out is done */
    bool out;           /* a job is with the checkpoint stage */
    bool settling;      /* cut, and its writes are still under way */
    bool anew;          /* the cut list replaces what was recorded */
    bool wants_publish; /* once the job is back */
    struct partial_list cut;
    uint64_t due_ns;

    /* What the ledger was told last. */
    bool announced, manifest;
    uint64_t parts_held;
};

struct keeper {
    struct keeper_setup setup;
    uint64_t serial;
    uint64_t now_ns;
};

struct keeper *keeper_create(const struct keeper_setup *setup)
{
    struct keeper *keeper = calloc(1, sizeof *keeper);
    if (keeper != NULL)
        keeper->setup = *setup;
    return keeper;
}

void keeper_destroy(struct keeper *keeper)
{
    free(keeper);
}

static struct kept *kept_of(struct keeper *keeper, struct assembly *assembly)
{
    if (assembly->kept == NULL) {
        struct kept *kept = calloc(1, sizeof *kept);
        assert(kept != NULL);
        kept->partial = partial_create();
        assert(kept->partial != NULL);
        kept->serial = ++keeper->serial;
        kept->due_ns = assembly->opened_ns + KEEPER_AFTER_NS;
        assembly->kept = kept;
    }
    return assembly->kept;
}

void keeper_hold(struct keeper *keeper, struct assembly *assembly, uint32_t index, struct assembly_artifact *artifact,
                 uint64_t offset, const uint8_t *bytes, uint32_t size, uint64_t now_ns)
{
    struct kept *kept = kept_of(keeper, assembly);
    /* While they are at hand; what is not hashed now has to be read back for the first record. */
    bool hash = now_ns - assembly->opened_ns >= KEEPER_AFTER_NS || assembly->total_bytes >= KEEPER_LARGE;
    if (!artifact->noted)
        partial_place(kept->partial, index, artifact->placed ? artifact->place : 0, artifact->size);
    artifact->noted = true;
    partial_hold(kept->partial, artifact->placed ? PARTIAL_SMALL : index,
                 artifact->placed ? artifact->place + offset : offset, bytes, size, hash);
}

void keeper_deny(struct keeper *keeper, struct assembly *assembly, uint32_t file, uint64_t first, uint64_t end)
{
    struct kept *kept = kept_of(keeper, assembly);
    struct partial_entry entry = {.kind = PARTIAL_LOST, .file = file, .first = first, .end = end};
    partial_lose(kept->partial, file, first, end);
    /* What failed may have been put before the cut. */
    if (kept->settling && !partial_list_add(&kept->cut, &entry)) {
        partial_list_deinit(&kept->cut);
        kept->anew = true; /* of nothing: missing is the safe side */
    }
}

void keeper_lose(struct keeper *keeper, struct assembly *assembly, uint32_t index, uint64_t first, uint64_t end)
{
    const struct assembly_artifact *artifact = assembly_artifact(assembly, index);
    if (assembly->kept == NULL || artifact == NULL || first >= end)
        return;
    uint64_t place = artifact->placed ? artifact->place : 0;
    keeper_deny(keeper, assembly, artifact->placed ? PARTIAL_SMALL : index, place + first, place + end);
}

void keeper_reset(struct keeper *keeper, struct assembly *assembly, uint32_t index, struct assembly_artifact *artifact)
{
    if (assembly->kept != NULL && artifact->noted && !artifact->placed)
        keeper_deny(keeper, assembly, index, 0, UINT64_MAX);
    artifact->noted = false;
}

void keeper_adopt(struct keeper *keeper, struct assembly *assembly)
{
    struct kept *kept = kept_of(keeper, assembly);
    kept->recorded = true;
    kept->announced = assembly->announced;
    kept->manifest = assembly->reader != NULL;
    kept->parts_held = extents_overlap(&assembly->parts_held, 0, UINT64_MAX);
}

void keeper_bound(const struct assembly *assembly)
{
    struct kept *kept = assembly->kept;
    if (kept != NULL)
        kept->manifest = false;
}

/* All that is held, as one list. */
static void list_held(const struct assembly *assembly, struct partial_list *list)
{
    bool listed = true;
    for (uint32_t index = 0; index < assembly->artifact_count && listed; index++) {
        struct assembly_artifact *artifact = assembly_artifact(assembly, index);
        if (artifact == NULL || artifact->held.count == 0)
            continue;
        uint64_t place = artifact->placed ? artifact->place : 0;
        struct partial_entry entry = {.kind = PARTIAL_PLACE, .file = index, .first = place, .end = artifact->size};
        listed = partial_list_add(list, &entry);
        for (uint32_t i = 0; i < artifact->held.count && listed; i++) {
            struct extent held = extents_get(&artifact->held, i);
            entry = (struct partial_entry){.kind = PARTIAL_HELD,
                                           .file = artifact->placed ? PARTIAL_SMALL : index,
                                           .first = place + held.first,
                                           .end = place + held.end};
            listed = partial_list_add(list, &entry);
        }
    }
}

static void cut(struct keeper *keeper, struct assembly *assembly, struct kept *kept)
{
    kept->anew = partial_has_overflown(kept->partial);
    kept->cut = partial_cut(kept->partial);
    if (kept->anew)
        list_held(assembly, &kept->cut);
    kept->settling = true;
    writer_cut(keeper->setup.writer, assembly);
}

/* Copies what the ledger does not have yet of the manifest. */
static void add_manifest(struct checkpoint_job *job, const struct assembly *assembly, struct kept *kept, bool all)
{
    struct ledger_partial *partial = &job->partial;
    if (assembly->reader != NULL && !kept->manifest) {
        partial->manifest_held = malloc(sizeof *partial->manifest_held);
        if (partial->manifest_held == NULL)
            return;
        signed_message_encode(&assembly->manifest, &partial->manifest, &partial->manifest_size);
        partial->manifest_held[0] = (struct extent){0, partial->manifest_size};
        partial->manifest_held_count = 1;
        kept->manifest = true;
        return;
    }
    uint64_t held = extents_overlap(&assembly->parts_held, 0, UINT64_MAX);
    if (assembly->reader != NULL || held == 0 || held == kept->parts_held ||
        (!all && assembly->parts_total > PARTS_SIZE))
        return;
    partial->manifest = malloc(assembly->parts_total);
    partial->manifest_held = malloc(assembly->parts_held.count * sizeof *partial->manifest_held);
    if (partial->manifest == NULL || partial->manifest_held == NULL) {
        ledger_partial_deinit(partial);
        return;
    }
    memset(partial->manifest, 0, assembly->parts_total);
    partial->manifest_size = assembly->parts_total;
    partial->manifest_held_count = assembly->parts_held.count;
    for (uint32_t i = 0; i < assembly->parts_held.count; i++) {
        struct extent range = extents_get(&assembly->parts_held, i);
        partial->manifest_held[i] = range;
        memcpy(partial->manifest + range.first, assembly->parts + range.first, range.end - range.first);
    }
    kept->parts_held = held;
}

static void post(struct keeper *keeper, struct assembly *assembly, struct kept *kept, bool all)
{
    struct checkpoint_job *job = checkpoint_job_create(assembly->sender_id, assembly->id);
    assert(job != NULL);
    job->serial = kept->serial;
    job->anew = kept->anew;
    job->first = !kept->recorded;
    job->list = kept->cut;
    kept->cut = (struct partial_list){0};
    kept->settling = false;
    kept->out = true;
    kept->recorded = true;
    kept->announced = assembly->announced;
    kept->due_ns = keeper->now_ns + KEEPER_INTERVAL_NS;
    struct ledger_partial *partial = &job->partial;
    partial->announced = assembly->announced;
    memcpy(partial->channel, assembly->channel, sizeof partial->channel);
    memcpy(partial->name, assembly->name, sizeof partial->name);
    partial->total_bytes = assembly->total_bytes;
    partial->total_artifacts = assembly->total_artifacts;
    partial->first_seen_ns = assembly->first_seen_ns;
    partial->lanes = assembly->lanes;
    memcpy(partial->watermark, assembly->watermark, sizeof partial->watermark);
    partial->watermark_epoch = assembly->watermark_epoch;
    add_manifest(job, assembly, kept, all);
    checkpoint_post(keeper->setup.checkpoint, job);
}

static bool has_news(const struct assembly *assembly, const struct kept *kept)
{
    return !partial_is_empty(kept->partial) || kept->announced != assembly->announced ||
           (assembly->reader != NULL && !kept->manifest) ||
           (assembly->reader == NULL && assembly->parts_total <= PARTS_SIZE &&
            extents_overlap(&assembly->parts_held, 0, UINT64_MAX) != kept->parts_held);
}

static void look_at(struct assembly *assembly, void *context)
{
    struct keeper *keeper = context;
    if (assembly->state != ASSEMBLY_OPEN || keeper->now_ns < assembly->opened_ns + KEEPER_AFTER_NS)
        return;
    struct kept *kept = kept_of(keeper, assembly);
    bool due = keeper->now_ns >= kept->due_ns || partial_bytes(kept->partial) >= KEEPER_BYTES;
    if (!kept->settling && !kept->out && due && has_news(assembly, kept))
        cut(keeper, assembly, kept);
    if (kept->settling && !kept->out && writer_is_settled(keeper->setup.writer, assembly))
        post(keeper, assembly, kept, false);
}

void keeper_tick(struct keeper *keeper, uint64_t now_ns)
{
    keeper->now_ns = now_ns;
    catalog_each(keeper->setup.catalog, look_at, keeper);
}

/* Takes the cut back. */
static void uncut(struct kept *kept)
{
    if (!kept->settling)
        return;
    kept->settling = false;
    if (kept->anew) {
        partial_list_deinit(&kept->cut);
        partial_start_anew(kept->partial);
    } else {
        partial_give_back(kept->partial, &kept->cut);
    }
}

static void take_unrecorded(struct keeper *keeper, struct kept *kept, struct checkpoint_job *job)
{
    kept->due_ns = keeper->now_ns + UNRECORDED_NS;
    kept->recorded = !job->first;
    if (job->partial.manifest != NULL) {
        kept->manifest = false;
        kept->parts_held = 0;
    }
    if (job->anew)
        partial_start_anew(kept->partial);
    else
        partial_give_back(kept->partial, &job->list);
}

void keeper_take_result(struct keeper *keeper, struct checkpoint_job *job, uint64_t now_ns)
{
    struct assembly *assembly =
        catalog_find(keeper->setup.catalog, job->partial.key.sender_id, job->partial.key.transfer_id);
    struct kept *kept = assembly == NULL ? NULL : assembly->kept;
    keeper->now_ns = now_ns;
    if (kept != NULL && kept->serial == job->serial) {
        bool wants_publish = kept->wants_publish;
        kept->out = false;
        kept->wants_publish = false;
        if (job->outcome == CHECKPOINT_UNRECORDED)
            take_unrecorded(keeper, kept, job);
        if (job->outcome == CHECKPOINT_LOST && assembly->state != ASSEMBLY_CLOSED) {
            assembly->state = ASSEMBLY_OPEN;
            keeper->setup.lost(keeper->setup.context, assembly, job->error);
        } else if (wants_publish && assembly->state == ASSEMBLY_PUBLISHING) {
            keeper->setup.publish(keeper->setup.context, assembly);
        }
    }
    checkpoint_job_destroy(job);
}

bool keeper_may_publish(struct keeper *keeper, struct assembly *assembly)
{
    struct kept *kept = assembly->kept;
    if (kept == NULL)
        return true;
    uncut(kept);
    /* A long verification is to go on after a kill, and not to wait for a replay of the last second. */
    if (!kept->out && kept->recorded && has_news(assembly, kept) && verify_bytes_to_read(assembly) > KEEPER_BYTES) {
        cut(keeper, assembly, kept);
        post(keeper, assembly, kept, false);
    }
    kept->wants_publish = kept->out;
    return !kept->out;
}

static void record(struct assembly *assembly, void *context)
{
    struct keeper *keeper = context;
    /* Its bytes are cleared at the next start, which must not find them recorded. */
    if (assembly->state == ASSEMBLY_CLOSED)
        keeper_forget(keeper, assembly, false);
    const struct kept *waiting = assembly->kept;
    if (assembly->state == ASSEMBLY_PUBLISHING && waiting != NULL && waiting->wants_publish)
        assembly->state = ASSEMBLY_OPEN; /* complete, and its checkpoint is still under way */
    if (assembly->state != ASSEMBLY_OPEN)
        return;
    struct kept *kept = kept_of(keeper, assembly);
    kept->wants_publish = false;
    uncut(kept);
    cut(keeper, assembly, kept);
    post(keeper, assembly, kept, true);
}

void keeper_record_all(struct keeper *keeper)
{
    catalog_each(keeper->setup.catalog, record, keeper);
}

void keeper_let_go(struct keeper *keeper, struct assembly *assembly)
{
    struct kept *kept = assembly->kept;
    (void)keeper;
    if (kept == NULL)
        return;
    partial_list_deinit(&kept->cut);
    partial_destroy(kept->partial);
    free(kept);
    assembly->kept = NULL;
}

void keeper_forget(struct keeper *keeper, struct assembly *assembly, bool delivered)
{
    const struct kept *kept = assembly->kept;
    if (kept != NULL && kept->recorded && !delivered) {
        struct checkpoint_job *job = checkpoint_job_create(assembly->sender_id, assembly->id);
        assert(job != NULL);
        job->remove = true;
        checkpoint_post(keeper->setup.checkpoint, job);
    }
    keeper_let_go(keeper, assembly);
}
