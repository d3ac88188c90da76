// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_SENDER_SCHEDULE_H
#define DIODECAST_SENDER_SCHEDULE_H

#include <stdbool.h>
#include <stdint.h>

/*
 * Decides what is packed next. Transfers wait in one line per class, and the first of each line is the one that runs.
 * At each block boundary the highest class goes on, save that a lower class that waits gets a share of the blocks, so
 * that it never stands still. Announces and manifest copies that are due go first; those of replays and heals only in
 * their own class's turn. Heals have no share: they go on where nothing else has anything to pack, if the caller lets
 * them. Pure: time is an argument. One thread.
 */
enum schedule_class {
    SCHEDULE_NOW,  /* replays that go before everything else */
    SCHEDULE_HIGH, /* the three priorities, in their order */
    SCHEDULE_NORMAL,
    SCHEDULE_LOW,
    SCHEDULE_REPLAY,
    SCHEDULE_HEAL,
    SCHEDULE_CLASS_COUNT
};

enum {
    SCHEDULE_COPY_COUNT = 3,
    SCHEDULE_SHARE = 16,     /* the lower classes get one of so many blocks, where no other share is configured */
    SCHEDULE_RANK_COUNT = 3, /* of copies: those that go first, those of replays, those of heals */
};

#define SCHEDULE_ANNOUNCE_NS    UINT64_C(1000000000) /* between two announces of a running transfer */
#define SCHEDULE_SECOND_COPY_NS UINT64_C(100000000)  /* after the first copy, or two group spans if that is longer */
#define SCHEDULE_THIRD_COPY_NS  UINT64_C(1000000000) /* after the second */

enum schedule_kind {
    SCHEDULE_NOTHING,
    SCHEDULE_WAIT,     /* nothing at this moment, but the data of *item will be there directly */
    SCHEDULE_ANNOUNCE, /* pack its announce, then schedule_announced() */
    SCHEDULE_COPY,     /* pack (the rest of) its manifest or abort, then schedule_copy_done() */
    SCHEDULE_DATA,     /* pack its data; schedule_data_done() when there is no more */
};

/* Of an item in its line: whether it has something to pack. The caller sets it. */
enum schedule_state {
    SCHEDULE_READY,
    SCHEDULE_SOON,  /* reads are under way: worth waiting for with a block open */
    SCHEDULE_LATER, /* not for long: meanwhile all goes as if the line were empty */
};

/* One transfer; embedded in the caller's record, which has to stay in place while it is in the schedule. */
struct schedule_item {
    struct schedule_item *next; /* behind it in its line; the caller may look */
    uint64_t due_ns;            /* of its next announce or copy */
    uint8_t class;              /* enum schedule_class */
    uint8_t copies;             /* complete ones */
    bool announced;
    enum schedule_state state;
};

struct schedule_line {
    struct schedule_item *first, *last;
};

struct schedule {
    struct schedule_line classes[SCHEDULE_CLASS_COUNT];
    struct schedule_line copies[SCHEDULE_RANK_COUNT][SCHEDULE_COPY_COUNT]; /* by copies made; each in order of due_ns */
    struct schedule_item *copying[SCHEDULE_RANK_COUNT];                    /* copies that have begun */
    unsigned share;                                                        /* of the lower classes, per 10,000 */
    unsigned turns[SCHEDULE_CLASS_COUNT]; /* what the classes below have earned, per 10,000 of a block */
    int class;                            /* that the block being packed belongs to; -1: not chosen */
    bool block_begins;                    /* no class was chosen for it yet */
    uint64_t second_copy_ns;
};

/*
 * `group_span_ns`: how long a full interleave group takes on the link; copies go to different groups. `share_percent`:
 * blocks that the classes below a busy one get together; 0: one of SCHEDULE_SHARE.
 */
void schedule_init(struct schedule *schedule, uint64_t group_span_ns, unsigned share_percent);

/* Puts a transfer behind those that wait in its class, ready. */
void schedule_add(struct schedule *schedule, struct schedule_item *item, enum schedule_class class);
/* Takes it out after its last data. It comes back by schedule_add_copies(). */
void schedule_data_done(struct schedule *schedule, struct schedule_item *item);
/* The first copy of its manifest (or abort) is due now. */
void schedule_add_copies(struct schedule *schedule, struct schedule_item *item, uint64_t now_ns);

/* What to pack next into the current block. `may_heal`: heals may begin or go on. */
enum schedule_kind schedule_next(struct schedule *schedule, uint64_t now_ns, bool may_heal,
                                 struct schedule_item **item);
/* Also for items behind the one that was named, whose announce went along. */
void schedule_announced(struct schedule_item *item, uint64_t now_ns);
/* A copy is complete. True when it was the last: the item is out of the schedule. */
bool schedule_copy_done(struct schedule *schedule, struct schedule_item *item, uint64_t now_ns);
/* The current block is full: the next one may go to another class. */
void schedule_block_done(struct schedule *schedule);

/*
 * After a copy of an item of `class`: whether nothing else of that class or above has anything to pack, now
 * or directly, but a lower one has, so that what follows would only be in the way of the item.
 */
bool schedule_is_urgent_end(const struct schedule *schedule, enum schedule_class class, uint64_t now_ns);

/* The transfer that runs in a class, NULL if there is none. */
struct schedule_item *schedule_first(const struct schedule *schedule, enum schedule_class class);
/* When something becomes due by time alone, heals being let from `heal_ns` on; UINT64_MAX: never. */
uint64_t schedule_deadline_ns(const struct schedule *schedule, uint64_t now_ns, uint64_t heal_ns);
/* Takes any item out, for shutting down; NULL when the schedule is empty. */
struct schedule_item *schedule_take_any(struct schedule *schedule);

#endif
