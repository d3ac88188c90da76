// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/sim.h"

#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"

#define RESTART_NS (1500 * CLOCK_MILLISECOND_NS) /* between two restarts of the same end, at least */
#define SURVEY_NS  (500 * CLOCK_MILLISECOND_NS)
#define CLEAR_NS   (20 * CLOCK_SECOND_NS)  /* without loss at the end: longer than giving up and every grace take */
#define TIMEOUT_NS (600 * CLOCK_SECOND_NS) /* no run takes so long */

#define ROUND_NS (8 * CLOCK_SECOND_NS) /* likewise, behind a replay */

enum { STANDING_MAX = 10000, ERRANDS = 5, ROUNDS = 4 };

/* Something that happens so many times, at times that the seed says. */
struct plan {
    unsigned left;
    uint64_t at_ns;
};

/* One seed's run: the two ends, and when what happens to them. */
struct run {
    struct sim_world world;
    struct sim_sender *sender;
    struct sim_receiver *receiver;
    struct ledger *ledger;
    struct sim_disk *disk;
    struct plan sender_restart, receiver_restart, clock_step, full_disk, sender_backup, receiver_backup;
    bool sender_falls, receiver_falls; /* at one of its next acts */
    uint64_t receiver_up_ns, disk_free_ns;
    uint64_t survey_ns;
    unsigned receiver_crashes;
    unsigned standing;           /* steps since time went on */
    struct sim_random operators; /* and what they do, and when */
    struct sim_backup *sender_copy;
    struct ledger *receiver_copy;
    bool tampered; /* the receiver's ledger is not of its disk's time */
    bool full;
    bool asks; /* in the end, for all that is missing */
    unsigned errands, rounds;
};

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/*
 * A receiver that can't yet tell a new epoch from a forged one does not let the next one displace it at once: who
 * starts three times within a second may lose what it sends meanwhile.
 */
static void plan_next(struct run *run, struct plan *plan)
{
    struct sim_random *random = &run->world.random;
    uint64_t soonest_ns = run->world.now_ns + (run->world.now_ns > 0 ? RESTART_NS : 0);
    plan->at_ns = UINT64_MAX;
    if (plan->left == 0)
        return;
    plan->left--;
    plan->at_ns =
        soonest_ns + sim_below(random, sim_chance(random, 500000) ? 500 * CLOCK_MILLISECOND_NS : 4 * CLOCK_SECOND_NS);
}

static bool is_due(const struct run *run, const struct plan *plan)
{
    return run->world.now_ns >= plan->at_ns;
}

/* What is claimed and not sent is taken up again, in the order of the claims. */
static void restart_sender(struct run *run)
{
    struct sim_world *world = &run->world;
    bool power = world->setup.hard && sim_chance(&world->random, 500000);
    sim_say(world, "sender crashes%s and starts again", power ? " by loss of power" : "");
    sim_statistics.sender_crashes++;
    sim_statistics.power_losses += power;
    sim_sender_destroy(run->sender);
    world->sender_life = (struct sim_life){.left = UINT64_MAX};
    run->sender_falls = false;
    if (power)
        sim_link_lose_in_flight(world->link);
    if (run->sender_copy != NULL) {
        sim_backup_restore(world, run->sender_copy);
        sim_backup_destroy(run->sender_copy);
        run->sender_copy = NULL;
    }
    run->sender = sim_sender_create(world);
    for (size_t i = 0; i < world->transfer_count; i++)
        if (world->transfers[i].submitted && !world->transfers[i].sent)
            sim_sender_submit(run->sender, &world->transfers[i]);
    plan_next(run, &run->sender_restart);
}

/* In the older ledger some deliveries are not known: these may come once more. */
static void restore_receiver(struct run *run)
{
    struct sim_world *world = &run->world;
    for (size_t i = 0; i < world->transfer_count; i++) {
        if (world->transfers[i].deliveries > 0 && !sim_ledger_has(run->receiver_copy, run->disk, i)) {
            world->transfers[i].deliveries = 0;
            sim_statistics.again++;
        }
    }
    sim_ledger_destroy(run->ledger);
    run->ledger = run->receiver_copy;
    run->receiver_copy = NULL;
    run->tampered = true;
    sim_statistics.receiver_backups++;
    sim_say(world, "the receiver's ledger is put back");
}

static void crash_receiver(struct run *run)
{
    struct sim_world *world = &run->world;
    bool power = world->setup.hard && sim_chance(&world->random, 500000);
    sim_say(world, "receiver crashes%s", power ? " by loss of power" : "");
    sim_statistics.receiver_crashes++;
    sim_statistics.power_losses += power;
    sim_receiver_destroy(run->receiver);
    run->receiver = NULL;
    if (power)
        sim_disk_lose_power(run->disk);
    if (run->receiver_copy != NULL)
        restore_receiver(run);
    world->receiver_life = (struct sim_life){.left = UINT64_MAX};
    run->receiver_falls = false;
    run->receiver_crashes++;
    sim_world_forget_arrivals(world);
    run->receiver_up_ns = world->now_ns;
    if (sim_chance(&world->random, 500000))
        run->receiver_up_ns += sim_below(&world->random, CLOCK_SECOND_NS);
    run->receiver_restart.at_ns = UINT64_MAX;
}

/* A crash comes at one of the next acts, or a little later if there are none. */
static bool falls(struct run *run, struct plan *plan, struct sim_life *life, bool *falling)
{
    if (!is_due(run, plan) || !run->world.setup.hard || *falling)
        return is_due(run, plan);
    *falling = true;
    life->left = sim_below(&run->world.random, 1 << sim_below(&run->world.random, 8));
    plan->at_ns = run->world.now_ns + 300 * CLOCK_MILLISECOND_NS;
    return false;
}

static void run_crashes(struct run *run)
{
    struct sim_world *world = &run->world;
    if (falls(run, &run->sender_restart, &world->sender_life, &run->sender_falls))
        restart_sender(run);
    if (run->receiver != NULL && falls(run, &run->receiver_restart, &world->receiver_life, &run->receiver_falls))
        crash_receiver(run);
    if (run->receiver != NULL || world->now_ns < run->receiver_up_ns)
        return;
    run->receiver = sim_receiver_create(world, run->ledger, run->disk, run->tampered);
    sim_receiver_set_full(run->receiver, run->full);
    plan_next(run, &run->receiver_restart);
}

static void step_clock(struct run *run)
{
    static const int64_t steps_s[] = {3600, -3600, 86400, -86400};
    struct sim_world *world = &run->world;
    uint64_t choice = sim_below(&world->random, 6);
    int64_t now_s = (SIM_REALTIME_NS + (int64_t)world->now_ns) / 1000000000;
    int64_t by_s = choice < 4 ? steps_s[choice] : (choice == 4 ? 1 : INT64_C(2147483640)) - now_s;
    world->sender_clock_ns = by_s * 1000000000;
    sim_statistics.clock_steps++;
    sim_say(world, "the sender's clock is wrong by %lld s", (long long)by_s);
    plan_next(run, &run->clock_step);
}

static void set_full(struct run *run, bool full)
{
    run->full = full;
    run->disk_free_ns = full ? run->world.now_ns + sim_below(&run->world.random, 3 * CLOCK_SECOND_NS) : UINT64_MAX;
    if (run->receiver != NULL)
        sim_receiver_set_full(run->receiver, full);
    sim_statistics.full_disks += full;
    sim_say(&run->world, full ? "the staging disk is full" : "the staging disk has room again");
}

static void run_faults(struct run *run)
{
    if (is_due(run, &run->clock_step))
        step_clock(run);
    if (run->full && run->world.now_ns >= run->disk_free_ns)
        set_full(run, false);
    if (is_due(run, &run->full_disk)) {
        set_full(run, true);
        plan_next(run, &run->full_disk);
    }
    if (is_due(run, &run->sender_backup)) {
        sim_backup_destroy(run->sender_copy);
        run->sender_copy = sim_backup_take(&run->world);
        plan_next(run, &run->sender_backup);
    }
    if (is_due(run, &run->receiver_backup)) {
        sim_ledger_destroy(run->receiver_copy);
        run->receiver_copy = sim_ledger_copy(run->ledger);
        plan_next(run, &run->receiver_backup);
    }
}

static void run_events(struct run *run)
{
    struct sim_world *world = &run->world;
    run_faults(run);
    run_crashes(run);
    for (size_t i = 0; i < world->transfer_count; i++)
        if (!world->transfers[i].submitted && world->transfers[i].submit_ns <= world->now_ns)
            sim_sender_submit(run->sender, &world->transfers[i]);
}

/* Looks at what is missing, and now and then somebody carries its tickets over. */
static void survey(struct run *run)
{
    struct sim_errand errand = {0};
    bool carry = run->errands < ERRANDS && sim_chance(&run->operators, run->world.setup.operators);
    sim_receiver_survey(run->receiver, carry ? &errand : NULL);
    if (carry && !run->world.sender_life.dead && errand.count > 0) {
        run->errands++;
        sim_errand_run(&run->world, &run->operators, &errand, 0, true);
    }
    sim_errand_free(&errand);
}

static void run_receiver(struct run *run)
{
    const struct sim_packet *packet;
    while ((packet = sim_link_take(run->world.link)) != NULL)
        if (run->receiver != NULL && !run->world.receiver_life.dead)
            sim_receiver_take(run->receiver, packet);
    if (run->receiver == NULL)
        return;
    sim_receiver_run(run->receiver);
    if (run->world.receiver_life.dead)
        crash_receiver(run);
    if (run->receiver == NULL || run->world.now_ns < run->survey_ns)
        return;
    survey(run);
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
    at_ns = least(at_ns, run->sender_restart.at_ns);
    if (run->receiver != NULL)
        at_ns = least(at_ns, run->receiver_restart.at_ns);
    at_ns = least(at_ns, least(run->clock_step.at_ns, run->full_disk.at_ns));
    at_ns = least(at_ns, least(run->sender_backup.at_ns, run->receiver_backup.at_ns));
    if (run->full)
        at_ns = least(at_ns, run->disk_free_ns);
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
    if (run->world.sender_life.dead)
        restart_sender(run);
    run_receiver(run);
}

static bool is_over(const struct run *run)
{
    const struct sim_world *world = &run->world;
    const struct plan *plans[] = {&run->sender_restart, &run->receiver_restart, &run->clock_step,
                                  &run->full_disk,      &run->sender_backup,    &run->receiver_backup};
    for (size_t i = 0; i < sizeof plans / sizeof *plans; i++)
        if (plans[i]->at_ns != UINT64_MAX)
            return false;
    if (run->receiver == NULL || run->full)
        return false;
    for (size_t i = 0; i < world->transfer_count; i++)
        if (!world->transfers[i].submitted)
            return false;
    return sim_sender_is_idle(run->sender);
}

/* `all`: there was every chance to bring it over. */
static void judge_transfer(struct run *run, struct sim_transfer *transfer, bool all)
{
    struct sim_world *world = &run->world;
    if (!transfer->sent)
        sim_fail(world, "%s was never sent", transfer->name);
    if (transfer->changes || transfer->gone || transfer->deliveries > 0)
        return;
    if (world->verbose)
        sim_world_describe(world, transfer);
    bool kept = !world->setup.hard && sim_world_arrived(world, transfer);
    if (all)
        sim_fail(world, "%s was not delivered on a link that loses nothing for good", transfer->name);
    else if (kept)
        sim_fail(world, "%s was not delivered though enough of each block arrived", transfer->name);
    else if (!sim_receiver_knows(run->receiver, transfer))
        sim_fail(world, "%s (sequence %llu) was lost and nobody knows", transfer->name,
                 (unsigned long long)transfer->sequence);
}

static void judge(struct run *run, bool all)
{
    struct sim_world *world = &run->world;
    for (size_t i = 0; i < world->transfer_count; i++)
        judge_transfer(run, &world->transfers[i], all);
    sim_receiver_inspect(run->receiver);
    if (run->asks && all)
        sim_receiver_check_numbers(run->receiver);
}

/* The link is quiet and loses nothing any more. True when somebody had something to ask for. */
static bool ask_for_rest(struct run *run)
{
    struct sim_errand errand = {0};
    sim_receiver_survey(run->receiver, &errand);
    uint64_t baseline = run->rounds == 0 ? sim_receiver_baseline(run->receiver) : 0;
    size_t queued = sim_errand_run(&run->world, &run->operators, &errand, baseline, false);
    sim_errand_free(&errand);
    if (queued == 0 || ++run->rounds <= ROUNDS)
        return queued > 0;
    /* What a restored sender has forgotten nobody can bring; an operator accepts its loss in the end. */
    if (run->world.setup.sender_backups == 0)
        sim_fail(&run->world, "tickets are asked for without end");
    return false;
}

static void clear_up(struct run *run)
{
    struct sim_setup *setup = &run->world.setup;
    sim_link_clear_up(run->world.link);
    setup->write_errors = setup->flush_errors = setup->ledger_errors = setup->operators = setup->tempting = 0;
    run->world.sender_life.left = run->world.receiver_life.left = UINT64_MAX;
}

static void describe(const struct sim_world *world)
{
    static const char *const weathers[] = {"clear", "bursts", "rain", "storm", "night"};
    const struct sim_setup *setup = &world->setup;
    sim_say(
        world,
        "seed %llu: %s%s, %u lanes, %u+%u symbols of %u bytes, depth %u, %.1f Mbit/s, bursts %.1f ms, span %.1f ms, "
        "loss %u ppm, %u+%u restarts, %zu transfers",
        (unsigned long long)world->seed, weathers[setup->weather], setup->hard ? ", hard" : "", setup->lanes,
        setup->source_symbols, setup->repair_symbols, setup->symbol_size, setup->depth,
        (double)setup->rate_bits_per_s / 1e6, (double)setup->burst_ns / 1e6, (double)setup->span_ns / 1e6, setup->loss,
        setup->sender_restarts, setup->receiver_restarts, world->transfer_count);
}

static void start(struct run *run)
{
    struct sim_world *world = &run->world;
    const struct sim_setup *setup = &world->setup;
    struct {
        struct plan *plan;
        unsigned count;
    } plans[] = {{&run->sender_restart, setup->sender_restarts}, {&run->receiver_restart, setup->receiver_restarts},
                 {&run->clock_step, setup->clock_steps},         {&run->full_disk, setup->full_disks},
                 {&run->sender_backup, setup->sender_backups},   {&run->receiver_backup, setup->receiver_backups}};
    run->operators.state = ~world->seed;
    run->asks = setup->hard || sim_chance(&run->operators, 150000);
    run->disk_free_ns = UINT64_MAX;
    run->ledger = sim_ledger_create(world);
    run->disk = sim_disk_create(world);
    run->sender = sim_sender_create(world);
    run->receiver = sim_receiver_create(world, run->ledger, run->disk, false);
    for (size_t i = 0; i < sizeof plans / sizeof *plans; i++) {
        plans[i].plan->left = plans[i].count;
        plan_next(run, plans[i].plan);
    }
}

/* Nothing is lost for good. */
static bool setup_is_gentle(const struct run *run)
{
    return run->world.setup.weather <= SIM_BURSTS && run->receiver_crashes == 0 && !run->world.setup.hard;
}

static bool run_seed(uint64_t seed, bool verbose)
{
    struct run *run = calloc(1, sizeof *run);
    if (run == NULL)
        abort();
    struct sim_world *world = &run->world;
    sim_world_init(world, seed, verbose);
    describe(world);
    start(run);
    uint64_t end_ns = UINT64_MAX;
    while (!world->failed && (world->now_ns < end_ns || sim_receiver_is_filling(run->receiver))) {
        step(run);
        if (world->now_ns > TIMEOUT_NS)
            sim_fail(world, "comes to no end");
        if (end_ns == UINT64_MAX && is_over(run)) {
            clear_up(run);
            end_ns = world->now_ns + (run->rounds == 0 ? CLEAR_NS : ROUND_NS);
        }
        if (world->now_ns < end_ns || world->failed || sim_receiver_is_filling(run->receiver))
            continue; /* a heal that is under way has its time too */
        bool all = run->asks ? run->rounds > 0 : setup_is_gentle(run);
        if (!run->asks || run->rounds == 0)
            judge(run, !run->asks && all);
        if (run->asks && ask_for_rest(run))
            end_ns = UINT64_MAX;
        else if (run->asks)
            judge(run, true);
    }
    sim_say(world, "%llu datagrams, %llu of them lost on the link, %llu blocks repaired, %llu transfers delivered",
            (unsigned long long)world->datagrams, (unsigned long long)world->dropped,
            (unsigned long long)world->repaired, (unsigned long long)world->delivered);
    bool passed = !world->failed;
    if (!passed)
        printf("seed %llu: %s\n", (unsigned long long)seed, world->why);
    sim_receiver_destroy(run->receiver);
    sim_sender_destroy(run->sender);
    sim_ledger_destroy(run->ledger);
    sim_ledger_destroy(run->receiver_copy);
    sim_backup_destroy(run->sender_copy);
    sim_disk_destroy(run->disk);
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
    uint64_t first = 1, count = 1000, one = 0, passed = 0, failed = 0;
    bool verbose = false, stops = false; /* at the first that fails */
    /* Each run takes megabytes and gives them back: the next one shall not have to fault them in again. */
    mallopt(M_MMAP_THRESHOLD, 1 << 30);
    mallopt(M_TRIM_THRESHOLD, 1 << 30);
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        bool good = false;
        if (strcmp(argv[i], "--seeds") == 0)
            good = parse(value, &count);
        else if (strcmp(argv[i], "--first") == 0)
            good = parse(value, &first);
        else if (strcmp(argv[i], "--seed") == 0)
            good = parse(value, &one);
        else if (strcmp(argv[i], "--trace") == 0)
            good = verbose = true;
        else if (strcmp(argv[i], "--stop") == 0)
            good = stops = true;
        i += strcmp(argv[i], "--trace") != 0 && strcmp(argv[i], "--stop") != 0;
        if (!good) {
            fprintf(stderr, "usage: %s [--seeds N] [--first S] [--stop] [--seed S] [--trace]\n", argv[0]);
            return 64;
        }
    }
    log_open("sim", verbose ? LOG_LEVEL_DEBUG : LOG_LEVEL_ERROR);
    if (one != 0) {
        first = one;
        count = 1;
    }
    for (uint64_t i = 0; i < count; i++) {
        bool good = run_seed(first + i, verbose);
        passed += good;
        failed += !good;
        if (stops && !good)
            break;
    }
    sim_print_statistics();
    printf("%llu passed, %llu failed\n", (unsigned long long)passed, (unsigned long long)failed);
    return failed == 0 ? 0 : 1;
}
