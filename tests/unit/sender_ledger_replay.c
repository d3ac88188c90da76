// SPDX-License-Identifier: Apache-2.0
#include "sender/ledger_replay.h"

#include "sender/ledger_again.h"
#include "tests/unit/sender_ledger_fixture.h"

static void ask(struct ledger_fixture *fixture, const char *id, const struct ledger_replay *replays, size_t count)
{
    const struct ledger_request request = {.id = id,
                                           .requester = "alice",
                                           .what = "what",
                                           .answer = "{\"accepted\":true}",
                                           .made_at_ns = 5,
                                           .replays = replays,
                                           .replay_count = count};
    assert_int_equal(ledger_request_take(fixture->ledger, &request, 7), STATUS_OK);
}

static enum status begin(struct ledger_fixture *fixture, bool now, struct ledger_replay *replay)
{
    bool given_up;
    enum status status = ledger_replay_begin(fixture->ledger, now, 9, replay, &given_up);
    assert_false(given_up);
    return status;
}

static void a_request_is_known_by_its_answer_also_after_a_restart(void **state)
{
    struct ledger_fixture *fixture = *state;
    char *answer = NULL;
    assert_int_equal(ledger_request_answer(fixture->ledger, "one", &answer), STATUS_NOT_FOUND);
    ask(fixture, "one", NULL, 0);
    ledger_reopen(fixture);
    assert_int_equal(ledger_request_answer(fixture->ledger, "one", &answer), STATUS_OK);
    assert_string_equal(answer, "{\"accepted\":true}");
    free(answer);
}

static void replays_come_in_the_order_in_which_they_were_asked_for(void **state)
{
    struct ledger_fixture *fixture = *state;
    const struct ledger_replay first[] = {{.sequence = 9, .bytes = 10}, {.sequence = 3}};
    const struct ledger_replay second[] = {{.sequence = 5, .now = true}, {.sequence = 1}};
    struct ledger_replay replay;
    ask(fixture, "one", first, 2);
    ask(fixture, "two", &second[0], 1);
    ask(fixture, "three", &second[1], 1);
    assert_int_equal(begin(fixture, false, &replay), STATUS_OK);
    assert_int_equal(replay.sequence, 9);
    assert_int_equal(replay.bytes, 10);
    assert_int_equal(begin(fixture, true, &replay), STATUS_OK);
    assert_int_equal(replay.sequence, 5);
    assert_true(replay.now);
    assert_int_equal(begin(fixture, true, &replay), STATUS_NOT_FOUND);
    assert_int_equal(begin(fixture, false, &replay), STATUS_OK);
    assert_int_equal(replay.sequence, 3);
    assert_int_equal(begin(fixture, false, &replay), STATUS_OK);
    assert_int_equal(replay.sequence, 1);
    assert_int_equal(begin(fixture, false, &replay), STATUS_NOT_FOUND);
}

static void what_waits_already_is_merged_and_done_at_the_earlier_time(void **state)
{
    struct ledger_fixture *fixture = *state;
    struct ledger_replay some = {.sequence = 4, .parts.manifest_only = true, .bytes = 10}, replay;
    parts_add(&some.parts, 2, 3);
    struct ledger_replay more = {.sequence = 4, .parts.manifest_only = true, .now = true, .bytes = 20};
    parts_add(&more.parts, 8, 9);
    struct ledger_replay_summary *summary = malloc(sizeof *summary);
    ask(fixture, "one", &some, 1);
    ask(fixture, "two", &more, 1);
    assert_int_equal(ledger_replay_summary(fixture->ledger, summary), STATUS_OK);
    assert_int_equal(summary->waiting, 1);
    assert_int_equal(summary->request_count, 2);
    assert_int_equal(summary->requests[0].waiting, 1);
    assert_int_equal(summary->requests[1].waiting, 1);
    assert_int_equal(begin(fixture, false, &replay), STATUS_NOT_FOUND);
    assert_int_equal(begin(fixture, true, &replay), STATUS_OK);
    assert_int_equal(replay.parts.range_count, 2);
    assert_int_equal(replay.parts.ranges[1].last, 9);
    /* It runs: the chunks of a further request may have left already, so the request becomes a replay of its own. */
    ask(fixture, "three", &some, 1);
    assert_int_equal(ledger_replay_end(fixture->ledger, replay.number, LEDGER_REPLAY_DONE, NULL, 11), STATUS_OK);
    assert_int_equal(ledger_replay_summary(fixture->ledger, summary), STATUS_OK);
    assert_int_equal(summary->waiting, 1);
    assert_int_equal(summary->done_total, 1);
    assert_int_equal(summary->sequence_count, 1);
    assert_int_equal(summary->sequences[0], 4);
    free(summary);
}

static void what_ran_waits_again_after_a_restart_and_goes_on_at_its_mark(void **state)
{
    struct ledger_fixture *fixture = *state;
    struct ledger_replay replay = {.sequence = 1};
    ask(fixture, "one", &replay, 1);
    assert_int_equal(begin(fixture, false, &replay), STATUS_OK);
    assert_int_equal(ledger_replay_mark(fixture->ledger, replay.number, 12345), STATUS_OK);
    ledger_reopen(fixture);
    assert_int_equal(begin(fixture, false, &replay), STATUS_NOT_FOUND);
    assert_int_equal(ledger_replay_restart(fixture->ledger), STATUS_OK);
    assert_int_equal(begin(fixture, false, &replay), STATUS_OK);
    assert_int_equal(replay.mark, 12345);
    assert_int_equal(ledger_replay_end(fixture->ledger, replay.number, LEDGER_REPLAY_DONE, NULL, 11), STATUS_OK);
    assert_int_equal(ledger_replay_restart(fixture->ledger), STATUS_OK);
    assert_int_equal(begin(fixture, false, &replay), STATUS_NOT_FOUND);
}

static void a_replay_that_gets_nowhere_is_given_up(void **state)
{
    struct ledger_fixture *fixture = *state;
    struct ledger_replay replay = {.sequence = 1};
    struct ledger_replay_summary *summary = malloc(sizeof *summary);
    bool given_up = false;
    ask(fixture, "one", &replay, 1);
    for (int i = 0; i < LEDGER_REPLAY_ATTEMPTS; i++) {
        assert_int_equal(begin(fixture, false, &replay), STATUS_OK);
        /* One that could not begin for want of something has not tried. */
        assert_int_equal(ledger_replay_wait(fixture->ledger, replay.number), STATUS_OK);
        assert_int_equal(begin(fixture, false, &replay), STATUS_OK);
        assert_int_equal(ledger_replay_restart(fixture->ledger), STATUS_OK);
    }
    assert_int_equal(ledger_replay_begin(fixture->ledger, false, 9, &replay, &given_up), STATUS_OK);
    assert_true(given_up);
    assert_int_equal(begin(fixture, false, &replay), STATUS_NOT_FOUND);
    assert_int_equal(ledger_replay_summary(fixture->ledger, summary), STATUS_OK);
    assert_int_equal(summary->failed_total, 1);
    assert_int_equal(summary->requests[0].failed, 1);
    assert_non_null(strstr(summary->requests[0].message, "without getting anywhere"));
    free(summary);
}

static void transfers_are_found_by_number_and_by_time(void **state)
{
    struct ledger_fixture *fixture = *state;
    struct ledger_transfer transfer;
    assert_int_equal(fixture_transfer(fixture, 1, "a", LEDGER_SENT), 1);
    assert_int_equal(fixture_transfer(fixture, 2, "a", LEDGER_FAILED), 2);
    assert_int_equal(fixture_transfer(fixture, 3, "a", LEDGER_SEALED), 3);
    assert_int_equal(fixture_transfer(fixture, 4, "a", LEDGER_CLAIMED), 0);
    assert_int_equal(ledger_next(fixture->ledger, 0, INT64_MIN, &transfer), STATUS_OK);
    assert_int_equal(transfer.sequence, 1);
    assert_int_equal(ledger_next(fixture->ledger, 1, INT64_MIN, &transfer), STATUS_OK);
    assert_int_equal(transfer.sequence, 2);
    assert_int_equal(ledger_next(fixture->ledger, 0, INT64_MAX, &transfer), STATUS_OK);
    assert_int_equal(transfer.sequence, 3); /* not sent yet */
    assert_int_equal(ledger_next(fixture->ledger, 3, INT64_MIN, &transfer), STATUS_NOT_FOUND);
}

static void count_sequence(const struct ledger_transfer *transfer, void *context)
{
    *(uint64_t *)context = *(uint64_t *)context * 10 + transfer->sequence;
}

static void heals_are_counted_over_restarts(void **state)
{
    struct ledger_fixture *fixture = *state;
    uint64_t seen = 0;
    fixture_transfer(fixture, 1, "a", LEDGER_SENT);
    fixture_transfer(fixture, 2, "a", LEDGER_SENT);
    fixture_transfer(fixture, 3, "a", LEDGER_EXPIRED);
    assert_int_equal(ledger_heal(fixture->ledger, 2, 99), STATUS_OK);
    assert_int_equal(ledger_heal(fixture->ledger, 2, 100), STATUS_OK);
    assert_int_equal(ledger_heal(fixture->ledger, 1, 100), STATUS_OK);
    ledger_reopen(fixture);
    assert_int_equal(ledger_each_healable(fixture->ledger, 0, 3, 10, count_sequence, &seen), STATUS_OK);
    assert_int_equal(seen, 12);
    seen = 0;
    assert_int_equal(ledger_each_healable(fixture->ledger, 0, 2, 10, count_sequence, &seen), STATUS_OK);
    assert_int_equal(seen, 1);
    seen = 0;
    assert_int_equal(ledger_each_healable(fixture->ledger, INT64_MAX, 3, 10, count_sequence, &seen), STATUS_OK);
    assert_int_equal(seen, 0);
    const uint64_t never[] = {1};
    assert_int_equal(ledger_heal_never(fixture->ledger, never, 1), STATUS_OK);
    assert_int_equal(ledger_each_healable(fixture->ledger, 0, 100, 10, count_sequence, &seen), STATUS_OK);
    assert_int_equal(seen, 2);
}

static void a_mark_holds_until_the_transfer_is_sent(void **state)
{
    struct ledger_fixture *fixture = *state;
    struct ledger_mark mark = {.mark = 77};
    struct ledger_transfer row;
    fixture_transfer(fixture, 1, "a", LEDGER_CLAIMED);
    fixture_transfer(fixture, 2, "a", LEDGER_SENT);
    memset(mark.fingerprint, 5, sizeof mark.fingerprint);
    for (uint8_t number = 1; number <= 2; number++) {
        memset(mark.id, number, sizeof mark.id);
        assert_int_equal(ledger_mark(fixture->ledger, &mark, 1), STATUS_OK);
    }
    ledger_reopen(fixture);
    memset(mark.id, 1, sizeof mark.id);
    assert_int_equal(ledger_find(fixture->ledger, mark.id, &row), STATUS_OK);
    assert_int_equal(row.mark, 77);
    assert_memory_equal(row.fingerprint, mark.fingerprint, sizeof row.fingerprint);
    memset(mark.id, 2, sizeof mark.id);
    assert_int_equal(ledger_find(fixture->ledger, mark.id, &row), STATUS_OK);
    assert_int_equal(row.mark, 0);
}

static void what_is_gone_for_long_is_forgotten_and_the_chain_goes_on(void **state)
{
    struct ledger_fixture *fixture = *state;
    struct ledger_transfer row;
    uint64_t sent, failed, sequence;
    uint8_t hash[SHA256_SIZE];
    size_t pruned = 0;
    fixture_transfer(fixture, 1, "a", LEDGER_EXPIRED);
    fixture_transfer(fixture, 2, "a", LEDGER_FAILED);
    fixture_transfer(fixture, 3, "a", LEDGER_SENT);
    fixture_transfer(fixture, 4, "b", LEDGER_EXPIRED); /* the newest of its channel */
    fixture_transfer(fixture, 5, "a", LEDGER_EXPIRED); /* a replay of its manifest waits */
    fixture_transfer(fixture, 6, "a", LEDGER_EXPIRED); /* the newest of all */
    const struct ledger_replay replay = {.sequence = 5, .parts.manifest_only = true};
    ask(fixture, "one", &replay, 1);
    assert_int_equal(ledger_prune(fixture->ledger, 0, 100, &pruned), STATUS_OK);
    assert_int_equal(pruned, 0);
    assert_int_equal(ledger_prune(fixture->ledger, INT64_MAX, 100, &pruned), STATUS_OK);
    assert_int_equal(pruned, 2);
    assert_int_equal(ledger_next(fixture->ledger, 0, INT64_MIN, &row), STATUS_OK);
    assert_int_equal(row.sequence, 3);
    assert_int_equal(ledger_count_sent(fixture->ledger, &sent, &failed), STATUS_OK);
    assert_int_equal(sent, 5);
    assert_int_equal(failed, 1);
    assert_int_equal(ledger_newest(fixture->ledger, &sequence, hash), STATUS_OK);
    assert_int_equal(sequence, 6);
    assert_int_equal(fixture_transfer(fixture, 7, "b", LEDGER_SENT), 7);
}

static void requests_are_forgotten_when_nothing_of_them_is_left_to_do(void **state)
{
    struct ledger_fixture *fixture = *state;
    struct ledger_replay replays[] = {{.sequence = 1}, {.sequence = 2}}, replay;
    struct ledger_replay_summary *summary = malloc(sizeof *summary);
    size_t pruned;
    ask(fixture, "one", &replays[0], 1);
    ask(fixture, "two", &replays[1], 1);
    assert_int_equal(begin(fixture, false, &replay), STATUS_OK);
    assert_int_equal(ledger_replay_end(fixture->ledger, replay.number, LEDGER_REPLAY_DONE, NULL, 11), STATUS_OK);
    assert_int_equal(ledger_prune(fixture->ledger, 1000, 100, &pruned), STATUS_OK);
    assert_int_equal(ledger_replay_summary(fixture->ledger, summary), STATUS_OK);
    assert_int_equal(summary->request_count, 1);
    assert_string_equal(summary->requests[0].id, "two");
    assert_int_equal(summary->waiting, 1);
    free(summary);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, ledger_set_up, ledger_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_request_is_known_by_its_answer_also_after_a_restart),
        TEST(replays_come_in_the_order_in_which_they_were_asked_for),
        TEST(what_waits_already_is_merged_and_done_at_the_earlier_time),
        TEST(what_ran_waits_again_after_a_restart_and_goes_on_at_its_mark),
        TEST(a_replay_that_gets_nowhere_is_given_up),
        TEST(transfers_are_found_by_number_and_by_time),
        TEST(heals_are_counted_over_restarts),
        TEST(a_mark_holds_until_the_transfer_is_sent),
        TEST(what_is_gone_for_long_is_forgotten_and_the_chain_goes_on),
        TEST(requests_are_forgotten_when_nothing_of_them_is_left_to_do),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
