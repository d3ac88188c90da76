// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_SENDER_CONTROL_H
#define DIODECAST_SENDER_CONTROL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/doorbell.h"
#include "common/mailbox.h"
#include "common/status.h"
#include "sender/carrier.h"
#include "sender/claim.h"
#include "sender/pipeline.h"
#include "sender/requests.h"
#include "sender/settle.h"
#include "sender/spool.h"
#include "sender/status.h"

/*
 * The control thread (libuv): events of the spool and requests, carrier, status file, signals; and the order in which
 * the modules that have workers get their turn.
 *
 *     spool → settle → claiming ─────→ pipeline_submit … finished mailbox → finishing → .sent, .failed, spool
 *     .requests → repeat (replays) ──↗                                  ↘ repeat → ledger
 *     idle link → repeat (heals) ────↗
 */
struct control;

/* All borrowed; `carrier` is NULL where it is not looked at. */
struct control_setup {
    const struct claim *claim;
    struct settle *settle;
    struct spool *spool;
    struct requests *requests;
    struct pipeline *pipeline;
    struct mailbox *finished;
    struct doorbell *bell; /* of `finished` */
    struct carrier *carrier;
    struct status_board *board;
    bool once;                /* end when what was there at the start is sent */
    size_t descriptor_limit;  /* RLIMIT_NOFILE */
    uint64_t newest_sequence; /* at the start */
};

MUST_CHECK enum status control_create(const struct control_setup *setup, struct control **control);
/* Takes the transfers of the last run and submits them; once, before pipeline_start() and control_run(). */
void control_resume(struct control *control, struct transfer *const *transfers, size_t count);
/*
 * Runs until SIGTERM or SIGINT, or with `once` until all is sent. Returns false when not all was: items were refused or
 * could not be claimed, or a signal came first (once only).
 */
bool control_run(struct control *control);
/* After the pipeline was stopped: files what it had finished. */
void control_destroy(struct control *control);

#endif
