// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_COMMON_CHECKSUM_H
#define DIODECAST_COMMON_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>

/* XXH3 (xxHash): against accidental damage, not against an attacker. Thread-safe, each state by one thread. */
enum { CHECKSUM128_SIZE = 16 };

uint64_t checksum64(const void *bytes, size_t size);
/* XXH3-128 as stored in manifests and tags: low 64 bits little-endian, then high 64 bits little-endian. */
void checksum128(const void *bytes, size_t size, uint8_t out[static CHECKSUM128_SIZE]);

/* Streaming XXH3-128. */
struct checksum;
struct checksum *checksum_create(void);
void checksum_reset(struct checksum *checksum);
void checksum_update(struct checksum *checksum, const void *bytes, size_t size);
void checksum_final(const struct checksum *checksum, uint8_t out[static CHECKSUM128_SIZE]);
void checksum_destroy(struct checksum *checksum);

#endif
