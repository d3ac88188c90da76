// SPDX-License-Identifier: Apache-2.0
#include <pwd.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static unsigned asked;
static const char *answer;

/* What the system says. */
static int say(uid_t uid, struct passwd *entry, char *buffer, size_t size, struct passwd **found)
{
    (void)uid;
    asked++;
    *found = NULL;
    if (answer == NULL)
        return 0;
    snprintf(buffer, size, "%s", answer);
    *entry = (struct passwd){.pw_name = buffer};
    *found = entry;
    return 0;
}

#define getpwuid_r say
#include "sender/owner.c"

#define SECOND UINT64_C(1000000000)

static char name[LIMIT_USER_LENGTH + 1];

static int setup(void **state)
{
    (void)state;
    memset(known, 0, sizeof known);
    asked = 0;
    answer = "alice";
    return 0;
}

static void a_user_is_asked_for_once_a_minute(void **state)
{
    (void)state;
    owner_name(1000, 1 * SECOND, name);
    assert_string_equal(name, "alice");
    answer = "alicia";
    owner_name(1000, 60 * SECOND, name);
    assert_string_equal(name, "alice");
    assert_int_equal(asked, 1);
    owner_name(1000, 61 * SECOND, name);
    assert_string_equal(name, "alicia");
    assert_int_equal(asked, 2);
}

static void users_are_not_mixed_up_whatever_their_number(void **state)
{
    (void)state;
    char text[16];
    for (unsigned uid = 0; uid < 2 * OWNER_KNOWN; uid++) {
        snprintf(text, sizeof text, "user%u", uid);
        answer = text;
        owner_name(uid, SECOND + uid, name);
        assert_string_equal(name, text);
    }
    answer = "other";
    for (unsigned uid = OWNER_KNOWN; uid < 2 * OWNER_KNOWN; uid++) {
        owner_name(uid, 2 * SECOND, name);
        snprintf(text, sizeof text, "user%u", uid);
        assert_string_equal(name, text);
    }
    assert_int_equal(asked, 2 * OWNER_KNOWN);
    owner_name(0, 2 * SECOND, name);
    assert_string_equal(name, "other");
}

static void who_has_no_name_that_may_cross_is_a_number(void **state)
{
    (void)state;
    answer = NULL;
    owner_name(1234, SECOND, name);
    assert_string_equal(name, "1234");
    answer = "a\nb";
    owner_name(1235, SECOND, name);
    assert_string_equal(name, "1235");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_user_is_asked_for_once_a_minute, setup),
        cmocka_unit_test_setup(users_are_not_mixed_up_whatever_their_number, setup),
        cmocka_unit_test_setup(who_has_no_name_that_may_cross_is_a_number, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
