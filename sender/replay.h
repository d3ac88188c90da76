// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_SENDER_REPLAY_H
#define DIODECAST_SENDER_REPLAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/request.h"
#include "common/status.h"
#include "sender/config.h"
#include "sender/ledger.h"
#include "sender/parts.h"

/*
 * What a request for a replay comes to: tickets, times and numbers against what the ledger knows. Decides only; the
 * caller records and answers. No clock, no disk of its own.
 */
enum {
    REPLAY_ITEMS = 10000,        /* transfers in one request; more are refused */
    REPLAY_ITEMS_ANSWERED = 500, /* of these, the ones that an answer tells of one by one */
    REPLAY_MESSAGE_SIZE = 400,
    REPLAY_WHAT_SIZE = 200,
};

enum replay_state {
    REPLAY_QUEUED,
    REPLAY_IN_FLIGHT,    /* not sent for the first time yet: comes by itself */
    REPLAY_NOT_RETAINED, /* can't be sent again */
    REPLAY_UNKNOWN,      /* no such number */
};

/* What the ledger and .sent say. Statuses other than OK and NOT_FOUND end the resolution. */
struct replay_source {
    void *context;
    const uint8_t *chain_id; /* CHAIN_ID_SIZE */
    uint64_t newest_sequence;
    /* As ledger_next(). */
    enum status (*next)(void *context, uint64_t after, int64_t since_ns, struct ledger_transfer *transfer);
    /* Sizes of its artifacts in manifest order, malloc'ed. */
    enum status (*sizes)(void *context, uint64_t sequence, uint64_t **sizes, size_t *count);
    /* Whether the copy of a sent transfer is still there. */
    bool (*is_kept)(void *context, const struct ledger_transfer *transfer);
};

struct replay_item {
    uint64_t sequence;
    char name[LIMIT_CHANNEL_LENGTH + 1 + LIMIT_COMPONENT_LENGTH + 1]; /* CHANNEL/NAME; "" of what is unknown */
    enum replay_state state;
    char message[REPLAY_MESSAGE_SIZE];
    struct parts parts;
    uint64_t bytes; /* that are sent again */
};

struct replay_plan {
    bool accepted;                     /* else nothing is done, and `message` says why */
    char message[REPLAY_MESSAGE_SIZE]; /* for the operator */
    struct replay_item *items;         /* in order of the request, each transfer once */
    size_t count, capacity;
    uint32_t *by_sequence; /* their places, in order of sequence */
    size_t queued;
    uint64_t bytes; /* of the queued ones */
};

/* STATUS_OK also when the plan is not accepted; anything else when the source failed. replay_plan_deinit() in any case.
 */
MUST_CHECK enum status replay_resolve(const struct request *request, const struct replay_source *source,
                                      struct replay_plan *plan);
void replay_plan_deinit(struct replay_plan *plan);

/* How long the plan takes when nothing else is sent. */
double replay_seconds(const struct replay_plan *plan, const struct config *config);
/* The answer, malloc'ed JSON: accepted, message, transfers, bytes, seconds, items, and left_out: items not told of. */
char *replay_answer(const struct replay_plan *plan, const struct config *config);
/* What is asked for, in a few words. Returns `what`. */
char *replay_what(const struct request *request, char what[static REPLAY_WHAT_SIZE]);

#endif
