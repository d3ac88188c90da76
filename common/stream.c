// SPDX-License-Identifier: Apache-2.0
#include "common/stream.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "common/prefetch.h"
#include "common/sanitized.h"

/* Sanitizers do not see such stores. */
#if defined(__x86_64__) && !SANITIZED
#include <immintrin.h>

enum { LINE = 64 };

static bool stores_lines(void)
{
    return __builtin_cpu_supports("avx512f");
}

__attribute__((target("avx512f"))) static void copy_lines(uint8_t *to, const uint8_t *from, size_t size)
{
    for (size_t at = 0; at < size; at += LINE)
        _mm512_stream_si512((__m512i *)(void *)(to + at), _mm512_loadu_si512(from + at));
}

void stream_copy(void *restrict to, const void *restrict from, size_t size)
{
    uint8_t *out = to;
    const uint8_t *in = from;
    size_t head = -(uintptr_t)out % LINE;
    if (!stores_lines() || size < head + LINE) {
        memcpy(to, from, size);
        return;
    }
    size_t lines = (size - head) / LINE * LINE, tail = size - head - lines;
    memcpy(out, in, head);
    copy_lines(out + head, in + head, lines);
    memcpy(out + head + lines, in + head + lines, tail);
}

void stream_expect(const void *to, size_t size)
{
    if (!stores_lines() || size == 0) {
        prefetch_write(to, size);
        return;
    }
    /* The lines at the ends are also others'. */
    const uint8_t *begin = to, *end = begin + size;
    if ((uintptr_t)begin % LINE != 0)
        prefetch_write(begin, 1);
    if ((uintptr_t)end % LINE != 0)
        prefetch_write(end - 1, 1);
}

void stream_fence(void)
{
    _mm_sfence();
}
#else
void stream_copy(void *restrict to, const void *restrict from, size_t size)
{
    memcpy(to, from, size);
}

void stream_expect(const void *to, size_t size)
{
    prefetch_write(to, size);
}

void stream_fence(void)
{
}
#endif
