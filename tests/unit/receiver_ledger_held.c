// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/durable.h"
#include "receiver/ledger.c"
#include "receiver/ledger_held.h"

static char directory[] = "/tmp/diodecast-ledger-XXXXXX";
static struct ledger *ledger;

static int make_directory(void **state)
{
    (void)state;
    memcpy(directory + sizeof directory - 7, "XXXXXX", 6);
    return mkdtemp(directory) == NULL ? -1 : 0;
}

static int open_fresh(void **state)
{
    return make_directory(state) != 0 || ledger_open(directory, &ledger) != STATUS_OK;
}

static int close_and_remove(void **state)
{
    (void)state;
    ledger_close(ledger);
    ledger = NULL;
    return durable_remove_tree(AT_FDCWD, directory) == STATUS_OK ? 0 : -1;
}

static struct ledger_held held(uint8_t number, uint64_t sequence)
{
    struct ledger_held made = {.state = LEDGER_HELD,
                               .since_ns = 50 + number,
                               .first_seen_ns = 9,
                               .kept = LEDGER_KEPT_ALL,
                               .manifest_bytes = 10};
    made.delivery = (struct ledger_delivery){.sender_id = 0xfedcba98, .sequence = sequence, .bytes = 1000, .at_ns = 5};
    made.delivery.transfer_id[0] = number;
    made.delivery.chain_id[0] = 0xcc;
    memset(made.delivery.manifest_hash, number, SHA256_SIZE);
    snprintf(made.delivery.channel, sizeof made.delivery.channel, "tools");
    snprintf(made.delivery.name, sizeof made.delivery.name, "größe %u", number);
    snprintf(made.place, sizeof made.place, "place-%u", number);
    snprintf(made.reason, sizeof made.reason, "no approval");
    return made;
}

static struct ledger_key key_of(const struct ledger_held *row)
{
    struct ledger_key key = {.sender_id = row->delivery.sender_id};
    memcpy(key.transfer_id, row->delivery.transfer_id, TRANSFER_ID_SIZE);
    return key;
}

static void hold(const struct ledger_held *row)
{
    struct ledger_key key = key_of(row);
    assert_int_equal(ledger_holding(ledger, row), STATUS_OK);
    assert_int_equal(ledger_delivered(ledger, &key, 1), STATUS_OK);
}

static void count_sequence(uint64_t sequence, void *context)
{
    (void)sequence;
    ++*(unsigned *)context;
}

static unsigned received(void)
{
    uint8_t chain[CHAIN_ID_SIZE] = {0xcc};
    unsigned count = 0;
    assert_int_equal(ledger_each_sequence(ledger, chain, 0, count_sequence, &count), STATUS_OK);
    return count;
}

static uint64_t delivered(void)
{
    uint64_t count;
    assert_int_equal(ledger_delivered_count(ledger, &count), STATUS_OK);
    return count;
}

static void an_intent_to_hold_becomes_a_held_transfer_that_counts_as_received(void **state)
{
    (void)state;
    struct ledger_held row = held(1, 7), found;
    struct ledger_held_totals totals;
    assert_int_equal(ledger_holding(ledger, &row), STATUS_OK);
    assert_int_equal(received(), 0);
    assert_int_equal(ledger_holding(ledger, &row), STATUS_OK); /* another try with another name */
    assert_int_equal(ledger_find_held(ledger, "place-1", &found), STATUS_OK);
    assert_int_equal(found.state, LEDGER_HOLDING);
    struct ledger_key key = key_of(&row);
    assert_int_equal(ledger_delivered(ledger, &key, 1), STATUS_OK);
    assert_int_equal(ledger_find_held(ledger, "place-1", &found), STATUS_OK);
    assert_int_equal(found.state, LEDGER_HELD);
    assert_string_equal(found.reason, "no approval");
    assert_string_equal(found.delivery.name, "größe 1");
    assert_int_equal(found.first_seen_ns, 9);
    assert_int_equal(found.kept, LEDGER_KEPT_ALL);
    assert_int_equal(received(), 1);
    assert_int_equal(delivered(), 0);
    assert_int_equal(ledger_holding(ledger, &row), STATUS_EXISTS);
    assert_int_equal(ledger_publishing(ledger, &row.delivery, 1), STATUS_EXISTS);
    assert_int_equal(ledger_publish_failed(ledger, key.sender_id, key.transfer_id), STATUS_OK); /* held: stays */
    assert_int_equal(ledger_held_totals(ledger, &totals), STATUS_OK);
    assert_int_equal(totals.count, 1);
    assert_int_equal(totals.whole_bytes, 1010);
    assert_int_equal(totals.oldest_ns, 51);
}

static void a_release_becomes_a_delivery_or_is_held_again(void **state)
{
    (void)state;
    struct ledger_held row = held(1, 7), found;
    struct ledger_key key = key_of(&row);
    hold(&row);
    snprintf(row.delivery.directory, sizeof row.delivery.directory, "there");
    assert_int_equal(ledger_releasing(ledger, &row), STATUS_OK);
    assert_int_equal(ledger_release_failed(ledger, &key), STATUS_OK);
    assert_int_equal(ledger_find_held(ledger, "place-1", &found), STATUS_OK);
    assert_int_equal(found.state, LEDGER_HELD);
    assert_int_equal(ledger_releasing(ledger, &row), STATUS_OK);
    assert_int_equal(ledger_find_held(ledger, "place-1", &found), STATUS_OK);
    assert_int_equal(found.state, LEDGER_RELEASING);
    assert_string_equal(found.delivery.directory, "there");
    assert_int_equal(ledger_discarded(ledger, &key), STATUS_OK); /* on its way: stays */
    assert_int_equal(ledger_delivered(ledger, &key, 1), STATUS_OK);
    assert_int_equal(ledger_find_held(ledger, "place-1", &found), STATUS_NOT_FOUND);
    assert_int_equal(delivered(), 1);
    assert_int_equal(received(), 1);
}

static void what_is_discarded_stays_known_and_received(void **state)
{
    (void)state;
    struct ledger_held row = held(1, 7), found;
    struct ledger_key key = key_of(&row);
    uint8_t hash[SHA256_SIZE];
    hold(&row);
    assert_int_equal(ledger_discarded(ledger, &key), STATUS_OK);
    assert_int_equal(ledger_find_held(ledger, "place-1", &found), STATUS_NOT_FOUND);
    assert_int_equal(ledger_knows_transfer(ledger, key.sender_id, key.transfer_id), STATUS_OK);
    assert_int_equal(received(), 1);
    assert_int_equal(delivered(), 0);
    assert_int_equal(ledger_manifest_hash(ledger, row.delivery.chain_id, 7, hash), STATUS_OK);
    assert_memory_equal(hash, row.delivery.manifest_hash, SHA256_SIZE);
}

/* As the release before made it, with a transfer in each state that it knew. */
static void a_ledger_of_the_second_schema_is_brought_up_to_date_with_all_it_knows(void **state)
{
    static const char rows[] =
        "INSERT INTO delivery (transfer_id, state, chain_id, sender_id, sequence, bytes, at_ns, channel, name,"
        "  directory, manifest_hash) VALUES"
        " (x'01000000000000000000000000000000', 1, x'cc000000000000000000000000000000', 5, 7, 1, 1, 'c', 'n', 'd', ''),"
        " (x'02000000000000000000000000000000', 1, x'cc000000000000000000000000000000', 5, 8, 1, 1, 'c', 'n', 'e', '');"
        "UPDATE delivery SET state = 2 WHERE sequence = 8;"
        "INSERT INTO partial (sender_id, transfer_id, announced, channel, name, total_bytes, total_artifacts,"
        "  watermark_epoch, watermarks) VALUES"
        " (5, x'03000000000000000000000000000000', 1, 'c', 'open', 10, 1, x'0000000000000000', '');";
    (void)state;
    char file[128];
    struct db *db;
    snprintf(file, sizeof file, "%s/receiver.db", directory);
    assert_int_equal(db_open(file, APPLICATION_ID, schema, 2, &db), STATUS_OK);
    assert_int_equal(sqlite3_exec(db_handle(db), rows, NULL, NULL, NULL), SQLITE_OK);
    db_close(db);
    assert_int_equal(ledger_open(directory, &ledger), STATUS_OK);
    assert_int_equal(delivered(), 1);
    const struct ledger_key open = {.sender_id = 5, .transfer_id = {3}};
    struct ledger_partial partial;
    assert_int_equal(ledger_partial_load(ledger, &open, &partial), STATUS_OK);
    assert_string_equal(partial.name, "open");
    assert_int_equal(partial.first_seen_ns, 0);
    partial.first_seen_ns = 12;
    struct ledger_checkpoint checkpoint = {.partial = &partial};
    assert_int_equal(ledger_partial_record(ledger, &checkpoint, 1), STATUS_OK);
    assert_int_equal(ledger_partial_load(ledger, &open, &partial), STATUS_OK);
    assert_int_equal(partial.first_seen_ns, 12);
    /* What is held takes its record as an open transfer with it. */
    struct ledger_held row = held(3, 9);
    row.delivery.sender_id = 5;
    hold(&row);
    assert_int_equal(ledger_partial_load(ledger, &open, &partial), STATUS_NOT_FOUND);
    assert_int_equal(received(), 2);
}

int main(void)
{
#define test(name) cmocka_unit_test_setup_teardown(name, open_fresh, close_and_remove)
    const struct CMUnitTest tests[] = {
        test(an_intent_to_hold_becomes_a_held_transfer_that_counts_as_received),
        test(a_release_becomes_a_delivery_or_is_held_again),
        test(what_is_discarded_stays_known_and_received),
        cmocka_unit_test_setup_teardown(a_ledger_of_the_second_schema_is_brought_up_to_date_with_all_it_knows,
                                        make_directory, close_and_remove),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
