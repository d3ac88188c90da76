// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_COMMON_DIGEST_H
#define DIODECAST_COMMON_DIGEST_H

#include <stddef.h>
#include <stdint.h>

/* SHA-256 by OpenSSL's EVP, so that SHA-NI is used. Each state by one thread; a state is reusable after digest_final().
 */
enum { DIGEST_SIZE = 32, DIGEST_TEXT_SIZE = 65 };

struct digest;
struct digest *digest_create(void);
void digest_reset(struct digest *digest);
void digest_update(struct digest *digest, const void *bytes, size_t size);
void digest_final(struct digest *digest, uint8_t out[static DIGEST_SIZE]);
void digest_destroy(struct digest *digest);

void digest_once(const void *bytes, size_t size, uint8_t out[static DIGEST_SIZE]);
void digest_text(const uint8_t digest[static DIGEST_SIZE], char text[static DIGEST_TEXT_SIZE]);

#endif
