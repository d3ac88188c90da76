// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_RECEIVER_TREE_H
#define DIODECAST_RECEIVER_TREE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/ring.h"
#include "common/status.h"
#include "receiver/assembly.h"
#include "receiver/intake.h"

/* The delivered directory while it is still in .staging: made from the staged artifacts, flushed, removed. */

enum tree_form {
    TREE_DELIVERY,
    TREE_HELD,     /* a delivery that is held back: with a file `reason` */
    TREE_MANIFEST, /* the same without payload/ */
};

struct tree_facts {
    enum tree_form form;
    const char *reason; /* why it is held back; NULL in a delivery */
    gid_t group;        /* the channel's, for consumers under another uid */
    bool late;
    int64_t delivered_at_ns;
    uint8_t manifest_hash[SHA256_SIZE];
};

/*
 * Makes .staging/SENDERID-TRANSFERID.tree with all that a delivery holds, with final modes (0660, 0770, 2770), group
 * and times. Large artifacts are linked in, so that the staged ones stay and a second try is possible; a leftover of an
 * earlier try is removed first. On failure *what names the step (static storage) and errno says why. Does not log.
 */
MUST_CHECK enum status tree_build(const struct intake *intake, struct assembly *assembly,
                                  const struct tree_facts *facts, const char **what);

/* Files that a tree of this transfer has, the describing ones included. */
uint64_t tree_file_count(const struct assembly *assembly);

/*
 * fsync of each file and directory of the tree, many at a time. An error here is final for the staged bytes: the kernel
 * has marked the pages clean. `form` is that of the build.
 */
MUST_CHECK enum status tree_flush(const struct intake *intake, struct assembly *assembly, enum tree_form form,
                                  struct io_uring *ring);

#define TREE_REASON_FILE "reason"

/* Removes the tree, if it is there. Failures are left to the next start. */
void tree_remove(const struct intake *intake, uint32_t sender_id, const uint8_t id[static TRANSFER_ID_SIZE]);

#endif
