// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_SENDER_RESEND_H
#define DIODECAST_SENDER_RESEND_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/frame.h"
#include "sender/transfer.h"

/*
 * The data of a transfer that has its manifest: a replay, a heal, or one that was sealed before a restart. Its listing
 * must agree with the manifest, and each chunk is read whole and checked against it before a byte of it is packed, from
 * the memory that was checked. Opens and closes the files; the reads themselves are fetch.h's. What does not agree
 * gives the transfer up: TRANSFER_REFUSED, with a reason. One thread.
 */
struct resend;

enum resend_result {
    RESEND_READ,  /* start the read that *read says, then resend_planned() */
    RESEND_WAIT,  /* reads are under way */
    RESEND_DATA,  /* a checked chunk is there: resend_data() */
    RESEND_ENDED, /* nothing more to send, and no read under way */
    RESEND_LATER, /* descriptors are short: try again in a while */
};

struct resend_read {
    int fd;
    uint64_t offset;
    uint8_t *place;
    uint32_t size;
};

/*
 * Borrows `transfer` and `scratch`, CHUNK_SIZE bytes that nobody else uses meanwhile. A transfer that can't be sent is
 * given up at once.
 */
struct resend *resend_create(struct transfer *transfer, uint8_t *scratch);
void resend_destroy(struct resend *resend); /* no read may be under way; NULL allowed */

/* What there is to do next. */
enum resend_result resend_next(struct resend *resend, struct resend_read *read);
/* The read that resend_next() said was started. */
void resend_planned(struct resend *resend, uint32_t size);
/* It has landed, in order; `error` as in struct fetch_piece. */
void resend_take(struct resend *resend, uint32_t size, int error);
/* After RESEND_DATA: what may be packed; `data` has its bytes, and all that is left of the chunk as its size. */
void resend_data(const struct resend *resend, struct frame_data *data);
/* So many bytes of it were packed. */
void resend_packed(struct resend *resend, uint32_t size);
/* Bytes of the transfer, in manifest order, that lie before what comes next. */
uint64_t resend_position(const struct resend *resend);

#endif
