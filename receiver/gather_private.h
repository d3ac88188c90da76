// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_RECEIVER_GATHER_PRIVATE_H
#define DIODECAST_RECEIVER_GATHER_PRIVATE_H

#include <stddef.h>

#include "receiver/arena.h"
#include "receiver/gather.h"
#include "receiver/trail.h"

/* What gather.c, gather_window.c and gather_state.c share. */

enum {
    WINDOW_SLACK = 64,  /* SBNs beside twice the depth, for short groups */
    TABLE_SIZE = 16384, /* slots, by SBN; a power of two */
};

/* Groups may overlap where someone forges them: the blocks of an older one reach beyond the end of the newest. While
 * the window is on probation SBNs may lie further apart, and share slots. */
_Static_assert(3 * LIMIT_DEPTH + WINDOW_SLACK <= TABLE_SIZE, "no two SBNs of the window share a slot");
_Static_assert((TABLE_SIZE & (TABLE_SIZE - 1)) == 0, "a remainder is a mask");
_Static_assert(TRAIL_SAMPLES *TRAIL_STEP_NS > GATHER_GIVE_UP_NS, "the trail reaches back far enough");
_Static_assert((int)GATHER_WINDOW_MAX == 2 * (int)LIMIT_DEPTH + (int)WINDOW_SLACK, "the widest window fits a state");

enum block_state {
    STATE_FREE,    /* of an entry: its memory can be reused once all older entries are free; of a slot: nothing known */
    STATE_OPEN,    /* fewer than k symbols */
    STATE_WAITING, /* complete, behind an incomplete one of the newest group */
    STATE_READY,   /* complete, to be popped; of a slot: or popped */
    STATE_HELD,    /* of an entry: popped */
    STATE_OVER,    /* returned, or given up */
};

/* Memory of one block: this header, then the symbols. */
struct entry {
    struct block block; /* first, so that a block leads to its entry */
    struct entry *next; /* in the list of ready ones */
    struct arena *arena;
    uint64_t touched_ns; /* newest datagram */
    enum block_state state;
    uint32_t conflicts;
    uint16_t depth, group_index;
    _Alignas(ARENA_ALIGNMENT) uint8_t symbols[];
};

struct slot {
    uint64_t sbn;
    struct entry *entry; /* while open, waiting, ready or held */
    uint8_t state;       /* enum block_state */
    uint8_t answer;      /* enum datagram_drop for further symbols of a block that is over */
    uint8_t missed;      /* symbols dropped for want of memory */
};

struct group {
    uint64_t base;
    uint16_t depth; /* 0: unused */
    uint16_t symbol_size;
    uint64_t accepted, conflicts;
};

/* Groups above the one that the window belongs to were seen, and not yet enough of them for it to follow. */
struct probation {
    bool on;
    bool leapt;          /* one of them does not begin where the one before ends… */
    uint64_t line_end;   /* …which was here */
    struct group proven; /* as it was; base and depth hold */
    uint16_t previous_depth;
    unsigned ahead, behind; /* datagrams of the newest group, and of lower ones; since the last leap */
};

struct gather {
    uint64_t epoch;
    uint32_t sender_id;
    uint8_t lane;
    bool sealed; /* datagrams are authenticated, so the sender itself says where the window is */

    struct arena arenas[2];
    unsigned active; /* index of the arena that new blocks go to */

    bool anchored; /* a first group was seen: the following hold */
    struct group groups[GATHER_GROUPS];
    unsigned newest, oldest_group; /* indexes */
    uint16_t previous_depth;
    uint64_t floor;        /* lowest SBN of the window */
    uint64_t counted_from; /* blocks from here on that leave the window without a datagram count as given up */
    uint64_t jumped;       /* of these, what the last step of the window counted */
    uint64_t order_next;   /* lowest SBN of the newest group that is neither released nor over */
    uint64_t passed;       /* cache of gather_passed_sbn() before entries in use are looked at */
    uint64_t in_window_ns, last_ns;
    unsigned late; /* datagrams since then, one after the other */
    struct probation probation;
    struct trail trail;

    unsigned open, waiting, held;
    size_t complete_size; /* bytes of the arenas that blocks to be popped and those popped take */
    uint64_t expiry_ns;   /* no open block is given up before */
    struct entry *ready_first, *ready_last;

    struct loss loss;
    struct gather_counters counters;
    struct slot slots[TABLE_SIZE];
};

static inline struct slot *slot_find(struct gather *gather, uint64_t sbn)
{
    struct slot *slot = &gather->slots[sbn % TABLE_SIZE];
    return slot->state != STATE_FREE && slot->sbn == sbn ? slot : NULL;
}

static inline const struct group *newest_group(const struct gather *gather)
{
    return &gather->groups[gather->newest];
}

static inline uint64_t window_end(const struct gather *gather)
{
    return newest_group(gather)->base + newest_group(gather)->depth;
}

/* The end of the groups that follow each other without a leap that is not believed yet. */
static inline uint64_t line_end(const struct gather *gather)
{
    return gather->probation.on && gather->probation.leapt ? gather->probation.line_end : window_end(gather);
}

/* Bytes of an arena that a block takes. */
size_t gather_entry_span(const struct block *block);
/* gather_push() without counting. */
enum datagram_drop gather_take(struct gather *gather, const struct datagram *datagram, const uint8_t *symbol,
                               uint64_t now_ns);

/* Puts a complete block at the end of those to be popped. */
void gather_window_append(struct gather *gather, struct entry *entry);
/* Releases complete blocks of the newest group up to the first that is incomplete. */
void gather_window_release_in_order(struct gather *gather);
void gather_window_release_all(struct gather *gather);
/* Ends an open block; nothing is known of its SBN then. */
struct slot *gather_window_end_open(struct gather *gather, struct entry *entry);
void gather_window_give_up(struct gather *gather, struct entry *entry, enum datagram_drop answer);
/* Gives up the open blocks of which nothing has come for GATHER_GIVE_UP_NS at `now_ns`. */
void gather_window_give_up_expired(struct gather *gather, uint64_t now_ns);
/* Lets all complete blocks out and gives up all others. */
void gather_window_empty(struct gather *gather);
/* Counts as given up the blocks of [from, to) of which no datagram has come. */
void gather_window_count_unseen(struct gather *gather, uint64_t from, uint64_t to);
void gather_window_raise_floor(struct gather *gather, uint64_t floor);
/* Whether the datagram agrees with what is known of its group; makes the highest group the newest. */
bool gather_window_accept(struct gather *gather, const struct datagram *datagram, uint64_t now_ns);
/* Ends the probation: the window follows the newest group. */
void gather_window_settle(struct gather *gather, uint64_t now_ns);
/* Likewise where nothing more is to be waited for; but a leap beyond the widest window is disbelieved. */
void gather_window_decide(struct gather *gather, uint64_t now_ns);
/* Forgets the window, not the blocks that are complete. */
void gather_window_restart(struct gather *gather);

#endif
