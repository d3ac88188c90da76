// SPDX-License-Identifier: Apache-2.0
#include "common/checksum.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Published by the XXH3 specification and printed by `xxhsum -H3` and `xxhsum -H2`. */
static void known_answers_hold(void **state)
{
    (void)state;
    uint8_t out[CHECKSUM128_SIZE];
    assert_true(checksum64("", 0) == UINT64_C(0x2d06800538d394c2));
    checksum128("", 0, out);
    /* 99aa06d3014798d86001c324468d497f, low half first, little-endian */
    static const uint8_t empty[] = {0x7f, 0x49, 0x8d, 0x46, 0x24, 0xc3, 0x01, 0x60,
                                    0xd8, 0x98, 0x47, 0x01, 0xd3, 0x06, 0xaa, 0x99};
    assert_memory_equal(out, empty, sizeof(empty));
}

static void streaming_equals_one_call_for_any_cut(void **state)
{
    (void)state;
    enum { SIZE = 5000 };
    uint8_t bytes[SIZE];
    uint8_t expected[CHECKSUM128_SIZE], out[CHECKSUM128_SIZE];
    for (int i = 0; i < SIZE; i++)
        bytes[i] = (uint8_t)(i * 31 + i / 256);
    checksum128(bytes, SIZE, expected);
    struct checksum *checksum = checksum_create();
    for (size_t cut = 0; cut <= SIZE; cut += 97) {
        checksum_reset(checksum);
        checksum_update(checksum, bytes, cut);
        checksum_update(checksum, bytes + cut, SIZE - cut);
        checksum_final(checksum, out);
        assert_memory_equal(out, expected, sizeof(out));
    }
    checksum_destroy(checksum);
}

static void any_bit_changes_the_result(void **state)
{
    (void)state;
    uint8_t bytes[300] = {0};
    uint8_t plain[CHECKSUM128_SIZE], flipped[CHECKSUM128_SIZE];
    checksum128(bytes, sizeof(bytes), plain);
    for (size_t i = 0; i < sizeof(bytes); i++) {
        bytes[i] ^= 0x10;
        checksum128(bytes, sizeof(bytes), flipped);
        assert_memory_not_equal(plain, flipped, sizeof(plain));
        bytes[i] ^= 0x10;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_answers_hold),
        cmocka_unit_test(streaming_equals_one_call_for_any_cut),
        cmocka_unit_test(any_bit_changes_the_result),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
