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

/* Renames, then one ledger transaction: a crash in between is seen by recover.h. Runs in a worker thread; failures are
 * logged. */
void finish_batch(const struct claim *claim, struct finish_item *items, size_t count);

#endif
