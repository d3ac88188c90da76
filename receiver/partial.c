// SPDX-License-Identifier: Apache-2.0
#include "receiver/partial.h"

#include <assert.h>
#include <endian.h>
#include <stdlib.h>
#include <string.h>

#include "common/checksum.h"

enum {
    CAPACITY_MIN = 16,
    HASHED_MARK = 0x80, /* in the stored kind */
    HEAD_SIZE = 1 + 4 + 8 + 8,
};

_Static_assert((int)CHECKSUM128_SIZE == (int)CHUNK_HASH_SIZE, "a chunk hash is an XXH3-128");

struct partial {
    struct partial_list list;
    uint64_t bytes;
    bool overflown;
    struct partial_entry run;  /* of HELD, being extended; not in the list yet. Empty: first == end */
    struct checksum *checksum; /* of the run, when it is hashed */
};

void partial_list_deinit(struct partial_list *list)
{
    free(list->entries);
    *list = (struct partial_list){0};
}

static bool reserve(struct partial_list *list, size_t count)
{
    if (count <= list->capacity)
        return true;
    size_t capacity = list->capacity == 0 ? CAPACITY_MIN : list->capacity;
    while (capacity < count)
        capacity *= 2;
    struct partial_entry *entries = realloc(list->entries, capacity * sizeof *entries);
    if (entries == NULL)
        return false;
    list->entries = entries;
    list->capacity = capacity;
    return true;
}

bool partial_list_add(struct partial_list *list, const struct partial_entry *entry)
{
    if (!reserve(list, list->count + 1))
        return false;
    list->entries[list->count++] = *entry;
    return true;
}

bool partial_list_prepend(struct partial_list *list, struct partial_list *first)
{
    if (first->count > 0) {
        if (!reserve(list, list->count + first->count))
            return false;
        memmove(list->entries + first->count, list->entries, list->count * sizeof *list->entries);
        memcpy(list->entries, first->entries, first->count * sizeof *list->entries);
        list->count += first->count;
    }
    partial_list_deinit(first);
    return true;
}

static void put_number(uint8_t *out, uint64_t value)
{
    value = htole64(value);
    memcpy(out, &value, sizeof value);
}

static uint64_t get_number(const uint8_t *bytes)
{
    uint64_t value;
    memcpy(&value, bytes, sizeof value);
    return le64toh(value);
}

uint8_t *partial_encode(const struct partial_list *list, size_t *size)
{
    uint8_t *bytes = malloc(list->count * (HEAD_SIZE + CHUNK_HASH_SIZE) + 1);
    if (bytes == NULL)
        return NULL;
    uint8_t *out = bytes;
    for (size_t i = 0; i < list->count; i++) {
        const struct partial_entry *entry = &list->entries[i];
        uint32_t file = htole32(entry->file);
        out[0] = (uint8_t)(entry->kind | (entry->hashed ? HASHED_MARK : 0));
        memcpy(out + 1, &file, sizeof file);
        put_number(out + 5, entry->first);
        put_number(out + 13, entry->end);
        out += HEAD_SIZE;
        if (entry->hashed)
            memcpy(out, entry->hash, CHUNK_HASH_SIZE);
        out += entry->hashed ? CHUNK_HASH_SIZE : 0;
    }
    *size = (size_t)(out - bytes);
    return bytes;
}

bool partial_decode(const uint8_t *bytes, size_t size, void (*visit)(const struct partial_entry *entry, void *context),
                    void *context)
{
    while (size > 0) {
        if (size < HEAD_SIZE)
            return false;
        uint32_t file;
        memcpy(&file, bytes + 1, sizeof file);
        struct partial_entry entry = {.kind = bytes[0] & (HASHED_MARK - 1),
                                      .hashed = (bytes[0] & HASHED_MARK) != 0,
                                      .file = le32toh(file),
                                      .first = get_number(bytes + 5),
                                      .end = get_number(bytes + 13)};
        size_t used = HEAD_SIZE + (entry.hashed ? CHUNK_HASH_SIZE : 0);
        bool is_range = entry.kind == PARTIAL_HELD || (entry.kind == PARTIAL_LOST && !entry.hashed);
        bool is_place = entry.kind == PARTIAL_PLACE && !entry.hashed && entry.file < LIMIT_ARTIFACTS;
        if (size < used || (!is_range && !is_place) || (is_range && entry.first >= entry.end) ||
            (entry.file >= LIMIT_ARTIFACTS && entry.file != PARTIAL_SMALL))
            return false;
        if (entry.hashed)
            memcpy(entry.hash, bytes + HEAD_SIZE, CHUNK_HASH_SIZE);
        visit(&entry, context);
        bytes += used;
        size -= used;
    }
    return true;
}

struct partial *partial_create(void)
{
    return calloc(1, sizeof(struct partial));
}

void partial_destroy(struct partial *partial)
{
    if (partial == NULL)
        return;
    partial_list_deinit(&partial->list);
    checksum_destroy(partial->checksum);
    free(partial);
}

void partial_start_anew(struct partial *partial)
{
    partial_list_deinit(&partial->list);
    partial->run = (struct partial_entry){0};
    partial->overflown = true;
}

static void add(struct partial *partial, const struct partial_entry *entry)
{
    if (partial->overflown)
        return;
    if (partial->list.count >= PARTIAL_ENTRIES || !partial_list_add(&partial->list, entry))
        partial_start_anew(partial);
}

static void end_run(struct partial *partial)
{
    if (partial->run.first == partial->run.end)
        return;
    struct partial_entry run = partial->run;
    if (run.hashed)
        checksum_final(partial->checksum, run.hash);
    partial->run = (struct partial_entry){0};
    add(partial, &run);
}

static void start_run(struct partial *partial, uint32_t file, uint64_t offset, bool hash)
{
    end_run(partial);
    partial->run =
        (struct partial_entry){.kind = PARTIAL_HELD, .hashed = hash, .file = file, .first = offset, .end = offset};
    if (!hash)
        return;
    if (partial->checksum == NULL)
        partial->checksum = checksum_create();
    else
        checksum_reset(partial->checksum);
}

void partial_place(struct partial *partial, uint32_t index, uint64_t place, uint64_t size)
{
    struct partial_entry entry = {.kind = PARTIAL_PLACE, .file = index, .first = place, .end = size};
    add(partial, &entry);
}

void partial_hold(struct partial *partial, uint32_t file, uint64_t offset, const uint8_t *bytes, uint32_t size,
                  bool hash)
{
    partial->bytes += size;
    if (partial->overflown)
        return;
    while (size > 0) {
        const struct partial_entry *run = &partial->run;
        uint32_t left = (uint32_t)(CHUNK_SIZE - offset % CHUNK_SIZE);
        uint32_t now = size < left ? size : left;
        if (run->first == run->end || run->file != file || run->end != offset || offset % CHUNK_SIZE == 0 ||
            run->hashed != hash)
            start_run(partial, file, offset, hash);
        if (hash)
            checksum_update(partial->checksum, bytes, now);
        partial->run.end += now;
        offset += now;
        bytes += now;
        size -= now;
    }
}

void partial_lose(struct partial *partial, uint32_t file, uint64_t first, uint64_t end)
{
    struct partial_entry entry = {.kind = PARTIAL_LOST, .file = file, .first = first, .end = end};
    assert(first < end);
    end_run(partial);
    add(partial, &entry);
}

bool partial_is_empty(const struct partial *partial)
{
    return partial->list.count == 0 && partial->run.first == partial->run.end && !partial->overflown;
}

uint64_t partial_bytes(const struct partial *partial)
{
    return partial->bytes;
}

bool partial_has_overflown(const struct partial *partial)
{
    return partial->overflown;
}

struct partial_list partial_cut(struct partial *partial)
{
    end_run(partial);
    struct partial_list list = partial->list;
    partial->list = (struct partial_list){0};
    partial->bytes = 0;
    partial->overflown = false;
    return list;
}

void partial_give_back(struct partial *partial, struct partial_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        if (list->entries[i].kind == PARTIAL_HELD)
            partial->bytes += list->entries[i].end - list->entries[i].first;
    if (!partial->overflown && partial->list.count + list->count <= PARTIAL_ENTRIES &&
        partial_list_prepend(&partial->list, list))
        return;
    partial_list_deinit(list);
    partial_start_anew(partial);
}
