// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_RECEIVER_REFUSALS_H
#define DIODECAST_RECEIVER_REFUSALS_H

#include <stddef.h>
#include <stdint.h>

#include "common/log.h"
#include "receiver/assembly.h"
#include "receiver/publish.h"

/*
 * Refused manifests on their way to the quarantine. A flood of forgeries costs neither memory nor log: what exceeds the
 * bounds is only counted by the caller. Begins as zeros, but for `publish`; the store thread's.
 */
struct refusals {
    struct publish *publish; /* borrowed */
    unsigned count;          /* since the last tick */
    uint64_t last_ns;        /* when there was one; 0: never */
    struct log_limit limit;
};

/* `bytes` is the refused Signed message, borrowed for the call; NULL when the transfer was refused without one. */
void refusals_take(struct refusals *refusals, const struct assembly *assembly, const char *reason, const uint8_t *bytes,
                   size_t size, uint64_t now_ns);
/* Four times a second. */
void refusals_tick(struct refusals *refusals);

#endif
