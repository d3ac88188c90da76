// SPDX-License-Identifier: Apache-2.0
#include "sender/marking.h"

#include <assert.h>
#include <stdlib.h>

enum { INTERVAL_MS = 250, MARKS_MAX = 512 };

struct marking {
    struct ledger *ledger;
    uv_loop_t *loop;
    struct flight *flight;
    void (*done)(void *context);
    void *context;
    uv_timer_t timer;
    uv_work_t work;
    bool busy, stopped;
    struct ledger_mark marks[MARKS_MAX];
    size_t count;
};

struct marking *marking_create(struct ledger *ledger, uv_loop_t *loop, struct flight *flight,
                               void (*done)(void *context), void *context)
{
    struct marking *marking = calloc(1, sizeof *marking);
    assert(marking != NULL);
    marking->ledger = ledger;
    marking->loop = loop;
    marking->flight = flight;
    marking->done = done;
    marking->context = context;
    marking->timer.data = marking->work.data = marking;
    return marking;
}

void marking_destroy(struct marking *marking)
{
    assert(marking == NULL || !marking->busy);
    free(marking);
}

static void work(uv_work_t *request)
{
    struct marking *marking = request->data;
    /* What can't be recorded is sent again after a restart, and ledger_is_failing() shows in the status. */
    if (ledger_mark(marking->ledger, marking->marks, marking->count) != STATUS_OK)
        marking->count = 0;
}

static void after_work(uv_work_t *request, int result)
{
    struct marking *marking = request->data;
    (void)result;
    marking->busy = false;
    marking->done(marking->context);
}

static void on_timer(uv_timer_t *timer)
{
    struct marking *marking = timer->data;
    if (marking->busy || marking->stopped)
        return;
    marking->count = flight_marks(marking->flight, marking->marks, MARKS_MAX);
    if (marking->count == 0)
        return;
    marking->busy = true;
    int result = uv_queue_work(marking->loop, &marking->work, work, after_work);
    assert(result == 0);
}

void marking_start(struct marking *marking)
{
    uv_timer_init(marking->loop, &marking->timer);
    uv_timer_start(&marking->timer, on_timer, INTERVAL_MS, INTERVAL_MS);
}

void marking_stop(struct marking *marking)
{
    marking->stopped = true;
}

bool marking_is_busy(const struct marking *marking)
{
    return marking->busy;
}
