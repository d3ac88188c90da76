// SPDX-License-Identifier: Apache-2.0
#include "common/slab.h"

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/queue.h"

enum { ALIGNMENT = 64 }; /* a cache line, and enough for every vector instruction */

struct slab {
    unsigned char *memory;
    size_t bytes;
    size_t stride;
    size_t count;
    struct queue *free_buffers;
    atomic_bool *out; /* one a buffer: catches a buffer that is returned twice */
};

enum status slab_create(size_t buffer_size, size_t count, struct slab **slab)
{
    assert(buffer_size > 0 && count > 0);
    *slab = NULL;
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    struct slab *made = calloc(1, sizeof *made);
    if (made == NULL)
        return STATUS_SYSTEM;
    made->stride = (buffer_size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    made->count = count;
    if (made->stride < buffer_size || __builtin_mul_overflow(made->stride, count, &made->bytes) ||
        made->bytes > SIZE_MAX - page) {
        free(made);
        errno = ENOMEM;
        return STATUS_SYSTEM;
    }
    made->bytes = (made->bytes + page - 1) / page * page;
    made->memory = mmap(NULL, made->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (made->memory == MAP_FAILED) {
        made->memory = NULL;
        goto failed;
    }
    /* Large pages are a gift, not a need. Populating by madvise reports what MAP_POPULATE would hide. */
    (void)madvise(made->memory, made->bytes, MADV_HUGEPAGE);
    if (madvise(made->memory, made->bytes, MADV_POPULATE_WRITE) != 0)
        goto failed;
    made->out = calloc(count, sizeof *made->out);
    made->free_buffers = queue_create(count);
    if (made->out == NULL || made->free_buffers == NULL) {
        errno = ENOMEM;
        goto failed;
    }
    for (size_t i = 0; i < count; i++) {
        bool pushed = queue_push(made->free_buffers, made->memory + i * made->stride);
        assert(pushed);
        (void)pushed;
    }
    *slab = made;
    return STATUS_OK;

failed:;
    int error = errno;
    slab_destroy(made);
    return status_from_errno(error);
}

void slab_destroy(struct slab *slab)
{
    if (slab == NULL)
        return;
    queue_destroy(slab->free_buffers);
    free(slab->out);
    if (slab->memory != NULL)
        munmap(slab->memory, slab->bytes);
    free(slab);
}

static size_t index_of(const struct slab *slab, const void *buffer)
{
    const unsigned char *start = buffer;
    assert(start >= slab->memory && start < slab->memory + slab->stride * slab->count);
    size_t offset = (size_t)(start - slab->memory);
    assert(offset % slab->stride == 0);
    return offset / slab->stride;
}

void *slab_take(struct slab *slab)
{
    void *buffer = queue_pop(slab->free_buffers);
    if (buffer != NULL)
        atomic_store_explicit(&slab->out[index_of(slab, buffer)], true, memory_order_relaxed);
    return buffer;
}

void slab_return(struct slab *slab, void *buffer)
{
    bool was_out = atomic_exchange_explicit(&slab->out[index_of(slab, buffer)], false, memory_order_relaxed);
    assert(was_out);
    (void)was_out;
    bool pushed = queue_push(slab->free_buffers, buffer);
    assert(pushed);
    (void)pushed;
}

size_t slab_available(const struct slab *slab)
{
    return queue_count(slab->free_buffers);
}

size_t slab_bytes(const struct slab *slab)
{
    return slab->bytes;
}

void *slab_memory(struct slab *slab)
{
    return slab->memory;
}
