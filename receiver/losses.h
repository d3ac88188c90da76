// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_RECEIVER_LOSSES_H
#define DIODECAST_RECEIVER_LOSSES_H

#include <stdint.h>

#include "receiver/catalog.h"
#include "receiver/config.h"
#include "receiver/report.h"
#include "receiver/senders.h"

/*
 * The transfers of a snapshot: those that are open, and those of which something is missing, each with its ticket.
 * Which of the two kinds of loss a transfer belongs to: a manifest that is held makes it incomplete, chunk by chunk;
 * one that is lost leaves a number that was never seen. Where data is held and a heartbeat has told the transfer's
 * number, it is shown as incomplete, and its ticket asks for the manifest; as long as the number is not known, that
 * data is only an open transfer, and the number stands among those never seen, with a ticket for the whole transfer: a
 * replay then merges with what is held. Store thread.
 */
struct losses;

/* Both borrowed. NULL when memory is short. */
struct losses *losses_create(struct senders *senders, struct catalog *catalog, enum config_tickets tickets);
void losses_destroy(struct losses *losses);
void losses_fill(struct losses *losses, struct report_snapshot *snapshot, uint64_t now_ns);

#endif
