// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_RECEIVER_LEDGER_BEAT_H
#define DIODECAST_RECEIVER_LEDGER_BEAT_H

#include <stdint.h>

#include "common/status.h"
#include "receiver/ledger.h"
#include "receiver/vigil.h"

/* The part of the ledger that keeps the newest heartbeat of each sender, so that after a restart a recorded one is
 * known for what it is. */
#define LEDGER_BEAT_SCHEMA                                                                       \
    "CREATE TABLE beat (sender_id INTEGER PRIMARY KEY, epoch BLOB NOT NULL, beat BLOB NOT NULL," \
    "  time_ns INTEGER NOT NULL, at_ns INTEGER NOT NULL);"

/* Replaces what was kept of the sender. */
MUST_CHECK enum status ledger_store_beat(struct ledger *ledger, uint32_t sender_id, const struct vigil_beat *beat);
MUST_CHECK enum status ledger_each_beat(struct ledger *ledger,
                                        void (*visit)(uint32_t sender_id, const struct vigil_beat *beat, void *context),
                                        void *context);

#endif
