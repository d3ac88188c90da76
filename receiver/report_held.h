// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_RECEIVER_REPORT_HELD_H
#define DIODECAST_RECEIVER_REPORT_HELD_H

#include <jansson.h>
#include <stdint.h>

#include "common/statusfile.h"
#include "receiver/held.h"

/* What the status and its health say of transfers that are held back. Pure. */

/* Adds "held" (the oldest ones) and "held_total" to the status' "transfers", and "quarantine" to its root. */
void report_held_to_json(const struct held_facts *facts, json_t *transfers, json_t *root);
/* Sets or clears transfers_held. `intake` is its path. */
void report_held_health(const struct held_facts *facts, const char *intake, struct health *health, int64_t realtime_ns);

#endif
