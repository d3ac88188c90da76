// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_SENDER_CLAIMING_H
#define DIODECAST_SENDER_CLAIMING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "sender/claim.h"
#include "sender/flight.h"
#include "sender/settle.h"
#include "sender/spool.h"

/*
 * Claims what the settle stage says is due, in worker threads: a batch at a time for each priority, for a large tree
 * takes its time. Control thread only.
 */
struct claiming;

/* All borrowed. */
struct claiming_setup {
    const struct claim *claim;
    struct settle *settle;
    struct spool *spool;
    uv_loop_t *loop;
    size_t descriptor_limit; /* RLIMIT_NOFILE */
    /* Called with what was claimed, which is the callee's then; with what was refused; and behind each batch. */
    void (*claimed)(void *context, struct transfer *transfer);
    void (*refused)(void *context, const char *channel, const char *name, const char *reason);
    void (*done)(void *context);
    void *context;
};

struct claiming *claiming_create(const struct claiming_setup *setup);
void claiming_destroy(struct claiming *claiming); /* not while busy; NULL allowed */
/* Starts what may be tried. Returns after how many milliseconds it is to be called again, UINT64_MAX: not by time. */
uint64_t claiming_pump(struct claiming *claiming, const struct flight *flight, uint64_t now_ns);
bool claiming_is_busy(const struct claiming *claiming);
/* Whether leases were refused lately, so that writers could not be seen. */
bool claiming_writers_unknown(const struct claiming *claiming, uint64_t now_ns);

#endif
