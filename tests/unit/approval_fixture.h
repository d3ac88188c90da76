// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_TESTS_UNIT_APPROVAL_FIXTURE_H
#define DIODECAST_TESTS_UNIT_APPROVAL_FIXTURE_H

#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "common/digest.h"
#include "common/signature.h"
#include "proto/approval.h"
#include "proto/manifest.h"
#include "proto/statement.h"

/* Bundles of approvals as signers make them, by keys from seeds. */

/* The statement of one file, by its content. */
static inline struct manifest_writer *approval_statement(const char *channel, const char *name, const char *content,
                                                         int64_t mtime_ns)
{
    struct manifest_writer *writer = manifest_writer_create(channel, name);
    struct manifest_entry entry = {.path = name, .kind = MANIFEST_FILE, .size = strlen(content), .mtime_ns = mtime_ns};
    digest_once(content, strlen(content), entry.sha256);
    manifest_writer_add(writer, &entry);
    return writer;
}

static inline void approval_sign(struct approval_bundle *bundle, uint8_t seed_byte)
{
    uint8_t seed[32] = {seed_byte};
    struct signature approval;
    struct signature_key *key = signature_key_from_seed(seed);
    signature_sign(key, bundle->statement, bundle->statement_size, "checked by hand", &approval);
    enum approval_result result = approval_add(bundle, &approval);
    assert(result == APPROVAL_ADDED);
    (void)result;
    signature_key_destroy(key);
}

/* The encoded bundle with approvals by `count` keys, 1 and up; malloc'ed. */
static inline void approval_bundle_of(const char *channel, const char *name, const char *content, uint8_t count,
                                      uint8_t **out, size_t *size)
{
    struct approval_bundle bundle = {0};
    struct manifest_writer *writer = approval_statement(channel, name, content, 1000);
    bundle.statement = manifest_writer_statement(writer, &bundle.statement_size);
    for (uint8_t i = 1; i <= count; i++)
        approval_sign(&bundle, i);
    approval_encode(&bundle, out, size);
    manifest_writer_destroy(writer);
}

#endif
