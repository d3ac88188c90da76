// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_RECEIVER_LOSS_H
#define DIODECAST_RECEIVER_LOSS_H

#include <stdbool.h>
#include <stdint.h>

/*
 * Counts lost datagrams by the gaps of their sequence numbers: highest - lowest + 1, less the distinct ones that came.
 * Of a number further behind the highest than the memory reaches it can't be told whether it was counted; it changes
 * nothing. Pure.
 */
enum {
    LOSS_MEMORY = 1 << 16, /* newest sequence numbers */
    LOSS_CLAIMS = 16,      /* that agree before a number beyond the memory is believed: one could be forged */
};

/* No outage that anyone counts lets so many datagrams pass: such numbers are forged, or true again after forged ones.
 * The count goes on from there. */
#define LOSS_JUMP (UINT64_C(1) << 32)

struct loss {
    bool started;
    uint64_t lowest, highest;
    uint64_t lost;
    uint64_t seen[LOSS_MEMORY / 64]; /* a bit a sequence number, by its remainder */
    /* Distinct numbers close to each other and far from the rest, and how many others have come since the first. */
    uint64_t claims[LOSS_CLAIMS];
    unsigned claim_count, others;
};

/* Starts as zeros. Returns false for a sequence number that came before. */
bool loss_note(struct loss *loss, uint64_t sequence);
/* Whether the figures of a state that was stored agree with each other. */
bool loss_is_sane(const struct loss *loss);

#endif
