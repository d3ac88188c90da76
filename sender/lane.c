// SPDX-License-Identifier: Apache-2.0
#include "sender/lane.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/units.h"

enum { SPARE_BLOCKS = 4 }; /* beside the group that is sent and the one that is filled: open, closing, in the queue */

size_t lane_block_size(const struct config *config)
{
    return (size_t)(config->source_symbols + config->repair_symbols) * config->symbol_size;
}

static void fill_empty(struct lane *lane)
{
    for (unsigned i = 0; i < lane->block_count; i++) {
        struct block *block = &lane->blocks[i];
        block->lane = lane->index;
        block->symbols = slab_take(lane->slab);
        assert(block->symbols != NULL);
        bool pushed = queue_push(lane->empty, block);
        assert(pushed);
        (void)pushed;
    }
}

enum status lane_create(const struct config *config, unsigned index, struct doorbell *read_bell, struct lane **lane)
{
    char text[UNITS_TEXT_SIZE];
    *lane = NULL;
    struct lane *made = calloc(1, sizeof *made);
    assert(made != NULL);
    made->index = index;
    made->read_bell = read_bell;
    made->block_count = 2u * config->depth + SPARE_BLOCKS;
    made->blocks = calloc(made->block_count, sizeof *made->blocks);
    made->filled = queue_create(made->block_count);
    made->empty = queue_create(made->block_count);
    assert(made->blocks != NULL && made->filled != NULL && made->empty != NULL);
    made->send_bell = doorbell_create();
    if (made->send_bell == NULL) {
        log_error("lane %u: no event descriptor: %s; raise LimitNOFILE", index, strerror(errno));
        lane_destroy(made);
        return STATUS_SYSTEM;
    }
    enum status status = slab_create(lane_block_size(config), made->block_count, &made->slab);
    if (status != STATUS_OK) {
        log_error("lane %u: no memory for blocks (%s): %s; lower burst, rate or symbol counts", index,
                  units_format_size(lane_block_size(config) * made->block_count, text), strerror(errno));
        lane_destroy(made);
        return status;
    }
    fill_empty(made);
    *lane = made;
    return STATUS_OK;
}

void lane_destroy(struct lane *lane)
{
    if (lane == NULL)
        return;
    slab_destroy(lane->slab);
    doorbell_destroy(lane->send_bell);
    queue_destroy(lane->filled);
    queue_destroy(lane->empty);
    free(lane->blocks);
    free(lane);
}

uint64_t lane_watermark(struct lane *lane, uint64_t blocks, uint64_t block_span_ns)
{
    uint64_t sent = atomic_load(&lane->sent), mark = blocks + atomic_load(&lane->beat_blocks);
    return sent < blocks ? mark + 2 + 2 * (blocks - sent) * block_span_ns / CLOCK_SECOND_NS : mark;
}
