// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_SENDER_SETTLE_H
#define DIODECAST_SENDER_SETTLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sender/config.h"
#include "sender/probe.h"

/*
 * Decides when an item in the spool is complete. Pure: events and the time come in, items that may be tried come out.
 *
 * An item renamed in is tried at once; one written in place (or found by a scan, which can't tell) after its channel's
 * quiet time; a channel with `complete = rename` never tries what was seen to be written in place, one with `complete =
 * marker` tries what has NAME.ready beside it. Trying means: taken out by settle_take(), probed, judged by
 * settle_judge(), and given back by settle_done(). All calls from one thread, but settle_judge() from any.
 */
struct settle;

enum settle_how {
    SETTLE_FOUND,    /* by a scan */
    SETTLE_CREATED,  /* seen to appear in place */
    SETTLE_MOVED,    /* seen to be renamed in */
    SETTLE_RETURNED, /* changed while it was read, so it needs its quiet time whatever the channel's rule */
};

/* What must be known of an item to try and to judge it: a copy, so that other threads may use it. */
struct settle_item {
    char channel[LIMIT_CHANNEL_LENGTH + 1];
    char name[LIMIT_COMPONENT_LENGTH + 1];
    const struct config_channel *rule;
    enum settle_how how;
    bool tree;
    bool watched; /* events tell of every change; else two equal fingerprints a quiet time apart are needed */
    bool has_fingerprint;
    uint64_t fingerprint;
    uint64_t bytes; /* as far as known */
};

enum settle_verdict {
    SETTLE_TAKE,       /* complete */
    SETTLE_GONE,       /* it or its marker is not there any more, or another job took it */
    SETTLE_BUSY,       /* somebody writes */
    SETTLE_CHANGED,    /* not what it was: its quiet time starts again */
    SETTLE_UNSURE,     /* renamed in, but leases can't tell whether somebody writes: wait for the quiet time */
    SETTLE_UNMARKED,   /* the marker is older than the item */
    SETTLE_UNAPPROVED, /* approvals are missing: tried again when they come, and at each scan */
    SETTLE_BLOCKED,    /* can't be claimed: tried again with growing intervals */
    SETTLE_RETRY,      /* the ledger refused: tried again soon */
};

struct settle *settle_create(uint64_t settle_ns, uint64_t settle_tree_ns);
void settle_destroy(struct settle *settle);
/* From now on unknown items are ignored (--once). */
void settle_freeze(struct settle *settle);

/*
 * An item was seen. `seen` gives channel, name, rule, how, tree, watched, bytes and, where known, the fingerprint;
 * `age_ns` is how long ago it changed last, 0 when unknown. A known item that is only found again with the same
 * fingerprint, or without one, stays as it is.
 */
void settle_see(struct settle *settle, const struct settle_item *seen, uint64_t age_ns, uint64_t now_ns);
/* Something in it changed; `closed` when a writer closed a file. Unknown items are ignored: false. */
bool settle_touch(struct settle *settle, const char *channel, const char *name, bool closed, uint64_t now_ns);
/* It left the spool. */
void settle_forget(struct settle *settle, const char *channel, const char *name);
/* All of the channel left the spool. */
void settle_forget_channel(struct settle *settle, const char *channel);
/* NAME.ready is (or is not) there. */
void settle_mark(struct settle *settle, const char *channel, const char *name, bool present, uint64_t now_ns);

/* NAME.approval came, changed or went. */
void settle_approval(struct settle *settle, const char *channel, const char *name, uint64_t now_ns);

/* A scan calls the first before and the second after: items not seen in between are forgotten. */
void settle_scan_begin(struct settle *settle);
void settle_scan_end(struct settle *settle);

/*
 * Takes out up to `capacity` items that may be tried, most urgent first, of equally urgent ones those that are due
 * longest, and at most room[priority] of each; returns how many. Each must come back through settle_done().
 */
size_t settle_take(struct settle *settle, uint64_t now_ns, const size_t room[static CONFIG_PRIORITY_COUNT],
                   struct settle_item *items, size_t capacity);
/* When settle_take() has something next; UINT64_MAX: only after an event. */
uint64_t settle_next_ns(const struct settle *settle);

/* What a probe says about an item that was taken out. `marker_ctime_ns` is INT64_MIN when there is none. Any thread. */
enum settle_verdict settle_judge(const struct settle_item *item, const struct probe *probe, int64_t marker_ctime_ns);
/*
 * The end of a try. After SETTLE_TAKE the item is no longer known, unless one of the same name came meanwhile.
 * `probe` is NULL when there was none; `message` says what to do about a blocked or unapproved item. True when the item
 * is blocked since now.
 */
bool settle_done(struct settle *settle, const struct settle_item *item, enum settle_verdict verdict,
                 const struct probe *probe, const char *message, uint64_t now_ns);

/*
 * An item is about to be moved back into the spool: what events say about it up to settle_done() or settle_returned()
 * does not count. False when an item of that name is known, which stays untouched.
 */
bool settle_expect(struct settle *settle, const struct settle_item *item);
void settle_returned(struct settle *settle, const struct settle_item *item, uint64_t now_ns);

struct settle_totals {
    uint64_t count, bytes; /* all items, also those out for a try */
    uint64_t pending;      /* items that time alone can complete, or that are out */
    uint64_t blocked;
};
void settle_totals(const struct settle *settle, struct settle_totals *totals);
/* Calls `visit` for each item that waits for something else than time, with what that is. */
void settle_each_waiting(const struct settle *settle,
                         void (*visit)(const struct settle_item *item, bool blocked, const char *message,
                                       void *context),
                         void *context);

#endif
