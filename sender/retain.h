// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_SENDER_RETAIN_H
#define DIODECAST_SENDER_RETAIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "sender/claim.h"

/*
 * Keeps .sent within [replay] retain, retain_bytes and retain_free and within each channel's own (expire.h), and lets
 * the ledger forget what is gone for long. Nothing goes that is not SENT, or that is about to be sent again.
 */

struct retain_result {
    uint64_t kept, kept_bytes, removed;
    uint64_t free_missing; /* bytes to retain_free, though all that may go is gone */
    bool stuck;            /* something could not be removed; `message` says what to do */
    char message[400];
};

enum { RETAIN_HELD = 64 };

/*
 * `now_ns` must not jump with the wall clock, or everything expires at once: the wall clock of some start plus
 * monotonic time since. `held` are sequences that stay.
 */
struct retain_pass {
    const struct claim *claim;
    int64_t now_ns;
    const uint64_t *held;
    size_t held_count;
    uint64_t (*free_bytes)(const struct claim *claim);
};

/* One pass, in any thread. */
void retain_run(const struct retain_pass *pass, struct retain_result *result);
/* Bytes free on the spool's file system for the sender. */
uint64_t retain_free_bytes(const struct claim *claim);

/* Passes in a worker thread of `loop`, once a minute and after each GiB. Control thread; all arguments are borrowed. */
struct retain;
struct retain *retain_create(const struct claim *claim, uv_loop_t *loop, void (*done)(void *context), void *context);
void retain_destroy(struct retain *retain); /* not while busy; NULL allowed */
/* `held[0..held_count)` (at most RETAIN_HELD sequences) are being sent again; copied. `now_ns` is monotonic. */
void retain_if_due(struct retain *retain, const uint64_t *held, size_t held_count, uint64_t now_ns);
bool retain_is_busy(const struct retain *retain);
/* One more transfer was sent. */
void retain_note_sent(struct retain *retain, uint64_t bytes);
/* The last pass, and what was sent since. */
const struct retain_result *retain_last(const struct retain *retain);

#endif
