// SPDX-License-Identifier: Apache-2.0
#include "sender/pace.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#define MS     UINT64_C(1000000)
#define SECOND UINT64_C(1000000000)

/* How a sender is late: each wake-up by up to late_ns, and it stands still for stall_ns each stall_each_ns or so. */
struct lateness {
    uint64_t late_ns, stall_ns, stall_each_ns;
};

enum { BURST_MS = 5 };

/*
 * Sends trains as soon as they may go, as lateness lets it; returns the bits sent in `span_ns`, and checks for every
 * window of 100 ms that it holds at most what the rate allows and one train, and for every 5 ms, as long as a burst of
 * losses is that groups are made for, that it holds at most a tenth more than that, and one train.
 */
static uint64_t run(uint64_t rate, uint64_t credit_ns, uint64_t train_bits, struct lateness how, uint64_t span_ns)
{
    enum { HISTORY = 65536 };
    static uint64_t sent_at[HISTORY];
    struct pace pace;
    uint64_t bits = 0, count = 0, window_first = 0, burst_first = 0, next_stall = how.stall_each_ns;
    pace_init(&pace, rate, credit_ns, BURST_MS * MS, 0);
    srand(1);
    for (;;) {
        uint64_t now = pace_ready_ns(&pace);
        uint64_t previous = count > 0 ? sent_at[(count - 1) % HISTORY] : 0;
        if (now <= previous)
            now = previous; /* nothing to sleep for */
        else if (how.late_ns > 0)
            now += (uint64_t)rand() % how.late_ns;
        if (how.stall_ns > 0 && now >= next_stall) {
            now = (now > next_stall + how.stall_ns ? now : next_stall + how.stall_ns);
            next_stall += how.stall_each_ns / 2 + (uint64_t)rand() % how.stall_each_ns;
        }
        if (now >= span_ns)
            return bits;
        pace_sent(&pace, train_bits, now);
        sent_at[count++ % HISTORY] = now;
        bits += train_bits;
        while (sent_at[window_first % HISTORY] + 100 * MS <= now)
            window_first++;
        assert_true(count - window_first < HISTORY);
        uint64_t window_bits = (count - window_first) * train_bits;
        assert_true((double)window_bits <= (double)rate * 0.1 + (double)train_bits + 1);
        while (sent_at[burst_first % HISTORY] + BURST_MS * MS <= now)
            burst_first++;
        uint64_t burst_bits = (count - burst_first) * train_bits;
        double most_s = (double)(BURST_MS * MS + PACE_SLOT_NS) / 1e9 * 11 / 10;
        assert_true((double)burst_bits <= (double)rate * most_s + (double)train_bits + 1);
    }
}

static void assert_mean(uint64_t rate, uint64_t bits, uint64_t span_ns, double tolerance)
{
    double expected = (double)rate * (double)span_ns / 1e9;
    assert_true((double)bits <= expected * (1 + tolerance) + 1e6);
    assert_true((double)bits >= expected * (1 - tolerance) - 1e6);
}

static void mean_holds_when_woken_in_time(void **state)
{
    (void)state;
    const struct lateness none = {0};
    assert_mean(SECOND, run(SECOND, 0, 44 * 12304, none, 2 * SECOND), 2 * SECOND, 0.002);
    assert_mean(999999937, run(999999937, 0, 44 * 12304, none, 2 * SECOND), 2 * SECOND, 0.002);
    assert_mean(64000, run(64000, 0, 12304, none, 100 * SECOND), 100 * SECOND, 0.01);
    assert_mean(10 * SECOND, run(10 * SECOND, 0, 44 * 12304, none, SECOND), SECOND, 0.003);
}

/*
 * The mean over ten seconds is within 2 % as long as the sender stands still for less than a tenth of the time, and
 * what run() looks at holds for any lateness. More can't be made up for without making bursts worse than the FEC is
 * made for.
 */
static void mean_holds_on_a_busy_machine(void **state)
{
    (void)state;
    const struct lateness busy[] = {
        {.late_ns = MS / 2},
        {.late_ns = MS / 10, .stall_ns = MS, .stall_each_ns = 20 * MS},
        {.late_ns = MS / 10, .stall_ns = 3 * MS, .stall_each_ns = 100 * MS},
        {.late_ns = MS / 10, .stall_ns = 2 * MS, .stall_each_ns = 150 * MS},
        {.late_ns = MS / 10, .stall_ns = 4 * MS, .stall_each_ns = 30 * MS},
        {.late_ns = MS / 10, .stall_ns = 7 * MS, .stall_each_ns = 140 * MS},
    };
    for (size_t i = 0; i < sizeof busy / sizeof *busy; i++) {
        assert_mean(SECOND, run(SECOND, 25 * MS, 44 * 12304, busy[i], 10 * SECOND), 10 * SECOND, 0.02);
        assert_mean(SECOND / 10, run(SECOND / 10, 25 * MS, 8 * 12304, busy[i], 10 * SECOND), 10 * SECOND, 0.02);
        assert_mean(5 * SECOND, run(5 * SECOND, 25 * MS, 44 * 12304, busy[i], 10 * SECOND), 10 * SECOND, 0.02);
    }
    const struct lateness overloaded = {.late_ns = MS / 2, .stall_ns = 8 * MS, .stall_each_ns = 30 * MS};
    assert_true(run(SECOND, 25 * MS, 44 * 12304, overloaded, 10 * SECOND) > 9 * SECOND);
}

static void a_pause_is_not_made_up_for_at_once(void **state)
{
    (void)state;
    struct pace pace;
    uint64_t bits = 0, now = 40 * MS;
    pace_init(&pace, SECOND, 25 * MS, BURST_MS * MS, 0);
    for (; now<50 * MS; now = pace_ready_ns(&pace)> now ? pace_ready_ns(&pace) : now) {
        pace_sent(&pace, 100000, now);
        bits += 100000;
    }
    /* Twice what 5 ms, and the slots' resolution, may hold; and a train. */
    assert_true(bits > 10500000);
    assert_true(bits <= 2 * (5720000 + 100000));
}

static void idle_time_earns_nothing(void **state)
{
    (void)state;
    struct pace pace;
    pace_init(&pace, SECOND, 10 * MS, BURST_MS * MS, 0);
    pace_resume(&pace, 5 * SECOND);
    pace_sent(&pace, 1000000, 5 * SECOND);
    assert_int_equal(pace_ready_ns(&pace), 5 * SECOND + MS);
    pace_resume(&pace, 5 * SECOND);
    assert_int_equal(pace_ready_ns(&pace), 5 * SECOND + MS);
}

static void span_of_bits_is_rounded_up(void **state)
{
    (void)state;
    assert_int_equal(pace_span_ns(SECOND, 12304), 12304);
    assert_int_equal(pace_span_ns(3, 1), 333333334);
    assert_int_equal(pace_span_ns(1000, UINT64_C(1) << 40), (UINT64_C(1) << 40) * 1000000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mean_holds_when_woken_in_time),      cmocka_unit_test(mean_holds_on_a_busy_machine),
        cmocka_unit_test(a_pause_is_not_made_up_for_at_once), cmocka_unit_test(idle_time_earns_nothing),
        cmocka_unit_test(span_of_bits_is_rounded_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
