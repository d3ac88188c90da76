// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_SENDER_FILING_H
#define DIODECAST_SENDER_FILING_H

#include <stdbool.h>
#include <stdint.h>

#include "common/status.h"
#include "proto/identity.h"
#include "proto/limits.h"
#include "sender/spooldirs.h"

/*
 * Moves items between the spool and its hidden directories. Nothing here logs; errno is set on failure. Where "synced"
 * is not said the caller flushes the directories itself, once for a batch. Any thread.
 */

/* Makes .sending/ID and moves CHANNEL/NAME.approval, if there is one, and CHANNEL/NAME into it; *directory_fd is
 * .sending/ID. Undone on failure. STATUS_NOT_FOUND when there is no such item. */
MUST_CHECK enum status filing_take(const struct spooldirs *dirs, int channel_fd, const char *name,
                                   const uint8_t id[static TRANSFER_ID_SIZE], int *directory_fd);

/*
 * Moves .sending/ID/NAME back to CHANNEL/NAME, then its approvals, and removes .sending/ID; synced. STATUS_EXISTS when
 * the name is taken meanwhile.
 */
MUST_CHECK enum status filing_give_back(const struct spooldirs *dirs, const uint8_t id[static TRANSFER_ID_SIZE],
                                        const char *channel_directory, const char *name);

/* Likewise of approvals whose item is not in .sending/ID: the claim did not get further. */
MUST_CHECK enum status filing_give_back_approvals(const struct spooldirs *dirs,
                                                  const uint8_t id[static TRANSFER_ID_SIZE],
                                                  const char *channel_directory, const char *name);

/* .sending/ID becomes .failed/ID, with the file `reason` in it; synced. */
MUST_CHECK enum status filing_refuse(const struct spooldirs *dirs, const uint8_t id[static TRANSFER_ID_SIZE],
                                     const char *name, const char *reason);

/* .sending/ID becomes .sent/ID. */
MUST_CHECK enum status filing_sent(const struct spooldirs *dirs, const uint8_t id[static TRANSFER_ID_SIZE]);

/*
 * The channel's directory to which an item goes back: "" is the spool itself, where only files of channel "default" can
 * have been dropped.
 */
const char *filing_directory(const char *channel, bool in_root);

#endif
