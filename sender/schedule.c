// SPDX-License-Identifier: Apache-2.0
#include "sender/schedule.h"

#include <assert.h>
#include <stddef.h>

enum { WHOLE = 10000 }; /* of a block, in struct schedule's share and turns */

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

void schedule_init(struct schedule *schedule, uint64_t group_span_ns, unsigned share_percent)
{
    assert(share_percent <= 100);
    *schedule = (struct schedule){.class = -1,
                                  .block_begins = true,
                                  .share = share_percent > 0 ? share_percent * WHOLE / 100 : WHOLE / SCHEDULE_SHARE,
                                  .second_copy_ns = SCHEDULE_SECOND_COPY_NS};
    if (2 * group_span_ns > schedule->second_copy_ns)
        schedule->second_copy_ns = 2 * group_span_ns;
}

/* Copies of replays and heals are many beside their data, and so do not go before what is fresh. */
static unsigned rank_of(unsigned class)
{
    return class == SCHEDULE_HEAL ? 2 : class == SCHEDULE_REPLAY ? 1 : 0;
}

void schedule_add(struct schedule *schedule, struct schedule_item *item, enum schedule_class class)
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
    line_append(&schedule->copies[rank_of(item->class)][0], item);
}

static bool copy_is_due(const struct schedule *schedule, unsigned rank, uint64_t now_ns)
{
    if (schedule->copying[rank] != NULL)
        return true;
    for (unsigned i = 0; i < SCHEDULE_COPY_COUNT; i++) {
        const struct schedule_item *item = schedule->copies[rank][i].first;
        if (item != NULL && item->due_ns <= now_ns)
            return true;
    }
    return false;
}

static bool has_work(const struct schedule *schedule, unsigned class, uint64_t now_ns)
{
    const struct schedule_item *item = schedule->classes[class].first;
    if (item != NULL && item->state == SCHEDULE_READY)
        return true;
    return rank_of(class) > 0 && copy_is_due(schedule, rank_of(class), now_ns);
}

static bool waits_below(const struct schedule *schedule, unsigned class, uint64_t now_ns)
{
    while (++class < SCHEDULE_HEAL)
        if (has_work(schedule, class, now_ns))
            return true;
    return false;
}

static bool yields(struct schedule *schedule, unsigned class)
{
    schedule->turns[class] += schedule->share;
    if (schedule->turns[class] < WHOLE)
        return false;
    schedule->turns[class] -= WHOLE;
    return true;
}

/* An item above the heals, or also one of theirs, that will have data directly. */
static struct schedule_item *find_soon(const struct schedule *schedule, bool may_heal)
{
    for (unsigned class = 0; class < SCHEDULE_CLASS_COUNT; class ++) {
        struct schedule_item *item = schedule->classes[class].first;
        if (item != NULL && item->state == SCHEDULE_SOON && (class != SCHEDULE_HEAL || may_heal))
            return item;
    }
    return NULL;
}

/* The most urgent class that has something; in the first choice for a block, each class in turn yields to those below.
 */
static int choose_class(struct schedule *schedule, uint64_t now_ns, bool may_heal)
{
    int chosen = -1;
    for (unsigned class = 0; class < SCHEDULE_HEAL && chosen < 0; class ++) {
        if (!has_work(schedule, class, now_ns))
            continue;
        if (!schedule->block_begins || !waits_below(schedule, class, now_ns) || !yields(schedule, class))
            chosen = (int)class;
    }
    if (chosen < 0 && may_heal && find_soon(schedule, false) == NULL && has_work(schedule, SCHEDULE_HEAL, now_ns))
        chosen = SCHEDULE_HEAL;
    if (chosen >= 0)
        schedule->block_begins = false;
    return chosen;
}

static struct schedule_item *find_due_copy(struct schedule *schedule, unsigned rank, uint64_t now_ns)
{
    if (schedule->copying[rank] != NULL)
        return schedule->copying[rank];
    for (unsigned i = 0; i < SCHEDULE_COPY_COUNT; i++) {
        struct schedule_item *item = schedule->copies[rank][i].first;
        if (item != NULL && item->due_ns <= now_ns)
            return schedule->copying[rank] = line_take(&schedule->copies[rank][i]);
    }
    return NULL;
}

static bool announce_is_due(const struct schedule_item *item, uint64_t now_ns)
{
    return item != NULL && item->announced && item->due_ns <= now_ns;
}

static struct schedule_item *find_due_announce(const struct schedule *schedule, uint64_t now_ns)
{
    for (unsigned i = 0; i < SCHEDULE_REPLAY; i++)
        if (announce_is_due(schedule->classes[i].first, now_ns))
            return schedule->classes[i].first;
    return NULL;
}

/* Of the class that was chosen. */
static enum schedule_kind next_of_class(struct schedule *schedule, uint64_t now_ns, struct schedule_item **item)
{
    unsigned rank = rank_of((unsigned)schedule->class);
    *item = rank > 0 ? find_due_copy(schedule, rank, now_ns) : NULL;
    if (*item != NULL)
        return SCHEDULE_COPY;
    *item = schedule->classes[schedule->class].first;
    assert(*item != NULL && (*item)->state == SCHEDULE_READY);
    return !(*item)->announced || announce_is_due(*item, now_ns) ? SCHEDULE_ANNOUNCE : SCHEDULE_DATA;
}

enum schedule_kind schedule_next(struct schedule *schedule, uint64_t now_ns, bool may_heal, struct schedule_item **item)
{
    *item = find_due_copy(schedule, 0, now_ns);
    if (*item != NULL)
        return SCHEDULE_COPY;
    *item = find_due_announce(schedule, now_ns);
    if (*item != NULL)
        return SCHEDULE_ANNOUNCE;
    if (schedule->class >= 0 && !has_work(schedule, (unsigned)schedule->class, now_ns))
        schedule->class = -1;
    if (schedule->class < 0)
        schedule->class = choose_class(schedule, now_ns, may_heal);
    if (schedule->class >= 0)
        return next_of_class(schedule, now_ns, item);
    *item = find_soon(schedule, may_heal);
    return *item != NULL ? SCHEDULE_WAIT : SCHEDULE_NOTHING;
}

void schedule_announced(struct schedule_item *item, uint64_t now_ns)
{
    item->announced = true;
    item->due_ns = now_ns + SCHEDULE_ANNOUNCE_NS;
}

bool schedule_copy_done(struct schedule *schedule, struct schedule_item *item, uint64_t now_ns)
{
    unsigned rank = rank_of(item->class);
    assert(schedule->copying[rank] == item);
    schedule->copying[rank] = NULL;
    item->copies++;
    if (item->copies == SCHEDULE_COPY_COUNT)
        return true;
    item->due_ns = now_ns + (item->copies == 1 ? schedule->second_copy_ns : SCHEDULE_THIRD_COPY_NS);
    line_append(&schedule->copies[rank][item->copies], item);
    return false;
}

void schedule_block_done(struct schedule *schedule)
{
    schedule->class = -1;
    schedule->block_begins = true;
}

bool schedule_is_urgent_end(const struct schedule *schedule, enum schedule_class class, uint64_t now_ns)
{
    if (copy_is_due(schedule, 0, now_ns))
        return false;
    for (unsigned other = 0; other <= class; other++) {
        const struct schedule_item *item = schedule->classes[other].first;
        if (item != NULL && item->state != SCHEDULE_LATER)
            return false;
    }
    return waits_below(schedule, class, now_ns) || (class < SCHEDULE_HEAL && has_work(schedule, SCHEDULE_HEAL, now_ns));
}

struct schedule_item *schedule_first(const struct schedule *schedule, enum schedule_class class)
{
    return schedule->classes[class].first;
}

/* What replays and heals have is theirs when their turn comes, so that only what is not due yet needs a clock. */
uint64_t schedule_deadline_ns(const struct schedule *schedule, uint64_t now_ns, uint64_t heal_ns)
{
    uint64_t deadline_ns = UINT64_MAX;
    for (unsigned rank = 0; rank < SCHEDULE_RANK_COUNT; rank++) {
        for (unsigned i = 0; i < SCHEDULE_COPY_COUNT; i++) {
            const struct schedule_item *item = schedule->copies[rank][i].first;
            uint64_t due_ns = item != NULL ? item->due_ns : UINT64_MAX;
            if (rank == 2 && due_ns < heal_ns)
                due_ns = heal_ns;
            if (due_ns < deadline_ns && (rank == 0 || due_ns > now_ns))
                deadline_ns = due_ns;
        }
    }
    for (unsigned i = 0; i < SCHEDULE_REPLAY; i++) {
        const struct schedule_item *item = schedule->classes[i].first;
        if (item != NULL && item->announced && item->due_ns < deadline_ns)
            deadline_ns = item->due_ns;
    }
    if (has_work(schedule, SCHEDULE_HEAL, now_ns) && heal_ns > now_ns && heal_ns < deadline_ns)
        deadline_ns = heal_ns;
    return deadline_ns;
}

struct schedule_item *schedule_take_any(struct schedule *schedule)
{
    struct schedule_item *item = NULL;
    schedule->class = -1;
    for (unsigned i = 0; i < SCHEDULE_CLASS_COUNT && item == NULL; i++)
        item = line_take(&schedule->classes[i]);
    for (unsigned rank = 0; rank < SCHEDULE_RANK_COUNT; rank++) {
        for (unsigned i = 0; i < SCHEDULE_COPY_COUNT && item == NULL; i++)
            item = line_take(&schedule->copies[rank][i]);
        if (item == NULL) {
            item = schedule->copying[rank];
            schedule->copying[rank] = NULL;
        }
    }
    return item;
}
