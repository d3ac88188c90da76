// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_RECEIVER_KEYS_H
#define DIODECAST_RECEIVER_KEYS_H

#include <jansson.h>
#include <stdint.h>
#include <uv.h>

#include "common/audit.h"
#include "common/statusfile.h"
#include "common/trust.h"
#include "receiver/config.h"
#include "receiver/policy.h"

/*
 * The directories of public keys: reads them at the start, watches them, and makes a new policy of each change, which
 * the other threads find in the slot. What SIGHUP asks for is the same. Control thread.
 *
 * The senders that the receive stage gives memory to are those of the start. A change of what counts in them takes
 * effect at once: a revoked, expired, removed or replaced key has its transfers held. A sender that is new needs a
 * restart, and the status says so.
 */
struct keys;

/* `config` is borrowed. Makes STATE/announced. Strict: whatever is wrong is logged and fails. */
MUST_CHECK enum status keys_create(const struct config *config, struct keys **keys);
/* From here on changes are seen, until the loop closes its handles. `audit` is borrowed, NULL: nothing is recorded. */
MUST_CHECK enum status keys_watch(struct keys *keys, uv_loop_t *loop, struct audit *audit);
/* After the loop is closed and nobody uses the slot any more. NULL allowed. */
void keys_destroy(struct keys *keys);

/* The senders of the start; the keys' own. */
const struct trust *keys_running(const struct keys *keys);
struct policy_slot *keys_slot(struct keys *keys);

/* Reads everything again. What can't be read leaves out that key, or where it is a directory, all as it was. */
void keys_reload(struct keys *keys);

/* Adds the member "keys". */
void keys_to_json(const struct keys *keys, json_t *root, int64_t realtime_ns);
/* Sets and clears key_file_wrong, key_expired, key_expires_soon, key_revoked, sender_key_needs_restart, key_announced
 * and approvers_too_few. */
void keys_health(const struct keys *keys, struct health *health, int64_t realtime_ns);

#endif
