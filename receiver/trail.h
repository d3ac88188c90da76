// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_RECEIVER_TRAIL_H
#define DIODECAST_RECEIVER_TRAIL_H

#include <stdbool.h>
#include <stdint.h>

enum { TRAIL_SAMPLES = 32 };
#define TRAIL_STEP_NS UINT64_C(500000000) /* least time between samples */

/* Where the newest group began over the last TRAIL_SAMPLES * TRAIL_STEP_NS. Pure; begins as zeros. */
struct trail {
    struct {
        uint64_t at_ns, base;
    } samples[TRAIL_SAMPLES];
    unsigned next;
    bool begun;
};

/* The newest group now begins at `base`. */
void trail_note(struct trail *trail, uint64_t base, uint64_t now_ns);
/* The highest base that was noted at `at_ns` or before; 0: none. */
uint64_t trail_base_at(const struct trail *trail, uint64_t at_ns);

#endif
