// SPDX-License-Identifier: Apache-2.0
#include "sender/pace.h"

#include <assert.h>
#include <string.h>

enum { SECOND_NS = 1000000000 };

/* What the rate allows in `span_ns`. */
static uint64_t bits_in(uint64_t rate_bits_per_s, uint64_t span_ns)
{
    return (uint64_t)((unsigned __int128)rate_bits_per_s * span_ns / SECOND_NS);
}

void pace_init(struct pace *pace, uint64_t rate_bits_per_s, uint64_t credit_ns, uint64_t burst_ns, uint64_t now_ns)
{
    assert(rate_bits_per_s > 0);
    if (burst_ns > PACE_WINDOW_NS)
        burst_ns = PACE_WINDOW_NS;
    uint64_t burst_slots = (burst_ns + PACE_SLOT_NS - 1) / PACE_SLOT_NS + 1;
    *pace = (struct pace){.rate_bits_per_s = rate_bits_per_s,
                          .credit_ns = credit_ns,
                          .free_ns = now_ns,
                          .slot = now_ns / PACE_SLOT_NS,
                          .window = {PACE_SLOTS, bits_in(rate_bits_per_s, PACE_WINDOW_NS), 0},
                          .burst = {burst_slots, bits_in(rate_bits_per_s, burst_slots * PACE_SLOT_NS) * 11 / 10, 0}};
}

uint64_t pace_ready_ns(const struct pace *pace)
{
    uint64_t ready_ns = pace->free_ns + (pace->remainder > 0 ? 1 : 0);
    return ready_ns < pace->room_ns ? pace->room_ns : ready_ns;
}

/* Time goes on by one slot: forgets the one that leaves the window. */
static void shift(const struct pace *pace, struct pace_window *window)
{
    window->sum -= pace->bits[(pace->slot + 1 + PACE_SLOTS - window->slots) % PACE_SLOTS];
}

static void move_windows(struct pace *pace, uint64_t now_ns)
{
    uint64_t slot = now_ns / PACE_SLOT_NS;
    if (slot >= pace->slot + PACE_SLOTS) {
        memset(pace->bits, 0, sizeof pace->bits);
        pace->window.sum = pace->burst.sum = 0;
        pace->slot = slot;
    }
    while (pace->slot < slot) {
        shift(pace, &pace->window);
        shift(pace, &pace->burst);
        pace->bits[++pace->slot % PACE_SLOTS] = 0;
    }
}

/* When the window without its oldest slots holds no more than its limit. */
static uint64_t find_room(const struct pace *pace, const struct pace_window *window)
{
    uint64_t sum = window->sum, left = 0;
    while (sum > window->limit)
        sum -= pace->bits[(pace->slot + ++left + PACE_SLOTS - window->slots) % PACE_SLOTS];
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

    move_windows(pace, now_ns);
    pace->bits[pace->slot % PACE_SLOTS] += bits;
    pace->window.sum += bits;
    pace->burst.sum += bits;
    uint64_t window_ns = find_room(pace, &pace->window), burst_ns = find_room(pace, &pace->burst);
    pace->room_ns = window_ns > burst_ns ? window_ns : burst_ns;
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
