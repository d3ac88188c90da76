// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_SENDER_RETAIN_H
#define DIODECAST_SENDER_RETAIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "sender/claim.h"

/* Keeps .sent within [replay] retain and retain_bytes: removes the oldest sent transfers, and nothing that is not
 * SENT. */

struct retain_result {
    uint64_t kept, kept_bytes, removed;
    bool stuck; /* something could not be removed; `message` says what to do */
    char message[400];
};

/*
 * One pass, in any thread. `now_ns` must not jump with the wall clock, or everything expires at once: the wall clock of
 * some start plus monotonic time since.
 */
void retain_run(const struct claim *claim, int64_t now_ns, struct retain_result *result);

/* Passes in a worker thread of `loop`, once a minute and after each GiB. Control thread; all arguments are borrowed. */
struct retain;
struct retain *retain_create(const struct claim *claim, uv_loop_t *loop, void (*done)(void *context), void *context);
void retain_destroy(struct retain *retain); /* not while busy; NULL allowed */
void retain_if_due(struct retain *retain, uint64_t now_ns);
bool retain_is_busy(const struct retain *retain);
/* One more transfer was sent. */
void retain_note_sent(struct retain *retain, uint64_t bytes);
/* The last pass, and what was sent since. */
const struct retain_result *retain_last(const struct retain *retain);

#endif
