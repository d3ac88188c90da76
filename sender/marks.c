// SPDX-License-Identifier: Apache-2.0
#include "sender/marks.h"

#include <stddef.h>

void marks_init(struct marks *marks, unsigned lanes, uint64_t spacing)
{
    *marks = (struct marks){.lanes = lanes, .spacing = spacing};
}

static struct marked *find(struct marks *marks, const struct transfer *transfer)
{
    for (unsigned i = 0; i < MARKS_COUNT; i++)
        if (marks->all[i].transfer == transfer)
            return &marks->all[i];
    return NULL;
}

void marks_packed(struct marks *marks, struct transfer *transfer, uint64_t position, const uint64_t blocks[])
{
    if (transfer->kind == TRANSFER_HEAL || transfer->total_bytes < 2 * marks->spacing)
        return;
    struct marked *marked = find(marks, transfer);
    if (marked == NULL) {
        marked = find(marks, NULL);
        if (marked == NULL)
            return;
        marked->transfer = transfer;
        mark_init(&marked->mark, marks->lanes, transfer->resume_at, marks->spacing);
    }
    mark_packed(&marked->mark, position, blocks, position >= transfer->total_bytes);
}

void marks_move(struct marks *marks, struct lane *const *lanes)
{
    bool moved = false;
    for (unsigned i = 0; i < marks->lanes; i++) {
        uint64_t settled = atomic_load(&lanes[i]->settled);
        moved |= settled != marks->settled[i];
        marks->settled[i] = settled;
    }
    for (unsigned i = 0; moved && i < MARKS_COUNT; i++)
        if (marks->all[i].transfer != NULL)
            atomic_store(&marks->all[i].transfer->mark, mark_settled(&marks->all[i].mark, marks->settled));
}

void marks_forget(struct marks *marks, const struct transfer *transfer)
{
    struct marked *marked = find(marks, transfer);
    if (marked != NULL)
        marked->transfer = NULL;
}
