// SPDX-License-Identifier: Apache-2.0
#include "common/fingerprint.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void a_fingerprint_is_the_key_id_as_minisign_prints_it_and_sha_256_in_groups(void **state)
{
    (void)state;
    struct signature_public key = {.key_id = {1, 2, 3, 4, 5, 6, 7, 0xab}};
    char id[FINGERPRINT_KEY_ID_SIZE], text[FINGERPRINT_SIZE];
    for (uint8_t i = 0; i < SIGNATURE_PUBLIC_SIZE; i++)
        key.key[i] = i;
    fingerprint_key_id(key.key_id, id);
    assert_string_equal(id, "AB07060504030201");
    fingerprint_text(&key, text);
    assert_string_equal(text, "AB07060504030201 630d cd29 66c4 3366 9112 5448 bbb2 5b4f f412 a49c 732d b2c8 abc1 b858 "
                              "1bd7 10dd");
    assert_int_equal(strlen(text), FINGERPRINT_SIZE - 1);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_fingerprint_is_the_key_id_as_minisign_prints_it_and_sha_256_in_groups),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
