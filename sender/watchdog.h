// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_SENDER_WATCHDOG_H
#define DIODECAST_SENDER_WATCHDOG_H

#include <stdint.h>

#include "sender/pipeline.h"

/* Feeds systemd's watchdog (sd_notify(3)), but only while the data plane shows signs of life. Control thread only. */
struct watchdog {
    uint64_t beats, errors; /* what was last seen */
    uint64_t progress_ns;   /* when one of them last moved */
};

void watchdog_init(struct watchdog *watchdog, uint64_t now_ns);
/* To be called about each second. */
void watchdog_feed(struct watchdog *watchdog, const struct pipeline_counters *counters, uint64_t now_ns);

#endif
