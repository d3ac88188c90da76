// SPDX-License-Identifier: Apache-2.0
#include "proto/signed.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/diodecast.pb-c.h"

static const uint8_t seed[32] = {7};
static const uint8_t body[] = "a body";

static struct signature_key *key;

static int make_key(void **state)
{
    (void)state;
    assert_int_equal(signature_init(), STATUS_OK);
    key = signature_key_from_seed(seed);
    return 0;
}

static int drop_key(void **state)
{
    (void)state;
    signature_key_destroy(key);
    return 0;
}

static void the_body_comes_back_verbatim_and_verifies(void **state)
{
    (void)state;
    static const char *const comments[] = {NULL, "", "transfer 42 at 2026-11-22, größe"};

    for (size_t i = 0; i < sizeof comments / sizeof *comments; i++) {
        uint8_t *bytes;
        size_t size;
        struct signature made;
        struct signed_message message;
        signed_encode(key, body, sizeof body, comments[i], &bytes, &size, &made);
        assert_true(size <= sizeof body + LIMIT_SIGNED_OVERHEAD);
        assert_int_equal(signed_decode(bytes, size, sizeof body, &message), STATUS_OK);
        free(bytes);
        assert_int_equal(message.body_size, sizeof body);
        assert_memory_equal(message.body, body, sizeof body);
        assert_memory_equal(message.signature.bytes, made.bytes, SIGNATURE_SIZE);
        assert_int_equal(message.signature.has_comment, comments[i] != NULL);
        if (comments[i] != NULL)
            assert_string_equal(message.signature.trusted_comment, comments[i]);
        assert_true(signature_verify(signature_key_public(key), message.body, message.body_size, &message.signature));
        message.body[0] ^= 1;
        assert_false(signature_verify(signature_key_public(key), message.body, message.body_size, &message.signature));
        signed_message_deinit(&message);
    }
}

static void no_truncation_and_no_flipped_bit_verifies_as_the_same_body(void **state)
{
    (void)state;
    uint8_t *bytes;
    size_t size;
    struct signed_message message;

    signed_encode(key, body, sizeof body, "comment", &bytes, &size, NULL);
    for (size_t cut = 0; cut < size; cut++) {
        uint8_t *copy = malloc(cut + 1);
        assert_non_null(copy);
        memcpy(copy, bytes, cut);
        if (signed_decode(copy, cut, sizeof body, &message) == STATUS_OK) {
            /* Cut between two fields: whole messages, but a comment without its signature is none of them. */
            assert_false(message.signature.has_comment);
            signed_message_deinit(&message);
        }
        free(copy);
    }
    for (size_t bit = 0; bit < 8 * size; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        if (signed_decode(bytes, size, sizeof body, &message) == STATUS_OK) {
            bool good =
                signature_verify(signature_key_public(key), message.body, message.body_size, &message.signature);
            /* A global signature or comment under an unknown field number is skipped; the body's signature stays. */
            assert_true(!good || (message.body_size == sizeof body && memcmp(message.body, body, sizeof body) == 0));
            signed_message_deinit(&message);
        }
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    free(bytes);
}

static void a_body_over_its_limit_is_refused(void **state)
{
    (void)state;
    uint8_t *bytes;
    size_t size;
    struct signed_message message;

    signed_encode(key, body, sizeof body, NULL, &bytes, &size, NULL);
    assert_int_equal(signed_decode(bytes, size, sizeof body - 1, &message), STATUS_INVALID);
    assert_null(message.body);
    assert_int_equal(signed_decode(bytes, size, SIZE_MAX, &message), STATUS_INVALID);
    free(bytes);
}

/* Encodes an envelope as given, without any of signed_encode()'s checks. */
static enum status decode_raw(Diodecast__Signed *envelope)
{
    uint8_t bytes[2048];
    struct signed_message message;

    assert_true(diodecast__signed__get_packed_size(envelope) <= sizeof bytes);
    size_t size = diodecast__signed__pack(envelope, bytes);
    enum status status = signed_decode(bytes, size, 64, &message);
    signed_message_deinit(&message);
    return status;
}

static void malformed_envelopes_are_refused(void **state)
{
    (void)state;
    uint8_t signature[SIGNATURE_SIZE + 1] = "ED", global[SIGNATURE_GLOBAL_SIZE + 1] = {0};
    char comment[LIMIT_COMMENT_LENGTH + 2];
    Diodecast__Signed good = DIODECAST__SIGNED__INIT, bad;

    good.body = (ProtobufCBinaryData){.len = 4, .data = (uint8_t *)"body"};
    good.signature = (ProtobufCBinaryData){.len = SIGNATURE_SIZE, .data = signature};
    assert_int_equal(decode_raw(&good), STATUS_OK);

    bad = good;
    bad.body.len = 0;
    assert_int_equal(decode_raw(&bad), STATUS_INVALID);
    bad = good;
    bad.signature.len = SIGNATURE_SIZE - 1;
    assert_int_equal(decode_raw(&bad), STATUS_INVALID);
    bad.signature.len = SIGNATURE_SIZE + 1;
    assert_int_equal(decode_raw(&bad), STATUS_INVALID);
    bad = good;
    signature[1] = 'd';
    assert_int_equal(decode_raw(&bad), STATUS_INVALID);
    signature[1] = 'D';
    bad = good;
    bad.trusted_comment = (char *)"a comment that nothing signs";
    assert_int_equal(decode_raw(&bad), STATUS_INVALID);

    good.global_signature = (ProtobufCBinaryData){.len = SIGNATURE_GLOBAL_SIZE, .data = global};
    good.trusted_comment = comment;
    memset(comment, 'c', sizeof comment);
    comment[LIMIT_COMMENT_LENGTH] = '\0';
    assert_int_equal(decode_raw(&good), STATUS_OK);
    comment[LIMIT_COMMENT_LENGTH] = 'c';
    comment[LIMIT_COMMENT_LENGTH + 1] = '\0';
    assert_int_equal(decode_raw(&good), STATUS_INVALID);
    memcpy(comment, "a\nb", 4);
    assert_int_equal(decode_raw(&good), STATUS_INVALID);
    memcpy(comment, "a\xff", 3);
    assert_int_equal(decode_raw(&good), STATUS_INVALID);
    memcpy(comment, "ok", 3);
    good.global_signature.len = SIGNATURE_GLOBAL_SIZE + 1;
    assert_int_equal(decode_raw(&good), STATUS_INVALID);
}

static void ambiguous_or_wasteful_encodings_are_refused(void **state)
{
    (void)state;
    uint8_t *bytes;
    size_t size;
    struct signed_message message;

    signed_encode(key, body, sizeof body, NULL, &bytes, &size, NULL);
    bytes = realloc(bytes, size + 512);
    assert_non_null(bytes);
    memcpy(bytes + size, "\x0a\x01x", 3); /* a second body */
    assert_int_equal(signed_decode(bytes, size + 3, 64, &message), STATUS_INVALID);
    memcpy(bytes + size, "\x78\x01", 2); /* field 15, unknown to us: skipped */
    assert_int_equal(signed_decode(bytes, size + 2, 64, &message), STATUS_OK);
    signed_message_deinit(&message);
    memcpy(bytes + size, "\x78\x81\x00", 3); /* the same in a longer form */
    assert_int_equal(signed_decode(bytes, size + 3, 64, &message), STATUS_INVALID);
    memcpy(bytes + size, "\x7b\x7c", 2); /* a group */
    assert_int_equal(signed_decode(bytes, size + 2, 64, &message), STATUS_INVALID);
    memcpy(bytes + size, "\x02\x00", 2); /* field 0 */
    assert_int_equal(signed_decode(bytes, size + 2, 64, &message), STATUS_INVALID);
    memcpy(bytes + size, "\x7a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11); /* a length of 2^64 - 1 */
    assert_int_equal(signed_decode(bytes, size + 11, 64, &message), STATUS_INVALID);
    for (size_t i = 0; i <= LIMIT_UNKNOWN_FIELDS; i++)
        memcpy(bytes + size + 2 * i, "\x78\x01", 2);
    assert_int_equal(signed_decode(bytes, size + 2 * LIMIT_UNKNOWN_FIELDS, 64, &message), STATUS_OK);
    signed_message_deinit(&message);
    assert_int_equal(signed_decode(bytes, size + 2 * LIMIT_UNKNOWN_FIELDS + 2, 64, &message), STATUS_INVALID);
    free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_body_comes_back_verbatim_and_verifies),
        cmocka_unit_test(no_truncation_and_no_flipped_bit_verifies_as_the_same_body),
        cmocka_unit_test(a_body_over_its_limit_is_refused),
        cmocka_unit_test(malformed_envelopes_are_refused),
        cmocka_unit_test(ambiguous_or_wasteful_encodings_are_refused),
    };
    return cmocka_run_group_tests(tests, make_key, drop_key);
}
