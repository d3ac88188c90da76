// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_RECEIVER_CHECKS_H
#define DIODECAST_RECEIVER_CHECKS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/trust.h"
#include "proto/signed.h"

/*
 * The signature checks of what comes in blocks, each of which costs more than thousand bytes of data. Whoever knows no
 * link key can send messages whose signature is wrong: so the failures of each sender id are bounded, by a budget that
 * fills with time. What is rightly signed takes nothing of it, however much comes; while the budget is used up, nothing
 * of that sender id is checked that was not checked before. Of the newest small messages the verdict is remembered, so
 * that copies and recordings cost a hash. Sans I/O; one thread.
 */
struct checks;

enum {
    CHECKS_FAILURES_PER_S = 2000, /* over all trusted senders, who have equal shares; a quarter of one core */
    CHECKS_BURST_S = 2,
    CHECKS_REMEMBERED = 256, /* of each verdict */
};

/* `trust` is borrowed. NULL when out of memory. */
struct checks *checks_create(const struct trust *trust);
void checks_destroy(struct checks *checks); /* NULL is allowed */

enum checks_verdict { CHECKS_GOOD, CHECKS_BAD, CHECKS_OVER_LIMIT };

/* Whether a small message is signed by the trusted key of that sender id. */
enum checks_verdict checks_verify(struct checks *checks, uint32_t sender_id, const struct signed_message *message,
                                  uint64_t now_ns);
/* For a check that the caller makes: whether there is budget, and that it failed. */
bool checks_may(struct checks *checks, uint32_t sender_id, uint64_t now_ns);
void checks_failed(struct checks *checks, uint32_t sender_id);

#endif
