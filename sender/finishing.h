// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_SENDER_FINISHING_H
#define DIODECAST_SENDER_FINISHING_H

#include <stdbool.h>
#include <uv.h>

#include "common/doorbell.h"
#include "common/mailbox.h"
#include "sender/finish.h"
#include "sender/settle.h"
#include "sender/spool.h"

/*
 * Takes what the pipeline is done with out of its mailbox and files it (finish.h), in batches, in a worker thread.
 * Control thread only.
 */
struct finishing;

/* All borrowed. */
struct finishing_setup {
    const struct claim *claim;
    struct settle *settle;
    struct spool *spool;
    struct mailbox *finished;
    struct doorbell *bell; /* of `finished` */
    uv_loop_t *loop;
    /* Called with a fresh transfer that was filed, which is freed afterwards; with a replay or heal, which is the
     * callee's then; and behind each batch. */
    void (*filed)(void *context, const struct finish_item *item);
    void (*repeated)(void *context, struct transfer *transfer);
    void (*done)(void *context);
    void *context;
};

struct finishing *finishing_create(const struct finishing_setup *setup);
/* The bell rang. */
void finishing_wake(struct finishing *finishing);
/* Starts a batch when there is one, and waits for the bell when there is none. To be called once a second at least:
 * what the ledger did not take is tried again from here. */
void finishing_pump(struct finishing *finishing);
bool finishing_is_busy(const struct finishing *finishing);
/* Files all that is there at once, in this thread, when no worker is at it and the pipeline stands. */
void finishing_drain(struct finishing *finishing);
void finishing_destroy(struct finishing *finishing); /* not while busy; NULL allowed */

#endif
