// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_COMMON_STREAM_H
#define DIODECAST_COMMON_STREAM_H

#include <stddef.h>

/*
 * memcpy() past the caches, for what is not read soon: whole lines are written without being loaded first, and nothing
 * that is in use has to leave for them (Intel 64 and IA-32 Architectures Optimization Reference Manual, "Non-temporal
 * Stores"). The copying thread may read the copy at once. Only with stores of a whole line (AVX-512): those of 16 bytes
 * took longer than loading the line. On other processors it is memcpy(). Any thread.
 */
void stream_copy(void *restrict to, const void *restrict from, size_t size);
/* A hint that such a copy may follow: starts to load what it will need of its destination. */
void stream_expect(const void *to, size_t size);
/* To be called between the last copy and whatever tells another thread of them. */
void stream_fence(void);

#endif
