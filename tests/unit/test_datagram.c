// SPDX-License-Identifier: Apache-2.0
#include "proto/datagram.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/linkkey.h"
#include "tests/datagrams.h"

enum { SYMBOL_SIZE = 96, SIZE = DATAGRAM_HEADER_SIZE + SYMBOL_SIZE };

static const uint8_t secret[LINKKEY_SIZE] = {1, 2, 3, 4, 5};

static struct datagram example(void)
{
    return (struct datagram){
        .lane = 2,
        .source_symbols = 100,
        .repair_symbols = 13,
        .esi = 112,
        .symbol_size = SYMBOL_SIZE,
        .sender_id = 0xdeadbeef,
        .depth = 70,
        .group_index = 69,
        .epoch = UINT64_C(0x0000000900abcdef),
        .salt = UINT64_C(0x1122334455667788),
        .sequence = UINT64_C(0x99aabbccddeeff00),
        .sbn = UINT64_C(0x0102030405060708),
        .repeat_of = 41,
        .block_hash = UINT64_C(0xfedcba9876543210),
    };
}

/* Writes a whole datagram with a symbol of rising bytes. */
static void make(uint8_t bytes[static SIZE], const struct datagram *datagram, struct linkkey *key)
{
    for (size_t i = 0; i < SYMBOL_SIZE; i++)
        bytes[DATAGRAM_HEADER_SIZE + i] = (uint8_t)i;
    datagram_write(bytes, datagram);
    finish_datagram(bytes, bytes + DATAGRAM_HEADER_SIZE, bytes + DATAGRAM_HEADER_SIZE, SYMBOL_SIZE, key);
}

static bool accepted(const uint8_t *bytes, size_t size, struct linkkey *key)
{
    /* Exactly `size` bytes on the heap, so that the sanitizer sees a read beyond them. */
    uint8_t *copy = malloc(size + 1);
    struct datagram datagram;

    assert_non_null(copy);
    memcpy(copy, bytes, size);
    copy = realloc(copy, size > 0 ? size : 1);
    assert_non_null(copy);
    bool good = datagram_parse(copy, size, &datagram) == DATAGRAM_OK && datagram_open(copy, &datagram, key) == 0;
    free(copy);
    return good;
}

static void what_was_written_is_read_back(void **state)
{
    (void)state;
    struct datagram in = example(), out;
    uint8_t bytes[SIZE];

    make(bytes, &in, NULL);
    assert_int_equal(datagram_parse(bytes, SIZE, &out), DATAGRAM_OK);
    assert_int_equal(datagram_open(bytes, &out, NULL), DATAGRAM_OK);
    assert_true(out.symbol_hash == datagram_symbol_hash(bytes + DATAGRAM_HEADER_SIZE, SYMBOL_SIZE));

    uint8_t again[DATAGRAM_HEADER_SIZE];
    datagram_write(again, &out);
    assert_memory_equal(again, bytes, DATAGRAM_AUTHENTICATED_SIZE);
    assert_int_equal(out.flags, in.flags);
    assert_int_equal(out.esi, in.esi);
    assert_true(out.sequence == in.sequence && out.sbn == in.sbn && out.block_hash == in.block_hash);
}

static void fields_stand_at_the_offsets_of_the_specification(void **state)
{
    (void)state;
    static const uint8_t expected[DATAGRAM_AUTHENTICATED_SIZE] = {
        1,    0,    2,    100,  13,   112,  96,   0,    0xef, 0xbe, 0xad, 0xde, 70,   0,    69,   0,
        0xef, 0xcd, 0xab, 0,    9,    0,    0,    0,    0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11,
        0,    0xff, 0xee, 0xdd, 0xcc, 0xbb, 0xaa, 0x99, 8,    7,    6,    5,    4,    3,    2,    1,
        41,   0,    0,    0,    0,    0,    0,    0,    0x10, 0x32, 0x54, 0x76, 0x98, 0xba, 0xdc, 0xfe,
    };
    struct datagram in = example();
    uint8_t bytes[SIZE];

    make(bytes, &in, NULL);
    assert_memory_equal(bytes, expected, sizeof expected);
}

static void every_truncation_and_every_longer_size_is_rejected(void **state)
{
    (void)state;
    struct datagram in = example();
    uint8_t bytes[SIZE + 64] = {0};

    make(bytes, &in, NULL);
    for (size_t size = 0; size <= sizeof bytes; size++)
        assert_int_equal(accepted(bytes, size, NULL), size == SIZE);
}

static void every_flipped_bit_is_rejected(void **state)
{
    struct linkkey *key = *state;
    struct datagram in = example();
    uint8_t bytes[SIZE];

    in.flags = key != NULL ? DATAGRAM_FLAG_SEALED : 0;
    make(bytes, &in, key);
    assert_true(accepted(bytes, SIZE, key));
    for (size_t bit = 0; bit < 8 * SIZE; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_false(accepted(bytes, SIZE, key));
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    assert_true(accepted(bytes, SIZE, key));
}

static int make_key(void **state)
{
    *state = linkkey_create(secret);
    return 0;
}

static int drop_key(void **state)
{
    linkkey_destroy(*state);
    return 0;
}

static void a_sealed_symbol_is_unreadable_until_opened(void **state)
{
    struct linkkey *key = *state;
    struct datagram in = example(), out;
    uint8_t bytes[SIZE], symbol[SYMBOL_SIZE];

    in.flags = DATAGRAM_FLAG_SEALED;
    make(bytes, &in, key);
    for (size_t i = 0; i < SYMBOL_SIZE; i++)
        symbol[i] = (uint8_t)i;
    assert_memory_not_equal(bytes + DATAGRAM_HEADER_SIZE, symbol, SYMBOL_SIZE);
    assert_int_equal(datagram_parse(bytes, SIZE, &out), DATAGRAM_OK);
    assert_int_equal(datagram_open(bytes, &out, key), DATAGRAM_OK);
    assert_memory_equal(bytes + DATAGRAM_HEADER_SIZE, symbol, SYMBOL_SIZE);
}

static void a_key_accepts_no_plain_datagram_and_none_accepts_no_sealed_one(void **state)
{
    struct linkkey *key = *state;
    struct datagram in = example();
    uint8_t bytes[SIZE];

    make(bytes, &in, NULL);
    assert_false(accepted(bytes, SIZE, key));
    in.flags = DATAGRAM_FLAG_SEALED;
    make(bytes, &in, key);
    assert_false(accepted(bytes, SIZE, NULL));
}

static void another_link_key_is_rejected(void **state)
{
    static const uint8_t other_secret[LINKKEY_SIZE] = {9};
    struct linkkey *other = linkkey_create(other_secret);
    struct datagram in = example();
    uint8_t bytes[SIZE];

    in.flags = DATAGRAM_FLAG_SEALED;
    make(bytes, &in, other);
    assert_true(accepted(bytes, SIZE, other));
    assert_false(accepted(bytes, SIZE, *state));
    linkkey_destroy(other);
}

struct field_case {
    size_t at;
    uint16_t value; /* stored in two bytes, or one when `bytes` is 1 */
    unsigned bytes;
    enum datagram_drop expected;
};

static void absurd_headers_are_dropped_for_their_reason(void **state)
{
    (void)state;
    static const struct field_case cases[] = {
        {0, 0, 1, DATAGRAM_DROP_VERSION},
        {0, 2, 1, DATAGRAM_DROP_VERSION},
        {1, 0x02, 1, DATAGRAM_DROP_VERSION},
        {1, 0x08, 1, DATAGRAM_DROP_VERSION},
        {1, 0x10, 1, DATAGRAM_OK},
        {1, 0xf0, 1, DATAGRAM_OK},
        {2, 16, 1, DATAGRAM_DROP_LANE},
        {2, 15, 1, DATAGRAM_OK},
        {3, 0, 1, DATAGRAM_DROP_GEOMETRY},
        {3, 201, 1, DATAGRAM_DROP_GEOMETRY},
        {4, 3, 1, DATAGRAM_DROP_GEOMETRY},
        {4, 56, 1, DATAGRAM_DROP_GEOMETRY},
        {5, 113, 1, DATAGRAM_DROP_GEOMETRY},
        {5, 255, 1, DATAGRAM_DROP_GEOMETRY},
        {6, 0, 2, DATAGRAM_DROP_GEOMETRY},
        {6, 48, 2, DATAGRAM_DROP_GEOMETRY},
        {6, 100, 2, DATAGRAM_DROP_GEOMETRY},
        {6, 9232, 2, DATAGRAM_DROP_GEOMETRY},
        {6, 65520, 2, DATAGRAM_DROP_GEOMETRY},
        {6, 112, 2, DATAGRAM_DROP_SHORT},
        {6, 80, 2, DATAGRAM_DROP_SHORT},
        {12, 0, 2, DATAGRAM_DROP_GEOMETRY},
        {12, 4097, 2, DATAGRAM_DROP_GEOMETRY},
        {12, 69, 2, DATAGRAM_DROP_GEOMETRY},
        {14, 70, 2, DATAGRAM_DROP_GEOMETRY},
        {14, 65535, 2, DATAGRAM_DROP_GEOMETRY},
    };
    struct datagram in = example(), out;
    uint8_t bytes[SIZE];

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        make(bytes, &in, NULL);
        bytes[cases[i].at] = (uint8_t)cases[i].value;
        if (cases[i].bytes == 2)
            bytes[cases[i].at + 1] = (uint8_t)(cases[i].value >> 8);
        assert_int_equal(datagram_parse(bytes, SIZE, &out), cases[i].expected);
    }
}

static void a_group_with_impossible_block_numbers_is_dropped(void **state)
{
    (void)state;
    struct datagram in = example(), out;
    uint8_t bytes[SIZE];

    in.sbn = 69;
    make(bytes, &in, NULL);
    assert_int_equal(datagram_parse(bytes, SIZE, &out), DATAGRAM_OK);
    bytes[40] = 68;
    assert_int_equal(datagram_parse(bytes, SIZE, &out), DATAGRAM_DROP_GEOMETRY);
    memset(bytes + 40, 0xff, 8);
    assert_int_equal(datagram_parse(bytes, SIZE, &out), DATAGRAM_DROP_GEOMETRY);
}

static void every_drop_reason_has_a_distinct_name(void **state)
{
    (void)state;
    for (int i = 0; i < DATAGRAM_DROP_COUNT; i++) {
        assert_true(strlen(datagram_drop_name(i)) > 0);
        for (int j = 0; j < i; j++)
            assert_string_not_equal(datagram_drop_name(i), datagram_drop_name(j));
    }
}

static void symbol_sizes_fill_the_mtu_without_fragmentation(void **state)
{
    (void)state;
    assert_int_equal(datagram_symbol_size_for_mtu(1500, false), 1392);
    assert_int_equal(datagram_symbol_size_for_mtu(1500, true), 1360);
    assert_int_equal(datagram_symbol_size_for_mtu(9000, false), 8880);
    assert_int_equal(datagram_symbol_size_for_mtu(65536, false), LIMIT_SYMBOL_SIZE);
    assert_int_equal(datagram_symbol_size_for_mtu(UINT32_MAX, true), LIMIT_SYMBOL_SIZE);
    assert_int_equal(datagram_symbol_size_for_mtu(171, false), 0);
    assert_int_equal(datagram_symbol_size_for_mtu(172, false), 64);
    assert_int_equal(datagram_symbol_size_for_mtu(0, false), 0);
    for (uint32_t mtu = 172; mtu < 9400; mtu++)
        assert_true(datagram_symbol_size_for_mtu(mtu, false) + 28u + DATAGRAM_HEADER_SIZE <= mtu);
}

static void wire_bits_count_the_whole_ethernet_frame(void **state)
{
    (void)state;
    assert_int_equal(datagram_wire_bits(1392, false), 8 * (1392 + 80 + 8 + 20 + 38));
    assert_int_equal(datagram_wire_bits(1360, true), 8 * (1360 + 80 + 8 + 40 + 38));
}

static void a_short_block_keeps_the_ratio_and_at_least_four_repair_symbols(void **state)
{
    (void)state;
    assert_int_equal(datagram_repair_for(128, 128, 16), 16);
    assert_int_equal(datagram_repair_for(1, 128, 16), 4);
    assert_int_equal(datagram_repair_for(33, 128, 16), 5);
    assert_int_equal(datagram_repair_for(200, 200, 55), 55);
    assert_int_equal(datagram_repair_for(199, 200, 55), 55);
    for (unsigned k = 1; k <= 200; k++)
        assert_true(datagram_repair_for((uint8_t)k, 200, 55) <= 55);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_written_is_read_back),
        cmocka_unit_test(fields_stand_at_the_offsets_of_the_specification),
        cmocka_unit_test(every_truncation_and_every_longer_size_is_rejected),
        cmocka_unit_test(every_flipped_bit_is_rejected),
        cmocka_unit_test_setup_teardown(every_flipped_bit_is_rejected, make_key, drop_key),
        cmocka_unit_test_setup_teardown(a_sealed_symbol_is_unreadable_until_opened, make_key, drop_key),
        cmocka_unit_test_setup_teardown(a_key_accepts_no_plain_datagram_and_none_accepts_no_sealed_one, make_key,
                                        drop_key),
        cmocka_unit_test_setup_teardown(another_link_key_is_rejected, make_key, drop_key),
        cmocka_unit_test(absurd_headers_are_dropped_for_their_reason),
        cmocka_unit_test(a_group_with_impossible_block_numbers_is_dropped),
        cmocka_unit_test(every_drop_reason_has_a_distinct_name),
        cmocka_unit_test(symbol_sizes_fill_the_mtu_without_fragmentation),
        cmocka_unit_test(wire_bits_count_the_whole_ethernet_frame),
        cmocka_unit_test(a_short_block_keeps_the_ratio_and_at_least_four_repair_symbols),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
