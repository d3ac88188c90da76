// SPDX-License-Identifier: Apache-2.0
#include "sender/flight.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum {
    WINDOW_MAX = 512,
    LIMIT_MAX = 4096,
    DESCRIPTORS_SPARE = 400, /* for everything but transfers: a batch's channels, rings, sockets, the database */
};

void flight_init(struct flight *flight, size_t descriptor_limit)
{
    size_t usable = descriptor_limit > 2 * DESCRIPTORS_SPARE ? descriptor_limit - DESCRIPTORS_SPARE : DESCRIPTORS_SPARE;
    *flight = (struct flight){.limit = usable < LIMIT_MAX ? usable : LIMIT_MAX,
                              .window = usable / 4 < WINDOW_MAX ? usable / 4 : WINDOW_MAX};
}

void flight_deinit(struct flight *flight)
{
    free(flight->transfers);
    free(flight->recorded);
    *flight = (struct flight){0};
}

void flight_add(struct flight *flight, struct transfer *transfer)
{
    if (flight->count == flight->capacity) {
        flight->capacity = flight->capacity == 0 ? 256 : 2 * flight->capacity;
        flight->transfers = reallocarray(flight->transfers, flight->capacity, sizeof(struct transfer *));
        flight->recorded = reallocarray(flight->recorded, flight->capacity, sizeof flight->recorded[0]);
        assert(flight->transfers != NULL && flight->recorded != NULL);
    }
    flight->recorded[flight->count] = atomic_load(&transfer->mark);
    flight->transfers[flight->count++] = transfer;
}

void flight_remove(struct flight *flight, const struct transfer *transfer)
{
    for (size_t i = 0; i < flight->count; i++) {
        if (flight->transfers[i] != transfer)
            continue;
        memmove(&flight->transfers[i], &flight->transfers[i + 1], (flight->count - i - 1) * sizeof(struct transfer *));
        memmove(&flight->recorded[i], &flight->recorded[i + 1], (flight->count - i - 1) * sizeof flight->recorded[0]);
        flight->count--;
        return;
    }
}

size_t flight_marks(struct flight *flight, struct ledger_mark *marks, size_t limit)
{
    size_t count = 0;
    for (size_t i = 0; i < flight->count && count < limit; i++) {
        const struct transfer *transfer = flight->transfers[i];
        uint64_t mark = atomic_load(&transfer->mark);
        if (mark < flight->recorded[i] + FLIGHT_MARK_BYTES)
            continue;
        flight->recorded[i] = marks[count].mark = mark;
        memcpy(marks[count].id, transfer->id, TRANSFER_ID_SIZE);
        memcpy(marks[count++].fingerprint, transfer->fingerprint, sizeof transfer->fingerprint);
    }
    return count;
}

uint64_t flight_bytes_left(const struct flight *flight)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < flight->count; i++) {
        uint64_t sent = atomic_load(&flight->transfers[i]->bytes_sent);
        uint64_t total = flight->transfers[i]->total_bytes;
        bytes += total > sent ? total - sent : 0;
    }
    return bytes;
}

void flight_room(const struct flight *flight, size_t room[static CONFIG_PRIORITY_COUNT])
{
    size_t total = flight->limit > flight->count ? flight->limit - flight->count : 0;
    for (int i = 0; i < CONFIG_PRIORITY_COUNT; i++)
        room[i] = flight->window;
    for (size_t i = 0; i < flight->count; i++) {
        const struct transfer *transfer = flight->transfers[i];
        if (room[transfer->priority] > 0 && atomic_load(&transfer->announced_stage) != TRANSFER_STAGE_COPIES)
            room[transfer->priority]--;
    }
    for (int i = 0; i < CONFIG_PRIORITY_COUNT; i++) {
        if (room[i] > total)
            room[i] = total;
        total -= room[i];
    }
}
