// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_RECEIVER_APPROVED_H
#define DIODECAST_RECEIVER_APPROVED_H

#include <stdbool.h>
#include <stddef.h>

#include "common/status.h"
#include "proto/limits.h"

struct manifest_reader;

/*
 * What a delivery holds of its approvals: statement.pb and approvals/KEYID.minisig, so that stock minisign checks them.
 * Nothing for a manifest without approvals. An approval without a trusted comment makes no file, and of several by one
 * key id only the first does. Does not log.
 */

enum { APPROVED_PATH_SIZE = 64 };

/* Writes the files and their directory into the delivery's directory `tree_fd`, with final modes. */
MUST_CHECK enum status approved_write(int tree_fd, const struct manifest_reader *reader);

/* Path number `index`, from 0, of what approved_write() made, directories included; false behind the last. */
bool approved_path(const struct manifest_reader *reader, size_t index, char path[static APPROVED_PATH_SIZE]);

/* How many approvals have a file. */
size_t approved_count(const struct manifest_reader *reader);

#endif
