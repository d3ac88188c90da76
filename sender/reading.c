// SPDX-License-Identifier: Apache-2.0
#include "sender/reading.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/checksum.h"
#include "proto/manifest.h"
#include "sender/artifact.h"

enum {
    DROP_FROM = 64 << 20, /* files larger than this do not stay in the page cache */
    DROP_EACH = 8 << 20,
};

static void make_tables(struct transfer *transfer)
{
    const struct listing *listing = transfer->listing;
    uint64_t chunks = 0;
    for (size_t i = 0; i < listing->count; i++) {
        uint64_t count = manifest_chunk_count(listing->entries[i].size);
        if (listing->entries[i].kind == MANIFEST_FILE && count > 1)
            chunks += count;
    }
    free(transfer->sha256);
    free(transfer->chunk_hashes);
    transfer->sha256 = calloc(listing->artifact_count > 0 ? listing->artifact_count : 1, sizeof *transfer->sha256);
    transfer->chunk_hashes = calloc(chunks > 0 ? (size_t)chunks : 1, sizeof *transfer->chunk_hashes);
    assert(transfer->sha256 != NULL && transfer->chunk_hashes != NULL);
    transfer->chunk_hash_count = 0;
}

struct reading *reading_create(struct transfer *transfer)
{
    struct reading *reading = calloc(1, sizeof *reading);
    assert(reading != NULL);
    reading->transfer = transfer;
    reading->fd = -1;
    return reading;
}

void reading_destroy(struct reading *reading)
{
    if (reading == NULL)
        return;
    if (reading->fd >= 0)
        close(reading->fd);
    resend_destroy(reading->resend);
    digest_destroy(reading->digest);
    checksum_destroy(reading->checksum);
    free(reading);
}

void reading_insert(struct reading *head, struct reading *reading)
{
    reading->previous = head->previous;
    reading->next = head;
    head->previous->next = reading;
    head->previous = reading;
}

void reading_remove(struct reading *reading)
{
    reading->previous->next = reading->next;
    reading->next->previous = reading->previous;
    reading_destroy(reading);
}

enum schedule_class reading_class(const struct reading *reading)
{
    const struct transfer *transfer = reading->transfer;
    switch (transfer->kind) {
    case TRANSFER_REPLAY:
        return transfer->now ? SCHEDULE_NOW : SCHEDULE_REPLAY;
    case TRANSFER_HEAL:
        return SCHEDULE_HEAL;
    case TRANSFER_FRESH:
        break;
    }
    return SCHEDULE_HIGH + (enum schedule_class)transfer->priority;
}

static void give_up(struct reading *reading, size_t entry, enum transfer_outcome outcome, const char *what,
                    const char *why)
{
    struct transfer *transfer = reading->transfer;
    reading->ended = true;
    if (transfer->outcome != TRANSFER_PENDING)
        return;
    transfer->outcome = outcome;
    snprintf(transfer->reason, sizeof transfer->reason, "%s (%s): %s", what, why,
             transfer->listing->entries[entry].path);
}

static enum reading_result open_failed(struct reading *reading, int error)
{
    if (artifact_error_passes(error))
        return READING_LATER;
    switch (error) {
    case ESTALE:
        give_up(reading, reading->entry, TRANSFER_RETURNED, "changed while it was read", "not what the scan saw");
        return READING_ENDED;
    case ENOENT:
    case ENOTDIR:
    case ELOOP:
    case EXDEV:
        give_up(reading, reading->entry, TRANSFER_RETURNED, "changed while it was read", strerror(error));
        return READING_ENDED;
    default:
        give_up(reading, reading->entry, TRANSFER_REFUSED, "can't be read", strerror(error));
        return READING_ENDED;
    }
}

static enum reading_result open_file(struct reading *reading)
{
    const struct transfer *transfer = reading->transfer;
    int fd = artifact_open(transfer->directory_fd, &transfer->listing->entries[reading->entry]);
    if (fd < 0)
        return open_failed(reading, -fd);
    reading->fd = fd;
    return READING_DATA;
}

/* Directories and symlinks have no data, empty files only a digest. */
static void skip_without_data(struct reading *reading)
{
    const struct listing *listing = reading->transfer->listing;
    for (; reading->entry < listing->count; reading->entry++) {
        const struct listing_entry *entry = &listing->entries[reading->entry];
        if (entry->kind != MANIFEST_FILE)
            continue;
        if (entry->size > 0)
            return;
        digest_once("", 0, reading->transfer->sha256[reading->artifact++]);
    }
}

enum reading_result reading_next(struct reading *reading, struct frame_data *data, int *fd)
{
    if (reading->ended)
        return READING_ENDED;
    if (reading->digest == NULL) {
        make_tables(reading->transfer);
        reading->digest = digest_create();
        reading->checksum = checksum_create();
        atomic_store(&reading->transfer->announced_stage, TRANSFER_STAGE_READING);
    }
    skip_without_data(reading);
    if (reading->entry == reading->transfer->listing->count) {
        reading->ended = true;
        return READING_ENDED;
    }
    if (reading->fd < 0) {
        enum reading_result result = open_file(reading);
        if (result != READING_DATA)
            return result;
    }
    *data = (struct frame_data){.transfer_id = reading->transfer->id,
                                .artifact = reading->artifact,
                                .artifact_size = reading->transfer->listing->entries[reading->entry].size,
                                .offset = reading->offset};
    *fd = reading->fd;
    return READING_DATA;
}

bool reading_planned(struct reading *reading, uint32_t size)
{
    reading->pieces++;
    reading->offset += size;
    reading->position += size;
    if (reading->offset < reading->transfer->listing->entries[reading->entry].size)
        return false;
    reading->fd = -1;
    reading->offset = 0;
    reading->entry++;
    reading->artifact++;
    return true;
}

bool reading_catches_up(const struct reading *reading)
{
    return !reading->ended && reading->position < reading->transfer->resume_at;
}

uint32_t reading_catch_up_size(const struct reading *reading, uint32_t limit)
{
    uint64_t left = reading->transfer->listing->entries[reading->entry].size - reading->offset;
    uint64_t chunk_left = CHUNK_SIZE - reading->offset % CHUNK_SIZE;
    uint64_t known_left = reading->transfer->resume_at - reading->position;
    uint64_t size = left < chunk_left ? left : chunk_left;
    size = known_left < size ? known_left : size;
    return size < limit ? (uint32_t)size : limit;
}

static void drop_behind(struct reading *reading, int fd, uint64_t end)
{
    if (end < reading->dropped + DROP_EACH)
        return;
    (void)posix_fadvise(fd, (off_t)reading->dropped, (off_t)(end - reading->dropped), POSIX_FADV_DONTNEED);
    reading->dropped = end;
}

/* The file that pieces are being taken of. */
static const struct listing_entry *taken_file(struct reading *reading)
{
    const struct listing *listing = reading->transfer->listing;
    for (;; reading->taken_entry++) {
        assert(reading->taken_entry < listing->count);
        const struct listing_entry *entry = &listing->entries[reading->taken_entry];
        if (entry->kind != MANIFEST_FILE)
            continue;
        if (entry->size > 0)
            return entry;
        reading->taken_artifact++;
    }
}

/* An artifact of one chunk has no chunk hash of its own. */
static void hash(struct reading *reading, const uint8_t *bytes, uint32_t size, uint64_t end, uint64_t file_size)
{
    struct transfer *transfer = reading->transfer;
    digest_update(reading->digest, bytes, size);
    if (end == file_size)
        digest_final(reading->digest, transfer->sha256[reading->taken_artifact]);
    if (file_size <= CHUNK_SIZE)
        return;
    checksum_update(reading->checksum, bytes, size);
    if (end % CHUNK_SIZE != 0 && end != file_size)
        return;
    checksum_final(reading->checksum, transfer->chunk_hashes[transfer->chunk_hash_count++]);
    checksum_reset(reading->checksum);
}

void reading_take(struct reading *reading, const uint8_t *bytes, uint32_t size, uint64_t offset, int fd)
{
    struct transfer *transfer = reading->transfer;
    assert(reading->pieces > 0);
    reading->pieces--;
    if (transfer->outcome != TRANSFER_PENDING)
        return;
    uint64_t end = offset + size;
    uint64_t file_size = taken_file(reading)->size;
    hash(reading, bytes, size, end, file_size);
    if (file_size > DROP_FROM)
        drop_behind(reading, fd, end);
    if (end == file_size) {
        reading->dropped = 0;
        reading->taken_entry++;
        reading->taken_artifact++;
    }
    atomic_fetch_add_explicit(&transfer->bytes_sent, size, memory_order_relaxed);
}

void reading_failed(struct reading *reading, int error)
{
    assert(reading->pieces > 0);
    reading->pieces--;
    if (reading->transfer->outcome != TRANSFER_PENDING)
        return;
    (void)taken_file(reading);
    if (error < 0)
        give_up(reading, reading->taken_entry, TRANSFER_RETURNED, "changed while it was read", "it became shorter");
    else
        give_up(reading, reading->taken_entry, TRANSFER_REFUSED, "can't be read", strerror(error));
}

bool reading_is_over(const struct reading *reading)
{
    return reading->ended && reading->pieces == 0;
}
