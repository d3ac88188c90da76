// SPDX-License-Identifier: Apache-2.0
#include "sender/schedule.h"

#include <assert.h>
#include <stddef.h>

static void line_append(struct schedule_line *line, struct schedule_item *item)
{
    item->next = NULL;
    if (line->first == NULL)
        line->first = item;
    else
        line->last->next = item;
    line->last = item;
}

static struct schedule_item *line_take(struct schedule_line *line)
{
    struct schedule_item *item = line->first;
    if (item == NULL)
        return NULL;
    line->first = item->next;
    item->next = NULL;
    return item;
}

void schedule_init(struct schedule *schedule, uint64_t group_span_ns)
{
    *schedule = (struct schedule){.class = -1, .block_begins = true, .second_copy_ns = SCHEDULE_SECOND_COPY_NS};
    if (2 * group_span_ns > schedule->second_copy_ns)
        schedule->second_copy_ns = 2 * group_span_ns;
}

void schedule_add(struct schedule *schedule, struct schedule_item *item, unsigned class)
{
    assert(class < SCHEDULE_CLASS_COUNT);
    *item = (struct schedule_item){.class = (uint8_t) class};
    line_append(&schedule->classes[class], item);
}

void schedule_data_done(struct schedule *schedule, struct schedule_item *item)
{
    struct schedule_line *line = &schedule->classes[item->class];
    assert(line->first == item);
    line_take(line);
    if (schedule->class == item->class)
        schedule->class = -1;
}

void schedule_add_copies(struct schedule *schedule, struct schedule_item *item, uint64_t now_ns)
{
    item->copies = 0;
    item->due_ns = now_ns;
    line_append(&schedule->copies[0], item);
}

static bool waits_below(const struct schedule *schedule, unsigned class)
{
    while (++class < SCHEDULE_CLASS_COUNT)
        if (schedule->classes[class].first != NULL)
            return true;
    return false;
}

/* The most urgent class that waits; in the first choice for a block, each class in turn yields to those below. */
static int choose_class(struct schedule *schedule)
{
    bool block_begins = schedule->block_begins;
    schedule->block_begins = false;
    for (unsigned class = 0; class < SCHEDULE_CLASS_COUNT; class ++) {
        if (schedule->classes[class].first == NULL)
            continue;
        if (!block_begins || !waits_below(schedule, class) || ++schedule->turns[class] % SCHEDULE_SHARE != 0)
            return (int)class;
    }
    return -1;
}

static struct schedule_item *find_due_copy(struct schedule *schedule, uint64_t now_ns)
{
    if (schedule->copying != NULL)
        return schedule->copying;
    for (unsigned i = 0; i < SCHEDULE_COPY_COUNT; i++) {
        struct schedule_item *item = schedule->copies[i].first;
        if (item != NULL && item->due_ns <= now_ns)
            return schedule->copying = line_take(&schedule->copies[i]);
    }
    return NULL;
}

static struct schedule_item *find_due_announce(const struct schedule *schedule, uint64_t now_ns)
{
    for (unsigned i = 0; i < SCHEDULE_CLASS_COUNT; i++) {
        struct schedule_item *item = schedule->classes[i].first;
        if (item != NULL && item->announced && item->due_ns <= now_ns)
            return item;
    }
    return NULL;
}

enum schedule_kind schedule_next(struct schedule *schedule, uint64_t now_ns, struct schedule_item **item)
{
    *item = find_due_copy(schedule, now_ns);
    if (*item != NULL)
        return SCHEDULE_COPY;
    *item = find_due_announce(schedule, now_ns);
    if (*item != NULL)
        return SCHEDULE_ANNOUNCE;
    if (schedule->class < 0)
        schedule->class = choose_class(schedule);
    if (schedule->class < 0)
        return SCHEDULE_NOTHING;
    *item = schedule->classes[schedule->class].first;
    assert(*item != NULL);
    return (*item)->announced ? SCHEDULE_DATA : SCHEDULE_ANNOUNCE;
}

void schedule_announced(struct schedule_item *item, uint64_t now_ns)
{
    item->announced = true;
    item->due_ns = now_ns + SCHEDULE_ANNOUNCE_NS;
}

bool schedule_copy_done(struct schedule *schedule, struct schedule_item *item, uint64_t now_ns)
{
    assert(schedule->copying == item);
    schedule->copying = NULL;
    item->copies++;
    if (item->copies == SCHEDULE_COPY_COUNT)
        return true;
    item->due_ns = now_ns + (item->copies == 1 ? schedule->second_copy_ns : SCHEDULE_THIRD_COPY_NS);
    line_append(&schedule->copies[item->copies], item);
    return false;
}

void schedule_block_done(struct schedule *schedule)
{
    schedule->class = -1;
    schedule->block_begins = true;
}

uint64_t schedule_deadline_ns(const struct schedule *schedule)
{
    uint64_t deadline_ns = UINT64_MAX;
    for (unsigned i = 0; i < SCHEDULE_COPY_COUNT; i++) {
        const struct schedule_item *item = schedule->copies[i].first;
        if (item != NULL && item->due_ns < deadline_ns)
            deadline_ns = item->due_ns;
    }
    for (unsigned i = 0; i < SCHEDULE_CLASS_COUNT; i++) {
        const struct schedule_item *item = schedule->classes[i].first;
        if (item != NULL && item->announced && item->due_ns < deadline_ns)
            deadline_ns = item->due_ns;
    }
    return deadline_ns;
}

struct schedule_item *schedule_take_any(struct schedule *schedule)
{
    struct schedule_item *item = schedule->copying;
    schedule->copying = NULL;
    schedule->class = -1;
    for (unsigned i = 0; i < SCHEDULE_CLASS_COUNT && item == NULL; i++)
        item = line_take(&schedule->classes[i]);
    for (unsigned i = 0; i < SCHEDULE_COPY_COUNT && item == NULL; i++)
        item = line_take(&schedule->copies[i]);
    return item;
}
