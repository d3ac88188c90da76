// SPDX-License-Identifier: Apache-2.0
#include "sender/packing.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define GROUP_SPAN_NS UINT64_C(90000000)
enum { DEPTH = 4, LANES = 2 };

static const struct config config = {.source_symbols = 8,
                                     .repair_symbols = LIMIT_REPAIR_SYMBOLS_MIN,
                                     .symbol_size = 256,
                                     .depth = DEPTH,
                                     .lanes = LANES};
static struct doorbell *bell;
static struct lane *lanes[LANES];
static struct packing packing;

static int setup(void **state)
{
    (void)state;
    bell = doorbell_create();
    for (unsigned i = 0; i < LANES; i++)
        if (lane_create(&config, i, bell, &lanes[i]) != STATUS_OK)
            return -1;
    packing_init(&packing, &config, lanes, GROUP_SPAN_NS);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    for (unsigned i = 0; i < LANES; i++)
        lane_destroy(lanes[i]);
    doorbell_destroy(bell);
    return 0;
}

/* Packs something into the open block. */
static void use_block(void)
{
    assert_true(packing_open(&packing));
    packing.pack.used = 100;
    memset(packing.pack.payload, 0, packing.pack.used);
}

static const struct block *pack_block(void)
{
    use_block();
    return packing_close(&packing);
}

static void a_group_that_is_ended_gives_the_turn_to_the_next_lane(void **state)
{
    (void)state;
    assert_false(pack_block()->ends_group);
    use_block();
    assert_true(packing_end_group(&packing));
    const struct block *block = packing_close(&packing);
    assert_true(block->ends_group);
    assert_int_equal(block->lane, 0);
    for (unsigned i = 0; i < DEPTH; i++) {
        block = pack_block();
        assert_int_equal(block->lane, 1);
        assert_false(block->ends_group);
    }
    assert_int_equal(pack_block()->lane, 0);
}

static void what_was_closed_already_ends_the_group_until_it_is_handed_over(void **state)
{
    (void)state;
    const struct block *block = pack_block();
    assert_true(packing_end_group(&packing));
    assert_true(block->ends_group);
    assert_true(packing_hand_over(&packing));
    assert_int_equal(pack_block()->lane, 1);
    assert_true(packing_hand_over(&packing));
    assert_false(packing_end_group(&packing));
}

static void of_groups_in_a_row_not_all_are_ended_early(void **state)
{
    (void)state;
    for (unsigned i = 0; i < PACKING_EARLY_MAX; i++) {
        use_block();
        assert_true(packing_end_group(&packing));
        (void)packing_close(&packing);
    }
    use_block();
    assert_false(packing_end_group(&packing));
    assert_false(packing_close(&packing)->ends_group);
    for (unsigned i = 1; i < DEPTH; i++)
        (void)pack_block();
    use_block();
    assert_true(packing_end_group(&packing));
    (void)packing_close(&packing);
}

static void an_idle_stream_may_end_groups_early_again(void **state)
{
    (void)state;
    for (unsigned i = 0; i < PACKING_EARLY_MAX; i++) {
        use_block();
        assert_true(packing_end_group(&packing));
        (void)packing_close(&packing);
    }
    (void)packing_flush(&packing);
    use_block();
    assert_true(packing_end_group(&packing));
}

static void a_block_that_came_back_is_not_filled_before_it_is_hashed(void **state)
{
    (void)state;
    struct block *next = queue_peek(lanes[0]->empty);
    next->unhashed = 1;
    assert_false(packing_open(&packing));
    next->unhashed = 0;
    assert_true(packing_open(&packing));
    assert_ptr_equal(packing.open, next);
}

static void a_group_is_late_half_a_span_after_the_one_before_it(void **state)
{
    (void)state;
    const uint64_t then_ns = 5 * GROUP_SPAN_NS;
    assert_true(packing_is_late(&packing, then_ns)); /* none was before it */
    atomic_store(&lanes[1]->sent, 1);
    packing_look(&packing, then_ns);
    assert_true(packing_is_late(&packing, then_ns)); /* on another lane */
    atomic_store(&lanes[0]->sent, 1);
    packing_look(&packing, then_ns);
    assert_false(packing_is_late(&packing, then_ns + GROUP_SPAN_NS / 2 - 1));
    packing_look(&packing, then_ns + GROUP_SPAN_NS / 4);
    assert_true(packing_is_late(&packing, then_ns + GROUP_SPAN_NS / 2));
    atomic_store(&lanes[0]->sent, 2);
    packing_look(&packing, then_ns + GROUP_SPAN_NS);
    assert_false(packing_is_late(&packing, then_ns + GROUP_SPAN_NS));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_group_that_is_ended_gives_the_turn_to_the_next_lane, setup, teardown),
        cmocka_unit_test_setup_teardown(what_was_closed_already_ends_the_group_until_it_is_handed_over, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(of_groups_in_a_row_not_all_are_ended_early, setup, teardown),
        cmocka_unit_test_setup_teardown(an_idle_stream_may_end_groups_early_again, setup, teardown),
        cmocka_unit_test_setup_teardown(a_block_that_came_back_is_not_filled_before_it_is_hashed, setup, teardown),
        cmocka_unit_test_setup_teardown(a_group_is_late_half_a_span_after_the_one_before_it, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
