// SPDX-License-Identifier: Apache-2.0
#include "sender/fetch.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/ring.h"
#include "proto/limits.h"

enum {
    SLOTS = 1024,              /* of usual pieces: nearly two groups at 10 Gbit/s */
    FILES = 64,                /* descriptors that wait to be closed */
    BYTES_AHEAD = 8 << 20,     /* enough for as long as another thread may have the processor */
    BYTES_UNDER_WAY = 1 << 20, /* half of a usual L2 cache, and enough to keep a disk busy with its own read-ahead */
    ENTRIES = 128,             /* of the submission queue */
    BELL = SLOTS,              /* user data of the poll on the bell */
};

_Static_assert((unsigned)FETCH_PARTS_MAX *FETCH_PIECE_MAX >= CHUNK_SIZE, "the longest read has few parts");

struct slot {
    struct fetch_piece piece;
    uint32_t done; /* bytes */
    bool landed;
};

struct fetch {
    struct io_uring ring;
    struct doorbell *bell;
    bool bell_watched;
    bool registered;       /* the memory of blocks, by lane */
    unsigned first, count; /* slots in use, a ring */
    unsigned landed;       /* of these, the first ones that fetch_land() has returned */
    unsigned files;        /* pieces that are the last of theirs */
    size_t bytes, reading; /* in all of them; in those that have not landed */
    struct slot slots[SLOTS];
};

static void register_memory(struct fetch *fetch, struct lane *const lanes[], unsigned lane_count)
{
    struct iovec blocks[LIMIT_LANES];
    if (lane_count == 0)
        return;
    for (unsigned i = 0; i < lane_count; i++)
        blocks[i] = (struct iovec){slab_memory(lanes[i]->slab), slab_bytes(lanes[i]->slab)};
    int result = io_uring_register_buffers(&fetch->ring, blocks, lane_count);
    fetch->registered = result == 0;
    if (!fetch->registered)
        log_info("io_uring: the memory of blocks can't be registered: %s; it is used as it is (a higher limit of "
                 "locked memory may help: LimitMEMLOCK=, ulimit -l)",
                 strerror(-result));
}

enum status fetch_create(struct doorbell *bell, struct lane *const lanes[], unsigned lane_count, struct fetch **fetch)
{
    *fetch = NULL;
    struct fetch *made = calloc(1, sizeof *made);
    assert(made != NULL);
    made->bell = bell;
    enum status status = ring_prepare(ENTRIES, 2 * SLOTS, &made->ring);
    if (status != STATUS_OK) {
        free(made);
        return status;
    }
    register_memory(made, lanes, lane_count);
    status = ring_seal(&made->ring, RING_READS);
    if (status != STATUS_OK) {
        ring_close(&made->ring);
        free(made);
        return status;
    }
    *fetch = made;
    return STATUS_OK;
}

bool fetch_has_room(const struct fetch *fetch, bool ahead)
{
    return fetch->count <= SLOTS - FETCH_PARTS_MAX && fetch->files < FILES &&
           (ahead ? fetch->reading < BYTES_AHEAD : fetch->bytes < BYTES_UNDER_WAY);
}

bool fetch_is_empty(const struct fetch *fetch)
{
    return fetch->count == 0;
}

static void start(struct fetch *fetch, unsigned index)
{
    struct slot *slot = &fetch->slots[index];
    const struct fetch_piece *piece = &slot->piece;
    struct io_uring_sqe *sqe = ring_sqe(&fetch->ring);
    uint8_t *place = piece->place + slot->done;
    uint32_t size = piece->size - slot->done;
    uint64_t offset = piece->offset + slot->done;
    if (fetch->registered && piece->block != NULL)
        io_uring_prep_read_fixed(sqe, piece->fd, place, size, offset, (int)piece->block->lane);
    else
        io_uring_prep_read(sqe, piece->fd, place, size, offset);
    io_uring_sqe_set_data64(sqe, index);
}

void fetch_start(struct fetch *fetch, const struct fetch_piece *piece)
{
    assert(fetch->count < SLOTS && piece->size > 0);
    unsigned index = (fetch->first + fetch->count) % SLOTS;
    fetch->slots[index] = (struct slot){.piece = *piece};
    fetch->slots[index].piece.error = 0;
    fetch->count++;
    fetch->files += piece->last;
    fetch->bytes += piece->size;
    fetch->reading += piece->size;
    start(fetch, index);
}

unsigned fetch_start_parts(struct fetch *fetch, const struct fetch_piece *piece)
{
    unsigned count = 0;
    for (uint32_t done = 0, size; done < piece->size; done += size, count++) {
        struct fetch_piece part = *piece;
        size = piece->size - done < FETCH_PIECE_MAX ? piece->size - done : FETCH_PIECE_MAX;
        part.place += done;
        part.offset += done;
        part.size = size;
        part.last = piece->last && done + size == piece->size;
        fetch_start(fetch, &part);
    }
    return count;
}

void fetch_submit(struct fetch *fetch)
{
    if (io_uring_sq_ready(&fetch->ring) > 0)
        io_uring_submit(&fetch->ring);
}

static void take_result(struct fetch *fetch, unsigned index, int result)
{
    struct slot *slot = &fetch->slots[index];
    if (result == -EINTR || result == -EAGAIN) {
        start(fetch, index);
        return;
    }
    if (result <= 0) {
        slot->piece.error = result == 0 ? FETCH_ENDED : -result;
        slot->landed = true;
        return;
    }
    slot->done += (uint32_t)result;
    assert(slot->done <= slot->piece.size);
    slot->landed = slot->done == slot->piece.size;
    if (!slot->landed)
        start(fetch, index);
}

static void reap(struct fetch *fetch)
{
    struct io_uring_cqe *cqe;
    while (io_uring_peek_cqe(&fetch->ring, &cqe) == 0) {
        unsigned index = (unsigned)io_uring_cqe_get_data64(cqe);
        int result = cqe->res;
        io_uring_cqe_seen(&fetch->ring, cqe);
        if (index == BELL)
            fetch->bell_watched = false;
        else
            take_result(fetch, index, result);
    }
}

const struct fetch_piece *fetch_land(struct fetch *fetch)
{
    if (fetch->landed == fetch->count)
        return NULL;
    struct slot *slot = &fetch->slots[(fetch->first + fetch->landed) % SLOTS];
    if (!slot->landed) {
        /* Completions of the kernel's workers come only when they are asked for. */
        io_uring_submit_and_get_events(&fetch->ring);
        reap(fetch);
    }
    if (!slot->landed)
        return NULL;
    fetch->landed++;
    fetch->reading -= slot->piece.size;
    return &slot->piece;
}

const struct fetch_piece *fetch_peek(const struct fetch *fetch)
{
    return fetch->landed > 0 ? &fetch->slots[fetch->first].piece : NULL;
}

void fetch_release(struct fetch *fetch)
{
    assert(fetch->landed > 0);
    const struct fetch_piece *piece = &fetch->slots[fetch->first].piece;
    fetch->files -= piece->last;
    fetch->bytes -= piece->size;
    fetch->first = (fetch->first + 1) % SLOTS;
    fetch->landed--;
    fetch->count--;
}

void fetch_wait(struct fetch *fetch, uint64_t now_ns, uint64_t deadline_ns)
{
    if (!fetch->bell_watched) {
        struct io_uring_sqe *sqe = ring_sqe(&fetch->ring);
        io_uring_prep_poll_add(sqe, doorbell_fd(fetch->bell), POLLIN);
        io_uring_sqe_set_data64(sqe, BELL);
        fetch->bell_watched = true;
    }
    ring_wait(&fetch->ring, now_ns, deadline_ns);
    reap(fetch);
}

void fetch_destroy(struct fetch *fetch)
{
    if (fetch == NULL)
        return;
    while (fetch->landed < fetch->count)
        if (fetch_land(fetch) == NULL)
            ring_wait(&fetch->ring, clock_monotonic_ns(), UINT64_MAX);
    ring_close(&fetch->ring);
    free(fetch);
}
