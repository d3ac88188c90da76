// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_RECEIVER_INTERRUPTED_H
#define DIODECAST_RECEIVER_INTERRUPTED_H

#include <stdbool.h>

#include "common/audit.h"
#include "receiver/intake.h"
#include "receiver/publish.h"

/*
 * What is recorded as being on its way into a channel or into the quarantine and has no job of a transfer any more:
 * what the start could not finish, and releases that came to a halt. The publish thread tries it again now and then.
 */
struct interrupted;

/* All borrowed; `audit` may be NULL. NULL when memory is short. */
struct interrupted *interrupted_create(const struct intake *intake, struct ledger *ledger, struct audit *audit);
void interrupted_destroy(struct interrupted *interrupted);

/* Takes up what the ledger has of it; at the start. */
void interrupted_load(struct interrupted *interrupted);
/* A release that release_finish() could not finish. */
void interrupted_add(struct interrupted *interrupted, const struct ledger_held *held, bool attested);
/*
 * Tries all of them. `answer` takes each that has come to its end as a job of the kind INTERRUPTED; what still waits is
 * noted in *facts. True when something waits.
 */
bool interrupted_retry(struct interrupted *interrupted, struct publish_facts *facts,
                       void (*answer)(void *context, struct publish_job *job, enum publish_outcome outcome),
                       void *context);

#endif
