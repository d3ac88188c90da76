// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_RECEIVER_POLICY_H
#define DIODECAST_RECEIVER_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/trust.h"
#include "proto/limits.h"
#include "proto/manifest.h"

/*
 * Whether a complete, verified transfer may go to the consumers, or is held back: by the key of the sender that signed
 * its manifest, and by the approvals in it. Nothing here reads a clock or a disk.
 */

enum { POLICY_CHANNELS = 256, POLICY_NAMES = 256, POLICY_REASON_SIZE = 256 };

/* File names of keys, without ".pub". */
struct policy_names {
    bool given; /* false: all keys of the directory */
    char **list;
    size_t count;
};

struct policy_channel {
    char name[LIMIT_CHANNEL_LENGTH + 1];
    bool has_required;
    uint32_t required_signatures; /* instead of the rules' */
    struct policy_names senders, approvers;
};

/* What the configuration says. */
struct policy_rules {
    uint32_t required_signatures; /* distinct keys that must approve, at most LIMIT_APPROVALS; 0: none */
    struct policy_channel *channels;
    size_t channel_count;
};

/* The channel's entry, made if there is none yet; NULL when there are POLICY_CHANNELS already. */
struct policy_channel *policy_rules_channel(struct policy_rules *rules, const char *name);
void policy_rules_deinit(struct policy_rules *rules);

/* The rules and the keys of one moment. Immutable, so shared by threads without a lock. */
struct policy;

/*
 * `rules` and `running` are borrowed: `running` are the senders that the receive stage was started with, so a sender's
 * key counts when it is there and unchanged in `senders`. `senders` and `approvers` are taken; `approvers` may be NULL.
 * An approver's key that is a sender's too never counts.
 */
struct policy *policy_create(const struct policy_rules *rules, const struct trust *running, struct trust *senders,
                             struct trust *approvers);
void policy_destroy(struct policy *policy); /* NULL allowed */

const struct trust *policy_senders(const struct policy *policy);
const struct trust *policy_approvers(const struct policy *policy); /* NULL: no directory of them is configured */

/* Whether an approval by this key of policy_approvers() counts in the channel (NULL: one without an entry), for what is
 * first seen at this time. */
bool policy_may_approve(const struct policy *policy, const struct policy_channel *channel, const struct trust_key *key,
                        int64_t first_seen_ns);

enum policy_verdict { POLICY_DELIVER, POLICY_HOLD };

/*
 * Judges the transfer of a manifest whose signature by `sender_id` was checked. `first_seen_ns` is CLOCK_REALTIME of
 * the moment at which its manifest was first held (assembly->first_seen_ns), by which keys expire; a revocation counts
 * at once. With POLICY_HOLD `reason` holds a phrase for the operator (UTF-8), which begins with what is missing.
 * Checks at most LIMIT_APPROVALS signatures over the statement, so it is nothing for the store thread. Thread-safe.
 */
enum policy_verdict policy_judge(const struct policy *policy, uint32_t sender_id, int64_t first_seen_ns,
                                 const struct manifest_reader *manifest, char reason[static POLICY_REASON_SIZE]);

/*
 * Where the newest policy lies. Whoever judges takes it, and puts it back when done; a replaced one lives until the
 * last taker has put it back. Any thread; a short lock.
 */
struct policy_slot;

/* Takes `policy`. NULL when memory is short; then it is still the caller's. */
struct policy_slot *policy_slot_create(struct policy *policy);
void policy_slot_destroy(struct policy_slot *slot); /* all must be back; NULL allowed */
void policy_slot_replace(struct policy_slot *slot, struct policy *policy);
const struct policy *policy_slot_take(struct policy_slot *slot);
void policy_slot_put(struct policy_slot *slot, const struct policy *policy);

#endif
