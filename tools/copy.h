// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_TOOLS_COPY_H
#define DIODECAST_TOOLS_COPY_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/*
 * Copies a file or a tree for the spool. Kept are names, contents, the x bit, modification times and symlinks. Files
 * come out 0640 or 0750, directories 0770: the channel's group, which a setgid spool gives, may read, and the sender
 * take them away. What others than owner and group may do is what the source and `mask` say.
 */
struct copy {
    const volatile sig_atomic_t *stop; /* not 0: give up soon */
    mode_t mask;                       /* umask(2) */
    uint64_t byte_count;
    uint64_t file_count;
    dev_t forbidden_device; /* a directory that must not be copied: the place that the copy goes to */
    ino_t forbidden_inode;
    int code;       /* after a failure, by sysexits(3) */
    char what[512]; /* after a failure: what is wrong with which file */
};

/*
 * Copies `path` to the new name `target` in the directory `target_dirfd`; `name` is what the item will be called, which
 * the rules for names are applied to. A symlink in the place of `path` itself is followed; inside a tree they are
 * copied, when they stay inside. Everything is on disk (fsync or syncfs) when true is returned; false: see code and
 * what, and an unfinished `target` may be left.
 */
bool copy_item(struct copy *copy, const char *path, const char *name, int target_dirfd, const char *target);

#endif
