// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_COMMON_WORKER_H
#define DIODECAST_COMMON_WORKER_H

#include "common/cpus.h"
#include "common/status.h"

/* A named thread with all signals blocked (the control thread takes them). */
struct worker;

/* When it returns, the thread has given up what those of this process give up (common/sandbox.h). */
MUST_CHECK enum status worker_start(const char *name, void (*run)(void *context), void *context,
                                    struct worker **worker);
/*
 * The same with a nice value, where its starter may give it (CAP_SYS_NICE, which only the main thread has, up to the
 * seal; or RLIMIT_NICE: LimitNICE= of a unit).
 */
enum worker_nice {
    WORKER_TIMED = -20,    /* the moments at which it acts do not come again, and it sleeps much */
    WORKER_PUNCTUAL = -10, /* of little use when it comes late, and sleeps much */
    WORKER_EARLY = -5,     /* what others have filled is used until it has been there */
};
MUST_CHECK enum status worker_start_nice(const char *name, enum worker_nice nice, void (*run)(void *context),
                                         void *context, struct worker **worker);
/*
 * Binds the thread to its CPU, cpus_of(cpus, index), if there is one; cpus may be NULL. Where that can't be it stays
 * free, and a warning says so.
 */
void worker_pin(struct worker *worker, const struct cpus *cpus, unsigned index);
/* Waits for the end of run() and frees. The caller has told run() to stop by its own means. NULL is allowed. */
void worker_join(struct worker *worker);

#endif
