// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_COMMON_PREFETCH_H
#define DIODECAST_COMMON_PREFETCH_H

#include <stddef.h>

/*
 * Hints that memory is used soon. Interleaving walks from block to block with each datagram, which no processor
 * foresees. Only the beginning of a long piece is loaded: from there on the processor follows by itself. Any thread;
 * the memory is not accessed.
 */
void prefetch_read(const void *bytes, size_t size);
void prefetch_write(const void *bytes, size_t size);

#endif
