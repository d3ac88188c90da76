// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_RECEIVER_TRANSFERS_H
#define DIODECAST_RECEIVER_TRANSFERS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/audit.h"
#include "common/doorbell.h"
#include "common/ring.h"
#include "common/trust.h"
#include "receiver/checkpoint.h"
#include "receiver/config.h"
#include "receiver/intake.h"
#include "receiver/ledger.h"
#include "receiver/progress.h"
#include "receiver/publish.h"
#include "receiver/report.h"
#include "receiver/room.h"
#include "receiver/unpack.h"
#include "receiver/writer.h"

/*
 * What the store thread does for transfers: joins the cores that decide (unpack, catalog, knowledge) to what is done
 * with the disk (writer, hasher) and to the publish stage. One thread.
 */
struct transfers;
struct errand; /* errand.h */
struct hasher; /* hasher.h */

struct transfers_setup {
    const struct trust *trust;
    struct policy_slot *policies; /* NULL: nothing is held back */
    const char *state_directory;
    struct ledger *ledger;
    const struct intake *intake;
    struct publish *publish;
    struct lane_progress *progress;
    struct audit *audit; /* NULL: nothing is recorded */
    enum config_tickets tickets;
    struct checkpoint *checkpoint;
    struct room_limits limits;
    struct bounds bounds;
    unsigned lane_count;
    struct hasher *hasher;
    struct io_uring *ring;
    void (*release)(void *context, struct writer_block *block); /* see writer.h */
    void (*wait)(void *context);
    void *context;
};

/* Everything in the setup is borrowed. Reads chains, deliveries and open transfers from the ledger; logs and returns
 * NULL on failure.
 */
struct transfers *transfers_create(const struct transfers_setup *setup);
/* No write may be under way, and the publish and checkpoint stages must be over. */
void transfers_destroy(struct transfers *transfers);

/* Whether a block that repeats the sender's transfer `sequence` can be skipped unread. */
bool transfers_is_delivered(const struct transfers *transfers, uint32_t sender_id, uint64_t sequence);
/* Unpacks a decoded block of `size` payload bytes. Its memory is used until the release. */
void transfers_take_block(struct transfers *transfers, struct writer_block *block, size_t size, uint64_t now_ns);
/* Submits what blocks have left to be written; after each turn of them. */
void transfers_flush(struct transfers *transfers);
/* A completion of the ring that is not the caller's own. */
void transfers_complete(struct transfers *transfers, const struct io_uring_cqe *cqe);
/* Draws the conclusions from failed and finished writes and hashes; after each turn of blocks and completions. */
void transfers_settle(struct transfers *transfers, uint64_t now_ns);
/* What the publish stage says; takes the job. True when it was a delivery. */
bool transfers_take_result(struct transfers *transfers, struct publish_job *job, uint64_t now_ns);
/* An operator's request: its `done` is called once it is decided and recorded, possibly from in here. */
void transfers_carry_out(struct transfers *transfers, struct errand *errand, uint64_t now_ns);
/* What the checkpoint stage says; takes the job. */
void transfers_take_checkpoint(struct transfers *transfers, struct checkpoint_job *job, uint64_t now_ns);
/* At the end, when the publish stage is over: has everything recorded that is held. */
void transfers_record_all(struct transfers *transfers);
/* Four times a second. */
void transfers_tick(struct transfers *transfers, uint64_t now_ns);
/* Posts what is still to be recorded, before the thread ends; behind it nothing is posted to the publish stage. */
void transfers_finish(struct transfers *transfers);
unsigned transfers_under_way(const struct transfers *transfers); /* writes */
bool transfers_are_hashing(const struct transfers *transfers);   /* the bell will ring… */
bool transfers_have_hashed(const struct transfers *transfers);   /* …and transfers_settle() has something to do */
/* Fills what it knows of; the caller adds the rest. */
void transfers_fill(struct transfers *transfers, struct report_snapshot *snapshot, uint64_t now_ns);

#endif
