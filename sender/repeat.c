// SPDX-License-Identifier: Apache-2.0
#include "sender/repeat.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "sender/ledger_again.h"
#include "sender/printable.h"
#include "sender/reopen.h"
#include "sender/witness.h"

enum {
    SLOTS = 2 /* of replays: those that wait their turn, and those wanted now */,
    SHOWN_SIZE = 128,
    SUMMARY_REST = 10 /* times as long as it took is waited before the next summary */
};

#define RETRY_NS   (5 * CLOCK_SECOND_NS)  /* after something that may go by */
#define EXPIRE_NS  (60 * CLOCK_SECOND_NS) /* how often the directory of requests is looked at without a reason */
#define MARK_BYTES (UINT64_C(8) << 20)    /* a replay's mark is recorded when it has moved so far */

/* A replay in the pipeline; transfer NULL: none. */
struct slot {
    struct ledger_replay replay;
    struct transfer *transfer;
    uint64_t recorded; /* mark */
};

/* One heal in the pipeline; transfer NULL: none. */
struct healing {
    uint64_t sequence;
    struct transfer *transfer;
};

/* One that is to begin. */
struct heal_begin {
    struct healing healing;
    enum reopen_result result;
    char message[LEDGER_MESSAGE_SIZE];
};

/* A replay that ended, or that has to wait again, to be recorded. */
struct ended {
    int64_t number;
    enum ledger_replay_state state;
    char message[LEDGER_MESSAGE_SIZE];
};

/* What the worker is to do, and what came of it. The control thread does not touch it meanwhile. */
struct job {
    struct ended ended[SLOTS]; /* first */
    size_t ended_count;
    bool marked[SLOTS]; /* replays whose mark moved */
    int64_t numbers[SLOTS];
    uint64_t marks[SLOTS];
    bool take;           /* requests */
    bool is_free[SLOTS]; /* of a replay; `begin`: and one may wait for it */
    bool begin[SLOTS];
    struct heal_begin heals[HEAL_UNDER_WAY];
    size_t heal_count;
    uint64_t never[HEAL_UNDER_WAY]; /* transfers that are not to be healed any more */
    size_t never_count;

    bool may_summarize;
    bool unrecorded; /* what ended is to be recorded once more */
    bool failed;     /* something is to be tried again */
    bool changed;
    struct requests_result taken;
    struct slot begun[SLOTS];
    struct ended stuck[SLOTS]; /* begun in the ledger and not in the pipeline, and the ledger could not record that */
    size_t stuck_count;
    struct ledger_replay_summary summary;
    bool summary_is_good;
    uint64_t summary_took_ns;
};

struct repeat {
    struct repeat_setup setup;
    int64_t realtime_start_ns;
    uint64_t monotonic_start_ns;
    uv_work_t work;
    struct job job;
    uint64_t retry_ns, expire_ns; /* monotonic */
    struct slot slots[SLOTS];
    struct ended ended[SLOTS];
    size_t ended_count;
    struct heal *heal;
    struct healing healings[HEAL_UNDER_WAY];
    uint64_t never[HEAL_UNDER_WAY]; /* to be recorded: not to be healed any more */
    size_t never_count;
    uint64_t heals_total;
    struct ledger_replay_summary summary;
    uint64_t summary_after_ns; /* not before, so that a long history does not keep the ledger from others */
    bool summary_due;
    bool busy;
    bool requested;
    bool look[SLOTS]; /* a replay may wait for that slot */
    bool ranges_due;  /* what will be covered has changed since the heartbeats were told */
};

/* A clock that does not jump with the wall clock and goes on over restarts. */
static int64_t steady_ns(const struct repeat *repeat)
{
    return repeat->realtime_start_ns + (int64_t)(clock_monotonic_ns() - repeat->monotonic_start_ns);
}

static void learn(const struct ledger_transfer *transfer, void *context)
{
    struct repeat *repeat = context;
    /* What a wrong clock dated into the future counts from now on. */
    int64_t now_ns = repeat->realtime_start_ns;
    int64_t sent_ns = transfer->finished_at_ns < now_ns ? transfer->finished_at_ns : now_ns;
    int64_t again_ns = transfer->again_at_ns < now_ns ? transfer->again_at_ns : now_ns;
    heal_add(repeat->heal, transfer->sequence, transfer->bytes, sent_ns, transfer->heals, again_ns);
}

static void set_healing(struct repeat *repeat)
{
    struct message_range ranges[LIMIT_HEALING_RANGES];
    size_t count =
        heal_ranges(repeat->heal, steady_ns(repeat), repeat->summary.sequences, repeat->summary.sequence_count, ranges);
    pipeline_set_healing(repeat->setup.pipeline, ranges, count);
    repeat->ranges_due = false;
}

enum status repeat_create(const struct repeat_setup *setup, struct repeat **repeat)
{
    const struct config *config = setup->claim->config;
    struct ledger *ledger = setup->claim->ledger;
    *repeat = NULL;
    struct repeat *made = calloc(1, sizeof *made);
    assert(made != NULL);
    made->setup = *setup;
    made->work.data = made;
    made->realtime_start_ns = clock_realtime_ns();
    made->monotonic_start_ns = clock_monotonic_ns();
    made->requested = made->look[0] = made->look[1] = true;
    /* Replays that wait are told as healing too, so that the table is there in any case. */
    made->heal = heal_create(setup->heals ? config->idle_copies : 0, config->idle_window_ns);
    enum status status = ledger_replay_restart(ledger);
    if (status == STATUS_OK)
        status = ledger_replay_summary(ledger, &made->summary);
    if (status != STATUS_OK) {
        repeat_destroy(made);
        return status;
    }
    *repeat = made;
    return STATUS_OK;
}

void repeat_learn(struct repeat *repeat)
{
    const struct config *config = repeat->setup.claim->config;
    uint64_t window_ns = config->idle_window_ns < INT64_MAX / 2 ? config->idle_window_ns : INT64_MAX / 2;
    if (repeat->setup.heals &&
        ledger_each_healable(repeat->setup.claim->ledger, repeat->realtime_start_ns - (int64_t)window_ns,
                             config->idle_copies, HEAL_TABLE, learn, repeat) != STATUS_OK)
        log_warning("what was sent before this start is not sent again while the link is idle: the ledger can't be "
                    "read");
    set_healing(repeat);
}

static enum status record_one(struct ledger *ledger, const struct ended *ended)
{
    return ended->state == LEDGER_REPLAY_WAITING
               ? ledger_replay_wait(ledger, ended->number)
               : ledger_replay_end(ledger, ended->number, ended->state, ended->message, clock_realtime_ns());
}

static bool record_ended(struct ledger *ledger, const struct ended *ended, size_t count)
{
    bool good = true;
    for (size_t i = 0; i < count; i++)
        if (record_one(ledger, &ended[i]) != STATUS_OK)
            good = false;
    return good;
}

void repeat_destroy(struct repeat *repeat)
{
    if (repeat == NULL)
        return;
    assert(!repeat->busy);
    if (!record_ended(repeat->setup.claim->ledger, repeat->ended, repeat->ended_count))
        log_warning("the ledger could not record replays that are done; they are sent once more");
    heal_destroy(repeat->heal);
    free(repeat);
}

void repeat_requested(struct repeat *repeat)
{
    repeat->requested = true;
}

void repeat_note_sent(struct repeat *repeat, const struct transfer *transfer)
{
    heal_add(repeat->heal, transfer->sequence, transfer->total_bytes, steady_ns(repeat), 0, 0);
    repeat->ranges_due = true;
}

static void keep_ended(struct repeat *repeat, const struct ended *ended)
{
    assert(repeat->ended_count < SLOTS); /* a slot takes the next one only when its last one is recorded */
    repeat->ended[repeat->ended_count++] = *ended;
}

static void replay_finished(struct repeat *repeat, struct slot *slot)
{
    struct transfer *transfer = slot->transfer;
    char name[SHOWN_SIZE];
    bool good = transfer->outcome == TRANSFER_SENT;
    struct ended ended = {.number = slot->replay.number, .state = good ? LEDGER_REPLAY_DONE : LEDGER_REPLAY_FAILED};
    snprintf(ended.message, sizeof ended.message, "%s", transfer->reason);
    keep_ended(repeat, &ended);
    printable_name(transfer->name, name, sizeof name);
    if (good)
        log_info("%s/" LOG_NAME ", sequence %" PRIu64 ", is sent again", transfer->channel, name, transfer->sequence);
    else
        log_warning("%s/" LOG_NAME ", sequence %" PRIu64 ", can't be sent again: " LOG_DETAIL, transfer->channel, name,
                    transfer->sequence, transfer->reason);
    if (good)
        witness_replayed(repeat->setup.claim->audit, repeat->setup.claim->ledger, transfer);
    else
        heal_remove(repeat->heal, transfer->sequence);
    slot->transfer = NULL;
    repeat->look[0] = repeat->look[1] = true;
}

/* It is said once, for it is not tried again. */
static void heal_is_gone(struct repeat *repeat, uint64_t sequence, const char *why)
{
    log_warning("sequence %" PRIu64 " is not sent again while the link is idle: %s", sequence, why);
    heal_remove(repeat->heal, sequence);
    if (repeat->never_count < HEAL_UNDER_WAY)
        repeat->never[repeat->never_count++] = sequence;
}

static void heal_finished(struct repeat *repeat, struct healing *healing)
{
    const struct transfer *transfer = healing->transfer;
    if (transfer->outcome == TRANSFER_SENT) {
        repeat->heals_total++;
        witness_replayed(repeat->setup.claim->audit, repeat->setup.claim->ledger, transfer);
    } else {
        heal_is_gone(repeat, healing->sequence, transfer->reason);
    }
    heal_ended(repeat->heal, healing->sequence, steady_ns(repeat));
    *healing = (struct healing){0};
}

void repeat_finished(struct repeat *repeat, struct transfer *transfer)
{
    assert(transfer->kind != TRANSFER_FRESH);
    for (int i = 0; i < SLOTS; i++)
        if (repeat->slots[i].transfer == transfer)
            replay_finished(repeat, &repeat->slots[i]);
    for (size_t i = 0; i < HEAL_UNDER_WAY; i++)
        if (repeat->healings[i].transfer == transfer)
            heal_finished(repeat, &repeat->healings[i]);
    transfer_destroy(transfer);
    repeat->ranges_due = true;
}

/* In the worker: begins the next replay of one slot. */
static void begin_replay(const struct repeat *repeat, struct job *job, int index)
{
    const struct claim *claim = repeat->setup.claim;
    struct slot *begun = &job->begun[index];
    char message[LEDGER_MESSAGE_SIZE];
    for (;;) {
        bool given_up = false;
        enum status status =
            ledger_replay_begin(claim->ledger, index == 1, clock_realtime_ns(), &begun->replay, &given_up);
        job->failed = job->failed || (status != STATUS_OK && status != STATUS_NOT_FOUND);
        if (status != STATUS_OK)
            return;
        job->changed = true;
        const struct ledger_replay *replay = &begun->replay;
        if (given_up) {
            log_error("the replay of sequence %" PRIu64 " is given up: it began %d times and got nowhere",
                      replay->sequence, LEDGER_REPLAY_ATTEMPTS);
            continue;
        }
        enum reopen_result result = reopen_transfer(claim, replay->sequence, TRANSFER_REPLAY, &replay->parts,
                                                    replay->mark, &begun->transfer, message);
        if (result == REOPEN_GOOD) {
            begun->transfer->now = replay->now;
            begun->recorded = replay->mark;
            return;
        }
        log_warning("sequence %" PRIu64 " can't be sent again%s: %s", replay->sequence,
                    result == REOPEN_LATER ? " now" : "", message);
        struct ended ended = {.number = replay->number,
                              .state = result == REOPEN_LATER ? LEDGER_REPLAY_WAITING : LEDGER_REPLAY_FAILED};
        memcpy(ended.message, message, sizeof message);
        bool recorded = record_ended(claim->ledger, &ended, 1);
        if (!recorded)
            job->stuck[job->stuck_count++] = ended;
        if (!recorded || result == REOPEN_LATER) {
            job->failed = true;
            return;
        }
    }
}

static void begin_heal(const struct repeat *repeat, struct heal_begin *begin)
{
    static const struct parts everything = {0};
    const struct claim *claim = repeat->setup.claim;
    struct healing *healing = &begin->healing;
    begin->result =
        reopen_transfer(claim, healing->sequence, TRANSFER_HEAL, &everything, 0, &healing->transfer, begin->message);
    if (begin->result != REOPEN_GOOD || ledger_heal(claim->ledger, healing->sequence, clock_realtime_ns()) == STATUS_OK)
        return;
    transfer_destroy(healing->transfer);
    healing->transfer = NULL;
    begin->result = REOPEN_LATER;
}

static void work(uv_work_t *request)
{
    struct repeat *repeat = request->data;
    struct job *job = &repeat->job;
    struct ledger *ledger = repeat->setup.claim->ledger;
    job->unrecorded = !record_ended(ledger, job->ended, job->ended_count);
    job->changed = job->changed || job->ended_count > 0;
    job->failed = job->unrecorded;
    for (int i = 0; i < SLOTS; i++)
        if (job->marked[i] && ledger_replay_mark(ledger, job->numbers[i], job->marks[i]) != STATUS_OK)
            job->failed = true;
    if (job->take) {
        requests_take(repeat->setup.requests, &job->taken);
        job->failed = job->failed || job->taken.again;
        job->changed = job->changed || job->taken.taken > 0;
    }
    for (int i = 0; i < SLOTS && !job->unrecorded; i++)
        if (job->begin[i] || (job->taken.queued > 0 && job->is_free[i]))
            begin_replay(repeat, job, i);
    for (size_t i = 0; i < job->heal_count; i++)
        begin_heal(repeat, &job->heals[i]);
    if (ledger_heal_never(ledger, job->never, job->never_count) != STATUS_OK)
        job->failed = true;
    if (!job->changed || (!job->may_summarize && job->taken.taken == 0))
        return;
    uint64_t start_ns = clock_monotonic_ns();
    job->summary_is_good = ledger_replay_summary(ledger, &job->summary) == STATUS_OK;
    job->summary_took_ns = clock_monotonic_ns() - start_ns;
    job->failed = job->failed || !job->summary_is_good;
}

static void heal_begun(struct repeat *repeat, const struct heal_begin *begin)
{
    int64_t now_ns = steady_ns(repeat);
    uint64_t sequence = begin->healing.sequence;
    if (begin->result != REOPEN_GOOD) {
        if (begin->result == REOPEN_GONE)
            heal_is_gone(repeat, sequence, begin->message);
        else
            repeat->retry_ns = clock_monotonic_ns() + RETRY_NS;
        heal_ended(repeat->heal, sequence, now_ns);
        return;
    }
    size_t place = 0;
    while (repeat->healings[place].transfer != NULL)
        place++;
    assert(place < HEAL_UNDER_WAY);
    repeat->healings[place] = begin->healing;
    heal_began(repeat->heal, sequence, now_ns);
    pipeline_submit(repeat->setup.pipeline, begin->healing.transfer);
}

static void after_work(uv_work_t *request, int result)
{
    struct repeat *repeat = request->data;
    struct job *job = &repeat->job;
    (void)result;
    repeat->busy = false;
    for (size_t i = 0; i < job->ended_count && job->unrecorded; i++)
        keep_ended(repeat, &job->ended[i]);
    for (size_t i = 0; i < job->stuck_count; i++)
        keep_ended(repeat, &job->stuck[i]);
    if (job->failed) {
        repeat->retry_ns = clock_monotonic_ns() + RETRY_NS;
        repeat->requested = repeat->requested || job->taken.again;
    }
    if (job->failed || job->taken.queued > 0)
        repeat->look[0] = repeat->look[1] = true;
    if (job->changed)
        repeat->summary_due = !job->summary_is_good;
    if (job->summary_is_good) {
        repeat->summary = job->summary;
        repeat->summary_after_ns = clock_monotonic_ns() + SUMMARY_REST * job->summary_took_ns;
    }
    for (int i = 0; i < SLOTS; i++) {
        if (job->begun[i].transfer == NULL)
            continue;
        repeat->slots[i] = job->begun[i];
        pipeline_submit(repeat->setup.pipeline, repeat->slots[i].transfer);
    }
    for (size_t i = 0; i < job->heal_count; i++)
        heal_begun(repeat, &job->heals[i]);
    job->heal_count = 0;
    set_healing(repeat);
    repeat->setup.done(repeat->setup.context);
}

static void start(struct repeat *repeat)
{
    repeat->busy = true;
    int result = uv_queue_work(repeat->setup.loop, &repeat->work, work, after_work);
    assert(result == 0);
}

/* Chooses heals for the job, as many as may be under way. */
static void choose_heals(struct repeat *repeat, struct job *job)
{
    uint64_t sequence;
    size_t room = 0;
    for (size_t i = 0; i < HEAL_UNDER_WAY; i++)
        room += repeat->healings[i].transfer == NULL;
    while (job->heal_count < room && (sequence = heal_choose(repeat->heal, steady_ns(repeat))) != 0)
        job->heals[job->heal_count++] = (struct heal_begin){.healing = {.sequence = sequence}};
}

static bool replays_wait(const struct repeat *repeat)
{
    if (repeat->requested || repeat->ended_count > 0 || repeat->summary_due || repeat->summary.waiting > 0)
        return true;
    for (int i = 0; i < SLOTS; i++)
        if (repeat->slots[i].transfer != NULL)
            return true;
    return false;
}

void repeat_pump(struct repeat *repeat, bool idle)
{
    struct job *job = &repeat->job;
    uint64_t now = clock_monotonic_ns();
    if (repeat->ranges_due)
        set_healing(repeat);
    if (repeat->busy || now < repeat->retry_ns)
        return;
    memset(job, 0, sizeof *job);
    memcpy(job->ended, repeat->ended, sizeof job->ended);
    job->ended_count = repeat->ended_count;
    memcpy(job->never, repeat->never, sizeof job->never);
    job->never_count = repeat->never_count;
    job->take = repeat->requested;
    job->may_summarize = now >= repeat->summary_after_ns;
    job->changed = repeat->summary_due;
    bool wanted = job->ended_count > 0 || job->never_count > 0 || job->take || (job->changed && job->may_summarize);
    for (int i = 0; i < SLOTS; i++) {
        job->is_free[i] = repeat->slots[i].transfer == NULL;
        job->begin[i] = job->is_free[i] && repeat->look[i];
        wanted = wanted || job->begin[i];
    }
    if (idle && repeat->setup.heals && !replays_wait(repeat))
        choose_heals(repeat, job);
    if (!wanted && job->heal_count == 0)
        return;
    repeat->ended_count = repeat->never_count = 0;
    for (int i = 0; i < SLOTS; i++)
        if (job->begin[i])
            repeat->look[i] = false;
    if (job->take)
        repeat->requested = false;
    start(repeat);
}

void repeat_tick(struct repeat *repeat)
{
    struct job *job = &repeat->job;
    uint64_t now = clock_monotonic_ns();
    bool moved = false;
    set_healing(repeat);
    if (now >= repeat->expire_ns) {
        repeat->expire_ns = now + EXPIRE_NS;
        repeat->requested = true;
    }
    if (repeat->busy)
        return;
    memset(job, 0, sizeof *job);
    for (int i = 0; i < SLOTS; i++) {
        struct slot *slot = &repeat->slots[i];
        uint64_t mark = slot->transfer != NULL ? atomic_load(&slot->transfer->mark) : 0;
        if (mark < slot->recorded + MARK_BYTES)
            continue;
        job->marked[i] = moved = true;
        job->numbers[i] = slot->replay.number;
        job->marks[i] = slot->recorded = mark;
    }
    if (moved)
        start(repeat);
}

bool repeat_is_busy(const struct repeat *repeat)
{
    return repeat->busy;
}

bool repeat_is_through(const struct repeat *repeat)
{
    return !repeat->busy && !replays_wait(repeat);
}

size_t repeat_sequences(const struct repeat *repeat, uint64_t sequences[static REPEAT_UNDER_WAY])
{
    size_t count = 0;
    for (int i = 0; i < SLOTS; i++)
        if (repeat->slots[i].transfer != NULL)
            sequences[count++] = repeat->slots[i].replay.sequence;
    for (size_t i = 0; i < HEAL_UNDER_WAY; i++)
        if (repeat->healings[i].transfer != NULL)
            sequences[count++] = repeat->healings[i].sequence;
    for (size_t i = 0; i < repeat->job.heal_count; i++)
        sequences[count++] = repeat->job.heals[i].healing.sequence;
    return count;
}

void repeat_facts(const struct repeat *repeat, struct repeat_facts *facts)
{
    *facts = (struct repeat_facts){.replays = &repeat->summary,
                                   .heals_total = repeat->heals_total,
                                   .heals_pending = heal_pending(repeat->heal, steady_ns(repeat)),
                                   .stuck = clock_monotonic_ns() < repeat->retry_ns};
    for (int i = 0; i < SLOTS; i++)
        if (repeat->slots[i].transfer != NULL)
            facts->transfers[facts->count++] = repeat->slots[i].transfer;
    for (size_t i = 0; i < HEAL_UNDER_WAY; i++)
        if (repeat->healings[i].transfer != NULL)
            facts->transfers[facts->count++] = repeat->healings[i].transfer;
}
