// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_SENDER_ARTIFACT_H
#define DIODECAST_SENDER_ARTIFACT_H

#include "sender/scan.h"

/*
 * Opens an artifact of a claimed item for reading, without waiting and without leaving the item. Returns the
 * descriptor, or a negative errno value; -ESTALE when the file is no longer what the listing says.
 */
int artifact_open(int directory_fd, const struct listing_entry *entry);
/* Whether the error of artifact_open() is a shortage that goes by. */
bool artifact_error_passes(int error);

#endif
