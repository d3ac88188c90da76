// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_SENDER_PIPELINE_H
#define DIODECAST_SENDER_PIPELINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/audit.h"
#include "common/mailbox.h"
#include "common/signature.h"
#include "common/status.h"
#include "proto/message.h"
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
    uint64_t segmentation_refused; /* times that trains had to be sent as single datagrams for a while */
    bool paused;                   /* no carrier */
    bool ledger_stalled;           /* nothing can be recorded */
    bool audit_failed;             /* the audit log can't be written: nothing is claimed */
};

/* Opens sockets, allocates all buffers (and logs the bound), starts nothing. Problems are logged with what to do. */
MUST_CHECK enum status pipeline_create(const struct config *config, const struct signature_key *key,
                                       struct ledger *ledger, struct audit *audit, struct mailbox *finished,
                                       struct pipeline **pipeline);
/*
 * Takes the transfer, of any kind (transfer.h says what has to be set); before or after pipeline_start(), but before it
 * when a fresh one was sealed before a restart: no heartbeat may call its number settled. A replay or heal has its
 * sequence, signed bytes, directory and a listing made just now, comes back through `finished` like the others, and
 * changes nothing of what heartbeats say about transfers in flight and settled numbers. One that is TRANSFER_REFUSED
 * was sent in part or not at all: `reason` says why.
 */
void pipeline_submit(struct pipeline *pipeline, struct transfer *transfer);
MUST_CHECK enum status pipeline_start(struct pipeline *pipeline);
void pipeline_set_carrier(struct pipeline *pipeline, bool up);
/* Queue figures that go into the heartbeat. */
void pipeline_set_queue(struct pipeline *pipeline, uint64_t depth, uint64_t bytes);
/* Which sequence numbers idle re-sending will still repeat, for the heartbeat; copied. At most LIMIT_HEALING_RANGES are
 * said, the first ones; numbers that do not exist are left out. Any thread. */
void pipeline_set_healing(struct pipeline *pipeline, const struct message_range *ranges, size_t count);
/* Everything submitted, replays and heals too, was sent and came back, and the repeats of short groups are out. */
bool pipeline_is_idle(const struct pipeline *pipeline);
void pipeline_counters(const struct pipeline *pipeline, struct pipeline_counters *counters);
/* Stops the threads at the next block boundary; transfers still inside stay what the ledger says. */
void pipeline_stop(struct pipeline *pipeline);
void pipeline_destroy(struct pipeline *pipeline);

#endif
