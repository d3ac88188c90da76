// SPDX-License-Identifier: Apache-2.0
#include <stdio.h>

#include "tests/sim/sim.h"

struct sim_statistics sim_statistics;

static void print(const char *what, uint64_t count)
{
    printf("  %8llu %s\n", (unsigned long long)count, what);
}

void sim_print_statistics(void)
{
    const struct sim_statistics *all = &sim_statistics;
    print("crashes of the sender", all->sender_crashes);
    print("crashes of the receiver", all->receiver_crashes);
    print("of these, losses of power", all->power_losses);
    print("transfers that the sender went on with from a mark", all->resumed);
    print("checkpoints of open transfers", all->checkpoints);
    print("open transfers restored after a crash", all->restored);
    print("bytes that they still held", all->restored_bytes);
    print("interrupted deliveries finished at a start", all->taken_over);
    print("deliveries taken by the consumer at once", all->consumed);
    print("long outages", all->outages);
    print("times that something was reported as lost", all->lost);
    print("tickets issued", all->tickets);
    print("of these, for whole transfers", all->whole_tickets);
    print("for manifests", all->manifest_tickets);
    print("for chunks", all->chunk_tickets);
    print("tickets mistyped, and refused", all->mistyped);
    print("replays", all->replays);
    print("heals", all->heals);
    print("steps of a clock", all->clock_steps);
    print("times that the staging disk was full", all->full_disks);
    print("writes that failed", all->write_errors);
    print("flushes that failed", all->flush_errors);
    print("checkpoints that the ledger did not take", all->unrecorded);
    print("transfers discarded", all->discarded);
    print("ledgers of the receiver restored from a backup", all->receiver_backups);
    print("deliveries once more behind that", all->again);
    print("states of the sender restored from a backup", all->sender_backups);
    print("transfers that it forgot by that", all->forgotten);
    print("rollbacks noticed", all->rollbacks);
    print("numbers that delivered transfers got as well", all->renumbered);
}
