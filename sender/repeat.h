// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_SENDER_REPEAT_H
#define DIODECAST_SENDER_REPEAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "sender/claim.h"
#include "sender/heal.h"
#include "sender/ledger_replay.h"
#include "sender/pipeline.h"
#include "sender/requests.h"
#include "sender/transfer.h"

/*
 * What is sent again: takes up requests, gives replays to the pipeline one after another (and beside it those that are
 * wanted now), and heals while the link is idle. Everything that touches ledger or disk runs in one worker at a time.
 * Control thread only.
 *
 *     requests → ledger → reopen → pipeline_submit … finished mailbox → ledger
 */
struct repeat;

enum { REPEAT_UNDER_WAY = HEAL_UNDER_WAY + 2 };

/* All borrowed. */
struct repeat_setup {
    const struct claim *claim;
    struct requests *requests;
    struct pipeline *pipeline;
    uv_loop_t *loop;
    bool heals;                  /* are sent at all */
    void (*done)(void *context); /* a worker has come back: something may be possible now */
    void *context;
};

/* Puts what was under way back into the queue. */
MUST_CHECK enum status repeat_create(const struct repeat_setup *setup, struct repeat **repeat);
/* Learns what may be healed; once, behind recover.h and before the pipeline's start. */
void repeat_learn(struct repeat *repeat);
/* Not while busy. Records what repeat_finished() brought; NULL allowed. */
void repeat_destroy(struct repeat *repeat);

/* Requests may be there. */
void repeat_requested(struct repeat *repeat);
/* A transfer was sent for the first time. */
void repeat_note_sent(struct repeat *repeat, const struct transfer *transfer);
/* Takes a replay or heal back from the pipeline. */
void repeat_finished(struct repeat *repeat, struct transfer *transfer);
/* Starts what can be started. `idle`: nothing else is queued, so that heals may go. */
void repeat_pump(struct repeat *repeat, bool idle);
/* About each second: marks of replays, ranges of the heartbeat. */
void repeat_tick(struct repeat *repeat);
bool repeat_is_busy(const struct repeat *repeat);
/* No request is being taken up, and no replay waits or runs. */
bool repeat_is_through(const struct repeat *repeat);
/* Sequences of what is being sent again; returns how many (at most REPEAT_UNDER_WAY). */
size_t repeat_sequences(const struct repeat *repeat, uint64_t sequences[static REPEAT_UNDER_WAY]);

/* For the status; borrowed until the next call. */
struct repeat_facts {
    const struct ledger_replay_summary *replays;
    struct transfer *transfers[REPEAT_UNDER_WAY]; /* under way */
    size_t count;
    uint64_t heals_total;   /* since the start */
    uint64_t heals_pending; /* transfers that will still be sent again */
    bool stuck;             /* requests or replays can't be recorded at the moment */
};
void repeat_facts(const struct repeat *repeat, struct repeat_facts *facts);

#endif
