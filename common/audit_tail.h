// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_COMMON_AUDIT_TAIL_H
#define DIODECAST_COMMON_AUDIT_TAIL_H

#include <stddef.h>
#include <stdint.h>

#include "common/audit.h"
#include "common/audit_format.h"

/* Where an audit log ends, found and put right at the start of a daemon (audit_log.h). */

enum { AUDIT_TAIL_NAME_SIZE = 32 };
#define AUDIT_TAIL_PREFIX "audit-"
#define AUDIT_TAIL_SUFFIX ".jsonl"

struct audit_tail {
    uint32_t segment; /* the file to go on with, or to begin */
    uint64_t size;    /* of it; 0: begin it */
    uint64_t number;  /* of the last record; 0: there is none yet */
    uint8_t hash[DIGEST_SIZE];
    uint64_t unsigned_count; /* records behind the last checkpoint, as far as was looked */
    char repair[AUDIT_DETAIL_SIZE];
    struct audit_tail_recent {
        enum audit_event event;
        uint8_t transfer_id[TRANSFER_ID_SIZE];
    } * recent; /* what the last records say of which transfers */
    size_t recent_count, recent_capacity;
};

/*
 * Looks at the end of the newest file. What there is no whole record, or does not follow the one before, goes to
 * torn-NNNNNNNN-OFFSET, durably, and is cut off. STATUS_CORRUPT when no record is found where one must be. Logs.
 */
MUST_CHECK enum status audit_tail_find(int directory_fd, const char *directory, struct audit_tail *tail);
void audit_tail_deinit(struct audit_tail *tail);

#endif
