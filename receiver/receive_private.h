// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_RECEIVER_RECEIVE_PRIVATE_H
#define DIODECAST_RECEIVER_RECEIVE_PRIVATE_H

#include <stdatomic.h>

#include "receiver/receive.h"

/* The counters as other threads see them. One writer, the receive thread. */
struct receive_shared {
    _Atomic uint64_t datagrams, lost, drops[DATAGRAM_DROP_COUNT], kernel_socket_buffer, buffer_ring_exhausted,
        store_queue_full, disk_too_slow, blocks_complete, blocks_given_up, memory_needed, last_datagram_ns, turns;
};

/* All of them but `turns`. */
void receive_shared_set(struct receive_shared *shared, const struct receive_counters *counters);
void receive_shared_set_turns(struct receive_shared *shared, uint64_t turns);
void receive_shared_get(const struct receive_shared *shared, struct receive_counters *counters);

#endif
