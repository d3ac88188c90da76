// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_TESTS_UNIT_RECEIVER_FIXTURE_H
#define DIODECAST_TESTS_UNIT_RECEIVER_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/checksum.h"
#include "common/digest.h"
#include "common/trust.h"
#include "proto/manifest.h"
#include "proto/signed.h"

/* Keys and manifests as a sender would make them. */

struct fixture_file {
    const char *path;
    const uint8_t *bytes; /* NULL: a directory or a symlink */
    uint64_t size;
    const char *target; /* not NULL: a symlink */
    bool executable;
};

static inline struct signature_key *fixture_key(uint8_t number)
{
    uint8_t seed[32] = {number, 0x5a};
    return signature_key_from_seed(seed);
}

static inline struct trust *fixture_trust(const struct signature_key *const keys[], size_t count)
{
    struct signature_public publics[8];
    for (size_t i = 0; i < count; i++)
        publics[i] = *signature_key_public(keys[i]);
    return trust_from_keys(publics, count);
}

static inline void fixture_id(uint8_t number, uint8_t id[static TRANSFER_ID_SIZE])
{
    memset(id, 0, TRANSFER_ID_SIZE);
    id[0] = number;
    id[TRANSFER_ID_SIZE - 1] = 0xee;
}

/* A signed manifest of the files in channel "tools"; the caller frees. */
static inline uint8_t *fixture_manifest_of_chain(const struct signature_key *key, uint8_t chain,
                                                 const uint8_t id[static TRANSFER_ID_SIZE], uint64_t sequence,
                                                 const char *name, const struct fixture_file *files, size_t count,
                                                 size_t *size)
{
    struct manifest_writer *writer = manifest_writer_create("tools", name);
    for (size_t i = 0; i < count; i++) {
        struct manifest_entry entry = {
            .path = files[i].path,
            .kind = files[i].target != NULL  ? MANIFEST_SYMLINK
                    : files[i].bytes == NULL ? MANIFEST_DIRECTORY
                                             : MANIFEST_FILE,
            .size = files[i].bytes == NULL ? 0 : files[i].size,
            .executable = files[i].executable,
            .target = files[i].target,
            .mtime_ns = INT64_C(1700000000000000000) + (int64_t)i,
        };
        if (files[i].bytes != NULL)
            digest_once(files[i].bytes, files[i].size, entry.sha256);
        manifest_writer_add(writer, &entry);
        if (files[i].bytes != NULL && files[i].size > CHUNK_SIZE) {
            size_t chunks = (size_t)manifest_chunk_count(files[i].size);
            uint8_t *hashes = malloc(chunks * CHUNK_HASH_SIZE);
            for (size_t chunk = 0; chunk < chunks; chunk++) {
                size_t at = chunk * CHUNK_SIZE;
                size_t part = files[i].size - at < CHUNK_SIZE ? (size_t)files[i].size - at : CHUNK_SIZE;
                checksum128(files[i].bytes + at, part, hashes + chunk * CHUNK_HASH_SIZE);
            }
            manifest_writer_add_chunk_hashes(writer, hashes, chunks);
            free(hashes);
        }
    }
    struct manifest_head head = {.sequence = sequence, .time_ns = INT64_C(1700000000000000000)};
    memset(head.chain_id, chain, CHAIN_ID_SIZE);
    if (sequence > 1)
        memset(head.previous_hash, 0x11, SHA256_SIZE);
    memcpy(head.transfer_id, id, TRANSFER_ID_SIZE);
    memcpy(head.origin_user, "alice", sizeof "alice");
    uint8_t *body;
    size_t body_size;
    manifest_writer_finish(writer, &head, &body, &body_size);
    manifest_writer_destroy(writer);
    uint8_t *bytes;
    signed_encode(key, body, body_size, "sequence and chain", &bytes, size, NULL);
    free(body);
    return bytes;
}

static inline uint8_t *fixture_manifest(const struct signature_key *key, const uint8_t id[static TRANSFER_ID_SIZE],
                                        uint64_t sequence, const char *name, const struct fixture_file *files,
                                        size_t count, size_t *size)
{
    return fixture_manifest_of_chain(key, 0xc1, id, sequence, name, files, count, size);
}

#endif
