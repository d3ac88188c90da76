// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_RECEIVER_HELD_H
#define DIODECAST_RECEIVER_HELD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/audit.h"
#include "common/status.h"
#include "proto/manifest.h"
#include "receiver/intake.h"
#include "receiver/ledger_held.h"

/*
 * Transfers that are received and verified, and held back by the policy: intake/.quarantine/SEQUENCE-SENDERID-NAME/,
 * with all that a delivery has and the file `reason`. What they may take is bounded: where the bytes are used up, only
 * the manifest of a further one is kept, and where those are too many, only its record. The oldest go, by their age
 * alone: who floods the quarantine can't push out what lies there.
 *
 * They age by the wall clock of this program's start plus the time since, so that a step of the clock ends nothing.
 * The publish thread's.
 */
struct held;
struct publish_job;

#define HELD_BYTES          (UINT64_C(4) << 30) /* unless the configuration says otherwise */
#define HELD_AGE_NS         (UINT64_C(30) * 86400 * 1000000000)
#define HELD_MANIFEST_BYTES (UINT64_C(256) << 20) /* of those of which only the manifest is kept */
enum { HELD_COUNT = 1024 /* directories */, HELD_REASON_SIZE = LEDGER_HELD_REASON_SIZE, HELD_LISTED = 32 };

/* Whether the transfer with this manifest is to be held back, and why. */
typedef bool held_rule(void *context, uint32_t sender_id, int64_t first_seen_ns, const struct manifest_reader *manifest,
                       char reason[static HELD_REASON_SIZE]);

/* What the status tells. */
struct held_facts {
    struct ledger_held_totals totals;
    uint64_t limit_bytes;
    struct ledger_held list[HELD_LISTED]; /* the oldest ones */
    unsigned listed;
};

struct held_setup {
    held_rule *rule; /* called by the publish thread; NULL: nothing is held back */
    void *context;
    uint64_t bytes, age_ns;
};

/* All borrowed, `setup` for the call; `audit` and `setup` (no rule, and the bounds above) may be NULL. Logs, and
 * returns NULL when the ledger can't be read. */
struct held *held_create(const struct intake *intake, struct ledger *ledger, struct audit *audit,
                         const struct held_setup *setup);
void held_destroy(struct held *held);

/* Judges the verified transfer of a job, once: gives it `held` when it is held back, with what is to be kept of it. */
void held_judge(struct held *held, struct publish_job *job);
/* Whether a transfer that is held may be delivered now; else the new reason is in *reason, which is recorded nowhere.
 * STATUS_CORRUPT: its manifest is not what was held back; errno else. */
MUST_CHECK enum status held_judge_again(struct held *held, const struct ledger_held *row, bool *good,
                                        char reason[static HELD_REASON_SIZE]);
/* Something was held or released. */
void held_changed(struct held *held);

/* Takes what is held of a transfer away for good, and records who wanted it (NULL: nobody) and why. The row must be in
 * state HELD. errno on failure, after which it is still held. */
MUST_CHECK enum status held_discard(struct held *held, const struct ledger_held *row, const char *actor,
                                    const char *detail);

/* Now and then, with CLOCK_MONOTONIC: ends what is too old, or whose directory was taken away. */
void held_tick(struct held *held, uint64_t now_ns);
const struct held_facts *held_facts(const struct held *held);

#endif
