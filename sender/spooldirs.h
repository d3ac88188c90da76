// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_SENDER_SPOOLDIRS_H
#define DIODECAST_SENDER_SPOOLDIRS_H

#include "common/status.h"

/* The directories of the spool, open for the life of the daemon; immutable, so shared by threads. */
struct spooldirs {
    const char *path; /* borrowed */
    int root, sending, sent, failed;
};

/* Opens the spool and makes .sending, .sent and .failed (0700) where they are missing. Problems are logged with what
 * to do. */
MUST_CHECK enum status spooldirs_open(const char *path, struct spooldirs *dirs);
void spooldirs_close(struct spooldirs *dirs);

/*
 * Opens a channel's directory for reading; "" is the spool itself. -1 with errno on failure. A symlink is none.
 */
int spooldirs_channel(const struct spooldirs *dirs, const char *channel);
/* NULL when `channel`'s file system tells local events and leases of all writers, else its kind ("NFS"). */
const char *spooldirs_network_kind(int fd);

#endif
