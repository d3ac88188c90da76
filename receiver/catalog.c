// SPDX-License-Identifier: Apache-2.0
#include "receiver/catalog.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "receiver/catalog_private.h"
#include "receiver/opening.h"

struct catalog *catalog_create(const struct trust *trust, const struct catalog_actions *actions, void *context)
{
    struct catalog *catalog = calloc(1, sizeof *catalog);
    struct checks *checks = checks_create(trust);
    if (catalog == NULL || checks == NULL) {
        checks_destroy(checks);
        free(catalog);
        return NULL;
    }
    catalog->checks = checks;
    catalog->bounds = bounds_none;
    catalog->trust = trust;
    catalog->actions = actions;
    catalog->context = context;
    room_init(&catalog->room, CATALOG_OPEN);
    return catalog;
}

struct checks *catalog_checks(const struct catalog *catalog)
{
    return catalog->checks;
}

void catalog_set_bounds(struct catalog *catalog, const struct bounds *bounds)
{
    catalog->bounds = *bounds;
}

void catalog_set_renumber(struct catalog *catalog, struct renumber *renumber)
{
    catalog->renumber = renumber;
}

void catalog_set_limits(struct catalog *catalog, const struct room_limits *limits)
{
    assert(limits->max_open >= 1 && limits->max_open <= CATALOG_OPEN);
    catalog->room.limits = *limits;
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
    checks_destroy(catalog->checks);
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

void catalog_close(struct catalog *catalog, struct assembly *assembly, enum catalog_end end)
{
    assert(assembly->state != ASSEMBLY_CLOSED);
    catalog->room.reserved_bytes -= catalog_outstanding(assembly);
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
        catalog->room.reserved_bytes -= catalog_outstanding(assembly);
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

/* With `vouched` a signature is at hand: the quota of those without one neither counts nor stands in the way. */
static struct assembly *open_assembly(struct catalog *catalog, const struct unpack_source *source, const uint8_t *id,
                                      bool vouched)
{
    if (!vouched && catalog->unannounced_count >= CATALOG_UNANNOUNCED &&
        !catalog_make_room(catalog, true, source->now_ns))
        return NULL;
    if (catalog->count >= catalog->room.limits.max_open && !catalog_make_room(catalog, false, source->now_ns))
        return NULL;
    struct assembly_budget *budget = vouched ? &catalog->room.announced : &catalog->room.unannounced;
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
    enum catalog_answer answer = catalog->actions->is_delivered(catalog->context, sender_id, id);
    if (answer == CATALOG_UNKNOWN)
        return false;
    if (answer == CATALOG_UNSURE) {
        catalog->counters.unsure++;
        return true;
    }
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
        if (assembly->state == ASSEMBLY_OPEN && source->now_ns >= assembly->refused_until_ns)
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
    catalog->room.announced.held_limit = catalog->room.limits.staging;
    if (!assembly_move_budget(assembly, &catalog->room.announced))
        return false;
    assembly->announced = true;
    catalog->unannounced_count--;
    catalog->counters.announced++;
    return true;
}

bool catalog_wants_announce(struct catalog *catalog, const struct unpack_source *source,
                            const uint8_t id[static TRANSFER_ID_SIZE], bool early)
{
    const struct assembly *assembly = catalog_find(catalog, source->sender_id, id);
    if (assembly == NULL && early && catalog->count >= catalog->room.limits.max_open / 2)
        return false;
    if (assembly == NULL)
        return !is_over(catalog, source, id);
    return assembly->state == ASSEMBLY_OPEN && (!assembly->announced || !assembly->admitted);
}

/* Whether what its sender says of it is more than this receiver takes; then it is closed. */
static bool refuse_announced(struct catalog *catalog, struct assembly *assembly,
                             const struct message_announce *announce)
{
    char reason[BOUNDS_REASON_SIZE];
    if (bounds_allow_announce(&catalog->bounds, announce, reason))
        return false;
    catalog->counters.beyond_bounds++;
    catalog->actions->refused(catalog->context, assembly, reason, NULL, 0);
    assembly->admitted = false;
    catalog_close(catalog, assembly, CATALOG_REFUSED);
    return true;
}

void catalog_announce(struct catalog *catalog, const struct unpack_source *source,
                      const struct message_announce *announce)
{
    struct assembly *assembly = find_or_open(catalog, source, announce->transfer_id, true);
    if (assembly == NULL)
        return;
    catalog->room.reserved_bytes -= catalog_outstanding(assembly);
    if (!promote(catalog, assembly)) {
        catalog->counters.over_limit++;
        return;
    }
    if (assembly->reader == NULL) {
        memcpy(assembly->channel, announce->channel, sizeof assembly->channel);
        memcpy(assembly->name, announce->name, sizeof assembly->name);
        assembly->total_bytes = announce->total_bytes;
        assembly->total_artifacts = announce->artifact_count;
        if (refuse_announced(catalog, assembly, announce))
            return;
    }
    if (!catalog_admit(catalog, assembly)) {
        catalog_make_bytes(catalog, assembly, source->now_ns);
        catalog->counters.not_admitted += !catalog_admit(catalog, assembly);
    }
    catalog->room.reserved_bytes += catalog_outstanding(assembly);
}

void catalog_lose(struct catalog *catalog, struct assembly *assembly, uint32_t index, uint64_t first, uint64_t end)
{
    catalog->room.reserved_bytes -= catalog_outstanding(assembly);
    assembly_lose(assembly, index, first, end);
    catalog->room.reserved_bytes += catalog_outstanding(assembly);
}

void catalog_hold(struct catalog *catalog, struct assembly *assembly, uint32_t index, uint64_t first, uint64_t end)
{
    catalog->room.reserved_bytes -= catalog_outstanding(assembly);
    room_bound(&catalog->room);
    assembly_hold(assembly, index, first, end);
    catalog->room.reserved_bytes += catalog_outstanding(assembly);
}

static void tell_if_complete(struct catalog *catalog, struct assembly *assembly)
{
    if (assembly_is_complete(assembly))
        catalog->actions->complete(catalog->context, assembly);
}

struct assembly *catalog_open(struct catalog *catalog, const struct unpack_source *source,
                              const uint8_t id[static TRANSFER_ID_SIZE])
{
    return find_or_open(catalog, source, id, false);
}

void catalog_restored(struct catalog *catalog, struct assembly *assembly)
{
    if (assembly->state == ASSEMBLY_OPEN)
        tell_if_complete(catalog, assembly);
}

void catalog_data(struct catalog *catalog, const struct unpack_source *source, const struct frame_data *data)
{
    struct assembly *assembly = find_or_open(catalog, source, data->transfer_id, false);
    if (assembly == NULL)
        return;
    uint64_t before = catalog_outstanding(assembly);
    room_bound(&catalog->room);
    enum assembly_outcome outcome =
        assembly_data(assembly, data, source->now_ns, catalog->actions->write, catalog->context);
    catalog->room.reserved_bytes -= before - catalog_outstanding(assembly);
    switch (outcome) {
    case ASSEMBLY_NEW:
        made_progress(catalog, assembly);
        if (assembly->lapsed)
            catalog_set_lapsed(catalog, assembly, false);
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
            (void)catalog_make_room(catalog, true, source->now_ns);
        break;
    }
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

/* Takes what the opening holds. */
static void bind(struct catalog *catalog, struct assembly *assembly, struct opening *opening, uint64_t now_ns)
{
    bool announced = assembly->announced;
    catalog->room.reserved_bytes -= catalog_outstanding(assembly);
    if (!promote(catalog, assembly) || !assembly_bind(assembly, &opening->message, opening->reader, now_ns,
                                                      catalog->actions->reset, catalog->context)) {
        opening_deinit(opening);
        assembly_drop_parts(assembly);
        catalog->room.reserved_bytes += catalog_outstanding(assembly);
        catalog->counters.over_limit++;
        return;
    }
    if (!announced)
        catalog->counters.not_admitted += !catalog_admit(catalog, assembly);
    catalog->room.reserved_bytes += catalog_outstanding(assembly);
    catalog->counters.bound++;
    catalog->actions->bound(catalog->context, assembly);
    tell_if_complete(catalog, assembly);
}

static void bind_manifest(struct catalog *catalog, struct assembly *assembly, uint64_t now_ns)
{
    struct opening opening;
    char reason[BOUNDS_REASON_SIZE];
    if (!checks_may(catalog->checks, assembly->sender_id, now_ns)) {
        catalog->counters.over_limit++;
        assembly_drop_parts(assembly);
        return;
    }
    opening_read(catalog->trust, assembly->sender_id, assembly->id, assembly->parts, assembly->parts_total, &opening);
    if (opening.why != NULL) {
        if (!opening.is_signed)
            checks_failed(catalog->checks, assembly->sender_id);
        refuse_manifest(catalog, assembly, opening.why, opening.is_signed);
        return;
    }
    if (!bounds_allow_manifest(&catalog->bounds, opening.reader, reason)) {
        opening_deinit(&opening);
        catalog->counters.beyond_bounds++;
        refuse_manifest(catalog, assembly, reason, true);
        return;
    }
    if (catalog->renumber != NULL)
        renumber_note(catalog->renumber, manifest_reader_head(opening.reader), assembly->parts, assembly->parts_total);
    bind(catalog, assembly, &opening, now_ns);
}

/* A part of a manifest that is held already, or of a transfer that is not open (NULL). */
static void look_again(struct catalog *catalog, const struct unpack_source *source, const struct frame_manifest *part,
                       struct assembly *assembly)
{
    const struct ended *ended = ended_place(catalog, source->sender_id, part->transfer_id);
    bool delivered = ended->used && ended->delivered && ended->sender_id == source->sender_id &&
                     memcmp(ended->id, part->transfer_id, TRANSFER_ID_SIZE) == 0;
    struct opening opening;
    if (catalog->renumber == NULL || (assembly == NULL && !delivered) ||
        !renumber_take(catalog->renumber, source, part, assembly, &opening))
        return;
    catalog->room.reserved_bytes -= catalog_outstanding(assembly);
    assembly_unbind(assembly);
    catalog->room.reserved_bytes += catalog_outstanding(assembly);
    bind(catalog, assembly, &opening, source->now_ns);
}

void catalog_manifest(struct catalog *catalog, const struct unpack_source *source, const struct frame_manifest *part)
{
    struct assembly *assembly = find_or_open(catalog, source, part->transfer_id, false);
    if (assembly == NULL || assembly->reader != NULL)
        look_again(catalog, source, part, assembly);
    if (assembly == NULL || assembly->state != ASSEMBLY_OPEN)
        return;
    if (part->total > catalog->bounds.manifest + LIMIT_SIGNED_OVERHEAD) {
        /* Nobody has signed this number, so it says nothing against the transfer. */
        catalog->counters.beyond_bounds++;
        if (part->offset == 0)
            catalog->actions->refused(catalog->context, assembly, "has a manifest larger than max_manifest allows",
                                      NULL, 0);
        return;
    }
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
            (void)catalog_make_room(catalog, true, source->now_ns);
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
    uint64_t until_ns = source->now_ns + CATALOG_REFUSAL_NS;
    struct assembly *assembly = catalog_find(catalog, source->sender_id, id);
    /* Without a link key one forged frame would else throw away what has come of a large transfer. */
    if (assembly != NULL && assembly->state == ASSEMBLY_OPEN && assembly->announced)
        assembly->refused_until_ns = until_ns;
    else
        end_transfer(catalog, source, id, CATALOG_REFUSED, until_ns);
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
