// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_SENDER_READING_H
#define DIODECAST_SENDER_READING_H

#include <stdbool.h>
#include <stdint.h>

#include "common/digest.h"
#include "proto/frame.h"
#include "sender/resend.h"
#include "sender/schedule.h"
#include "sender/transfer.h"

/*
 * One transfer in the read stage: where it is in its listing, the hashes of what has been read, and how far the copies
 * of its manifest are. Opens and closes the files; the reads themselves are fetch.h's. What a transfer sent before a
 * restart (resume_at) is read once more, aside, to be hashed. A transfer that has its manifest at the start is read by
 * resend.h instead. One thread.
 */
struct reading {
    struct schedule_item item; /* first member */
    struct reading *previous, *next;
    struct transfer *transfer;
    bool sealed;           /* it came with its manifest */
    uint64_t repeat_of;    /* of its blocks */
    struct resend *resend; /* NULL until it begins, and when it has no manifest yet */

    /* Position of planning. */
    size_t entry;      /* of the listing */
    uint32_t artifact; /* index of the file at or behind that entry */
    uint64_t offset;   /* in that file */
    uint64_t position; /* in the transfer: bytes planned */
    int fd;            /* of it; -1 when not open */
    unsigned pieces;   /* planned and not yet taken */
    bool ended;        /* no more data is planned: all was, it was given up, or a read has failed */
    bool out_of_line;  /* out of the schedule's line of its class */

    /* What has been taken, in order. */
    size_t taken_entry; /* of the listing: the file that the next piece belongs to, or entries without data before it */
    uint32_t taken_artifact;
    struct digest *digest;
    struct checksum *checksum;
    uint64_t dropped; /* bytes of the current file that the page cache may forget */

    /* Copies of the manifest. */
    uint32_t part_offset;
    uint64_t data_blocks[LIMIT_LANES]; /* per lane: blocks that may hold data of the transfer are among so many first */
    uint64_t last_blocks[LIMIT_LANES]; /* per lane: blocks to be sent before the last copy is out */
};

enum reading_result {
    READING_DATA,  /* *data and *fd say what comes next */
    READING_ENDED, /* nothing more to read */
    READING_LATER, /* descriptors or memory are short: try again in a while */
};

/* Borrows `transfer`; makes the tables of hashes that it will own. */
struct reading *reading_create(struct transfer *transfer);
/* Closes what is open; the transfer stays. */
void reading_destroy(struct reading *reading);
/* Puts it at the end of the ring that `head` begins and ends. */
void reading_insert(struct reading *head, struct reading *reading);
/* Takes it out of its ring and destroys it. */
void reading_remove(struct reading *reading);

/* Which line it waits in. */
enum schedule_class reading_class(const struct reading *reading);

/* Moves to the next byte to be packed, opening its file: `data` lacks bytes and size. A file that is not what the scan
 * saw, or can't be opened, gives the transfer up. */
enum reading_result reading_next(struct reading *reading, struct frame_data *data, int *fd);
/* `size` bytes from there on were planned as one piece. True when it is the last of the file, which then is the
 * piece's to close. */
bool reading_planned(struct reading *reading, uint32_t size);
/* Whether what comes next has left before a restart, and is only to be hashed; then also how much of it may be the next
 * piece (after reading_next()). */
bool reading_catches_up(const struct reading *reading);
uint32_t reading_catch_up_size(const struct reading *reading, uint32_t limit);
/* Takes the bytes of a piece that has landed, in order. */
void reading_take(struct reading *reading, const uint8_t *bytes, uint32_t size, uint64_t offset, int fd);
/* A piece failed: `error` as in struct fetch_piece. */
void reading_failed(struct reading *reading, int error);
/* Everything was planned and taken, or given up and nothing is under way any more. */
bool reading_is_over(const struct reading *reading);

#endif
