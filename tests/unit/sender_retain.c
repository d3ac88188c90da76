// SPDX-License-Identifier: Apache-2.0
#include "sender/retain.h"

#include "proto/identity.h"
#include "sender/ledger_replay.h"
#include "sender/spooldirs.h"
#include "tests/unit/sender_ledger_fixture.h"

#define HOUR INT64_C(3600000000000)

static uint64_t free_bytes;

static uint64_t tell_free(const struct claim *claim)
{
    (void)claim;
    return free_bytes;
}

/* Sent transfers 1 to `count` of 100 bytes, with their directories in the spool. */
struct world {
    struct ledger_fixture *fixture;
    struct spooldirs dirs;
    struct config_channel channels[1];
    struct config config;
    struct claim claim;
    struct retain_pass pass;
};

static const char *sent_path(uint8_t number)
{
    static char path[64];
    char text[TRANSFER_ID_TEXT_SIZE];
    uint8_t id[TRANSFER_ID_SIZE];
    memset(id, number, sizeof id);
    identity_transfer_text(id, text);
    snprintf(path, sizeof path, ".sent/%s", text);
    return path;
}

static void begin(struct world *world, struct ledger_fixture *fixture, uint8_t count)
{
    *world = (struct world){.fixture = fixture};
    snprintf(world->channels[0].name, sizeof world->channels[0].name, "models");
    world->config = (struct config){
        .retain_ns = (uint64_t)HOUR, .retain_bytes = UINT64_MAX, .channels = world->channels, .channel_count = 1};
    assert_int_equal(spooldirs_open(fixture->scratch.path, &world->dirs), STATUS_OK);
    world->claim = (struct claim){.config = &world->config, .dirs = &world->dirs, .ledger = fixture->ledger};
    free_bytes = 0;
    for (uint8_t number = 1; number <= count; number++) {
        char file[80];
        fixture_transfer(fixture, number, number % 2 == 1 ? "models" : "wheels", LEDGER_SENT);
        scratch_mkdir(&fixture->scratch, sent_path(number));
        snprintf(file, sizeof file, "%s/item%d", sent_path(number), number);
        scratch_write(&fixture->scratch, file, "content");
    }
    world->pass = (struct retain_pass){.claim = &world->claim, .free_bytes = tell_free};
}

static void end(struct world *world)
{
    spooldirs_close(&world->dirs);
}

static bool is_there(const struct world *world, uint8_t number)
{
    struct ledger_transfer row;
    uint8_t id[TRANSFER_ID_SIZE];
    memset(id, number, sizeof id);
    bool there = scratch_exists(&world->fixture->scratch, sent_path(number));
    assert_int_equal(ledger_find(world->fixture->ledger, id, &row), STATUS_OK);
    assert_int_equal(row.state, there ? LEDGER_SENT : LEDGER_EXPIRED);
    return there;
}

static void nothing_goes_before_its_time(void **state)
{
    struct world world;
    struct retain_result result;
    begin(&world, *state, 3);
    retain_run(&world.pass, &result);
    assert_int_equal(result.kept, 3);
    assert_int_equal(result.kept_bytes, 300);
    assert_int_equal(result.removed, 0);
    assert_int_equal(result.free_missing, 0);
    end(&world);
}

static void what_is_too_old_or_too_much_goes_from_disk_and_ledger(void **state)
{
    struct world world;
    struct retain_result result;
    begin(&world, *state, 6);
    world.channels[0].retain_bytes = 100;
    retain_run(&world.pass, &result);
    assert_int_equal(result.removed, 2);
    assert_false(is_there(&world, 1) || is_there(&world, 3));
    assert_true(is_there(&world, 2) && is_there(&world, 4) && is_there(&world, 5) && is_there(&world, 6));
    world.config.retain_free = 250;
    free_bytes = 100;
    retain_run(&world.pass, &result);
    assert_int_equal(result.removed, 2);
    assert_false(is_there(&world, 2) || is_there(&world, 4));
    world.config.retain_free = 1000;
    retain_run(&world.pass, &result);
    assert_int_equal(result.removed, 2);
    assert_int_equal(result.kept, 0);
    assert_int_equal(result.free_missing, 700);
    end(&world);
}

static void what_is_being_sent_again_or_about_to_be_stays(void **state)
{
    const struct ledger_replay replay = {.sequence = 2};
    const struct ledger_request request = {
        .id = "one", .requester = "alice", .what = "w", .answer = "{}", .replays = &replay, .replay_count = 1};
    const uint64_t held[] = {3};
    struct world world;
    struct retain_result result;
    begin(&world, *state, 4);
    assert_int_equal(ledger_request_take(world.fixture->ledger, &request, 1), STATUS_OK);
    world.pass.held = held;
    world.pass.held_count = 1;
    world.pass.now_ns = INT64_MAX / 2;
    retain_run(&world.pass, &result);
    assert_int_equal(result.removed, 2);
    assert_true(is_there(&world, 2) && is_there(&world, 3));
    assert_false(result.stuck);
    end(&world);
}

static void what_somebody_removed_is_expired_too(void **state)
{
    struct world world;
    struct retain_result result;
    begin(&world, *state, 1);
    assert_int_equal(durable_remove_tree(world.fixture->scratch.fd, sent_path(1)), STATUS_OK);
    world.config.retain_bytes = 0;
    retain_run(&world.pass, &result);
    assert_int_equal(result.removed, 1);
    assert_false(is_there(&world, 1));
    end(&world);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, ledger_set_up, ledger_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(nothing_goes_before_its_time),
        TEST(what_is_too_old_or_too_much_goes_from_disk_and_ledger),
        TEST(what_is_being_sent_again_or_about_to_be_stays),
        TEST(what_somebody_removed_is_expired_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
