// SPDX-License-Identifier: Apache-2.0
#include "receiver/verify.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/checksum.h"
#include "common/clock.h"
#include "common/digest.h"
#include "proto/manifest.h"
#include "receiver/intake.h"
#include "receiver/ledger_partial.h"
#include "receiver/partial.h"

enum { READ_SIZE = 1 << 20, RANGES_MAX = 65536 };
#define SLEEP_NS UINT64_C(50000000) /* at a time, so that a stop is seen */

_Static_assert(CHUNK_SIZE % READ_SIZE == 0, "a chunk is read in whole pieces");

struct verify {
    int staging_fd;
    const atomic_bool *stop;
    struct digest *digest;
    struct checksum *checksum;
    struct ledger *ledger; /* NULL: there are no own hashes */
    uint64_t bytes_per_s;  /* 0: no limit */
    uint64_t due_ns;       /* when the next bytes may be read */
    uint8_t *buffer;
    struct assembly *assembly; /* at hand */
    int directory_fd;          /* of the transfer at hand; -1: there is none */
    int small_fd;
};

struct verify *verify_create(int staging_fd, const atomic_bool *stop)
{
    struct verify *verify = calloc(1, sizeof *verify);
    if (verify == NULL)
        return NULL;
    verify->staging_fd = staging_fd;
    verify->stop = stop;
    verify->digest = digest_create();
    verify->checksum = checksum_create();
    verify->buffer = malloc(READ_SIZE);
    if (verify->checksum == NULL || verify->buffer == NULL) {
        verify_destroy(verify);
        return NULL;
    }
    return verify;
}

void verify_destroy(struct verify *verify)
{
    if (verify == NULL)
        return;
    digest_destroy(verify->digest);
    checksum_destroy(verify->checksum);
    free(verify->buffer);
    free(verify);
}

void verify_set_rate(struct verify *verify, uint64_t bytes_per_s)
{
    verify->bytes_per_s = bytes_per_s;
}

void verify_set_ledger(struct verify *verify, struct ledger *ledger)
{
    verify->ledger = ledger;
}

/* Waits until so many bytes more may have been read. */
static void pace(struct verify *verify, size_t bytes)
{
    uint64_t now_ns = clock_monotonic_ns();
    if (verify->due_ns < now_ns)
        verify->due_ns = now_ns;
    verify->due_ns += (uint64_t)((double)bytes * 1e9 / (double)verify->bytes_per_s);
    while (verify->due_ns > now_ns && !atomic_load_explicit(verify->stop, memory_order_relaxed)) {
        uint64_t rest_ns = verify->due_ns - now_ns < SLEEP_NS ? verify->due_ns - now_ns : SLEEP_NS;
        struct timespec rest = {.tv_nsec = (long)rest_ns};
        (void)nanosleep(&rest, NULL);
        now_ns = clock_monotonic_ns();
    }
}

static bool is_hashed(const struct assembly_artifact *artifact)
{
    return !artifact->reread && artifact->size > 0 && artifact->hashed == artifact->size;
}

uint64_t verify_bytes_to_read(const struct assembly *assembly)
{
    uint64_t bytes = 0;
    for (uint32_t index = 0; index < assembly->artifact_count; index++) {
        const struct assembly_artifact *artifact = assembly_artifact(assembly, index);
        if (!is_hashed(artifact))
            bytes += artifact->reread ? artifact->size : artifact->size - artifact->hashed;
    }
    return bytes;
}

static bool add_range(struct verify_report *report, uint32_t index, uint64_t first, uint64_t end)
{
    if (report->count > 0 && report->ranges[report->count - 1].index == index &&
        (report->ranges[report->count - 1].end == first || report->count == RANGES_MAX)) {
        report->ranges[report->count - 1].end = end;
        return true;
    }
    if ((report->count & (report->count - 1)) == 0) {
        size_t capacity = report->count == 0 ? 1 : 2 * report->count;
        struct verify_range *ranges = realloc(report->ranges, capacity * sizeof *ranges);
        if (ranges == NULL)
            return false;
        report->ranges = ranges;
    }
    report->ranges[report->count++] = (struct verify_range){index, first, end};
    return true;
}

/* Reads [offset, end) of the artifact in pieces into `use`. VERIFY_GOOD when all of it was there. */
static enum verify_result read_range(struct verify *verify, int fd, uint64_t place, uint64_t offset, uint64_t end,
                                     void (*use)(struct verify *verify, struct digest *digest, size_t size),
                                     struct digest *digest)
{
    while (offset < end) {
        if (atomic_load_explicit(verify->stop, memory_order_relaxed))
            return VERIFY_STOPPED;
        size_t wanted = end - offset < READ_SIZE ? (size_t)(end - offset) : READ_SIZE;
        ssize_t got = pread(fd, verify->buffer, wanted, (off_t)(place + offset));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return VERIFY_FAILED;
        if (got == 0)
            return VERIFY_DAMAGED; /* shorter than it was: somebody's hand in the staging directory */
        use(verify, digest, (size_t)got);
        atomic_fetch_add_explicit(&verify->assembly->verified_bytes, (uint64_t)got, memory_order_relaxed);
        if (verify->bytes_per_s != 0) {
            (void)posix_fadvise(fd, (off_t)(place + offset), got, POSIX_FADV_DONTNEED);
            pace(verify, (size_t)got);
        }
        offset += (uint64_t)got;
    }
    return VERIFY_GOOD;
}

static void use_digest(struct verify *verify, struct digest *digest, size_t size)
{
    digest_update(digest, verify->buffer, size);
}

static void use_checksum(struct verify *verify, struct digest *digest, size_t size)
{
    (void)digest;
    checksum_update(verify->checksum, verify->buffer, size);
}

/* The SHA-256 of the artifact, continuing where arrival left off. */
static enum verify_result digest_artifact(struct verify *verify, int fd, struct assembly_artifact *artifact,
                                          uint8_t sha256[static SHA256_SIZE])
{
    uint64_t place = artifact->placed ? artifact->place : 0;
    bool resume = !artifact->reread && artifact->digest != NULL;
    struct digest *digest = resume ? artifact->digest : verify->digest;
    if (!resume)
        digest_reset(digest);
    enum verify_result result =
        read_range(verify, fd, place, resume ? artifact->hashed : 0, artifact->size, use_digest, digest);
    /* The state has moved on, whatever came out: it serves no second time. */
    artifact->reread = true;
    if (result == VERIFY_GOOD)
        digest_final(digest, sha256);
    return result;
}

/* The recorded hashes of one artifact. */
struct recorded {
    struct partial_list list;
    uint32_t index;
    bool failed;
};

static void collect_entry(const struct partial_entry *entry, void *context)
{
    struct recorded *recorded = context;
    struct partial_list *list = &recorded->list;
    if (entry->file != recorded->index || entry->kind == PARTIAL_PLACE)
        return;
    if (entry->kind == PARTIAL_HELD) {
        recorded->failed |= entry->hashed && !partial_list_add(list, entry);
        return;
    }
    size_t kept = 0;
    for (size_t i = 0; i < list->count; i++)
        if (list->entries[i].end <= entry->first || list->entries[i].first >= entry->end)
            list->entries[kept++] = list->entries[i];
    list->count = kept;
}

static void collect_entries(const uint8_t *entries, size_t size, void *context)
{
    struct recorded *recorded = context;
    recorded->failed |= !partial_decode(entries, size, collect_entry, recorded);
}

/* Which of the recorded ranges have changed on the disk since; VERIFY_GOOD when none has. */
static enum verify_result find_recorded_damage(struct verify *verify, int fd, uint32_t index,
                                               const struct assembly_artifact *artifact, struct verify_report *report)
{
    struct recorded recorded = {.index = index};
    struct ledger_key key = {.sender_id = verify->assembly->sender_id};
    enum verify_result found = VERIFY_GOOD;
    memcpy(key.transfer_id, verify->assembly->id, TRANSFER_ID_SIZE);
    if (ledger_partial_each(verify->ledger, &key, collect_entries, &recorded) != STATUS_OK || recorded.failed)
        recorded.list.count = 0;
    for (size_t i = 0; i < recorded.list.count && (found == VERIFY_GOOD || found == VERIFY_DAMAGED); i++) {
        const struct partial_entry *entry = &recorded.list.entries[i];
        uint8_t hash[CHUNK_HASH_SIZE];
        if (entry->end > artifact->size)
            continue;
        checksum_reset(verify->checksum);
        enum verify_result result = read_range(verify, fd, 0, entry->first, entry->end, use_checksum, NULL);
        checksum_final(verify->checksum, hash);
        if (result == VERIFY_GOOD && memcmp(hash, entry->hash, sizeof hash) != 0)
            result = VERIFY_DAMAGED;
        if (result == VERIFY_DAMAGED && !add_range(report, index, entry->first, entry->end))
            result = VERIFY_FAILED;
        if (result != VERIFY_GOOD)
            found = result;
    }
    partial_list_deinit(&recorded.list);
    return found;
}

/* Which chunks differ; all of the artifact when none does, since something does. */
static enum verify_result find_damage(struct verify *verify, int fd, uint32_t index,
                                      const struct assembly_artifact *artifact, const uint8_t *hashes, size_t count,
                                      struct verify_report *report)
{
    uint64_t place = artifact->placed ? artifact->place : 0;
    size_t before = report->count;
    for (size_t chunk = 0; chunk < count; chunk++) {
        uint64_t first = (uint64_t)chunk * CHUNK_SIZE;
        uint64_t end = artifact->size - first < CHUNK_SIZE ? artifact->size : first + CHUNK_SIZE;
        uint8_t hash[CHUNK_HASH_SIZE];
        checksum_reset(verify->checksum);
        enum verify_result result = read_range(verify, fd, place, first, end, use_checksum, NULL);
        if (result != VERIFY_GOOD && result != VERIFY_DAMAGED)
            return result;
        checksum_final(verify->checksum, hash);
        bool differs = result == VERIFY_DAMAGED || memcmp(hash, hashes + chunk * CHUNK_HASH_SIZE, sizeof hash) != 0;
        if (differs && !add_range(report, index, first, end))
            return VERIFY_FAILED;
    }
    if (count == 0 && !artifact->placed && verify->ledger != NULL) {
        enum verify_result result = find_recorded_damage(verify, fd, index, artifact, report);
        if (result != VERIFY_GOOD)
            return result;
    }
    if (report->count == before && !add_range(report, index, 0, artifact->size))
        return VERIFY_FAILED;
    return VERIFY_DAMAGED;
}

static int open_artifact(struct verify *verify, uint32_t index, const struct assembly_artifact *artifact)
{
    if (verify->directory_fd < 0) {
        errno = ENOENT;
        return -1;
    }
    if (artifact->placed) {
        if (verify->small_fd < 0)
            verify->small_fd = openat(verify->directory_fd, INTAKE_SMALL_NAME, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
        return verify->small_fd;
    }
    char name[INTAKE_ARTIFACT_NAME_SIZE];
    intake_artifact_name(index, name);
    return openat(verify->directory_fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
}

static enum verify_result verify_artifact(struct verify *verify, uint32_t index, struct assembly_artifact *artifact,
                                          const struct manifest_entry *entry, const uint8_t *hashes, size_t hash_count,
                                          struct verify_report *report)
{
    uint8_t sha256[SHA256_SIZE];
    if (artifact->size == 0) {
        digest_reset(verify->digest);
        digest_final(verify->digest, sha256);
        return memcmp(sha256, entry->sha256, SHA256_SIZE) == 0 ? VERIFY_GOOD : VERIFY_HOPELESS;
    }
    bool hashed = is_hashed(artifact);
    if (hashed && memcmp(artifact->sha256, entry->sha256, SHA256_SIZE) == 0)
        return VERIFY_GOOD;
    int fd = open_artifact(verify, index, artifact);
    if (fd < 0 && errno != ENOENT)
        return VERIFY_FAILED;
    enum verify_result result = VERIFY_DAMAGED;
    if (fd >= 0 && !hashed) {
        result = digest_artifact(verify, fd, artifact, sha256);
        if (result == VERIFY_GOOD && memcmp(sha256, entry->sha256, SHA256_SIZE) != 0)
            result = VERIFY_DAMAGED;
    }
    if (result == VERIFY_DAMAGED && fd >= 0)
        result = find_damage(verify, fd, index, artifact, hashes, hash_count, report);
    else if (result == VERIFY_DAMAGED && !add_range(report, index, 0, artifact->size))
        result = VERIFY_FAILED;
    if (result == VERIFY_GOOD) {
        /* Kept, so that another try at publishing need not read it again. */
        memcpy(artifact->sha256, sha256, SHA256_SIZE);
        artifact->hashed = artifact->size;
        artifact->reread = false;
    }
    int error = errno;
    if (fd >= 0 && fd != verify->small_fd)
        close(fd);
    errno = error;
    return result;
}

void verify_assembly(struct verify *verify, struct assembly *assembly, struct verify_report *report)
{
    char name[INTAKE_STAGING_NAME_SIZE];
    intake_staging_name(assembly->sender_id, assembly->id, name);
    *report = (struct verify_report){.result = VERIFY_GOOD};
    verify->assembly = assembly;
    verify->small_fd = -1;
    verify->directory_fd = openat(verify->staging_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (verify->directory_fd < 0 && errno != ENOENT)
        report->result = VERIFY_FAILED;

    struct manifest_entry entry;
    uint32_t index = 0;
    manifest_reader_rewind(assembly->reader);
    while ((report->result == VERIFY_GOOD || report->result == VERIFY_DAMAGED) &&
           manifest_reader_next(assembly->reader, &entry)) {
        if (entry.kind != MANIFEST_FILE)
            continue;
        size_t hash_count;
        const uint8_t *hashes = manifest_reader_chunk_hashes(assembly->reader, &hash_count);
        enum verify_result result =
            verify_artifact(verify, index, assembly_artifact(assembly, index), &entry, hashes, hash_count, report);
        if (result != VERIFY_GOOD)
            report->result = result;
        index++;
    }
    report->error = report->result == VERIFY_FAILED ? errno : 0;
    if (verify->small_fd >= 0)
        close(verify->small_fd);
    if (verify->directory_fd >= 0)
        close(verify->directory_fd);
}
