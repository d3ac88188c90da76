// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_SENDER_LEDGER_REPLAY_H
#define DIODECAST_SENDER_LEDGER_REPLAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/status.h"
#include "sender/ledger.h"
#include "sender/parts.h"

/* Requests that were taken up and the replays that follow from them, durable in sender.db. See ledger.h. */

enum ledger_replay_state {
    LEDGER_REPLAY_WAITING = 1,
    LEDGER_REPLAY_RUNNING = 2, /* in the pipeline, or it was there when the sender ended */
    LEDGER_REPLAY_DONE = 3,
    LEDGER_REPLAY_FAILED = 4, /* `message` says why */
};

enum {
    LEDGER_REPLAY_ATTEMPTS = 10, /* how often a replay may begin without getting anywhere, before it is given up */
    LEDGER_MESSAGE_SIZE = LIMIT_REASON_LENGTH + 1,
    LEDGER_WHAT_SIZE = 200,
    LEDGER_REQUEST_ID_SIZE = 33,
    LEDGER_REQUESTS_SHOWN = 10,
    LEDGER_REPLAYS_SHOWN = 1024,
};

struct ledger_replay {
    int64_t number;
    uint64_t sequence;
    struct parts parts;
    bool now;       /* before everything else */
    uint64_t bytes; /* that it will send, about */
    uint64_t mark;  /* bytes of the transfer, in manifest order, behind which it goes on after a restart */
};

/* A request as it is taken up; all borrowed. */
struct ledger_request {
    const char *id, *requester, *what, *answer;
    int64_t made_at_ns;
    const struct ledger_replay *replays; /* number and mark do not count */
    size_t replay_count;
};

/* What was answered to a request that was taken up before, malloc'ed; STATUS_NOT_FOUND when it was not. */
MUST_CHECK enum status ledger_request_answer(struct ledger *ledger, const char *id, char **answer);
/*
 * Takes up the request in one transaction. A replay of a transfer for which one waits already becomes part of that one,
 * which is done now when either of them is.
 */
MUST_CHECK enum status ledger_request_take(struct ledger *ledger, const struct ledger_request *request, int64_t now_ns);

/* What ran when the sender ended waits again; once, at the start. */
MUST_CHECK enum status ledger_replay_restart(struct ledger *ledger);
/*
 * Begins the oldest one that waits, of those with `now` or of those without; STATUS_NOT_FOUND when there is none. One
 * that has begun too often is given up instead: then *given_up is true, and *replay is that one.
 */
MUST_CHECK enum status ledger_replay_begin(struct ledger *ledger, bool now, int64_t now_ns,
                                           struct ledger_replay *replay, bool *given_up);
/* A running replay got so far: it goes on there after a restart, and its attempts count anew. */
MUST_CHECK enum status ledger_replay_mark(struct ledger *ledger, int64_t number, uint64_t mark);
/* It waits again: it could not begin, for want of descriptors or memory. */
MUST_CHECK enum status ledger_replay_wait(struct ledger *ledger, int64_t number);
/* DONE or FAILED, with `message` (may be NULL). */
MUST_CHECK enum status ledger_replay_end(struct ledger *ledger, int64_t number, enum ledger_replay_state state,
                                         const char *message, int64_t now_ns);
/* Whether a replay of the transfer waits or runs. */
MUST_CHECK enum status ledger_replay_is_due(struct ledger *ledger, uint64_t sequence, bool *due);

/* For the status. */
struct ledger_replay_summary {
    uint64_t waiting, waiting_now, waiting_bytes; /* `waiting` counts all, those with `now` too */
    uint64_t done_total, failed_total;            /* as far back as the ledger knows */
    uint64_t sequences[LEDGER_REPLAYS_SHOWN];     /* that wait or run, newest first */
    size_t sequence_count;
    struct ledger_request_shown {
        char id[LEDGER_REQUEST_ID_SIZE];
        char requester[LIMIT_USER_LENGTH + 1];
        char what[LEDGER_WHAT_SIZE];
        int64_t made_at_ns, taken_at_ns;
        uint64_t waiting, done, failed;    /* of its replays; one that runs counts as waiting */
        char message[LEDGER_MESSAGE_SIZE]; /* of the newest one that failed */
    } requests[LEDGER_REQUESTS_SHOWN];     /* newest first */
    size_t request_count;
};
MUST_CHECK enum status ledger_replay_summary(struct ledger *ledger, struct ledger_replay_summary *summary);

#endif
