// SPDX-License-Identifier: Apache-2.0
#include "sender/packing.h"

#include <assert.h>

#include "proto/datagram.h"

void packing_init(struct packing *packing, const struct config *config, struct lane *const *lanes,
                  uint64_t group_span_ns)
{
    *packing = (struct packing){.config = config,
                                .lanes = lanes,
                                .capacity = (size_t)config->source_symbols * config->symbol_size,
                                .half_span_ns = group_span_ns / 2};
}

/* An empty block that is open stays with its lane. */
static void next_lane(struct packing *packing)
{
    packing->in_group = 0;
    if (packing->open == NULL)
        packing->lane = (packing->lane + 1) % packing->config->lanes;
}

bool packing_open(struct packing *packing)
{
    if (packing->open != NULL)
        return true;
    struct queue *empty = packing->lanes[packing->lane]->empty;
    const struct block *next = queue_peek(empty);
    if (next == NULL || next->unhashed > 0)
        return false;
    packing->open = queue_pop(empty);
    packing->taken[packing->lane]++;
    packing->open->pending = 0;
    packing->open->repeat_of = 0;
    packing->open->ends_group = false;
    pack_open(&packing->pack, packing->open->symbols, packing->capacity);
    return true;
}

void packing_look(struct packing *packing, uint64_t now_ns)
{
    for (unsigned i = 0; i < packing->config->lanes; i++) {
        uint64_t left = atomic_load_explicit(&packing->lanes[i]->sent, memory_order_relaxed);
        if (left == packing->left[i])
            continue;
        packing->left[i] = left;
        packing->left_ns[i] = now_ns;
    }
}

bool packing_is_late(const struct packing *packing, uint64_t now_ns)
{
    return now_ns >= packing->left_ns[packing->lane] + packing->half_span_ns;
}

bool packing_suits(struct packing *packing, uint64_t repeat_of)
{
    if (packing->pack.used > 0)
        return packing->open->repeat_of == repeat_of;
    packing->open->repeat_of = repeat_of;
    return true;
}

const struct block *packing_close(struct packing *packing)
{
    const struct config *config = packing->config;
    struct block *block = packing->open;
    block->symbol_size = config->symbol_size;
    block->source_symbols = pack_close(&packing->pack, block->symbol_size);
    block->repair_symbols =
        datagram_repair_for(block->source_symbols, (uint8_t)config->source_symbols, (uint8_t)config->repair_symbols);
    block->next = NULL;
    if (packing->closed_first == NULL)
        packing->closed_first = block;
    else
        packing->closed_last->next = block;
    packing->closed_last = block;
    packing->open = NULL;
    if (++packing->in_group == config->depth)
        packing->ended_early = 0;
    if (packing->in_group == config->depth || block->ends_group)
        next_lane(packing);
    return block;
}

bool packing_end_group(struct packing *packing)
{
    if (packing->ended_early == PACKING_EARLY_MAX)
        return false;
    if (packing->open != NULL && packing->pack.used > 0) {
        packing->open->ends_group = true;
    } else if (packing->in_group > 0 && packing->closed_first != NULL) {
        packing->closed_last->ends_group = true;
        next_lane(packing);
    } else {
        return false;
    }
    packing->ended_early++;
    return true;
}

bool packing_hand_over(struct packing *packing)
{
    bool progress = false;
    while (packing->closed_first != NULL && packing->closed_first->pending == 0) {
        struct block *block = packing->closed_first;
        struct lane *lane = packing->lanes[block->lane];
        packing->closed_first = block->next;
        bool pushed = queue_push(lane->filled, block);
        assert(pushed);
        (void)pushed;
        atomic_store(&lane->handed, ++packing->handed[block->lane]);
        doorbell_ring(lane->send_bell);
        progress = true;
    }
    return progress;
}

bool packing_flush(struct packing *packing)
{
    packing_hand_over(packing);
    if (packing->closed_first != NULL)
        return false;
    bool ended = packing->in_group > 0;
    packing->ended_early = 0;
    if (ended)
        next_lane(packing);
    for (unsigned i = 0; i < packing->config->lanes; i++) {
        struct lane *lane = packing->lanes[i];
        if (atomic_load_explicit(&lane->flush, memory_order_relaxed) == packing->handed[i])
            continue;
        atomic_store(&lane->flush, packing->handed[i]);
        doorbell_ring(lane->send_bell);
    }
    return ended;
}

bool packing_is_free(const struct packing *packing)
{
    uint64_t open = packing->open != NULL ? 1 : 0;
    if (packing->in_group > 0 || (open > 0 && packing->pack.used > 0))
        return false;
    return atomic_load(&packing->lanes[packing->lane]->sent) + open == packing->taken[packing->lane];
}
