// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_COMMON_AUDIT_LOG_H
#define DIODECAST_COMMON_AUDIT_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/audit.h"
#include "common/audit_format.h"

/*
 * The files of an audit trail: DIRECTORY/audit-NNNNNNNN.jsonl, written one after the other and never again; audit.key
 * and audit.pub beside them. One thread at a time.
 *
 * What counts is what a write and an fsync confirmed. A batch whose write failed is cut off again. When that fails, or
 * when the fsync did (the kernel then forgets that pages are dirty, so that neither they nor a second fsync can be
 * trusted), the file is given up: the next begins with the number and hash behind the last confirmed record and says
 * that it supersedes what the file before may hold beyond. A torn end that a crash left is cut off at the next start,
 * kept as DIRECTORY/torn-NNNNNNNN-OFFSET, and recorded.
 */
struct audit_log;

enum {
    AUDIT_LOG_SEGMENT_SIZE = 64 << 20, /* bytes from which the next file is begun */
    AUDIT_LOG_LOOK_BACK = 8 << 20,     /* bytes of the end that are looked at on opening; a batch is smaller */
    AUDIT_LOG_BATCH_SIZE = 1 << 20,    /* bytes after which the caller commits */
};

/* Makes directory, keys and the first file where they are missing. `side` is borrowed. Logs what fails. */
MUST_CHECK enum status audit_log_open(const char *directory, const char *side, uint64_t segment_size,
                                      struct audit_log **log);
/* Closes; what was added and not committed is gone. NULL allowed. */
void audit_log_close(struct audit_log *log);
/* What had to be cut off on opening, in words; "" when nothing. */
const char *audit_log_repair(const struct audit_log *log);
bool audit_log_was_recorded(const struct audit_log *log, enum audit_event event,
                            const uint8_t transfer_id[static TRANSFER_ID_SIZE]);

/* Begins a batch: a full file is closed with a checkpoint, a missing one is begun. errno on failure. */
MUST_CHECK enum status audit_log_begin(struct audit_log *log, int64_t realtime_ns);
/* Adds a record to the batch; `body` is audit_format_body()'s. Returns the bytes of the batch so far. */
size_t audit_log_add(struct audit_log *log, const char *body, size_t size);
void audit_log_add_checkpoint(struct audit_log *log, int64_t realtime_ns);
/* One write, one fsync: all of the batch is durable, or none of it counts; errno on failure. Tells the journal of
 * checkpoints. The batch is empty afterwards. */
MUST_CHECK enum status audit_log_commit(struct audit_log *log);

/* Records behind the newest checkpoint: confirmed ones, and with the batch. */
uint64_t audit_log_unsigned_count(const struct audit_log *log);
uint64_t audit_log_pending_count(const struct audit_log *log);

#endif
