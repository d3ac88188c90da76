// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_SENDER_ASIDE_H
#define DIODECAST_SENDER_ASIDE_H

#include <stdbool.h>
#include <stdint.h>

#include "sender/fetch.h"
#include "sender/reading.h"

/*
 * Reads that do not go into a block: chunks that are checked before they are sent again, and what was sent before a
 * restart and is only to be hashed. Few are under way at a time, so that those for blocks are not held up. The read
 * stage's thread only.
 */
struct aside;

struct aside *aside_create(void); /* asserts that memory is there */
void aside_destroy(struct aside *aside);

/* Where the chunks of the transfer that runs in a class are read and checked: CHUNK_SIZE bytes. */
uint8_t *aside_scratch(struct aside *aside, enum schedule_class class);
/*
 * Goes on with the reads of a transfer that runs in its class, and sets its state in the schedule. True when something
 * changed. Sets *is_short, which is else left alone, when there was no descriptor to open a file.
 */
bool aside_read(struct aside *aside, struct fetch *fetch, struct reading *reading, bool *is_short);
/* Whether a read that has landed was one of these; then it is counted out, and a checked one is taken. */
bool aside_take(struct aside *aside, const struct fetch_piece *piece);

#endif
