// SPDX-License-Identifier: Apache-2.0
#include "common/gcm.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

enum { MAX_SIZE = 9216, AAD_SIZE = 64, ROUNDS = 1500 };

struct message {
    uint8_t nonce[GCM_NONCE_SIZE];
    uint8_t aad[AAD_SIZE];
    uint8_t tag[GCM_TAG_SIZE];
    uint8_t plain[MAX_SIZE];
    uint8_t sealed[MAX_SIZE];
};

static struct message message;
static uint8_t copy[MAX_SIZE + 1];
static const uint8_t key_bytes[GCM_KEY_SIZE] = "thirty-two bytes of key for this";
static const uint8_t zeros[MAX_SIZE];

/* The tests run once for each library; this is that of the run, and beside it always OpenSSL as the oracle. */
static struct gcm *gcm, *openssl;

static uint64_t random_state;

static uint64_t random_number(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static void fill(uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++)
        bytes[i] = (uint8_t)(random_number() >> 32);
}

static struct gcm_key *make_key(const struct gcm *from)
{
    struct gcm_key *key = gcm_key_create(from);
    gcm_key_set(key, key_bytes);
    return key;
}

static size_t make_message(size_t size)
{
    fill(message.nonce, sizeof(message.nonce));
    fill(message.aad, sizeof(message.aad));
    fill(message.plain, size);
    return size;
}

static void the_published_vectors_come_out(void **state)
{
    (void)state;
    /* McGrew and Viega, "The Galois/Counter Mode of Operation", test cases 13 and 14: all is zero. */
    static const uint8_t tag_of_nothing[] = {0x53, 0x0f, 0x8a, 0xfb, 0xc7, 0x45, 0x36, 0xb9,
                                             0xa9, 0x63, 0xb4, 0xf1, 0xc4, 0xcb, 0x73, 0x8b};
    static const uint8_t sealed[] = {0xce, 0xa7, 0x40, 0x3d, 0x4d, 0x60, 0x6b, 0x6e,
                                     0x07, 0x4e, 0xc5, 0xd3, 0xba, 0xf3, 0x9d, 0x18};
    static const uint8_t tag_of_block[] = {0xd0, 0xd1, 0xc8, 0xa7, 0x99, 0x99, 0x6b, 0xf0,
                                           0x26, 0x5b, 0x98, 0xb5, 0xd4, 0x8a, 0xb9, 0x19};
    uint8_t bytes[16], tag[GCM_TAG_SIZE];
    struct gcm_key *key = gcm_key_create(gcm);
    gcm_key_set(key, zeros);
    gcm_seal(key, zeros, zeros, 0, zeros, bytes, 0, tag);
    assert_memory_equal(tag, tag_of_nothing, sizeof(tag));
    gcm_seal(key, zeros, zeros, 0, zeros, bytes, sizeof(bytes), tag);
    assert_memory_equal(bytes, sealed, sizeof(bytes));
    assert_memory_equal(tag, tag_of_block, sizeof(tag));
    gcm_key_destroy(key);
}

static void every_size_gives_the_bytes_of_openssl_apart_and_in_place(void **state)
{
    (void)state;
    struct gcm_key *key = make_key(gcm), *oracle = make_key(openssl);
    for (size_t round = 0; round < ROUNDS; round++) {
        /* All the small sizes, where blocks and lanes of the cipher begin, and random ones. */
        size_t size = make_message(round <= 600 ? round : random_number() % (MAX_SIZE + 1));
        size_t aad_size = round % 2 == 0 ? AAD_SIZE : random_number() % (AAD_SIZE + 1);
        uint8_t tag[GCM_TAG_SIZE];
        gcm_seal(oracle, message.nonce, message.aad, aad_size, message.plain, message.sealed, size, message.tag);

        copy[size] = 0xA5;
        gcm_seal(key, message.nonce, message.aad, aad_size, message.plain, copy, size, tag);
        assert_memory_equal(copy, message.sealed, size);
        assert_memory_equal(tag, message.tag, sizeof(tag));
        memcpy(copy, message.plain, size);
        gcm_seal(key, message.nonce, message.aad, aad_size, copy, copy, size, tag);
        assert_memory_equal(copy, message.sealed, size);
        assert_memory_equal(tag, message.tag, sizeof(tag));

        assert_int_equal(gcm_open(key, message.nonce, message.aad, aad_size, copy, size, message.tag), STATUS_OK);
        assert_memory_equal(copy, message.plain, size);
        memcpy(copy, message.sealed, size);
        assert_int_equal(gcm_open(oracle, message.nonce, message.aad, aad_size, copy, size, tag), STATUS_OK);
        assert_memory_equal(copy, message.plain, size);
        assert_int_equal(copy[size], 0xA5);
    }
    gcm_key_destroy(key);
    gcm_key_destroy(oracle);
}

static void assert_refused(struct gcm_key *key, size_t size)
{
    memcpy(copy, message.sealed, size);
    copy[size] = 0xA5;
    assert_int_equal(gcm_open(key, message.nonce, message.aad, AAD_SIZE, copy, size, message.tag), STATUS_DENIED);
    assert_memory_equal(copy, zeros, size);
    assert_int_equal(copy[size], 0xA5);
}

static void assert_each_bit_counts(struct gcm_key *key, uint8_t *bytes, size_t bytes_size, size_t size)
{
    for (size_t bit = 0; bit < 8 * bytes_size; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_refused(key, size);
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
}

static void any_change_is_refused_and_leaves_only_zeros(void **state)
{
    (void)state;
    static const size_t sizes[] = {1, 16, 64, 257, 1392, MAX_SIZE};
    struct gcm_key *key = make_key(gcm);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        size_t size = make_message(sizes[i]);
        gcm_seal(key, message.nonce, message.aad, AAD_SIZE, message.plain, message.sealed, size, message.tag);
        assert_each_bit_counts(key, message.tag, sizeof(message.tag), size);
        assert_each_bit_counts(key, message.nonce, sizeof(message.nonce), size);
        assert_each_bit_counts(key, message.aad, sizeof(message.aad), size);
        assert_each_bit_counts(key, message.sealed, size < 300 ? size : 16, size);
        memcpy(copy, message.sealed, size);
        assert_int_equal(gcm_open(key, message.nonce, message.aad, AAD_SIZE, copy, size, message.tag), STATUS_OK);
        assert_memory_equal(copy, message.plain, size);
    }
    gcm_key_destroy(key);
}

static void keys_are_apart_and_a_new_one_replaces_the_old(void **state)
{
    (void)state;
    uint8_t other_bytes[GCM_KEY_SIZE];
    struct gcm_key *key = make_key(gcm), *other = gcm_key_create(gcm), *oracle = make_key(openssl);
    size_t size = make_message(1392);
    memcpy(other_bytes, key_bytes, sizeof(other_bytes));
    other_bytes[GCM_KEY_SIZE - 1] ^= 1;
    gcm_key_set(other, other_bytes);
    gcm_seal(key, message.nonce, message.aad, AAD_SIZE, message.plain, message.sealed, size, message.tag);
    assert_refused(other, size);
    gcm_key_set(other, key_bytes);
    memcpy(copy, message.sealed, size);
    assert_int_equal(gcm_open(other, message.nonce, message.aad, AAD_SIZE, copy, size, message.tag), STATUS_OK);
    gcm_key_set(key, other_bytes);
    assert_refused(key, size);
    memcpy(copy, message.sealed, size);
    assert_int_equal(gcm_open(oracle, message.nonce, message.aad, AAD_SIZE, copy, size, message.tag), STATUS_OK);
    gcm_key_destroy(key);
    gcm_key_destroy(other);
    gcm_key_destroy(oracle);
    gcm_key_destroy(NULL);
}

/* Room that ends where memory ends: what a sanitizer can't tell of assembly, the processor does. */
static uint8_t *map_before_nothing(size_t size)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), pages = (size + page - 1) / page;
    uint8_t *map = mmap(NULL, (pages + 1) * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(map != MAP_FAILED);
    assert_int_equal(mprotect(map + pages * page, page, PROT_NONE), 0);
    return map + pages * page;
}

static void nothing_behind_the_bytes_is_touched(void **state)
{
    (void)state;
    struct gcm_key *key = make_key(gcm);
    uint8_t *in = map_before_nothing(MAX_SIZE), *out = map_before_nothing(MAX_SIZE);
    uint8_t *nonce = map_before_nothing(GCM_NONCE_SIZE) - GCM_NONCE_SIZE;
    uint8_t *aad = map_before_nothing(AAD_SIZE) - AAD_SIZE;
    uint8_t *tag = map_before_nothing(GCM_TAG_SIZE) - GCM_TAG_SIZE;
    for (size_t size = 0; size <= MAX_SIZE; size += size < 1100 ? 1 : 61) {
        gcm_seal(key, nonce, aad, AAD_SIZE, in - size, out - size, size, tag);
        assert_int_equal(gcm_open(key, nonce, aad, AAD_SIZE, out - size, size, tag), STATUS_OK);
        assert_memory_equal(out - size, zeros, size);
    }
    gcm_key_destroy(key);
}

/* The processor is asked through the compiler instead of the library. */
static void the_best_is_the_one_that_suits_the_processor(void **state)
{
    (void)state;
    struct gcm *best = gcm_create_best();
#if defined(HAVE_IPSEC_MB) && defined(__x86_64__)
    bool suits = __builtin_cpu_supports("aes") && __builtin_cpu_supports("pclmul");
#else
    bool suits = false;
#endif
    assert_int_equal(gcm_library(best), suits ? GCM_IPSEC_MB : GCM_OPENSSL);
    gcm_destroy(best);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_published_vectors_come_out),
        cmocka_unit_test(every_size_gives_the_bytes_of_openssl_apart_and_in_place),
        cmocka_unit_test(any_change_is_refused_and_leaves_only_zeros),
        cmocka_unit_test(keys_are_apart_and_a_new_one_replaces_the_old),
        cmocka_unit_test(nothing_behind_the_bytes_is_touched),
        cmocka_unit_test(the_best_is_the_one_that_suits_the_processor),
    };
    static const char *const names[] = {[GCM_OPENSSL] = "OpenSSL", [GCM_IPSEC_MB] = "libipsec-mb"};
    int failed = 0;
    openssl = gcm_create(GCM_OPENSSL);
    for (enum gcm_library library = GCM_OPENSSL; library <= GCM_IPSEC_MB; library++) {
        random_state = 88172645463325252u;
        gcm = gcm_create(library);
        if (gcm == NULL)
            print_message("%s: not in this build or not on this CPU\n", names[library]);
        else
            failed += cmocka_run_group_tests_name(names[library], tests, NULL, NULL);
        gcm_destroy(gcm);
    }
    gcm_destroy(openssl);
    return failed;
}
