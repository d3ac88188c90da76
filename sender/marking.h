// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_SENDER_MARKING_H
#define DIODECAST_SENDER_MARKING_H

#include <stdbool.h>
#include <uv.h>

#include "sender/flight.h"
#include "sender/ledger.h"

/*
 * Records how much of the transfers in flight has left, so that a restart goes on there: several times a second while
 * something moves, all in one transaction, in a worker thread. Control thread only.
 */
struct marking;

/* Borrows its arguments. `done` is called when a worker has come back. */
struct marking *marking_create(struct ledger *ledger, uv_loop_t *loop, struct flight *flight,
                               void (*done)(void *context), void *context);
/* Begins to look at the marks; from then on until the loop's handles are closed. */
void marking_start(struct marking *marking);
/* No more workers. */
void marking_stop(struct marking *marking);
bool marking_is_busy(const struct marking *marking);
void marking_destroy(struct marking *marking); /* not while busy, and behind the loop; NULL allowed */

#endif
