// SPDX-License-Identifier: Apache-2.0
#include "receiver/buffers.h"

#include <assert.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "common/slab.h"

enum {
    COUNT = 32, /* a power of two; multishot fills no more in one turn, and more would not stay in the cache */
    COUNT_MIN = 16,
    PAYLOAD_SIZE = 65536,
    SIZE = (int)sizeof(struct io_uring_recvmsg_out) + BUFFERS_CONTROL_SIZE + PAYLOAD_SIZE,
};

struct buffers {
    unsigned count;
    struct slab *slab;
    struct io_uring_buf_ring *ring;
    size_t ring_size;
    uint8_t *base;
    size_t stride;
};

static unsigned count_for(uint64_t memory)
{
    unsigned count = COUNT;
    while (count > COUNT_MIN && (uint64_t)count * SIZE > memory / 8)
        count /= 2;
    return count;
}

uint64_t buffers_bytes(uint64_t memory)
{
    return (uint64_t)(count_for(memory) + 1) * SIZE;
}

enum status buffers_create(uint64_t memory, struct buffers **buffers)
{
    *buffers = NULL;
    struct buffers *made = calloc(1, sizeof *made);
    if (made == NULL)
        return STATUS_SYSTEM;
    made->count = count_for(memory);
    enum status status = slab_create(SIZE, made->count, &made->slab);
    if (status != STATUS_OK) {
        buffers_destroy(made);
        return status;
    }
    /* All are taken at once and given to the kernel by number: they lie in one piece. */
    made->base = slab_take(made->slab);
    uint8_t *second = slab_take(made->slab);
    assert(made->base != NULL && second > made->base);
    made->stride = (size_t)(second - made->base);
    made->ring_size = made->count * sizeof(struct io_uring_buf);
    void *ring = mmap(NULL, made->ring_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (ring == MAP_FAILED) {
        buffers_destroy(made);
        return STATUS_SYSTEM;
    }
    made->ring = ring;
    *buffers = made;
    return STATUS_OK;
}

void buffers_destroy(struct buffers *buffers)
{
    if (buffers == NULL)
        return;
    if (buffers->ring != NULL)
        munmap(buffers->ring, buffers->ring_size);
    slab_destroy(buffers->slab);
    free(buffers);
}

unsigned buffers_count(const struct buffers *buffers)
{
    return buffers->count;
}

uint8_t *buffers_at(const struct buffers *buffers, unsigned id)
{
    assert(id < buffers->count);
    return buffers->base + id * buffers->stride;
}

void buffers_recycle(struct buffers *buffers, unsigned id)
{
    int mask = io_uring_buf_ring_mask(buffers->count);
    io_uring_buf_ring_add(buffers->ring, buffers_at(buffers, id), SIZE, (unsigned short)id, mask, 0);
    io_uring_buf_ring_advance(buffers->ring, 1);
}

enum status buffers_register(struct buffers *buffers, struct io_uring *ring)
{
    struct io_uring_buf_reg registration = {
        .ring_addr = (uintptr_t)buffers->ring, .ring_entries = buffers->count, .bgid = BUFFERS_GROUP};
    int result = io_uring_register_buf_ring(ring, &registration, 0);
    if (result < 0)
        return status_from_errno(-result);
    io_uring_buf_ring_init(buffers->ring);
    for (unsigned i = 0; i < buffers->count; i++)
        buffers_recycle(buffers, i);
    return STATUS_OK;
}
