// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_SENDER_SEND_H
#define DIODECAST_SENDER_SEND_H

#include <stdbool.h>
#include <stdint.h>

#include "common/linkkey.h"
#include "common/status.h"
#include "sender/config.h"
#include "sender/heartbeat.h"
#include "sender/lane.h"
#include "sender/train.h"

/*
 * The send stage of one lane, one thread: encodes blocks, sends them in interleave groups at the lane's share of the
 * rate, sends short groups once more, and sends a heartbeat each second.
 */
struct send_stage;

struct send_setup {
    const struct config *config;
    struct lane *lane;
    struct heartbeat *heartbeat;
    const uint8_t *secret; /* LINKKEY_SIZE bytes of the link key, or NULL */
    uint32_t sender_id;
    uint64_t epoch, salt;
};

struct send_counters {
    uint64_t datagrams, blocks, groups, wire_bytes, errors, message_too_long;
    uint64_t heartbeats;           /* that have left */
    uint64_t segmentation_refused; /* how often trains had to be sent as single datagrams for a while */
    uint64_t last_error_ns;
    int last_errno;
};

/* Nanoseconds that a full interleave group takes at one lane's share of the rate. */
uint64_t send_group_span_ns(const struct config *config);

/* Opens the lane's socket. All pointers of `setup` are borrowed, `secret` only for the call. Failures are logged. */
MUST_CHECK enum status send_create(const struct send_setup *setup, struct send_stage **stage);
MUST_CHECK enum status send_start(struct send_stage *stage);
/* Any thread. Without carrier nothing is sent; with it again, the group under way and the one to be repeated start
 * anew, for what was sent meanwhile is lost. */
void send_set_carrier(struct send_stage *stage, bool up);
/* Any thread. */
void send_counters(const struct send_stage *stage, struct send_counters *counters);
/* Ends the thread after the trains under way. */
void send_stop(struct send_stage *stage);
void send_destroy(struct send_stage *stage); /* stopped, or never started; NULL allowed */

#endif
