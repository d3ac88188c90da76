// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_PROTO_MANIFEST_H
#define DIODECAST_PROTO_MANIFEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/status.h"
#include "proto/limits.h"

struct approval_bundle;
struct signature;

/*
 * Statement and manifest. Both are written and read entry by entry, so that a tree of 50,000 files needs the memory of
 * its bytes and no object tree beside it. Each entry is a protobuf-c message; only the outermost field walk is ours.
 * Pure.
 */

enum manifest_kind { MANIFEST_FILE = 1, MANIFEST_DIRECTORY = 2, MANIFEST_SYMLINK = 3 };

/* One entry. Strings are borrowed: from the caller when writing, from the reader until its next call when reading. */
struct manifest_entry {
    const char *path; /* relative to payload/, NUL-terminated */
    enum manifest_kind kind;
    uint64_t size;
    bool executable;
    int64_t mtime_ns;
    uint8_t sha256[SHA256_SIZE];
    const char *target; /* symlinks, else NULL */
};

/* Head of a manifest: everything but the entries. */
struct manifest_head {
    uint8_t chain_id[CHAIN_ID_SIZE];
    uint64_t sequence;
    uint8_t previous_hash[SHA256_SIZE];
    uint64_t previous_in_channel;
    uint8_t transfer_id[TRANSFER_ID_SIZE];
    int64_t time_ns;
    char origin_user[LIMIT_USER_LENGTH + 1];
    uint64_t total_bytes;
    uint32_t artifact_count; /* file entries */
    char channel[LIMIT_CHANNEL_LENGTH + 1];
    char name[LIMIT_COMPONENT_LENGTH + 1];
};

/*
 * The order of entries: by components, each compared byte by byte, a path before all that lie below it. A tree scanned
 * in this order has its directories directly in front of their contents. Returns < 0, 0 or > 0.
 */
int manifest_path_compare(const char *a, const char *b);

struct manifest_writer;

/* Starts a statement. All that a reader checks is an assert here: refusing is the scan's work. */
struct manifest_writer *manifest_writer_create(const char *channel, const char *name);
void manifest_writer_add_label(struct manifest_writer *writer, const char *key,
                               const char *value); /* before the first entry */
/* Entries come in the order of manifest_path_compare(), the first one being the item itself. */
void manifest_writer_add(struct manifest_writer *writer, const struct manifest_entry *entry);
/* Hashes of all chunks of one artifact, in order; called only for artifacts with more than one chunk, in artifact
 * order. */
void manifest_writer_add_chunk_hashes(struct manifest_writer *writer, const uint8_t *hashes, size_t count);
/* The statement's bytes so far; the writer's, until its next call. */
const uint8_t *manifest_writer_statement(const struct manifest_writer *writer, size_t *size);
/*
 * After the last entry: takes the signed statement of `bundle` in place of the one written, verbatim, with its
 * approvals (copied). False, with what differs, when the two do not agree (proto/statement.h); then nothing changed.
 */
MUST_CHECK bool manifest_writer_adopt(struct manifest_writer *writer, const struct approval_bundle *bundle,
                                      char difference[static 256]);
/* Bytes that the manifest will have at most, so that the limit is seen before it is signed. */
size_t manifest_writer_size(const struct manifest_writer *writer);
/*
 * Encodes the manifest's body into malloc'ed bytes (the caller frees). Of `head`, channel and name are ignored (the
 * statement has them), and so are total_bytes and artifact_count (the writer counted). Once only.
 */
void manifest_writer_finish(struct manifest_writer *writer, const struct manifest_head *head, uint8_t **out,
                            size_t *out_size);
void manifest_writer_destroy(struct manifest_writer *writer);

/*
 * Opens a manifest's body, borrowing `bytes` for the reader's life, and checks all of it once: context, sizes, every
 * path by relpath_check(), first component equal to the name, strict order (so no duplicates), each parent listed as a
 * directory before its children, symlinks inside, counts and totals that agree, number of chunk hashes. On
 * STATUS_INVALID `reason` holds a phrase for the operator; STATUS_SYSTEM when memory is short.
 */
struct manifest_reader;
MUST_CHECK enum status manifest_reader_create(const uint8_t *bytes, size_t size, struct manifest_reader **reader,
                                              char reason[static 256]);
const struct manifest_head *manifest_reader_head(const struct manifest_reader *reader);
/* The statement's bytes, verbatim, inside the caller's bytes. */
const uint8_t *manifest_reader_statement(const struct manifest_reader *reader, size_t *size);
/*
 * The approvals, in the manifest's order: signatures over manifest_reader_statement()'s bytes, as they came. Their form
 * was checked, nothing else: who made them, and whether they are good, needs keys; one key may come twice. False behind
 * the last one.
 */
size_t manifest_reader_approval_count(const struct manifest_reader *reader);
bool manifest_reader_approval(const struct manifest_reader *reader, size_t index, struct signature *signature);
/* Walks the entries in order; false at the end. manifest_reader_rewind() starts again. */
bool manifest_reader_next(struct manifest_reader *reader, struct manifest_entry *entry);
void manifest_reader_rewind(struct manifest_reader *reader);
/*
 * XXH3-128 (CHUNK_HASH_SIZE bytes each) of the chunks of the entry last returned by manifest_reader_next(); *count is 0
 * and the result NULL for an artifact of at most one chunk.
 */
const uint8_t *manifest_reader_chunk_hashes(const struct manifest_reader *reader, size_t *count);
void manifest_reader_destroy(struct manifest_reader *reader);

/* Number of chunks of an artifact of `size` bytes; 0 for an empty one. */
uint64_t manifest_chunk_count(uint64_t size);

#endif
