// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/clock.h"
#include "sender/ledger_again.h"
#include "sender/reopen.h"
#include "sender/repeat.h"
#include "sender/witness.h"

/* The module without what stands around it: a ledger that can fail, and a clock that the test moves. */
static uint64_t fake_now_ns;
static bool ledger_fails;
static enum { OPENS, IS_GONE, COMES_LATER } reopens;
static int waiting, begun_count, ended_count, waited_count, summaries, submitted;
static int recorded_state;

static uint64_t fake_clock(void)
{
    return fake_now_ns;
}

static enum status fake_restart(struct ledger *ledger)
{
    (void)ledger;
    return STATUS_OK;
}

static enum status fake_summary(struct ledger *ledger, struct ledger_replay_summary *summary)
{
    (void)ledger;
    memset(summary, 0, sizeof *summary);
    summary->waiting = (uint64_t)waiting;
    summaries++;
    fake_now_ns += CLOCK_SECOND_NS / 100;
    return STATUS_OK;
}

static enum status fake_end(struct ledger *ledger, int64_t number, enum ledger_replay_state state, const char *message,
                            int64_t now_ns)
{
    (void)ledger;
    (void)number;
    (void)message;
    (void)now_ns;
    ended_count++;
    if (!ledger_fails)
        recorded_state = (int)state;
    return ledger_fails ? STATUS_NO_SPACE : STATUS_OK;
}

static enum status fake_wait(struct ledger *ledger, int64_t number)
{
    (void)ledger;
    (void)number;
    waited_count++;
    if (!ledger_fails)
        waiting++;
    return ledger_fails ? STATUS_NO_SPACE : STATUS_OK;
}

static enum status fake_begin(struct ledger *ledger, bool now, int64_t now_ns, struct ledger_replay *replay,
                              bool *given_up)
{
    (void)ledger;
    (void)now_ns;
    *given_up = false;
    if (now || waiting == 0)
        return STATUS_NOT_FOUND;
    waiting--;
    *replay = (struct ledger_replay){.number = ++begun_count, .sequence = 7};
    return STATUS_OK;
}

static enum status fake_heal_never(struct ledger *ledger, const uint64_t *sequences, size_t count)
{
    (void)ledger;
    (void)sequences;
    (void)count;
    return STATUS_OK;
}

static enum reopen_result fake_reopen(const struct claim *claim, uint64_t sequence, enum transfer_kind kind,
                                      const struct parts *parts, uint64_t mark, struct transfer **transfer,
                                      char message[static LEDGER_MESSAGE_SIZE])
{
    (void)claim;
    (void)parts;
    (void)mark;
    snprintf(message, LEDGER_MESSAGE_SIZE, "said by the test");
    if (reopens != OPENS)
        return reopens == IS_GONE ? REOPEN_GONE : REOPEN_LATER;
    *transfer = transfer_create();
    (*transfer)->kind = kind;
    (*transfer)->sequence = sequence;
    return REOPEN_GOOD;
}

static void fake_take(struct requests *requests, struct requests_result *result)
{
    (void)requests;
    *result = (struct requests_result){0};
}

static void fake_submit(struct pipeline *pipeline, struct transfer *transfer)
{
    (void)pipeline;
    (void)transfer;
    submitted++;
}

static void fake_set_healing(struct pipeline *pipeline, const struct message_range *ranges, size_t count)
{
    (void)pipeline;
    (void)ranges;
    (void)count;
}

static void fake_witness(struct audit *audit, const struct ledger *ledger, const struct transfer *transfer)
{
    (void)audit;
    (void)ledger;
    (void)transfer;
}

#define clock_monotonic_ns                     fake_clock
#define ledger_replay_restart                  fake_restart
#define ledger_replay_summary(ledger, summary) fake_summary(ledger, summary) /* the struct keeps its name */
#define ledger_replay_end                      fake_end
#define ledger_replay_wait                     fake_wait
#define ledger_replay_begin                    fake_begin
#define ledger_heal_never                      fake_heal_never
#define reopen_transfer                        fake_reopen
#define requests_take                          fake_take
#define pipeline_submit                        fake_submit
#define pipeline_set_healing                   fake_set_healing
#define witness_replayed                       fake_witness
#include "sender/repeat.c"

struct fixture {
    uv_loop_t loop;
    struct config config;
    struct claim claim;
    struct repeat *repeat;
};

/* As the control thread does it: whatever a worker has done, the next one may start. */
static void done(void *context)
{
    struct fixture *fixture = context;
    repeat_pump(fixture->repeat, false);
}

/* Until no worker runs; a module that never rests would not come to an end, so that is bounded. */
static void run(struct fixture *fixture)
{
    repeat_pump(fixture->repeat, false);
    for (int i = 0; i < 100 && repeat_is_busy(fixture->repeat); i++)
        uv_run(&fixture->loop, UV_RUN_ONCE);
    assert_false(repeat_is_busy(fixture->repeat));
}

static int set_up(void **state)
{
    struct fixture *fixture = calloc(1, sizeof *fixture);
    fake_now_ns = CLOCK_SECOND_NS;
    ledger_fails = false;
    reopens = OPENS;
    waiting = begun_count = ended_count = waited_count = summaries = submitted = recorded_state = 0;
    uv_loop_init(&fixture->loop);
    fixture->claim.config = &fixture->config;
    const struct repeat_setup setup = {
        .claim = &fixture->claim, .loop = &fixture->loop, .done = done, .context = fixture};
    assert_int_equal(repeat_create(&setup, &fixture->repeat), STATUS_OK);
    *state = fixture;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;
    ledger_fails = false;
    repeat_destroy(fixture->repeat);
    assert_int_equal(uv_loop_close(&fixture->loop), 0);
    free(fixture);
    return 0;
}

static void begin_one(struct fixture *fixture)
{
    waiting = 1;
    run(fixture);
    assert_int_equal(submitted, 1);
}

static void finish_one(struct fixture *fixture)
{
    struct transfer *transfer = fixture->repeat->slots[0].transfer;
    transfer->outcome = TRANSFER_SENT;
    repeat_finished(fixture->repeat, transfer);
}

static void pass_retry(struct fixture *fixture)
{
    fake_now_ns += 6 * CLOCK_SECOND_NS;
    run(fixture);
}

static void a_replay_whose_end_the_ledger_refuses_is_recorded_later_and_not_at_once_again(void **state)
{
    struct fixture *fixture = *state;
    begin_one(fixture);
    ledger_fails = true;
    finish_one(fixture);
    run(fixture);
    assert_int_equal(ended_count, 1);
    run(fixture);
    assert_int_equal(ended_count, 1); /* nothing is tried before its time */
    assert_false(repeat_is_through(fixture->repeat));
    ledger_fails = false;
    pass_retry(fixture);
    assert_int_equal(recorded_state, LEDGER_REPLAY_DONE);
    assert_true(repeat_is_through(fixture->repeat));
}

static void a_replay_that_failed_to_begin_is_recorded_when_the_ledger_works_again(void **state)
{
    struct fixture *fixture = *state;
    waiting = 1;
    reopens = IS_GONE;
    ledger_fails = true;
    run(fixture);
    assert_int_equal(recorded_state, 0);
    ledger_fails = false;
    pass_retry(fixture);
    assert_int_equal(recorded_state, LEDGER_REPLAY_FAILED);
    assert_int_equal(begun_count, 1);
    assert_true(repeat_is_through(fixture->repeat));
}

static void a_replay_that_can_not_begin_yet_begins_when_ledger_and_descriptors_are_back(void **state)
{
    struct fixture *fixture = *state;
    waiting = 1;
    reopens = COMES_LATER;
    ledger_fails = true;
    run(fixture);
    assert_int_equal(waiting, 0); /* it runs, says the ledger */
    ledger_fails = false;
    reopens = OPENS;
    pass_retry(fixture);
    assert_int_equal(submitted, 1);
    finish_one(fixture);
    run(fixture);
    assert_int_equal(recorded_state, LEDGER_REPLAY_DONE);
}

static void summaries_of_many_replays_take_a_tenth_of_the_time_at_most_and_the_last_one_is_current(void **state)
{
    struct fixture *fixture = *state;
    const int count = 50;
    waiting = count;
    uint64_t start_ns = fake_now_ns;
    run(fixture);
    while (submitted < count) {
        finish_one(fixture);
        fake_now_ns += CLOCK_MILLISECOND_NS;
        run(fixture);
    }
    finish_one(fixture);
    run(fixture);
    assert_true((uint64_t)summaries * (CLOCK_SECOND_NS / 10) <= fake_now_ns - start_ns + 3 * CLOCK_SECOND_NS / 10);
    assert_int_equal(ended_count, count);
    fake_now_ns += CLOCK_SECOND_NS;
    run(fixture);
    assert_true(repeat_is_through(fixture->repeat));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_replay_whose_end_the_ledger_refuses_is_recorded_later_and_not_at_once_again,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_replay_that_failed_to_begin_is_recorded_when_the_ledger_works_again, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_replay_that_can_not_begin_yet_begins_when_ledger_and_descriptors_are_back,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            summaries_of_many_replays_take_a_tenth_of_the_time_at_most_and_the_last_one_is_current, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
