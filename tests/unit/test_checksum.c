// SPDX-License-Identifier: Apache-2.0
#include "common/checksum.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#ifdef __x86_64__
#include <cpuid.h>
#include <immintrin.h>
#endif

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

#ifdef __x86_64__
/* Of XINUSE (Intel SDM 1, 13.6): upper halves of the YMM and ZMM registers that are not in their first state. */
enum { UPPER_YMM = 1 << 2, UPPER_ZMM = 1 << 6 };

__attribute__((target("xsave,xsavec"))) static unsigned upper_halves_in_use(void)
{
    return (unsigned)_xgetbv(1) & (UPPER_YMM | UPPER_ZMM);
}

/* Not of a function for AVX, behind which the compiler clears them. */
static void use_upper_halves(const uint8_t *bytes)
{
    __asm__ volatile("vmovdqu (%0), %%ymm3" ::"r"(bytes) : "xmm3", "memory");
}

__attribute__((target("avx"))) static void clear_upper_halves(void)
{
    _mm256_zeroupper();
}

/* Else SSE code behind a hash waits for hundreds of cycles. */
static void the_upper_halves_of_registers_are_clear_behind_each_call(void **state)
{
    (void)state;
    enum { SIZE = 4096 };
    uint8_t bytes[SIZE], out[CHECKSUM128_SIZE];
    memset(bytes, 0xa5, sizeof bytes);
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
    if (!__builtin_cpu_supports("avx") || __get_cpuid_count(0xd, 1, &eax, &ebx, &ecx, &edx) == 0 || (eax >> 2 & 1) == 0)
        skip();
    use_upper_halves(bytes);
    clear_upper_halves();
    if (upper_halves_in_use() != 0)
        skip(); /* this processor does not keep account of them */
    struct checksum *checksum = checksum_create();
    for (int call = 0; call < 4; call++) {
        use_upper_halves(bytes);
        if (call == 0)
            (void)checksum64(bytes, SIZE);
        else if (call == 1)
            checksum128(bytes, SIZE, out);
        else if (call == 2)
            checksum_update(checksum, bytes, SIZE);
        else
            checksum_final(checksum, out);
        assert_int_equal(upper_halves_in_use(), 0);
    }
    use_upper_halves(bytes);
    assert_int_not_equal(upper_halves_in_use(), 0); /* the test sees them */
    checksum_destroy(checksum);
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_answers_hold),
        cmocka_unit_test(streaming_equals_one_call_for_any_cut),
        cmocka_unit_test(any_bit_changes_the_result),
#ifdef __x86_64__
        cmocka_unit_test(the_upper_halves_of_registers_are_clear_behind_each_call),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
