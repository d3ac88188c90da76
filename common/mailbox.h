// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_COMMON_MAILBOX_H
#define DIODECAST_COMMON_MAILBOX_H

#include <stddef.h>

#include "common/doorbell.h"

/*
 * Unbounded first-in first-out list of messages from any thread to one; for control traffic, not for the data plane. A
 * message embeds a struct mailbox_entry as its first member and belongs to the receiver once posted.
 */
struct mailbox_entry {
    struct mailbox_entry *next;
};

struct mailbox;

/* `bell` is rung on each post; borrowed, may be NULL and may be shared with queues of the same consumer. */
struct mailbox *mailbox_create(struct doorbell *bell);
void mailbox_destroy(struct mailbox *mailbox); /* must be empty */
void mailbox_post(struct mailbox *mailbox, struct mailbox_entry *entry);
struct mailbox_entry *mailbox_take(struct mailbox *mailbox); /* NULL when empty */

#endif
