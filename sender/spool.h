// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_SENDER_SPOOL_H
#define DIODECAST_SENDER_SPOOL_H

#include <stdbool.h>
#include <stdint.h>

#include "common/status.h"
#include "sender/config.h"
#include "sender/settle.h"
#include "sender/spooldirs.h"

/*
 * Watches the spool (inotify, recursively where a directory grows in place) and scans it, and tells settle.h what there
 * is. Control thread only. A channel is named as its directory; "" is the spool itself, whose files belong to channel
 * "default".
 */
struct spool;

/* All arguments are borrowed for the spool's life. */
MUST_CHECK enum status spool_create(const struct config *config, const struct spooldirs *dirs, struct settle *settle,
                                    struct spool **spool);
void spool_destroy(struct spool *spool);
/* Readable when spool_read() has something to do. */
int spool_fd(const struct spool *spool);
/* Takes all events that are there; true when events were lost or a directory came that needs a scan: call
 * spool_scan(). */
bool spool_read(struct spool *spool, uint64_t now_ns);
/* Looks at everything: at the start, from time to time, and when spool_read() says so. */
void spool_scan(struct spool *spool, uint64_t now_ns, int64_t realtime_ns);
/* How long until the next scan at the latest: shorter where events can't be trusted. */
uint64_t spool_scan_interval_ns(const struct spool *spool);

/* The item has left the spool: ends its watches. */
void spool_left(struct spool *spool, const char *channel, const char *name);
/* The item came back: watches it again; true when events will tell of every change. */
bool spool_came_back(struct spool *spool, const char *channel, const char *name);

/* The channel's name on the wire. */
const char *spool_channel_name(const char *directory);

struct spool_trouble {
    bool gone;                    /* the spool itself was removed, renamed or unmounted */
    bool watch_limit;             /* fs.inotify.max_user_watches is reached */
    bool network;                 /* a channel with complete = settle is on a network file system */
    char network_channel[80];     /* the first such channel and its kind */
    bool unreadable;              /* a channel can't be listed or has an illegal name */
    char unreadable_message[400]; /* what and how to mend it */
    uint64_t approvals_alone;     /* approvals beside which no item lies, by the last scan */
};
const struct spool_trouble *spool_trouble(const struct spool *spool);

#endif
