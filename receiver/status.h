// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_RECEIVER_STATUS_H
#define DIODECAST_RECEIVER_STATUS_H

#include <stdint.h>

#include "receiver/config.h"
#include "receiver/keys.h"
#include "receiver/pipeline.h"

/* The receiver's status file and what it says of its health. Control thread. */
struct status_board;

/* Borrowed. NULL when out of memory. */
struct status_board *status_board_create(const struct config *config, const struct keys *keys, uint64_t now_ns);
void status_board_destroy(struct status_board *board); /* NULL allowed */

/* Writes the status file. `state` is "running" or "stopping". */
void status_board_write(struct status_board *board, struct pipeline *pipeline, const char *state, uint64_t now_ns,
                        int64_t realtime_ns);

#endif
