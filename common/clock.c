// SPDX-License-Identifier: Apache-2.0
#include "common/clock.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>
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

/* The number of exactly `digits` digits at *text, which moves behind them; -1 when they are not there. */
static int read_digits(const char **text, int digits)
{
    int number = 0;
    for (int i = 0; i < digits; i++, (*text)++) {
        if (**text < '0' || **text > '9')
            return -1;
        number = number * 10 + (**text - '0');
    }
    return number;
}

/* "NN?NN": two numbers of two digits with `separator` between them. */
static bool read_pair(const char **text, char separator, int first_max, int second_max, int *first, int *second)
{
    *first = read_digits(text, 2);
    if (*first < 0 || *first > first_max || **text != separator)
        return false;
    (*text)++;
    *second = read_digits(text, 2);
    return *second >= 0 && *second <= second_max;
}

/* Behind the "T": the second of the day, in UTC once the offset is taken off. */
static bool read_time(const char *text, int *seconds)
{
    int hour, minute, offset_hours, offset_minutes;
    if (!read_pair(&text, ':', 23, 59, &hour, &minute) || *text++ != ':')
        return false;
    int second = read_digits(&text, 2);
    if (second < 0 || second > 60)
        return false;
    if (*text == '.') {
        size_t digits = strspn(++text, "0123456789");
        if (digits == 0)
            return false;
        text += digits;
    }
    *seconds = (hour * 60 + minute) * 60 + second;
    if (strcmp(text, "Z") == 0 || strcmp(text, "z") == 0)
        return true;
    char sign = *text;
    if (sign != '+' && sign != '-')
        return false;
    text++;
    if (!read_pair(&text, ':', 23, 59, &offset_hours, &offset_minutes) || *text != '\0')
        return false;
    *seconds -= (sign == '+' ? 1 : -1) * (offset_hours * 60 + offset_minutes) * 60;
    return true;
}

bool clock_parse_rfc3339(const char *text, int64_t *realtime_ns)
{
    enum { FIRST_YEAR = 1970, LAST_YEAR = 2261 }; /* what nanoseconds in 64 bits hold */
    int year = read_digits(&text, 4), month, day, seconds = 0;
    if (year < FIRST_YEAR || year > LAST_YEAR || *text++ != '-' || !read_pair(&text, '-', 12, 31, &month, &day))
        return false;
    if (*text != '\0' && ((*text != 'T' && *text != 't' && *text != ' ') || !read_time(text + 1, &seconds)))
        return false;
    struct tm date = {.tm_year = year - 1900, .tm_mon = month - 1, .tm_mday = day};
    int64_t midnight = (int64_t)timegm(&date);
    if (date.tm_mon != month - 1 || date.tm_mday != day)
        return false; /* there is no such day in that month */
    *realtime_ns = (midnight + seconds) * (int64_t)CLOCK_SECOND_NS;
    return true;
}
