// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_SENDER_PROBE_H
#define DIODECAST_SENDER_PROBE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/status.h"

/*
 * Looks at an item in the spool without touching it: what it is, when it changed last, and whether somebody has a file
 * of it open for writing (F_SETLEASE, fcntl(2)). Follows no symlink.
 */
enum probe_writers {
    PROBE_NO_WRITER,
    PROBE_WRITER,
    PROBE_UNKNOWN, /* leases are not to be had: another owner and no CAP_LEASE, or a file system without them */
};

struct probe {
    bool tree; /* a directory */
    uid_t owner;
    uint64_t device, inode;
    uint64_t bytes;       /* of all files */
    uint64_t fingerprint; /* of all names, sizes, inodes and times */
    int64_t changed_ns;   /* newest mtime or ctime in it, CLOCK_REALTIME */
    int64_t root_ctime_ns;
    enum probe_writers writers;
};

/* Called for each directory of the item, top down; `fd` is borrowed and readable, `path` relative to the item's
 * parent. */
typedef void probe_directory(int fd, const char *path, void *context);

/*
 * STATUS_NOT_FOUND when the item vanished. Parts that can't be read are passed over: the scan names them after the
 * claim. `writers` is looked for only on request, since it opens every file. `directory` may be NULL. Any thread.
 */
MUST_CHECK enum status probe_item(int directory_fd, const char *name, bool look_for_writers, probe_directory *directory,
                                  void *context, struct probe *probe);

#endif
