// SPDX-License-Identifier: Apache-2.0
#include "sender/pace.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#define MS     UINT64_C(1000000)
#define SECOND UINT64_C(1000000000)

/* Sends trains as soon as they may go but woken up to `late_ns` late; returns the bits sent in `span_ns` and checks
 * every window of 100 ms against rate plus credit plus one train. */
static uint64_t run(uint64_t rate, uint64_t credit_ns, uint64_t train_bits, uint64_t late_ns, uint64_t span_ns)
{
    enum { HISTORY = 65536 };
    static uint64_t sent_at[HISTORY];
    struct pace pace;
    uint64_t bits = 0, count = 0, window_first = 0;
    pace_init(&pace, rate, credit_ns, 0);
    srand(1);
    for (;;) {
        uint64_t now = pace_ready_ns(&pace);
        uint64_t previous = count > 0 ? sent_at[(count - 1) % HISTORY] : 0;
        if (now <= previous)
            now = previous; /* nothing to sleep for */
        else if (late_ns > 0)
            now += (uint64_t)rand() % late_ns;
        if (now >= span_ns)
            return bits;
        pace_sent(&pace, train_bits, now);
        sent_at[count++ % HISTORY] = now;
        bits += train_bits;
        while (sent_at[window_first % HISTORY] + 100 * MS < now)
            window_first++;
        assert_true(count - window_first < HISTORY);
        uint64_t window_bits = (count - window_first) * train_bits;
        assert_true((double)window_bits <= (double)rate * (0.1 + (double)credit_ns / 1e9) + (double)train_bits + 1);
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
    assert_mean(SECOND, run(SECOND, 0, 44 * 12304, 0, 2 * SECOND), 2 * SECOND, 0.001);
    assert_mean(999999937, run(999999937, 0, 44 * 12304, 0, 2 * SECOND), 2 * SECOND, 0.001);
    assert_mean(64000, run(64000, 0, 12304, 0, 100 * SECOND), 100 * SECOND, 0.01);
    assert_mean(10 * SECOND, run(10 * SECOND, 0, 44 * 12304, 0, SECOND), SECOND, 0.001);
}

static void lateness_within_the_credit_is_made_up(void **state)
{
    (void)state;
    assert_mean(SECOND, run(SECOND, 3 * MS / 2, 44 * 12304, MS, 5 * SECOND), 5 * SECOND, 0.02);
}

static void lateness_beyond_the_credit_never_bursts(void **state)
{
    (void)state;
    uint64_t bits = run(SECOND, MS, 44 * 12304, 20 * MS, 5 * SECOND);
    assert_true(bits < 5 * SECOND);
}

static void idle_time_earns_nothing(void **state)
{
    (void)state;
    struct pace pace;
    pace_init(&pace, SECOND, 10 * MS, 0);
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
        cmocka_unit_test(mean_holds_when_woken_in_time),
        cmocka_unit_test(lateness_within_the_credit_is_made_up),
        cmocka_unit_test(lateness_beyond_the_credit_never_bursts),
        cmocka_unit_test(idle_time_earns_nothing),
        cmocka_unit_test(span_of_bits_is_rounded_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
