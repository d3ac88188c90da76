// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_SENDER_STATUS_H
#define DIODECAST_SENDER_STATUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sender/config.h"
#include "sender/pipeline.h"
#include "sender/repeat.h"
#include "sender/retain.h"
#include "sender/settle.h"
#include "sender/spool.h"
#include "sender/transfer.h"

/* The sender's status file: gathers what the control thread knows, judges health, and writes. Control thread only. */
struct status_board;

/* All that a status file is made from; borrowed for the call. */
struct status_facts {
    const char *state; /* sending, idle, paused, stopping */
    const struct settle *settle;
    const struct spool_trouble *trouble;
    struct transfer *const *in_flight; /* their atomics and what is set at the claim */
    size_t in_flight_count;
    struct pipeline_counters counters;
    bool carrier_up;
    bool writers_unknown; /* leases were refused lately */
    uint64_t sent_total, failed_total, returned_total;
    uint64_t last_sequence;
    uint64_t queue_depth, queue_bytes;
    const struct retain_result *retain;
    struct repeat_facts repeat;
};

/* `config` is borrowed; sender and chain are printed in hex. */
struct status_board *status_board_create(const struct config *config, uint32_t sender_id,
                                         const uint8_t chain_id[static CHAIN_ID_SIZE]);
void status_board_destroy(struct status_board *board);

/* Remembers a refusal (the newest ones are shown) or the newest transfer that was sent. */
void status_board_refused(struct status_board *board, const char *channel, const char *name, const char *reason,
                          int64_t realtime_ns);
void status_board_sent(struct status_board *board, const struct transfer *transfer, int64_t realtime_ns);

void status_board_write(struct status_board *board, const struct status_facts *facts, uint64_t now_ns,
                        int64_t realtime_ns);
/* Of the last full second. */
uint64_t status_board_rate(const struct status_board *board);

#endif
