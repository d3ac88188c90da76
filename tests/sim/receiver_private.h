// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_TESTS_SIM_RECEIVER_PRIVATE_H
#define DIODECAST_TESTS_SIM_RECEIVER_PRIVATE_H

#include "common/fec.h"
#include "receiver/catalog.h"
#include "receiver/checkpoint.h"
#include "receiver/epochs.h"
#include "receiver/intake.h"
#include "receiver/keeper.h"
#include "receiver/knowledge.h"
#include "receiver/ledger_partial.h"
#include "receiver/missing.h"
#include "receiver/progress.h"
#include "receiver/renumber.h"
#include "receiver/unpack.h"
#include "receiver/writer.h"
#include "tests/sim/sim.h"

/* What receiver.c, disk.c, ledger.c, publish.c and survey.c share. Transfers are known by their place in the world. */
enum { SIM_CLOSED = 64, SIM_ALARMS = 2 };

/* The model disk. */
struct staged_file {
    uint32_t number; /* PARTIAL_SMALL: of small artifacts */
    uint64_t size, capacity;
    uint8_t *bytes, *states; /* of each byte */
};
enum { BYTE_ABSENT, BYTE_DIRTY, BYTE_DURABLE };
struct staged {
    bool exists;
    struct staged_file *files;
    size_t count;
};
struct sim_disk {
    struct sim_world *world;
    struct staged *staged; /* of each transfer */
    bool *trees, *visible; /* its delivery before the rename, and in the intake */
};
struct staged_file *sim_disk_find(struct sim_disk *disk, size_t transfer, uint32_t number);
void sim_disk_write(struct sim_disk *disk, size_t transfer, uint32_t number, uint64_t offset, const uint8_t *bytes,
                    uint64_t size);
void sim_disk_remove(struct sim_disk *disk, size_t transfer);

/* The model ledger: what restore.c and the checkpoint stage of the receiver know as struct ledger. */
struct record {
    bool exists;
    uint64_t order;
    struct ledger_partial head;
    uint8_t **entries; /* of each checkpoint */
    size_t *sizes;
    size_t count;
};
struct ledger {
    struct sim_world *world;
    bool has_chain;
    struct knowledge_chain chain;
    enum { LEDGER_NOTHING, LEDGER_PUBLISHING, LEDGER_DELIVERED } * deliveries;
    uint64_t *sequences; /* of the deliveries; 0: of a number that was given anew */
    struct extents had;  /* numbers that delivered transfers have as well */
    struct record *records;
    uint64_t order;
    bool has_alarm[SIM_ALARMS];
    struct knowledge_alarm alarms[SIM_ALARMS];
};
void sim_ledger_end(struct ledger *ledger, size_t transfer, bool delivered, uint64_t sequence);
void sim_ledger_forget_partial(struct ledger *ledger, size_t transfer);

/* What stands in for the writer and the checkpoint stage. */
struct writer {
    struct sim_receiver *receiver;
    struct pending_write *pending;
    size_t count, capacity;
};
struct pending_write {
    struct assembly *assembly;
    size_t transfer;
    uint32_t index, file;
    uint64_t offset, at; /* in the artifact, and in the file */
    uint8_t *bytes;
    uint32_t size;
    uint64_t due_ns;
    bool before_cut;
};
struct staging {
    size_t transfer;
    uint64_t small_size;
    unsigned pending;
    bool wants_idle;
};
struct staging *sim_writer_staging(struct writer *writer, struct assembly *assembly);
void sim_writer_put(struct writer *writer, struct assembly *assembly, uint32_t index,
                    struct assembly_artifact *artifact, uint64_t offset, const uint8_t *bytes, uint32_t size);
/* Lets land what is due. */
void sim_writer_run(struct writer *writer);
uint64_t sim_writer_deadline_ns(const struct writer *writer);
/* The process ends: each write that is under way has landed or has not. */
void sim_writer_end(struct writer *writer);

struct checkpoint {
    struct sim_receiver *receiver;
    struct checkpoint_work {
        struct checkpoint_job *job;
        uint64_t due_ns;
    } * queue;
    size_t count, capacity;
};
void sim_checkpoint_run(struct checkpoint *checkpoint);
uint64_t sim_checkpoint_deadline_ns(const struct checkpoint *checkpoint);
void sim_checkpoint_end(struct checkpoint *checkpoint);

struct publishing {
    struct assembly *assembly;
    enum { PUBLISH_VERIFY, PUBLISH_INTENT, PUBLISH_RENAME, PUBLISH_RECORD } step;
    uint64_t due_ns;
};

struct sim_receiver {
    struct intake intake; /* first member, so that the stand-ins find the rest */
    struct sim_world *world;
    struct ledger *ledger;
    struct sim_disk *disk;
    bool tampered; /* ledger and disk are not of one time: what is staged may be something else */
    bool full;
    uint32_t sender_id;
    struct lane_progress *progress;
    struct epochs *lanes[LIMIT_LANES];
    struct fec_cache *codes;
    struct unpack unpack;
    struct catalog *catalog;
    struct knowledge *knowledge;
    struct keeper *keeper;
    struct renumber *renumber;
    struct missing *missing;
    struct writer writer;
    struct checkpoint checkpoint;
    struct publishing publishing[SIM_CLOSED];
    unsigned publishing_count;
    struct assembly *closed[SIM_CLOSED];
    unsigned closed_count;
    uint64_t now_ns; /* of the block that is unpacked */
    uint64_t tick_ns, settle_ns, store_ns;
    struct sim_errand *errand; /* while it is surveyed */
};
size_t sim_receiver_transfer(const struct sim_receiver *receiver, const uint8_t *id);
/* Nothing of it is being written any more. */
void sim_receiver_idle(struct sim_receiver *receiver, struct assembly *assembly);
void sim_receiver_lose(struct sim_receiver *receiver, struct assembly *assembly, uint32_t index, uint64_t first,
                       uint64_t end);

/* survey.c: the numbers never seen, which are told as soon as a heartbeat settles them. */
void sim_receiver_survey_numbers(struct sim_receiver *receiver);

/* publish.c: the steps to a delivery. */
void sim_publish_post(struct sim_receiver *receiver, struct assembly *assembly);
void sim_publish_run(struct sim_receiver *receiver);
uint64_t sim_publish_deadline_ns(const struct sim_receiver *receiver);
/* At the start: ends the deliveries that were interrupted, and removes what nobody needs. */
void sim_publish_recover(struct sim_receiver *receiver);

#endif
