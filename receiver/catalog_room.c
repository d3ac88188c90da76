// SPDX-License-Identifier: Apache-2.0
#include <assert.h>

#include "receiver/catalog_private.h"

#define CROWDED_NS UINT64_C(250000000) /* that nobody is looked for again who could make room */

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

bool catalog_make_room(struct catalog *catalog, bool among_unannounced, uint64_t now_ns)
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

bool catalog_admit(const struct catalog *catalog, struct assembly *assembly)
{
    assembly->admitted = room_shortfall(&catalog->room, assembly) == 0;
    return assembly->admitted;
}

void catalog_make_bytes(struct catalog *catalog, const struct assembly *assembly, uint64_t now_ns)
{
    uint64_t lacking = room_shortfall(&catalog->room, assembly);
    uint64_t found = 0;
    /* What was closed is still being deleted: the free bytes don't tell yet. */
    if (catalog->made_room_ns != 0 && now_ns - catalog->made_room_ns < ROOM_IDLE_NS)
        return;
    for (const struct assembly *other = catalog->oldest; other != NULL; other = other->newer)
        if (other != assembly && room_dispensable(other, now_ns) > 0)
            found += other->held_bytes + catalog_outstanding(other);
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

void catalog_set_lapsed(struct catalog *catalog, struct assembly *assembly, bool lapsed)
{
    catalog->room.reserved_bytes -= catalog_outstanding(assembly);
    assembly->lapsed = lapsed;
    catalog->room.reserved_bytes += catalog_outstanding(assembly);
}

static bool is_empty(const struct assembly *assembly)
{
    return assembly->held_bytes == 0 && assembly->parts == NULL && assembly->reader == NULL;
}

static void give_up_expired(struct catalog *catalog, uint64_t now_ns)
{
    struct assembly *newer;
    for (struct assembly *assembly = catalog->oldest; assembly != NULL; assembly = newer) {
        newer = assembly->newer;
        if (now_ns - assembly->progress_ns < CATALOG_EXPIRE_NS)
            return;
        if (assembly->state == ASSEMBLY_OPEN && (!assembly->announced || is_empty(assembly)))
            catalog_close(catalog, assembly, CATALOG_EXPIRED);
    }
}

/* The disk has shrunk under what was admitted: the largest wait again, so that smaller ones find room. */
static void hold_back(struct catalog *catalog)
{
    while (room_is_overcommitted(&catalog->room)) {
        struct assembly *largest = NULL;
        for (struct assembly *assembly = catalog->oldest; assembly != NULL; assembly = assembly->newer)
            if (assembly->state == ASSEMBLY_OPEN && catalog_outstanding(assembly) > 0 &&
                (largest == NULL || catalog_outstanding(assembly) > catalog_outstanding(largest)))
                largest = assembly;
        if (largest == NULL)
            return;
        catalog->room.reserved_bytes -= catalog_outstanding(largest);
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
            catalog_set_lapsed(catalog, assembly, true);
    hold_back(catalog);
    for (struct assembly *assembly = catalog->oldest; assembly != NULL; assembly = assembly->newer)
        if (assembly->state == ASSEMBLY_OPEN && !assembly->admitted && catalog_admit(catalog, assembly))
            catalog->room.reserved_bytes += catalog_outstanding(assembly);
}
