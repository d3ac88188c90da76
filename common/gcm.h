// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_COMMON_GCM_H
#define DIODECAST_COMMON_GCM_H

#include <stddef.h>
#include <stdint.h>

#include "common/status.h"

/*
 * AES-256-GCM of short messages with a nonce of 96 bits (NIST SP 800-38D), by one of two libraries that give the same
 * bytes. OpenSSL is always there, but each message costs its EVP layer about a microsecond beside the cipher; Intel's
 * libipsec-mb does without, where the build had it and the processor suits it (x86-64 with AES-NI and PCLMULQDQ; it
 * picks VAES and AVX-512 by itself).
 *
 * A struct gcm may serve several threads, a struct gcm_key only one. The nonces are the caller's: one must never seal
 * twice under the same key.
 */
struct gcm;
struct gcm_key;

enum gcm_library { GCM_OPENSSL, GCM_IPSEC_MB };
enum { GCM_KEY_SIZE = 32, GCM_NONCE_SIZE = 12, GCM_TAG_SIZE = 16 };

/* NULL when the library is not in this build, is of another version now, or does not suit this processor; never with
 * GCM_OPENSSL. */
struct gcm *gcm_create(enum gcm_library library);
/* The fastest there is. */
struct gcm *gcm_create_best(void);
enum gcm_library gcm_library(const struct gcm *gcm);
void gcm_destroy(struct gcm *gcm);

/* Without a key until gcm_key_set(); `gcm` must outlive it. */
struct gcm_key *gcm_key_create(const struct gcm *gcm);
/* Wipes what the key left. */
void gcm_key_destroy(struct gcm_key *key);
/* Replaces the key before, of which nothing stays. */
void gcm_key_set(struct gcm_key *key, const uint8_t bytes[static GCM_KEY_SIZE]);

/* Encrypts `in` to `out` (equal or apart, never overlapping otherwise) and writes the tag. */
void gcm_seal(struct gcm_key *key, const uint8_t nonce[static GCM_NONCE_SIZE], const uint8_t *aad, size_t aad_size,
              const uint8_t *in, uint8_t *out, size_t size, uint8_t tag[static GCM_TAG_SIZE]);
/* Decrypts in place; STATUS_DENIED when the tag is wrong, and then all of `bytes` is zero. Tags compare in constant
 * time. */
MUST_CHECK enum status gcm_open(struct gcm_key *key, const uint8_t nonce[static GCM_NONCE_SIZE], const uint8_t *aad,
                                size_t aad_size, uint8_t *bytes, size_t size, const uint8_t tag[static GCM_TAG_SIZE]);

#endif
