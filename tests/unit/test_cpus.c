// SPDX-License-Identifier: Apache-2.0
#include "common/cpus.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void lists_and_ranges_keep_their_order(void **state)
{
    (void)state;
    static const uint16_t expected[] = {7, 0, 1, 2, 12};
    struct cpus cpus;
    assert_null(cpus_parse("7,0-2, 12", &cpus));
    assert_int_equal(cpus.count, 5);
    assert_memory_equal(cpus.numbers, expected, sizeof expected);
    assert_null(cpus_parse("3", &cpus));
    assert_int_equal(cpus.count, 1);
    assert_null(cpus_parse("0-255", &cpus));
    assert_int_equal(cpus.count, CPUS_MAX);
    assert_int_equal(cpus.numbers[255], 255);
}

static void what_is_no_list_is_refused_and_changes_nothing(void **state)
{
    (void)state;
    static const char *const wrong[] = {"",          " ",     "a",     "-1",   "1-",  "2-1",   "1,,2",
                                        "1,",        ",1",    "1;2",   "0x10", "1 2", "1024",  "0-1024",
                                        "0-256",     "1,2,1", "0-3,2", "+1",   "1.5", "1-2-3", "99999999999999999999",
                                        "4294967296"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct cpus cpus = {.count = 1, .numbers = {9}};
        assert_non_null(cpus_parse(wrong[i], &cpus));
        assert_int_equal(cpus.count, 1);
        assert_int_equal(cpus.numbers[0], 9);
    }
}

static void more_threads_than_cpus_begin_anew(void **state)
{
    (void)state;
    struct cpus cpus = {0};
    assert_int_equal(cpus_of(&cpus, 0), -1);
    assert_null(cpus_parse("4,2", &cpus));
    assert_int_equal(cpus_of(&cpus, 0), 4);
    assert_int_equal(cpus_of(&cpus, 1), 2);
    assert_int_equal(cpus_of(&cpus, 2), 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lists_and_ranges_keep_their_order),
        cmocka_unit_test(what_is_no_list_is_refused_and_changes_nothing),
        cmocka_unit_test(more_threads_than_cpus_begin_anew),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
