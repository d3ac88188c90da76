// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_COMMON_SIGNATURE_H
#define DIODECAST_COMMON_SIGNATURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/status.h"

/*
 * Ed25519 signatures in minisign's formats (jedisct1.github.io/minisign), by libsodium: BLAKE2b-512 of the message,
 * signed detached. Public keys, secret keys without password ("minisign -G -W") and .minisig files are interchangeable
 * with minisign 0.11.
 */
enum {
    SIGNATURE_KEY_ID_SIZE = 8,
    SIGNATURE_PUBLIC_SIZE = 32,
    SIGNATURE_SIZE = 74, /* "ED" ‖ key id ‖ Ed25519 */
    SIGNATURE_GLOBAL_SIZE = 64,
    SIGNATURE_COMMENT_SIZE = 256, /* trusted comment with its NUL */
};

struct signature_key; /* secret key in locked memory */

struct signature_public {
    uint8_t key_id[SIGNATURE_KEY_ID_SIZE];
    uint8_t key[SIGNATURE_PUBLIC_SIZE];
};

struct signature {
    uint8_t bytes[SIGNATURE_SIZE];
    bool has_comment;
    char trusted_comment[SIGNATURE_COMMENT_SIZE];
    uint8_t global[SIGNATURE_GLOBAL_SIZE]; /* over bytes[10..74) ‖ trusted comment; only with has_comment */
};

/* Initialises libsodium; before any other call, from the main thread. */
MUST_CHECK enum status signature_init(void);

/* Makes a key pair in two new files: public 0644, secret 0600, O_EXCL, fsync'ed. STATUS_EXISTS when one is there
 * (*existing says which). */
MUST_CHECK enum status signature_generate(const char *secret_file, const char *public_file, const char **existing,
                                          struct signature_public *public_key);
/*
 * Loads a secret key. STATUS_DENIED when the file can be read by others than its owner (group or other bits),
 * STATUS_INVALID when it is no secret key or has a password. `reason` receives the message for the operator.
 */
MUST_CHECK enum status signature_key_load(const char *file, struct signature_key **key, char reason[static 256]);
/* Makes a key from a 32-byte seed: tests and simulation. */
struct signature_key *signature_key_from_seed(const uint8_t seed[static 32]);
const struct signature_public *signature_key_public(const struct signature_key *key);
void signature_key_destroy(struct signature_key *key);

MUST_CHECK enum status signature_public_load(const char *file, struct signature_public *public_key,
                                             char reason[static 256]);
/* Writes a public key file, 0644, O_EXCL, fsync'ed. STATUS_EXISTS when one is there. */
MUST_CHECK enum status signature_public_save(const struct signature_public *public_key, const char *file);
/* The same with another comment than minisign's, of at most 127 bytes without line ends. */
MUST_CHECK enum status signature_public_save_as(const struct signature_public *public_key, const char *comment,
                                                const char *file);
/* First four bytes of the key id, little-endian: names the sender on the wire. */
uint32_t signature_sender_id(const struct signature_public *public_key);

/* `trusted_comment` may be NULL. Thread-safe. */
void signature_sign(const struct signature_key *key, const void *bytes, size_t size, const char *trusted_comment,
                    struct signature *signature);
/* Checks the signature and, where it has one, the comment's. The key id must be the key's. Thread-safe. */
bool signature_verify(const struct signature_public *public_key, const void *bytes, size_t size,
                      const struct signature *signature);

/* The text of a .minisig file into malloc'ed memory, and back; a signature without a comment can't be written as a
 * file. */
void signature_to_file_text(const struct signature *signature, char **text, size_t *size);
MUST_CHECK enum status signature_from_file_text(const char *text, size_t size, struct signature *signature);

#endif
