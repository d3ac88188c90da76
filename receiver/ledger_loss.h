// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_RECEIVER_LEDGER_LOSS_H
#define DIODECAST_RECEIVER_LEDGER_LOSS_H

#include "receiver/ledger.h"

/* The part of the ledger that keeps what is known of losses: those that were written off, and alarms of chains. */
#define LEDGER_LOSS_SCHEMA ""

#endif
