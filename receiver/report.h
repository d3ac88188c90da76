// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_RECEIVER_REPORT_H
#define DIODECAST_RECEIVER_REPORT_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/limits.h"
#include "proto/ticket.h"
#include "receiver/knowledge.h"
#include "receiver/ledger.h"
#include "receiver/missing.h"
#include "receiver/publish.h"

/*
 * What the store tells the operator. The store thread fills a snapshot now and then; status and health are made from
 * the newest one by any thread, under a lock that is only held for copying.
 */
struct report;
struct json_t;
struct health;

enum {
    REPORT_TRANSFERS = 256, /* open ones, and incomplete ones, in the status; the numbers beside them are not cut */
    REPORT_RANGES = 128,
    REPORT_SENDERS = 64,
    REPORT_ALARMS = 16,
    REPORT_DISCARDED = 32,
};

enum report_state {
    REPORT_RECEIVING,
    REPORT_INCOMPLETE,
    REPORT_WAITING_FOR_SPACE,
    REPORT_PUBLISHING,
    REPORT_VERIFYING, /* being read again: verified_bytes of verify_total so far */
};

struct report_transfer {
    uint8_t id[TRANSFER_ID_SIZE];
    uint32_t sender_id;
    char channel[LIMIT_CHANNEL_LENGTH + 1]; /* "" while neither announced nor described */
    char name[LIMIT_COMPONENT_LENGTH + 1];
    uint64_t sequence; /* 0: not known yet */
    uint64_t bytes_total, bytes_held;
    uint64_t verified_bytes, verify_total;
    uint32_t artifact_count;
    enum report_state state;
};

/* A transfer of which something is missing that does not come by itself. */
struct report_incomplete {
    struct report_transfer transfer;
    bool healing;         /* the sender is going to repeat it by itself */
    bool manifest_held;   /* else only its number is known, from heartbeats */
    bool chunks_known;    /* the members below are filled */
    uint64_t chunk_count; /* that are missing */
    uint64_t range_count; /* of chunks */
    unsigned listed;      /* the first ones of these */
    struct ticket_range ranges[MISSING_RANGES];
    char ticket[TICKET_TEXT_SIZE]; /* "": there is none (yet) */
};

struct report_range {
    uint32_t sender_id;
    uint8_t chain_id[CHAIN_ID_SIZE];
    uint64_t first, last;
    bool healing;
    bool replaced; /* the sender has begun another chain since, so nothing of this one comes any more */
    char ticket[TICKET_TEXT_SIZE];
};

/* A transfer whose staged bytes were thrown away. */
struct report_discard {
    uint8_t id[TRANSFER_ID_SIZE];
    uint32_t sender_id;
    char channel[LIMIT_CHANNEL_LENGTH + 1]; /* "" while neither announced nor described */
    char name[LIMIT_COMPONENT_LENGTH + 1];
    uint64_t sequence; /* 0: not known */
    uint64_t bytes_held;
    int64_t at_ns;   /* CLOCK_REALTIME */
    const char *why; /* static storage, a phrase for the operator */
};

struct report_alarm {
    struct knowledge_alarm facts;
    char ticket[TICKET_TEXT_SIZE];
};

struct report_sender {
    uint32_t sender_id;
    uint8_t chain_id[CHAIN_ID_SIZE];
    uint64_t epoch, baseline, newest_sequence, settled_sequence;
    uint64_t queue_depth, queue_bytes, rate_bits_per_second;
    uint32_t in_flight;
    uint64_t heard_ns;    /* monotonic, of the last heartbeat; 0: none since the start */
    int64_t heard_at_ns;  /* CLOCK_REALTIME of the same */
    uint64_t recorded_ns; /* monotonic, when one came that is not newer than others before; 0: never */
    int64_t lag_ns;       /* of its clock; vigil.h */
    int64_t offset_ns;    /* the sender's clock minus ours */
};

struct report_snapshot {
    struct report_transfer open[REPORT_TRANSFERS];
    struct report_incomplete incomplete[REPORT_TRANSFERS];
    unsigned open_count, incomplete_count; /* in the lists */
    uint64_t open_total, incomplete_total, incomplete_not_healing, not_admitted;
    struct report_range never_seen[REPORT_RANGES];
    unsigned never_seen_count;
    uint64_t never_seen_total; /* sequence numbers */
    bool never_seen_not_healing;
    struct report_incomplete lacking; /* the first of those that are incomplete and not healing */
    struct report_range unseen;       /* likewise */
    struct report_alarm alarms[REPORT_ALARMS];
    unsigned alarm_count; /* in the list */
    uint64_t alarm_total;
    struct report_sender senders[REPORT_SENDERS];
    unsigned sender_count;
    struct report_discard discarded[REPORT_DISCARDED]; /* the newest first */
    unsigned discarded_count;
    uint64_t discarded_total; /* since the start */

    uint64_t delivered_total, aborted_total, quarantined_total, evicted_total, damaged_total;
    uint64_t blocks_total, repaired_total, failed_total;
    uint64_t frames_malformed, frames_unknown, frames_bad_signature, frames_duplicate, frames_over_limit;
    bool has_delivered;
    struct ledger_delivery last_delivered;
    struct publish_facts facts;
    uint64_t no_space_ns, io_error_ns, quarantined_ns; /* monotonic, when it happened last; 0: never */
};

/* `intake` is the path, borrowed. */
struct report *report_create(const char *intake);
void report_destroy(struct report *report);

/* A zeroed snapshot to fill, and its publication. One thread. */
struct report_snapshot *report_begin(struct report *report);
void report_commit(struct report *report);

/* See store.h. */
void report_to_json(struct report *report, struct json_t *root);
void report_health(struct report *report, struct health *health, uint64_t now_ns, int64_t realtime_ns);
bool report_last_heartbeat(struct report *report, int64_t *received_at_ns, int64_t *clock_offset_ns);

#endif
