// SPDX-License-Identifier: Apache-2.0
#include "sender/idle.h"

#include <assert.h>

#include "sender/pace.h"

void idle_init(struct idle *idle, uint64_t rate_bits_per_s, unsigned share, uint64_t now_ns)
{
    assert(share >= 1 && share <= 100);
    uint64_t rate = rate_bits_per_s / 100 * share + rate_bits_per_s % 100 * share / 100;
    *idle = (struct idle){.rate_bits_per_s = rate > 0 ? rate : 1, .free_ns = now_ns};
}

uint64_t idle_ready_ns(const struct idle *idle)
{
    return idle->free_ns;
}

static void take(struct idle *idle, uint64_t bits, uint64_t now_ns)
{
    if (idle->free_ns < now_ns)
        idle->free_ns = now_ns;
    idle->free_ns += pace_span_ns(idle->rate_bits_per_s, bits);
}

void idle_block(struct idle *idle, uint64_t bits, bool is_short, uint64_t now_ns)
{
    take(idle, is_short ? 2 * bits : bits, now_ns);
    if (!is_short)
        idle->full_bits += bits;
}

void idle_group(struct idle *idle, bool complete, uint64_t now_ns)
{
    if (!complete && idle->full_bits > 0)
        take(idle, idle->full_bits, now_ns);
    idle->full_bits = 0;
}
