// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_SENDER_RETAIN_H
#define DIODECAST_SENDER_RETAIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sender/claim.h"

/* Keeps .sent within [replay] retain and retain_bytes: removes the oldest sent transfers, and nothing that is not
 * SENT. */

struct retain_result {
    uint64_t kept, kept_bytes, removed;
    bool stuck; /* something could not be removed; `message` says what to do */
    char message[400];
};

/*
 * One pass, in a worker thread. `now_ns` must not jump with the wall clock, or everything expires at once: the caller
 * adds monotonic time to the wall clock of its start.
 */
void retain_run(const struct claim *claim, int64_t now_ns, struct retain_result *result);

#endif
