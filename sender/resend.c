// SPDX-License-Identifier: Apache-2.0
#include "sender/resend.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/checksum.h"
#include "common/digest.h"
#include "proto/manifest.h"
#include "proto/signed.h"
#include "sender/artifact.h"

enum {
    READ_SIZE = 256 << 10, /* of one read: several make a chunk, so that others' reads come between */
    DROP_FROM = 64 << 20,  /* files larger than this do not stay in the page cache */
};

struct resend {
    struct transfer *transfer;
    struct signed_message message; /* the manifest's body */
    struct manifest_reader *reader;
    uint8_t *scratch;
    struct digest *digest;
    struct checksum *checksum;
    size_t range; /* of the transfer's ranges: the one at or behind the current chunk */
    bool ended;

    /* The artifact that is being sent. */
    bool opened;
    size_t entry; /* of the listing, and of the manifest */
    uint32_t artifact;
    uint64_t first_chunk, chunk_count; /* its chunks, numbered through the transfer */
    uint64_t first_byte;               /* in the transfer */
    uint8_t sha256[SHA256_SIZE];
    const uint8_t *chunk_hashes; /* NULL when it has one chunk */
    int fd;

    /* The chunk that is read or sent. */
    uint64_t chunk; /* in the artifact */
    uint32_t size, planned, taken, packed;
    unsigned reads; /* under way */
};

static void give_up(struct resend *resend, const char *path, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static void give_up(struct resend *resend, const char *path, const char *format, ...)
{
    struct transfer *transfer = resend->transfer;
    char why[200];
    va_list arguments;
    resend->ended = true;
    if (transfer->outcome != TRANSFER_PENDING)
        return;
    va_start(arguments, format);
    vsnprintf(why, sizeof why, format, arguments);
    va_end(arguments);
    transfer->outcome = TRANSFER_REFUSED;
    if (path != NULL)
        snprintf(transfer->reason, sizeof transfer->reason, "%s: %s", why, path);
    else
        snprintf(transfer->reason, sizeof transfer->reason, "%s", why);
}

static const struct listing_entry *listed(const struct resend *resend)
{
    return &resend->transfer->listing->entries[resend->entry];
}

static bool open_manifest(struct resend *resend)
{
    const struct transfer *transfer = resend->transfer;
    char why[256];
    enum status status =
        signed_decode(transfer->signed_bytes, transfer->signed_size, LIMIT_MANIFEST_SIZE, &resend->message);
    if (status != STATUS_OK) {
        give_up(resend, NULL, "the manifest that the ledger keeps of it is damaged");
        return false;
    }
    status = manifest_reader_create(resend->message.body, resend->message.body_size, &resend->reader, why);
    if (status != STATUS_OK) {
        give_up(resend, NULL, "the manifest that the ledger keeps of it can't be read: %.150s",
                status == STATUS_INVALID ? why : "no memory");
        return false;
    }
    const struct manifest_head *head = manifest_reader_head(resend->reader);
    if (head->sequence != transfer->sequence || memcmp(head->transfer_id, transfer->id, TRANSFER_ID_SIZE) != 0) {
        give_up(resend, NULL, "the ledger keeps another transfer's manifest for it");
        return false;
    }
    return true;
}

static bool entries_agree(const struct listing_entry *found, const struct manifest_entry *sent)
{
    return found->kind == sent->kind && (sent->kind != MANIFEST_FILE || found->size == sent->size) &&
           strcmp(found->path, sent->path) == 0;
}

/* The whole listing, before anything is sent. */
static bool compare_listing(struct resend *resend)
{
    const struct transfer *transfer = resend->transfer;
    const struct listing *listing = transfer->listing;
    struct manifest_entry sent;
    uint64_t chunks = 0;
    size_t i = 0;
    for (; manifest_reader_next(resend->reader, &sent); i++) {
        if (i == listing->count || !entries_agree(&listing->entries[i], &sent)) {
            give_up(resend, sent.path, "what is kept is no longer what was sent (missing, or of another kind or size)");
            return false;
        }
        chunks += sent.kind == MANIFEST_FILE ? manifest_chunk_count(sent.size) : 0;
    }
    if (i < listing->count) {
        give_up(resend, listing->entries[i].path, "what is kept is no longer what was sent (added since)");
        return false;
    }
    if (transfer->range_count > 0 && transfer->ranges[transfer->range_count - 1].last >= chunks) {
        give_up(resend, NULL, "chunk %" PRIu64 " does not exist: the transfer has %" PRIu64,
                transfer->ranges[transfer->range_count - 1].last, chunks);
        return false;
    }
    manifest_reader_rewind(resend->reader);
    return true;
}

/* Goes to the next file of the manifest; false at the end. The listing has the same entries. */
static bool next_file(struct resend *resend)
{
    struct manifest_entry sent;
    size_t count;
    while (manifest_reader_next(resend->reader, &sent)) {
        if (sent.kind != MANIFEST_FILE) {
            resend->entry++;
            continue;
        }
        resend->chunk_count = manifest_chunk_count(sent.size);
        resend->chunk_hashes = manifest_reader_chunk_hashes(resend->reader, &count);
        memcpy(resend->sha256, sent.sha256, SHA256_SIZE);
        resend->opened = true;
        resend->chunk = 0;
        return true;
    }
    return false;
}

static void leave_file(struct resend *resend)
{
    assert(resend->reads == 0);
    if (resend->fd >= 0)
        close(resend->fd);
    resend->fd = -1;
    resend->first_byte += listed(resend)->size;
    resend->first_chunk += resend->chunk_count;
    resend->entry++;
    resend->artifact++;
    resend->opened = false;
}

/* Whether the current chunk is asked for; moves on to the range that it lies in or before. */
static bool is_wanted(struct resend *resend)
{
    const struct transfer *transfer = resend->transfer;
    uint64_t number = resend->first_chunk + resend->chunk;
    uint64_t end = resend->chunk + 1 < resend->chunk_count ? (resend->chunk + 1) * CHUNK_SIZE : listed(resend)->size;
    if (transfer->kind == TRANSFER_FRESH)
        return resend->first_byte + end > transfer->resume_at;
    if (transfer->range_count == 0)
        return true;
    while (resend->range < transfer->range_count && transfer->ranges[resend->range].last < number)
        resend->range++;
    return resend->range < transfer->range_count && transfer->ranges[resend->range].first <= number;
}

/* The chunk at or behind the current place that is wanted; false at the end. */
static bool find_chunk(struct resend *resend)
{
    for (;;) {
        if (!resend->opened && !next_file(resend))
            return false;
        for (; resend->chunk < resend->chunk_count; resend->chunk++)
            if (is_wanted(resend))
                return true;
        leave_file(resend);
    }
}

static void start_chunk(struct resend *resend)
{
    const struct transfer *transfer = resend->transfer;
    uint64_t offset = resend->chunk * CHUNK_SIZE, left = listed(resend)->size - offset;
    uint64_t start = resend->first_byte + offset;
    resend->size = left < CHUNK_SIZE ? (uint32_t)left : CHUNK_SIZE;
    resend->planned = resend->taken = resend->packed = 0;
    if (transfer->kind == TRANSFER_FRESH && transfer->resume_at > start)
        resend->packed = (uint32_t)(transfer->resume_at - start);
    digest_reset(resend->digest);
    checksum_reset(resend->checksum);
}

struct resend *resend_create(struct transfer *transfer, uint8_t *scratch)
{
    struct resend *resend = calloc(1, sizeof *resend);
    assert(resend != NULL);
    resend->transfer = transfer;
    resend->scratch = scratch;
    resend->fd = -1;
    resend->digest = digest_create();
    resend->checksum = checksum_create();
    if (!open_manifest(resend) || (!transfer->manifest_only && !compare_listing(resend)))
        return resend;
    if (transfer->manifest_only || !find_chunk(resend))
        resend->ended = true;
    else
        start_chunk(resend);
    return resend;
}

void resend_destroy(struct resend *resend)
{
    if (resend == NULL)
        return;
    if (resend->fd >= 0)
        close(resend->fd);
    manifest_reader_destroy(resend->reader);
    signed_message_deinit(&resend->message);
    digest_destroy(resend->digest);
    checksum_destroy(resend->checksum);
    free(resend);
}

/* True when the file is open; else *result says why not. */
static bool open_file(struct resend *resend, enum resend_result *result)
{
    if (resend->fd >= 0)
        return true;
    int fd = artifact_open(resend->transfer->directory_fd, listed(resend));
    if (fd >= 0) {
        resend->fd = fd;
        return true;
    }
    *result = artifact_error_passes(-fd) ? RESEND_LATER : RESEND_ENDED;
    if (*result == RESEND_ENDED)
        give_up(resend, listed(resend)->path, "what is kept can't be read (%s)",
                fd == -ESTALE ? "it changed just now" : strerror(-fd));
    return false;
}

enum resend_result resend_next(struct resend *resend, struct resend_read *read)
{
    enum resend_result result;
    if (resend->ended)
        return resend->reads > 0 ? RESEND_WAIT : RESEND_ENDED;
    if (resend->taken == resend->size)
        return RESEND_DATA;
    if (resend->planned == resend->size)
        return RESEND_WAIT;
    if (!open_file(resend, &result))
        return result;
    uint32_t left = resend->size - resend->planned;
    *read = (struct resend_read){.fd = resend->fd,
                                 .offset = resend->chunk * CHUNK_SIZE + resend->planned,
                                 .place = resend->scratch + resend->planned,
                                 .size = left < READ_SIZE ? left : READ_SIZE};
    return RESEND_READ;
}

void resend_planned(struct resend *resend, uint32_t size)
{
    assert(resend->planned + size <= resend->size);
    resend->planned += size;
    resend->reads++;
}

/* An artifact of one chunk has no chunk hash of its own. */
static bool chunk_is_sound(struct resend *resend)
{
    uint8_t sha256[SHA256_SIZE], hash[CHUNK_HASH_SIZE];
    if (resend->chunk_hashes == NULL) {
        digest_final(resend->digest, sha256);
        return memcmp(sha256, resend->sha256, SHA256_SIZE) == 0;
    }
    checksum_final(resend->checksum, hash);
    return memcmp(hash, resend->chunk_hashes + resend->chunk * CHUNK_HASH_SIZE, CHUNK_HASH_SIZE) == 0;
}

void resend_take(struct resend *resend, uint32_t size, int error)
{
    assert(resend->reads > 0);
    resend->reads--;
    if (resend->ended)
        return;
    if (error != 0) {
        give_up(resend, listed(resend)->path, "what is kept can't be read (%s)",
                error < 0 ? "it became shorter" : strerror(error));
        return;
    }
    if (resend->chunk_hashes == NULL)
        digest_update(resend->digest, resend->scratch + resend->taken, size);
    else
        checksum_update(resend->checksum, resend->scratch + resend->taken, size);
    resend->taken += size;
    if (resend->taken == resend->size && listed(resend)->size > DROP_FROM)
        (void)posix_fadvise(resend->fd, (off_t)(resend->chunk * CHUNK_SIZE), resend->size, POSIX_FADV_DONTNEED);
    if (resend->taken == resend->size && !chunk_is_sound(resend))
        give_up(resend, listed(resend)->path,
                "what is kept is no longer what was sent (chunk %" PRIu64 " of the transfer has another hash)",
                resend->first_chunk + resend->chunk);
}

void resend_data(const struct resend *resend, struct frame_data *data)
{
    assert(!resend->ended && resend->taken == resend->size && resend->packed < resend->size);
    *data = (struct frame_data){.transfer_id = resend->transfer->id,
                                .artifact = resend->artifact,
                                .artifact_size = listed(resend)->size,
                                .offset = resend->chunk * CHUNK_SIZE + resend->packed,
                                .bytes = resend->scratch + resend->packed,
                                .size = resend->size - resend->packed};
}

void resend_packed(struct resend *resend, uint32_t size)
{
    assert(resend->packed + size <= resend->size);
    resend->packed += size;
    atomic_fetch_add_explicit(&resend->transfer->bytes_sent, size, memory_order_relaxed);
    if (resend->packed < resend->size)
        return;
    resend->chunk++;
    if (find_chunk(resend))
        start_chunk(resend);
    else
        resend->ended = true;
}

uint64_t resend_position(const struct resend *resend)
{
    return resend->first_byte + resend->chunk * CHUNK_SIZE * (resend->opened ? 1 : 0) +
           (resend->opened && !resend->ended ? resend->packed : 0);
}
