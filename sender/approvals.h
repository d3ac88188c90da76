// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_SENDER_APPROVALS_H
#define DIODECAST_SENDER_APPROVALS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/status.h"
#include "proto/approval.h"
#include "proto/limits.h"
#include "sender/scan.h"

/*
 * The companion of an item: NAME.approval beside NAME, in the spool, in .sending/ID and wherever that goes. It is moved
 * in front of the item into .sending and behind it out of there, so that at no moment the item is there without it.
 * Nothing here logs. Any thread.
 */

/* The companion's name; false when `name` leaves no room for it, so that there can be none. */
bool approvals_name(const char *name, char companion[static LIMIT_COMPONENT_LENGTH + 1]);

struct approvals {
    uint8_t *bytes; /* that the bundle borrows; NULL: there are none */
    struct approval_bundle bundle;
};

/*
 * Reads what lies beside NAME in `directory_fd`; without a companion the bundle is empty. STATUS_INVALID when it is no
 * bundle, and `reason` says why; STATUS_SYSTEM, STATUS_DENIED when it can't be read (errno).
 */
MUST_CHECK enum status approvals_read(int directory_fd, const char *name, struct approvals *approvals,
                                      char reason[static 256]);
void approvals_deinit(struct approvals *approvals);

/*
 * Whether what was approved can be what is listed, by all but the content, which nobody has read yet: so that an item
 * which must be refused does not cross first. Else `difference` says what differs. True without approvals.
 */
bool approvals_fit(const struct approvals *approvals, const char *channel, const char *name,
                   const struct listing *listing, char difference[static 256]);

/* Moves the companion into .sending/ID; no companion is fine. errno on failure. */
MUST_CHECK enum status approvals_take(int from_fd, const char *name, int to_fd);
/* Moves it back; where a new one lies already, that one stays and the old one is removed. */
MUST_CHECK enum status approvals_give_back(int from_fd, const char *name, int to_fd);
/* Whether there is one. */
bool approvals_are_there(int directory_fd, const char *name);

#endif
