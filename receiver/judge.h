// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_RECEIVER_JUDGE_H
#define DIODECAST_RECEIVER_JUDGE_H

#include <stdint.h>

#include "receiver/catalog.h"
#include "receiver/knowledge.h"
#include "receiver/progress.h"

/* Asks assembly_is_incomplete() of every open transfer, and logs those of which it becomes true. Store thread. */
void judge_all(struct catalog *catalog, const struct knowledge *knowledge, const struct lane_progress *progress,
               unsigned lane_count, uint64_t now_ns);

#endif
