// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_TOOLS_SHOW_H
#define DIODECAST_TOOLS_SHOW_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/manifest.h"

struct signature;
struct statement_reader;

/* What manifests and approvals hold, for persons (standard output) and as JSON. */

/* "label         text", the text escaped. */
void show_text_line(const char *label, const char *text);
void show_entry(const struct manifest_entry *entry);
json_t *show_entry_json(const struct manifest_entry *entry);
/* "content       N artifacts, ..." */
void show_content(uint32_t artifact_count, uint64_t total_bytes);
void show_labels(const struct statement_reader *statement);
json_t *show_labels_json(const struct statement_reader *statement);
/* One line for an approval, whose signature nobody has checked. */
void show_approval(const struct signature *approval);
json_t *show_approval_json(const struct signature *approval);

/*
 * Writes statement.pb and KEYID.minisig for each approval into `directory`, which is made when missing, so that
 * `minisign -V -m statement.pb -x KEYID.minisig -p KEY.pub` checks them. EX_OK, or the exit code after the reason was
 * printed.
 */
int show_export(const char *directory, const uint8_t *statement, size_t statement_size,
                const struct signature *approvals, size_t count);

#endif
