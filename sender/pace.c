// SPDX-License-Identifier: Apache-2.0
#include "sender/pace.h"

#include <assert.h>

enum { SECOND_NS = 1000000000 };

void pace_init(struct pace *pace, uint64_t rate_bits_per_s, uint64_t credit_ns, uint64_t now_ns)
{
    assert(rate_bits_per_s > 0);
    *pace = (struct pace){.rate_bits_per_s = rate_bits_per_s, .credit_ns = credit_ns, .free_ns = now_ns};
}

uint64_t pace_ready_ns(const struct pace *pace)
{
    return pace->free_ns + (pace->remainder > 0 ? 1 : 0);
}

void pace_sent(struct pace *pace, uint64_t bits, uint64_t now_ns)
{
    assert(bits < UINT64_C(1) << 34);
    uint64_t earliest_ns = now_ns > pace->credit_ns ? now_ns - pace->credit_ns : 0;
    if (pace->free_ns < earliest_ns) {
        pace->free_ns = earliest_ns;
        pace->remainder = 0;
    }
    uint64_t total = bits * SECOND_NS + pace->remainder;
    pace->free_ns += total / pace->rate_bits_per_s;
    pace->remainder = total % pace->rate_bits_per_s;
}

void pace_resume(struct pace *pace, uint64_t now_ns)
{
    if (pace->free_ns >= now_ns)
        return;
    pace->free_ns = now_ns;
    pace->remainder = 0;
}

uint64_t pace_span_ns(uint64_t rate_bits_per_s, uint64_t bits)
{
    unsigned __int128 product = (unsigned __int128)bits * SECOND_NS;
    return (uint64_t)((product + rate_bits_per_s - 1) / rate_bits_per_s);
}
