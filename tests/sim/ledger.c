// SPDX-License-Identifier: Apache-2.0
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/checksum.h"
#include "tests/sim/receiver_private.h"

/*
 * The receiver's ledger in memory, for what stands in for its checkpoint stage and for ledger_partial.c. Each change is
 * one transaction: it is there as a whole when the receiver crashes behind it.
 */
#define CHECKPOINT_NS (150 * CLOCK_MILLISECOND_NS) /* at most */

struct ledger *sim_ledger_create(struct sim_world *world)
{
    struct ledger *ledger = calloc(1, sizeof *ledger);
    assert(ledger != NULL);
    ledger->world = world;
    ledger->deliveries = calloc(world->transfer_count, sizeof *ledger->deliveries);
    ledger->sequences = calloc(world->transfer_count, sizeof *ledger->sequences);
    ledger->records = calloc(world->transfer_count, sizeof *ledger->records);
    assert(ledger->deliveries != NULL && ledger->sequences != NULL && ledger->records != NULL);
    return ledger;
}

static void *copy_bytes(const void *bytes, size_t size)
{
    void *copy = malloc(size + 1);
    assert(copy != NULL);
    if (size > 0)
        memcpy(copy, bytes, size);
    return copy;
}

static void copy_manifest(struct ledger_partial *to, const struct ledger_partial *from)
{
    to->manifest = from->manifest == NULL ? NULL : copy_bytes(from->manifest, from->manifest_size);
    to->manifest_size = from->manifest_size;
    to->manifest_held_count = from->manifest_held_count;
    to->manifest_held = from->manifest_held == NULL
                            ? NULL
                            : copy_bytes(from->manifest_held, from->manifest_held_count * sizeof *from->manifest_held);
}

void ledger_partial_deinit(struct ledger_partial *partial)
{
    free(partial->manifest);
    free(partial->manifest_held);
    partial->manifest = NULL;
    partial->manifest_held = NULL;
    partial->manifest_size = partial->manifest_held_count = 0;
}

static void clear_entries(struct record *record)
{
    for (size_t i = 0; i < record->count; i++)
        free(record->entries[i]);
    free(record->entries);
    free(record->sizes);
    record->entries = NULL;
    record->sizes = NULL;
    record->count = 0;
}

/* Owns `bytes` from here on. */
static void add_entries(struct record *record, uint8_t *bytes, size_t size)
{
    record->entries = realloc(record->entries, (record->count + 1) * sizeof *record->entries);
    record->sizes = realloc(record->sizes, (record->count + 1) * sizeof *record->sizes);
    assert(record->entries != NULL && record->sizes != NULL);
    record->entries[record->count] = bytes;
    record->sizes[record->count++] = size;
}

struct ledger *sim_ledger_copy(const struct ledger *ledger)
{
    struct ledger *copy = sim_ledger_create(ledger->world);
    size_t count = ledger->world->transfer_count;
    copy->has_chain = ledger->has_chain;
    copy->chain = ledger->chain;
    copy->order = ledger->order;
    memcpy(copy->deliveries, ledger->deliveries, count * sizeof *copy->deliveries);
    memcpy(copy->sequences, ledger->sequences, count * sizeof *copy->sequences);
    for (uint32_t i = 0; i < ledger->had.count; i++) {
        struct extent had = extents_get(&ledger->had, i);
        bool added = extents_add(&copy->had, had.first, had.end, KNOWLEDGE_RANGES);
        assert(added);
        (void)added;
    }
    memcpy(copy->has_alarm, ledger->has_alarm, sizeof copy->has_alarm);
    memcpy(copy->alarms, ledger->alarms, sizeof copy->alarms);
    for (size_t i = 0; i < count; i++) {
        const struct record *from = &ledger->records[i];
        struct record *to = &copy->records[i];
        *to = (struct record){.exists = from->exists, .order = from->order, .head = from->head};
        copy_manifest(&to->head, &from->head);
        for (size_t entry = 0; entry < from->count; entry++)
            add_entries(to, copy_bytes(from->entries[entry], from->sizes[entry]), from->sizes[entry]);
    }
    return copy;
}

void sim_ledger_forget_partial(struct ledger *ledger, size_t transfer)
{
    struct record *record = &ledger->records[transfer];
    clear_entries(record);
    ledger_partial_deinit(&record->head);
    *record = (struct record){0};
}

void sim_ledger_destroy(struct ledger *ledger)
{
    if (ledger == NULL)
        return;
    for (size_t i = 0; i < ledger->world->transfer_count; i++)
        sim_ledger_forget_partial(ledger, i);
    extents_deinit(&ledger->had);
    free(ledger->deliveries);
    free(ledger->sequences);
    free(ledger->records);
    free(ledger);
}

void sim_ledger_end(struct ledger *ledger, size_t transfer, bool delivered, uint64_t sequence)
{
    ledger->deliveries[transfer] = delivered ? LEDGER_DELIVERED : LEDGER_NOTHING;
    ledger->sequences[transfer] = delivered ? sequence : 0;
    if (delivered)
        sim_ledger_forget_partial(ledger, transfer);
}

bool sim_ledger_has(const struct ledger *ledger, const struct sim_disk *disk, size_t transfer)
{
    return ledger->deliveries[transfer] == LEDGER_DELIVERED ||
           (ledger->deliveries[transfer] == LEDGER_PUBLISHING && !disk->trees[transfer] &&
            (disk->staged[transfer].exists || disk->visible[transfer]));
}

/* ledger_partial.h */

static int by_order(const void *a, const void *b, void *context)
{
    const struct ledger *ledger = context;
    const struct ledger_key *x = a, *y = b;
    uint64_t first = 0, second = 0;
    for (size_t i = 0; i < ledger->world->transfer_count; i++) {
        const struct record *record = &ledger->records[i];
        if (memcmp(record->head.key.transfer_id, x->transfer_id, TRANSFER_ID_SIZE) == 0)
            first = record->order;
        if (memcmp(record->head.key.transfer_id, y->transfer_id, TRANSFER_ID_SIZE) == 0)
            second = record->order;
    }
    return (first > second) - (first < second);
}

enum status ledger_partial_keys(struct ledger *ledger, struct ledger_key **keys, size_t *count)
{
    *keys = calloc(ledger->world->transfer_count + 1, sizeof **keys);
    assert(*keys != NULL);
    *count = 0;
    for (size_t i = 0; i < ledger->world->transfer_count; i++)
        if (ledger->records[i].exists && ledger->deliveries[i] == LEDGER_NOTHING)
            (*keys)[(*count)++] = ledger->records[i].head.key;
    qsort_r(*keys, *count, sizeof **keys, by_order, ledger);
    return STATUS_OK;
}

static struct record *find_record(struct ledger *ledger, const struct ledger_key *key)
{
    const struct sim_transfer *transfer = sim_world_find(ledger->world, key->transfer_id);
    return transfer == NULL ? NULL : &ledger->records[transfer - ledger->world->transfers];
}

enum status ledger_partial_load(struct ledger *ledger, const struct ledger_key *key, struct ledger_partial *partial)
{
    const struct record *record = find_record(ledger, key);
    if (record == NULL || !record->exists)
        return STATUS_NOT_FOUND;
    *partial = record->head;
    copy_manifest(partial, &record->head);
    return STATUS_OK;
}

enum status ledger_partial_each(struct ledger *ledger, const struct ledger_key *key,
                                void (*visit)(const uint8_t *entries, size_t size, void *context), void *context)
{
    const struct record *record = find_record(ledger, key);
    for (size_t i = 0; i < record->count; i++)
        visit(record->entries[i], record->sizes[i], context);
    return STATUS_OK;
}

/* The checkpoint stage. */

struct checkpoint_job *checkpoint_job_create(uint32_t sender_id, const uint8_t id[static TRANSFER_ID_SIZE])
{
    struct checkpoint_job *job = calloc(1, sizeof *job);
    assert(job != NULL);
    job->partial.key.sender_id = sender_id;
    memcpy(job->partial.key.transfer_id, id, TRANSFER_ID_SIZE);
    return job;
}

void checkpoint_job_destroy(struct checkpoint_job *job)
{
    partial_list_deinit(&job->list);
    ledger_partial_deinit(&job->partial);
    free(job);
}

void checkpoint_post(struct checkpoint *checkpoint, struct checkpoint_job *job)
{
    struct sim_world *world = checkpoint->receiver->world;
    uint64_t due_ns = world->now_ns + sim_below(&world->random, CHECKPOINT_NS);
    if (checkpoint->count > 0 && checkpoint->queue[checkpoint->count - 1].due_ns > due_ns)
        due_ns = checkpoint->queue[checkpoint->count - 1].due_ns;
    if (checkpoint->count == checkpoint->capacity) {
        checkpoint->capacity = checkpoint->capacity == 0 ? 16 : 2 * checkpoint->capacity;
        checkpoint->queue = realloc(checkpoint->queue, checkpoint->capacity * sizeof *checkpoint->queue);
        assert(checkpoint->queue != NULL);
    }
    checkpoint->queue[checkpoint->count++] = (struct checkpoint_work){.job = job, .due_ns = due_ns};
}

uint64_t sim_checkpoint_deadline_ns(const struct checkpoint *checkpoint)
{
    return checkpoint->count > 0 ? checkpoint->queue[0].due_ns : UINT64_MAX;
}

void sim_checkpoint_end(struct checkpoint *checkpoint)
{
    for (size_t i = 0; i < checkpoint->count; i++)
        checkpoint_job_destroy(checkpoint->queue[i].job);
    free(checkpoint->queue);
}

/* Flushes the files of the ranges; what a file does not have is not held. False when that fails. */
static bool flush(struct sim_receiver *receiver, struct checkpoint_job *job, size_t transfer)
{
    struct sim_world *world = receiver->world;
    size_t kept = 0;
    if (sim_chance(&world->random, world->setup.flush_errors)) {
        sim_statistics.flush_errors++;
        return false;
    }
    for (size_t i = 0; i < job->list.count; i++) {
        struct partial_entry entry = job->list.entries[i];
        struct staged_file *file = sim_disk_find(receiver->disk, transfer, entry.file);
        uint8_t hash[CHUNK_HASH_SIZE];
        if (entry.kind == PARTIAL_HELD && (file == NULL || (!entry.hashed && entry.end > file->size)))
            continue;
        job->list.entries[kept++] = entry;
        if (entry.kind != PARTIAL_HELD)
            continue;
        for (uint64_t at = 0; at < file->size; at++)
            if (file->states[at] == BYTE_DIRTY)
                file->states[at] = BYTE_DURABLE;
        if (!entry.hashed || receiver->tampered || world->setup.disk_faults)
            continue;
        if (entry.end <= file->size)
            checksum128(file->bytes + entry.first, entry.end - entry.first, hash);
        if (entry.end > file->size || memcmp(hash, entry.hash, sizeof hash) != 0)
            sim_fail(world, "bytes are recorded as held that are not on the disk");
    }
    job->list.count = kept;
    return true;
}

static void record(struct ledger *ledger, struct checkpoint_job *job, size_t transfer)
{
    struct record *record = &ledger->records[transfer];
    size_t size;
    if (job->remove) {
        sim_ledger_forget_partial(ledger, transfer);
        return;
    }
    struct ledger_partial head = job->partial;
    head.manifest = record->head.manifest;
    head.manifest_held = record->head.manifest_held;
    head.manifest_size = record->head.manifest_size;
    head.manifest_held_count = record->head.manifest_held_count;
    if (!record->exists)
        record->order = ++ledger->order;
    else if (job->first)
        sim_fail(ledger->world, "what was recorded of a transfer is thrown away");
    record->exists = true;
    record->head = head;
    if (job->partial.manifest != NULL) {
        ledger_partial_deinit(&record->head);
        copy_manifest(&record->head, &job->partial);
    }
    if (job->anew || job->first)
        clear_entries(record);
    uint8_t *bytes = partial_encode(&job->list, &size);
    assert(bytes != NULL);
    add_entries(record, bytes, size);
}

static void run_job(struct sim_receiver *receiver, struct checkpoint_job *job)
{
    struct sim_world *world = receiver->world;
    size_t transfer = sim_receiver_transfer(receiver, job->partial.key.transfer_id);
    job->outcome = CHECKPOINT_RECORDED;
    if (!job->remove && (!sim_act(&world->receiver_life) || !flush(receiver, job, transfer))) {
        job->outcome = CHECKPOINT_LOST;
        job->remove = true;
    }
    if (job->outcome == CHECKPOINT_RECORDED && !job->remove && sim_chance(&world->random, world->setup.ledger_errors)) {
        job->outcome = CHECKPOINT_UNRECORDED;
        sim_statistics.unrecorded++;
    } else if (sim_act(&world->receiver_life)) {
        record(receiver->ledger, job, transfer);
        sim_statistics.checkpoints++;
    }
    if (world->receiver_life.dead)
        checkpoint_job_destroy(job);
    else
        keeper_take_result(receiver->keeper, job, world->now_ns);
}

void sim_checkpoint_run(struct checkpoint *checkpoint)
{
    while (checkpoint->count > 0 && checkpoint->queue[0].due_ns <= checkpoint->receiver->world->now_ns) {
        struct checkpoint_job *job = checkpoint->queue[0].job;
        memmove(checkpoint->queue, checkpoint->queue + 1, --checkpoint->count * sizeof *checkpoint->queue);
        run_job(checkpoint->receiver, job);
    }
}
