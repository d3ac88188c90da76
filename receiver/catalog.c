// SPDX-License-Identifier: Apache-2.0
#include "receiver/catalog.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/signature.h"
#include "proto/manifest.h"
#include "proto/signed.h"

enum {
    BUCKETS = 2 * CATALOG_OPEN,
    ENDED = 8192, /* transfers remembered as delivered or closed, so that their frames cost no query */
    REASON_SIZE = 256,
};

struct ended {
    bool used;
    bool delivered;
    uint32_t sender_id;
    uint8_t id[TRANSFER_ID_SIZE];
    uint64_t until_ns; /* UINT64_MAX: for ever */
};

struct catalog {
    const struct trust *trust;
    const struct catalog_actions *actions;
    void *context;
    struct assembly_budget announced, unannounced;
    unsigned count;             /* not closed */
    unsigned unannounced_count; /* of these */
    uint64_t free_bytes;
    uint64_t reserved_bytes; /* still to come for admitted transfers */
    struct catalog_counters counters;
    struct assembly *oldest, *newest;
    struct assembly *buckets[BUCKETS];
    struct ended ended[ENDED];
};

struct catalog *catalog_create(const struct trust *trust, const struct catalog_actions *actions, void *context)
{
    struct catalog *catalog = calloc(1, sizeof *catalog);
    if (catalog == NULL)
        return NULL;
    catalog->trust = trust;
    catalog->actions = actions;
    catalog->context = context;
    catalog->free_bytes = UINT64_MAX;
    catalog->announced.memory_limit = CATALOG_MEMORY;
    catalog->announced.held_limit = UINT64_MAX;
    catalog->unannounced.memory_limit = CATALOG_UNANNOUNCED_MEMORY;
    catalog->unannounced.held_limit = CATALOG_UNANNOUNCED_BYTES;
    return catalog;
}

void catalog_destroy(struct catalog *catalog)
{
    if (catalog == NULL)
        return;
    while (catalog->oldest != NULL) {
        struct assembly *assembly = catalog->oldest;
        catalog->oldest = assembly->newer;
        assembly_destroy(assembly);
    }
    free(catalog);
}

/* Ids are random; those that an attacker makes up are few, by the quota of unannounced transfers. */
static uint64_t hash_id(uint32_t sender_id, const uint8_t *id)
{
    uint64_t word;
    memcpy(&word, id, sizeof word);
    return (word ^ sender_id) * UINT64_C(0x9E3779B97F4A7C15) >> 32;
}

struct assembly *catalog_find(const struct catalog *catalog, uint32_t sender_id,
                              const uint8_t id[static TRANSFER_ID_SIZE])
{
    struct assembly *assembly = catalog->buckets[hash_id(sender_id, id) % BUCKETS];
    while (assembly != NULL && (assembly->sender_id != sender_id || memcmp(assembly->id, id, TRANSFER_ID_SIZE) != 0))
        assembly = assembly->next;
    return assembly;
}

static struct ended *ended_place(struct catalog *catalog, uint32_t sender_id, const uint8_t *id)
{
    return &catalog->ended[hash_id(sender_id, id) % ENDED];
}

static void remember_end(struct catalog *catalog, uint32_t sender_id, const uint8_t *id, bool delivered)
{
    struct ended *ended = ended_place(catalog, sender_id, id);
    *ended = (struct ended){.used = true, .delivered = delivered, .sender_id = sender_id, .until_ns = UINT64_MAX};
    memcpy(ended->id, id, TRANSFER_ID_SIZE);
}

static void unlink_by_progress(struct catalog *catalog, struct assembly *assembly)
{
    *(assembly->older != NULL ? &assembly->older->newer : &catalog->oldest) = assembly->newer;
    *(assembly->newer != NULL ? &assembly->newer->older : &catalog->newest) = assembly->older;
    assembly->older = assembly->newer = NULL;
}

static void append_by_progress(struct catalog *catalog, struct assembly *assembly)
{
    assembly->older = catalog->newest;
    *(catalog->newest != NULL ? &catalog->newest->newer : &catalog->oldest) = assembly;
    catalog->newest = assembly;
}

static void made_progress(struct catalog *catalog, struct assembly *assembly)
{
    if (catalog->newest == assembly)
        return;
    unlink_by_progress(catalog, assembly);
    append_by_progress(catalog, assembly);
}

/* Bytes that an admitted transfer is still expected to take. */
static uint64_t outstanding(const struct assembly *assembly)
{
    if (!assembly->announced || !assembly->admitted || assembly->lapsed ||
        assembly->total_bytes <= assembly->held_bytes)
        return 0;
    return assembly->total_bytes - assembly->held_bytes;
}

void catalog_close(struct catalog *catalog, struct assembly *assembly, enum catalog_end end)
{
    assert(assembly->state != ASSEMBLY_CLOSED);
    catalog->reserved_bytes -= outstanding(assembly);
    catalog->actions->closing(catalog->context, assembly, end);
    catalog->count--;
    if (!assembly->announced)
        catalog->unannounced_count--;
    catalog->counters.ended[end]++;
    if (end == CATALOG_ABORTED || end == CATALOG_REFUSED)
        remember_end(catalog, assembly->sender_id, assembly->id, false);
    assembly_close(assembly);
}

void catalog_forget(struct catalog *catalog, struct assembly *assembly, bool delivered)
{
    if (assembly->state != ASSEMBLY_CLOSED) {
        assert(delivered);
        catalog->reserved_bytes -= outstanding(assembly);
        catalog->count--;
        if (!assembly->announced)
            catalog->unannounced_count--;
    }
    if (delivered)
        remember_end(catalog, assembly->sender_id, assembly->id, true);
    struct assembly **link = &catalog->buckets[hash_id(assembly->sender_id, assembly->id) % BUCKETS];
    while (*link != assembly)
        link = &(*link)->next;
    *link = assembly->next;
    unlink_by_progress(catalog, assembly);
    assembly_destroy(assembly);
}

/* Closes the transfer without progress for longest, if that is long enough. */
static bool make_room(struct catalog *catalog, bool among_unannounced, uint64_t now_ns)
{
    for (struct assembly *assembly = catalog->oldest; assembly != NULL; assembly = assembly->newer) {
        if (now_ns - assembly->progress_ns < CATALOG_IDLE_NS)
            return false;
        if (assembly->state == ASSEMBLY_OPEN && !(among_unannounced && assembly->announced)) {
            catalog_close(catalog, assembly, CATALOG_EVICTED);
            return true;
        }
    }
    return false;
}

/* With `vouched` a signature is at hand: the quota of those without one neither counts nor stands in the way. */
static struct assembly *open_assembly(struct catalog *catalog, const struct unpack_source *source, const uint8_t *id,
                                      bool vouched)
{
    if (!vouched && catalog->unannounced_count >= CATALOG_UNANNOUNCED && !make_room(catalog, true, source->now_ns))
        return NULL;
    if (catalog->count >= CATALOG_OPEN && !make_room(catalog, false, source->now_ns))
        return NULL;
    struct assembly_budget *budget = vouched ? &catalog->announced : &catalog->unannounced;
    struct assembly *assembly = assembly_create(id, source->sender_id, budget, source->now_ns);
    if (assembly == NULL)
        return NULL;
    assembly->announced = vouched;
    catalog->count++;
    catalog->unannounced_count += !vouched;
    catalog->counters.announced += vouched;
    struct assembly **bucket = &catalog->buckets[hash_id(source->sender_id, id) % BUCKETS];
    assembly->next = *bucket;
    *bucket = assembly;
    append_by_progress(catalog, assembly);
    return assembly;
}

/* Whether frames of a transfer that is not open lead nowhere; counts why. */
static bool is_over(struct catalog *catalog, const struct unpack_source *source, const uint8_t *id)
{
    uint32_t sender_id = source->sender_id;
    const struct ended *ended = ended_place(catalog, sender_id, id);
    if (ended->used && source->now_ns < ended->until_ns && ended->sender_id == sender_id &&
        memcmp(ended->id, id, TRANSFER_ID_SIZE) == 0) {
        catalog->counters.after_delivery += ended->delivered;
        catalog->counters.after_end += !ended->delivered;
        return true;
    }
    if (!catalog->actions->is_delivered(catalog->context, id))
        return false;
    remember_end(catalog, sender_id, id, true);
    catalog->counters.after_delivery++;
    return true;
}

/* The open transfer that a frame belongs to, opened if need be; NULL when the frame is to be dropped (counted). */
static struct assembly *find_or_open(struct catalog *catalog, const struct unpack_source *source, const uint8_t *id,
                                     bool vouched)
{
    struct assembly *assembly = catalog_find(catalog, source->sender_id, id);
    if (assembly != NULL) {
        if (assembly->state == ASSEMBLY_OPEN)
            return assembly;
        catalog->counters.after_end++;
        return NULL;
    }
    if (is_over(catalog, source, id))
        return NULL;
    assembly = open_assembly(catalog, source, id, vouched);
    if (assembly == NULL)
        catalog->counters.over_limit++;
    return assembly;
}

/* A signature vouches for the transfer: it leaves the small quota. */
static bool promote(struct catalog *catalog, struct assembly *assembly)
{
    if (assembly->announced)
        return true;
    if (!assembly_move_budget(assembly, &catalog->announced))
        return false;
    assembly->announced = true;
    catalog->unannounced_count--;
    catalog->counters.announced++;
    return true;
}

/* Decides on the room for a transfer whose total is known; what was admitted stays admitted. */
static bool admit(const struct catalog *catalog, struct assembly *assembly)
{
    uint64_t needed = assembly->total_bytes > assembly->held_bytes ? assembly->total_bytes - assembly->held_bytes : 0;
    uint64_t taken = catalog->reserved_bytes + CATALOG_RESERVE;
    assembly->admitted = needed == 0 || (catalog->free_bytes > taken && needed <= catalog->free_bytes - taken);
    return assembly->admitted;
}

/* What stands still may never go on: its room is for others, until it does. */
static void set_lapsed(struct catalog *catalog, struct assembly *assembly, bool lapsed)
{
    catalog->reserved_bytes -= outstanding(assembly);
    assembly->lapsed = lapsed;
    catalog->reserved_bytes += outstanding(assembly);
}

void catalog_set_free_bytes(struct catalog *catalog, uint64_t free_bytes, uint64_t now_ns)
{
    catalog->free_bytes = free_bytes;
    for (struct assembly *assembly = catalog->oldest; assembly != NULL; assembly = assembly->newer)
        if (assembly->state == ASSEMBLY_OPEN && !assembly->lapsed && now_ns - assembly->progress_ns >= CATALOG_LAPSE_NS)
            set_lapsed(catalog, assembly, true);
    for (struct assembly *assembly = catalog->oldest; assembly != NULL; assembly = assembly->newer)
        if (assembly->state == ASSEMBLY_OPEN && !assembly->admitted && admit(catalog, assembly))
            catalog->reserved_bytes += outstanding(assembly);
}

bool catalog_wants_announce(struct catalog *catalog, const struct unpack_source *source,
                            const uint8_t id[static TRANSFER_ID_SIZE])
{
    const struct assembly *assembly = catalog_find(catalog, source->sender_id, id);
    if (assembly == NULL)
        return !is_over(catalog, source, id);
    return assembly->state == ASSEMBLY_OPEN && (!assembly->announced || !assembly->admitted);
}

void catalog_announce(struct catalog *catalog, const struct unpack_source *source,
                      const struct message_announce *announce)
{
    struct assembly *assembly = find_or_open(catalog, source, announce->transfer_id, true);
    if (assembly == NULL)
        return;
    catalog->reserved_bytes -= outstanding(assembly);
    if (!promote(catalog, assembly)) {
        catalog->counters.over_limit++;
        return;
    }
    if (assembly->reader == NULL) {
        memcpy(assembly->channel, announce->channel, sizeof assembly->channel);
        memcpy(assembly->name, announce->name, sizeof assembly->name);
        assembly->total_bytes = announce->total_bytes;
        assembly->total_artifacts = announce->artifact_count;
    }
    catalog->counters.not_admitted += !admit(catalog, assembly);
    catalog->reserved_bytes += outstanding(assembly);
}

void catalog_lose(struct catalog *catalog, struct assembly *assembly, uint32_t index, uint64_t first, uint64_t end)
{
    catalog->reserved_bytes -= outstanding(assembly);
    assembly_lose(assembly, index, first, end);
    catalog->reserved_bytes += outstanding(assembly);
}

static void tell_if_complete(struct catalog *catalog, struct assembly *assembly)
{
    if (assembly_is_complete(assembly))
        catalog->actions->complete(catalog->context, assembly);
}

void catalog_data(struct catalog *catalog, const struct unpack_source *source, const struct frame_data *data)
{
    struct assembly *assembly = find_or_open(catalog, source, data->transfer_id, false);
    if (assembly == NULL)
        return;
    uint64_t before = outstanding(assembly);
    enum assembly_outcome outcome =
        assembly_data(assembly, data, source->now_ns, catalog->actions->write, catalog->context);
    catalog->reserved_bytes -= before - outstanding(assembly);
    switch (outcome) {
    case ASSEMBLY_NEW:
        made_progress(catalog, assembly);
        if (assembly->lapsed)
            set_lapsed(catalog, assembly, false);
        tell_if_complete(catalog, assembly);
        break;
    case ASSEMBLY_DUPLICATE:
        catalog->counters.duplicates++;
        break;
    case ASSEMBLY_CONFLICT:
        catalog->counters.conflicts++;
        break;
    case ASSEMBLY_LIMIT:
        catalog->counters.over_limit++;
        if (!assembly->announced)
            (void)make_room(catalog, true, source->now_ns);
        break;
    }
}

/* Why the assembled manifest is not one, or NULL; then *message and *reader are the caller's. */
static const char *open_manifest(const struct catalog *catalog, const struct assembly *assembly,
                                 struct signed_message *message, struct manifest_reader **reader, bool *is_signed,
                                 char reason[static REASON_SIZE])
{
    *is_signed = false;
    if (signed_decode(assembly->parts, assembly->parts_total, LIMIT_MANIFEST_SIZE, message) != STATUS_OK)
        return "is not a signed message";
    const char *why = NULL;
    const struct signature_public *key = trust_find(catalog->trust, assembly->sender_id);
    if (key == NULL || !signature_verify(key, message->body, message->body_size, &message->signature))
        why = "is not signed by the key of its sender";
    else if (!message->signature.has_comment)
        why = "has no trusted comment";
    if (why == NULL) {
        *is_signed = true;
        enum status status = manifest_reader_create(message->body, message->body_size, reader, reason);
        if (status == STATUS_INVALID)
            why = reason;
        else if (status != STATUS_OK)
            why = "can't be read for want of memory";
        *is_signed = status == STATUS_INVALID;
    }
    if (why == NULL && memcmp(manifest_reader_head(*reader)->transfer_id, assembly->id, TRANSFER_ID_SIZE) != 0) {
        manifest_reader_destroy(*reader);
        why = "is the manifest of another transfer";
    }
    if (why != NULL)
        signed_message_deinit(message);
    return why;
}

static void refuse_manifest(struct catalog *catalog, struct assembly *assembly, const char *reason, bool is_signed)
{
    catalog->counters.manifests_refused++;
    catalog->actions->refused(catalog->context, assembly, reason, assembly->parts, assembly->parts_total);
    /* Unsigned bytes prove nothing against the transfer: the true manifest may still come. */
    if (is_signed)
        catalog_close(catalog, assembly, CATALOG_REFUSED);
    else
        assembly_drop_parts(assembly);
}

static void bind_manifest(struct catalog *catalog, struct assembly *assembly, uint64_t now_ns)
{
    struct signed_message message;
    struct manifest_reader *reader = NULL;
    bool is_signed;
    char reason[REASON_SIZE];
    const char *why = open_manifest(catalog, assembly, &message, &reader, &is_signed, reason);
    if (why != NULL) {
        refuse_manifest(catalog, assembly, why, is_signed);
        return;
    }
    bool announced = assembly->announced;
    catalog->reserved_bytes -= outstanding(assembly);
    if (!promote(catalog, assembly) ||
        !assembly_bind(assembly, &message, reader, now_ns, catalog->actions->reset, catalog->context)) {
        manifest_reader_destroy(reader);
        signed_message_deinit(&message);
        assembly_drop_parts(assembly);
        catalog->reserved_bytes += outstanding(assembly);
        catalog->counters.over_limit++;
        return;
    }
    if (!announced)
        catalog->counters.not_admitted += !admit(catalog, assembly);
    catalog->reserved_bytes += outstanding(assembly);
    catalog->counters.bound++;
    catalog->actions->bound(catalog->context, assembly);
    tell_if_complete(catalog, assembly);
}

void catalog_manifest(struct catalog *catalog, const struct unpack_source *source, const struct frame_manifest *part)
{
    struct assembly *assembly = find_or_open(catalog, source, part->transfer_id, false);
    if (assembly == NULL)
        return;
    switch (assembly_part(assembly, part, source->epoch, source->now_ns)) {
    case ASSEMBLY_NEW:
        made_progress(catalog, assembly);
        if (assembly_parts_complete(assembly))
            bind_manifest(catalog, assembly, source->now_ns);
        break;
    case ASSEMBLY_DUPLICATE:
        catalog->counters.duplicates++;
        break;
    case ASSEMBLY_CONFLICT:
        catalog->counters.conflicts++;
        break;
    case ASSEMBLY_LIMIT:
        catalog->counters.over_limit++;
        if (!assembly->announced)
            (void)make_room(catalog, true, source->now_ns);
        break;
    }
}

static void end_transfer(struct catalog *catalog, const struct unpack_source *source, const uint8_t *id,
                         enum catalog_end end, uint64_t until_ns)
{
    struct assembly *assembly = catalog_find(catalog, source->sender_id, id);
    if (assembly != NULL ? assembly->state != ASSEMBLY_OPEN : is_over(catalog, source, id))
        return;
    if (assembly != NULL)
        catalog_close(catalog, assembly, end);
    remember_end(catalog, source->sender_id, id, false);
    ended_place(catalog, source->sender_id, id)->until_ns = until_ns;
}

void catalog_abort(struct catalog *catalog, const struct unpack_source *source, const struct message_abort *message)
{
    end_transfer(catalog, source, message->transfer_id, CATALOG_ABORTED, UINT64_MAX);
}

void catalog_refuse(struct catalog *catalog, const struct unpack_source *source,
                    const uint8_t id[static TRANSFER_ID_SIZE])
{
    end_transfer(catalog, source, id, CATALOG_REFUSED, source->now_ns + CATALOG_REFUSAL_NS);
}

void catalog_each(struct catalog *catalog, void (*visit)(struct assembly *assembly, void *context), void *context)
{
    struct assembly *assembly = catalog->oldest;
    while (assembly != NULL) {
        struct assembly *newer = assembly->newer;
        visit(assembly, context);
        assembly = newer;
    }
}

unsigned catalog_count(const struct catalog *catalog)
{
    return catalog->count;
}

const struct catalog_counters *catalog_counters(const struct catalog *catalog)
{
    return &catalog->counters;
}
