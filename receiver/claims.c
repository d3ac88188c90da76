// SPDX-License-Identifier: Apache-2.0
#include "receiver/claims.h"

#include <stdlib.h>
#include <string.h>

void claims_deinit(struct claims *claims)
{
    free(claims->list);
    claims->list = NULL;
}

enum claims_answer claims_put(struct claims *claims, uint64_t sequence, const uint8_t hash[static SHA256_SIZE])
{
    if (claims->list == NULL && (claims->list = calloc(CLAIMS, sizeof *claims->list)) == NULL)
        return CLAIMS_NEW;
    struct claim *claim = &claims->list[sequence % CLAIMS];
    if (claim->sequence == sequence && memcmp(claim->hash, hash, SHA256_SIZE) == 0)
        return CLAIMS_SAME;
    enum claims_answer answer = claim->sequence == sequence ? CLAIMS_OTHER : CLAIMS_NEW;
    if (sequence >= claim->sequence) {
        claim->sequence = sequence;
        memcpy(claim->hash, hash, SHA256_SIZE);
    }
    return answer;
}

void claims_forget_above(struct claims *claims, uint64_t sequence)
{
    for (unsigned i = 0; claims->list != NULL && i < CLAIMS; i++)
        if (claims->list[i].sequence > sequence)
            claims->list[i].sequence = 0;
}
