// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_RECEIVER_FRAMES_H
#define DIODECAST_RECEIVER_FRAMES_H

#include "receiver/announced.h"
#include "receiver/catalog.h"
#include "receiver/senders.h"
#include "receiver/unpack.h"

/* Who takes which frame: between unpack, which knows what they mean, and those who know what they do. */
struct frames {
    struct catalog *catalog;
    struct senders *senders;
    struct announced *announced;
};

/* For struct unpack, whose `context` is a struct frames. */
extern const struct unpack_handler frames_handler;

#endif
