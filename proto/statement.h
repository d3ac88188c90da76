// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_PROTO_STATEMENT_H
#define DIODECAST_PROTO_STATEMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/status.h"
#include "proto/limits.h"
#include "proto/manifest.h"

/* Reads a statement, alone (in an approval bundle) or inside a manifest. Pure. */

struct statement_head {
    char channel[LIMIT_CHANNEL_LENGTH + 1];
    char name[LIMIT_COMPONENT_LENGTH + 1];
    uint32_t entries;
    uint32_t artifact_count; /* file entries */
    uint64_t total_bytes;
    uint64_t chunk_hashes; /* that a manifest with this statement holds */
};

struct statement_label {
    char key[LIMIT_LABEL_KEY_LENGTH + 1];
    char value[LIMIT_LABEL_VALUE_LENGTH + 1];
};

struct statement_reader;

/*
 * Opens a statement, borrowing `bytes` for the reader's life, and checks all of it once: context, sizes, every path by
 * relpath_check(), first component equal to the name, strict order (so no duplicates), each parent listed as a
 * directory before its children, symlinks inside. On STATUS_INVALID `reason` holds a phrase for the operator;
 * STATUS_SYSTEM when memory is short.
 */
MUST_CHECK enum status statement_reader_create(const uint8_t *bytes, size_t size, struct statement_reader **reader,
                                               char reason[static 256]);
const struct statement_head *statement_reader_head(const struct statement_reader *reader);
/* Walks the entries in order; false at the end. Strings live until the next call. */
bool statement_reader_next(struct statement_reader *reader, struct manifest_entry *entry);
void statement_reader_rewind(struct statement_reader *reader);
/* Label number `index`, from 0, in the statement's order; false behind the last. */
bool statement_reader_label(const struct statement_reader *reader, size_t index, struct statement_label *label);
void statement_reader_destroy(struct statement_reader *reader); /* NULL allowed */

/* Whether a label keeps the limits; lengths as by strlen(). */
bool statement_label_is_legal(const char *key, size_t key_size, const char *value, size_t value_size);

/* What of two statements is compared. */
enum statement_extent {
    STATEMENT_OUTLINE, /* all but the SHA-256, for what has not been read yet */
    STATEMENT_WHOLE,
};

/*
 * Whether two statements name the same content: channel, name, paths, kinds, sizes, executable bits, SHA-256, targets.
 * Times and labels may differ: a copied item has other times, and labels are the signer's. Else `difference` says in
 * words, with the path, what `found` has in place of what `signed_one` says. Rewinds both readers.
 */
bool statement_agrees(struct statement_reader *signed_one, struct statement_reader *found, enum statement_extent extent,
                      char difference[static 256]);

#endif
