// SPDX-License-Identifier: Apache-2.0
#include "receiver/missing.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* The ranges held of a transfer are the same as long as these are: whatever adds to them moves the time of progress,
 * and whatever takes away changes the sum. */
struct slot {
    bool used;
    uint32_t sender_id;
    uint8_t id[TRANSFER_ID_SIZE];
    uint64_t held_bytes, progress_ns, sequence;
    struct missing_chunks chunks;
};

struct missing {
    uint64_t looked_at; /* in this round */
    struct slot slots[MISSING_SLOTS];
};

struct missing *missing_create(void)
{
    return calloc(1, sizeof(struct missing));
}

void missing_destroy(struct missing *missing)
{
    free(missing);
}

void missing_begin(struct missing *missing)
{
    missing->looked_at = 0;
}

/* The range that is growing; nothing yet while it is empty. */
struct walk {
    struct missing_chunks *chunks;
    bool any;
    struct ticket_range range;
};

static void end_range(struct walk *walk)
{
    struct missing_chunks *chunks = walk->chunks;
    if (!walk->any)
        return;
    chunks->chunk_count += walk->range.last - walk->range.first + 1;
    chunks->range_count++;
    if (chunks->listed < MISSING_RANGES)
        chunks->ranges[chunks->listed++] = walk->range;
    ticket_add_chunks(&chunks->ticket, walk->range.first, walk->range.last);
}

static void add_chunks(struct walk *walk, uint64_t first, uint64_t last)
{
    if (walk->any && first <= walk->range.last + 1) {
        if (last > walk->range.last)
            walk->range.last = last;
        return;
    }
    end_range(walk);
    walk->any = true;
    walk->range = (struct ticket_range){first, last};
}

static void look(struct missing *missing, const struct assembly *assembly, struct missing_chunks *chunks)
{
    struct walk walk = {.chunks = chunks};
    uint64_t base = 0;
    *chunks = (struct missing_chunks){0};
    ticket_init(&chunks->ticket, TICKET_CHUNKS, assembly->chain_id, assembly->sequence, assembly->sequence);
    for (uint32_t index = 0; index < assembly->artifact_count; index++) {
        const struct assembly_artifact *artifact = assembly_artifact(assembly, index);
        assert(artifact != NULL); /* a bound manifest tells the size of each */
        struct extent hole = {0, 0};
        while (extents_hole(&artifact->held, hole.end, artifact->size, &hole))
            add_chunks(&walk, base + hole.first / CHUNK_SIZE, base + (hole.end - 1) / CHUNK_SIZE);
        base += manifest_chunk_count(artifact->size);
        missing->looked_at += 1 + artifact->held.count;
    }
    end_range(&walk);
    if (assembly->held_bytes == 0)
        ticket_init(&chunks->ticket, TICKET_WHOLE, assembly->chain_id, assembly->sequence, assembly->sequence);
}

const struct missing_chunks *missing_find(struct missing *missing, const struct assembly *assembly)
{
    assert(assembly->reader != NULL && !assembly_is_complete(assembly));
    uint16_t hash;
    memcpy(&hash, assembly->id, sizeof hash);
    struct slot *slot = &missing->slots[hash % MISSING_SLOTS];
    if (slot->used && slot->sender_id == assembly->sender_id && slot->held_bytes == assembly->held_bytes &&
        slot->progress_ns == assembly->progress_ns && slot->sequence == assembly->sequence &&
        memcmp(slot->id, assembly->id, TRANSFER_ID_SIZE) == 0)
        return &slot->chunks;
    if (missing->looked_at >= MISSING_ROUND)
        return NULL;
    slot->used = true;
    slot->sender_id = assembly->sender_id;
    memcpy(slot->id, assembly->id, TRANSFER_ID_SIZE);
    slot->held_bytes = assembly->held_bytes;
    slot->progress_ns = assembly->progress_ns;
    slot->sequence = assembly->sequence;
    look(missing, assembly, &slot->chunks);
    return &slot->chunks;
}
