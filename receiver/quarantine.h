// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_RECEIVER_QUARANTINE_H
#define DIODECAST_RECEIVER_QUARANTINE_H

#include <stddef.h>
#include <stdint.h>

#include "common/status.h"
#include "proto/limits.h"

/*
 * Manifests that were refused, for whoever wants to know why: intake/.quarantine/TIME-SENDERID-TRANSFERID/ with
 * manifest.pb, manifest.pb.minisig where it has one, and reason. Bounded in number and bytes; what comes beyond that is
 * only counted by the caller, until an operator clears the directory or it has come of age. One thread.
 */
struct quarantine;

enum { QUARANTINE_COUNT = 256, QUARANTINE_BYTES = 256 << 20 };

/* `directory_fd` is borrowed. Looks at what is there; NULL, logged, when that fails. */
struct quarantine *quarantine_create(int directory_fd);
void quarantine_destroy(struct quarantine *quarantine);
/* How long they are kept, by the wall clock of the creation and the time since; for ever, at first. */
void quarantine_set_age(struct quarantine *quarantine, uint64_t age_ns);
/* Now and then, with CLOCK_MONOTONIC: removes what is too old. Logs. */
void quarantine_tick(struct quarantine *quarantine, uint64_t now_ns);

/* Keeps a Signed message that was refused. STATUS_LIMIT when the quarantine is full. Does not log. */
MUST_CHECK enum status quarantine_keep(struct quarantine *quarantine, uint32_t sender_id,
                                       const uint8_t transfer_id[static TRANSFER_ID_SIZE], const char *reason,
                                       const uint8_t *bytes, size_t size, int64_t realtime_ns);

#endif
