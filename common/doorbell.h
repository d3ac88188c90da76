// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_COMMON_DOORBELL_H
#define DIODECAST_COMMON_DOORBELL_H

#include <stdbool.h>

/*
 * Wakes one sleeping consumer thread. An eventfd that producers write only when the consumer said that it is about to
 * sleep, so that a busy pipeline makes no system calls. The consumer's pattern: doorbell_arm(bell); if (there is work)
 * doorbell_disarm(bell); else wait until doorbell_fd(bell) is readable, then doorbell_disarm(bell); and the producers':
 * publish the work, then doorbell_ring(bell). Sequentially consistent, so that no wake-up is lost.
 */
struct doorbell;

struct doorbell *doorbell_create(void); /* asserts only on EMFILE-free systems: NULL with errno on failure */
void doorbell_destroy(struct doorbell *bell);
void doorbell_ring(struct doorbell *bell);   /* any thread */
void doorbell_arm(struct doorbell *bell);    /* consumer */
void doorbell_disarm(struct doorbell *bell); /* consumer; empties the eventfd */
int doorbell_fd(const struct doorbell *bell);
/* Blocks until rung or `timeout_ns` is over (UINT64_MAX: no limit); only for consumers that wait for nothing else. */
void doorbell_wait(struct doorbell *bell, unsigned long timeout_ns);

#endif
