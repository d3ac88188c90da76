// SPDX-License-Identifier: Apache-2.0
#include "common/digest.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char abc[] = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

/* FIPS 180-4 examples. */
static void known_answers_hold(void **state)
{
    (void)state;
    uint8_t out[DIGEST_SIZE];
    char text[DIGEST_TEXT_SIZE];
    digest_once("", 0, out);
    digest_text(out, text);
    assert_string_equal(text, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    digest_once("abc", 3, out);
    digest_text(out, text);
    assert_string_equal(text, abc);
}

static void a_state_is_reusable_after_final_and_after_reset(void **state)
{
    (void)state;
    uint8_t out[DIGEST_SIZE];
    char text[DIGEST_TEXT_SIZE];
    struct digest *digest = digest_create();
    for (int round = 0; round < 3; round++) {
        digest_update(digest, "a", 1);
        digest_update(digest, "", 0);
        digest_update(digest, "bc", 2);
        digest_final(digest, out);
        digest_text(out, text);
        assert_string_equal(text, abc);
        digest_update(digest, "left over", 9);
        digest_reset(digest);
    }
    digest_destroy(digest);
    digest_destroy(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_answers_hold),
        cmocka_unit_test(a_state_is_reusable_after_final_and_after_reset),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
