// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/durable.h"
#include "receiver/ledger_loss.h"
#include "receiver/ledger_private.h"

static char directory[] = "/tmp/diodecast-ledger-XXXXXX";
static char file[64];
static struct ledger *ledger;
static const uint8_t CHAIN[CHAIN_ID_SIZE] = {0xcc};

static int open_fresh(void **state)
{
    (void)state;
    memcpy(directory + sizeof directory - 7, "XXXXXX", 6);
    if (mkdtemp(directory) == NULL)
        return -1;
    snprintf(file, sizeof file, "%s/receiver.db", directory);
    return ledger_open(directory, &ledger) == STATUS_OK ? 0 : -1;
}

static int close_and_remove(void **state)
{
    (void)state;
    ledger_close(ledger);
    return durable_remove_tree(AT_FDCWD, directory) == STATUS_OK ? 0 : -1;
}

static void reopen(void)
{
    ledger_close(ledger);
    assert_int_equal(ledger_open(directory, &ledger), STATUS_OK);
}

static void run_sql(const char *sql)
{
    sqlite3 *handle;
    char *error = NULL;
    ledger_close(ledger);
    ledger = NULL;
    assert_int_equal(sqlite3_open(file, &handle), SQLITE_OK);
    if (sqlite3_exec(handle, sql, NULL, NULL, &error) != SQLITE_OK)
        fail_msg("%s", error);
    sqlite3_close(handle);
    assert_int_equal(ledger_open(directory, &ledger), STATUS_OK);
}

static struct ledger_delivery delivery(uint32_t sender_id, uint8_t number, uint64_t sequence)
{
    struct ledger_delivery made = {.sender_id = sender_id, .sequence = sequence, .bytes = 10, .at_ns = 5};
    made.transfer_id[0] = number;
    made.manifest_hash[0] = number;
    memcpy(made.chain_id, CHAIN, CHAIN_ID_SIZE);
    snprintf(made.channel, sizeof made.channel, "tools");
    snprintf(made.name, sizeof made.name, "item");
    snprintf(made.directory, sizeof made.directory, "dir-%u", number);
    return made;
}

static void deliver(uint32_t sender_id, uint8_t number, uint64_t sequence)
{
    struct ledger_delivery one = delivery(sender_id, number, sequence);
    struct ledger_key key = {.sender_id = sender_id, .transfer_id = {number}};
    assert_int_equal(ledger_publishing(ledger, &one, 1), STATUS_OK);
    assert_int_equal(ledger_delivered(ledger, &key, 1), STATUS_OK);
}

static void an_id_of_one_sender_does_not_block_it_for_another(void **state)
{
    (void)state;
    const uint8_t id[TRANSFER_ID_SIZE] = {1};
    struct ledger_delivery again = delivery(7, 1, 10);
    uint64_t count;
    deliver(7, 1, 10);
    assert_int_not_equal(ledger_knows_transfer(ledger, 8, id), ledger_knows_transfer(ledger, 7, id));
    deliver(8, 1, 4);
    assert_int_equal(ledger_publishing(ledger, &again, 1), STATUS_EXISTS);
    assert_int_equal(ledger_publish_failed(ledger, 8, id), STATUS_OK); /* delivered: stays */
    assert_int_equal(ledger_delivered_count(ledger, &count), STATUS_OK);
    assert_int_equal(count, 2);
}

static void the_number_of_deliveries_is_right_whatever_is_repeated(void **state)
{
    (void)state;
    struct ledger_key key = {.sender_id = 7, .transfer_id = {1}};
    uint64_t count;
    deliver(7, 1, 10);
    assert_int_equal(ledger_delivered(ledger, &key, 1), STATUS_OK); /* once more, after a crash */
    key.transfer_id[0] = 9;
    assert_int_equal(ledger_delivered(ledger, &key, 1), STATUS_OK); /* of which there is no intent */
    reopen();
    assert_int_equal(ledger_delivered_count(ledger, &count), STATUS_OK);
    assert_int_equal(count, 1);
}

struct ranges {
    unsigned count;
    uint64_t first[8], last[8];
};

static void note_range(uint64_t first, uint64_t last, void *context)
{
    struct ranges *ranges = context;
    assert_true(ranges->count < 8);
    ranges->first[ranges->count] = first;
    ranges->last[ranges->count++] = last;
}

static void note_alarm(const struct knowledge_alarm *alarm, void *context)
{
    struct knowledge_alarm *list = context;
    while (list->kind != 0)
        list++;
    *list = *alarm;
}

static void rows_that_make_no_sense_are_passed_over(void **state)
{
    (void)state;
    struct knowledge_alarm found[4] = {0};
    struct ranges ranges = {0};
    run_sql("INSERT INTO written_off (chain_id, first, last, actor, reason, at_ns) VALUES"
            " (x'cc000000000000000000000000000000', 9, 3, 'a', 'b', 1),"
            " (x'cc000000000000000000000000000000', 0, 3, 'a', 'b', 1),"
            " (x'cc000000000000000000000000000000', 4, 9223372036854775807, 'a', 'b', 1),"
            " (x'cc000000000000000000000000000000', 4, 5, 'a', 'b', 1);"
            "INSERT INTO alarm (sender_id, chain_id, kind, first, last, at_ns) VALUES"
            " (1, x'cc000000000000000000000000000000', 1, 9, 3, 1),"
            " (1, x'cc000000000000000000000000000000', 2, 7, 7, 1)");
    assert_int_equal(ledger_each_written_off(ledger, CHAIN, note_range, &ranges), STATUS_OK);
    assert_int_equal(ranges.count, 1);
    assert_int_equal(ranges.last[0], 5);
    assert_int_equal(ledger_each_alarm(ledger, note_alarm, found), STATUS_OK);
    assert_int_equal(found[0].first, 7);
    assert_int_equal(found[1].kind, 0);
}

static void accepted_losses_and_alarms_survive(void **state)
{
    (void)state;
    struct knowledge_alarm alarm = {.kind = KNOWLEDGE_FORK, .sender_id = 0xfedcba98, .first = 5, .last = 6, .at_ns = 9};
    struct knowledge_alarm found[4] = {0};
    const struct ledger_write_off list[2] = {{{0xcc}, 3, 9}, {{0xcc}, 12, 12}};
    struct ranges ranges = {0};
    memcpy(alarm.chain_id, CHAIN, CHAIN_ID_SIZE);
    assert_int_equal(ledger_store_alarm(ledger, &alarm), STATUS_OK);
    alarm.last = 8;
    alarm.at_ns = 77;
    assert_int_equal(ledger_store_alarm(ledger, &alarm), STATUS_OK);
    reopen();
    assert_int_equal(ledger_each_alarm(ledger, note_alarm, found), STATUS_OK);
    assert_int_equal(found[0].kind, KNOWLEDGE_FORK);
    assert_int_equal(found[0].sender_id, 0xfedcba98);
    assert_int_equal(found[0].first, 5);
    assert_int_equal(found[0].last, 8);
    assert_int_equal(found[0].at_ns, 9);
    assert_int_equal(found[1].kind, 0);

    assert_int_equal(ledger_write_off(ledger, list, 2, &CHAIN, 1, "alice", "disk died", 100), STATUS_OK);
    reopen();
    memset(found, 0, sizeof found);
    assert_int_equal(ledger_each_alarm(ledger, note_alarm, found), STATUS_OK);
    assert_int_equal(found[0].kind, 0);
    assert_int_equal(ledger_each_written_off(ledger, CHAIN, note_range, &ranges), STATUS_OK);
    assert_int_equal(ranges.count, 2);
    assert_int_equal(ranges.first[0], 3);
    assert_int_equal(ranges.last[1], 12);
    /* The next alarm is a new one. */
    assert_int_equal(ledger_store_alarm(ledger, &alarm), STATUS_OK);
    assert_int_equal(ledger_each_alarm(ledger, note_alarm, found), STATUS_OK);
    assert_int_equal(found[0].at_ns, 77);
}

static void note_sequence(uint64_t sequence, void *context)
{
    note_range(sequence, sequence, context);
}

static void remember_chain(const struct ledger_chain *chain, void *context)
{
    *(struct ledger_chain *)context = *chain;
}

static void after_a_rollback_only_the_new_branch_counts(void **state)
{
    (void)state;
    struct ledger_chain chain = {.sender_id = 7,
                                 .baseline = 0,
                                 .newest_sequence = 5,
                                 .told_sequence = 5,
                                 .told_hash = {5},
                                 .settled_sequence = 5,
                                 .delivered_through = 5,
                                 .epoch = 1};
    struct ranges ranges = {0};
    uint8_t hash[SHA256_SIZE];
    memcpy(chain.chain_id, CHAIN, CHAIN_ID_SIZE);
    assert_int_equal(ledger_store_chain(ledger, &chain), STATUS_OK);
    for (uint8_t sequence = 1; sequence <= 5; sequence++)
        deliver(7, sequence, sequence);
    const struct ledger_write_off old = {{0xcc}, 5, 5};
    assert_int_equal(ledger_write_off(ledger, &old, 1, NULL, 0, "alice", "x", 1), STATUS_OK);
    assert_int_equal(ledger_roll_back(ledger, CHAIN, 3), STATUS_OK);
    deliver(7, 40, 4);
    reopen();
    assert_int_equal(ledger_each_sequence(ledger, CHAIN, 0, note_sequence, &ranges), STATUS_OK);
    assert_int_equal(ranges.count, 4); /* 1 to 3, and the new 4 */
    assert_int_equal(ranges.last[3], 4);
    ranges.count = 0;
    assert_int_equal(ledger_each_written_off(ledger, CHAIN, note_range, &ranges), STATUS_OK);
    assert_int_equal(ranges.count, 0);
    assert_int_equal(ledger_each_chain(ledger, remember_chain, &chain), STATUS_OK);
    assert_int_equal(chain.newest_sequence, 3);
    assert_int_equal(chain.told_sequence, 0);
    assert_int_equal(chain.settled_sequence, 3);
    assert_int_equal(chain.delivered_through, 3);
    assert_int_equal(ledger_manifest_hash(ledger, CHAIN, 4, hash), STATUS_OK);
    assert_int_equal(hash[0], 40);
    assert_int_equal(ledger_manifest_hash(ledger, CHAIN, 6, hash), STATUS_NOT_FOUND);
}

/* The file as the first release of the schema made it. */
static const char first_schema[] =
    "CREATE TABLE chain (chain_id BLOB PRIMARY KEY, sender_id INTEGER NOT NULL, baseline INTEGER NOT NULL,"
    "  newest_sequence INTEGER NOT NULL, settled_sequence INTEGER NOT NULL, epoch BLOB NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE delivery (number INTEGER PRIMARY KEY AUTOINCREMENT, transfer_id BLOB NOT NULL UNIQUE,"
    "  state INTEGER NOT NULL, chain_id BLOB NOT NULL, sender_id INTEGER NOT NULL, sequence INTEGER NOT NULL,"
    "  bytes INTEGER NOT NULL, at_ns INTEGER NOT NULL, channel TEXT NOT NULL, name TEXT NOT NULL,"
    "  directory TEXT NOT NULL, manifest_hash BLOB NOT NULL);"
    "CREATE INDEX delivery_sequence ON delivery (chain_id, sequence);"
    "CREATE INDEX delivery_channel ON delivery (chain_id, channel, sequence);"
    "CREATE INDEX delivery_directory ON delivery (channel, directory);"
    "CREATE INDEX delivery_publishing ON delivery (number) WHERE state = 1;"
    "INSERT INTO chain VALUES (x'cc000000000000000000000000000000', 7, 1, 4, 3, x'0000000000000009');"
    "INSERT INTO delivery VALUES (3, x'02000000000000000000000000000000', 2,"
    "  x'cc000000000000000000000000000000', 7, 2, 11, 5, 'tools', 'old', 'dir-2', zeroblob(32));"
    "INSERT INTO delivery VALUES (8, x'03000000000000000000000000000000', 1,"
    "  x'cc000000000000000000000000000000', 7, 3, 12, 6, 'tools', 'half', 'dir-3', zeroblob(32));"
    "PRAGMA application_id = 1145260114; PRAGMA user_version = 1;";

static void count_publishing(const struct ledger_delivery *found, void *context)
{
    assert_string_equal(found->name, "half");
    assert_int_equal(found->bytes, 12);
    *(unsigned *)context += 1;
}

static void a_ledger_of_the_first_schema_is_brought_up_to_date_with_all_it_knows(void **state)
{
    (void)state;
    struct ledger_chain chain;
    struct ledger_delivery last;
    uint64_t count;
    unsigned publishing = 0;
    sqlite3 *handle;
    ledger_close(ledger);
    ledger = NULL;
    assert_int_equal(unlink(file), 0);
    assert_int_equal(sqlite3_open(file, &handle), SQLITE_OK);
    assert_int_equal(sqlite3_exec(handle, first_schema, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(handle);
    assert_int_equal(ledger_open(directory, &ledger), STATUS_OK);
    assert_int_equal(ledger_delivered_count(ledger, &count), STATUS_OK);
    assert_int_equal(count, 1);
    assert_int_equal(ledger_last_delivered(ledger, &last), STATUS_OK);
    assert_string_equal(last.name, "old");
    assert_int_equal(ledger_each_publishing(ledger, count_publishing, &publishing), STATUS_OK);
    assert_int_equal(publishing, 1);
    assert_int_equal(ledger_each_chain(ledger, remember_chain, &chain), STATUS_OK);
    assert_int_equal(chain.newest_sequence, 4);
    assert_int_equal(chain.delivered_through, 0);
    assert_int_equal(chain.epoch, 9);
    deliver(7, 9, 9);
    assert_int_equal(ledger_last_delivered(ledger, &last), STATUS_OK); /* numbers go on behind the old ones */
    assert_int_equal(last.sequence, 9);
    assert_int_equal(ledger_delivered_count(ledger, &count), STATUS_OK);
    assert_int_equal(count, 2);
}

/* One sender's hundred thousand deliveries, of which the third one is missing. */
static const char hundred_thousand[] =
    "BEGIN;"
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100001)"
    " INSERT INTO delivery (transfer_id, state, chain_id, sender_id, sequence, bytes, at_ns, channel, name, directory,"
    "  manifest_hash) SELECT randomblob(16), 2, x'cc000000000000000000000000000000', 7, i, 1000, i,"
    "  'channel-' || (i % 5), 'name', 'dir-' || i, randomblob(32) FROM n WHERE i <> 3;"
    "UPDATE delivered SET total = 100000;"
    "INSERT INTO chain (chain_id, sender_id, baseline, newest_sequence, settled_sequence, epoch, delivered_through)"
    " VALUES (x'cc000000000000000000000000000000', 7, 0, 100001, 100001, x'0000000000000001', 2);"
    "COMMIT;";

static void count_sequence(uint64_t sequence, void *context)
{
    (void)sequence;
    *(uint64_t *)context += 1;
}

/* What the statements of a connection have done since it was opened; those that load all at the start are left out. */
static void expect_no_scan(struct db *db)
{
    sqlite3_stmt *statement = NULL;
    unsigned count = 0;
    while ((statement = sqlite3_next_stmt(db_handle(db), statement)) != NULL) {
        const char *sql = sqlite3_sql(statement);
        int scanned = sqlite3_stmt_status(statement, SQLITE_STMTSTATUS_FULLSCAN_STEP, 0);
        int sorted = sqlite3_stmt_status(statement, SQLITE_STMTSTATUS_SORT, 0);
        int indexed = sqlite3_stmt_status(statement, SQLITE_STMTSTATUS_AUTOINDEX, 0);
        int steps = sqlite3_stmt_status(statement, SQLITE_STMTSTATUS_VM_STEP, 0);
        bool loads = strstr(sql, "SELECT sequence FROM delivery") != NULL;
        if (scanned > 4 || (sorted > 0 && strstr(sql, "ORDER BY epoch") == NULL) || indexed > 0 ||
            (steps > 1000 && !loads))
            fail_msg("%d rows scanned, %d sorts, %d automatic indexes, %d steps: %s", scanned, sorted, indexed, steps,
                     sql);
        count++;
    }
    assert_true(count > 0);
}

static void no_question_looks_at_all_of_a_hundred_thousand_deliveries(void **state)
{
    (void)state;
    struct ledger_delivery last;
    uint64_t number, loaded = 0;
    unsigned publishing = 0;
    struct ranges ranges = {0};
    struct knowledge_alarm alarms[2] = {0};
    struct ledger_chain chain;
    uint8_t hash[SHA256_SIZE], id[TRANSFER_ID_SIZE] = {0};
    run_sql(hundred_thousand);
    /* The start. */
    assert_int_equal(ledger_each_publishing(ledger, count_publishing, &publishing), STATUS_OK);
    assert_int_equal(ledger_delivered_count(ledger, &number), STATUS_OK);
    assert_int_equal(number, 100000);
    assert_int_equal(ledger_last_delivered(ledger, &last), STATUS_OK);
    assert_int_equal(last.sequence, 100001);
    assert_int_equal(ledger_each_chain(ledger, remember_chain, &chain), STATUS_OK);
    assert_int_equal(ledger_each_written_off(ledger, CHAIN, note_range, &ranges), STATUS_OK);
    assert_int_equal(ledger_each_alarm(ledger, note_alarm, alarms), STATUS_OK);
    assert_int_equal(ledger_each_sequence(ledger, CHAIN, chain.delivered_through, count_sequence, &loaded), STATUS_OK);
    assert_int_equal(loaded, 99998);
    /* Each transfer. */
    assert_int_not_equal(ledger_knows_transfer(ledger, 7, last.transfer_id), ledger_knows_transfer(ledger, 7, id));
    assert_int_equal(ledger_newest_in_channel(ledger, CHAIN, "channel-3", &number), STATUS_OK);
    assert_int_equal(number, 99998);
    assert_int_equal(ledger_manifest_hash(ledger, CHAIN, 77, hash), STATUS_OK);
    deliver(7, 1, 100002);
    assert_int_equal(ledger_publish_failed(ledger, 7, id), STATUS_OK);
    assert_int_equal(ledger_store_chain(ledger, &chain), STATUS_OK);
    /* The backlog, and what operators and alarms do. */
    assert_int_equal(ledger_directory_bytes(ledger, "channel-3", "dir-99998", &number), STATUS_OK);
    const struct ledger_write_off off = {{0xcc}, 3, 3};
    assert_int_equal(ledger_write_off(ledger, &off, 1, &CHAIN, 1, "alice", "x", 1), STATUS_OK);
    assert_int_equal(ledger_roll_back(ledger, CHAIN, 90000), STATUS_OK);
    expect_no_scan(ledger->reader.db);
    expect_no_scan(ledger->writer.db);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(an_id_of_one_sender_does_not_block_it_for_another, open_fresh,
                                        close_and_remove),
        cmocka_unit_test_setup_teardown(the_number_of_deliveries_is_right_whatever_is_repeated, open_fresh,
                                        close_and_remove),
        cmocka_unit_test_setup_teardown(rows_that_make_no_sense_are_passed_over, open_fresh, close_and_remove),
        cmocka_unit_test_setup_teardown(accepted_losses_and_alarms_survive, open_fresh, close_and_remove),
        cmocka_unit_test_setup_teardown(after_a_rollback_only_the_new_branch_counts, open_fresh, close_and_remove),
        cmocka_unit_test_setup_teardown(a_ledger_of_the_first_schema_is_brought_up_to_date_with_all_it_knows,
                                        open_fresh, close_and_remove),
        cmocka_unit_test_setup_teardown(no_question_looks_at_all_of_a_hundred_thousand_deliveries, open_fresh,
                                        close_and_remove),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
