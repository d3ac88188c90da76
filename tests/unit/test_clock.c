// SPDX-License-Identifier: Apache-2.0
#include "common/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

static void dates_and_times_are_read(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t seconds;
    } good[] = {
        {"1970-01-01", 0},
        {"2024-02-29", 1709164800},
        {"2027-06-30", 1814313600},
        {"2027-06-30T12:00:00Z", 1814356800},
        {"2027-06-30t12:00:00z", 1814356800},
        {"2027-06-30 12:00:00Z", 1814356800},
        {"2027-06-30T12:00:00.999Z", 1814356800},
        {"2027-06-30T12:00:00+02:00", 1814349600},
        {"2027-06-30T12:00:00-02:30", 1814365800},
        {"2026-12-31T23:59:60Z", 1798761600},
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        int64_t read_ns = -1;
        if (!clock_parse_rfc3339(good[i].text, &read_ns) || read_ns != good[i].seconds * INT64_C(1000000000))
            fail_msg("%s: %lld", good[i].text, (long long)read_ns);
    }
}

static void what_is_neither_date_nor_time_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "2027",
        "2027-06",
        "2027-6-30",
        "2027-00-30",
        "2027-06-00",
        "2027-06-31",
        "2027-02-29",
        "2027-13-01",
        "1969-12-31",
        "2262-01-01",
        "2027-06-30T",
        "2027-06-30T12:00Z",
        "2027-06-30T12:00:00",
        "2027-06-30T24:00:00Z",
        "2027-06-30T12:60:00Z",
        "2027-06-30T12:00:61Z",
        "2027-06-30T12:00:00.Z",
        "2027-06-30T12:00:00+2:00",
        "2027-06-30T12:00:00+02:00x",
        "2027-06-30T12:00:00Zx",
        "2027-06-30x",
        " 2027-06-30",
        "tomorrow",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        int64_t read_ns = -1;
        if (clock_parse_rfc3339(bad[i], &read_ns) || read_ns != -1)
            fail_msg("\"%s\" was taken for %lld", bad[i], (long long)read_ns);
    }
}

static void what_is_written_can_be_read(void **state)
{
    (void)state;
    static const int64_t seconds[] = {0, 1, 951782400, 1763776216, 4102444799, 9183110400};
    for (size_t i = 0; i < sizeof seconds / sizeof *seconds; i++) {
        char text[CLOCK_RFC3339_SIZE];
        int64_t read_ns;
        clock_rfc3339(seconds[i] * INT64_C(1000000000), text);
        assert_true(clock_parse_rfc3339(text, &read_ns));
        assert_true(read_ns == seconds[i] * INT64_C(1000000000));
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(dates_and_times_are_read),
        cmocka_unit_test(what_is_neither_date_nor_time_is_refused),
        cmocka_unit_test(what_is_written_can_be_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
