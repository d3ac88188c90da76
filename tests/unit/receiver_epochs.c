// SPDX-License-Identifier: Apache-2.0
#include "receiver/epochs.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

enum { LANE = 0, SYMBOL = 64, K = 4, R = 4, SHARE = 1 << 20 };
#define SECOND UINT64_C(1000000000)

static struct {
    struct trust *trust;
    struct lane_progress *progress;
    struct epochs *epochs;
    uint64_t now_ns;
    uint64_t sequence;
} world;

static int set_up(void **state)
{
    (void)state;
    struct signature_public keys[2];
    memset(keys, 0, sizeof keys);
    keys[0].key_id[0] = 1;
    keys[1].key_id[0] = 2;
    world.trust = trust_from_keys(keys, 2);
    world.progress = progress_create(world.trust, 1);
    world.epochs = epochs_create(LANE, world.trust, SHARE, world.progress);
    world.now_ns = 1000 * SECOND;
    return world.epochs == NULL;
}

static int tear_down(void **state)
{
    (void)state;
    epochs_destroy(world.epochs);
    progress_destroy(world.progress);
    trust_destroy(world.trust);
    return 0;
}

static enum datagram_drop push(uint32_t sender_id, uint64_t epoch, uint64_t sbn, uint8_t esi)
{
    static const uint8_t symbol[SYMBOL];
    struct datagram datagram = {.lane = LANE,
                                .source_symbols = K,
                                .repair_symbols = R,
                                .esi = esi,
                                .symbol_size = SYMBOL,
                                .sender_id = sender_id,
                                .depth = 1,
                                .epoch = epoch,
                                .sequence = ++world.sequence,
                                .sbn = sbn};
    enum datagram_drop drop = epochs_check(world.epochs, &datagram);
    return drop != DATAGRAM_OK ? drop : epochs_push(world.epochs, &datagram, symbol, world.now_ns);
}

static enum datagram_drop push_block(uint32_t sender_id, uint64_t epoch, uint64_t sbn)
{
    enum datagram_drop drop = DATAGRAM_OK;
    for (uint8_t esi = 0; esi < K && drop == DATAGRAM_OK; esi++)
        drop = push(sender_id, epoch, sbn, esi);
    return drop;
}

static struct block *pop(uint64_t epoch, uint64_t sbn)
{
    struct block *block = epochs_pop(world.epochs, world.now_ns);
    assert_non_null(block);
    assert_int_equal(block->epoch, epoch);
    assert_int_equal(block->sbn, sbn);
    return block;
}

/* One block crosses whole. */
static void expect_flow(uint32_t sender_id, uint64_t epoch, uint64_t sbn)
{
    assert_int_equal(push_block(sender_id, epoch, sbn), DATAGRAM_OK);
    struct block *block = pop(epoch, sbn);
    assert_int_equal(block->sender_id, sender_id);
    epochs_return(world.epochs, block);
    epochs_settle(world.epochs, world.now_ns);
}

/* Holds blocks of the epoch until no more fit. */
static void expect_room_for_more_than_the_side_arena(uint64_t epoch, uint64_t first_sbn)
{
    enum { BLOCKS = 700 };
    struct block *held[BLOCKS];
    unsigned count = 0;
    for (; count < BLOCKS && push_block(1, epoch, first_sbn + count) == DATAGRAM_OK; count++) {
        held[count] = epochs_pop(world.epochs, world.now_ns);
        if (held[count] == NULL)
            break;
    }
    assert_true(count * (size_t)(K + R) * SYMBOL > SHARE / 4);
    for (unsigned i = 0; i < count; i++)
        epochs_return(world.epochs, held[i]);
}

static void senders_without_trusted_key_are_dropped(void **state)
{
    (void)state;
    assert_int_equal(push(3, 1, 0, 0), DATAGRAM_DROP_SENDER);
    expect_flow(1, 1, 0);
    expect_flow(2, 9, 0);
    assert_int_equal(push(0, 1, 0, 0), DATAGRAM_DROP_SENDER);
}

static void epochs_older_than_the_confirmed_one_are_dropped(void **state)
{
    (void)state;
    expect_flow(1, 5, 0);
    progress_confirm_epoch(world.progress, 1, 5);
    epochs_settle(world.epochs, world.now_ns);
    assert_int_equal(push(1, 4, 0, 0), DATAGRAM_DROP_EPOCH);
    expect_flow(1, 5, 1);
    progress_confirm_epoch(world.progress, 1, 6);
    epochs_settle(world.epochs, world.now_ns);
    assert_int_equal(push(1, 5, 2, 0), DATAGRAM_DROP_EPOCH);
    expect_flow(1, 6, 0);
}

static void a_newer_epoch_runs_beside_the_confirmed_one_and_takes_over_when_confirmed(void **state)
{
    (void)state;
    struct epochs_totals totals;
    expect_flow(1, 5, 0);
    progress_confirm_epoch(world.progress, 1, 5);
    assert_int_equal(push(1, 5, 1, 0), DATAGRAM_OK);
    expect_flow(1, 6, 0);
    expect_flow(1, 5, 2);
    assert_int_equal(push_block(1, 6, 1), DATAGRAM_OK);
    progress_confirm_epoch(world.progress, 1, 6);
    epochs_settle(world.epochs, world.now_ns);
    epochs_return(world.epochs, pop(6, 1));
    assert_int_equal(push(1, 5, 1, 1), DATAGRAM_DROP_EPOCH);
    expect_flow(1, 6, 2);
    epochs_totals(world.epochs, &totals);
    assert_int_equal(totals.gathers.blocks_complete, 5);
    assert_int_equal(totals.gathers.blocks_given_up, 1);
    assert_int_equal(totals.gathers.datagrams, 5 * K + 1);
}

static void blocks_of_an_ended_epoch_may_come_back_late(void **state)
{
    (void)state;
    assert_int_equal(push_block(1, 5, 0), DATAGRAM_OK);
    struct block *held = pop(5, 0);
    expect_flow(1, 6, 0);
    progress_confirm_epoch(world.progress, 1, 6);
    epochs_settle(world.epochs, world.now_ns);
    assert_int_equal(epochs_held(world.epochs), 1);
    expect_flow(1, 6, 1);
    assert_int_equal(push(1, 7, 0, 0), DATAGRAM_DROP_EPOCH); /* no room beside both */
    epochs_return(world.epochs, held);
    epochs_settle(world.epochs, world.now_ns);
    assert_int_equal(epochs_held(world.epochs), 0);
    expect_flow(1, 7, 0);
    expect_flow(1, 6, 2);
}

static void what_is_complete_of_an_ended_epoch_is_still_handed_on(void **state)
{
    (void)state;
    assert_int_equal(push_block(1, 5, 0), DATAGRAM_OK);
    progress_confirm_epoch(world.progress, 1, 6);
    epochs_settle(world.epochs, world.now_ns);
    epochs_return(world.epochs, pop(5, 0));
    expect_flow(1, 6, 0);
}

static void forged_newer_epochs_do_not_disturb_the_running_one(void **state)
{
    (void)state;
    expect_flow(1, 5, 0);
    progress_confirm_epoch(world.progress, 1, 5);
    for (uint64_t i = 1; i < 2000; i++) {
        world.now_ns += SECOND / 1000;
        (void)push(1, 100 + i, i * 3, 0);
        expect_flow(1, 5, i);
    }
    struct epochs_totals totals;
    epochs_totals(world.epochs, &totals);
    assert_int_equal(totals.gathers.blocks_complete, 2000);
}

static void a_true_new_epoch_displaces_a_forged_one_that_is_silent(void **state)
{
    (void)state;
    expect_flow(1, 5, 0);
    progress_confirm_epoch(world.progress, 1, 5);
    assert_int_equal(push(1, UINT64_MAX, 0, 0), DATAGRAM_OK);
    assert_int_equal(push(1, 6, 0, 0), DATAGRAM_DROP_EPOCH);
    world.now_ns += EPOCHS_SILENCE_NS;
    expect_flow(1, 6, 0);
    progress_confirm_epoch(world.progress, 1, 6);
    epochs_settle(world.epochs, world.now_ns);
    expect_flow(1, 6, 1);
}

static void forged_epochs_that_are_kept_alive_keep_a_true_one_out_for_three_seconds_at_most(void **state)
{
    (void)state;
    expect_flow(1, 5, 0);
    progress_confirm_epoch(world.progress, 1, 5);
    uint64_t sbn = 1, end_ns = world.now_ns + EPOCHS_TRIAL_NS;
    assert_int_equal(push(1, UINT64_MAX, 0, 0), DATAGRAM_OK);
    /* The old run has ended, but somebody repeats what it sent. */
    for (; world.now_ns < end_ns; world.now_ns += SECOND / 4) {
        expect_flow(1, 5, sbn++);
        (void)push(1, UINT64_MAX, sbn, 0);
        assert_int_equal(push(1, 6, 0, 0), DATAGRAM_DROP_EPOCH);
    }
    expect_flow(1, 6, 0);
    progress_confirm_epoch(world.progress, 1, 6);
    epochs_settle(world.epochs, world.now_ns);
    expect_flow(1, 6, 1);
}

static void a_flood_of_forged_epochs_makes_few_gathers(void **state)
{
    (void)state;
    unsigned begun = 0;
    expect_flow(1, 5, 0);
    progress_confirm_epoch(world.progress, 1, 5);
    for (uint64_t i = 0; i < 1000; i++) {
        world.now_ns += SECOND / 10000;
        begun += push(1, 100 + i, 0, 0) == DATAGRAM_OK;
    }
    assert_in_range(begun, 1, 3);
}

static void a_forged_epoch_that_took_the_main_arena_makes_way_for_the_confirmed_one(void **state)
{
    (void)state;
    expect_flow(1, UINT64_MAX, 0); /* while the true sender was away */
    expect_flow(1, 6, 0);
    progress_confirm_epoch(world.progress, 1, 6);
    for (uint64_t i = 1; i < 10; i++) {
        world.now_ns += 3 * SECOND / 2;
        (void)push(1, UINT64_MAX, i, 0);
        expect_flow(1, 6, i);
    }
    assert_int_equal(push(1, UINT64_MAX, 10, 0), DATAGRAM_OK); /* in the side arena now */
    expect_room_for_more_than_the_side_arena(6, 10);
}

static void the_confirmed_epoch_always_finds_a_place(void **state)
{
    (void)state;
    expect_flow(1, 50, 0);
    expect_flow(1, 60, 0);
    progress_confirm_epoch(world.progress, 1, 5);
    epochs_settle(world.epochs, world.now_ns);
    expect_flow(1, 5, 0);
}

static void a_sender_that_starts_again_and_again_is_received_each_time(void **state)
{
    (void)state;
    expect_flow(1, 5, 0);
    progress_confirm_epoch(world.progress, 1, 5);
    /* Each run is confirmed, leaves a block open, and ends a moment later. */
    for (uint64_t epoch = 6; epoch < 30; epoch++) {
        world.now_ns += SECOND / 5;
        expect_flow(1, epoch, 0);
        assert_int_equal(push(1, epoch, 1, 0), DATAGRAM_OK);
        progress_confirm_epoch(world.progress, 1, epoch);
        epochs_settle(world.epochs, world.now_ns);
        expect_flow(1, epoch, 2);
    }
    /* Or is not even confirmed. */
    for (uint64_t epoch = 30; epoch < 50; epoch++) {
        world.now_ns += SECOND / 5;
        expect_flow(1, epoch, 0);
        assert_int_equal(push(1, epoch, 1, 0), DATAGRAM_OK);
    }
}

static void a_forged_newer_epoch_costs_the_running_one_at_most_what_it_began_with(void **state)
{
    (void)state;
    struct epochs_totals totals;
    expect_flow(1, 5, 0);
    progress_confirm_epoch(world.progress, 1, 5);
    expect_flow(1, 6, 0);
    assert_int_equal(push(1, 6, 1, 0), DATAGRAM_OK); /* in the side arena */
    progress_confirm_epoch(world.progress, 1, 6);
    epochs_settle(world.epochs, world.now_ns);
    assert_int_equal(push(1, 6, 2, 0), DATAGRAM_OK); /* in the main arena */
    for (uint64_t i = 0; i < 100; i++)
        (void)push(1, 1000 + i, 0, 0);
    for (uint8_t esi = 1; esi < K; esi++)
        assert_int_equal(push(1, 6, 2, esi), DATAGRAM_OK);
    epochs_return(world.epochs, pop(6, 2));
    epochs_totals(world.epochs, &totals);
    assert_int_equal(totals.gathers.blocks_given_up, 1);
}

static void a_new_epoch_gets_the_whole_arena_once_the_old_one_is_silent(void **state)
{
    (void)state;
    expect_flow(1, 5, 0);
    progress_confirm_epoch(world.progress, 1, 5);
    expect_flow(1, 6, 0);
    world.now_ns += EPOCHS_SILENCE_NS;
    expect_flow(1, 6, 1);
    epochs_settle(world.epochs, world.now_ns);
    expect_room_for_more_than_the_side_arena(6, 2);
}

static void progress_tells_the_confirmed_epoch(void **state)
{
    (void)state;
    uint64_t epoch, passed;
    expect_flow(1, 5, 0);
    expect_flow(1, 6, 0);
    epochs_publish(world.epochs, world.now_ns);
    assert_true(progress_passed(world.progress, 1, LANE, &epoch, &passed));
    assert_int_equal(epoch, 5);
    assert_int_equal(passed, 1);
    progress_confirm_epoch(world.progress, 1, 6);
    expect_flow(1, 6, 1);
    epochs_publish(world.epochs, world.now_ns);
    assert_true(progress_passed(world.progress, 1, LANE, &epoch, &passed));
    assert_int_equal(epoch, 6);
    assert_int_equal(passed, 2);
    assert_false(progress_passed(world.progress, 2, LANE, &epoch, &passed));
}

static void shares_and_arenas_convert_both_ways(void **state)
{
    (void)state;
    for (size_t arena = 1 << 20; arena < (size_t)1 << 33; arena += arena / 3 + 12345) {
        size_t share = epochs_share_for(arena);
        assert_true(epochs_arena_of(share / 4096 * 4096) >= arena);
        assert_true(share < arena / 3 * 4 + 4 * 4096);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(senders_without_trusted_key_are_dropped, set_up, tear_down),
        cmocka_unit_test_setup_teardown(epochs_older_than_the_confirmed_one_are_dropped, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_newer_epoch_runs_beside_the_confirmed_one_and_takes_over_when_confirmed,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(blocks_of_an_ended_epoch_may_come_back_late, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_complete_of_an_ended_epoch_is_still_handed_on, set_up, tear_down),
        cmocka_unit_test_setup_teardown(forged_newer_epochs_do_not_disturb_the_running_one, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_true_new_epoch_displaces_a_forged_one_that_is_silent, set_up, tear_down),
        cmocka_unit_test_setup_teardown(forged_epochs_that_are_kept_alive_keep_a_true_one_out_for_three_seconds_at_most,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_flood_of_forged_epochs_makes_few_gathers, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_forged_epoch_that_took_the_main_arena_makes_way_for_the_confirmed_one, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(the_confirmed_epoch_always_finds_a_place, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_sender_that_starts_again_and_again_is_received_each_time, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_forged_newer_epoch_costs_the_running_one_at_most_what_it_began_with, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_new_epoch_gets_the_whole_arena_once_the_old_one_is_silent, set_up, tear_down),
        cmocka_unit_test_setup_teardown(progress_tells_the_confirmed_epoch, set_up, tear_down),
        cmocka_unit_test(shares_and_arenas_convert_both_ways),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
