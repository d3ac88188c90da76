// SPDX-License-Identifier: Apache-2.0
#include "sender/requests.h"

#include <sys/stat.h>

#include "common/request.h"
#include "sender/ledger_again.h"
#include "sender/ledger_replay.h"
#include "sender/spooldirs.h"
#include "tests/unit/sender_ledger_fixture.h"

/* A sender's spool, ledger and directory of requests, without the rest of it. */
struct world {
    struct spooldirs dirs;
    struct config config;
    struct claim claim;
    struct requests *requests;
    int directory_fd; /* the operator's */
};

static void begin(struct world *world, struct ledger_fixture *fixture)
{
    *world = (struct world){
        .config = {.symbol_size = 1408, .source_symbols = 128, .repair_symbols = 16, .rate_bits_per_s = 1000000}};
    assert_int_equal(spooldirs_open(fixture->scratch.path, &world->dirs), STATUS_OK);
    world->claim = (struct claim){.config = &world->config, .dirs = &world->dirs, .ledger = fixture->ledger};
    assert_int_equal(requests_open(&world->claim, &world->requests), STATUS_OK);
    world->directory_fd = openat(fixture->scratch.fd, ".requests", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(world->directory_fd >= 0);
}

static void end(struct world *world)
{
    close(world->directory_fd);
    requests_close(world->requests);
    spooldirs_close(&world->dirs);
}

static void post(const struct world *world, struct request *request)
{
    request->since_ns = INT64_MIN;
    assert_int_equal(request_post(world->directory_fd, request), STATUS_OK);
}

static size_t take(struct world *world, size_t *queued)
{
    struct requests_result result;
    requests_take(world->requests, &result);
    assert_false(result.again);
    if (queued != NULL)
        *queued = result.queued;
    return result.taken;
}

static uint64_t waiting(const struct world *world)
{
    struct ledger_replay_summary *summary = malloc(sizeof *summary);
    assert_int_equal(ledger_replay_summary(world->claim.ledger, summary), STATUS_OK);
    uint64_t count = summary->waiting;
    free(summary);
    return count;
}

static char *answer_of(const struct world *world, const struct request *request)
{
    char *answer = NULL;
    assert_int_equal(request_wait(world->directory_fd, request->id, 0, &answer), STATUS_OK);
    return answer;
}

static void a_request_is_recorded_answered_and_removed(void **state)
{
    struct world world;
    struct request request = {.first_sequence = 1, .last_sequence = 3};
    size_t queued;
    begin(&world, *state);
    fixture_transfer(*state, 1, "a", LEDGER_SEALED);
    fixture_transfer(*state, 2, "a", LEDGER_EXPIRED);
    fixture_transfer(*state, 3, "a", LEDGER_SENT); /* but nothing is in .sent */
    post(&world, &request);
    assert_int_equal(take(&world, &queued), 1);
    assert_int_equal(queued, 0);
    char *answer = answer_of(&world, &request);
    assert_non_null(strstr(answer, "in_flight"));
    assert_non_null(strstr(answer, "not_retained"));
    assert_null(strstr(answer, "queued"));
    free(answer);
    assert_int_equal(take(&world, NULL), 0);
    end(&world);
}

/* In .sent, as a transfer that may be sent again. */
static void keep(struct ledger_fixture *fixture, uint8_t number)
{
    char directory[64], file[80];
    fixture_transfer(fixture, number, "a", LEDGER_SENT);
    snprintf(directory, sizeof directory, ".sent/");
    for (size_t i = 0; i < TRANSFER_ID_SIZE; i++)
        snprintf(directory + 6 + 2 * i, 3, "%02x", number);
    scratch_mkdir(&fixture->scratch, directory);
    snprintf(file, sizeof file, "%s/item%d", directory, number);
    scratch_write(&fixture->scratch, file, "content");
}

static void a_crash_between_recording_and_answering_leads_to_the_same_answer_and_no_second_replay(void **state)
{
    struct ledger_fixture *fixture = *state;
    struct world world;
    struct request request = {.last_count = 1}, copy;
    begin(&world, fixture);
    keep(fixture, 1);
    post(&world, &request);
    /* What the crash leaves: the rows of the request, and the request. */
    const struct ledger_replay replay = {.sequence = 1};
    const struct ledger_request taken = {.id = request.id,
                                         .requester = "alice",
                                         .what = "the last 1",
                                         .answer = "{\"accepted\":true,\"message\":\"as before\"}",
                                         .replays = &replay,
                                         .replay_count = 1};
    assert_int_equal(ledger_request_take(fixture->ledger, &taken, 1), STATUS_OK);
    assert_int_equal(request_next(world.directory_fd, &copy), STATUS_OK);
    assert_string_equal(copy.id, request.id);
    request_deinit(&copy);
    assert_int_equal(take(&world, NULL), 1);
    char *answer = answer_of(&world, &request);
    assert_non_null(strstr(answer, "as before"));
    free(answer);
    assert_int_equal(waiting(&world), 1);
    end(&world);
}

static void a_dry_run_answers_the_same_and_leaves_nothing(void **state)
{
    struct ledger_fixture *fixture = *state;
    struct world world;
    struct request request = {.last_count = 1, .dry_run = true};
    size_t queued;
    begin(&world, fixture);
    keep(fixture, 1);
    post(&world, &request);
    assert_int_equal(take(&world, &queued), 1);
    assert_int_equal(queued, 0);
    char *answer = answer_of(&world, &request);
    assert_non_null(strstr(answer, "queued"));
    free(answer);
    assert_int_equal(waiting(&world), 0);
    assert_int_equal(ledger_request_answer(fixture->ledger, request.id, &answer), STATUS_NOT_FOUND);
    end(&world);
}

static void several_requests_for_one_transfer_are_one_replay(void **state)
{
    struct ledger_fixture *fixture = *state;
    struct world world;
    struct request requests[3] = {
        {.last_count = 1}, {.first_sequence = 1, .last_sequence = 1, .now = true}, {.last_count = 5}};
    size_t queued;
    begin(&world, fixture);
    keep(fixture, 1);
    for (size_t i = 0; i < 3; i++)
        post(&world, &requests[i]);
    assert_int_equal(take(&world, &queued), 3);
    assert_int_equal(queued, 3);
    assert_int_equal(waiting(&world), 1);
    end(&world);
}

static void a_refused_request_is_answered_and_not_recorded(void **state)
{
    struct ledger_fixture *fixture = *state;
    struct world world;
    char text[] = "NOT-A-TICKET";
    char *tickets[] = {text};
    struct request request = {.tickets = tickets, .ticket_count = 1};
    begin(&world, fixture);
    post(&world, &request);
    assert_int_equal(take(&world, NULL), 1);
    char *answer = answer_of(&world, &request);
    assert_non_null(strstr(answer, "\"accepted\":false"));
    free(answer);
    assert_int_equal(ledger_request_answer(fixture->ledger, request.id, &answer), STATUS_NOT_FOUND);
    end(&world);
}

static void the_directory_is_the_senders_alone_without_a_group(void **state)
{
    struct world world;
    struct stat meta;
    begin(&world, *state);
    assert_int_equal(fstat(world.directory_fd, &meta), 0);
    assert_int_equal(meta.st_mode & 07777, 0700);
    end(&world);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, ledger_set_up, ledger_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_request_is_recorded_answered_and_removed),
        TEST(a_crash_between_recording_and_answering_leads_to_the_same_answer_and_no_second_replay),
        TEST(a_dry_run_answers_the_same_and_leaves_nothing),
        TEST(several_requests_for_one_transfer_are_one_replay),
        TEST(a_refused_request_is_answered_and_not_recorded),
        TEST(the_directory_is_the_senders_alone_without_a_group),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
