// SPDX-License-Identifier: Apache-2.0
#include "receiver/interrupted.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "receiver/recover.h"

struct interrupted {
    const struct intake *intake;
    struct ledger *ledger;
    struct audit *audit;
    struct publish_job *list;
};

struct interrupted *interrupted_create(const struct intake *intake, struct ledger *ledger, struct audit *audit)
{
    struct interrupted *interrupted = calloc(1, sizeof *interrupted);
    if (interrupted == NULL)
        return NULL;
    *interrupted = (struct interrupted){.intake = intake, .ledger = ledger, .audit = audit};
    return interrupted;
}

void interrupted_destroy(struct interrupted *interrupted)
{
    if (interrupted == NULL)
        return;
    while (interrupted->list != NULL) {
        struct publish_job *next = interrupted->list->next;
        publish_job_destroy(interrupted->list);
        interrupted->list = next;
    }
    free(interrupted);
}

/* Where memory is short the next start tries again. */
static struct publish_job *add(struct interrupted *interrupted, const struct ledger_delivery *delivery)
{
    struct publish_job *job = publish_job_create(PUBLISH_INTERRUPTED, delivery->sender_id, delivery->transfer_id);
    if (job == NULL)
        return NULL;
    job->delivery = *delivery;
    job->next = interrupted->list;
    interrupted->list = job;
    return job;
}

static void collect(const struct ledger_delivery *delivery, void *context)
{
    (void)add(context, delivery);
}

void interrupted_add(struct interrupted *interrupted, const struct ledger_held *held, bool attested)
{
    struct ledger_held *copy = malloc(sizeof *copy);
    struct publish_job *job = copy == NULL ? NULL : add(interrupted, &held->delivery);
    if (job == NULL) {
        free(copy);
        return;
    }
    *copy = *held;
    job->held = copy;
    job->audited = attested;
}

static bool collect_held(const struct ledger_held *held, void *context)
{
    if (held->state != LEDGER_HELD)
        interrupted_add(context, held, false);
    return true;
}

void interrupted_load(struct interrupted *interrupted)
{
    /* The ledger tells of its failures, and the next start tries again. */
    if (ledger_each_publishing(interrupted->ledger, collect, interrupted) == STATUS_OK &&
        ledger_each_held(interrupted->ledger, collect_held, interrupted) == STATUS_OK)
        return;
}

static enum status try(struct interrupted *interrupted, struct publish_job *job, enum recover_end *end)
{
    bool delivered;
    if (job->held != NULL) {
        enum status status =
            recover_held(interrupted->intake, interrupted->ledger, interrupted->audit, job->held, &job->audited, end);
        job->delivery = job->held->delivery;
        return status;
    }
    enum status status =
        recover_delivery(interrupted->intake, interrupted->ledger, interrupted->audit, &job->delivery, &delivered);
    *end = delivered ? RECOVER_DELIVERED : RECOVER_FORGOTTEN;
    return status;
}

bool interrupted_retry(struct interrupted *interrupted, struct publish_facts *facts,
                       void (*answer)(void *context, struct publish_job *job, enum publish_outcome outcome),
                       void *context)
{
    struct publish_job **link = &interrupted->list;
    while (*link != NULL) {
        struct publish_job *job = *link;
        enum recover_end end = RECOVER_FORGOTTEN;
        enum status status = try(interrupted, job, &end);
        if (status != STATUS_OK) {
            snprintf(facts->problem, sizeof facts->problem,
                     "%.64s/%.200s: its interrupted delivery can't be finished: %s", job->delivery.channel,
                     job->delivery.name, strerror(errno));
            facts->waiting++;
            facts->waiting_for_space |= status == STATUS_NO_SPACE;
            link = &job->next;
            continue;
        }
        *link = job->next;
        if (end == RECOVER_FORGOTTEN)
            publish_job_destroy(job);
        else
            answer(context, job, end == RECOVER_HELD ? PUBLISH_HELD : PUBLISH_DELIVERED);
    }
    return interrupted->list != NULL;
}
