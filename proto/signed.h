// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_PROTO_SIGNED_H
#define DIODECAST_PROTO_SIGNED_H

#include <stddef.h>
#include <stdint.h>

#include "common/signature.h"
#include "common/status.h"
#include "proto/limits.h"

struct trust;

/* The Signed envelope: a body and the minisign-format signature over exactly those bytes. Pure. */

/*
 * Signs `body` and encodes the envelope. With `trusted_comment` (not NULL, manifests) the global signature is made too.
 * *out is malloc'ed, the caller frees it. `signature` may be NULL; else it receives what was made, for the ledger.
 */
void signed_encode(const struct signature_key *key, const uint8_t *body, size_t body_size, const char *trusted_comment,
                   uint8_t **out, size_t *out_size, struct signature *signature);

/* A decoded envelope. Owns its memory until signed_message_deinit(). */
struct signed_message {
    uint8_t *body;
    size_t body_size;
    struct signature signature;
};

/*
 * Decodes the envelope without looking at trust. STATUS_INVALID when it is malformed or its body is larger than
 * `body_limit`.
 */
MUST_CHECK enum status signed_decode(const uint8_t *bytes, size_t size, size_t body_limit,
                                     struct signed_message *message);
/* The envelope of a decoded message once more; *out is malloc'ed, the caller frees it. */
void signed_message_encode(const struct signed_message *message, uint8_t **out, size_t *out_size);
void signed_message_deinit(struct signed_message *message);

#endif
