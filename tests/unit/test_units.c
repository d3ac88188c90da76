// SPDX-License-Identifier: Apache-2.0
#include "common/units.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void assert_size(const char *text, uint64_t expected)
{
    uint64_t value = 0;
    assert_true(units_parse_size(text, &value));
    assert_int_equal(value, expected);
}

static void sizes_take_binary_and_decimal_units(void **state)
{
    (void)state;
    assert_size("0", 0);
    assert_size("4096", 4096);
    assert_size("12B", 12);
    assert_size("64MiB", 64 << 20);
    assert_size("64 MiB", 64 << 20);
    assert_size("1.5KiB", 1536);
    assert_size("500GiB", UINT64_C(500) << 30);
    assert_size("1TiB", UINT64_C(1) << 40);
    assert_size("10MB", 10000000);
    assert_size("18446744073709551615", UINT64_MAX);
}

static void anything_but_one_number_and_one_unit_is_refused(void **state)
{
    (void)state;
    static const char *const wrong[] = {
        "",
        " ",
        "MiB",
        "-1MiB",
        "+1",
        "1MIB",
        "1 Mi B",
        "1,5KiB",
        "0x10",
        "1e3",
        "1.KiB",
        ".5KiB",
        "1.5",
        "1.5B",
        "1KiB ",
        "1KiB1KiB",
        " 1KiB",
        "1bit",
        "1K",
        "nan",
        "inf",
        "1.0000000000KiB",
        "16777216TiB",
        "18446744073709551616",
    };
    uint64_t value = 77;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_false(units_parse_size(wrong[i], &value));
    assert_int_equal(value, 77);
}

static void rates_are_bits_per_second(void **state)
{
    (void)state;
    uint64_t value = 0;
    assert_true(units_parse_rate("1Gbit/s", &value));
    assert_int_equal(value, 1000000000);
    assert_true(units_parse_rate("2.5Gbit/s", &value));
    assert_int_equal(value, UINT64_C(2500000000));
    assert_true(units_parse_rate("64kbit/s", &value));
    assert_int_equal(value, 64000);
    assert_false(units_parse_rate("1Gbit", &value));
    assert_false(units_parse_rate("1000", &value));
    assert_false(units_parse_rate("1GB/s", &value));
    assert_false(units_parse_rate("99999999999Gbit/s", &value));
}

static void durations_end_up_in_nanoseconds(void **state)
{
    (void)state;
    uint64_t value = 0;
    assert_true(units_parse_duration("5ms", &value));
    assert_int_equal(value, 5000000);
    assert_true(units_parse_duration("0.5s", &value));
    assert_int_equal(value, 500000000);
    assert_true(units_parse_duration("10m", &value));
    assert_int_equal(value, UINT64_C(600000000000));
    assert_true(units_parse_duration("7d", &value));
    assert_int_equal(value, UINT64_C(604800000000000));
    assert_false(units_parse_duration("5", &value));
    assert_false(units_parse_duration("300000d", &value));
}

static void texts_for_humans_are_short_and_round_well(void **state)
{
    (void)state;
    char text[UNITS_TEXT_SIZE];
    assert_string_equal(units_format_size(0, text), "0 B");
    assert_string_equal(units_format_size(1023, text), "1023 B");
    assert_string_equal(units_format_size(1536, text), "1.5 KiB");
    assert_string_equal(units_format_size(UINT64_C(3) << 29, text), "1.5 GiB");
    assert_string_equal(units_format_size((1 << 20) - 1, text), "1 MiB");
    assert_string_equal(units_format_size(UINT64_C(200) << 20, text), "200 MiB");
    assert_string_equal(units_format_size(UINT64_MAX, text), "16 EiB");
    assert_string_equal(units_format_rate(500000000, text), "500 Mbit/s");
    assert_string_equal(units_format_rate(1250000000, text), "1.3 Gbit/s");
    assert_string_equal(units_format_duration(5000000, text), "5 ms");
    assert_string_equal(units_format_duration(1500000000, text), "1.5 s");
    assert_string_equal(units_format_duration(UINT64_C(59999999999), text), "59.9 s");
    assert_string_equal(units_format_duration(UINT64_C(200000000000), text), "3m 20s");
    assert_string_equal(units_format_duration(UINT64_C(7500000000000), text), "2h 05m");
    assert_string_equal(units_format_duration(UINT64_C(187200000000000), text), "2d 04h");
    assert_non_null(units_format_duration(UINT64_MAX, text));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_take_binary_and_decimal_units),
        cmocka_unit_test(anything_but_one_number_and_one_unit_is_refused),
        cmocka_unit_test(rates_are_bits_per_second),
        cmocka_unit_test(durations_end_up_in_nanoseconds),
        cmocka_unit_test(texts_for_humans_are_short_and_round_well),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
