// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_SENDER_REQUESTS_H
#define DIODECAST_SENDER_REQUESTS_H

#include <stdbool.h>
#include <stddef.h>

#include "common/status.h"
#include "sender/claim.h"

/*
 * Requests for replays, in SPOOL/.requests (common/request.h): who may write into that directory may ask. A request
 * leads to rows of the ledger (ledger_replay.h) before it is answered and removed, so that it is neither lost nor met
 * twice, whatever ends the sender in between.
 */
struct requests;

/* Makes the directory, with the group and mode that the configuration asks for, and watches it. Logs what fails. */
MUST_CHECK enum status requests_open(const struct claim *claim, struct requests **requests);
void requests_close(struct requests *requests); /* NULL allowed */
/* Readable when there may be requests; requests_clear() empties it. Control thread. */
int requests_fd(const struct requests *requests);
void requests_clear(struct requests *requests);

struct requests_result {
    size_t taken;  /* requests that were answered, dry runs too */
    size_t queued; /* replays that were recorded */
    bool again;    /* something failed that may go by: try again in a while */
};

/* Takes up all that wait, and removes answers that nobody fetched. In any thread, one at a time. */
void requests_take(struct requests *requests, struct requests_result *result);

#endif
