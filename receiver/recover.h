// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_RECEIVER_RECOVER_H
#define DIODECAST_RECEIVER_RECOVER_H

#include "common/status.h"
#include "receiver/intake.h"
#include "receiver/ledger.h"

/*
 * Brings whatever was being published when the program ended to its one end, and clears .staging:
 *
 *     tree in .staging    staged bytes   what it means                              what is done
 *     there               any            flushed, intent recorded, not renamed      rename, flush, record
 *     not there           there          renamed; a consumer may have it already    record
 *     not there           not there      .staging was wiped by hand                 recorded when the delivery lies in
 *                                                                                   its channel, else forgotten
 *
 * Channels on another file system than .staging are an error here. Logs; before any thread.
 */
MUST_CHECK enum status recover_run(const struct intake *intake, struct ledger *ledger);

#endif
