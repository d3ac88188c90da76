// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_SENDER_MARKS_H
#define DIODECAST_SENDER_MARKS_H

#include <stdint.h>

#include "sender/lane.h"
#include "sender/mark.h"
#include "sender/transfer.h"

/*
 * Moves the marks of the transfers and replays that are under way, also while the seal stage has them. Where there are
 * more large ones than MARKS_COUNT, or a transfer is small, its mark stays where it began, and a restart sends all of
 * it again. The read stage's thread only.
 */
enum { MARKS_COUNT = 64 };

struct marks {
    unsigned lanes;
    uint64_t spacing; /* bytes between two points */
    uint64_t settled[LIMIT_LANES];
    struct marked {
        struct transfer *transfer; /* NULL: free; borrowed until marks_forget() */
        struct mark mark;
    } all[MARKS_COUNT];
};

void marks_init(struct marks *marks, unsigned lanes, uint64_t spacing);
/* Everything of the transfer before `position` is in the first blocks[i] blocks of each lane i. */
void marks_packed(struct marks *marks, struct transfer *transfer, uint64_t position, const uint64_t blocks[]);
/* Looks how much the lanes have settled. */
void marks_move(struct marks *marks, struct lane *const *lanes);
/* The transfer is let go. */
void marks_forget(struct marks *marks, const struct transfer *transfer);

#endif
