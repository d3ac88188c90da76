// SPDX-License-Identifier: Apache-2.0
#include "sender/mark.h"

#include <assert.h>
#include <string.h>

void mark_init(struct mark *mark, unsigned lanes, uint64_t start, uint64_t spacing)
{
    assert(lanes <= LIMIT_LANES);
    *mark = (struct mark){.lanes = lanes, .spacing = spacing, .noted = start, .reached = start};
}

/* Where there is no room the next point comes later, save that the end takes the place of the newest. */
void mark_packed(struct mark *mark, uint64_t position, const uint64_t blocks[], bool is_end)
{
    if (position <= mark->noted || (!is_end && position - mark->noted < mark->spacing))
        return;
    if (mark->count == MARK_POINTS && !is_end)
        return;
    if (mark->count < MARK_POINTS)
        mark->count++;
    struct mark_point *point = &mark->points[(mark->first + mark->count - 1) % MARK_POINTS];
    point->position = mark->noted = position;
    memcpy(point->blocks, blocks, mark->lanes * sizeof *blocks);
}

static bool is_reached(const struct mark *mark, const struct mark_point *point, const uint64_t settled[])
{
    for (unsigned i = 0; i < mark->lanes; i++)
        if (settled[i] < point->blocks[i])
            return false;
    return true;
}

uint64_t mark_settled(struct mark *mark, const uint64_t settled[])
{
    while (mark->count > 0 && is_reached(mark, &mark->points[mark->first], settled)) {
        mark->reached = mark->points[mark->first].position;
        mark->first = (mark->first + 1) % MARK_POINTS;
        mark->count--;
    }
    return mark->reached;
}
