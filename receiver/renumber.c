// SPDX-License-Identifier: Apache-2.0
#include "receiver/renumber.h"

#include <stdlib.h>
#include <string.h>

#include "common/checksum.h"

enum { SLOT_RANGES = 4096 };

/* A manifest of which parts have come. */
struct slot {
    uint32_t sender_id;
    uint8_t id[TRANSFER_ID_SIZE];
    uint8_t *bytes; /* NULL: the slot is free */
    uint32_t total;
    struct extents held;
    uint64_t used; /* order of use */
};

struct judged {
    uint64_t hash, sequence; /* 0: none */
    uint8_t chain_id[CHAIN_ID_SIZE];
};

struct renumber {
    const struct trust *trust;
    struct checks *checks;
    struct knowledge *knowledge;
    renumber_had *had;
    void *context;
    uint64_t uses;
    uint64_t bytes; /* that the slots take */
    struct slot slots[RENUMBER_SLOTS];
    struct judged judged[RENUMBER_JUDGED];
};

struct renumber *renumber_create(const struct trust *trust, struct checks *checks, struct knowledge *knowledge,
                                 renumber_had *had, void *context)
{
    struct renumber *renumber = calloc(1, sizeof *renumber);
    if (renumber == NULL)
        return NULL;
    renumber->trust = trust;
    renumber->checks = checks;
    renumber->knowledge = knowledge;
    renumber->had = had;
    renumber->context = context;
    return renumber;
}

static void clear(struct renumber *renumber, struct slot *slot)
{
    if (slot->bytes == NULL)
        return;
    renumber->bytes -= slot->total;
    free(slot->bytes);
    extents_deinit(&slot->held);
    *slot = (struct slot){0};
}

void renumber_destroy(struct renumber *renumber)
{
    if (renumber == NULL)
        return;
    for (unsigned i = 0; i < RENUMBER_SLOTS; i++)
        clear(renumber, &renumber->slots[i]);
    free(renumber);
}

/* Only what is signed gets in, so nobody can make up bytes of a wanted hash. */
void renumber_note(struct renumber *renumber, const struct manifest_head *head, const uint8_t *bytes, size_t size)
{
    uint64_t hash = checksum64(bytes, size);
    struct judged *judged = &renumber->judged[hash % RENUMBER_JUDGED];
    judged->hash = hash;
    judged->sequence = head->sequence;
    memcpy(judged->chain_id, head->chain_id, CHAIN_ID_SIZE);
}

/* A number that was given back since is of interest again. */
static bool is_judged(const struct renumber *renumber, const uint8_t *bytes, size_t size)
{
    uint64_t hash = checksum64(bytes, size);
    const struct judged *judged = &renumber->judged[hash % RENUMBER_JUDGED];
    return judged->hash == hash && judged->sequence != 0 &&
           knowledge_accounts_for(renumber->knowledge, judged->chain_id, judged->sequence);
}

static struct slot *least_used(struct renumber *renumber)
{
    struct slot *found = NULL;
    for (unsigned i = 0; i < RENUMBER_SLOTS; i++) {
        struct slot *slot = &renumber->slots[i];
        if (slot->bytes != NULL && (found == NULL || slot->used < found->used))
            found = slot;
    }
    return found;
}

/* The slot of this manifest, made at need; NULL when memory is short. */
static struct slot *slot_of(struct renumber *renumber, uint32_t sender_id, const struct frame_manifest *part)
{
    struct slot *empty = NULL;
    for (unsigned i = 0; i < RENUMBER_SLOTS; i++) {
        struct slot *slot = &renumber->slots[i];
        if (slot->bytes != NULL && slot->sender_id == sender_id && slot->total == part->total &&
            memcmp(slot->id, part->transfer_id, TRANSFER_ID_SIZE) == 0)
            return slot;
        if (slot->bytes == NULL)
            empty = slot;
    }
    while (empty == NULL || renumber->bytes + part->total > RENUMBER_BYTES) {
        struct slot *oldest = least_used(renumber);
        if (oldest == NULL)
            return NULL;
        clear(renumber, oldest);
        empty = oldest;
    }
    empty->bytes = malloc(part->total);
    if (empty->bytes == NULL)
        return NULL;
    empty->sender_id = sender_id;
    memcpy(empty->id, part->transfer_id, TRANSFER_ID_SIZE);
    empty->total = part->total;
    renumber->bytes += part->total;
    return empty;
}

/* The slot whose manifest is whole with this part; NULL while something is missing. */
static struct slot *collect(struct renumber *renumber, uint32_t sender_id, const struct frame_manifest *part)
{
    struct slot *slot = slot_of(renumber, sender_id, part);
    struct extent hole;
    if (slot == NULL)
        return NULL;
    slot->used = ++renumber->uses;
    if (!extents_add(&slot->held, part->offset, (uint64_t)part->offset + part->size, SLOT_RANGES)) {
        clear(renumber, slot);
        return NULL;
    }
    memcpy(slot->bytes + part->offset, part->bytes, part->size);
    return extents_hole(&slot->held, 0, slot->total, &hole) ? NULL : slot;
}

/* What a whole manifest says; true when the transfer is to be bound to it. */
static bool judge(struct renumber *renumber, const struct unpack_source *source, const uint8_t *id,
                  const struct assembly *assembly, const uint8_t *bytes, size_t size, struct opening *opening)
{
    struct knowledge *knowledge = renumber->knowledge;
    uint32_t sender_id = source->sender_id;
    if (is_judged(renumber, bytes, size) || !checks_may(renumber->checks, sender_id, source->now_ns))
        return false;
    opening_read(renumber->trust, sender_id, id, bytes, size, opening);
    if (opening->why != NULL) {
        if (!opening->is_signed)
            checks_failed(renumber->checks, sender_id);
        return false;
    }
    const struct manifest_head *head = manifest_reader_head(opening->reader);
    const struct knowledge_chain *chain = knowledge_chain_of(knowledge, sender_id);
    /* Old copies name numbers that the sender went back behind, and has not given anew. */
    bool is_current = chain != NULL && memcmp(chain->chain_id, head->chain_id, CHAIN_ID_SIZE) == 0 &&
                      head->sequence <= chain->told_sequence;
    if (is_current && knowledge_accounts_for(knowledge, head->chain_id, head->sequence)) {
        renumber_note(renumber, head, bytes, size);
    } else if (is_current && assembly == NULL) {
        renumber_note(renumber, head, bytes, size);
        renumber->had(renumber->context, sender_id, opening);
    } else if (is_current && knowledge_is_void(knowledge, assembly->chain_id, assembly->sequence)) {
        renumber_note(renumber, head, bytes, size);
        knowledge_remove(knowledge, assembly->chain_id, assembly->sequence);
        return true;
    }
    opening_deinit(opening);
    return false;
}

bool renumber_take(struct renumber *renumber, const struct unpack_source *source, const struct frame_manifest *part,
                   const struct assembly *assembly, struct opening *opening)
{
    if (!knowledge_doubts(renumber->knowledge, source->sender_id))
        return false;
    if (part->size == part->total)
        return judge(renumber, source, part->transfer_id, assembly, part->bytes, part->size, opening);
    struct slot *slot = collect(renumber, source->sender_id, part);
    if (slot == NULL)
        return false;
    bool binds = judge(renumber, source, slot->id, assembly, slot->bytes, slot->total, opening);
    clear(renumber, slot);
    return binds;
}
