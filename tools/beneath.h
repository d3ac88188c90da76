// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_TOOLS_BENEATH_H
#define DIODECAST_TOOLS_BENEATH_H

#include <stddef.h>

#include "common/status.h"

/* Reading in directories that others may fill: nothing here follows a symlink or leaves the directory. */

/* openat2(2) with RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS; adds O_CLOEXEC. -1 with errno on failure. */
int beneath_open(int dirfd, const char *path, int flags);

/*
 * Reads the regular file `path` of at most `limit` bytes into malloc'ed memory with a NUL behind it. STATUS_NOT_FOUND,
 * STATUS_INVALID (not a regular file), STATUS_LIMIT (too large), STATUS_SYSTEM (errno).
 */
MUST_CHECK enum status beneath_read(int dirfd, const char *path, size_t limit, char **bytes, size_t *size);

#endif
