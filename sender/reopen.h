// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_SENDER_REOPEN_H
#define DIODECAST_SENDER_REOPEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/status.h"
#include "sender/claim.h"
#include "sender/ledger_replay.h"
#include "sender/parts.h"
#include "sender/transfer.h"

/* Takes a transfer out of .sent and the ledger once more, to be sent again. Any thread. */

enum reopen_result {
    REOPEN_GOOD,
    REOPEN_GONE,  /* what is asked of it can't be sent any more; `message` says why */
    REOPEN_LATER, /* descriptors or memory are short, or the ledger can't be read; `message` likewise */
};

/*
 * Makes a transfer of kind `kind` with the parts of it, without what lies in its first `mark` bytes. What is kept is
 * compared with the manifest by the read stage only, while it is sent.
 */
enum reopen_result reopen_transfer(const struct claim *claim, uint64_t sequence, enum transfer_kind kind,
                                   const struct parts *parts, uint64_t mark, struct transfer **transfer,
                                   char message[static LEDGER_MESSAGE_SIZE]);

/* Sizes of the artifacts that the manifest names, in its order; malloc'ed. STATUS_CORRUPT when the ledger's bytes are
 * no manifest. */
MUST_CHECK enum status reopen_sizes(struct ledger *ledger, uint64_t sequence, uint64_t **sizes, size_t *count);
/* Whether .sent still has the transfer's item. */
bool reopen_is_kept(const struct claim *claim, const struct ledger_transfer *transfer);

#endif
