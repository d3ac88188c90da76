// SPDX-License-Identifier: Apache-2.0
#include "sender/watchdog.h"

#include "common/clock.h"
#include "common/notify.h"

#define PROGRESS_LIMIT_NS (10 * CLOCK_SECOND_NS) /* without a heartbeat or a send error: the send thread is stuck */

void watchdog_init(struct watchdog *watchdog, uint64_t now_ns)
{
    *watchdog = (struct watchdog){.progress_ns = now_ns};
}

void watchdog_feed(struct watchdog *watchdog, const struct pipeline_counters *counters, uint64_t now_ns)
{
    if (counters->heartbeats_sent != watchdog->beats || counters->send_errors != watchdog->errors || counters->paused)
        watchdog->progress_ns = now_ns;
    watchdog->beats = counters->heartbeats_sent;
    watchdog->errors = counters->send_errors;
    if (now_ns < watchdog->progress_ns + PROGRESS_LIMIT_NS)
        notify_watchdog();
}
