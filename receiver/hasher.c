// SPDX-License-Identifier: Apache-2.0
#include "receiver/hasher.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/digest.h"
#include "common/log.h"
#include "common/queue.h"
#include "common/worker.h"

enum {
    JOBS = 1024,          /* under way at a time */
    READS = 4,            /* of these, from files */
    RANGES = 4096,        /* ahead of what is hashed, of all artifacts */
    READ_BYTES = 1 << 20, /* in a job */
    BUFFER = 256 << 10,   /* at a time in it, so that they are still in the cache when they are hashed */
    INLINE = 32 << 10,    /* artifacts up to here are not worth the way to another core */
    SPARE_STATES = 64,    /* kept for artifacts that come in several pieces, of which each needs one */
    BELL_INTERVAL = 8,    /* jobs between two rings, unless there is nothing more to do */
    PATH_SIZE = INTAKE_STAGING_NAME_SIZE + 1 + INTAKE_ARTIFACT_NAME_SIZE,
};

/* Bytes that came ahead: in the file once the writer has passed the ticket. */
struct range {
    uint64_t first, end;
    uint64_t ticket;
    struct range *next;
};

struct state {
    struct digest *digest; /* the hash thread's while jobs are under way */
    bool used;
    bool stopped; /* what comes ahead is not noted any more */
    bool held;    /* the transfer is held in the writer */
    struct assembly *assembly;
    struct assembly_artifact *artifact; /* NULL: void, and free once no job is under way */
    unsigned jobs;
    struct range *ranges;        /* ascending */
    struct state *older, *newer; /* in order of use; or `newer`: free */
    char path[PATH_SIZE];        /* below staging */
    uint8_t sha256[SHA256_SIZE];
};

struct job {
    struct state *state;
    struct assembly *assembly;
    struct writer_block *block; /* NULL: from the file */
    const uint8_t *bytes;
    uint64_t offset; /* in the file */
    uint32_t size;
    bool last; /* the digest is complete with it */
    bool failed;
    struct job *next; /* free */
};

struct hasher {
    struct hasher_setup setup;
    struct writer *writer;
    struct worker *worker;
    struct doorbell *work_bell;
    struct queue *work, *results; /* struct job */
    atomic_bool stopping;
    uint8_t *buffer;      /* the hash thread's */
    struct digest *whole; /* of artifacts that are hashed at once */
    size_t held;          /* bytes of blocks under way */
    unsigned reads, under_way;
    struct job *free_jobs, *jobs;
    struct range *free_ranges, *ranges;
    unsigned range_count; /* not free */
    struct state *free_states, *oldest, *newest;
    unsigned free_count;
    struct state states[HASHER_STATES];
};

/* The hash thread. */

static bool hash_file(struct hasher *hasher, const struct job *job)
{
    int fd = openat(hasher->setup.intake->staging_fd, job->state->path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return false;
    uint64_t at = job->offset, end = job->offset + job->size;
    while (at < end) {
        size_t wanted = end - at < BUFFER ? (size_t)(end - at) : BUFFER;
        ssize_t got = pread(fd, hasher->buffer, wanted, (off_t)at);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            break;
        digest_update(job->state->digest, hasher->buffer, (size_t)got);
        at += (uint64_t)got;
    }
    close(fd);
    return at == end;
}

static void do_job(struct hasher *hasher, struct job *job)
{
    struct state *state = job->state;
    if (job->block != NULL)
        digest_update(state->digest, job->bytes, job->size);
    else
        job->failed = !hash_file(hasher, job); /* the verifier will say what is wrong with the file */
    if (job->last)
        digest_final(state->digest, state->sha256);
}

static void run(void *context)
{
    struct hasher *hasher = context;
    unsigned unrung = 0;
    for (;;) {
        struct job *job = queue_pop(hasher->work);
        if (job == NULL) {
            doorbell_arm(hasher->work_bell);
            bool stop = atomic_load(&hasher->stopping);
            if (queue_peek(hasher->work) == NULL && !stop)
                doorbell_wait(hasher->work_bell, UINT64_MAX);
            doorbell_disarm(hasher->work_bell);
            if (stop)
                return;
            continue;
        }
        do_job(hasher, job);
        bool pushed = queue_push(hasher->results, job);
        assert(pushed);
        (void)pushed;
        if (++unrung >= BELL_INTERVAL || queue_peek(hasher->work) == NULL) {
            doorbell_ring(hasher->setup.bell);
            unrung = 0;
        }
    }
}

/* The store thread. */

static void give_back(struct hasher *hasher, struct state *state)
{
    state->used = false;
    state->newer = hasher->free_states;
    hasher->free_states = state;
    hasher->free_count++;
}

static void append_by_use(struct hasher *hasher, struct state *state)
{
    state->older = hasher->newest;
    state->newer = NULL;
    *(hasher->newest != NULL ? &hasher->newest->newer : &hasher->oldest) = state;
    hasher->newest = state;
}

static void unlink_by_use(struct hasher *hasher, struct state *state)
{
    *(state->older != NULL ? &state->older->newer : &hasher->oldest) = state->newer;
    *(state->newer != NULL ? &state->newer->older : &hasher->newest) = state->older;
}

/* Nothing refers to it any more: no artifact, and no job that is under way. */
static void free_if_unused(struct hasher *hasher, struct state *state)
{
    if (state->artifact != NULL || state->jobs > 0)
        return;
    unlink_by_use(hasher, state);
    give_back(hasher, state);
}

static bool allocate(struct hasher *hasher)
{
    hasher->work_bell = doorbell_create();
    hasher->work = queue_create(JOBS);
    hasher->results = queue_create(JOBS);
    hasher->buffer = malloc(BUFFER);
    hasher->whole = digest_create();
    hasher->jobs = calloc(JOBS, sizeof *hasher->jobs);
    hasher->ranges = calloc(RANGES, sizeof *hasher->ranges);
    if (hasher->work_bell == NULL || hasher->work == NULL || hasher->results == NULL || hasher->buffer == NULL ||
        hasher->jobs == NULL || hasher->ranges == NULL)
        return false;
    for (unsigned i = 0; i < JOBS; i++) {
        hasher->jobs[i].next = hasher->free_jobs;
        hasher->free_jobs = &hasher->jobs[i];
    }
    for (unsigned i = 0; i < RANGES; i++) {
        hasher->ranges[i].next = hasher->free_ranges;
        hasher->free_ranges = &hasher->ranges[i];
    }
    for (unsigned i = 0; i < HASHER_STATES; i++) {
        hasher->states[i].digest = digest_create();
        give_back(hasher, &hasher->states[i]);
    }
    return true;
}

struct hasher *hasher_create(const struct hasher_setup *setup)
{
    struct hasher *hasher = calloc(1, sizeof *hasher);
    if (hasher == NULL)
        return NULL;
    hasher->setup = *setup;
    if (!allocate(hasher) || worker_start_nice("hash", WORKER_EARLY, run, hasher, &hasher->worker) != STATUS_OK) {
        int error = errno;
        hasher_destroy(hasher);
        errno = error;
        return NULL;
    }
    worker_pin(hasher->worker, setup->cpus, setup->cpu_index);
    return hasher;
}

void hasher_set_writer(struct hasher *hasher, struct writer *writer)
{
    hasher->writer = writer;
}

void hasher_destroy(struct hasher *hasher)
{
    if (hasher == NULL)
        return;
    assert(hasher->under_way == 0);
    atomic_store(&hasher->stopping, true);
    if (hasher->worker != NULL)
        doorbell_ring(hasher->work_bell);
    worker_join(hasher->worker);
    for (unsigned i = 0; i < HASHER_STATES; i++)
        digest_destroy(hasher->states[i].digest);
    digest_destroy(hasher->whole);
    doorbell_destroy(hasher->work_bell);
    queue_destroy(hasher->work);
    queue_destroy(hasher->results);
    free(hasher->buffer);
    free(hasher->jobs);
    free(hasher->ranges);
    free(hasher);
}

static struct state *state_of(struct hasher *hasher, const struct assembly_artifact *artifact)
{
    struct state *state = &hasher->states[artifact->state];
    assert(state->used && state->digest == artifact->digest);
    return state;
}

static void free_range(struct hasher *hasher, struct range *range)
{
    range->next = hasher->free_ranges;
    hasher->free_ranges = range;
    hasher->range_count--;
}

static void free_ranges(struct hasher *hasher, struct state *state)
{
    while (state->ranges != NULL) {
        struct range *range = state->ranges;
        state->ranges = range->next;
        free_range(hasher, range);
    }
}

/* The artifact has no part in the state any more. */
static void release_state(struct hasher *hasher, struct state *state)
{
    free_ranges(hasher, state);
    state->artifact->digest = NULL;
    state->artifact = NULL;
    if (state->held)
        writer_unhold(hasher->writer, state->assembly);
    state->held = false;
    free_if_unused(hasher, state);
}

/* A free state, or that of the open artifact that was fed least recently; NULL when there is none of either. */
static struct state *take_state(struct hasher *hasher)
{
    struct state *state = hasher->oldest;
    while (hasher->free_count == 0 && state != NULL &&
           (state->artifact == NULL || state->jobs > 0 || state->assembly->state != ASSEMBLY_OPEN))
        state = state->newer;
    if (hasher->free_count == 0 && state != NULL)
        hasher_drop(hasher, state->artifact);
    state = hasher->free_states;
    if (state == NULL)
        return NULL;
    hasher->free_states = state->newer;
    hasher->free_count--;
    append_by_use(hasher, state);
    state->used = true;
    return state;
}

static struct state *make_state(struct hasher *hasher, struct assembly *assembly, struct assembly_artifact *artifact,
                                uint32_t index)
{
    struct state *state = take_state(hasher);
    char directory[INTAKE_STAGING_NAME_SIZE], name[INTAKE_ARTIFACT_NAME_SIZE];
    if (state == NULL)
        return NULL;
    intake_staging_name(assembly->sender_id, assembly->id, directory);
    intake_artifact_name(index, name);
    snprintf(state->path, sizeof state->path, "%s/%s", directory, artifact->placed ? INTAKE_SMALL_NAME : name);
    digest_reset(state->digest);
    state->stopped = false;
    state->assembly = assembly;
    state->artifact = artifact;
    artifact->digest = state->digest;
    artifact->state = (uint16_t)(state - hasher->states);
    return state;
}

/* False when too many jobs are under way. */
static bool post(struct hasher *hasher, struct state *state, struct writer_block *block, const uint8_t *bytes,
                 uint32_t size)
{
    struct assembly_artifact *artifact = state->artifact;
    struct job *job = hasher->free_jobs;
    if (job == NULL)
        return false;
    hasher->free_jobs = job->next;
    uint64_t place = artifact->placed ? artifact->place : 0;
    *job = (struct job){.state = state,
                        .assembly = state->assembly,
                        .block = block,
                        .bytes = bytes,
                        .offset = place + artifact->hashed,
                        .size = size};
    artifact->hashed += size;
    job->last = artifact->hashed == artifact->size;
    state->jobs++;
    hasher->under_way++;
    if (block != NULL) {
        block->uses++;
        hasher->held += size;
    } else {
        hasher->reads++;
    }
    writer_hold(hasher->writer, job->assembly);
    bool pushed = queue_push(hasher->work, job);
    assert(pushed);
    (void)pushed;
    doorbell_ring(hasher->work_bell);
    return true;
}

/* Notes a range that came ahead. False when there is no room for it. */
static bool add_range(struct hasher *hasher, struct state *state, uint64_t first, uint64_t end)
{
    uint64_t ticket = writer_ticket(hasher->writer);
    struct range **link = &state->ranges;
    while (*link != NULL && (*link)->end < first)
        link = &(*link)->next;
    struct range *range = *link;
    if (range != NULL && range->end == first && end - range->first <= READ_BYTES) {
        range->end = end;
        range->ticket = ticket;
        return true;
    }
    if (range != NULL && range->end == first)
        link = &range->next;
    range = hasher->free_ranges;
    if (range == NULL)
        return false;
    hasher->free_ranges = range->next;
    hasher->range_count++;
    *range = (struct range){.first = first, .end = end, .ticket = ticket, .next = *link};
    *link = range;
    return true;
}

/* Has read what continues the hashed part and is in the file. */
static void read_back(struct hasher *hasher, struct state *state)
{
    while (state->ranges != NULL && state->ranges->first == state->artifact->hashed && hasher->reads < READS &&
           writer_has_passed(hasher->writer, state->ranges->ticket)) {
        struct range *range = state->ranges;
        uint64_t size = range->end - range->first;
        uint32_t piece = size < READ_BYTES ? (uint32_t)size : READ_BYTES;
        if (!post(hasher, state, NULL, NULL, piece))
            return;
        range->first += piece;
        if (range->first < range->end)
            continue;
        state->ranges = range->next;
        free_range(hasher, range);
    }
}

static void take_whole(struct hasher *hasher, struct assembly_artifact *artifact, const uint8_t *bytes, uint32_t size)
{
    digest_update(hasher->whole, bytes, size);
    digest_final(hasher->whole, artifact->sha256);
    artifact->hashed = size;
}

void hasher_take(struct hasher *hasher, struct assembly *assembly, struct assembly_artifact *artifact, uint32_t index,
                 uint64_t offset, const uint8_t *bytes, uint32_t size, struct writer_block *block)
{
    if (artifact->reread)
        return;
    if (size == artifact->size && (size <= INLINE || hasher->free_count <= SPARE_STATES)) {
        take_whole(hasher, artifact, bytes, size);
        return;
    }
    struct state *state;
    if (artifact->digest != NULL) {
        state = state_of(hasher, artifact);
    } else {
        /* What an earlier run has held is the verifier's to read. */
        bool earlier = offset > 0 && extents_overlap(&artifact->held, 0, offset) > 0;
        state = earlier ? NULL : make_state(hasher, assembly, artifact, index);
        if (state == NULL) {
            artifact->reread = true;
            return;
        }
    }
    assert(offset >= artifact->hashed); /* what is lost of an artifact drops it */
    unlink_by_use(hasher, state);
    append_by_use(hasher, state);
    bool next = offset == artifact->hashed;
    if (next && hasher->held < hasher->setup.memory && post(hasher, state, block, bytes, size)) {
        read_back(hasher, state);
        return;
    }
    bool far = !next && offset - artifact->hashed > HASHER_AHEAD &&
               (state->ranges == NULL || state->ranges->first != artifact->hashed);
    if (!state->stopped && (far || !add_range(hasher, state, offset, offset + size))) {
        state->stopped = true;
        free_ranges(hasher, state);
    }
}

void hasher_finish(struct hasher *hasher, struct assembly *assembly)
{
    for (struct state *state = hasher->oldest; state != NULL; state = state->newer) {
        if (state->artifact == NULL || state->assembly != assembly || state->held)
            continue; /* it may be held since it was complete before, until a write failed */
        uint64_t end = state->artifact->hashed;
        for (const struct range *range = state->ranges; range != NULL && range->first == end; range = range->next)
            end = range->end;
        if (end != state->artifact->size) {
            free_ranges(hasher, state);
            continue;
        }
        state->held = true;
        writer_hold(hasher->writer, assembly);
    }
}

void hasher_drop(struct hasher *hasher, struct assembly_artifact *artifact)
{
    if (artifact->digest != NULL)
        release_state(hasher, state_of(hasher, artifact));
    artifact->hashed = 0;
    artifact->reread = true;
}

void hasher_forget(struct hasher *hasher, const struct assembly *assembly)
{
    struct state *newer;
    for (struct state *state = hasher->oldest; state != NULL; state = newer) {
        struct assembly_artifact *artifact = state->artifact;
        newer = state->newer;
        if (artifact == NULL || state->assembly != assembly)
            continue;
        release_state(hasher, state);
        /* The verifier may have finished it from the disk. */
        if (artifact->reread || artifact->hashed != artifact->size) {
            artifact->hashed = 0;
            artifact->reread = true;
        }
    }
}

static void take_result(struct hasher *hasher, struct job *job)
{
    struct state *state = job->state;
    struct assembly_artifact *artifact = state->artifact;
    struct assembly *assembly = job->assembly;
    state->jobs--;
    hasher->under_way--;
    if (job->block != NULL) {
        hasher->held -= job->size;
        writer_unuse(hasher->writer, job->block);
    } else {
        hasher->reads--;
    }
    if (artifact == NULL) {
        free_if_unused(hasher, state);
    } else if (job->failed) {
        hasher_drop(hasher, artifact);
    } else if (job->last) {
        memcpy(artifact->sha256, state->sha256, sizeof artifact->sha256);
        release_state(hasher, state);
    }
    job->next = hasher->free_jobs;
    hasher->free_jobs = job;
    writer_unhold(hasher->writer, assembly);
}

void hasher_settle(struct hasher *hasher)
{
    struct job *job;
    while ((job = queue_pop(hasher->results)) != NULL)
        take_result(hasher, job);
    for (struct state *state = hasher->oldest; state != NULL && hasher->range_count > 0; state = state->newer)
        if (state->ranges != NULL)
            read_back(hasher, state);
}

bool hasher_has_results(const struct hasher *hasher)
{
    return queue_peek(hasher->results) != NULL;
}

bool hasher_is_busy(const struct hasher *hasher)
{
    return hasher->under_way > 0;
}
