// SPDX-License-Identifier: Apache-2.0
#include "common/queue.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>

enum { CACHE_LINE = 64 };

/*
 * Positions only grow; the slot is the position modulo the capacity. Each side keeps a copy of the other's position and
 * looks again only when the copy says full or empty, so that the two cache lines rarely travel between the cores.
 */
struct queue {
    _Alignas(CACHE_LINE) atomic_size_t tail; /* written by the producer */
    size_t head_copy;
    _Alignas(CACHE_LINE) atomic_size_t head; /* written by the consumer */
    size_t tail_copy;
    _Alignas(CACHE_LINE) size_t mask;
    void *slots[];
};

struct queue *queue_create(size_t capacity)
{
    assert(capacity > 0 && capacity <= SIZE_MAX / 4 / sizeof(void *));
    size_t rounded = 1;
    while (rounded < capacity)
        rounded *= 2;
    size_t size = sizeof(struct queue) + rounded * sizeof(void *);
    size = (size + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
    struct queue *queue = aligned_alloc(CACHE_LINE, size);
    if (queue == NULL)
        return NULL;
    atomic_init(&queue->tail, 0);
    atomic_init(&queue->head, 0);
    queue->head_copy = 0;
    queue->tail_copy = 0;
    queue->mask = rounded - 1;
    return queue;
}

void queue_destroy(struct queue *queue)
{
    free(queue);
}

bool queue_push(struct queue *queue, void *item)
{
    assert(item != NULL);
    size_t tail = atomic_load_explicit(&queue->tail, memory_order_relaxed);
    if (tail - queue->head_copy > queue->mask) {
        queue->head_copy = atomic_load_explicit(&queue->head, memory_order_acquire);
        if (tail - queue->head_copy > queue->mask)
            return false;
    }
    queue->slots[tail & queue->mask] = item;
    atomic_store_explicit(&queue->tail, tail + 1, memory_order_release);
    return true;
}

void *queue_peek(struct queue *queue)
{
    size_t head = atomic_load_explicit(&queue->head, memory_order_relaxed);
    if (head == queue->tail_copy) {
        queue->tail_copy = atomic_load_explicit(&queue->tail, memory_order_acquire);
        if (head == queue->tail_copy)
            return NULL;
    }
    return queue->slots[head & queue->mask];
}

void *queue_pop(struct queue *queue)
{
    void *item = queue_peek(queue);
    if (item == NULL)
        return NULL;
    size_t head = atomic_load_explicit(&queue->head, memory_order_relaxed);
    atomic_store_explicit(&queue->head, head + 1, memory_order_release);
    return item;
}

size_t queue_count(const struct queue *queue)
{
    /* Head first: the other way round, a consumer between the two loads would make the difference negative. */
    size_t head = atomic_load_explicit(&queue->head, memory_order_acquire);
    size_t tail = atomic_load_explicit(&queue->tail, memory_order_acquire);
    size_t count = tail - head;
    return count > queue->mask + 1 ? queue->mask + 1 : count;
}
