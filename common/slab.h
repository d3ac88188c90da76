// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_COMMON_SLAB_H
#define DIODECAST_COMMON_SLAB_H

#include <stddef.h>
#include <stdint.h>

#include "common/status.h"

/*
 * A fixed number of equal buffers in one page-aligned mapping, made at start and touched, so that memory is known and
 * present before the first datagram. Taken by one thread and returned by one other (a queue inside).
 */
struct slab;

MUST_CHECK enum status slab_create(size_t buffer_size, size_t count, struct slab **slab);
void slab_destroy(struct slab *slab);
void *slab_take(struct slab *slab); /* NULL when all are out */
void slab_return(struct slab *slab, void *buffer);
size_t slab_available(const struct slab *slab);
size_t slab_bytes(const struct slab *slab); /* of the mapping */
void *slab_memory(struct slab *slab);       /* its start */

#endif
