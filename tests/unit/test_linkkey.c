// SPDX-License-Identifier: Apache-2.0
#include "common/linkkey.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <setjmp.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

enum { SIZE = 1408, AAD_SIZE = 64 };

static const uint8_t secret[LINKKEY_SIZE] = "a link key of thirty-two bytes!";

static void fill(uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++)
        bytes[i] = (uint8_t)(i * 7 + 3);
}

static void what_is_sealed_opens_and_any_change_is_denied(void **state)
{
    (void)state;
    static const uint8_t nothing[SIZE];
    uint8_t plain[SIZE], bytes[SIZE], aad[AAD_SIZE], tag[LINKKEY_TAG_SIZE];
    fill(plain, sizeof(plain));
    fill(aad, sizeof(aad));
    struct linkkey *sender = linkkey_create(secret), *receiver = linkkey_create(secret);
    linkkey_select(sender, 7, 8, 0, 9);
    linkkey_select(receiver, 7, 8, 0, 9);
    linkkey_seal(sender, 42, aad, sizeof(aad), plain, bytes, sizeof(bytes), tag);
    assert_memory_not_equal(plain, bytes, sizeof(bytes));

    uint8_t copy[SIZE];
    memcpy(copy, bytes, sizeof(copy));
    assert_int_equal(linkkey_open(receiver, 43, aad, sizeof(aad), copy, sizeof(copy), tag), STATUS_DENIED);
    assert_memory_equal(copy, nothing, sizeof(copy));
    for (size_t bit = 0; bit < 8 * AAD_SIZE; bit++) {
        memcpy(copy, bytes, sizeof(copy));
        aad[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_int_equal(linkkey_open(receiver, 42, aad, sizeof(aad), copy, sizeof(copy), tag), STATUS_DENIED);
        aad[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    for (size_t bit = 0; bit < 8 * LINKKEY_TAG_SIZE; bit++) {
        memcpy(copy, bytes, sizeof(copy));
        tag[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_int_equal(linkkey_open(receiver, 42, aad, sizeof(aad), copy, sizeof(copy), tag), STATUS_DENIED);
        tag[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    for (size_t i = 0; i < SIZE; i++) {
        memcpy(copy, bytes, sizeof(copy));
        copy[i] ^= 1;
        assert_int_equal(linkkey_open(receiver, 42, aad, sizeof(aad), copy, sizeof(copy), tag), STATUS_DENIED);
    }
    memcpy(copy, bytes, sizeof(copy));
    assert_int_equal(linkkey_open(receiver, 42, aad, sizeof(aad), copy, sizeof(copy), tag), STATUS_OK);
    assert_memory_equal(copy, plain, sizeof(copy));

    /* In place gives the same bytes. */
    memcpy(copy, plain, sizeof(copy));
    uint8_t tag_in_place[LINKKEY_TAG_SIZE];
    linkkey_seal(sender, 42, aad, sizeof(aad), copy, copy, sizeof(copy), tag_in_place);
    assert_memory_equal(copy, bytes, sizeof(copy));
    assert_memory_equal(tag_in_place, tag, sizeof(tag));
    linkkey_destroy(sender);
    linkkey_destroy(receiver);
}

static void every_part_of_the_name_gives_another_key(void **state)
{
    (void)state;
    static const struct {
        uint32_t sender_id;
        uint64_t epoch;
        uint8_t lane;
        uint64_t salt;
    } others[] = {{8, 8, 0, 9}, {7, 9, 0, 9}, {7, 8, 1, 9}, {7, 8, 0, 10}, {7, 8 + (UINT64_C(1) << 63), 0, 9}};
    uint8_t plain[64] = {0}, bytes[64], aad[1] = {0}, tag[LINKKEY_TAG_SIZE];
    struct linkkey *sender = linkkey_create(secret), *receiver = linkkey_create(secret);
    linkkey_select(sender, 7, 8, 0, 9);
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        linkkey_seal(sender, 1, aad, 1, plain, bytes, sizeof(bytes), tag);
        linkkey_select(receiver, others[i].sender_id, others[i].epoch, others[i].lane, others[i].salt);
        assert_int_equal(linkkey_open(receiver, 1, aad, 1, bytes, sizeof(bytes), tag), STATUS_DENIED);
    }
    linkkey_destroy(sender);
    linkkey_destroy(receiver);
}

/* HKDF (RFC 5869) by hand and one-shot AES-GCM of libsodium: the derivation and the nonce as specified. */
static void another_implementation_agrees(void **state)
{
    (void)state;
    if (sodium_init() < 0 || !crypto_aead_aes256gcm_is_available()) {
        print_message("libsodium has no AES-256-GCM on this processor\n");
        skip();
    }
    static const uint8_t salt[8] = {0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11};
    static const uint8_t info[] = "diodecast link 1\x04\x03\x02\x01\x28\x27\x26\x25\x24\x23\x22\x21\x05\x01";
    uint8_t pseudo_random[32], derived[32];
    unsigned int length = 0;
    assert_non_null(HMAC(EVP_sha256(), salt, sizeof(salt), secret, sizeof(secret), pseudo_random, &length));
    assert_non_null(HMAC(EVP_sha256(), pseudo_random, 32, info, sizeof(info) - 1, derived, &length));

    uint8_t plain[200], aad[AAD_SIZE], expected[200 + LINKKEY_TAG_SIZE], bytes[200], tag[LINKKEY_TAG_SIZE];
    fill(plain, sizeof(plain));
    fill(aad, sizeof(aad));
    static const uint8_t nonce[12] = {0, 0, 0, 0, 0xEF, 0xCD, 0xAB, 0x89, 0x67, 0x45, 0x23, 0x01};
    crypto_aead_aes256gcm_encrypt(expected, NULL, plain, sizeof(plain), aad, sizeof(aad), NULL, nonce, derived);

    struct linkkey *key = linkkey_create(secret);
    linkkey_select(key, 0x01020304, UINT64_C(0x2122232425262728), 5, UINT64_C(0x1122334455667788));
    linkkey_seal(key, UINT64_C(0x0123456789ABCDEF), aad, sizeof(aad), plain, bytes, sizeof(bytes), tag);
    assert_memory_equal(bytes, expected, sizeof(bytes));
    assert_memory_equal(tag, expected + sizeof(bytes), sizeof(tag));
    linkkey_destroy(key);
}

static void more_keys_than_are_kept_still_work_in_any_order(void **state)
{
    (void)state;
    enum { SENDERS = 30 };
    uint8_t bytes[SENDERS][64], tags[SENDERS][LINKKEY_TAG_SIZE], aad[4] = {1, 2, 3, 4}, plain[64], copy[64];
    fill(plain, sizeof(plain));
    struct linkkey *sender = linkkey_create(secret), *receiver = linkkey_create(secret);
    for (uint32_t i = 0; i < SENDERS; i++) {
        linkkey_select(sender, i, 1, 0, 2);
        linkkey_seal(sender, i, aad, sizeof(aad), plain, bytes[i], sizeof(plain), tags[i]);
    }
    for (uint32_t round = 0; round < 400; round++) {
        uint32_t i = round * 7919 % SENDERS;
        if (round % 3 == 0) { /* a header that no key made */
            linkkey_select(receiver, i, round, 3, 77);
            memcpy(copy, bytes[i], sizeof(copy));
            assert_int_equal(linkkey_open(receiver, i, aad, sizeof(aad), copy, sizeof(copy), tags[i]), STATUS_DENIED);
        }
        linkkey_select(receiver, i, 1, 0, 2);
        memcpy(copy, bytes[i], sizeof(copy));
        assert_int_equal(linkkey_open(receiver, i, aad, sizeof(aad), copy, sizeof(copy), tags[i]), STATUS_OK);
        assert_memory_equal(copy, plain, sizeof(copy));
    }
    linkkey_destroy(sender);
    linkkey_destroy(receiver);
    linkkey_destroy(NULL);
}

static const uint8_t next_secret[LINKKEY_SIZE] = "another key of thirty-two bytes";

static void either_of_two_keys_opens_and_it_is_told_which(void **state)
{
    (void)state;
    uint8_t plain[SIZE], sealed[2][SIZE], copy[SIZE], aad[4] = {1, 2, 3, 4}, tags[2][LINKKEY_TAG_SIZE];
    struct linkkey *old_sender = linkkey_create(secret), *new_sender = linkkey_create(next_secret),
                   *receiver = linkkey_create(secret);
    linkkey_add(receiver, next_secret, SIZE);
    fill(plain, sizeof(plain));
    linkkey_select(old_sender, 7, 8, 0, 9);
    linkkey_seal(old_sender, 1, aad, sizeof(aad), plain, sealed[0], SIZE, tags[0]);
    linkkey_select(new_sender, 17, 18, 0, 19);
    linkkey_seal(new_sender, 1, aad, sizeof(aad), plain, sealed[1], SIZE, tags[1]);
    assert_int_equal(linkkey_secret_of(receiver, 7, 8, 0), -1);
    for (int round = 0; round < 3; round++) {
        memcpy(copy, sealed[0], SIZE);
        linkkey_select(receiver, 7, 8, 0, 9);
        assert_int_equal(linkkey_open(receiver, 1, aad, sizeof(aad), copy, SIZE, tags[0]), STATUS_OK);
        assert_memory_equal(copy, plain, SIZE);
        memcpy(copy, sealed[1], SIZE);
        linkkey_select(receiver, 17, 18, 0, 19);
        assert_int_equal(linkkey_open(receiver, 1, aad, sizeof(aad), copy, SIZE, tags[1]), STATUS_OK);
        assert_memory_equal(copy, plain, SIZE);
        /* What neither has sealed, under names that are known and under one that is not. */
        static const uint8_t nothing[SIZE];
        for (uint32_t id = 7; id < 37; id += 10) {
            memcpy(copy, sealed[0], SIZE);
            linkkey_select(receiver, id, id + 1, 0, id + 2);
            assert_int_equal(linkkey_open(receiver, 2, aad, sizeof(aad), copy, SIZE, tags[0]), STATUS_DENIED);
            assert_memory_equal(copy, nothing, SIZE);
        }
    }
    assert_int_equal(linkkey_secret_of(receiver, 7, 8, 0), 0);
    assert_int_equal(linkkey_secret_of(receiver, 17, 18, 0), 1);
    assert_int_equal(linkkey_secret_of(receiver, 17, 18, 1), -1);
    assert_int_equal(linkkey_secret_of(receiver, 27, 28, 0), -1);
    linkkey_destroy(old_sender);
    linkkey_destroy(new_sender);
    linkkey_destroy(receiver);
}

static void with_one_key_the_other_does_not_open(void **state)
{
    (void)state;
    uint8_t bytes[64] = {0}, aad[1] = {0}, tag[LINKKEY_TAG_SIZE];
    struct linkkey *sender = linkkey_create(next_secret), *receiver = linkkey_create(secret);
    linkkey_select(sender, 7, 8, 0, 9);
    linkkey_seal(sender, 1, aad, 1, bytes, bytes, sizeof(bytes), tag);
    linkkey_select(receiver, 7, 8, 0, 9);
    assert_int_equal(linkkey_open(receiver, 1, aad, 1, bytes, sizeof(bytes), tag), STATUS_DENIED);
    linkkey_destroy(sender);
    linkkey_destroy(receiver);
}

static void key_files_are_private_new_and_checked(void **state)
{
    (void)state;
    char directory[] = "/tmp/diodecast-test-XXXXXX", path[64], reason[256];
    uint8_t first[LINKKEY_SIZE], second[LINKKEY_SIZE];
    struct stat info;
    assert_non_null(mkdtemp(directory));
    snprintf(path, sizeof(path), "%s/link.key", directory);
    assert_int_equal(linkkey_load(path, first, reason), STATUS_NOT_FOUND);
    assert_int_equal(linkkey_generate(path), STATUS_OK);
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 07777, 0600);
    assert_int_equal(linkkey_load(path, first, reason), STATUS_OK);
    assert_int_equal(linkkey_generate(path), STATUS_EXISTS);
    assert_int_equal(linkkey_load(path, second, reason), STATUS_OK);
    assert_memory_equal(first, second, sizeof(first));

    assert_int_equal(chmod(path, 0640), 0);
    assert_int_equal(linkkey_load(path, second, reason), STATUS_DENIED);
    assert_non_null(strstr(reason, "chmod 600"));
    assert_int_equal(chmod(path, 0600), 0);
    assert_int_equal(truncate(path, 20), 0);
    assert_int_equal(linkkey_load(path, second, reason), STATUS_INVALID);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(linkkey_generate(path), STATUS_OK);
    assert_int_equal(linkkey_load(path, second, reason), STATUS_OK);
    assert_memory_not_equal(first, second, sizeof(first));
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(directory), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_sealed_opens_and_any_change_is_denied),
        cmocka_unit_test(every_part_of_the_name_gives_another_key),
        cmocka_unit_test(another_implementation_agrees),
        cmocka_unit_test(more_keys_than_are_kept_still_work_in_any_order),
        cmocka_unit_test(either_of_two_keys_opens_and_it_is_told_which),
        cmocka_unit_test(with_one_key_the_other_does_not_open),
        cmocka_unit_test(key_files_are_private_new_and_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
