// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_SENDER_READ_H
#define DIODECAST_SENDER_READ_H

#include <stdint.h>

#include "common/doorbell.h"
#include "common/mailbox.h"
#include "common/signature.h"
#include "common/status.h"
#include "sender/config.h"
#include "sender/lane.h"
#include "sender/transfer.h"

/*
 * The read stage, one thread: chooses what to send next, packs it into blocks, has artifacts read in place, hands full
 * blocks to the lanes, and hashes. A block goes out when it is read, and is not filled again before it is hashed, too:
 * mostly directly behind, later where the link would wait. A transfer passes through twice: with its data, and sealed,
 * for the copies of its manifest; one that comes with its manifest (a replay, a heal, or sealed before a restart) once,
 * its data being checked against it. Moves the marks. Stops where a lane has no empty block, so that the link's rate is
 * what drives it.
 */
struct read_stage;

struct read_setup {
    const struct config *config;
    const struct signature_key *key; /* signs announces */
    struct lane *const *lanes;       /* [config->lanes] */
    uint64_t group_span_ns;          /* of a full interleave group on one lane */
    struct doorbell *bell;           /* the stage's; rung by mailboxes and lanes */
    struct mailbox *submitted;       /* transfers from the control thread */
    struct mailbox *sealed;          /* transfers from the seal stage */
    /* Called in the stage's thread; both take the transfer. */
    void (*seal)(void *context, struct transfer *transfer);   /* all its data is read, or it was given up */
    void (*finish)(void *context, struct transfer *transfer); /* everything of it has left */
    void *context;
};

/* All pointers of `setup` are borrowed. Failures are logged. */
MUST_CHECK enum status read_start(const struct read_setup *setup, struct read_stage **stage);
/* Bytes of artifacts read so far. Any thread. */
uint64_t read_bytes(const struct read_stage *stage);
/* Ends the thread and frees; transfers inside are destroyed. NULL allowed. */
void read_stop(struct read_stage *stage);

#endif
