// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_RECEIVER_CHECKPOINT_H
#define DIODECAST_RECEIVER_CHECKPOINT_H

#include <stdbool.h>
#include <stdint.h>

#include "common/mailbox.h"
#include "common/status.h"
#include "receiver/intake.h"
#include "receiver/ledger_partial.h"
#include "receiver/partial.h"

/*
 * The checkpoint stage, one thread: flushes what was written of open transfers, hashes what was not hashed on arrival,
 * and records both, for all transfers that are posted at the same time in one transaction. Pages of large files that
 * are on the disk are let go, so that a large transfer does not empty the page cache. Nobody waits for it.
 */
struct checkpoint;

enum checkpoint_outcome {
    CHECKPOINT_RECORDED,
    CHECKPOINT_UNRECORDED, /* the ledger did not take it; `list` and the manifest are to be posted again */
    CHECKPOINT_LOST,       /* a flush failed, `error` says why: the staged bytes are of no use, and nothing of the
                              transfer is recorded any more */
};

/* Malloc'ed. Each comes back through the results. */
struct checkpoint_job {
    struct mailbox_entry entry;    /* first member */
    uint64_t serial;               /* the poster's */
    struct ledger_partial partial; /* owns its manifest */
    struct partial_list list;      /* only of completed writes */
    bool anew;                     /* the list replaces all that was recorded; its ranges are not hashed any more */
    bool first;  /* nothing of this transfer was recorded yet; what the ledger has is of an earlier one */
    bool remove; /* the transfer was closed; partial.key alone counts */

    enum checkpoint_outcome outcome;
    int error;
};

struct checkpoint_job *checkpoint_job_create(uint32_t sender_id, const uint8_t id[static TRANSFER_ID_SIZE]);
void checkpoint_job_destroy(struct checkpoint_job *job); /* NULL allowed */

/* All borrowed. */
MUST_CHECK enum status checkpoint_start(const struct intake *intake, struct ledger *ledger, struct mailbox *results,
                                        struct checkpoint **checkpoint);
/* Jobs of one transfer are done in the order of their posts. */
void checkpoint_post(struct checkpoint *checkpoint, struct checkpoint_job *job);
/* Does all that was posted, and ends the thread; all results are in the mailbox then. Frees; NULL allowed. */
void checkpoint_stop(struct checkpoint *checkpoint);

#endif
