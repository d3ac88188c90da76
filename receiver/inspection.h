// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_RECEIVER_INSPECTION_H
#define DIODECAST_RECEIVER_INSPECTION_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "common/audit.h"
#include "receiver/errand.h"
#include "receiver/held.h"
#include "receiver/intake.h"
#include "receiver/interrupted.h"
#include "receiver/ledger_held.h"

/*
 * One request of an operator about the quarantine: transfers that are held back (held.h) and manifests that were
 * refused (quarantine.h). The publish thread carries it out: lists, shows, judges again and releases what may be
 * delivered now, or discards. What lies in the quarantine is none of our doing, so that all of it is bounded and
 * checked.
 */
enum { INSPECTION_LISTED = 1000 /* items in an answer */, INSPECTION_ENTRIES = 200 /* of a manifest */ };

struct inspection {
    struct errand errand; /* first member */
    bool accepted;        /* everything that was named was found and done */
    json_t *items;
    uint64_t left_out;
    struct ledger_delivery *released; /* by this request */
    size_t released_count;
};

/* What the publish thread has for it; all borrowed. */
struct inspection_stage {
    const struct intake *intake;
    struct ledger *ledger;
    struct audit *audit;
    struct held *held;
    struct interrupted *interrupted;
};

/* Takes what is in *request. NULL when memory is short; then it is still the caller's. */
struct inspection *inspection_create(struct request *request);
void inspection_destroy(struct inspection *inspection);

/* Publish thread. Logs what it releases and discards. */
void inspection_run(struct inspection *inspection, const struct inspection_stage *stage);
/* {"accepted", "message", "items": […], "left_out"}, of which the man page of diodecast-receiver tells; the caller
 * frees. */
char *inspection_answer(const struct inspection *inspection);

#endif
