// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_RECEIVER_DISCARDS_H
#define DIODECAST_RECEIVER_DISCARDS_H

#include <stdint.h>

#include "receiver/assembly.h"
#include "receiver/report.h"

/* The newest transfers whose staged data was thrown away, for the status. All zeros: none. */
struct discards {
    uint64_t total;
    struct report_discard newest[REPORT_DISCARDED]; /* a ring */
};

/* `why` is static. */
void discards_note(struct discards *discards, const struct assembly *assembly, const char *why, int64_t realtime_ns);
void discards_fill(const struct discards *discards, struct report_snapshot *snapshot);

#endif
