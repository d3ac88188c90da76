// SPDX-License-Identifier: Apache-2.0
#include "sender/parts.h"

#include <assert.h>
#include <endian.h>
#include <string.h>

#include "proto/manifest.h"

enum { NUMBER_SIZE = sizeof(uint64_t), RANGE_SIZE = 2 * NUMBER_SIZE };

static void remove_range(struct parts *parts, size_t index)
{
    memmove(&parts->ranges[index], &parts->ranges[index + 1],
            (parts->range_count - index - 1) * sizeof parts->ranges[0]);
    parts->range_count--;
}

/* Joins the two neighbours with the smallest gap. */
static void join_nearest(struct parts *parts)
{
    size_t nearest = 0;
    for (size_t i = 1; i + 1 < parts->range_count; i++)
        if (parts->ranges[i + 1].first - parts->ranges[i].last <
            parts->ranges[nearest + 1].first - parts->ranges[nearest].last)
            nearest = i;
    parts->ranges[nearest].last = parts->ranges[nearest + 1].last;
    remove_range(parts, nearest + 1);
}

void parts_add(struct parts *parts, uint64_t first, uint64_t last)
{
    size_t at = 0;
    assert(first <= last && last < UINT64_MAX);
    if (!parts->manifest_only && parts->range_count == 0)
        return;
    parts->manifest_only = false;
    /* What touches or overlaps goes into the new one. */
    while (at < parts->range_count && parts->ranges[at].last + 1 < first)
        at++;
    while (at < parts->range_count && parts->ranges[at].first <= last + 1) {
        if (parts->ranges[at].first < first)
            first = parts->ranges[at].first;
        if (parts->ranges[at].last > last)
            last = parts->ranges[at].last;
        remove_range(parts, at);
    }
    if (parts->range_count == PARTS_RANGES) {
        join_nearest(parts);
        parts_add(parts, first, last);
        return;
    }
    memmove(&parts->ranges[at + 1], &parts->ranges[at], (parts->range_count - at) * sizeof parts->ranges[0]);
    parts->ranges[at] = (struct transfer_range){.first = first, .last = last};
    parts->range_count++;
}

void parts_merge(struct parts *parts, const struct parts *from)
{
    if (from->manifest_only)
        return;
    if (from->range_count == 0) {
        *parts = (struct parts){0};
        return;
    }
    for (size_t i = 0; i < from->range_count; i++)
        parts_add(parts, from->ranges[i].first, from->ranges[i].last);
}

uint64_t parts_chunk_count(const uint64_t *sizes, size_t count)
{
    uint64_t chunks = 0;
    for (size_t i = 0; i < count; i++)
        chunks += manifest_chunk_count(sizes[i]);
    return chunks;
}

/* Bytes of an artifact's chunks among [first, last], when its own begin at number `base`. */
static uint64_t bytes_within(uint64_t size, uint64_t base, uint64_t chunks, const struct transfer_range *range)
{
    if (chunks == 0 || range->last < base || range->first >= base + chunks)
        return 0;
    uint64_t first = range->first > base ? range->first - base : 0;
    uint64_t last = range->last - base < chunks - 1 ? range->last - base : chunks - 1;
    uint64_t end = last == chunks - 1 ? size : (last + 1) * CHUNK_SIZE;
    return end - first * CHUNK_SIZE;
}

uint64_t parts_bytes(const struct parts *parts, const uint64_t *sizes, size_t count)
{
    uint64_t bytes = 0, base = 0;
    if (parts->manifest_only)
        return 0;
    for (size_t i = 0; i < count; i++) {
        uint64_t chunks = manifest_chunk_count(sizes[i]);
        if (parts->range_count == 0)
            bytes += sizes[i];
        for (size_t range = 0; range < parts->range_count; range++)
            bytes += bytes_within(sizes[i], base, chunks, &parts->ranges[range]);
        base += chunks;
    }
    return bytes;
}

void parts_skip(struct parts *parts, const uint64_t *sizes, size_t count, uint64_t mark)
{
    uint64_t chunk = 0, total = parts_chunk_count(sizes, count);
    if (parts->manifest_only || mark == 0)
        return;
    for (size_t i = 0; i < count; i++) {
        if (mark < sizes[i]) {
            chunk += mark / CHUNK_SIZE;
            break;
        }
        mark -= sizes[i];
        chunk += manifest_chunk_count(sizes[i]);
    }
    if (parts->range_count == 0 && chunk < total) {
        parts->ranges[0] = (struct transfer_range){.first = 0, .last = total - 1};
        parts->range_count = 1;
    }
    while (parts->range_count > 0 && parts->ranges[0].last < chunk)
        remove_range(parts, 0);
    if (parts->range_count == 0)
        parts->manifest_only = true;
    else if (parts->ranges[0].first < chunk)
        parts->ranges[0].first = chunk;
}

size_t parts_encode(const struct parts *parts, uint8_t bytes[static PARTS_ENCODED_SIZE])
{
    for (size_t i = 0; i < parts->range_count; i++) {
        uint64_t first = htole64(parts->ranges[i].first), last = htole64(parts->ranges[i].last);
        memcpy(bytes + i * RANGE_SIZE, &first, NUMBER_SIZE);
        memcpy(bytes + i * RANGE_SIZE + NUMBER_SIZE, &last, NUMBER_SIZE);
    }
    return parts->range_count * RANGE_SIZE;
}

bool parts_decode(struct parts *parts, const uint8_t *bytes, size_t size)
{
    parts->range_count = 0;
    if (size % RANGE_SIZE != 0 || size > PARTS_ENCODED_SIZE)
        return false;
    for (size_t i = 0; i < size / RANGE_SIZE; i++) {
        uint64_t first, last;
        memcpy(&first, bytes + i * RANGE_SIZE, NUMBER_SIZE);
        memcpy(&last, bytes + i * RANGE_SIZE + NUMBER_SIZE, NUMBER_SIZE);
        struct transfer_range range = {.first = le64toh(first), .last = le64toh(last)};
        if (range.first > range.last || range.last == UINT64_MAX ||
            (i > 0 && range.first <= parts->ranges[i - 1].last + 1))
            return false;
        parts->ranges[parts->range_count++] = range;
    }
    return true;
}
