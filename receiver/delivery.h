// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_RECEIVER_DELIVERY_H
#define DIODECAST_RECEIVER_DELIVERY_H

#include <stddef.h>

#include "common/audit.h"
#include "common/ring.h"
#include "common/status.h"
#include "receiver/intake.h"
#include "receiver/ledger.h"
#include "receiver/publish.h"
#include "receiver/tree.h"

/*
 * The steps that make verified transfers visible, for a batch at a time: build the trees, flush them, record the
 * intents, rename, flush the parents, record the deliveries. One thread.
 */
struct delivery;

enum { DELIVERY_BATCH = 256 };

enum delivery_trouble {
    DELIVERY_WAIT,   /* may succeed later */
    DELIVERY_LEDGER, /* likewise, once the ledger can be written again */
    DELIVERY_AUDIT,  /* likewise, the audit log */
    DELIVERY_LOST,   /* the staged bytes are of no use: a flush failed, and pages of a failed flush count as clean */
};
/* Called for each job that falls out of the batch and is the caller's again; errno says why, `what` at which step. */
typedef void delivery_fell(void *context, struct publish_job *job, enum delivery_trouble trouble, enum status status,
                           const char *what);

/* `audit` may be NULL: nothing is recorded then. */
struct delivery *delivery_create(const struct intake *intake, struct ledger *ledger, struct audit *audit);
void delivery_destroy(struct delivery *delivery);
/* The ring belongs to the thread that runs batches. */
void delivery_set_ring(struct delivery *delivery, struct io_uring *ring);

/* Reorders batch[0..count), leaves the delivered ones in front with job->delivery filled, and returns their number. */
size_t delivery_run(struct delivery *delivery, struct publish_job *batch[], size_t count, delivery_fell *fell,
                    void *context);
/* Removes the staged bytes of a delivered job. */
void delivery_clear_staging(struct delivery *delivery, const struct publish_job *job);

/*
 * A name under `channel_fd` that is free: `wanted`, or with ~2, ~3 … behind, where another chain's transfer with the
 * same sequence, sender and name still lies there. False when a thousand are taken.
 */
bool delivery_free_name(int channel_fd, const char *wanted, unsigned first_suffix,
                        char name[static LIMIT_COMPONENT_LENGTH + 1], unsigned *suffix);

#endif
