// SPDX-License-Identifier: Apache-2.0
#include "sender/interleave.h"

#include <assert.h>

/* Moves to the next position that holds a symbol, or to the column behind the last. */
static void settle(struct interleave *interleave)
{
    while (interleave->column < interleave->column_count) {
        while (interleave->next_index < interleave->depth) {
            if (interleave->totals[interleave->next_index] > interleave->column)
                return;
            interleave->next_index++;
        }
        interleave->next_index = 0;
        interleave->column++;
    }
}

void interleave_start(struct interleave *interleave, const uint8_t totals[], uint16_t depth)
{
    assert(depth >= 1);
    uint8_t column_count = 0;
    for (uint16_t i = 0; i < depth; i++)
        column_count = totals[i] > column_count ? totals[i] : column_count;
    *interleave = (struct interleave){.totals = totals, .depth = depth, .column_count = column_count};
    settle(interleave);
}

bool interleave_next(struct interleave *interleave, uint16_t *index, uint8_t *esi)
{
    if (interleave_is_done(interleave))
        return false;
    *index = interleave->next_index++;
    *esi = interleave->column;
    settle(interleave);
    return true;
}

bool interleave_is_done(const struct interleave *interleave)
{
    return interleave->column >= interleave->column_count;
}

unsigned interleave_train_limit(uint16_t depth, uint8_t repair_symbols)
{
    unsigned limit = (unsigned)depth * repair_symbols / 4;
    return limit > 0 ? limit : 1;
}
