// SPDX-License-Identifier: Apache-2.0
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "proto/datagram.h"
#include "tests/sim/sim.h"

#define DELAY_NS   (CLOCK_MILLISECOND_NS)
#define REORDER_NS (3 * CLOCK_MILLISECOND_NS)
#define REPLAY_NS  (4 * CLOCK_SECOND_NS)

enum { GAP_CHANCE = 30000 }; /* per million datagrams */

/* Packets under way, a binary heap by arrival; those that arrive together keep their order by `number`. */
struct flight {
    struct sim_packet packet;
    uint64_t number;
};

struct sim_link {
    struct sim_world *world;
    struct sim_random random;
    struct flight *heap;
    size_t count, capacity;
    uint64_t number;
    bool clear;
    uint64_t gap_end_ns; /* of the newest burst or outage */
    struct sim_packet taken;
};

/*
 * Bursts begin while something is sent. Between two of them lies the time in which a group is sent, its repeat becomes
 * due, and is sent behind the group that began meanwhile: no group is hit twice. Copies of manifests are further apart.
 */
static void start_gap(struct sim_link *link)
{
    const struct sim_setup *setup = &link->world->setup;
    uint64_t length_ns = setup->burst_ns;
    uint64_t rest_ns = 4 * setup->span_ns + 2 * setup->burst_ns + 10 * CLOCK_MILLISECOND_NS;
    if (link->world->now_ns < link->gap_end_ns + rest_ns || !sim_chance(&link->random, GAP_CHANCE))
        return;
    if (setup->weather >= SIM_STORM && sim_chance(&link->random, 300000)) {
        length_ns = sim_between(&link->random, 10 * CLOCK_MILLISECOND_NS,
                                setup->weather == SIM_NIGHT ? 6 * CLOCK_SECOND_NS : CLOCK_SECOND_NS);
        sim_statistics.outages++;
    }
    link->gap_end_ns = link->world->now_ns + sim_between(&link->random, length_ns / 2, length_ns);
}

struct sim_link *sim_link_create(struct sim_world *world)
{
    struct sim_link *link = calloc(1, sizeof *link);
    assert(link != NULL);
    link->world = world;
    link->random.state = sim_next(&world->random);
    link->clear = world->setup.weather == SIM_CLEAR;
    return link;
}

void sim_link_destroy(struct sim_link *link)
{
    for (size_t i = 0; i < link->count; i++)
        free(link->heap[i].packet.bytes);
    free(link->heap);
    free(link->taken.bytes);
    free(link);
}

static bool is_before(const struct flight *a, const struct flight *b)
{
    return a->packet.at_ns != b->packet.at_ns ? a->packet.at_ns < b->packet.at_ns : a->number < b->number;
}

static void swap(struct flight *a, struct flight *b)
{
    struct flight kept = *a;
    *a = *b;
    *b = kept;
}

static void rise(struct sim_link *link, size_t at)
{
    for (; at > 0 && is_before(&link->heap[at], &link->heap[(at - 1) / 2]); at = (at - 1) / 2)
        swap(&link->heap[at], &link->heap[(at - 1) / 2]);
}

void sim_link_lose_in_flight(struct sim_link *link)
{
    size_t kept = 0;
    size_t count = link->count;
    for (size_t i = 0; i < count; i++) {
        if (sim_chance(&link->random, 500000)) {
            free(link->heap[i].packet.bytes);
            link->world->dropped++;
        } else {
            link->heap[kept++] = link->heap[i];
        }
    }
    link->count = kept;
    for (size_t i = 1; i < kept; i++)
        rise(link, i);
}

void sim_link_clear_up(struct sim_link *link)
{
    link->clear = true;
}

static void push(struct sim_link *link, const struct sim_packet *packet)
{
    if (link->count == link->capacity) {
        link->capacity = link->capacity == 0 ? 256 : 2 * link->capacity;
        link->heap = realloc(link->heap, link->capacity * sizeof *link->heap);
        assert(link->heap != NULL);
    }
    size_t at = link->count++;
    link->heap[at] = (struct flight){.packet = *packet, .number = link->number++};
    rise(link, at);
}

static struct sim_packet pop(struct sim_link *link)
{
    struct sim_packet first = link->heap[0].packet;
    link->heap[0] = link->heap[--link->count];
    for (size_t at = 0;;) {
        size_t least = at;
        for (size_t child = 2 * at + 1; child <= 2 * at + 2 && child < link->count; child++)
            if (is_before(&link->heap[child], &link->heap[least]))
                least = child;
        if (least == at)
            return first;
        swap(&link->heap[at], &link->heap[least]);
        at = least;
    }
}

static bool is_lost(struct sim_link *link)
{
    const struct sim_setup *setup = &link->world->setup;
    uint64_t now_ns = link->world->now_ns;
    if (link->clear)
        return false;
    if (now_ns >= link->gap_end_ns)
        start_gap(link);
    return now_ns < link->gap_end_ns || sim_chance(&link->random, setup->loss);
}

static void launch(struct sim_link *link, const uint8_t *header, const uint8_t *symbol, struct sim_packet packet)
{
    packet.bytes = malloc(packet.size);
    assert(packet.bytes != NULL);
    memcpy(packet.bytes, header, DATAGRAM_HEADER_SIZE);
    memcpy(packet.bytes + DATAGRAM_HEADER_SIZE, symbol, packet.size - (size_t)DATAGRAM_HEADER_SIZE);
    if (!link->clear && sim_chance(&link->random, link->world->setup.damage)) {
        /* Found by the tag, wherever it is. */
        packet.bytes[sim_below(&link->random, packet.size)] ^= (uint8_t)sim_between(&link->random, 1, 255);
        packet.in_time = false;
        if (sim_chance(&link->random, 200000))
            packet.size = (uint16_t)sim_below(&link->random, packet.size);
    }
    push(link, &packet);
}

void sim_link_send(struct sim_link *link, const uint8_t *header, const uint8_t *symbol, uint16_t symbol_size,
                   uint32_t record, uint8_t esi)
{
    const struct sim_setup *setup = &link->world->setup;
    struct sim_packet packet = {.at_ns = link->world->now_ns + DELAY_NS,
                                .record = record,
                                .esi = esi,
                                .in_time = true,
                                .size = (uint16_t)(DATAGRAM_HEADER_SIZE + symbol_size)};
    if (!sim_act(&link->world->sender_life))
        return;
    link->world->datagrams++;
    if (is_lost(link)) {
        link->world->dropped++;
        return;
    }
    if (!link->clear && sim_chance(&link->random, setup->reorder))
        packet.at_ns += sim_below(&link->random, REORDER_NS);
    launch(link, header, symbol, packet);
    if (!link->clear && sim_chance(&link->random, setup->duplicate))
        launch(link, header, symbol, packet);
    if (!link->clear && sim_chance(&link->random, setup->replay)) {
        packet.at_ns += sim_below(&link->random, REPLAY_NS);
        packet.in_time = false;
        launch(link, header, symbol, packet);
    }
}

uint64_t sim_link_deadline_ns(const struct sim_link *link)
{
    return link->count == 0 ? UINT64_MAX : link->heap[0].packet.at_ns;
}

const struct sim_packet *sim_link_take(struct sim_link *link)
{
    free(link->taken.bytes);
    link->taken.bytes = NULL;
    if (link->count == 0 || link->heap[0].packet.at_ns > link->world->now_ns)
        return NULL;
    link->taken = pop(link);
    return &link->taken;
}
