// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_RECEIVER_RELEASE_H
#define DIODECAST_RECEIVER_RELEASE_H

#include <stdbool.h>

#include "common/audit.h"
#include "common/status.h"
#include "receiver/intake.h"
#include "receiver/ledger_held.h"

/*
 * The way of a transfer from the quarantine into its channel, with the same promise as a delivery: one rename, and
 * whatever crash comes between two steps, it ends up in one of both places.
 *
 *     recorded as    in .quarantine   what it means                          what is done
 *     HELD           there            held                                   nothing
 *     RELEASING      there            about to be delivered                  manifest.json, rename, flush, record
 *     RELEASING      not there        renamed; a consumer may have it        flush, record
 *
 * Publish thread. Does not log.
 */

/* Chooses the name in the channel, and records the release; `actor` asked for it. On failure (errno) it is still held,
 * but when the ledger's answer got lost. Fills held->delivery.directory and at_ns, and sets the state. */
MUST_CHECK enum status release_begin(const struct intake *intake, struct ledger *ledger, struct audit *audit,
                                     struct ledger_held *held, const char *actor);
/* The rest, for one recorded as RELEASING; to be called again on failure (errno). The name may become another one.
 * *attested is false at first and kept between calls. */
MUST_CHECK enum status release_finish(const struct intake *intake, struct ledger *ledger, struct audit *audit,
                                      struct ledger_held *held, bool *attested);

#endif
