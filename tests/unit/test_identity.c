// SPDX-License-Identifier: Apache-2.0
#include "proto/identity.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void ids_print_as_lower_case_hex(void **state)
{
    (void)state;
    static const uint8_t id[TRANSFER_ID_SIZE] = {0x00, 0x0a, 0xff, 0x10, [15] = 0xed};
    char text[TRANSFER_ID_TEXT_SIZE], sender[SENDER_ID_TEXT_SIZE];

    identity_transfer_text(id, text);
    assert_string_equal(text, "000aff100000000000000000000000ed");
    identity_sender_text(0x1f2e3d4c, sender);
    assert_string_equal(sender, "1f2e3d4c");
    identity_sender_text(7, sender);
    assert_string_equal(sender, "00000007");
}

static void a_delivered_name_has_sequence_sender_and_name(void **state)
{
    (void)state;
    char out[IDENTITY_DELIVERED_NAME_SIZE];

    identity_delivered_name(42, 0x1f2e3d4c, "torch-2.1.0.whl", out);
    assert_string_equal(out, "0000000000000042-1f2e3d4c-torch-2.1.0.whl");
    identity_delivered_name(LIMIT_SEQUENCE, UINT32_MAX, "x", out);
    assert_string_equal(out, "9999999999999999-ffffffff-x");
}

static void a_long_name_is_cut_at_200_bytes_on_a_character_boundary(void **state)
{
    (void)state;
    char name[256], out[IDENTITY_DELIVERED_NAME_SIZE];

    memset(name, 'n', 255);
    name[255] = '\0';
    identity_delivered_name(1, 2, name, out);
    assert_int_equal(strlen(out), 26 + 200);

    memcpy(name + 198, "\xe2\x82\xac", 3); /* a euro sign over the edge */
    identity_delivered_name(1, 2, name, out);
    assert_int_equal(strlen(out), 26 + 198);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_print_as_lower_case_hex),
        cmocka_unit_test(a_delivered_name_has_sequence_sender_and_name),
        cmocka_unit_test(a_long_name_is_cut_at_200_bytes_on_a_character_boundary),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
