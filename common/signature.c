// SPDX-License-Identifier: Apache-2.0
#include "common/signature.h"

#include <assert.h>
#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/keyfile.h"

enum {
    HASH_SIZE = 64,
    SECRET_SIZE = crypto_sign_ed25519_SECRETKEYBYTES,
    /* minisign's secret key file, decoded: offsets of its fields */
    FILE_KDF = 2,
    FILE_CHECK_ALGORITHM = 4,
    FILE_KEY_ID = 54, /* behind the salt (32) and the two cost limits (8 each) of the unused key derivation */
    FILE_SECRET = FILE_KEY_ID + SIGNATURE_KEY_ID_SIZE,
    FILE_CHECK = FILE_SECRET + SECRET_SIZE,
    FILE_CHECK_SIZE = 32,
    FILE_SIZE = FILE_CHECK + FILE_CHECK_SIZE,
    PUBLIC_FILE_SIZE = 2 + SIGNATURE_KEY_ID_SIZE + SIGNATURE_PUBLIC_SIZE,
    BASE64_MAX = 256,
};

static const char untrusted_prefix[] = "untrusted comment: ";
static const char trusted_prefix[] = "trusted comment: ";

_Static_assert(SIGNATURE_PUBLIC_SIZE == crypto_sign_ed25519_PUBLICKEYBYTES, "Ed25519 public key");
_Static_assert(SIGNATURE_SIZE == 2 + SIGNATURE_KEY_ID_SIZE + crypto_sign_ed25519_BYTES, "minisign signature");
_Static_assert(SIGNATURE_GLOBAL_SIZE == crypto_sign_ed25519_BYTES, "minisign global signature");
_Static_assert(FILE_SIZE == 158, "minisign secret key");

/* Only bytes, so that it needs no alignment: sodium_malloc() puts the end, not the start, on a page boundary. */
struct signature_key {
    struct signature_public public_key;
    uint8_t secret[SECRET_SIZE];
};

enum status signature_init(void)
{
    return sodium_init() < 0 ? STATUS_SYSTEM : STATUS_OK;
}

static struct signature_key *new_key(void)
{
    struct signature_key *key = sodium_malloc(sizeof(*key));
    assert(key != NULL);
    return key;
}

static struct signature_key *protect(struct signature_key *key)
{
    int failed = sodium_mprotect_readonly(key);
    assert(failed == 0);
    return key;
}

struct signature_key *signature_key_from_seed(const uint8_t seed[static 32])
{
    struct signature_key *key = new_key();
    int failed = crypto_sign_ed25519_seed_keypair(key->public_key.key, key->secret, seed);
    assert(failed == 0);
    uint8_t hash[crypto_generichash_BYTES_MIN];
    failed = crypto_generichash(hash, sizeof(hash), key->public_key.key, SIGNATURE_PUBLIC_SIZE, NULL, 0);
    assert(failed == 0);
    memcpy(key->public_key.key_id, hash, SIGNATURE_KEY_ID_SIZE);
    return protect(key);
}

const struct signature_public *signature_key_public(const struct signature_key *key)
{
    return &key->public_key;
}

void signature_key_destroy(struct signature_key *key)
{
    sodium_free(key);
}

uint32_t signature_sender_id(const struct signature_public *public_key)
{
    const uint8_t *id = public_key->key_id;
    return (uint32_t)id[0] | (uint32_t)id[1] << 8 | (uint32_t)id[2] << 16 | (uint32_t)id[3] << 24;
}

/* As minisign prints it: the eight bytes as one little-endian number. */
static uint64_t printed_key_id(const uint8_t key_id[static SIGNATURE_KEY_ID_SIZE])
{
    uint64_t number = 0;
    for (int i = SIGNATURE_KEY_ID_SIZE - 1; i >= 0; i--)
        number = number << 8 | key_id[i];
    return number;
}

static void secret_check(const uint8_t file[static FILE_SIZE], uint8_t check[static FILE_CHECK_SIZE])
{
    crypto_generichash_state state;
    crypto_generichash_init(&state, NULL, 0, FILE_CHECK_SIZE);
    crypto_generichash_update(&state, file, 2);
    crypto_generichash_update(&state, file + FILE_KEY_ID, SIGNATURE_KEY_ID_SIZE + SECRET_SIZE);
    crypto_generichash_final(&state, check, FILE_CHECK_SIZE);
    sodium_memzero(&state, sizeof(state));
}

static enum status write_secret(const struct signature_key *key, const char *path)
{
    uint8_t *file = sodium_malloc(FILE_SIZE);
    char *text = sodium_malloc(KEYFILE_MAX_SIZE);
    assert(file != NULL && text != NULL);
    memset(file, 0, FILE_SIZE);
    memcpy(file, "Ed", 2);
    memcpy(file + FILE_CHECK_ALGORITHM, "B2", 2);
    memcpy(file + FILE_KEY_ID, key->public_key.key_id, SIGNATURE_KEY_ID_SIZE);
    memcpy(file + FILE_SECRET, key->secret, SECRET_SIZE);
    secret_check(file, file + FILE_CHECK);

    int used = snprintf(text, KEYFILE_MAX_SIZE, "%sdiodecast secret key, keep it secret\n", untrusted_prefix);
    sodium_bin2base64(text + used, KEYFILE_MAX_SIZE - (size_t)used, file, FILE_SIZE, sodium_base64_VARIANT_ORIGINAL);
    size_t size = strlen(text);
    text[size++] = '\n';
    enum status status = keyfile_create(path, text, size, 0600);
    sodium_free(file);
    sodium_free(text);
    return status;
}

enum status signature_public_save_as(const struct signature_public *public_key, const char *comment, const char *path)
{
    uint8_t file[PUBLIC_FILE_SIZE] = "Ed";
    memcpy(file + 2, public_key->key_id, SIGNATURE_KEY_ID_SIZE);
    memcpy(file + 2 + SIGNATURE_KEY_ID_SIZE, public_key->key, SIGNATURE_PUBLIC_SIZE);
    char base64[BASE64_MAX], text[2 * BASE64_MAX];
    sodium_bin2base64(base64, sizeof(base64), file, sizeof(file), sodium_base64_VARIANT_ORIGINAL);
    int size = snprintf(text, sizeof(text), "%s%s\n%s\n", untrusted_prefix, comment, base64);
    assert(size > 0 && (size_t)size < sizeof(text));
    return keyfile_create(path, text, (size_t)size, 0644);
}

enum status signature_public_save(const struct signature_public *public_key, const char *path)
{
    char comment[64];
    snprintf(comment, sizeof(comment), "minisign public key %016llX",
             (unsigned long long)printed_key_id(public_key->key_id));
    return signature_public_save_as(public_key, comment, path);
}

enum status signature_generate(const char *secret_file, const char *public_file, const char **existing,
                               struct signature_public *public_key)
{
    *existing = NULL;
    struct signature_key *key = new_key();
    crypto_sign_ed25519_keypair(key->public_key.key, key->secret);
    randombytes_buf(key->public_key.key_id, SIGNATURE_KEY_ID_SIZE);
    *public_key = key->public_key;

    enum status status = write_secret(key, secret_file);
    if (status != STATUS_OK) {
        *existing = status == STATUS_EXISTS ? secret_file : NULL;
        goto cleanup;
    }
    status = signature_public_save(public_key, public_file);
    if (status != STATUS_OK) {
        int error = errno;
        *existing = status == STATUS_EXISTS ? public_file : NULL;
        unlink(secret_file);
        errno = error;
    }
cleanup:
    signature_key_destroy(key);
    return status;
}

static bool starts_with(const char *text, size_t size, const char *prefix)
{
    return size >= strlen(prefix) && memcmp(text, prefix, strlen(prefix)) == 0;
}

/* Takes the parts out of a decoded secret key file; returns what is wrong, or NULL. */
static const char *parse_secret(const uint8_t file[static FILE_SIZE], struct signature_key *key)
{
    uint8_t check[FILE_CHECK_SIZE];
    if (memcmp(file, "Ed", 2) != 0 || memcmp(file + FILE_CHECK_ALGORITHM, "B2", 2) != 0)
        return "not a minisign secret key";
    if (memcmp(file + FILE_KDF, "\0\0", 2) != 0)
        return "the key has a password; make one without: diodecast keygen, or minisign -G -W";
    /* minisign 0.11 leaves the checksum of a key without password zero; its two halves must then speak for it. */
    secret_check(file, check);
    if (!sodium_is_zero(file + FILE_CHECK, FILE_CHECK_SIZE) &&
        sodium_memcmp(check, file + FILE_CHECK, FILE_CHECK_SIZE) != 0)
        return "the key is damaged: its checksum does not match";
    memcpy(key->public_key.key_id, file + FILE_KEY_ID, SIGNATURE_KEY_ID_SIZE);
    crypto_sign_ed25519_seed_keypair(key->public_key.key, key->secret, file + FILE_SECRET);
    if (sodium_memcmp(key->secret, file + FILE_SECRET, SECRET_SIZE) != 0)
        return "the key is damaged: its secret and public halves do not match";
    return NULL;
}

enum status signature_key_load(const char *file, struct signature_key **key, char reason[static 256])
{
    *key = NULL;
    char *text = NULL;
    size_t size = 0;
    enum status status = keyfile_read(file, true, &text, &size, reason);
    if (status != STATUS_OK)
        return status;

    uint8_t *decoded = sodium_malloc(FILE_SIZE);
    struct signature_key *made = new_key();
    assert(decoded != NULL);
    const char *wrong = "not a minisign secret key";
    if (starts_with(text, size, untrusted_prefix) && keyfile_decode_line(text, size, 1, decoded, FILE_SIZE))
        wrong = parse_secret(decoded, made);
    if (wrong == NULL) {
        *key = protect(made);
    } else {
        snprintf(reason, 256, "%s: %s", file, wrong);
        status = STATUS_INVALID;
        signature_key_destroy(made);
    }
    sodium_free(decoded);
    keyfile_free(text);
    return status;
}

enum status signature_public_load(const char *file, struct signature_public *public_key, char reason[static 256])
{
    char *text = NULL;
    size_t size = 0;
    enum status status = keyfile_read(file, false, &text, &size, reason);
    if (status != STATUS_OK)
        return status;
    uint8_t decoded[PUBLIC_FILE_SIZE];
    if (starts_with(text, size, untrusted_prefix) && keyfile_decode_line(text, size, 1, decoded, sizeof(decoded)) &&
        memcmp(decoded, "Ed", 2) == 0) {
        memcpy(public_key->key_id, decoded + 2, SIGNATURE_KEY_ID_SIZE);
        memcpy(public_key->key, decoded + 2 + SIGNATURE_KEY_ID_SIZE, SIGNATURE_PUBLIC_SIZE);
    } else {
        snprintf(reason, 256, "%s: not a minisign public key file", file);
        status = STATUS_INVALID;
    }
    keyfile_free(text);
    return status;
}

/* The comment is one line of a text file, so it must be one, and end inside its array. */
static bool comment_is_line(const char comment[static SIGNATURE_COMMENT_SIZE])
{
    size_t length = strnlen(comment, SIGNATURE_COMMENT_SIZE);
    if (length == SIGNATURE_COMMENT_SIZE)
        return false;
    for (size_t i = 0; i < length; i++)
        if ((unsigned char)comment[i] < 0x20 || comment[i] == 0x7f)
            return false;
    return true;
}

/* What the global signature covers: the plain signature and the comment. Returns its size. */
static size_t global_message(const struct signature *signature,
                             uint8_t message[static SIGNATURE_GLOBAL_SIZE + SIGNATURE_COMMENT_SIZE])
{
    size_t length = strlen(signature->trusted_comment);
    memcpy(message, signature->bytes + 2 + SIGNATURE_KEY_ID_SIZE, SIGNATURE_GLOBAL_SIZE);
    memcpy(message + SIGNATURE_GLOBAL_SIZE, signature->trusted_comment, length);
    return SIGNATURE_GLOBAL_SIZE + length;
}

void signature_sign(const struct signature_key *key, const void *bytes, size_t size, const char *trusted_comment,
                    struct signature *signature)
{
    uint8_t hash[HASH_SIZE];
    memset(signature, 0, sizeof(*signature));
    crypto_generichash(hash, sizeof(hash), bytes, size, NULL, 0);
    memcpy(signature->bytes, "ED", 2);
    memcpy(signature->bytes + 2, key->public_key.key_id, SIGNATURE_KEY_ID_SIZE);
    crypto_sign_ed25519_detached(signature->bytes + 2 + SIGNATURE_KEY_ID_SIZE, NULL, hash, sizeof(hash), key->secret);
    if (trusted_comment == NULL)
        return;

    size_t length = strlen(trusted_comment);
    assert(length < SIGNATURE_COMMENT_SIZE);
    signature->has_comment = true;
    memcpy(signature->trusted_comment, trusted_comment, length);
    assert(comment_is_line(signature->trusted_comment));
    uint8_t message[SIGNATURE_GLOBAL_SIZE + SIGNATURE_COMMENT_SIZE];
    crypto_sign_ed25519_detached(signature->global, NULL, message, global_message(signature, message), key->secret);
}

bool signature_verify(const struct signature_public *public_key, const void *bytes, size_t size,
                      const struct signature *signature)
{
    if (memcmp(signature->bytes, "ED", 2) != 0 ||
        memcmp(signature->bytes + 2, public_key->key_id, SIGNATURE_KEY_ID_SIZE) != 0)
        return false;
    uint8_t hash[HASH_SIZE];
    crypto_generichash(hash, sizeof(hash), bytes, size, NULL, 0);
    if (crypto_sign_ed25519_verify_detached(signature->bytes + 2 + SIGNATURE_KEY_ID_SIZE, hash, sizeof(hash),
                                            public_key->key) != 0)
        return false;
    if (!signature->has_comment)
        return true;
    uint8_t message[SIGNATURE_GLOBAL_SIZE + SIGNATURE_COMMENT_SIZE];
    return comment_is_line(signature->trusted_comment) &&
           crypto_sign_ed25519_verify_detached(signature->global, message, global_message(signature, message),
                                               public_key->key) == 0;
}

void signature_to_file_text(const struct signature *signature, char **text, size_t *size)
{
    assert(signature->has_comment && comment_is_line(signature->trusted_comment));
    char first[BASE64_MAX], second[BASE64_MAX];
    sodium_bin2base64(first, sizeof(first), signature->bytes, SIGNATURE_SIZE, sodium_base64_VARIANT_ORIGINAL);
    sodium_bin2base64(second, sizeof(second), signature->global, SIGNATURE_GLOBAL_SIZE, sodium_base64_VARIANT_ORIGINAL);
    int length = asprintf(text, "%ssignature from diodecast key %016llX\n%s\n%s%s\n%s\n", untrusted_prefix,
                          (unsigned long long)printed_key_id(signature->bytes + 2), first, trusted_prefix,
                          signature->trusted_comment, second);
    assert(length > 0);
    *size = (size_t)length;
}

enum status signature_from_file_text(const char *text, size_t size, struct signature *signature)
{
    const char *comment = NULL;
    size_t length = 0;
    size_t prefix = strlen(trusted_prefix);
    memset(signature, 0, sizeof(*signature));
    if (!starts_with(text, size, untrusted_prefix) ||
        !keyfile_decode_line(text, size, 1, signature->bytes, SIGNATURE_SIZE) ||
        !keyfile_find_line(text, size, 2, &comment, &length) || !starts_with(comment, length, trusted_prefix) ||
        !keyfile_decode_line(text, size, 3, signature->global, SIGNATURE_GLOBAL_SIZE))
        return STATUS_INVALID;
    if (length - prefix >= SIGNATURE_COMMENT_SIZE || memchr(comment, '\0', length) != NULL)
        return STATUS_INVALID;
    signature->has_comment = true;
    memcpy(signature->trusted_comment, comment + prefix, length - prefix);
    return comment_is_line(signature->trusted_comment) ? STATUS_OK : STATUS_INVALID;
}
