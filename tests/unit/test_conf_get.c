// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/conf.h"

static void the_first_value_of_the_section_is_returned(void **state)
{
    (void)state;
    char name[] = "/tmp/diodecast-test-XXXXXX";
    int fd = mkstemp(name);
    FILE *file = fdopen(fd, "w");
    assert_non_null(file);
    fputs("[link]\nspool = wrong\n[sender]\nother = x\n  spool=  /var/spool x ; where\nspool = later\nempty =\n", file);
    assert_int_equal(fclose(file), 0);

    char *value = conf_get(name, "sender", "spool");
    assert_string_equal(value, "/var/spool x");
    free(value);
    value = conf_get(name, "sender", "empty");
    assert_string_equal(value, "");
    free(value);
    errno = 5;
    assert_null(conf_get(name, "sender", "absent"));
    assert_int_equal(errno, 0);
    assert_int_equal(unlink(name), 0);
    assert_null(conf_get(name, "sender", "spool"));
    assert_int_equal(errno, ENOENT);
    assert_null(conf_get("/tmp", "sender", "spool"));
    assert_int_equal(errno, EISDIR);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_value_of_the_section_is_returned),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
