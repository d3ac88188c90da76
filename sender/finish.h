// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_SENDER_FINISH_H
#define DIODECAST_SENDER_FINISH_H

#include <stdbool.h>
#include <stddef.h>

#include "sender/claim.h"
#include "sender/transfer.h"

/* Files what the pipeline is done with: .sending/ID becomes .sent/ID or .failed/ID, or the item goes back to the spool.
 */

enum finish_result { FINISH_SENT, FINISH_REFUSED, FINISH_RETURNED };

struct finish_item {
    struct transfer *transfer; /* in; its outcome says what is to be done */
    bool may_return;           /* in: no other item of that name is known in the spool */
    enum finish_result result; /* out; a transfer that can't go back is refused, and its reason says so */
};

/* What was filed and the ledger did not take, because its disk is full or failing: tried again with each batch. Zeroed
 * in the beginning. What does not fit is found by the next start (recover.h). */
enum { FINISH_UNRECORDED = 1024 };
struct finish_backlog {
    struct ledger_change changes[FINISH_UNRECORDED]; /* reasons are malloc'ed */
    size_t count;
};

/* Renames, then one ledger transaction, which holds what waits in `backlog` too: a crash in between is seen by
 * recover.h. `count` may be 0. Runs in a worker thread; failures are logged. */
void finish_batch(const struct claim *claim, struct finish_backlog *backlog, struct finish_item *items, size_t count);
void finish_backlog_deinit(struct finish_backlog *backlog);

#endif
