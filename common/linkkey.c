// SPDX-License-Identifier: Apache-2.0
#include "common/linkkey.h"

#include <assert.h>
#include <openssl/core_names.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/gcm.h"
#include "common/keyfile.h"

enum {
    PROVEN_SLOTS = 8,
    SALT_SIZE = 8,
    LABEL_SIZE = sizeof("diodecast link 1") - 1,
    INFO_SIZE = LABEL_SIZE + 4 + 8 + 1,
};

struct key_name {
    uint32_t sender_id;
    uint8_t lane;
    uint64_t epoch;
    uint64_t salt;
};

/* A derived key, with the AES key schedule and the GHASH tables made. */
struct slot {
    bool used;
    unsigned secret; /* that it was derived from */
    struct key_name name;
    struct gcm_key *derived;
};

struct linkkey {
    uint8_t *secrets[LINKKEY_SECRETS]; /* guarded memory */
    unsigned secret_count;
    struct gcm *gcm;
    EVP_KDF *kdf;
    struct slot *selected;
    /*
     * Most recently used first. What a header names has proved nothing until its tag was right: a new key waits among
     * the candidates, one of each secret, so that forged headers can't drive the real keys out.
     */
    struct slot *proven[PROVEN_SLOTS];
    struct slot *candidates[LINKKEY_SECRETS];
    uint8_t *copy; /* of what the first candidate did not open; only with two secrets */
    size_t copy_size;
};

enum status linkkey_generate(const char *file)
{
    uint8_t secret[LINKKEY_SIZE];
    char text[2 * LINKKEY_SIZE + 2];
    randombytes_buf(secret, sizeof(secret));
    sodium_bin2base64(text, sizeof(text) - 1, secret, sizeof(secret), sodium_base64_VARIANT_ORIGINAL);
    size_t size = strlen(text);
    text[size++] = '\n';
    enum status status = keyfile_create(file, text, size, 0600);
    sodium_memzero(secret, sizeof(secret));
    sodium_memzero(text, sizeof(text));
    return status;
}

enum status linkkey_load(const char *file, uint8_t secret[static LINKKEY_SIZE], char reason[static 256])
{
    char *text = NULL;
    size_t size = 0;
    enum status status = keyfile_read(file, true, &text, &size, reason);
    if (status != STATUS_OK)
        return status;
    if (!keyfile_decode_line(text, size, 0, secret, LINKKEY_SIZE)) {
        snprintf(reason, 256, "%s: not a link key (32 bytes in base64); make one: diodecast keygen --link FILE", file);
        status = STATUS_INVALID;
    }
    keyfile_free(text);
    return status;
}

static struct slot *slot_create(const struct gcm *gcm)
{
    struct slot *slot = calloc(1, sizeof(*slot));
    assert(slot != NULL);
    slot->derived = gcm_key_create(gcm);
    return slot;
}

static void slot_destroy(struct slot *slot)
{
    if (slot == NULL)
        return;
    gcm_key_destroy(slot->derived);
    free(slot);
}

static void add_secret(struct linkkey *key, const uint8_t *secret)
{
    uint8_t *guarded = sodium_malloc(LINKKEY_SIZE);
    assert(guarded != NULL && key->secret_count < LINKKEY_SECRETS);
    memcpy(guarded, secret, LINKKEY_SIZE);
    int failed = sodium_mprotect_readonly(guarded);
    assert(failed == 0);
    (void)failed;
    key->candidates[key->secret_count] = slot_create(key->gcm);
    key->secrets[key->secret_count++] = guarded;
}

struct linkkey *linkkey_create(const uint8_t secret[static LINKKEY_SIZE])
{
    int started = sodium_init();
    struct linkkey *key = calloc(1, sizeof(*key));
    assert(started >= 0 && key != NULL);
    key->gcm = gcm_create_best();
    key->kdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
    assert(key->kdf != NULL);
    for (int i = 0; i < PROVEN_SLOTS; i++)
        key->proven[i] = slot_create(key->gcm);
    add_secret(key, secret);
    return key;
}

void linkkey_add(struct linkkey *key, const uint8_t secret[static LINKKEY_SIZE], size_t largest)
{
    add_secret(key, secret);
    key->copy = malloc(largest);
    assert(key->copy != NULL);
    key->copy_size = largest;
}

void linkkey_destroy(struct linkkey *key)
{
    if (key == NULL)
        return;
    for (int i = 0; i < PROVEN_SLOTS; i++)
        slot_destroy(key->proven[i]);
    for (unsigned i = 0; i < key->secret_count; i++) {
        slot_destroy(key->candidates[i]);
        sodium_free(key->secrets[i]);
    }
    gcm_destroy(key->gcm);
    EVP_KDF_free(key->kdf);
    free(key->copy);
    free(key);
}

static void store_le(uint8_t *out, uint64_t value, int size)
{
    for (int i = 0; i < size; i++)
        out[i] = (uint8_t)(value >> (8 * i));
}

static void derive(const struct linkkey *key, unsigned secret, const struct key_name *name,
                   uint8_t derived[static GCM_KEY_SIZE])
{
    uint8_t salt[SALT_SIZE];
    uint8_t info[INFO_SIZE];
    store_le(salt, name->salt, SALT_SIZE);
    memcpy(info, "diodecast link 1", LABEL_SIZE);
    store_le(info + LABEL_SIZE, name->sender_id, 4);
    store_le(info + LABEL_SIZE + 4, name->epoch, 8);
    info[LABEL_SIZE + 12] = name->lane;

    char sha256[] = "SHA256";
    OSSL_PARAM parameters[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, sha256, 0),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, key->secrets[secret], LINKKEY_SIZE),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SALT, salt, sizeof(salt)),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, info, sizeof(info)),
        OSSL_PARAM_construct_end(),
    };
    EVP_KDF_CTX *context = EVP_KDF_CTX_new(key->kdf);
    int done = context != NULL ? EVP_KDF_derive(context, derived, GCM_KEY_SIZE, parameters) : 0;
    assert(done == 1);
    EVP_KDF_CTX_free(context);
}

static bool names(const struct slot *slot, const struct key_name *name)
{
    return slot->used && slot->name.sender_id == name->sender_id && slot->name.lane == name->lane &&
           slot->name.epoch == name->epoch && slot->name.salt == name->salt;
}

/* Derives the candidate of one secret, unless it is there. */
static void prepare(struct linkkey *key, unsigned secret, const struct key_name *name)
{
    struct slot *slot = key->candidates[secret];
    if (names(slot, name))
        return;
    uint8_t derived[GCM_KEY_SIZE];
    derive(key, secret, name, derived);
    gcm_key_set(slot->derived, derived);
    sodium_memzero(derived, sizeof(derived));
    slot->used = true;
    slot->secret = secret;
    slot->name = *name;
}

void linkkey_select(struct linkkey *key, uint32_t sender_id, uint64_t epoch, uint8_t lane, uint64_t salt)
{
    struct key_name name = {.sender_id = sender_id, .lane = lane, .epoch = epoch, .salt = salt};
    if (key->selected != NULL && names(key->selected, &name))
        return;
    for (int i = 0; i < PROVEN_SLOTS; i++) {
        if (!names(key->proven[i], &name))
            continue;
        struct slot *found = key->proven[i];
        memmove(key->proven + 1, key->proven, (size_t)i * sizeof(key->proven[0]));
        key->proven[0] = found;
        key->selected = found;
        return;
    }
    key->selected = key->candidates[0];
    prepare(key, 0, &name);
}

/* A candidate has proved itself: it takes the place of the proven key that was used longest ago. */
static void promote(struct linkkey *key, unsigned secret)
{
    struct slot *oldest = key->proven[PROVEN_SLOTS - 1];
    memmove(key->proven + 1, key->proven, (PROVEN_SLOTS - 1) * sizeof(key->proven[0]));
    key->selected = key->proven[0] = key->candidates[secret];
    key->candidates[secret] = oldest;
    oldest->used = false;
}

int linkkey_secret_of(const struct linkkey *key, uint32_t sender_id, uint64_t epoch, uint8_t lane)
{
    for (int i = 0; i < PROVEN_SLOTS; i++) {
        const struct slot *slot = key->proven[i];
        if (slot->used && slot->name.sender_id == sender_id && slot->name.epoch == epoch && slot->name.lane == lane)
            return (int)slot->secret;
    }
    return -1;
}

static void make_nonce(uint64_t sequence, uint8_t nonce[static GCM_NONCE_SIZE])
{
    memset(nonce, 0, GCM_NONCE_SIZE - 8);
    store_le(nonce + GCM_NONCE_SIZE - 8, sequence, 8);
}

void linkkey_seal(struct linkkey *key, uint64_t sequence, const uint8_t *aad, size_t aad_size, const uint8_t *in,
                  uint8_t *out, size_t size, uint8_t tag[static LINKKEY_TAG_SIZE])
{
    assert(key->selected != NULL);
    uint8_t nonce[GCM_NONCE_SIZE];
    make_nonce(sequence, nonce);
    gcm_seal(key->selected->derived, nonce, aad, aad_size, in, out, size, tag);
    if (key->selected == key->candidates[0])
        promote(key, 0);
}

/* Nothing was opened yet with the selected key: either secret may fit. */
static enum status open_first(struct linkkey *key, const uint8_t *nonce, const uint8_t *aad, size_t aad_size,
                              uint8_t *bytes, size_t size, const uint8_t *tag)
{
    const struct key_name name = key->selected->name;
    if (key->secret_count > 1) {
        assert(size <= key->copy_size);
        memcpy(key->copy, bytes, size);
    }
    for (unsigned i = 0; i < key->secret_count; i++) {
        if (i > 0) {
            prepare(key, i, &name);
            memcpy(bytes, key->copy, size);
        }
        if (gcm_open(key->candidates[i]->derived, nonce, aad, aad_size, bytes, size, tag) != STATUS_OK)
            continue;
        promote(key, i);
        return STATUS_OK;
    }
    return STATUS_DENIED;
}

enum status linkkey_open(struct linkkey *key, uint64_t sequence, const uint8_t *aad, size_t aad_size, uint8_t *bytes,
                         size_t size, const uint8_t tag[static LINKKEY_TAG_SIZE])
{
    assert(key->selected != NULL);
    uint8_t nonce[GCM_NONCE_SIZE];
    make_nonce(sequence, nonce);
    if (key->selected == key->candidates[0])
        return open_first(key, nonce, aad, aad_size, bytes, size, tag);
    return gcm_open(key->selected->derived, nonce, aad, aad_size, bytes, size, tag);
}
