// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "receiver/knowledge.h"

#define SECOND UINT64_C(1000000000)

static const uint8_t CHAIN_A[CHAIN_ID_SIZE] = {0xa};
static const uint8_t CHAIN_B[CHAIN_ID_SIZE] = {0xb};

struct seen {
    unsigned count;
    struct extent range[8];
};

static void note(uint64_t first, uint64_t last, void *context)
{
    struct seen *seen = context;
    if (seen->count < 8)
        seen->range[seen->count] = (struct extent){first, last};
    seen->count++;
}

static uint64_t never_seen(struct knowledge *knowledge, uint64_t now_ns, struct seen *seen)
{
    uint64_t total = 0;
    *seen = (struct seen){0};
    knowledge_each_never_seen(knowledge, 7, now_ns, note, seen, 8, &total);
    return total;
}

static bool beat(struct knowledge *knowledge, const uint8_t *chain, uint64_t epoch, uint64_t newest, uint64_t settled,
                 uint64_t now_ns)
{
    struct message_heartbeat heartbeat = {
        .sender_id = 7, .epoch = epoch, .newest_sequence = newest, .settled_sequence = settled};
    memcpy(heartbeat.chain_id, chain, CHAIN_ID_SIZE);
    return knowledge_heartbeat(knowledge, &heartbeat, now_ns);
}

static void the_first_heartbeat_sets_the_baseline(void **state)
{
    (void)state;
    struct knowledge *knowledge = knowledge_create();
    struct seen seen;
    assert_null(knowledge_chain_of(knowledge, 7));
    assert_true(beat(knowledge, CHAIN_A, 1, 40, 38, SECOND));
    assert_int_equal(knowledge_chain_of(knowledge, 7)->baseline, 40);
    assert_int_equal(never_seen(knowledge, 100 * SECOND, &seen), 0);
    assert_true(beat(knowledge, CHAIN_A, 1, 42, 42, 101 * SECOND));
    assert_int_equal(never_seen(knowledge, 110 * SECOND, &seen), 2);
    assert_int_equal(seen.count, 1);
    assert_int_equal(seen.range[0].first, 41);
    assert_int_equal(seen.range[0].end, 42);
    knowledge_destroy(knowledge);
}

static void what_is_in_flight_is_never_reported(void **state)
{
    (void)state;
    struct knowledge *knowledge = knowledge_create();
    struct seen seen;
    beat(knowledge, CHAIN_A, 1, 0, 0, SECOND);
    beat(knowledge, CHAIN_A, 1, 5, 2, 10 * SECOND);
    assert_int_equal(never_seen(knowledge, 12 * SECOND, &seen), 0); /* within the grace */
    assert_int_equal(never_seen(knowledge, 13 * SECOND, &seen), 2); /* 1 and 2, not 3 to 5 */
    beat(knowledge, CHAIN_A, 1, 5, 5, 14 * SECOND);
    assert_int_equal(never_seen(knowledge, 16 * SECOND, &seen), 2);
    assert_true(knowledge_add(knowledge, 7, CHAIN_A, 4, true));
    assert_int_equal(never_seen(knowledge, 17 * SECOND, &seen), 4);
    assert_int_equal(seen.count, 2);
    assert_int_equal(seen.range[0].end, 3);
    assert_int_equal(seen.range[1].first, 5);
    knowledge_destroy(knowledge);
}

static void a_transfer_given_up_counts_as_never_seen_again(void **state)
{
    (void)state;
    struct knowledge *knowledge = knowledge_create();
    struct seen seen;
    beat(knowledge, CHAIN_A, 1, 0, 0, SECOND);
    knowledge_add(knowledge, 7, CHAIN_A, 1, false);
    knowledge_add(knowledge, 7, CHAIN_A, 2, false);
    knowledge_add(knowledge, 7, CHAIN_A, 3, true);
    beat(knowledge, CHAIN_A, 1, 3, 3, 2 * SECOND);
    assert_int_equal(never_seen(knowledge, 9 * SECOND, &seen), 0);
    knowledge_remove(knowledge, CHAIN_A, 2);
    knowledge_remove(knowledge, CHAIN_A, 3); /* delivered: stays */
    assert_int_equal(never_seen(knowledge, 9 * SECOND, &seen), 1);
    assert_int_equal(seen.range[0].first, 2);
    assert_false(knowledge_is_delivered(knowledge, 7, 1));
    assert_true(knowledge_is_delivered(knowledge, 7, 3));
    knowledge_destroy(knowledge);
}

static void a_new_chain_has_its_own_baseline(void **state)
{
    (void)state;
    struct knowledge *knowledge = knowledge_create();
    struct seen seen;
    beat(knowledge, CHAIN_A, 1, 0, 0, SECOND);
    beat(knowledge, CHAIN_A, 1, 9, 9, 2 * SECOND);
    assert_int_equal(never_seen(knowledge, 9 * SECOND, &seen), 9);
    assert_true(beat(knowledge, CHAIN_B, 2, 3, 3, 10 * SECOND));
    assert_int_equal(never_seen(knowledge, 20 * SECOND, &seen), 0);
    assert_int_equal(knowledge_chain_of(knowledge, 7)->baseline, 3);
    assert_false(beat(knowledge, CHAIN_A, 1, 9, 9, 21 * SECOND)); /* an old epoch changes nothing */
    assert_memory_equal(knowledge_chain_of(knowledge, 7)->chain_id, CHAIN_B, CHAIN_ID_SIZE);
    knowledge_destroy(knowledge);
}

static void a_manifest_before_the_first_heartbeat_is_kept(void **state)
{
    (void)state;
    struct knowledge *knowledge = knowledge_create();
    struct seen seen;
    assert_true(knowledge_add(knowledge, 7, CHAIN_A, 12, false));
    beat(knowledge, CHAIN_A, 1, 11, 11, SECOND);
    beat(knowledge, CHAIN_A, 1, 13, 13, 2 * SECOND);
    assert_int_equal(never_seen(knowledge, 9 * SECOND, &seen), 1);
    assert_int_equal(seen.range[0].first, 13);
    assert_false(knowledge_add(knowledge, 8, CHAIN_A, 14, false)); /* another sender's chain */
    knowledge_destroy(knowledge);
}

static void what_the_ledger_knew_survives(void **state)
{
    (void)state;
    struct knowledge *knowledge = knowledge_create();
    struct seen seen;
    struct knowledge_chain chain = {
        .sender_id = 7, .baseline = 10, .newest_sequence = 20, .settled_sequence = 18, .epoch = 4};
    memcpy(chain.chain_id, CHAIN_A, CHAIN_ID_SIZE);
    knowledge_load(knowledge, &chain);
    for (uint64_t sequence = 11; sequence <= 18; sequence++)
        if (sequence != 15)
            knowledge_add(knowledge, 7, CHAIN_A, sequence, true);
    knowledge_raise_baseline(knowledge, CHAIN_A);
    assert_int_equal(knowledge_chain_of(knowledge, 7)->baseline, 14);
    assert_int_equal(never_seen(knowledge, 1, &seen), 1);
    assert_int_equal(seen.range[0].first, 15);
    assert_false(beat(knowledge, CHAIN_A, 3, 30, 30, SECOND));
    knowledge_destroy(knowledge);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_heartbeat_sets_the_baseline),
        cmocka_unit_test(what_is_in_flight_is_never_reported),
        cmocka_unit_test(a_transfer_given_up_counts_as_never_seen_again),
        cmocka_unit_test(a_new_chain_has_its_own_baseline),
        cmocka_unit_test(a_manifest_before_the_first_heartbeat_is_kept),
        cmocka_unit_test(what_the_ledger_knew_survives),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
