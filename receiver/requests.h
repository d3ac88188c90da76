// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_RECEIVER_REQUESTS_H
#define DIODECAST_RECEIVER_REQUESTS_H

#include <uv.h>

#include "common/status.h"
#include "receiver/store.h"

/*
 * Takes up what operators ask for in STATE/requests (common/request.h) and answers it, one request at a time. The
 * directory is made with mode 0770, so that the group of the receiver's user may ask; an administrator may give it
 * another group and mode, which stay. Control thread; reads and answers in a worker of the loop.
 */
struct requests;

/* Logs what fails. */
MUST_CHECK enum status requests_create(const char *state_directory, uv_loop_t *loop, struct requests **requests);
/* From here on requests are taken up; those that wait, at once. `store` is borrowed until requests_stop(). */
void requests_start(struct requests *requests, struct store *store);
/* Takes no more up. Before the store stops; what it has not decided then is left to the next run. NULL allowed. */
void requests_stop(struct requests *requests);
/* After the store has stopped; the loop must run to its end before it is closed. NULL allowed. */
void requests_destroy(struct requests *requests);

#endif
