// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/durable.h"
#include "receiver/ledger.h"

static char directory[] = "/tmp/diodecast-ledger-XXXXXX";
static struct ledger *ledger;

static struct ledger_delivery delivery(uint8_t number, uint64_t sequence)
{
    struct ledger_delivery made = {.sender_id = 0xfedcba98, .sequence = sequence, .bytes = 1000 + sequence, .at_ns = 5};
    made.transfer_id[0] = number;
    made.chain_id[0] = 0xcc;
    snprintf(made.channel, sizeof made.channel, "tools");
    snprintf(made.name, sizeof made.name, "größe %u", number);
    snprintf(made.directory, sizeof made.directory, "dir-%u", number);
    return made;
}

static int open_fresh(void **state)
{
    (void)state;
    memcpy(directory + sizeof directory - 7, "XXXXXX", 6);
    if (mkdtemp(directory) == NULL)
        return -1;
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

static void count_delivery(const struct ledger_delivery *found, void *context)
{
    assert_int_equal(found->sender_id, 0xfedcba98);
    assert_string_equal(found->channel, "tools");
    *(unsigned *)context += 1;
}

static unsigned publishing_count(void)
{
    unsigned count = 0;
    assert_int_equal(ledger_each_publishing(ledger, count_delivery, &count), STATUS_OK);
    return count;
}

static void an_intent_becomes_a_delivery(void **state)
{
    (void)state;
    struct ledger_delivery batch[3] = {delivery(1, 10), delivery(2, 11), delivery(3, 12)};
    struct ledger_delivery last;
    uint64_t number;
    assert_int_equal(ledger_knows_transfer(ledger, 0xfedcba98, batch[0].transfer_id), STATUS_NOT_FOUND);
    assert_int_equal(ledger_publishing(ledger, batch, 3), STATUS_OK);
    assert_int_equal(publishing_count(), 3);
    assert_int_equal(ledger_knows_transfer(ledger, 0xfedcba98, batch[0].transfer_id), STATUS_OK);
    assert_int_equal(ledger_last_delivered(ledger, &last), STATUS_NOT_FOUND);
    const struct ledger_key ids[2] = {{0xfedcba98, {1}}, {0xfedcba98, {2}}};
    assert_int_equal(ledger_delivered(ledger, ids, 2), STATUS_OK);
    assert_int_equal(ledger_publish_failed(ledger, 0xfedcba98, batch[2].transfer_id), STATUS_OK);
    assert_int_equal(ledger_publish_failed(ledger, 0xfedcba98, batch[0].transfer_id), STATUS_OK); /* delivered: stays */
    reopen();
    assert_int_equal(publishing_count(), 0);
    assert_int_equal(ledger_knows_transfer(ledger, 0xfedcba98, batch[2].transfer_id), STATUS_NOT_FOUND);
    assert_int_equal(ledger_knows_transfer(ledger, 0xfedcba98, batch[0].transfer_id), STATUS_OK);
    assert_int_equal(ledger_delivered_count(ledger, &number), STATUS_OK);
    assert_int_equal(number, 2);
    assert_int_equal(ledger_last_delivered(ledger, &last), STATUS_OK);
    assert_string_equal(last.name, "größe 2");
    assert_int_equal(last.bytes, 1011);
    assert_int_equal(ledger_newest_in_channel(ledger, batch[0].chain_id, "tools", &number), STATUS_OK);
    assert_int_equal(number, 11);
    assert_int_equal(ledger_newest_in_channel(ledger, batch[0].chain_id, "other", &number), STATUS_OK);
    assert_int_equal(number, 0);
    assert_int_equal(ledger_directory_bytes(ledger, "tools", "dir-2", &number), STATUS_OK);
    assert_int_equal(number, 1011);
    assert_int_equal(ledger_directory_bytes(ledger, "tools", "dir-9", &number), STATUS_NOT_FOUND);
}

static void a_delivered_transfer_never_becomes_an_intent_again(void **state)
{
    (void)state;
    struct ledger_delivery one = delivery(1, 10);
    const struct ledger_key ids[1] = {{0xfedcba98, {1}}};
    assert_int_equal(ledger_publishing(ledger, &one, 1), STATUS_OK);
    assert_int_equal(ledger_publishing(ledger, &one, 1), STATUS_OK); /* another try with another directory */
    assert_int_equal(publishing_count(), 1);
    assert_int_equal(ledger_delivered(ledger, ids, 1), STATUS_OK);
    struct ledger_delivery batch[2] = {delivery(2, 11), delivery(1, 10)};
    assert_int_equal(ledger_publishing(ledger, batch, 2), STATUS_EXISTS);
    assert_int_equal(ledger_knows_transfer(ledger, 0xfedcba98, batch[0].transfer_id),
                     STATUS_NOT_FOUND); /* all or none */
}

static void remember_chain(const struct ledger_chain *chain, void *context)
{
    struct ledger_chain *out = context;
    *out = *chain;
}

static void chain_numbers_only_grow(void **state)
{
    (void)state;
    struct ledger_chain chain = {.sender_id = 7,
                                 .chain_id = {1},
                                 .baseline = 4,
                                 .newest_sequence = 9,
                                 .settled_sequence = 8,
                                 .epoch = UINT64_C(0x9000000000000001)};
    struct ledger_chain found = {0};
    assert_int_equal(ledger_store_chain(ledger, &chain), STATUS_OK);
    chain.newest_sequence = 7;
    chain.settled_sequence = 9;
    chain.epoch = UINT64_C(0x7000000000000001);
    assert_int_equal(ledger_store_chain(ledger, &chain), STATUS_OK);
    reopen();
    assert_int_equal(ledger_each_chain(ledger, remember_chain, &found), STATUS_OK);
    assert_int_equal(found.baseline, 4);
    assert_int_equal(found.newest_sequence, 9);
    assert_int_equal(found.settled_sequence, 9);
    assert_true(found.epoch == UINT64_C(0x9000000000000001));
}

static void sum_sequence(uint64_t sequence, void *context)
{
    uint64_t *sums = context;
    assert_true(sequence > sums[1]);
    sums[0] += sequence;
    sums[1] = sequence;
}

static void sequences_come_in_order_above_a_mark(void **state)
{
    (void)state;
    const struct ledger_key ids[4] = {{0xfedcba98, {1}}, {0xfedcba98, {2}}, {0xfedcba98, {3}}, {0xfedcba98, {4}}};
    struct ledger_delivery batch[4] = {delivery(1, 12), delivery(2, 10), delivery(3, 11), delivery(4, 3)};
    uint64_t sums[2] = {0};
    assert_int_equal(ledger_publishing(ledger, batch, 4), STATUS_OK);
    assert_int_equal(ledger_delivered(ledger, ids, 4), STATUS_OK);
    assert_int_equal(ledger_each_sequence(ledger, batch[0].chain_id, 3, sum_sequence, sums), STATUS_OK);
    assert_int_equal(sums[0], 33);
}

static void what_was_committed_survives_a_kill(void **state)
{
    (void)state;
    ledger_close(ledger);
    int channel[2];
    assert_int_equal(pipe(channel), 0);
    pid_t child = fork();
    if (child == 0) {
        if (ledger_open(directory, &ledger) != STATUS_OK)
            _exit(1);
        for (uint8_t i = 0;; i++) {
            struct ledger_delivery one = delivery(i, 100 + i);
            const struct ledger_key ids[1] = {{0xfedcba98, {i}}};
            if (ledger_publishing(ledger, &one, 1) != STATUS_OK || ledger_delivered(ledger, ids, 1) != STATUS_OK ||
                write(channel[1], &i, 1) != 1)
                _exit(1);
        }
    }
    uint8_t last = 0;
    for (int i = 0; i < 20; i++)
        assert_int_equal(read(channel[0], &last, 1), 1);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    close(channel[1]);
    while (read(channel[0], &last, 1) == 1)
        continue;
    close(channel[0]);
    assert_int_equal(ledger_open(directory, &ledger), STATUS_OK);
    uint64_t count;
    assert_int_equal(ledger_delivered_count(ledger, &count), STATUS_OK);
    assert_true(count >= (uint64_t)last + 1 && count <= (uint64_t)last + 2);
    assert_true(publishing_count() <= 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(an_intent_becomes_a_delivery, open_fresh, close_and_remove),
        cmocka_unit_test_setup_teardown(a_delivered_transfer_never_becomes_an_intent_again, open_fresh,
                                        close_and_remove),
        cmocka_unit_test_setup_teardown(chain_numbers_only_grow, open_fresh, close_and_remove),
        cmocka_unit_test_setup_teardown(sequences_come_in_order_above_a_mark, open_fresh, close_and_remove),
        cmocka_unit_test_setup_teardown(what_was_committed_survives_a_kill, open_fresh, close_and_remove),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
