// SPDX-License-Identifier: Apache-2.0
#include "receiver/receive_private.h"

static void set(_Atomic uint64_t *shared, uint64_t value)
{
    atomic_store_explicit(shared, value, memory_order_relaxed);
}

static uint64_t get(const _Atomic uint64_t *shared)
{
    return atomic_load_explicit(shared, memory_order_relaxed);
}

void receive_shared_set(struct receive_shared *shared, const struct receive_counters *counters)
{
    set(&shared->datagrams, counters->datagrams);
    set(&shared->lost, counters->lost);
    for (unsigned i = 0; i < DATAGRAM_DROP_COUNT; i++)
        set(&shared->drops[i], counters->drops[i]);
    set(&shared->kernel_socket_buffer, counters->kernel_socket_buffer);
    set(&shared->buffer_ring_exhausted, counters->buffer_ring_exhausted);
    set(&shared->store_queue_full, counters->store_queue_full);
    set(&shared->disk_too_slow, counters->disk_too_slow);
    set(&shared->blocks_complete, counters->blocks_complete);
    set(&shared->blocks_given_up, counters->blocks_given_up);
    set(&shared->memory_needed, counters->memory_needed);
    set(&shared->last_datagram_ns, counters->last_datagram_ns);
}

void receive_shared_set_turns(struct receive_shared *shared, uint64_t turns)
{
    set(&shared->turns, turns);
}

void receive_shared_get(const struct receive_shared *shared, struct receive_counters *counters)
{
    counters->datagrams = get(&shared->datagrams);
    counters->lost = get(&shared->lost);
    for (unsigned i = 0; i < DATAGRAM_DROP_COUNT; i++)
        counters->drops[i] = get(&shared->drops[i]);
    counters->kernel_socket_buffer = get(&shared->kernel_socket_buffer);
    counters->buffer_ring_exhausted = get(&shared->buffer_ring_exhausted);
    counters->store_queue_full = get(&shared->store_queue_full);
    counters->disk_too_slow = get(&shared->disk_too_slow);
    counters->blocks_complete = get(&shared->blocks_complete);
    counters->blocks_given_up = get(&shared->blocks_given_up);
    counters->memory_needed = get(&shared->memory_needed);
    counters->last_datagram_ns = get(&shared->last_datagram_ns);
    counters->turns = get(&shared->turns);
}
