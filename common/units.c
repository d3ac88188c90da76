// SPDX-License-Identifier: Apache-2.0
#include "common/units.h"

#include <stdio.h>
#include <string.h>

struct unit {
    const char *name;
    uint64_t factor;
};

#define KIBI UINT64_C(1024)
#define KILO UINT64_C(1000)

static const struct unit size_units[] = {
    {"", 1},
    {"B", 1},
    {"KiB", KIBI},
    {"MiB", KIBI *KIBI},
    {"GiB", KIBI *KIBI *KIBI},
    {"TiB", KIBI *KIBI *KIBI *KIBI},
    {"kB", KILO},
    {"KB", KILO},
    {"MB", KILO *KILO},
    {"GB", KILO *KILO *KILO},
    {"TB", KILO *KILO *KILO *KILO},
};

static const struct unit rate_units[] = {
    {"bit/s", 1},
    {"kbit/s", KILO},
    {"Mbit/s", KILO *KILO},
    {"Gbit/s", KILO *KILO *KILO},
};

static const struct unit duration_units[] = {
    {"ns", 1},
    {"us", KILO},
    {"ms", KILO *KILO},
    {"s", KILO *KILO *KILO},
    {"m", 60 * KILO *KILO *KILO},
    {"min", 60 * KILO *KILO *KILO},
    {"h", 3600 * KILO *KILO *KILO},
    {"d", 86400 * KILO *KILO *KILO},
};

enum { FRACTION_DIGITS = 9 };

static bool is_digit(char character)
{
    return character >= '0' && character <= '9';
}

static bool parse(const char *text, const struct unit *units, size_t unit_count, uint64_t *value)
{
    uint64_t whole = 0;
    uint64_t fraction = 0;
    uint64_t fraction_scale = 1;
    int fraction_digits = 0;
    if (!is_digit(*text))
        return false;
    for (; is_digit(*text); text++)
        if (__builtin_mul_overflow(whole, UINT64_C(10), &whole) ||
            __builtin_add_overflow(whole, (uint64_t)(*text - '0'), &whole))
            return false;
    if (*text == '.') {
        for (text++; is_digit(*text); text++) {
            if (++fraction_digits > FRACTION_DIGITS)
                return false;
            fraction = fraction * 10 + (uint64_t)(*text - '0');
            fraction_scale *= 10;
        }
        if (fraction_digits == 0)
            return false;
    }
    while (*text == ' ')
        text++;
    for (size_t i = 0; i < unit_count; i++) {
        if (strcmp(text, units[i].name) != 0)
            continue;
        /* A fraction of the smallest unit means nothing; elsewhere what is left below one is cut off. */
        if (units[i].factor == 1 && fraction_digits > 0)
            return false;
        unsigned __int128 product =
            (unsigned __int128)whole * units[i].factor + (unsigned __int128)fraction * units[i].factor / fraction_scale;
        if (product > UINT64_MAX)
            return false;
        *value = (uint64_t)product;
        return true;
    }
    return false;
}

bool units_parse_size(const char *text, uint64_t *bytes)
{
    return parse(text, size_units, sizeof size_units / sizeof *size_units, bytes);
}

bool units_parse_rate(const char *text, uint64_t *bits_per_second)
{
    return parse(text, rate_units, sizeof rate_units / sizeof *rate_units, bits_per_second);
}

bool units_parse_duration(const char *text, uint64_t *ns)
{
    return parse(text, duration_units, sizeof duration_units / sizeof *duration_units, ns);
}

/* One decimal below 100, none above or when it is zero: "1.5 GiB", "64 MiB", "512 B". */
static char *format_scaled(uint64_t value, uint64_t step, const char *const names[], size_t name_count, char *out)
{
    size_t unit = 0;
    uint64_t factor = 1;
    /* Tenths, rounded to nearest; the next unit already when this one would round up to `step`. */
    uint64_t tenths = 0;
    for (;;) {
        tenths = (uint64_t)(((unsigned __int128)value * 10 + factor / 2) / factor);
        if (tenths < step * 10 || unit + 1 == name_count)
            break;
        unit++;
        factor *= step;
    }
    if (tenths >= 1000 || tenths % 10 == 0)
        snprintf(out, UNITS_TEXT_SIZE, "%ju %s", (uintmax_t)((tenths + (tenths >= 1000 ? 5 : 0)) / 10), names[unit]);
    else
        snprintf(out, UNITS_TEXT_SIZE, "%ju.%ju %s", (uintmax_t)(tenths / 10), (uintmax_t)(tenths % 10), names[unit]);
    return out;
}

char *units_format_size(uint64_t bytes, char out[static UNITS_TEXT_SIZE])
{
    static const char *const names[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    return format_scaled(bytes, KIBI, names, sizeof names / sizeof *names, out);
}

char *units_format_rate(uint64_t bits_per_second, char out[static UNITS_TEXT_SIZE])
{
    static const char *const names[] = {"bit/s", "kbit/s", "Mbit/s", "Gbit/s", "Tbit/s"};
    return format_scaled(bits_per_second, KILO, names, sizeof names / sizeof *names, out);
}

char *units_format_duration(uint64_t ns, char out[static UNITS_TEXT_SIZE])
{
    static const char *const names[] = {"ns", "us", "ms", "s"};
    uint64_t seconds = ns / 1000000000U;
    if (seconds < 60) {
        /* Rounding must not show "60 s" just below the minute. */
        uint64_t shown = ns > UINT64_C(59900000000) ? UINT64_C(59900000000) : ns;
        return format_scaled(shown, KILO, names, sizeof names / sizeof *names, out);
    }
    if (seconds < 3600)
        snprintf(out, UNITS_TEXT_SIZE, "%jum %02jus", (uintmax_t)(seconds / 60), (uintmax_t)(seconds % 60));
    else if (seconds < 86400)
        snprintf(out, UNITS_TEXT_SIZE, "%juh %02jum", (uintmax_t)(seconds / 3600), (uintmax_t)(seconds / 60 % 60));
    else
        snprintf(out, UNITS_TEXT_SIZE, "%jud %02juh", (uintmax_t)(seconds / 86400), (uintmax_t)(seconds / 3600 % 24));
    return out;
}

const char *units_plural(uint64_t count)
{
    return count == 1 ? "" : "s";
}
