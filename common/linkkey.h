// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_COMMON_LINKKEY_H
#define DIODECAST_COMMON_LINKKEY_H

#include <stddef.h>
#include <stdint.h>

#include "common/status.h"

/*
 * The link's pre-shared key: AES-256-GCM of each datagram (common/gcm.h). The key of a lane is derived by HKDF-SHA256
 * from the file's 32 bytes, sender id, epoch, lane and salt (proto/README.md, "Sealed datagrams"). One struct linkkey
 * belongs to one thread.
 */
struct linkkey;

enum { LINKKEY_SIZE = 32, LINKKEY_TAG_SIZE = 16, LINKKEY_SECRETS = 2 };

/* Writes a new key file (base64, 0600, O_EXCL, fsync'ed). */
MUST_CHECK enum status linkkey_generate(const char *file);
/* Reads a key file; STATUS_DENIED when others can read it. `reason` receives the message for the operator. */
MUST_CHECK enum status linkkey_load(const char *file, uint8_t secret[static LINKKEY_SIZE], char reason[static 256]);

struct linkkey *linkkey_create(const uint8_t secret[static LINKKEY_SIZE]);
void linkkey_destroy(struct linkkey *key);
/* For opening, once: what is sealed with this second secret opens too, up to `largest` bytes. Which of the two fits is
 * found out with the first datagram of each derived key, and costs no other datagram anything. */
void linkkey_add(struct linkkey *key, const uint8_t secret[static LINKKEY_SIZE], size_t largest);
/* The secret that opened datagrams of this lane in this epoch, lately: 0 that of linkkey_create(), 1 that of
 * linkkey_add(); -1: none did. */
int linkkey_secret_of(const struct linkkey *key, uint32_t sender_id, uint64_t epoch, uint8_t lane);
/* Selects the derived key; cheap when nothing changed since the last call (a few recent ones are kept). */
void linkkey_select(struct linkkey *key, uint32_t sender_id, uint64_t epoch, uint8_t lane, uint64_t salt);
/* Encrypts `in` to `out` (may be equal) and writes the tag. */
void linkkey_seal(struct linkkey *key, uint64_t sequence, const uint8_t *aad, size_t aad_size, const uint8_t *in,
                  uint8_t *out, size_t size, uint8_t tag[static LINKKEY_TAG_SIZE]);
/* Decrypts in place; STATUS_DENIED when the tag is wrong (then all of `bytes` is zero). */
MUST_CHECK enum status linkkey_open(struct linkkey *key, uint64_t sequence, const uint8_t *aad, size_t aad_size,
                                    uint8_t *bytes, size_t size, const uint8_t tag[static LINKKEY_TAG_SIZE]);

#endif
