// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_RECEIVER_CLAIMS_H
#define DIODECAST_RECEIVER_CLAIMS_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/limits.h"

/*
 * What signed content said of the newest numbers of a chain: the hash of the manifest with each. A manifest claims its
 * own and, as its previous_hash, that of the number before; a heartbeat claims the newest. All zeros is the empty set.
 * Pure.
 */
enum { CLAIMS = 512 }; /* numbers remembered; a larger one takes the place of one so far below it */

struct claim {
    uint64_t sequence; /* 0: none */
    uint8_t hash[SHA256_SIZE];
};

struct claims {
    struct claim *list; /* CLAIMS of them, made with the first one */
};

void claims_deinit(struct claims *claims);

enum claims_answer {
    CLAIMS_NEW, /* nothing was remembered of this number */
    CLAIMS_SAME,
    CLAIMS_OTHER, /* another hash was claimed before; from now on this one is remembered */
};

enum claims_answer claims_put(struct claims *claims, uint64_t sequence, const uint8_t hash[static SHA256_SIZE]);
/* Forgets what was said of numbers above `sequence`. */
void claims_forget_above(struct claims *claims, uint64_t sequence);

#endif
