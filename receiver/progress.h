// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_RECEIVER_PROGRESS_H
#define DIODECAST_RECEIVER_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/trust.h"

/*
 * What the receive threads tell the store thread about each sender's lanes, and back: which SBNs are over (for the
 * watermark test of incomplete transfers) and which epoch a signed heartbeat has confirmed. Fixed size: trusted senders
 * x lanes. Each cell has one writer.
 */
struct lane_progress;

struct lane_progress *progress_create(const struct trust *trust, unsigned lanes);
void progress_destroy(struct lane_progress *progress);

/* Receive thread of `lane`. */
void progress_set_passed(struct lane_progress *progress, uint32_t sender_id, unsigned lane, uint64_t epoch,
                         uint64_t passed_sbn);
/* Store thread; false when nothing was heard from that lane. */
bool progress_passed(const struct lane_progress *progress, uint32_t sender_id, unsigned lane, uint64_t *epoch,
                     uint64_t *passed_sbn);

/* Store thread, after a signed heartbeat, or before the threads run; the value only grows. Receive threads drop older
 * epochs. */
void progress_confirm_epoch(struct lane_progress *progress, uint32_t sender_id, uint64_t epoch);
uint64_t progress_confirmed_epoch(const struct lane_progress *progress, uint32_t sender_id);

/* Store thread: since when its oldest write is under way, 0 when none is. */
void progress_set_oldest_write(struct lane_progress *progress, uint64_t begun_ns);
/* Whether that is so long ago that what does not fit any more has to be put down to the disk. Any thread. */
bool progress_is_disk_behind(const struct lane_progress *progress, uint64_t now_ns);

#endif
