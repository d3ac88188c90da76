// SPDX-License-Identifier: Apache-2.0
#include "receiver/loss.h"

#include <string.h>

_Static_assert((LOSS_MEMORY & (LOSS_MEMORY - 1)) == 0 && LOSS_MEMORY >= 64, "a remainder is a mask, a word is full");

static uint64_t *word_of(struct loss *loss, uint64_t sequence)
{
    return &loss->seen[sequence % LOSS_MEMORY / 64];
}

static uint64_t bit_of(uint64_t sequence)
{
    return UINT64_C(1) << sequence % 64;
}

static void advance(struct loss *loss, uint64_t sequence)
{
    loss->lost += sequence - loss->highest - 1;
    if (sequence - loss->highest >= LOSS_MEMORY)
        memset(loss->seen, 0, sizeof loss->seen);
    else
        for (uint64_t i = loss->highest + 1; i < sequence; i++)
            *word_of(loss, i) &= ~bit_of(i);
    loss->highest = sequence;
}

bool loss_note(struct loss *loss, uint64_t sequence)
{
    uint64_t distance = sequence > loss->highest ? sequence - loss->highest : loss->highest - sequence;

    if (!loss->started || distance > LOSS_JUMP) {
        loss->started = true;
        loss->lowest = loss->highest = sequence;
        memset(loss->seen, 0, sizeof loss->seen);
    } else if (sequence > loss->highest) {
        advance(loss, sequence);
    } else if (distance >= LOSS_MEMORY) {
        return true;
    } else if ((*word_of(loss, sequence) & bit_of(sequence)) != 0) {
        return false;
    } else if (sequence < loss->lowest) {
        loss->lost += loss->lowest - sequence - 1;
        loss->lowest = sequence;
    } else {
        loss->lost--;
    }
    *word_of(loss, sequence) |= bit_of(sequence);
    return true;
}

bool loss_is_sane(const struct loss *loss)
{
    uint64_t span = loss->highest - loss->lowest + 1;
    if (!loss->started)
        return loss->lost == 0;
    if (loss->highest < loss->lowest)
        return false;
    uint64_t missing = 0;
    uint64_t count = span != 0 && span < LOSS_MEMORY ? span : LOSS_MEMORY;
    for (uint64_t i = 0; i < count; i++) {
        uint64_t sequence = loss->highest - i;
        missing += (loss->seen[sequence % LOSS_MEMORY / 64] & bit_of(sequence)) == 0;
    }
    return missing <= loss->lost; /* each of them may still come, and takes its loss back then */
}
