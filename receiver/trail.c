// SPDX-License-Identifier: Apache-2.0
#include "receiver/trail.h"

void trail_note(struct trail *trail, uint64_t base, uint64_t now_ns)
{
    unsigned last = (trail->next + TRAIL_SAMPLES - 1) % TRAIL_SAMPLES;
    if (trail->begun && now_ns < trail->samples[last].at_ns + TRAIL_STEP_NS)
        return;
    trail->begun = true;
    trail->samples[trail->next].at_ns = now_ns;
    trail->samples[trail->next].base = base;
    trail->next = (trail->next + 1) % TRAIL_SAMPLES;
}

uint64_t trail_base_at(const struct trail *trail, uint64_t at_ns)
{
    uint64_t base = 0;
    for (unsigned i = 0; i < TRAIL_SAMPLES; i++)
        if (trail->samples[i].base > base && trail->samples[i].at_ns <= at_ns)
            base = trail->samples[i].base;
    return base;
}
