// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_RECEIVER_STORE_H
#define DIODECAST_RECEIVER_STORE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/audit.h"
#include "common/doorbell.h"
#include "common/mailbox.h"
#include "common/queue.h"
#include "common/status.h"
#include "common/trust.h"
#include "receiver/config.h"
#include "receiver/ledger.h"

/*
 * The store stage, one thread: decodes blocks, unpacks their frames into the catalog of open transfers, writes data to
 * staging at its offset with io_uring and hashes what arrives in order. Transfers with nothing missing move to the
 * publish stage and may come back with chunks missing again.
 */
struct store;
struct json_t;
struct errand;
struct health; /* common/statusfile.h */

/* One lane's way in and out: `ready` carries struct block, `done` takes each back once nothing refers to it and then
 * rings `done_bell`, unless that is NULL. */
struct store_lane {
    struct queue *ready; /* from receive */
    struct queue *done;  /* back to receive */
    struct doorbell *done_bell;
};

/* What the receive stage tells of each sender's lanes: passed SBN for the watermark test, newest epoch seen. Atomics
 * inside; owned by pipeline. */
struct lane_progress;

/* In the main thread, as it gives a nice value. All borrowed. `policies` judges what is complete; NULL: everything is
 * delivered (tests). */
MUST_CHECK enum status store_start(const struct config *config, const struct trust *trust, struct ledger *ledger,
                                   struct audit *audit, struct policy_slot *policies, const struct store_lane lanes[],
                                   unsigned lane_count, struct doorbell *bell, struct lane_progress *progress,
                                   struct store **store);
/* Whatever was recorded as `publishing` is brought to its one end; stale staging is cleared. Before any thread. */
MUST_CHECK enum status store_recover(const struct config *config, struct ledger *ledger, struct audit *audit);
/* Adds the members "transfers", "fec", "last_delivered", "senders" and "intake" to the status. Any thread; takes a
 * short lock. */
void store_to_json(struct store *store, struct json_t *root, int64_t realtime_ns);
/*
 * Sets and clears the reasons of `health` that this stage answers for: intake_full, intake_error, publish_failed,
 * ledger_failed, heartbeat_missing, heartbeat_delayed, transfers_incomplete, transfers_never_seen, chain_rollback,
 * chain_fork, manifest_quarantined, transfers_held. Control thread; takes a short lock.
 */
void store_health(struct store *store, struct health *health, int64_t realtime_ns);
/*
 * The newest signed heartbeat of any sender, for `link.last_heartbeat_at` and `link.clock_offset_s`: when it came
 * (CLOCK_REALTIME) and the sender's clock minus ours at that moment. False when none came since the start. Any thread;
 * takes a short lock.
 */
bool store_last_heartbeat(struct store *store, int64_t *received_at_ns, int64_t *clock_offset_ns);
/* `notify` is called after each batch of deliveries, by the thread that made it; so it may do little more than wake the
 * control thread. At most once, right after store_start(). */
void store_on_delivery(struct store *store, void (*notify)(void *context), void *context);
/* An operator's request (errand.h), whose `done` is called when the store has done with it: by any thread, and at the
 * latest in store_stop(). Any thread. */
void store_carry_out(struct store *store, struct errand *errand);
/* Epoch that a signed heartbeat confirmed for a sender (0: none yet). Any thread. */
uint64_t store_confirmed_epoch(const struct store *store, uint32_t sender_id);
/* Turns of the thread's loop, several a second unless something blocks it. Any thread. */
uint64_t store_turns(const struct store *store);
/* Ends the thread: what is ready is published, blocks still held go back through `done`. Frees; NULL allowed. */
void store_stop(struct store *store);

#endif
