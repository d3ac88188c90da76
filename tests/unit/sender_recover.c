// SPDX-License-Identifier: Apache-2.0
#include "sender/recover.h"

#include <sqlite3.h>

#include "proto/identity.h"
#include "sender/flight.h"
#include "sender/reopen.h"
#include "sender/spooldirs.h"
#include "tests/unit/sender_ledger_fixture.h"

struct world {
    struct ledger_fixture *fixture;
    struct spooldirs dirs;
    struct config config;
    struct claim claim;
};

static void begin(struct world *world, struct ledger_fixture *fixture)
{
    *world = (struct world){.fixture = fixture, .config = {.max_size = UINT64_MAX}};
    assert_int_equal(spooldirs_open(fixture->scratch.path, &world->dirs), STATUS_OK);
    world->claim = (struct claim){.config = &world->config, .dirs = &world->dirs, .ledger = fixture->ledger};
}

static void end(struct world *world)
{
    spooldirs_close(&world->dirs);
}

/* PLACE/ID/itemNUMBER with some content. */
static const char *put(struct ledger_fixture *fixture, const char *place, uint8_t number, const char *text)
{
    static char path[100];
    char id[TRANSFER_ID_TEXT_SIZE];
    uint8_t bytes[TRANSFER_ID_SIZE];
    memset(bytes, number, sizeof bytes);
    identity_transfer_text(bytes, id);
    snprintf(path, sizeof path, "%s/%s", place, id);
    if (!scratch_exists(&fixture->scratch, path))
        scratch_mkdir(&fixture->scratch, path);
    snprintf(path, sizeof path, "%s/%s/item%d", place, id, number);
    scratch_write(&fixture->scratch, path, text);
    return path;
}

/* The only transfer that is taken up. */
static struct transfer *recover(struct world *world)
{
    struct recover_result result;
    assert_int_equal(recover_run(&world->claim, &result), STATUS_OK);
    assert_int_equal(result.count, 1);
    struct transfer *transfer = result.transfers[0];
    free(result.transfers);
    return transfer;
}

static void record_mark(struct world *world, const struct transfer *transfer, uint64_t mark)
{
    struct ledger_mark record = {.mark = mark};
    memcpy(record.id, transfer->id, sizeof record.id);
    memcpy(record.fingerprint, transfer->fingerprint, sizeof record.fingerprint);
    assert_int_equal(ledger_mark(world->fixture->ledger, &record, 1), STATUS_OK);
}

static void what_has_left_is_not_sent_again_while_the_item_is_what_it_was(void **state)
{
    struct world world;
    begin(&world, *state);
    fixture_transfer(world.fixture, 1, "a", LEDGER_CLAIMED);
    put(world.fixture, ".sending", 1, "0123456789");
    struct transfer *transfer = recover(&world);
    assert_int_equal(transfer->resume_at, 0);
    record_mark(&world, transfer, 7);
    transfer_destroy(transfer);

    transfer = recover(&world);
    assert_int_equal(transfer->resume_at, 7);
    assert_int_equal(atomic_load(&transfer->mark), 7);
    transfer_destroy(transfer);

    put(world.fixture, ".sending", 1, "9876543210");
    transfer = recover(&world);
    assert_int_equal(transfer->resume_at, 0);
    transfer_destroy(transfer);
    end(&world);
}

static void a_sealed_one_goes_on_at_its_mark_with_its_number(void **state)
{
    struct world world;
    begin(&world, *state);
    fixture_transfer(world.fixture, 1, "a", LEDGER_SEALED);
    put(world.fixture, ".sending", 1, "0123456789");
    struct transfer *transfer = recover(&world);
    record_mark(&world, transfer, 10);
    transfer_destroy(transfer);
    transfer = recover(&world);
    assert_int_equal(transfer->resume_at, 10);
    assert_int_equal(transfer->sequence, 1);
    assert_int_equal(transfer->signed_size, 6);
    transfer_destroy(transfer);
    end(&world);
}

static void marks_are_told_when_they_have_moved_enough(void **state)
{
    (void)state;
    struct flight flight;
    struct ledger_mark marks[4];
    struct transfer *one = transfer_create(), *two = transfer_create();
    one->id[0] = 1;
    two->id[0] = 2;
    atomic_store(&two->mark, FLIGHT_MARK_BYTES);
    flight_init(&flight, 4096);
    flight_add(&flight, one);
    flight_add(&flight, two); /* resumed there: the ledger knows */
    assert_int_equal(flight_marks(&flight, marks, 4), 0);
    atomic_store(&one->mark, FLIGHT_MARK_BYTES - 1);
    assert_int_equal(flight_marks(&flight, marks, 4), 0);
    atomic_store(&one->mark, FLIGHT_MARK_BYTES);
    atomic_store(&two->mark, 2 * FLIGHT_MARK_BYTES);
    assert_int_equal(flight_marks(&flight, marks, 1), 1);
    assert_int_equal(marks[0].id[0], 1);
    assert_int_equal(flight_marks(&flight, marks, 4), 1);
    assert_int_equal(marks[0].id[0], 2);
    assert_int_equal(marks[0].mark, 2 * FLIGHT_MARK_BYTES);
    assert_int_equal(flight_marks(&flight, marks, 4), 0);
    flight_remove(&flight, one);
    atomic_store(&two->mark, 3 * FLIGHT_MARK_BYTES);
    assert_int_equal(flight_marks(&flight, marks, 4), 1);
    assert_int_equal(marks[0].id[0], 2);
    flight_deinit(&flight);
    transfer_destroy(one);
    transfer_destroy(two);
}

static void what_is_sent_can_be_opened_again_and_what_is_gone_can_not(void **state)
{
    struct world world;
    const struct parts everything = {0};
    char message[LEDGER_MESSAGE_SIZE];
    struct transfer *transfer;
    begin(&world, *state);
    fixture_transfer(world.fixture, 1, "a", LEDGER_SENT);
    fixture_transfer(world.fixture, 2, "a", LEDGER_SENT);
    fixture_transfer(world.fixture, 3, "a", LEDGER_EXPIRED);
    put(world.fixture, ".sent", 1, "0123456789");
    assert_int_equal(reopen_transfer(&world.claim, 1, TRANSFER_HEAL, &everything, 0, &transfer, message), REOPEN_GOOD);
    assert_int_equal(transfer->kind, TRANSFER_HEAL);
    assert_int_equal(transfer->sequence, 1);
    assert_int_equal(transfer->total_bytes, 10);
    assert_int_equal(transfer->signed_size, 6);
    assert_true(transfer->directory_fd >= 0);
    transfer_destroy(transfer);
    for (uint64_t sequence = 2; sequence <= 4; sequence++) {
        assert_int_equal(reopen_transfer(&world.claim, sequence, TRANSFER_REPLAY, &everything, 0, &transfer, message),
                         REOPEN_GONE);
        assert_null(transfer);
        assert_non_null(strstr(message, "no longer"));
    }
    end(&world);
}

/* The first release's, with a sent transfer in it. */
static const char first_schema[] =
    "CREATE TABLE sender (one INTEGER PRIMARY KEY CHECK (one = 1), chain_id BLOB NOT NULL, epoch INTEGER NOT NULL);"
    "CREATE TABLE transfer (id BLOB PRIMARY KEY, channel TEXT NOT NULL, name TEXT NOT NULL, origin_user TEXT NOT NULL,"
    " in_root INTEGER NOT NULL, device INTEGER NOT NULL, inode INTEGER NOT NULL, state INTEGER NOT NULL, claimed_at_ns "
    "INTEGER NOT NULL,"
    " finished_at_ns INTEGER NOT NULL DEFAULT 0, bytes INTEGER NOT NULL DEFAULT 0, sequence INTEGER UNIQUE,"
    " reason TEXT);"
    "CREATE INDEX transfer_by_state ON transfer (state, claimed_at_ns);"
    "CREATE TABLE manifest (sequence INTEGER PRIMARY KEY, transfer_id BLOB NOT NULL UNIQUE REFERENCES transfer (id),"
    " channel TEXT NOT NULL, hash BLOB NOT NULL, signed BLOB NOT NULL);"
    "CREATE INDEX manifest_by_channel ON manifest (channel, sequence);"
    "INSERT INTO sender VALUES (1, zeroblob(16), 5);"
    "INSERT INTO transfer VALUES (x'01010101010101010101010101010101', 'a', 'item1', 'u', 0, 1, 1, 4, 1, 2, 10, 1,"
    " NULL);"
    "INSERT INTO manifest VALUES (1, x'01010101010101010101010101010101', 'a', zeroblob(32), x'00');"
    "PRAGMA application_id = 1684229203; PRAGMA user_version = 1";

static void the_ledger_of_the_first_release_is_taken_over_and_kept(void **state)
{
    struct ledger_fixture *fixture = *state;
    struct ledger_transfer row;
    uint8_t id[TRANSFER_ID_SIZE], hash[SHA256_SIZE];
    uint64_t sequence;
    char file[100];
    sqlite3 *old = NULL;
    ledger_close(fixture->ledger);
    snprintf(file, sizeof file, "%s/sender.db", fixture->scratch.path);
    assert_int_equal(unlink(file), 0);
    assert_int_equal(sqlite3_open(file, &old), SQLITE_OK);
    assert_int_equal(sqlite3_exec(old, first_schema, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(old);
    assert_int_equal(ledger_open(fixture->scratch.path, &fixture->ledger), STATUS_OK);
    memset(id, 1, sizeof id);
    assert_int_equal(ledger_find(fixture->ledger, id, &row), STATUS_OK);
    assert_int_equal(row.state, LEDGER_SENT);
    assert_int_equal(row.mark, 0);
    assert_int_equal(row.heals, 0);
    assert_int_equal(ledger_newest(fixture->ledger, &sequence, hash), STATUS_OK);
    assert_int_equal(sequence, 1);
    assert_true(scratch_exists(&fixture->scratch, "sender.db.v1"));
}

/* The state was restored from a backup: it was claimed then, and has been sealed and sent since. */
static void what_a_later_state_has_sent_is_retained_as_sent(void **state)
{
    struct world world;
    struct recover_result result;
    struct ledger_transfer row;
    uint8_t id[TRANSFER_ID_SIZE];
    begin(&world, *state);
    fixture_transfer(world.fixture, 1, "a", LEDGER_CLAIMED);
    put(world.fixture, ".sent", 1, "0123456789");
    assert_int_equal(recover_run(&world.claim, &result), STATUS_OK);
    assert_int_equal(result.count, 0);
    free(result.transfers);
    memset(id, 1, sizeof id);
    assert_int_equal(ledger_find(world.fixture->ledger, id, &row), STATUS_OK);
    assert_int_equal(row.state, LEDGER_SENT);
    assert_int_equal(row.sequence, 0);
    assert_true(row.finished_at_ns > 0);
    end(&world);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, ledger_set_up, ledger_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_has_left_is_not_sent_again_while_the_item_is_what_it_was),
        TEST(a_sealed_one_goes_on_at_its_mark_with_its_number),
        TEST(marks_are_told_when_they_have_moved_enough),
        TEST(what_is_sent_can_be_opened_again_and_what_is_gone_can_not),
        TEST(what_a_later_state_has_sent_is_retained_as_sent),
        TEST(the_ledger_of_the_first_release_is_taken_over_and_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
