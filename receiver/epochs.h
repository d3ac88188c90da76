// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_RECEIVER_EPOCHS_H
#define DIODECAST_RECEIVER_EPOCHS_H

#include <stddef.h>
#include <stdint.h>

#include "common/trust.h"
#include "receiver/gather.h"
#include "receiver/handover.h"
#include "receiver/progress.h"

/*
 * The gathers of one lane: which epochs of which senders are being received, and with what memory. One thread; neither
 * clock nor I/O.
 *
 * Each trusted sender has an equal share of memory for itself. Three quarters of it (the main arena) serve the running
 * epoch. In the last quarter (the side arena) a newer epoch begins, so that a forged one can't take the room of the
 * running one. It moves to the main arena once a signed heartbeat has confirmed it, or once nothing has come of the
 * other for EPOCHS_SILENCE_NS, and the later stages have given back what they held. One that got there and is not
 * confirmed within seconds makes way for the confirmed one. Older epochs than the confirmed one are dropped.
 * What is in the side arena and is not confirmed makes way for any other epoch after EPOCHS_TRIAL_NS: a true one would
 * have been confirmed by then, and a forged one that is kept alive must not keep it out.
 * The side arena is a newer epoch's: what the running one has still open there since its own beginning is given up when
 * a newer one needs the room, so that a sender that is started again and again loses only what it had under way.
 */
struct epochs;

#define EPOCHS_SILENCE_NS UINT64_C(2000000000) /* an epoch that is silent so long gives its place to another */

#define EPOCHS_TRIAL_NS UINT64_C(3000000000) /* within which the first heartbeats of an epoch come */

/* Sums over all senders and over the epochs that are gone. memory_needed is the largest. */
struct epochs_totals {
    struct gather_counters gathers;
    uint64_t last_datagram_ns; /* of the newest datagram; 0: none */
};

/* Allocates and touches all memory: `share_size` bytes for each trusted sender. NULL with errno when that fails.
 * `trust` and `progress` are borrowed. */
struct epochs *epochs_create(uint8_t lane, const struct trust *trust, size_t share_size,
                             struct lane_progress *progress);
/* The tags that are checked between epochs_check() and epochs_push() are a link key's. Before the first datagram. */
void epochs_set_sealed(struct epochs *epochs);
/* All blocks must have been returned. NULL is allowed. */
void epochs_destroy(struct epochs *epochs);

/* What can be told before the datagram's tag is checked: DATAGRAM_DROP_SENDER, DATAGRAM_DROP_EPOCH or DATAGRAM_OK. */
enum datagram_drop epochs_check(struct epochs *epochs, const struct datagram *datagram);
/* A hint that epochs_push() of this datagram may follow; see gather_expect(). */
void epochs_expect(struct epochs *epochs, const struct datagram *datagram);
/* Takes a datagram that epochs_check() let pass and whose tag is good. What the gather itself drops is in its counters,
 * not in the result, which is DATAGRAM_DROP_EPOCH, DATAGRAM_DROP_MEMORY or DATAGRAM_OK. */
enum datagram_drop epochs_push(struct epochs *epochs, const struct datagram *datagram, const uint8_t *symbol,
                               uint64_t now_ns);
/* The next block of any sender that is ready for decoding, or NULL. */
struct block *epochs_pop(struct epochs *epochs, uint64_t now_ns);
void epochs_return(struct epochs *epochs, struct block *block);
/* After the blocks that are ready were popped, and at least each second: ends epochs, moves them to the main arena. */
void epochs_settle(struct epochs *epochs, uint64_t now_ns);
/* Lets out the complete blocks that wait for others. */
void epochs_release(struct epochs *epochs);
/* Lets out all complete blocks and gives up all others: nothing more will be pushed. */
void epochs_finish(struct epochs *epochs);
/* When epochs_pop() may have something without a new datagram; UINT64_MAX: never. */
uint64_t epochs_deadline_ns(const struct epochs *epochs);
/* Tells `progress` what has passed. */
void epochs_publish(struct epochs *epochs, uint64_t now_ns);
/* The newest epoch that is received of the sender at `index`, and when its newest datagram came; false when there is
 * none. Senders keep their index, which is less than the number of trusted ones. */
bool epochs_newest(const struct epochs *epochs, size_t index, uint32_t *sender_id, uint64_t *epoch, uint64_t *last_ns);
unsigned epochs_held(const struct epochs *epochs); /* blocks popped and not yet returned */
void epochs_totals(const struct epochs *epochs, struct epochs_totals *totals);

/* Writes what the next run needs to go on here, without the lane's own record. After epochs_release() and once all
 * complete blocks were popped. Returns the number of open blocks among it. */
size_t epochs_export(const struct epochs *epochs, struct handover_writer *writer);
/* Takes a record of the run before, in the order of the export, before the first datagram of this one. False when it is
 * of no use here: the sender is not trusted, the epoch is over, there is no room. */
bool epochs_import(struct epochs *epochs, const struct handover_record *record, uint64_t now_ns);
size_t epochs_open(const struct epochs *epochs); /* blocks with fewer than k symbols */
/* Whether the later stages are so far behind that a running epoch will soon lack room; see gather_is_crowded(). */
bool epochs_are_crowded(const struct epochs *epochs);

/* Bytes of the main arena in a share, and the share that a main arena of `arena` bytes needs. */
size_t epochs_arena_of(size_t share_size);
size_t epochs_share_for(size_t arena);

#endif
