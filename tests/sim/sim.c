// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/sim.h"

#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sender/schedule.h"

#define RESTART_NS (1500 * CLOCK_MILLISECOND_NS) /* between two restarts of the same end, at least */
#define SURVEY_NS  (500 * CLOCK_MILLISECOND_NS)
#define CLEAR_NS   (20 * CLOCK_SECOND_NS)  /* without loss at the end: longer than giving up and every grace take */
#define TIMEOUT_NS (600 * CLOCK_SECOND_NS) /* no run takes so long */

enum { STANDING_MAX = 10000 };

/* One seed's run: the two ends, and when which of them crashes. */
struct run {
    struct sim_world world;
    struct sim_sender *sender;
    struct sim_receiver *receiver;
    struct sim_ledger *ledger;
    unsigned sender_restarts, receiver_restarts; /* still to come */
    uint64_t sender_restart_ns, receiver_restart_ns, receiver_up_ns;
    uint64_t survey_ns;
    unsigned receiver_crashes;
    unsigned standing;           /* steps since time went on */
    struct sim_random operators; /* and the idle link: what is sent again, and when */
    bool heals;                  /* each transfer once, as soon as it was sent */
    size_t healed;
    bool replays, replayed; /* all transfers in the end */
};

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/*
 * A receiver that can't yet tell a new epoch from a forged one does not let the next one displace it at once: who
 * starts three times within a second may lose what it sends meanwhile.
 */
static void plan_restart(struct run *run, unsigned *left, uint64_t *at_ns)
{
    struct sim_random *random = &run->world.random;
    uint64_t soonest_ns = run->world.now_ns + (run->world.now_ns > 0 ? RESTART_NS : 0);
    *at_ns = UINT64_MAX;
    if (*left == 0)
        return;
    --*left;
    *at_ns =
        soonest_ns + sim_below(random, sim_chance(random, 500000) ? 500 * CLOCK_MILLISECOND_NS : 4 * CLOCK_SECOND_NS);
}

/* What is claimed and not sent is taken up again, in the order of the claims. */
static void restart_sender(struct run *run)
{
    struct sim_world *world = &run->world;
    sim_say(world, "sender crashes and starts again");
    sim_sender_destroy(run->sender);
    run->sender = sim_sender_create(world);
    for (size_t i = 0; i < world->transfer_count; i++)
        if (world->transfers[i].submitted && !world->transfers[i].sent)
            sim_sender_submit(run->sender, &world->transfers[i]);
    plan_restart(run, &run->sender_restarts, &run->sender_restart_ns);
}

static void crash_receiver(struct run *run)
{
    struct sim_world *world = &run->world;
    sim_say(world, "receiver crashes");
    sim_receiver_destroy(run->receiver);
    run->receiver = NULL;
    run->receiver_crashes++;
    sim_world_forget_arrivals(world);
    run->receiver_up_ns = world->now_ns;
    if (sim_chance(&world->random, 500000))
        run->receiver_up_ns += sim_below(&world->random, CLOCK_SECOND_NS);
    run->receiver_restart_ns = UINT64_MAX;
}

static uint64_t chunk_count(const struct sim_transfer *transfer)
{
    uint64_t count = 0;
    for (size_t i = 0; i < transfer->file_count; i++)
        count += manifest_chunk_count(transfer->files[i].size);
    return count;
}

static bool send_again(struct run *run, struct sim_transfer *transfer, unsigned class, uint64_t first, uint64_t end)
{
    struct sim_resend resend = {.class = class, .first = first, .last = end - 1};
    if (first >= end)
        resend = (struct sim_resend){.class = class, .first = 1, .last = 0};
    transfer->repeated = true;
    return sim_sender_resend(run->sender, transfer, &resend);
}

/* In the order of the transfers, so that one that waits long holds up those behind it. */
static void run_heals(struct run *run)
{
    struct sim_world *world = &run->world;
    while (run->heals && run->healed < world->transfer_count && world->transfers[run->healed].sent) {
        struct sim_transfer *transfer = &world->transfers[run->healed++];
        if (transfer->sequence != 0)
            (void)send_again(run, transfer, SCHEDULE_HEAL, 0, chunk_count(transfer));
    }
}

/* Each transfer in two parts, of which one may be the manifest alone; in any order, and in any class. */
static void replay_all(struct run *run)
{
    struct sim_world *world = &run->world;
    run->replayed = true;
    for (size_t i = 0; i < world->transfer_count; i++) {
        struct sim_transfer *transfer = &world->transfers[i];
        uint64_t count = chunk_count(transfer), cut = sim_below(&run->operators, count + 1);
        unsigned class = SCHEDULE_REPLAY + (unsigned)sim_below(&run->operators, 2);
        if (sim_chance(&run->operators, 200000))
            class = SCHEDULE_NOW;
        if (transfer->sequence == 0)
            continue;
        run->replayed &= send_again(run, transfer, class, cut, count) && send_again(run, transfer, class, 0, cut);
    }
}

static void run_events(struct run *run)
{
    struct sim_world *world = &run->world;
    if (world->now_ns >= run->sender_restart_ns)
        restart_sender(run);
    if (world->now_ns >= run->receiver_restart_ns)
        crash_receiver(run);
    if (run->receiver == NULL && world->now_ns >= run->receiver_up_ns) {
        run->receiver = sim_receiver_create(world, run->ledger);
        plan_restart(run, &run->receiver_restarts, &run->receiver_restart_ns);
    }
    for (size_t i = 0; i < world->transfer_count; i++)
        if (!world->transfers[i].submitted && world->transfers[i].submit_ns <= world->now_ns)
            sim_sender_submit(run->sender, &world->transfers[i]);
    run_heals(run);
}

static void run_receiver(struct run *run)
{
    const struct sim_packet *packet;
    while ((packet = sim_link_take(run->world.link)) != NULL)
        if (run->receiver != NULL)
            sim_receiver_take(run->receiver, packet);
    if (run->receiver == NULL)
        return;
    sim_receiver_run(run->receiver);
    if (run->world.now_ns < run->survey_ns)
        return;
    sim_receiver_survey(run->receiver);
    run->survey_ns = run->world.now_ns + SURVEY_NS;
}

static uint64_t next_event_ns(const struct run *run)
{
    const struct sim_world *world = &run->world;
    uint64_t at_ns = least(sim_sender_deadline_ns(run->sender), sim_link_deadline_ns(world->link));
    if (run->receiver != NULL)
        at_ns = least(at_ns, least(sim_receiver_deadline_ns(run->receiver), run->survey_ns));
    else
        at_ns = least(at_ns, run->receiver_up_ns);
    at_ns = least(at_ns, least(run->sender_restart_ns, run->receiver_restart_ns));
    for (size_t i = 0; i < world->transfer_count; i++)
        if (!world->transfers[i].submitted)
            at_ns = least(at_ns, world->transfers[i].submit_ns);
    return at_ns;
}

static void step(struct run *run)
{
    uint64_t at_ns = next_event_ns(run);
    run->standing++;
    if (at_ns > run->world.now_ns) {
        run->world.now_ns = at_ns;
        run->standing = 0;
    }
    if (run->standing > STANDING_MAX)
        sim_fail(&run->world, "time stands still");
    run_events(run);
    sim_sender_run(run->sender);
    run_receiver(run);
}

static bool is_over(const struct run *run)
{
    const struct sim_world *world = &run->world;
    if (run->receiver == NULL || run->sender_restart_ns != UINT64_MAX || run->receiver_restart_ns != UINT64_MAX)
        return false;
    for (size_t i = 0; i < world->transfer_count; i++)
        if (!world->transfers[i].submitted)
            return false;
    return sim_sender_is_idle(run->sender);
}

static void judge(struct run *run)
{
    struct sim_world *world = &run->world;
    bool all_must_arrive = run->replayed || (world->setup.weather <= SIM_BURSTS && run->receiver_crashes == 0);
    for (size_t i = 0; i < world->transfer_count; i++) {
        struct sim_transfer *transfer = &world->transfers[i];
        if (!transfer->sent)
            sim_fail(world, "%s was never sent", transfer->name);
        if (transfer->changes) {
            if (transfer->deliveries > 0)
                sim_fail(world, "%s was delivered though it was aborted", transfer->name);
            continue;
        }
        if (transfer->deliveries > 0)
            continue;
        if (world->verbose)
            sim_world_describe(world, transfer);
        if (all_must_arrive)
            sim_fail(world, "%s was not delivered on a link that loses nothing for good", transfer->name);
        else if (sim_world_arrived(world, transfer))
            sim_fail(world, "%s was not delivered though enough of each block arrived", transfer->name);
        else if (!sim_receiver_knows(run->receiver, transfer))
            sim_fail(world, "%s (sequence %llu) was lost and nobody knows", transfer->name,
                     (unsigned long long)transfer->sequence);
    }
    sim_receiver_inspect(run->receiver);
}

static void describe(const struct sim_world *world)
{
    static const char *const weathers[] = {"clear", "bursts", "rain", "storm"};
    const struct sim_setup *setup = &world->setup;
    sim_say(world,
            "seed %llu: %s, %u lanes, %u+%u symbols of %u bytes, depth %u, %.1f Mbit/s, bursts %.1f ms, span %.1f ms, "
            "loss %u ppm, %u+%u restarts, %zu transfers",
            (unsigned long long)world->seed, weathers[setup->weather], setup->lanes, setup->source_symbols,
            setup->repair_symbols, setup->symbol_size, setup->depth, (double)setup->rate_bits_per_s / 1e6,
            (double)setup->burst_ns / 1e6, (double)setup->span_ns / 1e6, setup->loss, setup->sender_restarts,
            setup->receiver_restarts, world->transfer_count);
}

static bool run_seed(uint64_t seed, bool verbose)
{
    struct run *run = calloc(1, sizeof *run);
    if (run == NULL)
        abort();
    struct sim_world *world = &run->world;
    sim_world_init(world, seed, verbose);
    describe(world);
    run->sender_restarts = world->setup.sender_restarts;
    run->receiver_restarts = world->setup.receiver_restarts;
    run->operators.state = ~seed;
    run->heals = sim_chance(&run->operators, 200000);
    run->replays = sim_chance(&run->operators, 150000);
    run->ledger = sim_ledger_create();
    run->sender = sim_sender_create(world);
    run->receiver = sim_receiver_create(world, run->ledger);
    plan_restart(run, &run->sender_restarts, &run->sender_restart_ns);
    plan_restart(run, &run->receiver_restarts, &run->receiver_restart_ns);

    uint64_t end_ns = UINT64_MAX;
    while (!world->failed && world->now_ns < end_ns) {
        step(run);
        if (world->now_ns > TIMEOUT_NS)
            sim_fail(world, "comes to no end");
        if (end_ns == UINT64_MAX && is_over(run)) {
            sim_link_clear_up(world->link);
            end_ns = world->now_ns + CLEAR_NS;
        }
        if (world->now_ns >= end_ns && run->replays) {
            run->replays = false;
            replay_all(run);
            end_ns = UINT64_MAX;
        }
    }
    if (!world->failed)
        judge(run);
    sim_say(world, "%llu datagrams, %llu of them lost on the link, %llu blocks repaired, %llu transfers delivered",
            (unsigned long long)world->datagrams, (unsigned long long)world->dropped,
            (unsigned long long)world->repaired, (unsigned long long)world->delivered);
    bool passed = !world->failed;
    if (!passed)
        printf("seed %llu: %s\n", (unsigned long long)seed, world->why);
    sim_receiver_destroy(run->receiver);
    sim_sender_destroy(run->sender);
    sim_ledger_destroy(run->ledger);
    sim_world_deinit(world);
    free(run);
    return passed;
}

static bool parse(const char *text, uint64_t *value)
{
    char *end;
    errno = 0;
    *value = strtoull(text, &end, 10);
    return errno == 0 && end != text && *end == '\0';
}

int main(int argc, char **argv)
{
    uint64_t first = 1, count = 1000, one = 0, passed = 0;
    bool verbose = false;
    /* Each run takes megabytes and gives them back: the next one shall not have to fault them in again. */
    mallopt(M_MMAP_THRESHOLD, 1 << 30);
    mallopt(M_TRIM_THRESHOLD, 1 << 30);
    for (int i = 1; i < argc; i += 2) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        bool good = false;
        if (strcmp(argv[i], "--seeds") == 0)
            good = parse(value, &count);
        else if (strcmp(argv[i], "--first") == 0)
            good = parse(value, &first);
        else if (strcmp(argv[i], "--seed") == 0)
            good = verbose = parse(value, &one);
        if (!good) {
            fprintf(stderr, "usage: %s [--seeds N] [--first S] [--seed S]\n", argv[0]);
            return 64;
        }
    }
    if (verbose) {
        first = one;
        count = 1;
    }
    for (uint64_t i = 0; i < count; i++)
        passed += run_seed(first + i, verbose);
    printf("%llu passed, %llu failed\n", (unsigned long long)passed, (unsigned long long)(count - passed));
    return passed == count ? 0 : 1;
}
