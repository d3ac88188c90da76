// SPDX-License-Identifier: Apache-2.0
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "sender/heal.h"
#include "sender/schedule.h"
#include "tests/sim/sim.h"

/*
 * Drives the choice of heals, and the queue of replays in the model ledger, in the way that the sender's repeat.c does:
 * one replay at a time, and beside it one that is wanted now; heals while nothing else is there to be sent.
 */
#define WINDOW_NS (3600 * CLOCK_SECOND_NS)

struct sim_repeat {
    struct sim_sender *sender;
    struct sim_world *world;
    struct heal *heal;
    int64_t realtime_start_ns; /* of the sender's clock that does not jump */
    uint64_t monotonic_start_ns;
    struct sim_replay *slots[2];
};

static int64_t steady_ns(const struct sim_repeat *repeat)
{
    return repeat->realtime_start_ns + (int64_t)(repeat->world->now_ns - repeat->monotonic_start_ns);
}

static void learn(struct sim_repeat *repeat, const struct sim_transfer *transfer)
{
    int64_t now_ns = repeat->realtime_start_ns;
    if (!transfer->sent || transfer->gone || transfer->sequence == 0 ||
        transfer->heals >= repeat->world->setup.heal_copies || transfer->sent_at_ns < now_ns - (int64_t)WINDOW_NS)
        return;
    heal_add(repeat->heal, transfer->sequence, transfer->total_bytes,
             transfer->sent_at_ns < now_ns ? transfer->sent_at_ns : now_ns, transfer->heals,
             transfer->again_at_ns < now_ns ? transfer->again_at_ns : now_ns);
}

struct sim_repeat *sim_repeat_create(struct sim_sender *sender, struct sim_world *world)
{
    struct sim_repeat *repeat = calloc(1, sizeof *repeat);
    assert(repeat != NULL);
    repeat->sender = sender;
    repeat->world = world;
    repeat->realtime_start_ns = sim_sender_realtime_ns(world);
    repeat->monotonic_start_ns = world->now_ns;
    repeat->heal = heal_create(world->setup.heals ? world->setup.heal_copies : 0, WINDOW_NS);
    for (size_t i = 0; i < world->replay_count; i++)
        if (world->replays[i].state == SIM_RUNNING)
            world->replays[i].state = SIM_WAITING;
    for (size_t i = 0; i < world->transfer_count; i++)
        if (world->setup.heals)
            learn(repeat, &world->transfers[i]);
    return repeat;
}

void sim_repeat_destroy(struct sim_repeat *repeat)
{
    heal_destroy(repeat->heal);
    free(repeat);
}

void sim_repeat_sent(struct sim_repeat *repeat, const struct sim_transfer *transfer)
{
    heal_add(repeat->heal, transfer->sequence, transfer->total_bytes, steady_ns(repeat), 0, 0);
}

void sim_repeat_ended(struct sim_repeat *repeat, struct sim_transfer *transfer, const struct sim_resend *resend)
{
    if (resend->replay == NULL) {
        heal_ended(repeat->heal, transfer->sequence, steady_ns(repeat));
        return;
    }
    repeat->slots[resend->replay->now] = NULL;
    if (sim_act(&repeat->world->sender_life))
        resend->replay->state = SIM_DONE;
}

static bool begin_replay(struct sim_repeat *repeat, bool now)
{
    struct sim_world *world = repeat->world;
    for (size_t i = 0; i < world->replay_count; i++) {
        struct sim_replay *replay = &world->replays[i];
        if (replay->state != SIM_WAITING || replay->now != now)
            continue;
        if (!sim_act(&world->sender_life))
            return false;
        replay->state = SIM_RUNNING;
        repeat->slots[now] = replay;
        struct sim_resend resend = {
            .class = now ? SCHEDULE_NOW : SCHEDULE_REPLAY, .parts = replay->parts, .replay = replay};
        replay->transfer->repeated = true;
        sim_statistics.replays++;
        sim_sender_resend(repeat->sender, replay->transfer, &resend);
        return true;
    }
    return false;
}

static bool begin_heal(struct sim_repeat *repeat)
{
    struct sim_world *world = repeat->world;
    uint64_t sequence = heal_choose(repeat->heal, steady_ns(repeat));
    struct sim_resend resend = {.class = SCHEDULE_HEAL};
    struct sim_transfer *transfer = NULL;
    if (sequence == 0)
        return false;
    for (size_t i = 0; i < world->transfer_count; i++)
        if (world->transfers[i].sequence == sequence && !world->transfers[i].gone)
            transfer = &world->transfers[i];
    if (transfer == NULL || !transfer->sent || transfer->heals >= world->setup.heal_copies) {
        sim_fail(world, "sequence %llu is healed, which can't be", (unsigned long long)sequence);
        return false;
    }
    if (!sim_act(&world->sender_life))
        return false;
    transfer->heals++;
    transfer->again_at_ns = sim_sender_realtime_ns(world);
    heal_began(repeat->heal, sequence, steady_ns(repeat));
    transfer->repeated = true;
    sim_statistics.heals++;
    sim_sender_resend(repeat->sender, transfer, &resend);
    return true;
}

bool sim_repeat_is_through(const struct sim_repeat *repeat)
{
    for (size_t i = 0; i < repeat->world->replay_count; i++)
        if (repeat->world->replays[i].state != SIM_DONE)
            return false;
    return true;
}

bool sim_repeat_run(struct sim_repeat *repeat, bool idle)
{
    bool began = false;
    for (unsigned now = 0; now < 2; now++)
        began |= repeat->slots[now] == NULL && begin_replay(repeat, now == 1);
    while (idle && repeat->world->setup.heals && sim_repeat_is_through(repeat) && begin_heal(repeat))
        began = true;
    return began;
}

uint64_t sim_repeat_deadline_ns(const struct sim_repeat *repeat, bool idle)
{
    int64_t now_ns = steady_ns(repeat);
    if (!idle || !repeat->world->setup.heals || !sim_repeat_is_through(repeat) ||
        heal_under_way(repeat->heal) == HEAL_UNDER_WAY)
        return UINT64_MAX;
    int64_t deadline_ns = heal_deadline_ns(repeat->heal, now_ns);
    if (deadline_ns == INT64_MAX)
        return UINT64_MAX;
    return repeat->world->now_ns + (deadline_ns > now_ns ? (uint64_t)(deadline_ns - now_ns) : 0);
}

/* What is said to be covered again is what will be: neither more nor less. */
static void check_ranges(const struct sim_repeat *repeat, const struct message_range *ranges, size_t count)
{
    struct sim_world *world = repeat->world;
    for (size_t i = 0; i < world->transfer_count; i++) {
        const struct sim_transfer *transfer = &world->transfers[i];
        if (transfer->sequence == 0 || transfer->gone)
            continue;
        bool told = false, queued = false;
        for (size_t range = 0; range < count; range++)
            told |= transfer->sequence >= ranges[range].first && transfer->sequence <= ranges[range].last;
        for (size_t replay = 0; replay < world->replay_count; replay++)
            queued |= world->replays[replay].transfer == transfer && world->replays[replay].state != SIM_DONE;
        bool heals = world->setup.heals && transfer->sent;
        if (told && !queued && !heals)
            sim_fail(world, "%s is told to be healing, and nobody will send it again", transfer->name);
        if (!told && (queued || (heals && transfer->heals == 0 &&
                                 transfer->sent_at_ns > steady_ns(repeat) - (int64_t)WINDOW_NS / 2)))
            sim_fail(world, "%s will be sent again and is not told to be healing", transfer->name);
    }
}

size_t sim_repeat_ranges(struct sim_repeat *repeat, struct message_range *ranges)
{
    struct sim_world *world = repeat->world;
    uint64_t *queued = calloc(world->replay_count + 1, sizeof *queued);
    size_t count = 0;
    assert(queued != NULL);
    for (size_t i = 0; i < world->replay_count; i++)
        if (world->replays[i].state != SIM_DONE)
            queued[count++] = world->replays[i].transfer->sequence;
    count = heal_ranges(repeat->heal, steady_ns(repeat), queued, count, ranges);
    free(queued);
    check_ranges(repeat, ranges, count);
    return count;
}
