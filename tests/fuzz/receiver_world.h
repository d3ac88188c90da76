// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_TESTS_FUZZ_RECEIVER_WORLD_H
#define DIODECAST_TESTS_FUZZ_RECEIVER_WORLD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/signature.h"

/*
 * The receiver's core from a datagram to a transfer that may be published, with all that decides and nothing that does
 * I/O. What must hold at any time whatever was received is asserted in here: budgets, the account of what is held, and
 * that nothing is delivered twice or without a good signature. The last lane takes its datagrams for sealed ones.
 */
enum {
    WORLD_SENDERS = 2, /* trusted; key WORLD_SENDERS is of somebody else */
    WORLD_LANES = 2,
    WORLD_OPEN = 300,        /* transfers that may be open */
    WORLD_STAGING = 1 << 20, /* bytes of them */
    WORLD_SHARE = 192 << 10, /* bytes of memory for the blocks of one sender on one lane */
    WORLD_HELD = 64,         /* blocks that the later stages may keep back */
    WORLD_DELIVERED = 256,
};

struct world;

/* Keys and trust are the same in all worlds. */
const struct signature_key *world_key(unsigned sender);
uint32_t world_sender_id(unsigned sender);

struct world *world_create(void);
/* Lets everything end, and looks whether nothing is left. */
void world_destroy(struct world *world);

/* One datagram as it comes from the link. */
void world_receive(struct world *world, const uint8_t *bytes, size_t size);
/* The later stages run, and look at the clock. */
void world_run(struct world *world);
void world_wait(struct world *world, uint64_t duration_ns);
/* What the environment does: the free disk; blocks that the later stages keep back; how many of the verifications to
 * come find damage. */
void world_set_free(struct world *world, uint64_t bytes);
void world_hold_back(struct world *world, unsigned blocks);
void world_damage(struct world *world, unsigned verifications);

#endif
