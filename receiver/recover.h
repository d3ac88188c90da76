// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_RECEIVER_RECOVER_H
#define DIODECAST_RECEIVER_RECOVER_H

#include <stdbool.h>

#include "common/audit.h"
#include "common/status.h"
#include "receiver/intake.h"
#include "receiver/ledger.h"
#include "receiver/ledger_held.h"

/*
 * Brings whatever was being published when the program ended to its one end, and clears .staging of what no record of
 * an open transfer names:
 *
 *     tree in .staging    staged bytes   what it means                              what is done
 *     there               any            flushed, intent recorded, not renamed      rename, flush, record
 *     not there           there          renamed; a consumer may have it already    record
 *     not there           not there      .staging was wiped by hand                 recorded when the delivery lies in
 *                                                                                   its channel, else forgotten
 *
 * The same holds for what was to be renamed into .quarantine, where its place stands for the channel; and a release out
 * of it is finished (release.h).
 *
 * What can't be finished now stays as it is: the publish stage tries it again. Channels on another file system than
 * .staging are an error here. Logs; before any thread.
 */
MUST_CHECK enum status recover_run(const struct intake *intake, struct ledger *ledger, struct audit *audit);

/*
 * One such delivery. On STATUS_OK *delivered tells its end; else errno says why it must wait. The name of its directory
 * may become another one. Logs its end, not why it waits. Publish thread.
 */
MUST_CHECK enum status recover_delivery(const struct intake *intake, struct ledger *ledger, struct audit *audit,
                                        struct ledger_delivery *delivery, bool *delivered);

/* The same for one that is recorded as HOLDING or RELEASING; another state is its end already. */
enum recover_end { RECOVER_FORGOTTEN, RECOVER_HELD, RECOVER_DELIVERED };
MUST_CHECK enum status recover_held(const struct intake *intake, struct ledger *ledger, struct audit *audit,
                                    struct ledger_held *held, bool *attested, enum recover_end *end);

#endif
