// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_RECEIVER_RESTORE_H
#define DIODECAST_RECEIVER_RESTORE_H

#include <stdint.h>

#include "common/status.h"
#include "receiver/catalog.h"
#include "receiver/intake.h"
#include "receiver/keeper.h"
#include "receiver/ledger.h"
#include "receiver/writer.h"

/*
 * Opens the recorded transfers of an earlier run again: what was said of them, their manifests, and the ranges whose
 * files are there and long enough. Nothing is read of the files: what is damaged in them the verification finds, before
 * anything is published. What can't be opened again (its sender is not trusted any more, or a bound is lower) is
 * forgotten and its staging removed.
 */
struct restore {
    struct ledger *ledger; /* all borrowed */
    const struct intake *intake;
    struct catalog *catalog;
    struct writer *writer;
    struct keeper *keeper;
    const struct trust *trust;
    /* A transfer that can't be opened again. */
    void (*refused)(void *context, const struct ledger_key *key);
    void *context;
};

/* Store thread, before the first block. Logs; what fails costs no more than the transfer it concerns. */
void restore_run(const struct restore *restore, uint64_t now_ns);

#endif
