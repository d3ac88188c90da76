// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_COMMON_TRUST_H
#define DIODECAST_COMMON_TRUST_H

#include <stddef.h>
#include <stdint.h>

#include "common/signature.h"
#include "common/status.h"

/* The set of trusted public keys: a directory of *.pub files. Immutable after loading, so shared by threads without a
 * lock. */
struct trust;

/* Prints what is wrong (unreadable or malformed files, two keys with one sender id). An empty directory is an error
 * with the command that mends it. */
MUST_CHECK enum status trust_load(const char *directory, struct trust **trust);
/* One key, for tests and simulation. */
struct trust *trust_from_keys(const struct signature_public *keys, size_t count);
/* The key of a sender id, or NULL. Constant time is not needed: key ids are public. */
const struct signature_public *trust_find(const struct trust *trust, uint32_t sender_id);
size_t trust_count(const struct trust *trust);
void trust_destroy(struct trust *trust);

#endif
