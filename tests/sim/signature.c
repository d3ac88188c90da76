// SPDX-License-Identifier: Apache-2.0
#include "common/signature.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/checksum.h"

/*
 * Stands in for common/signature.c: keyed checksums in place of Ed25519, which would take most of a run's time. Whoever
 * does not know the key id's bytes would not guess them, and nobody in the simulation tries.
 */
struct signature_key {
    struct signature_public public_key;
};

enum status signature_init(void)
{
    return STATUS_OK;
}

struct signature_key *signature_key_from_seed(const uint8_t seed[static 32])
{
    struct signature_key *key = calloc(1, sizeof *key);
    assert(key != NULL);
    memcpy(key->public_key.key_id, seed, SIGNATURE_KEY_ID_SIZE);
    memcpy(key->public_key.key, seed, SIGNATURE_PUBLIC_SIZE);
    return key;
}

const struct signature_public *signature_key_public(const struct signature_key *key)
{
    return &key->public_key;
}

void signature_key_destroy(struct signature_key *key)
{
    free(key);
}

enum status signature_public_load(const char *file, struct signature_public *public_key, char reason[static 256])
{
    (void)file;
    (void)public_key;
    reason[0] = '\0';
    return STATUS_NOT_FOUND;
}

uint32_t signature_sender_id(const struct signature_public *public_key)
{
    const uint8_t *id = public_key->key_id;
    return (uint32_t)id[0] | (uint32_t)id[1] << 8 | (uint32_t)id[2] << 16 | (uint32_t)id[3] << 24;
}

static void make(const struct signature_public *key, const void *bytes, size_t size, struct signature *signature)
{
    memcpy(signature->bytes, "ED", 2);
    memcpy(signature->bytes + 2, key->key_id, SIGNATURE_KEY_ID_SIZE);
    memset(signature->bytes + 10, 0, SIGNATURE_SIZE - 10);
    checksum128(bytes, size, signature->bytes + 10);
    for (size_t i = 0; i < sizeof key->key; i++)
        signature->bytes[10 + i % CHECKSUM128_SIZE] ^= key->key[i];
}

void signature_sign(const struct signature_key *key, const void *bytes, size_t size, const char *trusted_comment,
                    struct signature *signature)
{
    memset(signature, 0, sizeof *signature);
    make(&key->public_key, bytes, size, signature);
    if (trusted_comment == NULL)
        return;
    signature->has_comment = true;
    strncpy(signature->trusted_comment, trusted_comment, SIGNATURE_COMMENT_SIZE - 1);
}

bool signature_verify(const struct signature_public *public_key, const void *bytes, size_t size,
                      const struct signature *signature)
{
    struct signature expected;
    make(public_key, bytes, size, &expected);
    return memcmp(expected.bytes, signature->bytes, SIGNATURE_SIZE) == 0;
}
