// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_SENDER_LEDGER_AGAIN_H
#define DIODECAST_SENDER_LEDGER_AGAIN_H

#include <stddef.h>
#include <stdint.h>

#include "common/status.h"
#include "sender/ledger.h"

/* What the ledger knows of sent transfers that may be sent again, and how long it knows it. See ledger.h. */

/*
 * The transfer with the lowest sequence above `after` that was sent at `since_ns` or later or is not sent yet;
 * STATUS_NOT_FOUND when there is none.
 */
MUST_CHECK enum status ledger_next(struct ledger *ledger, uint64_t after, int64_t since_ns,
                                   struct ledger_transfer *transfer);
/* Calls `visit` for all that is sent and retained, the one that was sent first in front, with its id, channel,
 * sequence, bytes and finished_at_ns only. `visit` must not call the ledger. */
MUST_CHECK enum status ledger_each_sent(struct ledger *ledger,
                                        void (*visit)(const struct ledger_transfer *transfer, void *context),
                                        void *context);
/* Calls `visit` for what is still retained, was sent at `since_ns` or later and less than `copies` times since: the
 * newest `limit` of them, in order of sequence. `visit` must not call the ledger. */
MUST_CHECK enum status ledger_each_healable(struct ledger *ledger, int64_t since_ns, uint32_t copies, size_t limit,
                                            void (*visit)(const struct ledger_transfer *transfer, void *context),
                                            void *context);
/* A sent transfer is about to be sent again on an idle link: counts before the first datagram, so that no crash makes
 * it more. */
MUST_CHECK enum status ledger_heal(struct ledger *ledger, uint64_t sequence, int64_t now_ns);
/* Those transfers are not sent again on an idle link any more: what is kept of them is not what was sent. */
MUST_CHECK enum status ledger_heal_never(struct ledger *ledger, const uint64_t *sequences, size_t count);

/*
 * Forgets transfers that came to their end before `before_ns` and are not retained, with their manifests, and what was
 * asked for before then; at most `limit` of each. What the chain goes on from stays. *pruned counts transfers.
 */
MUST_CHECK enum status ledger_prune(struct ledger *ledger, int64_t before_ns, size_t limit, size_t *pruned);

#endif
