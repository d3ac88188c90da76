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
#define CROWDED_NS UINT64_C(250000000) /* that nobody is looked for again who could make room */

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
    struct room room;
    unsigned count;             /* not closed */
    unsigned unannounced_count; /* of these */
    uint64_t crowded_ns[2];     /* when nobody was found to make room, among all and among the unannounced */
    uint64_t made_room_ns;      /* when transfers were last closed for the sake of bytes; 0: never */
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
    room_init(&catalog->room, CATALOG_OPEN);
    return catalog;
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
    catalog->room.reserved_bytes -= outstanding(assembly);
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
        catalog->room.reserved_bytes -= outstanding(assembly);
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

/* The transfer that is to make room for `other` (may be NULL), if there is one. */
static struct assembly *find_dispensable(struct catalog *catalog, bool among_unannounced, const struct assembly *other,
                                         uint64_t now_ns)
{
    struct assembly *found = NULL;
    double most = 0;
    for (struct assembly *assembly = catalog->oldest; assembly != NULL; assembly = assembly->newer) {
        if (now_ns - assembly->progress_ns < ROOM_IDLE_NS)
            break;
        double value = room_dispensable(assembly, now_ns);
        if (value <= most || assembly == other || (among_unannounced && assembly->announced))
            continue;
        found = assembly;
        most = value;
    }
    return found;
}

static bool make_room(struct catalog *catalog, bool among_unannounced, uint64_t now_ns)
{
    uint64_t *crowded_ns = &catalog->crowded_ns[among_unannounced];
    if (*crowded_ns != 0 && now_ns - *crowded_ns < CROWDED_NS)
        return false;
    struct assembly *assembly = find_dispensable(catalog, among_unannounced, NULL, now_ns);
    *crowded_ns = assembly == NULL ? now_ns : 0;
    if (assembly == NULL)
        return false;
    catalog_close(catalog, assembly, CATALOG_EVICTED);
    return true;
}

/* With `vouched` a signature is at hand: the quota of those without one neither counts nor stands in the way. */
static struct assembly *open_assembly(struct catalog *catalog, const struct unpack_source *source, const uint8_t *id,
                                      bool vouched)
{
    if (!vouched && catalog->unannounced_count >= CATALOG_UNANNOUNCED && !make_room(catalog, true, source->now_ns))
        return NULL;
    if (catalog->count >= catalog->room.limits.max_open && !make_room(catalog, false, source->now_ns))
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
    catalog->room.announced.held_limit = catalog->room.limits.staging;
    if (!assembly_move_budget(assembly, &catalog->room.announced))
        return false;
    assembly->announced = true;
    catalog->unannounced_count--;
    catalog->counters.announced++;
    return true;
}

/* Decides on the room for a transfer whose total is known; what was admitted stays admitted. */
static bool admit(const struct catalog *catalog, struct assembly *assembly)
{
    assembly->admitted = room_shortfall(&catalog->room, assembly) == 0;
    return assembly->admitted;
}

/* Closes transfers that stand still until this one fits; none, when that would not be enough. */
static void make_bytes(struct catalog *catalog, const struct assembly *assembly, uint64_t now_ns)
{
    uint64_t lacking = room_shortfall(&catalog->room, assembly);
    uint64_t found = 0;
    /* What was closed is still being deleted: the free bytes don't tell yet. */
    if (catalog->made_room_ns != 0 && now_ns - catalog->made_room_ns < ROOM_IDLE_NS)
        return;
    for (const struct assembly *other = catalog->oldest; other != NULL; other = other->newer)
        if (other != assembly && room_dispensable(other, now_ns) > 0)
            found += other->held_bytes + outstanding(other);
    while (found >= lacking && lacking > 0) {
        struct assembly *other = find_dispensable(catalog, false, assembly, now_ns);
        if (other == NULL)
            return;
        catalog->made_room_ns = now_ns;
        if (catalog->room.free_bytes != UINT64_MAX)
            catalog->room.free_bytes += other->held_bytes;
        catalog_close(catalog, other, CATALOG_EVICTED);
        lacking = room_shortfall(&catalog->room, assembly);
    }
}

/* What stands still may never go on: its room is for others, until it does. */
static void set_lapsed(struct catalog *catalog, struct assembly *assembly, bool lapsed)
{
    catalog->room.reserved_bytes -= outstanding(assembly);
    assembly->lapsed = lapsed;
    catalog->room.reserved_bytes += outstanding(assembly);
}

static void give_up_expired(struct catalog *catalog, uint64_t now_ns)
{
    struct assembly *newer;
    for (struct assembly *assembly = catalog->oldest; assembly != NULL; assembly = newer) {
        newer = assembly->newer;
        if (now_ns - assembly->progress_ns < CATALOG_EXPIRE_NS)
            return;
        if (assembly->state == ASSEMBLY_OPEN && !assembly->announced)
            catalog_close(catalog, assembly, CATALOG_EXPIRED);
    }
}

/* The disk has shrunk under what was admitted: the largest wait again, so that smaller ones find room. */
static void hold_back(struct catalog *catalog)
{
    while (room_is_overcommitted(&catalog->room)) {
        struct assembly *largest = NULL;
        for (struct assembly *assembly = catalog->oldest; assembly != NULL; assembly = assembly->newer)
            if (assembly->state == ASSEMBLY_OPEN && outstanding(assembly) > 0 &&
                (largest == NULL || outstanding(assembly) > outstanding(largest)))
                largest = assembly;
        if (largest == NULL)
            return;
        catalog->room.reserved_bytes -= outstanding(largest);
        catalog->counters.not_admitted++;
        largest->admitted = false;
    }
}

void catalog_set_free_bytes(struct catalog *catalog, uint64_t free_bytes, uint64_t now_ns)
{
    give_up_expired(catalog, now_ns);
    catalog->room.free_bytes = free_bytes;
    for (struct assembly *assembly = catalog->oldest; assembly != NULL; assembly = assembly->newer)
        if (assembly->state == ASSEMBLY_OPEN && !assembly->lapsed && now_ns - assembly->progress_ns >= CATALOG_LAPSE_NS)
            set_lapsed(catalog, assembly, true);
    hold_back(catalog);
    for (struct assembly *assembly = catalog->oldest; assembly != NULL; assembly = assembly->newer)
        if (assembly->state == ASSEMBLY_OPEN && !assembly->admitted && admit(catalog, assembly))
            catalog->room.reserved_bytes += outstanding(assembly);
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
    catalog->room.reserved_bytes -= outstanding(assembly);
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
    if (!admit(catalog, assembly)) {
        make_bytes(catalog, assembly, source->now_ns);
        catalog->counters.not_admitted += !admit(catalog, assembly);
    }
    catalog->room.reserved_bytes += outstanding(assembly);
}

void catalog_lose(struct catalog *catalog, struct assembly *assembly, uint32_t index, uint64_t first, uint64_t end)
{
    catalog->room.reserved_bytes -= outstanding(assembly);
    assembly_lose(assembly, index, first, end);
    catalog->room.reserved_bytes += outstanding(assembly);
}

void catalog_hold(struct catalog *catalog, struct assembly *assembly, uint32_t index, uint64_t first, uint64_t end)
{
    catalog->room.reserved_bytes -= outstanding(assembly);
    room_bound(&catalog->room);
    assembly_hold(assembly, index, first, end);
    catalog->room.reserved_bytes += outstanding(assembly);
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
    uint64_t before = outstanding(assembly);
    room_bound(&catalog->room);
    enum assembly_outcome outcome =
        assembly_data(assembly, data, source->now_ns, catalog->actions->write, catalog->context);
    catalog->room.reserved_bytes -= before - outstanding(assembly);
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
    catalog->room.reserved_bytes -= outstanding(assembly);
    if (!promote(catalog, assembly) ||
        !assembly_bind(assembly, &message, reader, now_ns, catalog->actions->reset, catalog->context)) {
        manifest_reader_destroy(reader);
        signed_message_deinit(&message);
        assembly_drop_parts(assembly);
        catalog->room.reserved_bytes += outstanding(assembly);
        catalog->counters.over_limit++;
        return;
    }
    if (!announced)
        catalog->counters.not_admitted += !admit(catalog, assembly);
    catalog->room.reserved_bytes += outstanding(assembly);
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
