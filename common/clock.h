// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_COMMON_CLOCK_H
#define DIODECAST_COMMON_CLOCK_H

#include <stdbool.h>
#include <stdint.h>

/* The only readers of the clock; everything that decides takes the result as an argument. */
enum { CLOCK_RFC3339_SIZE = 32 };
#define CLOCK_SECOND_NS      UINT64_C(1000000000)
#define CLOCK_MILLISECOND_NS UINT64_C(1000000)

/* CLOCK_MONOTONIC in nanoseconds. */
uint64_t clock_monotonic_ns(void);
/* CLOCK_REALTIME, nanoseconds since 1970. */
int64_t clock_realtime_ns(void);
/* UTC, RFC 3339 with milliseconds: 2026-11-22T01:50:16.123Z. */
void clock_rfc3339(int64_t realtime_ns, char text[static CLOCK_RFC3339_SIZE]);
/* Reads 2027-06-30 (midnight UTC, its beginning) or 2027-06-30T12:00:00, with Z or an offset such as +02:00 behind it
 * and fractions of a second before that, which are ignored. False, changing nothing, when it is neither. */
bool clock_parse_rfc3339(const char *text, int64_t *realtime_ns);

#endif
