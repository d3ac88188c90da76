// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_TESTS_FUZZ_RECEIVER_FRAMES_H
#define DIODECAST_TESTS_FUZZ_RECEIVER_FRAMES_H

#include <stddef.h>
#include <stdint.h>

#include "tests/fuzz/mutate.h"

/* Good frames of a few transfers, all of whose content follows from their number. */
enum { FRAMES_TRANSFERS = 4, FRAMES_SIZE_MAX = 8192 };

/* What each writes goes to `out`, which has FRAMES_SIZE_MAX bytes; returns the bytes written. */
size_t frames_announce(uint8_t *out, unsigned sender, unsigned transfer);
size_t frames_abort(uint8_t *out, unsigned sender, unsigned transfer);
size_t frames_heartbeat(uint8_t *out, unsigned sender, uint64_t epoch, struct mutate *mutate);
/* The manifest as one frame, or one of two halves (1 and 2). */
size_t frames_manifest(uint8_t *out, unsigned sender, unsigned transfer, uint64_t sequence, unsigned half);
/* All data, where it fits; a piece of it otherwise. */
size_t frames_data(uint8_t *out, unsigned transfer, struct mutate *mutate);
size_t frames_unknown(uint8_t *out, unsigned transfer, struct mutate *mutate);

#endif
