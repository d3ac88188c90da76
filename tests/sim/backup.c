// SPDX-License-Identifier: Apache-2.0
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/sim.h"

/*
 * An older copy of the sender's state in the place of the newer one. Numbers that were given since are given anew, and
 * what was claimed or sent since is not known any more: it lies in the spool's private directories. What was claimed
 * before and is not sent yet goes on; it gets a number once more if it had one.
 */
struct sim_backup {
    uint64_t newest_sequence;
    uint8_t newest_hash[SHA256_SIZE];
    size_t replay_count;
    struct sim_transfer transfers[]; /* of each the fields that the ledger keeps; their bytes are not owned */
};

struct sim_backup *sim_backup_take(const struct sim_world *world)
{
    struct sim_backup *backup = calloc(1, sizeof *backup + world->transfer_count * sizeof backup->transfers[0]);
    assert(backup != NULL);
    backup->newest_sequence = world->newest_sequence;
    memcpy(backup->newest_hash, world->newest_hash, SHA256_SIZE);
    backup->replay_count = world->replay_count;
    memcpy(backup->transfers, world->transfers, world->transfer_count * sizeof backup->transfers[0]);
    return backup;
}

void sim_backup_destroy(struct sim_backup *backup)
{
    free(backup);
}

static void put_back(struct sim_transfer *transfer, const struct sim_transfer *old)
{
    if (!transfer->submitted || old->sent)
        return;
    if (!old->submitted || transfer->sent) {
        transfer->gone = transfer->sent = true;
        sim_statistics.forgotten++;
        return;
    }
    if (old->sequence == 0 && transfer->sequence != 0) {
        free(transfer->signed_bytes);
        transfer->signed_bytes = NULL;
        transfer->sequence = 0;
    }
    transfer->mark = old->mark;
}

void sim_backup_restore(struct sim_world *world, const struct sim_backup *backup)
{
    world->newest_sequence = backup->newest_sequence;
    memcpy(world->newest_hash, backup->newest_hash, SHA256_SIZE);
    for (size_t i = 0; i < world->transfer_count; i++)
        put_back(&world->transfers[i], &backup->transfers[i]);
    world->replay_count = backup->replay_count;
    for (size_t i = 0; i < world->replay_count; i++)
        if (world->replays[i].transfer->gone)
            world->replays[i].state = SIM_DONE;
    sim_statistics.sender_backups++;
    sim_say(world, "the sender's state is put back to sequence %llu", (unsigned long long)world->newest_sequence);
}
