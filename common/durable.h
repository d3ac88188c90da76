// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_COMMON_DURABLE_H
#define DIODECAST_COMMON_DURABLE_H

#include <stddef.h>
#include <sys/types.h>

#include "common/status.h"

/* Changes of the file system that must survive a power cut. Nothing here logs: the caller knows whose transfer it was.
 */

/* fsync of the directory `path` relative to `dirfd`; of dirfd itself when path is NULL. */
MUST_CHECK enum status durable_sync_directory(int dirfd, const char *path);
/* Writes a file under a temporary hidden name, fsyncs, renames over `name`, fsyncs the directory. */
MUST_CHECK enum status durable_write_file(int dirfd, const char *name, const void *bytes, size_t size, mode_t mode);
/* mkdir and fsync of the parent; an existing directory is fine. The mode is set exactly (fchmod), whatever the umask.
 */
MUST_CHECK enum status durable_make_directory(int dirfd, const char *name, mode_t mode);
/* renameat2(RENAME_NOREPLACE), then fsync of both parents. */
MUST_CHECK enum status durable_rename(int from_dirfd, const char *from, int to_dirfd, const char *to);
/* Removes a tree without following symlinks or leaving it; a missing one is fine. Not durable: what is half-removed is
 * removed at the next start. */
MUST_CHECK enum status durable_remove_tree(int dirfd, const char *name);
/* Reads a whole file of at most `limit` bytes into malloc'ed memory with a NUL behind it. STATUS_LIMIT when larger. */
MUST_CHECK enum status durable_read_file(int dirfd, const char *name, size_t limit, char **bytes, size_t *size);

#endif
