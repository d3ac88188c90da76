// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_COMMON_CPUS_H
#define DIODECAST_COMMON_CPUS_H

#include <stddef.h>
#include <stdint.h>

/* CPUs that threads are pinned to, in the order in which they were written: "2-5", "0,2,4", "7,0-2". Pure. */
enum { CPUS_MAX = 256, CPUS_NUMBER_MAX = 1023 };

struct cpus {
    uint16_t count; /* 0: threads are not pinned */
    uint16_t numbers[CPUS_MAX];
};

/* NULL, or what is wrong with the text; *cpus is unchanged then. */
const char *cpus_parse(const char *text, struct cpus *cpus);
/* Which CPU the `index`-th thread is pinned to, -1: none. Where there are more threads than CPUs, they begin anew. */
int cpus_of(const struct cpus *cpus, unsigned index);

#endif
