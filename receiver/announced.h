// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_RECEIVER_ANNOUNCED_H
#define DIODECAST_RECEIVER_ANNOUNCED_H

#include <stdint.h>

#include "common/audit.h"
#include "common/trust.h"
#include "proto/message.h"
#include "receiver/policy.h"
#include "receiver/publish.h"

/*
 * Keys that senders announce: each is written once to STATE/announced/KEYID.pub, for an operator to compare and to put
 * into trusted_keys. It is trusted by nobody here. Bounded by ANNOUNCED_KEYS, in a run and in the directory. The store
 * thread's; the publish thread writes.
 */
struct announced;

enum { ANNOUNCED_KEYS = 16 };

/* All borrowed; `policies` and `audit` may be NULL. NULL when memory is short. */
struct announced *announced_create(const char *state_directory, const struct trust *running,
                                   struct policy_slot *policies, struct audit *audit, struct publish *publish);
void announced_destroy(struct announced *announced); /* after the publish stage has ended; NULL allowed */

/* An announcement whose signature by the sender was checked. */
void announced_take(struct announced *announced, uint32_t sender_id, const struct message_key *message);

#endif
