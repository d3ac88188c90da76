// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_RECEIVER_ACCEPTANCE_H
#define DIODECAST_RECEIVER_ACCEPTANCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/audit.h"
#include "receiver/catalog.h"
#include "receiver/errand.h"
#include "receiver/knowledge.h"
#include "receiver/ledger_loss.h"
#include "receiver/publish.h"

/*
 * One request of an operator to accept losses, on its way: from the control thread to the store thread, which decides;
 * to the publish thread, which records; back to the store thread, which draws the consequences; and to the control
 * thread, which answers. All tickets of a request are good, or nothing is done. Number by number only that is written
 * off which is missing at this moment, and alarms of the chain that the ticket touches end.
 */
struct acceptance {
    struct errand errand; /* first member */
    struct audit *audit;  /* borrowed; the store's, NULL: none */

    /* The decision. */
    bool accepted;
    struct acceptance_item *items; /* one a ticket */
    struct ledger_write_off *ranges;
    size_t range_count, range_capacity;
    struct ledger_key *transfers; /* whose staged data goes */
    size_t transfer_count, transfer_capacity;
    uint8_t (*chains)[CHAIN_ID_SIZE]; /* whose alarms end; not more than items */
    size_t chain_count;
};

/* Takes what is in *request. NULL when memory is short; then it is still the caller's. */
struct acceptance *acceptance_create(struct request *request);
void acceptance_destroy(struct acceptance *acceptance);

/* Store thread. */
void acceptance_decide(struct acceptance *acceptance, struct catalog *catalog, struct knowledge *knowledge,
                       uint64_t now_ns);
/* Whether there is something to record; else it can be answered as it is. */
bool acceptance_changes(const struct acceptance *acceptance);
/* Publish thread: audit trail first, so that nothing is written off that it does not tell of; then the ledger. */
enum status acceptance_record(struct publish_job *job, struct ledger *ledger);
/* Store thread: `recorded` is what acceptance_record() returned. */
void acceptance_apply(struct acceptance *acceptance, enum status recorded, struct catalog *catalog,
                      struct knowledge *knowledge);
/* The answer as JSON {"accepted", "message", "items": [{"ticket", "accepted", "message"}]}; the caller frees. */
char *acceptance_answer(const struct acceptance *acceptance);

#endif
