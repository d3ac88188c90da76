// SPDX-License-Identifier: Apache-2.0
#include "receiver/refusals.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "proto/limits.h"

enum {
    PER_TICK = 4,                               /* more refused manifests than that are only counted */
    WAITING = LIMIT_MANIFEST_SIZE + (16 << 20), /* bytes of them that wait for the publish stage, likewise */
};
#define LOG_INTERVAL_NS (10 * CLOCK_SECOND_NS)

void refusals_take(struct refusals *refusals, const struct assembly *assembly, const char *reason, const uint8_t *bytes,
                   size_t size, uint64_t now_ns)
{
    uint64_t suppressed;
    refusals->last_ns = now_ns;
    refusals->limit.interval_ns = LOG_INTERVAL_NS;
    if (log_limit_pass(&refusals->limit, now_ns, &suppressed))
        log_warning("a %s of sender %08x is refused: it %s (%llu more since the last such message)",
                    bytes != NULL ? "manifest" : "transfer", assembly->sender_id, reason,
                    (unsigned long long)suppressed);
    if (refusals->count++ >= PER_TICK || publish_quarantine_bytes(refusals->publish) + size > WAITING)
        return;
    struct publish_job *job = publish_job_create(PUBLISH_QUARANTINE, assembly->sender_id, assembly->id);
    uint8_t *copy = bytes == NULL ? NULL : malloc(size);
    if (job == NULL || (bytes != NULL && copy == NULL)) {
        publish_job_destroy(job);
        free(copy);
        return;
    }
    if (bytes != NULL)
        memcpy(copy, bytes, size);
    job->bytes = copy;
    job->size = size;
    snprintf(job->reason, sizeof job->reason, "%s", reason);
    publish_post(refusals->publish, job);
}

void refusals_tick(struct refusals *refusals)
{
    refusals->count = 0;
}
