// SPDX-License-Identifier: Apache-2.0
#include "common/clock.h"

#include <assert.h>
#include <stdio.h>
#include <time.h>

uint64_t clock_monotonic_ns(void)
{
    struct timespec now;
    int result = clock_gettime(CLOCK_MONOTONIC, &now);
    assert(result == 0);
    (void)result;
    return (uint64_t)now.tv_sec * CLOCK_SECOND_NS + (uint64_t)now.tv_nsec;
}

int64_t clock_realtime_ns(void)
{
    struct timespec now;
    int result = clock_gettime(CLOCK_REALTIME, &now);
    assert(result == 0);
    (void)result;
    return (int64_t)now.tv_sec * (int64_t)CLOCK_SECOND_NS + now.tv_nsec;
}

void clock_rfc3339(int64_t realtime_ns, char text[static CLOCK_RFC3339_SIZE])
{
    int64_t second_ns = (int64_t)CLOCK_SECOND_NS;
    int64_t seconds = realtime_ns / second_ns;
    int64_t rest_ns = realtime_ns % second_ns;
    if (rest_ns < 0) {
        rest_ns += second_ns;
        seconds--;
    }
    /* 64 bits of nanoseconds end in the years 1677 and 2262, so the fields have their RFC 3339 widths. */
    struct tm parts;
    time_t when = (time_t)seconds;
    struct tm *converted = gmtime_r(&when, &parts);
    assert(converted != NULL);
    (void)converted;
    snprintf(text, CLOCK_RFC3339_SIZE, "%04u-%02u-%02uT%02u:%02u:%02u.%03uZ", (unsigned)(parts.tm_year + 1900) % 10000U,
             (unsigned)(parts.tm_mon + 1) % 100U, (unsigned)parts.tm_mday % 100U, (unsigned)parts.tm_hour % 100U,
             (unsigned)parts.tm_min % 100U, (unsigned)parts.tm_sec % 100U, (unsigned)(rest_ns / 1000000) % 1000U);
}
