// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_SENDER_PIPELINE_H
#define DIODECAST_SENDER_PIPELINE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/mailbox.h"
#include "common/signature.h"
#include "common/status.h"
#include "sender/config.h"
#include "sender/ledger.h"
#include "sender/transfer.h"

/*
 * The data plane of the low side: wires the stages, owns their threads, queues and buffers. Control thread only, unless
 * said otherwise.
 *
 *     submit → [read: schedule, read+hash, pack] → per lane [send: encode, interleave, pace, GSO] → link
 *                     |            ^
 *                     +--> [seal] -+                finished transfers → `finished` mailbox
 */
struct pipeline;

struct pipeline_counters {
    uint64_t datagrams_sent, blocks_sent, groups_sent, wire_bytes_sent, payload_bytes_read;
    uint64_t send_errors;        /* transient failures that were retried */
    int last_send_errno;         /* of the newest one */
    uint64_t last_send_error_ns; /* monotonic */
    uint64_t message_too_long;   /* EMSGSIZE: the MTU is wrong */
    uint64_t heartbeats_sent;
    bool paused;         /* no carrier */
    bool ledger_stalled; /* nothing can be recorded */
};

/* Opens sockets, allocates all buffers (and logs the bound), starts nothing. Problems are logged with what to do. */
MUST_CHECK enum status pipeline_create(const struct config *config, const struct signature_key *key,
                                       struct ledger *ledger, struct mailbox *finished, struct pipeline **pipeline);
/* Takes the transfer; before or after pipeline_start(), but before it when it was sealed before a restart: no heartbeat
 * may call its number settled. */
void pipeline_submit(struct pipeline *pipeline, struct transfer *transfer);
MUST_CHECK enum status pipeline_start(struct pipeline *pipeline);
void pipeline_set_carrier(struct pipeline *pipeline, bool up);
/* Queue figures that go into the heartbeat. */
void pipeline_set_queue(struct pipeline *pipeline, uint64_t depth, uint64_t bytes);
/* Everything submitted was sent and came back, and the repeats of short groups are out. */
bool pipeline_is_idle(const struct pipeline *pipeline);
void pipeline_counters(const struct pipeline *pipeline, struct pipeline_counters *counters);
/* Stops the threads at the next block boundary; transfers still inside stay what the ledger says. */
void pipeline_stop(struct pipeline *pipeline);
void pipeline_destroy(struct pipeline *pipeline);

#endif
