// SPDX-License-Identifier: Apache-2.0
#include "receiver/room.h"

#define LEAST_PART 0.01 /* so that of transfers that lack next to nothing the older one goes first */

void room_init(struct room *room, unsigned max_open)
{
    *room = (struct room){
        .limits = {.staging = UINT64_MAX, .reserve = ROOM_RESERVE, .max_open = max_open},
        .announced = {.memory_limit = ROOM_MEMORY, .held_limit = UINT64_MAX},
        .unannounced = {.memory_limit = ROOM_UNANNOUNCED_MEMORY, .held_limit = ROOM_UNANNOUNCED_BYTES},
        .free_bytes = UINT64_MAX,
    };
}

static uint64_t over(uint64_t taken, uint64_t bound)
{
    return taken > bound ? taken - bound : 0;
}

void room_bound(struct room *room)
{
    uint64_t rest = over(room->limits.staging, room->announced.held);
    room->announced.held_limit = over(room->limits.staging, room->unannounced.held);
    room->unannounced.held_limit = rest < ROOM_UNANNOUNCED_BYTES ? rest : ROOM_UNANNOUNCED_BYTES;
}

uint64_t room_shortfall(const struct room *room, const struct assembly *assembly)
{
    uint64_t needed = over(assembly->total_bytes, assembly->held_bytes);
    if (needed == 0)
        return 0;
    uint64_t taken = room->reserved_bytes + needed;
    uint64_t held = room->announced.held + room->unannounced.held;
    uint64_t on_disk = over(taken, over(room->free_bytes, room->limits.reserve));
    uint64_t in_staging = over(taken + held, room->limits.staging);
    return on_disk > in_staging ? on_disk : in_staging;
}

bool room_is_overcommitted(const struct room *room)
{
    return room->reserved_bytes > over(room->free_bytes, room->limits.reserve / 2);
}

double room_dispensable(const struct assembly *assembly, uint64_t now_ns)
{
    uint64_t idle_ns = over(now_ns, assembly->progress_ns);
    if (assembly->state != ASSEMBLY_OPEN || idle_ns < ROOM_IDLE_NS)
        return 0;
    double held = assembly->total_bytes == 0 ? 0 : (double)assembly->held_bytes / (double)assembly->total_bytes;
    return (double)idle_ns * (1 + LEAST_PART - (held < 1 ? held : 1));
}
