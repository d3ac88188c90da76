// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_PROTO_TALLY_H
#define DIODECAST_PROTO_TALLY_H

#include <stdint.h>

#include "proto/limits.h"
#include "proto/manifest.h"

/*
 * The rules that the entries of a statement obey together: what an entry may be behind the one before it, and what they
 * add up to. One predicate for scan, writer and reader. Pure; no memory beside the struct.
 */
struct tally {
    char name[LIMIT_COMPONENT_LENGTH + 1]; /* of the item */
    char path[LIMIT_PATH_LENGTH + 1];      /* of the last entry */
    enum manifest_kind kind;               /* of the last entry */
    uint32_t entries;
    uint32_t artifacts;    /* file entries */
    uint64_t total_bytes;  /* of the artifacts */
    uint64_t chunk_hashes; /* that the manifest holds */
};

/* `name` is a checked component. */
void tally_init(struct tally *tally, const char *name);

/* NULL when the entry may come next (then it is counted), else a phrase for the operator, such as "is listed twice". */
const char *tally_add(struct tally *tally, const struct manifest_entry *entry);

/* Chunk hashes that a manifest holds for an entry: none where the SHA-256 says the same. */
uint64_t tally_hash_count(const struct manifest_entry *entry);

#endif
