// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_RECEIVER_DESCRIBE_H
#define DIODECAST_RECEIVER_DESCRIBE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/status.h"
#include "receiver/assembly.h"

/*
 * Writes what stands beside payload/ in a delivery: manifest.pb, manifest.pb.minisig, manifest.json and SHA256SUMS,
 * into the directory `tree_fd`, with exactly mode 0660. Entry by entry, so that a large tree needs no more memory than
 * a small one. Does not log.
 */
MUST_CHECK enum status describe_delivery(int tree_fd, struct assembly *assembly,
                                         const uint8_t manifest_hash[static SHA256_SIZE], bool late,
                                         int64_t delivered_at_ns);

/* Corrects what manifest.json says of the delivery: `late` and when it was. Durable. A missing file stays missing. */
MUST_CHECK enum status describe_again(int tree_fd, bool late, int64_t delivered_at_ns);

enum { DESCRIBE_FILE_COUNT = 4 };
extern const char *const describe_files[DESCRIBE_FILE_COUNT];

#endif
