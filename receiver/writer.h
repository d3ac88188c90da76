// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_RECEIVER_WRITER_H
#define DIODECAST_RECEIVER_WRITER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/ring.h"
#include "receiver/assembly.h"
#include "receiver/block.h"
#include "receiver/intake.h"

/*
 * Writes artifact bytes to staging by io_uring, straight from the memory of the blocks they came in. Failures do not
 * come back from the call that wrote, but through writer_next_loss(), so that no caller is changed under its feet.
 * Uses `stage` of the assembly and `file`, `placed`, `place` of its artifacts. One thread, which owns the ring.
 */
struct writer;

enum {
    WRITER_FILES = 256,       /* open at a time */
    WRITER_OPERATIONS = 1024, /* under way at a time */
};

/* Artifacts from here on are written with RWF_DONTCACHE where that is to be had, so that a large one does not push
 * everything else out of the page cache. */
#define WRITER_UNCACHED (UINT64_C(256) << 20)

/* A block that is in use: by the caller while it unpacks, and by each write from its memory. */
struct writer_block {
    struct block *block;
    void *owner; /* the caller's */
    unsigned uses;
    struct writer_block *next; /* the caller's, while it is not in use */
};

struct writer_setup {
    const struct intake *intake;
    struct io_uring *ring;
    bool reads_back; /* much of what is written is soon read again: it stays in the page cache */
    void (*release)(void *context, struct writer_block *block); /* nothing uses it any more */
    void (*wait)(void *context); /* submit, wait for at least one completion, pass all to writer_complete() */
    void *context;
};

struct writer *writer_create(const struct writer_setup *setup);
void writer_destroy(struct writer *writer); /* nothing may be under way */

/* Queues the bytes, which lie in the block's memory. What continues a file goes into one operation, also from several
 * blocks, which is submitted when it is large enough. */
void writer_put(struct writer *writer, struct assembly *assembly, uint32_t index, struct assembly_artifact *artifact,
                uint64_t offset, const uint8_t *bytes, uint32_t size, struct writer_block *block);
/* Makes a submission of what was put and not yet made one: after each turn of blocks. */
void writer_flush(struct writer *writer);
void writer_unuse(struct writer *writer, struct writer_block *block);
/* A completion whose user data is not the caller's own. */
void writer_complete(struct writer *writer, const struct io_uring_cqe *cqe);
unsigned writer_under_way(const struct writer *writer);

/* A range that did not get to the disk. */
struct writer_loss {
    struct assembly *assembly; /* may be closed meanwhile */
    uint32_t index;
    uint64_t first, end;
    unsigned generation; /* the writer's */
    int error;           /* errno */
};
bool writer_next_loss(struct writer *writer, struct writer_loss *loss);

/* All that was put up to now is over, whatever came of it, once the writer has passed the ticket of now. */
uint64_t writer_ticket(const struct writer *writer);
bool writer_has_passed(const struct writer *writer, uint64_t ticket);
uint64_t writer_oldest_ns(const struct writer *writer); /* since when the oldest write is under way; 0: none is */
/* A transfer that is held is not idle. */
void writer_hold(struct writer *writer, struct assembly *assembly);
void writer_unhold(struct writer *writer, struct assembly *assembly);

/* Asks to be told by writer_next_idle() when no write of the transfer is under way and no loss is unreported. */
void writer_when_idle(struct writer *writer, struct assembly *assembly);
struct assembly *writer_next_idle(struct writer *writer);

/*
 * A cut divides what was put so far from what is put afterwards. writer_is_settled() is true once all writes in front
 * of the last cut are over and their losses were taken; only then may the next cut be made.
 */
void writer_cut(struct writer *writer, struct assembly *assembly);
bool writer_is_settled(const struct writer *writer, const struct assembly *assembly);

/* The transfer is from an earlier run: its file of small artifacts ends at `small_size`, and its directory may be
 * there.
 */
void writer_restore(struct writer *writer, struct assembly *assembly, uint64_t small_size, bool has_directory);

/* The artifacts' memory is about to go. */
void writer_detach(struct writer *writer, struct assembly *assembly);
/* Closes the files of an idle transfer. */
void writer_close_files(struct writer *writer, struct assembly *assembly);
/* Lets an idle transfer go. With `trash` (32 bytes) its staged bytes are renamed out of the way and the name is stored
 * there, "" when there are none; with NULL they stay. */
void writer_forget(struct writer *writer, struct assembly *assembly, char *trash);

#endif
