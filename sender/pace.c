// SPDX-License-Identifier: Apache-2.0
#include "sender/pace.h"

#include <assert.h>
#include <string.h>

enum { SECOND_NS = 1000000000 };

void pace_init(struct pace *pace, uint64_t rate_bits_per_s, uint64_t credit_ns, uint64_t now_ns)
{
    assert(rate_bits_per_s > 0);
    *pace = (struct pace){.rate_bits_per_s = rate_bits_per_s,
                          .credit_ns = credit_ns,
                          .free_ns = now_ns,
                          .fast_ns = now_ns,
                          .slot = now_ns / PACE_SLOT_NS};
}

uint64_t pace_ready_ns(const struct pace *pace)
{
    uint64_t ready_ns = pace->free_ns + (pace->remainder > 0 ? 1 : 0);
    if (ready_ns < pace->fast_ns)
        ready_ns = pace->fast_ns;
    return ready_ns < pace->window_ns ? pace->window_ns : ready_ns;
}

/* Forgets the slots that have left the window. */
static void move_window(struct pace *pace, uint64_t now_ns)
{
    uint64_t slot = now_ns / PACE_SLOT_NS;
    if (slot >= pace->slot + PACE_SLOTS) {
        memset(pace->bits, 0, sizeof pace->bits);
        pace->sum = 0;
        pace->slot = slot;
    }
    while (pace->slot < slot) {
        uint64_t *oldest = &pace->bits[++pace->slot % PACE_SLOTS];
        pace->sum -= *oldest;
        *oldest = 0;
    }
}

/* The slots have room when without the oldest ones they hold no more than the rate allows. */
static uint64_t find_room(const struct pace *pace)
{
    uint64_t limit = (uint64_t)((unsigned __int128)pace->rate_bits_per_s * PACE_WINDOW_NS / SECOND_NS);
    uint64_t sum = pace->sum, left = 0;
    while (sum > limit)
        sum -= pace->bits[(pace->slot + ++left) % PACE_SLOTS];
    return left == 0 ? 0 : (pace->slot + left) * PACE_SLOT_NS;
}

static uint64_t behind(uint64_t now_ns, uint64_t span_ns)
{
    return now_ns > span_ns ? now_ns - span_ns : 0;
}

void pace_sent(struct pace *pace, uint64_t bits, uint64_t now_ns)
{
    assert(bits < UINT64_C(1) << 34);
    if (pace->free_ns < behind(now_ns, pace->credit_ns)) {
        pace->free_ns = behind(now_ns, pace->credit_ns);
        pace->remainder = 0;
    }
    uint64_t total = bits * SECOND_NS + pace->remainder;
    pace->free_ns += total / pace->rate_bits_per_s;
    pace->remainder = total % pace->rate_bits_per_s;

    if (pace->fast_ns < behind(now_ns, PACE_BURST_NS))
        pace->fast_ns = behind(now_ns, PACE_BURST_NS);
    pace->fast_ns += pace_span_ns(pace->rate_bits_per_s, bits) * 8 / 9;

    move_window(pace, now_ns);
    pace->bits[pace->slot % PACE_SLOTS] += bits;
    pace->sum += bits;
    pace->window_ns = find_room(pace);
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
