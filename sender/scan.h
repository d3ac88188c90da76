// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_SENDER_SCAN_H
#define DIODECAST_SENDER_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/checksum.h"
#include "common/status.h"
#include "proto/manifest.h"
#include "sender/config.h"

/*
 * Walks a claimed item and lists what is in it, in manifest order (manifest_path_compare). Follows no symlink and never
 * leaves the item (openat2, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV).
 */
struct listing_entry {
    const char *path;   /* relative to the directory that holds the item; its first component is the item's name */
    const char *target; /* symlinks, else NULL */
    uint64_t size;
    int64_t mtime_ns, ctime_ns;
    uint64_t inode;
    enum manifest_kind kind;
    bool executable;
};

struct listing {
    struct listing_entry *entries;
    size_t count;
    uint32_t artifact_count; /* file entries */
    uint64_t total_bytes;
    struct listing_pool *pool; /* holds the strings */
};

/*
 * Lists `name` in `directory_fd`. On STATUS_INVALID or STATUS_LIMIT the item must be refused and `reason` says why to
 * an operator, with the path; on STATUS_SYSTEM (unreadable, vanished) likewise.
 */
MUST_CHECK enum status scan_item(int directory_fd, const char *name, enum config_symlinks symlinks, uint64_t max_size,
                                 struct listing **listing, char reason[static 400]);
/* Whether two listings name the same paths with the same kind, size, inode, mtime and ctime; else `difference` names
 * the first that differs. */
bool scan_same(const struct listing *before, const struct listing *after, char difference[static 400]);
/* XXH3-128 over all that scan_same() compares: tells after a restart whether an item is what it was. */
void scan_fingerprint(const struct listing *listing, uint8_t fingerprint[static CHECKSUM128_SIZE]);
void scan_listing_destroy(struct listing *listing);

#endif
