// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_SENDER_WATCH_H
#define DIODECAST_SENDER_WATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "common/status.h"
#include "proto/limits.h"

/* The inotify descriptor and what each of its watches stands for. One thread. */
struct watch;

/* The directory that a watch is on. */
struct watch_place {
    int descriptor;
    char channel[LIMIT_CHANNEL_LENGTH + 1]; /* "" = the spool itself */
    char item[LIMIT_COMPONENT_LENGTH + 1];  /* "" = the channel's own directory */
    char *path;                             /* inside an item: relative to the channel; else "" */
    struct watch_place *next;
};

struct watch_event {
    const struct watch_place *place; /* NULL with IN_Q_OVERFLOW; valid until the next call */
    uint32_t mask;
    const char *name; /* "" for events of the directory itself */
};

MUST_CHECK enum status watch_create(struct watch **watch);
void watch_destroy(struct watch *watch);
int watch_fd(const struct watch *watch);
/* Watches the directory open as `fd`; false with errno when the kernel refuses (ENOSPC: fs.inotify.max_user_watches).
 */
bool watch_add(struct watch *watch, int fd, const char *channel, const char *item, const char *path);
bool watch_has_channel(const struct watch *watch, const char *channel);
/* Ends all watches inside an item, or with item NULL all of the channel. */
void watch_remove(struct watch *watch, const char *channel, const char *item);
/* Reads the next event without waiting; false when there is none. Events of watches that ended are left out. */
bool watch_next(struct watch *watch, struct watch_event *event);

#endif
