// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_RECEIVER_HASHER_H
#define DIODECAST_RECEIVER_HASHER_H

#include <stdint.h>

#include "receiver/assembly.h"

/*
 * SHA-256 of artifacts while their bytes are still in the cache from decoding, as long as they come in order. A bounded
 * number of artifacts is hashed at a time; whichever has to stop is read again by the verifier. No I/O. One thread,
 * except that the digest of an artifact in state PUBLISHING belongs to the publish stage.
 */
struct hasher;

enum { HASHER_STATES = 64 };

struct hasher *hasher_create(void);
void hasher_destroy(struct hasher *hasher);

/* Takes bytes that were just added to the artifact; those that do not continue what was hashed are passed over. */
void hasher_take(struct hasher *hasher, const struct assembly *assembly, struct assembly_artifact *artifact,
                 uint64_t offset, const uint8_t *bytes, uint32_t size);
/* What was hashed of the artifact is void, for good. */
void hasher_drop(struct hasher *hasher, struct assembly_artifact *artifact);
/* Takes back all states of a transfer whose artifacts are still there; what was not finished is void. */
void hasher_forget(struct hasher *hasher, const struct assembly *assembly);

#endif
