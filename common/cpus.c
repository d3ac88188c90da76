// SPDX-License-Identifier: Apache-2.0
#include "common/cpus.h"

#include <stdbool.h>

/* Plain decimal digits; moves *text behind them. */
static bool parse_number(const char **text, unsigned *number)
{
    const char *at = *text;
    *number = 0;
    for (; *at >= '0' && *at <= '9' && *number <= CPUS_NUMBER_MAX; at++)
        *number = *number * 10 + (unsigned)(*at - '0');
    bool found = at != *text && *number <= CPUS_NUMBER_MAX;
    *text = at;
    return found;
}

static bool has(const struct cpus *cpus, unsigned number)
{
    for (unsigned i = 0; i < cpus->count; i++)
        if (cpus->numbers[i] == number)
            return true;
    return false;
}

const char *cpus_parse(const char *text, struct cpus *cpus)
{
    static const char wanted[] = "not a list of CPU numbers, as in 2-5 or 0,2,4";
    struct cpus parsed = {0};
    for (;;) {
        unsigned first, last;
        if (!parse_number(&text, &first))
            return wanted;
        last = first;
        if (*text == '-') {
            text++;
            if (!parse_number(&text, &last) || last < first)
                return wanted;
        }
        for (unsigned number = first; number <= last; number++) {
            if (has(&parsed, number))
                return "a CPU is named twice";
            if (parsed.count == CPUS_MAX)
                return "more than 256 CPUs";
            parsed.numbers[parsed.count++] = (uint16_t)number;
        }
        if (*text == '\0')
            break;
        if (*text++ != ',')
            return wanted;
        while (*text == ' ')
            text++;
    }
    *cpus = parsed;
    return NULL;
}

int cpus_of(const struct cpus *cpus, unsigned index)
{
    return cpus->count == 0 ? -1 : cpus->numbers[index % cpus->count];
}
