// SPDX-License-Identifier: Apache-2.0
#include "common/prefetch.h"

#include <stdint.h>

enum { LINE = 64, BEGINNING = 1536 };

void prefetch_read(const void *bytes, size_t size)
{
    for (size_t at = 0; at < size && at < BEGINNING; at += LINE)
        __builtin_prefetch((const uint8_t *)bytes + at, 0);
}

#ifdef __x86_64__
/* Else the compiler makes it a prefetch for reading, and the line is asked for twice. Older processors ignore it. */
__attribute__((target("prfchw")))
#endif
void prefetch_write(const void *bytes, size_t size)
{
    for (size_t at = 0; at < size && at < BEGINNING; at += LINE)
        __builtin_prefetch((const uint8_t *)bytes + at, 1);
}
