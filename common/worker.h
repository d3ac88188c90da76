// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_COMMON_WORKER_H
#define DIODECAST_COMMON_WORKER_H

#include "common/status.h"

/* A named thread with all signals blocked (the control thread takes them). */
struct worker;

MUST_CHECK enum status worker_start(const char *name, void (*run)(void *context), void *context,
                                    struct worker **worker);
/* Waits for the end of run() and frees. The caller has told run() to stop by its own means. NULL is allowed. */
void worker_join(struct worker *worker);

#endif
