// SPDX-License-Identifier: Apache-2.0
#include "receiver/assembly.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_PAGES = LIMIT_ARTIFACTS / ASSEMBLY_PAGE };

_Static_assert(LIMIT_ARTIFACTS % ASSEMBLY_PAGE == 0, "the table is made of whole pages");

static bool take(struct assembly *assembly, size_t bytes)
{
    struct assembly_budget *budget = assembly->budget;
    if (bytes > budget->memory_limit || budget->memory > budget->memory_limit - bytes)
        return false;
    budget->memory += bytes;
    assembly->memory += bytes;
    return true;
}

static void give_back(struct assembly *assembly, size_t bytes)
{
    assert(bytes <= assembly->memory && bytes <= assembly->budget->memory);
    assembly->budget->memory -= bytes;
    assembly->memory -= bytes;
}

/* Follows the growth of a set of ranges. A few ranges over the limit do no harm: the next taker is refused. */
static void account(struct assembly *assembly, size_t before, size_t after)
{
    assembly->budget->memory += after - before;
    assembly->memory += after - before;
}

struct assembly *assembly_create(const uint8_t id[static TRANSFER_ID_SIZE], uint32_t sender_id,
                                 struct assembly_budget *budget, uint64_t now_ns)
{
    struct assembly *assembly = calloc(1, sizeof *assembly);
    if (assembly == NULL)
        return NULL;
    memcpy(assembly->id, id, TRANSFER_ID_SIZE);
    assembly->sender_id = sender_id;
    assembly->budget = budget;
    assembly->admitted = true;
    assembly->opened_ns = now_ns;
    assembly->progress_ns = now_ns;
    if (!take(assembly, sizeof *assembly)) {
        free(assembly);
        return NULL;
    }
    return assembly;
}

static void free_artifacts(struct assembly *assembly)
{
    for (uint32_t page = 0; page < assembly->page_count; page++) {
        for (uint32_t i = 0; assembly->pages[page] != NULL && i < ASSEMBLY_PAGE; i++)
            extents_deinit(&assembly->pages[page][i].held);
        free(assembly->pages[page]);
    }
    free(assembly->pages);
    assembly->pages = NULL;
    assembly->page_count = 0;
    assembly->artifact_count = 0;
}

void assembly_close(struct assembly *assembly)
{
    manifest_reader_destroy(assembly->reader);
    assembly->reader = NULL;
    signed_message_deinit(&assembly->manifest);
    assembly->manifest = (struct signed_message){0};
    free(assembly->parts);
    assembly->parts = NULL;
    assembly->parts_total = 0;
    extents_deinit(&assembly->parts_held);
    free_artifacts(assembly);
    assembly->budget->held -= assembly->held_bytes;
    assembly->held_bytes = 0;
    give_back(assembly, assembly->memory);
    assembly->state = ASSEMBLY_CLOSED;
}

void assembly_destroy(struct assembly *assembly)
{
    if (assembly == NULL)
        return;
    assembly_close(assembly);
    free(assembly);
}

bool assembly_move_budget(struct assembly *assembly, struct assembly_budget *budget)
{
    struct assembly_budget *from = assembly->budget;
    if (from == budget)
        return true;
    if (assembly->memory > budget->memory_limit || budget->memory > budget->memory_limit - assembly->memory ||
        assembly->held_bytes > budget->held_limit || budget->held > budget->held_limit - assembly->held_bytes)
        return false;
    from->memory -= assembly->memory;
    from->held -= assembly->held_bytes;
    budget->memory += assembly->memory;
    budget->held += assembly->held_bytes;
    assembly->budget = budget;
    return true;
}

struct assembly_artifact *assembly_artifact(const struct assembly *assembly, uint32_t index)
{
    uint32_t page = index / ASSEMBLY_PAGE;
    if (index >= assembly->artifact_count || page >= assembly->page_count || assembly->pages[page] == NULL)
        return NULL;
    struct assembly_artifact *artifact = &assembly->pages[page][index % ASSEMBLY_PAGE];
    return artifact->size_known ? artifact : NULL;
}

static bool grow_table(struct assembly *assembly, uint32_t pages_needed)
{
    if (pages_needed <= assembly->page_count)
        return true;
    uint32_t count = assembly->page_count == 0 ? 1 : assembly->page_count;
    while (count < pages_needed)
        count *= 2;
    if (count > MAX_PAGES)
        count = MAX_PAGES;
    size_t growth = (count - assembly->page_count) * sizeof *assembly->pages;
    if (!take(assembly, growth))
        return false;
    struct assembly_artifact **pages = realloc(assembly->pages, count * sizeof *pages);
    if (pages == NULL) {
        give_back(assembly, growth);
        return false;
    }
    memset(pages + assembly->page_count, 0, growth);
    assembly->pages = pages;
    assembly->page_count = count;
    return true;
}

/* The artifact's place in the table, made on first use; NULL when there is no room. */
static struct assembly_artifact *make_artifact(struct assembly *assembly, uint32_t index)
{
    assert(index < LIMIT_ARTIFACTS);
    uint32_t page = index / ASSEMBLY_PAGE;
    if (!grow_table(assembly, page + 1))
        return NULL;
    if (assembly->pages[page] == NULL) {
        size_t size = ASSEMBLY_PAGE * sizeof(struct assembly_artifact);
        if (!take(assembly, size))
            return NULL;
        assembly->pages[page] = calloc(1, size);
        if (assembly->pages[page] == NULL) {
            give_back(assembly, size);
            return NULL;
        }
    }
    if (index >= assembly->artifact_count)
        assembly->artifact_count = index + 1;
    return &assembly->pages[page][index % ASSEMBLY_PAGE];
}

static void count_held(struct assembly *assembly, uint64_t added, uint64_t removed)
{
    assembly->held_bytes += added - removed;
    assembly->budget->held += added - removed;
}

static bool may_hold(const struct assembly *assembly, const struct assembly_artifact *artifact, struct extent range)
{
    const struct assembly_budget *budget = assembly->budget;
    uint64_t size = range.end - range.first;
    /* What joins a range that is there takes no memory, whatever the budget says. */
    bool joins = artifact->held.count == 0 || extents_contain(&artifact->held, range.end) ||
                 (range.first > 0 && extents_contain(&artifact->held, range.first - 1));
    if (!joins && budget->memory >= budget->memory_limit)
        return false;
    return size <= budget->held_limit && budget->held <= budget->held_limit - size;
}

enum assembly_outcome assembly_data(struct assembly *assembly, const struct frame_data *data, uint64_t now_ns,
                                    assembly_write *write, void *context)
{
    assert(assembly->state == ASSEMBLY_OPEN);
    if (assembly->reader != NULL && data->artifact >= assembly->artifact_count)
        return ASSEMBLY_CONFLICT;
    if (!assembly->admitted)
        return ASSEMBLY_LIMIT;
    struct assembly_artifact *artifact = make_artifact(assembly, data->artifact);
    if (artifact == NULL)
        return ASSEMBLY_LIMIT;
    if (!artifact->size_known) {
        artifact->size = data->artifact_size;
        artifact->size_known = true;
    }
    if (artifact->size != data->artifact_size)
        return ASSEMBLY_CONFLICT;

    enum assembly_outcome outcome = ASSEMBLY_DUPLICATE;
    uint64_t end = data->offset + data->size;
    struct extent hole = {data->offset, data->offset};
    while (extents_hole(&artifact->held, hole.end, end, &hole)) {
        size_t before = extents_memory(&artifact->held);
        if (!may_hold(assembly, artifact, hole) ||
            !extents_add(&artifact->held, hole.first, hole.end, ASSEMBLY_EXTENTS))
            return ASSEMBLY_LIMIT;
        account(assembly, before, extents_memory(&artifact->held));
        uint64_t size = hole.end - hole.first;
        count_held(assembly, size, 0);
        assembly->progress_ns = now_ns;
        write(context, assembly, data->artifact, artifact, hole.first, data->bytes + (hole.first - data->offset),
              (uint32_t)size);
        outcome = ASSEMBLY_NEW;
    }
    return outcome;
}

struct assembly_artifact *assembly_expect(struct assembly *assembly, uint32_t index, uint64_t size)
{
    if (index >= LIMIT_ARTIFACTS || size > LIMIT_ARTIFACT_SIZE ||
        (assembly->reader != NULL && index >= assembly->artifact_count))
        return NULL;
    struct assembly_artifact *artifact = make_artifact(assembly, index);
    if (artifact == NULL || (artifact->size_known && artifact->size != size))
        return NULL;
    artifact->size = size;
    artifact->size_known = true;
    return artifact;
}

void assembly_hold(struct assembly *assembly, uint32_t index, uint64_t first, uint64_t end)
{
    struct assembly_artifact *artifact = assembly_artifact(assembly, index);
    if (artifact == NULL)
        return;
    end = end < artifact->size ? end : artifact->size;
    struct extent hole = {first, first};
    while (hole.end < end && extents_hole(&artifact->held, hole.end, end, &hole)) {
        size_t before = extents_memory(&artifact->held);
        if (!may_hold(assembly, artifact, hole) ||
            !extents_add(&artifact->held, hole.first, hole.end, ASSEMBLY_EXTENTS))
            return;
        account(assembly, before, extents_memory(&artifact->held));
        count_held(assembly, hole.end - hole.first, 0);
    }
}

void assembly_drop_parts(struct assembly *assembly)
{
    if (assembly->parts == NULL)
        return;
    free(assembly->parts);
    give_back(assembly, assembly->parts_total);
    size_t ranges = extents_memory(&assembly->parts_held);
    extents_deinit(&assembly->parts_held);
    account(assembly, ranges, 0);
    assembly->parts = NULL;
    assembly->parts_total = 0;
}

static bool start_parts(struct assembly *assembly, uint32_t total)
{
    assembly_drop_parts(assembly);
    if (!take(assembly, total))
        return false;
    assembly->parts = malloc(total);
    if (assembly->parts == NULL) {
        give_back(assembly, total);
        return false;
    }
    assembly->parts_total = total;
    return true;
}

enum assembly_outcome assembly_part(struct assembly *assembly, const struct frame_manifest *part, uint64_t epoch,
                                    uint64_t now_ns)
{
    assert(assembly->state == ASSEMBLY_OPEN);
    if (assembly->lanes == 0 || epoch >= assembly->watermark_epoch) {
        assembly->lanes = part->lanes;
        memcpy(assembly->watermark, part->watermark, part->lanes * sizeof part->watermark[0]);
        assembly->watermark_epoch = epoch;
    }
    if (assembly->reader != NULL)
        return ASSEMBLY_DUPLICATE;
    if (part->total != assembly->parts_total && !start_parts(assembly, part->total))
        return ASSEMBLY_LIMIT;
    uint32_t end = part->offset + part->size;
    struct extent hole = {part->offset, part->offset};
    enum assembly_outcome outcome = ASSEMBLY_DUPLICATE;
    while (extents_hole(&assembly->parts_held, hole.end, end, &hole)) {
        size_t before = extents_memory(&assembly->parts_held);
        if (!extents_add(&assembly->parts_held, hole.first, hole.end, ASSEMBLY_EXTENTS))
            return ASSEMBLY_LIMIT;
        account(assembly, before, extents_memory(&assembly->parts_held));
        memcpy(assembly->parts + hole.first, part->bytes + (hole.first - part->offset), hole.end - hole.first);
        assembly->progress_ns = now_ns;
        outcome = ASSEMBLY_NEW;
    }
    return outcome;
}

bool assembly_parts_complete(const struct assembly *assembly)
{
    struct extent hole;
    return assembly->parts != NULL && !extents_hole(&assembly->parts_held, 0, assembly->parts_total, &hole);
}

/* What was held of an artifact is not what the manifest speaks of. */
static void empty_artifact(struct assembly *assembly, uint32_t index, struct assembly_artifact *artifact,
                           assembly_reset *reset, void *context)
{
    reset(context, assembly, index, artifact);
    count_held(assembly, 0, extents_overlap(&artifact->held, 0, UINT64_MAX));
    size_t ranges = extents_memory(&artifact->held);
    extents_deinit(&artifact->held);
    account(assembly, ranges, 0);
}

bool assembly_bind(struct assembly *assembly, struct signed_message *message, struct manifest_reader *reader,
                   uint64_t now_ns, assembly_reset *reset, void *context)
{
    const struct manifest_head *head = manifest_reader_head(reader);
    assert(assembly->state == ASSEMBLY_OPEN && assembly->reader == NULL);
    assert(memcmp(head->transfer_id, assembly->id, TRANSFER_ID_SIZE) == 0);
    assembly_drop_parts(assembly);
    for (uint32_t index = 0; index < head->artifact_count; index += ASSEMBLY_PAGE)
        if (make_artifact(assembly, index) == NULL)
            return false;
    if (!take(assembly, message->body_size))
        return false;

    for (uint32_t index = head->artifact_count; index < assembly->artifact_count; index++) {
        struct assembly_artifact *artifact = assembly_artifact(assembly, index);
        if (artifact != NULL)
            empty_artifact(assembly, index, artifact, reset, context);
    }
    assembly->artifact_count = head->artifact_count;

    struct manifest_entry entry;
    uint32_t index = 0;
    manifest_reader_rewind(reader);
    while (manifest_reader_next(reader, &entry)) {
        if (entry.kind != MANIFEST_FILE)
            continue;
        struct assembly_artifact *artifact = &assembly->pages[index / ASSEMBLY_PAGE][index % ASSEMBLY_PAGE];
        if (artifact->size_known && artifact->size != entry.size)
            empty_artifact(assembly, index, artifact, reset, context);
        artifact->size = entry.size;
        artifact->size_known = true;
        index++;
    }
    assert(index == head->artifact_count);

    assembly->manifest = *message;
    *message = (struct signed_message){0};
    assembly->reader = reader;
    assembly->announced = true;
    assembly->sequence = head->sequence;
    memcpy(assembly->chain_id, head->chain_id, CHAIN_ID_SIZE);
    memcpy(assembly->channel, head->channel, sizeof assembly->channel);
    memcpy(assembly->name, head->name, sizeof assembly->name);
    assembly->total_bytes = head->total_bytes;
    assembly->total_artifacts = head->artifact_count;
    assembly->progress_ns = now_ns;
    return true;
}

void assembly_unbind(struct assembly *assembly)
{
    assert(assembly->state == ASSEMBLY_OPEN && assembly->reader != NULL);
    manifest_reader_destroy(assembly->reader);
    assembly->reader = NULL;
    give_back(assembly, assembly->manifest.body_size);
    signed_message_deinit(&assembly->manifest);
    assembly->manifest = (struct signed_message){0};
}

void assembly_lose(struct assembly *assembly, uint32_t index, uint64_t first, uint64_t end)
{
    struct assembly_artifact *artifact = assembly_artifact(assembly, index);
    if (artifact == NULL || first >= end)
        return;
    uint64_t held = extents_overlap(&artifact->held, first, end);
    size_t before = extents_memory(&artifact->held);
    if (!extents_remove(&artifact->held, first, end, ASSEMBLY_EXTENTS)) {
        /* Too scattered to remember one more hole: all of it is missing then. */
        held = extents_overlap(&artifact->held, 0, UINT64_MAX);
        extents_deinit(&artifact->held);
    }
    account(assembly, before, extents_memory(&artifact->held));
    count_held(assembly, 0, held);
}

uint64_t assembly_missing_bytes(const struct assembly *assembly)
{
    assert(assembly->reader != NULL && assembly->held_bytes <= assembly->total_bytes);
    return assembly->total_bytes - assembly->held_bytes;
}

bool assembly_is_complete(const struct assembly *assembly)
{
    return assembly->reader != NULL && assembly->held_bytes == assembly->total_bytes;
}

/* Whether all that was sent before the manifest has had its chance. The watermarks are the quick way to know; they are
 * not signed, so the sender's word that all was sent counts whatever they say. */
static bool lanes_are_over(const struct assembly *assembly, const struct assembly_lanes *lanes)
{
    bool is_current_chain = memcmp(assembly->chain_id, lanes->chain_id, CHAIN_ID_SIZE) == 0;
    if (is_current_chain && assembly->sequence <= lanes->settled_sequence)
        return true;
    if (assembly->lanes == 0)
        return false;
    if (lanes->confirmed_epoch > assembly->watermark_epoch)
        return !is_current_chain;
    for (unsigned i = 0; i < assembly->lanes && i < lanes->count; i++)
        if (!lanes->lane[i].heard || lanes->lane[i].epoch != assembly->watermark_epoch ||
            lanes->lane[i].passed_sbn < assembly->watermark[i])
            return false;
    return true;
}

bool assembly_is_incomplete(struct assembly *assembly, const struct assembly_lanes *lanes, uint64_t now_ns)
{
    if (assembly->state != ASSEMBLY_OPEN || assembly->reader == NULL || assembly_is_complete(assembly) ||
        !lanes_are_over(assembly, lanes)) {
        assembly->over_since_ns = 0;
        assembly->incomplete = false;
        return false;
    }
    if (assembly->over_since_ns == 0)
        assembly->over_since_ns = now_ns;
    uint64_t since_ns = assembly->over_since_ns;
    if (assembly->progress_ns > since_ns)
        since_ns = assembly->progress_ns;
    assembly->incomplete = now_ns - since_ns >= ASSEMBLY_GRACE_NS;
    return assembly->incomplete;
}
