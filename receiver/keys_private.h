// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_RECEIVER_KEYS_PRIVATE_H
#define DIODECAST_RECEIVER_KEYS_PRIVATE_H

#include "receiver/keys.h"

enum { KEYS_PROBLEM_SIZE = 512, KEYS_ANNOUNCED = 16, KEYS_COMMENT_SIZE = 128 };

struct keys {
    const struct config *config;
    struct audit *audit;
    struct trust *running;
    struct policy_slot *slot;
    const struct policy *policy;                           /* the slot's newest, which only this thread replaces */
    struct trust *announced;                               /* keys in STATE/announced */
    char *announced_directory;                             /* its path */
    char announcements[KEYS_ANNOUNCED][KEYS_COMMENT_SIZE]; /* of the first of them: by whom, when (announced.h) */
    char problem[KEYS_PROBLEM_SIZE];                       /* the first one of the last reading; "": none */
    int64_t read_at_ns;

    int inotify_fd;
    uv_poll_t poll;
    uv_timer_t settle; /* several changes that come together are one */
    uv_signal_t hangup;
};

#endif
