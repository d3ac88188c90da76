// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_RECEIVER_HASHER_H
#define DIODECAST_RECEIVER_HASHER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/cpus.h"
#include "common/doorbell.h"
#include "receiver/assembly.h"
#include "receiver/intake.h"
#include "receiver/writer.h"

/*
 * SHA-256 of artifacts while they arrive, on a thread of its own that goes through each artifact from its start. What
 * continues the hashed part is taken from the memory of its block, which is held until then. What is ahead of it,
 * because several lanes carry one artifact or because the thread is behind, is read back once it was written. A bounded
 * number of artifacts is hashed at a time; whichever has to stop is read by the verifier. It comes before the
 * thread that brings it work, because what waits for it holds the memory that is needed. All calls but hasher_create()
 * and hasher_destroy() from that one thread, the store's; the digest of an artifact in state PUBLISHING belongs to the
 * publish stage.
 */
struct hasher;

/* All files of a group of blocks, which become whole within moments; below 2^16. */
enum { HASHER_STATES = 1024 };
/* Data so far behind a hole waits for the verifier: two groups of all lanes at 10 Gbit/s are less. */
#define HASHER_AHEAD (UINT64_C(256) << 20)

struct hasher_setup {
    const struct intake *intake; /* borrowed, as all here */
    struct doorbell *bell;       /* rung when hasher_settle() has something to do */
    size_t memory;               /* bytes of blocks that are held for hashing; what comes beyond is read back */
    const struct cpus *cpus;     /* the thread's is that of number `cpu_index`; NULL: none */
    unsigned cpu_index;
};

/* NULL, with errno set, when there is no memory or no thread. In the main thread, as it gives a nice value. */
struct hasher *hasher_create(const struct hasher_setup *setup);
/* Borrowed; before the first hasher_take(). */
void hasher_set_writer(struct hasher *hasher, struct writer *writer);
void hasher_destroy(struct hasher *hasher); /* nothing may be under way; NULL allowed */

/* Takes bytes that were just given to the writer and counted as held; they lie in the memory of `block`. */
void hasher_take(struct hasher *hasher, struct assembly *assembly, struct assembly_artifact *artifact, uint32_t index,
                 uint64_t offset, const uint8_t *bytes, uint32_t size, struct writer_block *block);
/* Nothing is missing of the transfer any more: it is not idle for the writer before what can be hashed is. */
void hasher_finish(struct hasher *hasher, struct assembly *assembly);
/* What was hashed of the artifact is void, for good. */
void hasher_drop(struct hasher *hasher, struct assembly_artifact *artifact);
/* Takes back all states of a transfer whose artifacts are still there; what was not finished is void. */
void hasher_forget(struct hasher *hasher, const struct assembly *assembly);

/* Takes back what was hashed, and has read what was written meanwhile. After each turn of blocks and completions. */
void hasher_settle(struct hasher *hasher);
bool hasher_has_results(const struct hasher *hasher);
bool hasher_is_busy(const struct hasher *hasher); /* results are still to come */

#endif
