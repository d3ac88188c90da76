// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_COMMON_QUEUE_H
#define DIODECAST_COMMON_QUEUE_H

#include <stdbool.h>
#include <stddef.h>

/* Bounded queue of pointers from one producer thread to one consumer thread; lock-free, allocated at creation. Waking
 * is doorbell.h's. */
struct queue;

/* `capacity` is rounded up to a power of two. */
struct queue *queue_create(size_t capacity);
void queue_destroy(struct queue *queue);
bool queue_push(struct queue *queue, void *item); /* producer; false when full */
void *queue_pop(struct queue *queue);             /* consumer; NULL when empty */
void *queue_peek(struct queue *queue);            /* consumer; the next item without taking it, or NULL */
size_t queue_count(const struct queue *queue);    /* either side; a snapshot */

#endif
