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

static uint64_t distance(uint64_t a, uint64_t b)
{
    return a > b ? a - b : b - a;
}

static void begin_at(struct loss *loss, uint64_t sequence)
{
    loss->started = true;
    loss->lowest = loss->highest = sequence;
    memset(loss->seen, 0, sizeof loss->seen);
    *word_of(loss, sequence) |= bit_of(sequence);
}

/* The claims agree. Some may have come within reach meanwhile. */
static void believe(struct loss *loss)
{
    uint64_t lowest = loss->claims[0];
    for (unsigned i = 1; i < LOSS_CLAIMS; i++)
        lowest = loss->claims[i] < lowest ? loss->claims[i] : lowest;
    loss->claim_count = 0;
    if (distance(lowest, loss->highest) > LOSS_JUMP) {
        begin_at(loss, lowest);
    } else if (lowest > loss->highest) {
        advance(loss, lowest);
        *word_of(loss, lowest) |= bit_of(lowest);
    }
    for (unsigned i = 0; i < LOSS_CLAIMS; i++)
        (void)loss_note(loss, loss->claims[i]);
}

/* A number that leads far away. True ones follow each other there. */
static bool note_claim(struct loss *loss, uint64_t sequence)
{
    if (loss->claim_count > 0 && distance(loss->claims[0], sequence) >= LOSS_MEMORY / 2)
        loss->claim_count = 0;
    for (unsigned i = 0; i < loss->claim_count; i++)
        if (loss->claims[i] == sequence)
            return false;
    if (loss->claim_count == 0)
        loss->others = 0;
    loss->claims[loss->claim_count++] = sequence;
    if (loss->claim_count == LOSS_CLAIMS)
        believe(loss);
    return true;
}

bool loss_note(struct loss *loss, uint64_t sequence)
{
    if (!loss->started) {
        begin_at(loss, sequence);
        return true;
    }
    if (sequence == loss->highest + 1 && loss->claim_count == 0) { /* nearly always */
        *word_of(loss, loss->highest = sequence) |= bit_of(sequence);
        return true;
    }
    uint64_t far = distance(sequence, loss->highest);
    if (far > LOSS_JUMP || (far >= LOSS_MEMORY && sequence > loss->highest))
        return note_claim(loss, sequence);
    if (loss->claim_count > 0 && ++loss->others > LOSS_CLAIMS)
        loss->claim_count = 0;
    if (sequence > loss->highest) {
        advance(loss, sequence);
    } else if (far >= LOSS_MEMORY) {
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
