// SPDX-License-Identifier: Apache-2.0
#include "receiver/vigil.h"

void vigil_restore(struct vigil *vigil, const struct vigil_beat *newest)
{
    *vigil = (struct vigil){.newest = *newest};
}

static int64_t difference(int64_t a, int64_t b)
{
    int64_t result;
    return __builtin_sub_overflow(a, b, &result) ? (a > b ? INT64_MAX : INT64_MIN) : result;
}

static bool is_newer(const struct vigil_beat *beat, const struct vigil_beat *than)
{
    return beat->epoch != than->epoch ? beat->epoch > than->epoch : beat->beat > than->beat;
}

/* The first heartbeat of an epoch, or of ours. Only our wall clock lasts from one run of ours to the next. */
static void begin(struct vigil *vigil, const struct vigil_beat *beat, int64_t ahead_ns, uint64_t now_ns)
{
    int64_t lost_ns = 0;
    if (beat->epoch == vigil->newest.epoch)
        lost_ns =
            difference(difference(vigil->newest.time_ns, vigil->newest.at_ns), difference(beat->time_ns, beat->at_ns));
    vigil->ahead_ns = lost_ns > VIGIL_LAG_NS ? difference(ahead_ns, -lost_ns) : ahead_ns;
    vigil->steady_ns = ahead_ns;
    vigil->steady_since_ns = now_ns;
}

bool vigil_take(struct vigil *vigil, const struct vigil_beat *beat, uint64_t now_ns)
{
    if (!is_newer(beat, &vigil->newest)) {
        vigil->recorded_ns = now_ns;
        return false;
    }
    int64_t ahead_ns = difference(beat->time_ns, (int64_t)now_ns);
    if (!vigil->heard || beat->epoch != vigil->newest.epoch)
        begin(vigil, beat, ahead_ns, now_ns);
    vigil->heard = true;
    vigil->newest = *beat;
    int64_t drift_ns = difference(ahead_ns, vigil->steady_ns);
    if (drift_ns > VIGIL_JITTER_NS || drift_ns < -VIGIL_JITTER_NS) {
        vigil->steady_ns = ahead_ns;
        vigil->steady_since_ns = now_ns;
    } else if (now_ns - vigil->steady_since_ns >= VIGIL_STEADY_NS) {
        vigil->ahead_ns = ahead_ns;
    }
    if (ahead_ns > vigil->ahead_ns)
        vigil->ahead_ns = ahead_ns;
    vigil->lag_ns = difference(vigil->ahead_ns, ahead_ns);
    if (vigil->lag_ns <= VIGIL_LAG_NS)
        vigil->lag_ns = 0;
    return true;
}
