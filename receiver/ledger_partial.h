// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_RECEIVER_LEDGER_PARTIAL_H
#define DIODECAST_RECEIVER_LEDGER_PARTIAL_H

#include "receiver/ledger.h"

/* The part of the ledger that keeps open transfers over restarts. */
#define LEDGER_PARTIAL_SCHEMA ""

#endif
