// SPDX-License-Identifier: Apache-2.0
#include "common/worker.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "common/log.h"
#include "common/sandbox.h"

enum { NAME_SIZE = 16 }; /* pthread_setname_np(3) */

struct worker {
    pthread_t thread;
    int nice;      /* 0: that of its starter */
    sem_t limited; /* posted when the thread has given up what its process gives up */
    char name[NAME_SIZE];
    void (*run)(void *context);
    void *context;
};

static void *enter(void *argument)
{
    struct worker *worker = argument;
    (void)pthread_setname_np(pthread_self(), worker->name);
    if (worker->nice != 0) /* of this thread only: setpriority(2), "C library/kernel differences" */
        (void)setpriority(PRIO_PROCESS, 0, worker->nice);
    sandbox_limit_thread();
    sem_post(&worker->limited);
    worker->run(worker->context);
    return NULL;
}

/* All but those that report a fault of the thread itself, which must end the process where it happened. */
static void fill_blocked(sigset_t *set)
{
    static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGABRT};
    sigfillset(set);
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++)
        sigdelset(set, faults[i]);
}

static enum status start(const char *name, int nice, void (*run)(void *context), void *context, struct worker **worker)
{
    *worker = NULL;
    struct worker *made = calloc(1, sizeof *made);
    if (made == NULL)
        return STATUS_SYSTEM;
    snprintf(made->name, sizeof made->name, "%s", name);
    made->nice = nice;
    made->run = run;
    made->context = context;
    /* A thread inherits the mask of its maker: blocked around the creation, there is no moment without it. */
    sigset_t blocked;
    sigset_t before;
    sem_init(&made->limited, 0, 0);
    fill_blocked(&blocked);
    int error = pthread_sigmask(SIG_BLOCK, &blocked, &before);
    assert(error == 0);
    error = pthread_create(&made->thread, NULL, enter, made);
    int restored = pthread_sigmask(SIG_SETMASK, &before, NULL);
    assert(restored == 0);
    (void)restored;
    if (error != 0) {
        sem_destroy(&made->limited);
        free(made);
        return status_from_errno(error);
    }
    /* The process may be sealed at any time from here on, and then the thread could give up nothing more. */
    while (sem_wait(&made->limited) != 0)
        assert(errno == EINTR);
    *worker = made;
    return STATUS_OK;
}

enum status worker_start(const char *name, void (*run)(void *context), void *context, struct worker **worker)
{
    return start(name, 0, run, context, worker);
}

enum status worker_start_nice(const char *name, enum worker_nice nice, void (*run)(void *context), void *context,
                              struct worker **worker)
{
    return start(name, nice, run, context, worker);
}

void worker_pin(struct worker *worker, const struct cpus *cpus, unsigned index)
{
    int cpu = cpus != NULL ? cpus_of(cpus, index) : -1;
    if (cpu < 0)
        return;
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((size_t)cpu, &set);
    int error = pthread_setaffinity_np(worker->thread, sizeof set, &set);
    if (error != 0)
        log_warning("thread %s can't be bound to CPU %d: %s; see cpus in the configuration", worker->name, cpu,
                    strerror(error));
}

void worker_join(struct worker *worker)
{
    if (worker == NULL)
        return;
    int error = pthread_join(worker->thread, NULL);
    assert(error == 0);
    (void)error;
    sem_destroy(&worker->limited);
    free(worker);
}
