// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_SENDER_INTERLEAVE_H
#define DIODECAST_SENDER_INTERLEAVE_H

#include <stdbool.h>
#include <stdint.h>

/*
 * The order in which the symbols of an interleave group leave: column by column, column c being ESI c of every block
 * that has it, so that a burst of losses takes little of each block (proto/README.md, "Interleaving"). Pure.
 */
struct interleave {
    const uint8_t *totals; /* k + r of each block; borrowed */
    uint16_t depth;
    uint16_t next_index;
    uint8_t column;
    uint8_t column_count;
};

/* Starts a group of `depth` blocks (at least 1), the i-th with totals[i] symbols. */
void interleave_start(struct interleave *interleave, const uint8_t totals[], uint16_t depth);
/* The next symbol to send; false when all have been. */
bool interleave_next(struct interleave *interleave, uint16_t *index, uint8_t *esi);
bool interleave_is_done(const struct interleave *interleave);

/*
 * Most datagrams that may leave as one train when the block with the fewest repair symbols has `repair_symbols`: a
 * quarter of what the group repairs, because a device drops a train as one packet. At least 1.
 */
unsigned interleave_train_limit(uint16_t depth, uint8_t repair_symbols);

#endif
