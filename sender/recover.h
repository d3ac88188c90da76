// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_SENDER_RECOVER_H
#define DIODECAST_SENDER_RECOVER_H

#include <stddef.h>

#include "common/status.h"
#include "sender/claim.h"
#include "sender/transfer.h"

/*
 * Puts .sending and the ledger in agreement after any kind of end, and finds the transfers that were under way. Called
 * once at the start, before anything is claimed.
 *
 *     ledger says        item is                          then
 *     CLAIMING, CLAIMED  in .sending/ID                   sent, from the recorded mark on when it is what it was
 *     SEALED             in .sending/ID                   likewise, with the same sequence and signed bytes
 *     SEALED             in .sent/ID                      SENT
 *     any of these       in .failed/ID                    FAILED
 *     any of these       nowhere                          RETURNED (FAILED when it has a sequence number)
 *     SENT, FAILED       in .sending/ID                   moved to where it belongs
 *     RETURNED           in .sending/ID                   moved back to the spool
 *     nothing            in .sending/ID                   moved to .failed/ID: its channel is not known any more
 *
 * NAME.approval goes where NAME goes; alone in .sending/ID, it goes back to the spool, for its item never left there.
 */
struct recover_result {
    struct transfer **transfers; /* to be submitted, oldest first; malloc'ed */
    size_t count;
    size_t refused;
};

MUST_CHECK enum status recover_run(const struct claim *claim, struct recover_result *result);

#endif
