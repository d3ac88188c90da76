// SPDX-License-Identifier: Apache-2.0
#include "common/gcm.h"

#include <assert.h>
#include <openssl/evp.h>
#include <sodium.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#ifdef HAVE_IPSEC_MB
#define NO_COMPAT_IMB_API_053
#include <intel-ipsec-mb.h>
#endif

struct gcm {
    enum gcm_library library;
    void (*set)(struct gcm_key *key, const uint8_t *bytes);
    void (*seal)(struct gcm_key *key, const uint8_t *nonce, const uint8_t *aad, size_t aad_size, const uint8_t *in,
                 uint8_t *out, size_t size, uint8_t *tag);
    /* Decrypts whatever the tag is, and tells whether it was right. */
    bool (*open)(struct gcm_key *key, const uint8_t *nonce, const uint8_t *aad, size_t aad_size, uint8_t *bytes,
                 size_t size, const uint8_t *tag);
    EVP_CIPHER *cipher; /* OpenSSL's only */
#ifdef HAVE_IPSEC_MB
    aes_gcm_pre_t expand;
    aes_gcm_enc_dec_t encrypt;
    aes_gcm_enc_dec_t decrypt;
#endif
};

struct gcm_key {
#ifdef HAVE_IPSEC_MB
    _Alignas(64) struct gcm_key_data schedule;
#endif
    const struct gcm *gcm;
    EVP_CIPHER_CTX *sealing; /* OpenSSL's only, as the next */
    EVP_CIPHER_CTX *opening;
#ifdef HAVE_IPSEC_MB
    struct gcm_context_data context; /* of the message at hand; here because it ends with key stream in it */
#endif
};

static void openssl_set(struct gcm_key *key, const uint8_t *bytes)
{
    int done = EVP_EncryptInit_ex2(key->sealing, NULL, bytes, NULL, NULL) &&
               EVP_DecryptInit_ex2(key->opening, NULL, bytes, NULL, NULL);
    assert(done);
}

static void openssl_seal(struct gcm_key *key, const uint8_t *nonce, const uint8_t *aad, size_t aad_size,
                         const uint8_t *in, uint8_t *out, size_t size, uint8_t *tag)
{
    int length = 0;
    int done = EVP_EncryptInit_ex2(key->sealing, NULL, NULL, nonce, NULL) &&
               EVP_EncryptUpdate(key->sealing, NULL, &length, aad, (int)aad_size) &&
               EVP_EncryptUpdate(key->sealing, out, &length, in, (int)size) &&
               EVP_EncryptFinal_ex(key->sealing, out + size, &length) &&
               EVP_CIPHER_CTX_ctrl(key->sealing, EVP_CTRL_AEAD_GET_TAG, GCM_TAG_SIZE, tag);
    assert(done);
}

static bool openssl_open(struct gcm_key *key, const uint8_t *nonce, const uint8_t *aad, size_t aad_size, uint8_t *bytes,
                         size_t size, const uint8_t *tag)
{
    uint8_t expected[GCM_TAG_SIZE]; /* the prototype lacks const */
    int length = 0;
    memcpy(expected, tag, sizeof(expected));
    int done = EVP_DecryptInit_ex2(key->opening, NULL, NULL, nonce, NULL) &&
               EVP_DecryptUpdate(key->opening, NULL, &length, aad, (int)aad_size) &&
               EVP_DecryptUpdate(key->opening, bytes, &length, bytes, (int)size) &&
               EVP_CIPHER_CTX_ctrl(key->opening, EVP_CTRL_AEAD_SET_TAG, GCM_TAG_SIZE, expected);
    assert(done);
    return EVP_DecryptFinal_ex(key->opening, bytes + size, &length) == 1;
}

static bool openssl_start(struct gcm *gcm)
{
    gcm->set = openssl_set;
    gcm->seal = openssl_seal;
    gcm->open = openssl_open;
    gcm->cipher = EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL);
    assert(gcm->cipher != NULL);
    return true;
}

#ifdef HAVE_IPSEC_MB

static void ipsec_mb_set(struct gcm_key *key, const uint8_t *bytes)
{
    key->gcm->expand(bytes, &key->schedule);
}

static void ipsec_mb_seal(struct gcm_key *key, const uint8_t *nonce, const uint8_t *aad, size_t aad_size,
                          const uint8_t *in, uint8_t *out, size_t size, uint8_t *tag)
{
    key->gcm->encrypt(&key->schedule, &key->context, out, in, size, nonce, aad, aad_size, tag, GCM_TAG_SIZE);
}

static bool ipsec_mb_open(struct gcm_key *key, const uint8_t *nonce, const uint8_t *aad, size_t aad_size,
                          uint8_t *bytes, size_t size, const uint8_t *tag)
{
    uint8_t expected[GCM_TAG_SIZE];
    key->gcm->decrypt(&key->schedule, &key->context, bytes, bytes, size, nonce, aad, aad_size, expected, GCM_TAG_SIZE);
    bool right = sodium_memcmp(expected, tag, GCM_TAG_SIZE) == 0;
    /* What was computed is the right tag of a forged message, so it doesn't stay on the stack. */
    sodium_memzero(expected, sizeof(expected));
    return right;
}

/*
 * The library's manager serves to choose functions and is given back at once: they need only the key and the context.
 * Versions share a soname although the size of a key's schedule differs (that of 1.4 is larger), so that another
 * version than that of the build could write past it.
 */
static bool ipsec_mb_start(struct gcm *gcm)
{
    if (imb_get_version() != IMB_VERSION_NUM)
        return false;
    IMB_MGR *manager = alloc_mb_mgr(0);
    if (manager == NULL)
        return false;
    init_mb_mgr_auto(manager, NULL);
    bool usable = imb_get_errno(manager) == 0 && (manager->features & IMB_CPUFLAGS_SSE) == IMB_CPUFLAGS_SSE &&
                  (manager->features & IMB_FEATURE_SELF_TEST_PASS) != 0;
    gcm->set = ipsec_mb_set;
    gcm->seal = ipsec_mb_seal;
    gcm->open = ipsec_mb_open;
    gcm->expand = manager->gcm256_pre;
    gcm->encrypt = manager->gcm256_enc;
    gcm->decrypt = manager->gcm256_dec;
    free_mb_mgr(manager);
    return usable;
}

#else

static bool ipsec_mb_start(struct gcm *gcm)
{
    (void)gcm;
    return false;
}

#endif

struct gcm *gcm_create(enum gcm_library library)
{
    int started = sodium_init();
    struct gcm *gcm = calloc(1, sizeof(*gcm));
    assert(started >= 0 && gcm != NULL);
    gcm->library = library;
    if (library == GCM_IPSEC_MB ? ipsec_mb_start(gcm) : openssl_start(gcm))
        return gcm;
    free(gcm);
    return NULL;
}

struct gcm *gcm_create_best(void)
{
    struct gcm *gcm = gcm_create(GCM_IPSEC_MB);
    return gcm != NULL ? gcm : gcm_create(GCM_OPENSSL);
}

enum gcm_library gcm_library(const struct gcm *gcm)
{
    return gcm->library;
}

void gcm_destroy(struct gcm *gcm)
{
    if (gcm == NULL)
        return;
    EVP_CIPHER_free(gcm->cipher);
    free(gcm);
}

struct gcm_key *gcm_key_create(const struct gcm *gcm)
{
    struct gcm_key *key = aligned_alloc(64, (sizeof(*key) + 63) / 64 * 64);
    assert(key != NULL);
    memset(key, 0, sizeof(*key));
    key->gcm = gcm;
    if (gcm->cipher == NULL)
        return key;
    key->sealing = EVP_CIPHER_CTX_new();
    key->opening = EVP_CIPHER_CTX_new();
    assert(key->sealing != NULL && key->opening != NULL);
    int done = EVP_EncryptInit_ex2(key->sealing, gcm->cipher, NULL, NULL, NULL) &&
               EVP_DecryptInit_ex2(key->opening, gcm->cipher, NULL, NULL, NULL);
    assert(done);
    return key;
}

void gcm_key_destroy(struct gcm_key *key)
{
    if (key == NULL)
        return;
    EVP_CIPHER_CTX_free(key->sealing); /* wipes it */
    EVP_CIPHER_CTX_free(key->opening);
    sodium_memzero(key, sizeof(*key));
    free(key);
}

void gcm_key_set(struct gcm_key *key, const uint8_t bytes[static GCM_KEY_SIZE])
{
    key->gcm->set(key, bytes);
}

void gcm_seal(struct gcm_key *key, const uint8_t nonce[static GCM_NONCE_SIZE], const uint8_t *aad, size_t aad_size,
              const uint8_t *in, uint8_t *out, size_t size, uint8_t tag[static GCM_TAG_SIZE])
{
    assert(size <= INT32_MAX && aad_size <= INT32_MAX);
    assert((size == 0 || (in != NULL && out != NULL)) && (aad_size == 0 || aad != NULL));
    key->gcm->seal(key, nonce, aad, aad_size, in, out, size, tag);
}

enum status gcm_open(struct gcm_key *key, const uint8_t nonce[static GCM_NONCE_SIZE], const uint8_t *aad,
                     size_t aad_size, uint8_t *bytes, size_t size, const uint8_t tag[static GCM_TAG_SIZE])
{
    assert(size <= INT32_MAX && aad_size <= INT32_MAX);
    assert((size == 0 || bytes != NULL) && (aad_size == 0 || aad != NULL));
    if (key->gcm->open(key, nonce, aad, aad_size, bytes, size, tag))
        return STATUS_OK;
    if (size > 0)
        memset(bytes, 0, size);
    return STATUS_DENIED;
}
