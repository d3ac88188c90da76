// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_TESTS_SIM_SENDER_PRIVATE_H
#define DIODECAST_TESTS_SIM_SENDER_PRIVATE_H

#include "common/fec.h"
#include "sender/block.h"
#include "sender/group.h"
#include "sender/heartbeat.h"
#include "sender/idle.h"
#include "sender/mark.h"
#include "sender/pace.h"
#include "sender/pack.h"
#include "sender/schedule.h"
#include "tests/sim/sim.h"

/* What sender.c and lane.c share. */
enum { SIM_SPARE_BLOCKS = 4 };

struct held_block {
    struct block block; /* first member */
    uint32_t record;
    struct held_block *next;
};

struct sim_lane {
    struct held_block *blocks;
    struct held_block *empty;
    struct held_block *filled, *filled_last;
    uint64_t opened, handed, flush, sent, returned, taken, beats;
    uint64_t next_sbn, next_sequence, beat_due_ns;
    struct pace pace;
    struct group_set set;
    struct group beat;
    struct held_block beat_block;
};

enum reading_state { READING, SEALING, COPIES, COPIED, DONE };

struct reading {
    struct schedule_item item; /* first member */
    struct sim_transfer *transfer;
    enum reading_state state;
    size_t file;
    uint32_t artifact;
    uint64_t offset;
    uint32_t part_offset;
    uint64_t seal_due_ns;
    uint8_t *signed_bytes; /* the transfer's, or an abort of its own */
    size_t signed_size;
    bool aborted;
    uint64_t data_blocks[LIMIT_LANES], last_blocks[LIMIT_LANES];
    bool again; /* it has been sent before: then what of it is sent once more */
    struct sim_resend resend;
    uint64_t position, resume_at; /* in the transfer: of the packing; what is before was sent in an earlier run */
    struct mark mark;
    uint64_t chunk; /* number in the transfer of the one at `offset` */
};

struct sim_sender {
    struct sim_world *world;
    struct config config;
    uint64_t epoch;
    size_t capacity;
    struct schedule schedule;
    struct heartbeat *heartbeat;
    struct fec_cache *codes;
    struct reading *readings;
    size_t count;
    struct sim_repeat *repeat;
    uint64_t mark_ns, tick_ns; /* when the marks are recorded again, and the heartbeat is told what will be covered */
    struct idle idle;
    bool healing, heals_open; /* heals have begun this group, are in the open block */
    struct pack pack;
    struct held_block *open;
    unsigned lane, in_group;
    struct sim_lane lanes[LIMIT_LANES];
};

/* lane.c: what the send stage of a lane does. */
void sim_lane_init(struct sim_sender *sender, struct sim_lane *lane);
void sim_lane_deinit(struct sim_sender *sender, struct sim_lane *lane);
/* One step; false when the lane has nothing to do at this moment. */
bool sim_lane_run(struct sim_sender *sender, struct sim_lane *lane);
uint64_t sim_lane_deadline_ns(const struct sim_lane *lane);

#endif
