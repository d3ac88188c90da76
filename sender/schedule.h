// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_SENDER_SCHEDULE_H
#define DIODECAST_SENDER_SCHEDULE_H

#include <stdbool.h>
#include <stdint.h>

/*
 * Decides what is packed next. Transfers wait in one line per priority class, and the first of each line is the one
 * that runs. At each block boundary the highest class goes on, save that a lower class that waits gets one of
 * SCHEDULE_SHARE blocks, so that it never stands still. Announces and manifest copies that are due go first. Pure: time
 * is an argument. One thread.
 */
enum { SCHEDULE_CLASS_COUNT = 3, SCHEDULE_COPY_COUNT = 3, SCHEDULE_SHARE = 16 };

#define SCHEDULE_ANNOUNCE_NS    UINT64_C(1000000000) /* between two announces of a running transfer */
#define SCHEDULE_SECOND_COPY_NS UINT64_C(100000000)  /* after the first copy, or two group spans if that is longer */
#define SCHEDULE_THIRD_COPY_NS  UINT64_C(1000000000) /* after the second */

enum schedule_kind {
    SCHEDULE_NOTHING,
    SCHEDULE_ANNOUNCE, /* pack its announce, then schedule_announced() */
    SCHEDULE_COPY,     /* pack (the rest of) its manifest or abort, then schedule_copy_done() */
    SCHEDULE_DATA,     /* pack its data; schedule_data_done() when there is no more */
};

/* One transfer; embedded in the caller's record, which has to stay in place while it is in the schedule. */
struct schedule_item {
    struct schedule_item *next;
    uint64_t due_ns; /* of its next announce or copy */
    uint8_t class;   /* 0 is the most urgent */
    uint8_t copies;  /* complete ones */
    bool announced;
};

struct schedule_line {
    struct schedule_item *first, *last;
};

struct schedule {
    struct schedule_line classes[SCHEDULE_CLASS_COUNT];
    struct schedule_line copies[SCHEDULE_COPY_COUNT]; /* by copies made; each in order of due_ns */
    struct schedule_item *copying;                    /* a copy that has begun */
    unsigned turns[SCHEDULE_CLASS_COUNT];             /* blocks since the classes below had one */
    int class;                                        /* that the block being packed belongs to; -1: not chosen */
    bool block_begins;                                /* no class was chosen for it yet */
    uint64_t second_copy_ns;
};

/* `group_span_ns`: how long a full interleave group takes on the link; copies go to different groups. */
void schedule_init(struct schedule *schedule, uint64_t group_span_ns);

/* Puts a transfer behind those that wait in its class. */
void schedule_add(struct schedule *schedule, struct schedule_item *item, unsigned class);
/* Takes it out after its last data. It comes back by schedule_add_copies(). */
void schedule_data_done(struct schedule *schedule, struct schedule_item *item);
/* The first copy of its manifest (or abort) is due now. */
void schedule_add_copies(struct schedule *schedule, struct schedule_item *item, uint64_t now_ns);

/* What to pack next into the current block. */
enum schedule_kind schedule_next(struct schedule *schedule, uint64_t now_ns, struct schedule_item **item);
void schedule_announced(struct schedule_item *item, uint64_t now_ns);
/* A copy is complete. True when it was the last: the item is out of the schedule. */
bool schedule_copy_done(struct schedule *schedule, struct schedule_item *item, uint64_t now_ns);
/* The current block is full: the next one may go to another class. */
void schedule_block_done(struct schedule *schedule);

/* When something becomes due by time alone; UINT64_MAX: never. */
uint64_t schedule_deadline_ns(const struct schedule *schedule);
/* Takes any item out, for shutting down; NULL when the schedule is empty. */
struct schedule_item *schedule_take_any(struct schedule *schedule);

#endif
