// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_SENDER_CLAIM_H
#define DIODECAST_SENDER_CLAIM_H

#include <stdbool.h>
#include <stddef.h>

#include "common/audit.h"
#include "sender/config.h"
#include "sender/ledger.h"
#include "sender/settle.h"
#include "sender/spooldirs.h"
#include "sender/transfer.h"

/* Takes complete items out of the spool: spool/CHANNEL/NAME becomes spool/.sending/ID/NAME and a transfer. */

enum { CLAIM_BATCH = 256, CLAIM_MESSAGE_SIZE = 400 };

/* Borrowed by all calls; read by worker threads, of which several may claim different items at once. */
struct claim {
    const struct config *config;
    const struct spooldirs *dirs;
    struct ledger *ledger;
    struct audit *audit; /* NULL: nothing is recorded */
};

struct claim_item {
    struct settle_item item; /* in */
    /* Out: what settle_done() wants, */
    enum settle_verdict verdict;
    bool probed;
    struct probe probe;
    bool given_back;                  /* it had left the spool and is there again: settle_returned() */
    char message[CLAIM_MESSAGE_SIZE]; /* with SETTLE_BLOCKED: what to do; when refused: why */
    /* and with SETTLE_TAKE either a transfer for the caller to submit or a refusal, filed under .failed. */
    struct transfer *transfer;
    bool refused;
};

/*
 * Tries a batch (count <= CLAIM_BATCH), in four steps that any crash may come between: intents into the ledger,
 * renames, flush of the directories, result into the ledger. Runs in a worker thread; logs refusals.
 */
void claim_batch(const struct claim *claim, struct claim_item *items, size_t count);

/* Lists a claimed item into the transfer; false with `reason` when it must be refused. */
bool claim_list(const struct claim *claim, struct transfer *transfer, char reason[static CLAIM_MESSAGE_SIZE]);

#endif
