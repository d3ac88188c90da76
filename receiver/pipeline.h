// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_RECEIVER_PIPELINE_H
#define DIODECAST_RECEIVER_PIPELINE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/audit.h"
#include "common/status.h"
#include "common/trust.h"
#include "receiver/config.h"
#include "receiver/ledger.h"
#include "receiver/receive.h"

/*
 * The data plane of the high side: wires the stages, owns their threads, queues and buffers. Control thread only.
 *
 *     link ))) per lane [receive: check, gather] → [store: decode, unpack, write, hash] → [publish] → intake queue
 *                           ^                          |
 *                           +------- empty blocks -----+
 */
struct pipeline;
struct store;

struct pipeline_counters {
    struct receive_counters lanes; /* sums; of memory_needed, last_datagram_ns the largest */
    uint32_t socket_buffer;        /* bytes granted to each lane's socket */
    uint32_t socket_buffer_wanted;
    size_t senders;         /* that are trusted since the start */
    uint64_t memory;        /* bytes of the data plane, all of which is allocated */
    uint64_t memory_to_set; /* what `memory` must be for the geometries seen; 0 when they fit */
};

/*
 * Opens sockets, allocates all buffers (and logs the bound), starts nothing. Problems are logged with what to do. All
 * arguments are borrowed; `link_secrets` only during the call: the link key, and one that is accepted beside it, each
 * NULL where there is none. `sockets` are those of the lanes that the service manager passed, or -1 each
 * (common/activation.h): they are taken, and each is -1 afterwards.
 */
MUST_CHECK enum status pipeline_create(const struct config *config, const struct trust *trust, struct ledger *ledger,
                                       struct audit *audit, struct policy_slot *policies,
                                       const uint8_t *const link_secrets[static LINKKEY_SECRETS], int sockets[],
                                       struct pipeline **pipeline);
/* Takes over what the run before handed over, then starts the threads. `delivered` is called, by any thread, after each
 * batch of deliveries. */
MUST_CHECK enum status pipeline_start(struct pipeline *pipeline, void (*delivered)(void *context), void *context);
/*
 * Stops the receiving threads, and hands open blocks over to the next run in a file beside the status file; within
 * PIPELINE_HANDOVER_NS, else they are given up and counted. The store stage runs on. The counters are final then.
 */
#define PIPELINE_HANDOVER_NS UINT64_C(1000000000)
void pipeline_stop_receiving(struct pipeline *pipeline);
/* Stops all threads, the receiving ones first: what has arrived is still stored. */
void pipeline_stop(struct pipeline *pipeline);
void pipeline_destroy(struct pipeline *pipeline); /* stops what still runs; NULL allowed */

struct store *pipeline_store(struct pipeline *pipeline); /* NULL unless started */
void pipeline_counters(const struct pipeline *pipeline, struct pipeline_counters *counters);
/* Which link key the newest run of each sender uses; of several lanes the one where it is newest. Returns how many were
 * found, at most `capacity`. */
size_t pipeline_key_uses(const struct pipeline *pipeline, struct key_use_entry entries[], size_t capacity);
/* Whether the store thread and each receive thread have made a turn lately; call it each second. */
bool pipeline_is_alive(struct pipeline *pipeline, uint64_t now_ns);

#endif
