// SPDX-License-Identifier: Apache-2.0
#include "common/digest.h"

#include <assert.h>
#include <openssl/evp.h>
#include <stdlib.h>

struct digest {
    EVP_MD_CTX *context;
    EVP_MD *algorithm; /* fetched once: OpenSSL 3 looks an algorithm up by name at each use otherwise */
};

struct digest *digest_create(void)
{
    struct digest *digest = calloc(1, sizeof(*digest));
    assert(digest != NULL);
    digest->context = EVP_MD_CTX_new();
    digest->algorithm = EVP_MD_fetch(NULL, "SHA256", NULL);
    assert(digest->context != NULL && digest->algorithm != NULL);
    digest_reset(digest);
    return digest;
}

void digest_reset(struct digest *digest)
{
    int done = EVP_DigestInit_ex2(digest->context, digest->algorithm, NULL);
    assert(done == 1);
}

void digest_update(struct digest *digest, const void *bytes, size_t size)
{
    int done = EVP_DigestUpdate(digest->context, bytes, size);
    assert(done == 1);
}

void digest_final(struct digest *digest, uint8_t out[static DIGEST_SIZE])
{
    unsigned int size = 0;
    int done = EVP_DigestFinal_ex(digest->context, out, &size);
    assert(done == 1 && size == DIGEST_SIZE);
    digest_reset(digest);
}

void digest_destroy(struct digest *digest)
{
    if (digest == NULL)
        return;
    EVP_MD_CTX_free(digest->context);
    EVP_MD_free(digest->algorithm);
    free(digest);
}

void digest_once(const void *bytes, size_t size, uint8_t out[static DIGEST_SIZE])
{
    struct digest *digest = digest_create();
    digest_update(digest, bytes, size);
    digest_final(digest, out);
    digest_destroy(digest);
}

void digest_text(const uint8_t digest[static DIGEST_SIZE], char text[static DIGEST_TEXT_SIZE])
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < DIGEST_SIZE; i++) {
        text[2 * i] = digits[digest[i] >> 4];
        text[2 * i + 1] = digits[digest[i] & 15];
    }
    text[2 * DIGEST_SIZE] = '\0';
}
