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
    struct extent range[8]; /* first and last */
    uint8_t chain[8];
    uint64_t total;
};

static void note(const struct knowledge_chain *chain, uint64_t first, uint64_t last, void *context)
{
    struct seen *seen = context;
    if (seen->count < 8) {
        seen->range[seen->count] = (struct extent){first, last};
        seen->chain[seen->count] = chain->chain_id[0];
    }
    seen->count++;
    seen->total += last - first + 1;
}

static uint64_t never_seen(struct knowledge *knowledge, uint64_t now_ns, struct seen *seen)
{
    *seen = (struct seen){0};
    knowledge_each_never_seen(knowledge, 7, now_ns, note, seen);
    return seen->total;
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
    assert_int_equal(never_seen(knowledge, 11 * SECOND - 1, &seen), 0); /* within the grace */
    assert_int_equal(never_seen(knowledge, 11 * SECOND, &seen), 2);     /* 1 and 2, not 3 to 5 */
    assert_int_equal(never_seen(knowledge, 700 * SECOND, &seen), 2);    /* however long 3 takes */
    beat(knowledge, CHAIN_A, 1, 5, 5, 714 * SECOND);
    assert_int_equal(never_seen(knowledge, 715 * SECOND - 1, &seen), 2);
    assert_true(knowledge_add(knowledge, 7, CHAIN_A, 4, true));
    assert_int_equal(never_seen(knowledge, 715 * SECOND, &seen), 4);
    assert_int_equal(seen.count, 2);
    assert_int_equal(seen.range[0].end, 3);
    assert_int_equal(seen.range[1].first, 5);
    knowledge_destroy(knowledge);
}

static void each_number_is_named_soon_after_it_was_told_as_settled_while_others_follow(void **state)
{
    (void)state;
    struct knowledge *knowledge = knowledge_create();
    struct seen seen;
    beat(knowledge, CHAIN_A, 1, 0, 0, SECOND);
    /* A number each 50 ms, of which nothing arrives: as with sixteen lanes. */
    for (uint64_t number = 1; number <= 200; number++) {
        uint64_t now_ns = 10 * SECOND + number * SECOND / 20;
        beat(knowledge, CHAIN_A, 1, number, number, now_ns);
        uint64_t lost = never_seen(knowledge, now_ns, &seen);
        uint64_t settled_for_the_grace = number > 20 ? number - 20 : 0;
        assert_true(lost <= settled_for_the_grace);
        assert_true(lost + 4 >= settled_for_the_grace); /* an eighth of the grace later at most */
    }
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

static void a_sender_set_up_anew_has_its_own_baseline_and_the_old_gaps_stay_known(void **state)
{
    (void)state;
    struct knowledge *knowledge = knowledge_create();
    struct seen seen;
    beat(knowledge, CHAIN_A, 1, 0, 0, SECOND);
    beat(knowledge, CHAIN_A, 1, 9, 7, 2 * SECOND);
    assert_int_equal(never_seen(knowledge, 9 * SECOND, &seen), 7);
    assert_true(beat(knowledge, CHAIN_B, 2, 3, 3, 10 * SECOND));
    assert_int_equal(never_seen(knowledge, 20 * SECOND, &seen), 9); /* 8 and 9 come no more either */
    assert_int_equal(seen.count, 1);
    assert_int_equal(seen.chain[0], 0xa);
    assert_int_equal(knowledge_chain_of(knowledge, 7)->baseline, 3);
    assert_false(beat(knowledge, CHAIN_A, 1, 9, 9, 21 * SECOND)); /* an old epoch changes nothing */
    assert_memory_equal(knowledge_chain_of(knowledge, 7)->chain_id, CHAIN_B, CHAIN_ID_SIZE);
    assert_true(knowledge_write_off(knowledge, CHAIN_A, 1, 9));
    assert_int_equal(never_seen(knowledge, 22 * SECOND, &seen), 0);
    knowledge_destroy(knowledge);
}

static void what_is_written_off_stays_so_until_it_is_delivered(void **state)
{
    (void)state;
    struct knowledge *knowledge = knowledge_create();
    struct seen seen;
    beat(knowledge, CHAIN_A, 1, 0, 0, SECOND);
    beat(knowledge, CHAIN_A, 1, 9, 9, 2 * SECOND);
    assert_true(knowledge_write_off(knowledge, CHAIN_A, 3, 5));
    assert_int_equal(never_seen(knowledge, 9 * SECOND, &seen), 6);
    assert_int_equal(seen.count, 2);
    assert_int_equal(seen.range[0].end, 2);
    assert_int_equal(seen.range[1].first, 6);
    assert_true(knowledge_is_written_off(knowledge, CHAIN_A, 5));
    assert_false(knowledge_is_written_off(knowledge, CHAIN_A, 6));
    /* It comes in part all the same, and is given up again. */
    assert_true(knowledge_add(knowledge, 7, CHAIN_A, 4, false));
    knowledge_remove(knowledge, CHAIN_A, 4);
    assert_int_equal(never_seen(knowledge, 9 * SECOND, &seen), 6);
    knowledge_destroy(knowledge);
}

struct alarms {
    unsigned count;
    struct knowledge_alarm list[4];
};

static void note_alarm(const struct knowledge_alarm *alarm, void *context)
{
    struct alarms *alarms = context;
    assert_true(alarms->count < 4);
    alarms->list[alarms->count++] = *alarm;
}

static unsigned alarm_count(const struct knowledge *knowledge, struct alarms *alarms)
{
    *alarms = (struct alarms){0};
    knowledge_each_alarm(knowledge, note_alarm, alarms);
    return alarms->count;
}

static bool claim(struct knowledge *knowledge, uint64_t sequence, uint8_t hash, bool held)
{
    uint8_t bytes[SHA256_SIZE] = {hash};
    return knowledge_claim(knowledge, CHAIN_A, sequence, bytes, held);
}

static void a_sender_restored_from_an_old_backup_is_an_alarm_and_its_new_numbers_are_known_exactly(void **state)
{
    (void)state;
    struct knowledge *knowledge = knowledge_create();
    struct knowledge_alarm alarm;
    struct alarms alarms;
    struct seen seen;
    beat(knowledge, CHAIN_A, 1, 0, 0, SECOND);
    for (uint64_t sequence = 1; sequence <= 5000; sequence++)
        assert_true(knowledge_add(knowledge, 7, CHAIN_A, sequence, true));
    beat(knowledge, CHAIN_A, 1, 5000, 5000, 2 * SECOND);
    assert_false(knowledge_take_alarm(knowledge, 1, &alarm));
    assert_true(beat(knowledge, CHAIN_A, 2, 4000, 4000, 10 * SECOND));
    assert_true(knowledge_take_alarm(knowledge, 99, &alarm));
    assert_int_equal(alarm.kind, KNOWLEDGE_ROLLBACK);
    assert_int_equal(alarm.first, 4001);
    assert_int_equal(alarm.last, 5000);
    assert_int_equal(alarm.back_to, 4000);
    assert_int_equal(alarm.at_ns, 99);
    assert_false(knowledge_take_alarm(knowledge, 100, &alarm));
    assert_int_equal(never_seen(knowledge, 20 * SECOND, &seen), 0);
    assert_int_equal(knowledge_chain_of(knowledge, 7)->newest_sequence, 4000);

    /* 4001 to 4010 are given anew; 4005 is lost. */
    for (uint64_t sequence = 4001; sequence <= 4010; sequence++)
        if (sequence != 4005)
            assert_true(knowledge_add(knowledge, 7, CHAIN_A, sequence, true));
    beat(knowledge, CHAIN_A, 2, 4010, 4010, 30 * SECOND);
    assert_int_equal(never_seen(knowledge, 40 * SECOND, &seen), 1);
    assert_int_equal(seen.range[0].first, 4005);
    assert_int_equal(alarm_count(knowledge, &alarms), 1); /* until an operator ends it */
    knowledge_clear_alarms(knowledge, CHAIN_A);
    assert_int_equal(alarm_count(knowledge, &alarms), 0);
    knowledge_destroy(knowledge);
}

static void a_late_beat_or_an_early_manifest_of_a_restarted_sender_is_no_rollback(void **state)
{
    (void)state;
    struct knowledge *knowledge = knowledge_create();
    struct alarms alarms;
    beat(knowledge, CHAIN_A, 1, 0, 0, SECOND);
    beat(knowledge, CHAIN_A, 1, 9, 9, 2 * SECOND);
    beat(knowledge, CHAIN_A, 1, 8, 8, 2 * SECOND);   /* an older beat by another lane */
    knowledge_add(knowledge, 7, CHAIN_A, 10, false); /* overtakes the new run's first beat */
    assert_true(beat(knowledge, CHAIN_A, 2, 9, 9, 3 * SECOND));
    assert_int_equal(alarm_count(knowledge, &alarms), 0);
    assert_int_equal(knowledge_chain_of(knowledge, 7)->newest_sequence, 10);
    knowledge_destroy(knowledge);
}

static void two_manifests_for_one_number_are_a_fork(void **state)
{
    (void)state;
    struct knowledge *knowledge = knowledge_create();
    struct alarms alarms;
    beat(knowledge, CHAIN_A, 1, 0, 0, SECOND);
    knowledge_add(knowledge, 7, CHAIN_A, 5, true);
    claim(knowledge, 5, 0x55, true);
    claim(knowledge, 4, 0x44, false); /* its previous_hash */
    claim(knowledge, 5, 0x55, true);  /* a copy */
    assert_int_equal(alarm_count(knowledge, &alarms), 0);
    assert_true(knowledge_is_delivered(knowledge, 7, 5));
    claim(knowledge, 5, 0x56, true);
    assert_int_equal(alarm_count(knowledge, &alarms), 1);
    assert_int_equal(alarms.list[0].kind, KNOWLEDGE_FORK);
    assert_int_equal(alarms.list[0].first, 5);
    assert_int_equal(alarms.list[0].last, 5);
    /* What is repeated under this number may be the other one. */
    assert_false(knowledge_is_delivered(knowledge, 7, 5));
    knowledge_destroy(knowledge);
}

static void a_previous_hash_unlike_the_manifest_held_is_a_fork(void **state)
{
    (void)state;
    struct knowledge *knowledge = knowledge_create();
    struct alarms alarms;
    beat(knowledge, CHAIN_A, 1, 0, 0, SECOND);
    knowledge_add(knowledge, 7, CHAIN_A, 5, true);
    claim(knowledge, 5, 0x55, true);
    claim(knowledge, 5, 0x99, false);
    assert_int_equal(alarm_count(knowledge, &alarms), 1);
    assert_int_equal(alarms.list[0].kind, KNOWLEDGE_FORK);
    knowledge_destroy(knowledge);
}

static void a_newest_hash_unlike_the_manifest_held_is_a_fork(void **state)
{
    (void)state;
    struct knowledge *knowledge = knowledge_create();
    struct alarms alarms;
    struct message_heartbeat heartbeat = {
        .sender_id = 7, .epoch = 1, .newest_sequence = 5, .newest_hash = {0x77}, .chain_id = {0xa}};
    beat(knowledge, CHAIN_A, 1, 0, 0, SECOND);
    knowledge_add(knowledge, 7, CHAIN_A, 5, true);
    claim(knowledge, 5, 0x77, true);
    assert_true(knowledge_heartbeat(knowledge, &heartbeat, 2 * SECOND));
    assert_int_equal(alarm_count(knowledge, &alarms), 0);
    heartbeat.newest_hash[0] = 0x78;
    assert_true(knowledge_heartbeat(knowledge, &heartbeat, 3 * SECOND));
    assert_int_equal(alarm_count(knowledge, &alarms), 1);
    knowledge_destroy(knowledge);
}

static void what_is_not_remembered_any_more_is_compared_with_the_ledger(void **state)
{
    (void)state;
    struct knowledge *knowledge = knowledge_create();
    struct alarms alarms;
    const uint8_t mine[SHA256_SIZE] = {1}, theirs[SHA256_SIZE] = {2};
    beat(knowledge, CHAIN_A, 1, 0, 0, SECOND);
    knowledge_add(knowledge, 7, CHAIN_A, 5, true);
    assert_false(claim(knowledge, 5, 1, true)); /* delivered, and nobody has said its hash since the start */
    knowledge_compare(knowledge, CHAIN_A, 5, mine, mine, true);
    assert_int_equal(alarm_count(knowledge, &alarms), 0);
    knowledge_compare(knowledge, CHAIN_A, 5, theirs, mine, true);
    assert_int_equal(alarm_count(knowledge, &alarms), 1);
    assert_true(claim(knowledge, 6, 1, true)); /* new: nothing to compare with */
    knowledge_destroy(knowledge);
}

static void a_new_chain_ends_the_alarms_of_the_one_it_replaces(void **state)
{
    (void)state;
    struct knowledge *knowledge = knowledge_create();
    struct alarms alarms;
    uint8_t chain_id[CHAIN_ID_SIZE];
    beat(knowledge, CHAIN_A, 1, 9, 9, SECOND);
    beat(knowledge, CHAIN_A, 2, 5, 5, 2 * SECOND);
    assert_int_equal(alarm_count(knowledge, &alarms), 1);
    assert_false(knowledge_take_ended(knowledge, chain_id));
    beat(knowledge, CHAIN_B, 3, 0, 0, 3 * SECOND);
    assert_int_equal(alarm_count(knowledge, &alarms), 0);
    assert_true(knowledge_take_ended(knowledge, chain_id));
    assert_memory_equal(chain_id, CHAIN_A, CHAIN_ID_SIZE);
    assert_false(knowledge_take_ended(knowledge, chain_id));
    knowledge_destroy(knowledge);
}

static void the_number_of_a_lost_manifest_is_known_from_heartbeats(void **state)
{
    (void)state;
    struct knowledge *knowledge = knowledge_create();
    static const uint8_t id[TRANSFER_ID_SIZE] = {0x1d}, other[TRANSFER_ID_SIZE] = {0x2d};
    struct message_heartbeat heartbeat = {
        .sender_id = 7,
        .epoch = 1,
        .chain_id = {0xa},
        .newest_sequence = 3,
        .settled_sequence = 2,
        .in_flight_count = 2,
        .in_flight = {{.transfer_id = {0x2d}}, {.transfer_id = {0x1d}, .sequence = 3}}};
    beat(knowledge, CHAIN_A, 1, 2, 2, SECOND);
    assert_true(knowledge_heartbeat(knowledge, &heartbeat, 2 * SECOND));
    assert_int_equal(knowledge_lost_manifest(knowledge, 7, id, 9 * SECOND), 0); /* on its way */
    beat(knowledge, CHAIN_A, 1, 3, 3, 10 * SECOND);
    assert_int_equal(knowledge_lost_manifest(knowledge, 7, id, 10 * SECOND), 0);
    assert_int_equal(knowledge_lost_manifest(knowledge, 7, id, 12 * SECOND), 3);
    assert_int_equal(knowledge_lost_manifest(knowledge, 7, other, 12 * SECOND), 0);
    knowledge_add(knowledge, 7, CHAIN_A, 3, false);
    assert_int_equal(knowledge_lost_manifest(knowledge, 7, id, 12 * SECOND), 0);
    knowledge_destroy(knowledge);
}

static void a_receiver_restored_from_an_old_backup_misses_one_range(void **state)
{
    (void)state;
    struct knowledge *knowledge = knowledge_create();
    struct alarms alarms;
    struct seen seen;
    struct knowledge_chain chain = {.sender_id = 7,
                                    .baseline = 10,
                                    .newest_sequence = 400,
                                    .told_sequence = 400,
                                    .settled_sequence = 400,
                                    .delivered_through = 400,
                                    .epoch = 4};
    memcpy(chain.chain_id, CHAIN_A, CHAIN_ID_SIZE);
    knowledge_load(knowledge, &chain, SECOND);
    assert_true(beat(knowledge, CHAIN_A, 9, 9000, 9000, 2 * SECOND));
    assert_int_equal(never_seen(knowledge, 9 * SECOND, &seen), 8600);
    assert_int_equal(seen.count, 1);
    assert_int_equal(seen.range[0].first, 401);
    assert_int_equal(alarm_count(knowledge, &alarms), 0);
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
    struct knowledge_chain chain = {.sender_id = 7,
                                    .baseline = 10,
                                    .newest_sequence = 20,
                                    .settled_sequence = 18,
                                    .delivered_through = 13,
                                    .epoch = 4};
    memcpy(chain.chain_id, CHAIN_A, CHAIN_ID_SIZE);
    knowledge_load(knowledge, &chain, SECOND);
    for (uint64_t sequence = 14; sequence <= 18; sequence++)
        if (sequence != 15)
            knowledge_add(knowledge, 7, CHAIN_A, sequence, true);
    assert_int_equal(knowledge_chain_of(knowledge, 7)->baseline, 10);
    assert_int_equal(knowledge_chain_of(knowledge, 7)->delivered_through, 14);
    assert_true(knowledge_is_delivered(knowledge, 7, 12));
    assert_int_equal(never_seen(knowledge, SECOND, &seen), 0); /* the run before may have left it for this one */
    assert_int_equal(never_seen(knowledge, 2 * SECOND, &seen), 1);
    assert_int_equal(seen.range[0].first, 15);
    assert_false(beat(knowledge, CHAIN_A, 3, 30, 30, SECOND));
    knowledge_destroy(knowledge);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_heartbeat_sets_the_baseline),
        cmocka_unit_test(what_is_in_flight_is_never_reported),
        cmocka_unit_test(each_number_is_named_soon_after_it_was_told_as_settled_while_others_follow),
        cmocka_unit_test(a_transfer_given_up_counts_as_never_seen_again),
        cmocka_unit_test(a_sender_set_up_anew_has_its_own_baseline_and_the_old_gaps_stay_known),
        cmocka_unit_test(what_is_written_off_stays_so_until_it_is_delivered),
        cmocka_unit_test(a_sender_restored_from_an_old_backup_is_an_alarm_and_its_new_numbers_are_known_exactly),
        cmocka_unit_test(a_late_beat_or_an_early_manifest_of_a_restarted_sender_is_no_rollback),
        cmocka_unit_test(two_manifests_for_one_number_are_a_fork),
        cmocka_unit_test(a_previous_hash_unlike_the_manifest_held_is_a_fork),
        cmocka_unit_test(a_newest_hash_unlike_the_manifest_held_is_a_fork),
        cmocka_unit_test(what_is_not_remembered_any_more_is_compared_with_the_ledger),
        cmocka_unit_test(a_new_chain_ends_the_alarms_of_the_one_it_replaces),
        cmocka_unit_test(the_number_of_a_lost_manifest_is_known_from_heartbeats),
        cmocka_unit_test(a_manifest_before_the_first_heartbeat_is_kept),
        cmocka_unit_test(a_receiver_restored_from_an_old_backup_misses_one_range),
        cmocka_unit_test(what_the_ledger_knew_survives),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
