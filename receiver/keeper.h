// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_RECEIVER_KEEPER_H
#define DIODECAST_RECEIVER_KEEPER_H

#include <stdbool.h>
#include <stdint.h>

#include "receiver/catalog.h"
#include "receiver/checkpoint.h"
#include "receiver/writer.h"

/*
 * The store thread's side of keeping open transfers over restarts: notes what is written, decides when which transfer
 * is recorded, and hands it to the checkpoint stage once the writes are over. A transfer that lives for less than
 * KEEPER_AFTER_NS is never recorded, and its bytes are not hashed for it unless it is so large that it will live
 * longer. Uses `kept` of the assembly and `noted` of its artifacts. One thread.
 */
struct keeper;

#define KEEPER_AFTER_NS    UINT64_C(1000000000)
#define KEEPER_INTERVAL_NS UINT64_C(1000000000) /* between two checkpoints of a transfer, unless KEEPER_BYTES came */
#define KEEPER_BYTES       (UINT64_C(64) << 20)
#define KEEPER_LARGE       (UINT64_C(256) << 20)

struct keeper_setup {
    struct checkpoint *checkpoint;
    struct writer *writer;
    struct catalog *catalog;
    /* A flush failed: the transfer's staging is of no use. It is open. */
    void (*lost)(void *context, struct assembly *assembly, int error);
    /* keeper_may_publish() would say yes now. */
    void (*publish)(void *context, struct assembly *assembly);
    void *context;
};

/* What the setup points to is borrowed. NULL when memory is short. */
struct keeper *keeper_create(const struct keeper_setup *setup);
void keeper_destroy(struct keeper *keeper); /* keeper_let_go() of all comes first */

/* Bytes that were just given to the writer. */
void keeper_hold(struct keeper *keeper, struct assembly *assembly, uint32_t index, struct assembly_artifact *artifact,
                 uint64_t offset, const uint8_t *bytes, uint32_t size, uint64_t now_ns);
/* A range of the artifact counts as missing again. Before the artifact forgets where it is placed. */
void keeper_lose(struct keeper *keeper, struct assembly *assembly, uint32_t index, uint64_t first, uint64_t end);
/* The artifact is emptied, and may be placed anew. */
void keeper_reset(struct keeper *keeper, struct assembly *assembly, uint32_t index, struct assembly_artifact *artifact);
/* The transfer was restored from the ledger. */
void keeper_adopt(struct keeper *keeper, struct assembly *assembly);
/* A manifest was bound, perhaps in the place of one that is recorded. */
void keeper_bound(const struct assembly *assembly);
/* What the ledger says of [first, end) of a staged file is not so: `file` as in partial.h. */
void keeper_deny(struct keeper *keeper, struct assembly *assembly, uint32_t file, uint64_t first, uint64_t end);

/* Four times a second: records what is due. */
void keeper_tick(struct keeper *keeper, uint64_t now_ns);
/* What the checkpoint stage says; takes the job. */
void keeper_take_result(struct keeper *keeper, struct checkpoint_job *job, uint64_t now_ns);
/* Whether a transfer with nothing missing and no write under way may go to the publish stage; false while a checkpoint
 * of it is under way, then `publish` of the setup tells. */
bool keeper_may_publish(struct keeper *keeper, struct assembly *assembly);
/* At the end: records everything of all open transfers, and forgets closed ones. No write may be under way. */
void keeper_record_all(struct keeper *keeper);

/* The assembly is about to go; its record too, unless its delivery was recorded, which does that. */
void keeper_forget(struct keeper *keeper, struct assembly *assembly, bool delivered);
/* The assembly is about to go, its record stays. */
void keeper_let_go(struct keeper *keeper, struct assembly *assembly);

#endif
