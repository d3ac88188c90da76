// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_RECEIVER_BACKLOG_H
#define DIODECAST_RECEIVER_BACKLOG_H

#include <stdint.h>

#include "receiver/intake.h"
#include "receiver/ledger.h"

enum { BACKLOG_MAX = 10000 }; /* directories looked at in one count */

/*
 * Deliveries that no consumer has taken yet: directories in the channels, and their bytes as the ledger knows them, so
 * that no tree is walked. Channels that can't be read are left out. More than BACKLOG_MAX are told as that many.
 */
void backlog_count(const struct intake *intake, struct ledger *ledger, uint64_t *count, uint64_t *bytes);

#endif
