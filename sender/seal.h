// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_SENDER_SEAL_H
#define DIODECAST_SENDER_SEAL_H

#include <stdbool.h>

#include "common/mailbox.h"
#include "common/signature.h"
#include "common/status.h"
#include "sender/ledger.h"
#include "sender/transfer.h"

/*
 * The seal stage, a thread of its own: looks again whether a fully read item is still what was read (scan_same), builds
 * and signs its manifest, and records sequence, chain and signed bytes in one ledger transaction for all transfers that
 * wait. A transfer that comes with an outcome other than TRANSFER_PENDING (the read stage could not read it) is only
 * ended. A transfer that changed gets outcome TRANSFER_RETURNED, one whose manifest exceeds the limit TRANSFER_REFUSED;
 * then signed_bytes hold a Signed(Abort) instead and sequence is 0. A ledger that fails is retried each second.
 * The item is not looked at any more afterwards: directory_fd is closed and -1.
 */
struct seal;

/* Called in the seal thread, directly after the commit and before the transfer is posted: lets the heartbeat know of
 * the new newest sequence. */
typedef void seal_committed(void *context, const struct transfer *transfer);

MUST_CHECK enum status seal_start(struct ledger *ledger, const struct signature_key *key, struct mailbox *sealed,
                                  seal_committed *committed, void *context, struct seal **seal);
/* Takes the transfer; it comes back through `sealed`. Any thread. */
void seal_submit(struct seal *seal, struct transfer *transfer);
/* Finishes what was submitted and ends the thread. */
void seal_stop(struct seal *seal);

#endif
