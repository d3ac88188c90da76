// SPDX-License-Identifier: Apache-2.0
#include "receiver/vigil.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define SECOND INT64_C(1000000000)

/* One heartbeat each second; the sender's clock is an hour ahead of ours. */
struct world {
    struct vigil vigil;
    struct vigil_beat beat;
    uint64_t now_ns;
};

static struct world make_world(void)
{
    return (struct world){.beat = {.epoch = 5, .time_ns = 1000000 * SECOND, .at_ns = 996400 * SECOND},
                          .now_ns = UINT64_C(50000000000)};
}

/* Time passes, and the next heartbeat comes; the sender's clock has gone on by `clock_ns`. */
static bool beat_after(struct world *world, int64_t passed_ns, int64_t clock_ns)
{
    world->now_ns += (uint64_t)passed_ns;
    world->beat.at_ns += passed_ns;
    world->beat.time_ns += clock_ns;
    world->beat.beat++;
    return vigil_take(&world->vigil, &world->beat, world->now_ns);
}

static void what_comes_as_it_is_sent_has_no_lag(void **state)
{
    (void)state;
    struct world world = make_world();
    for (int i = 0; i < 3000; i++) {
        assert_true(beat_after(&world, SECOND + (i % 3 - 1) * SECOND / 4, SECOND));
        assert_int_equal(world.vigil.lag_ns, 0);
    }
    assert_int_equal(world.vigil.recorded_ns, 0);
    world.beat.epoch++; /* the sender starts again, with its clock set right */
    assert_true(beat_after(&world, SECOND, -3600 * SECOND));
    assert_int_equal(world.vigil.lag_ns, 0);
}

static void older_and_repeated_ones_say_nothing(void **state)
{
    (void)state;
    struct world world = make_world();
    for (int i = 0; i < 10; i++)
        assert_true(beat_after(&world, SECOND, SECOND));
    assert_false(vigil_take(&world.vigil, &world.beat, world.now_ns + 7));
    assert_int_equal(world.vigil.recorded_ns, world.now_ns + 7);
    struct vigil_beat older = world.beat;
    older.beat -= 5;
    assert_false(vigil_take(&world.vigil, &older, world.now_ns + 8));
    older = world.beat;
    older.epoch--;
    older.beat += 1000;
    assert_false(vigil_take(&world.vigil, &older, world.now_ns + 9));
    assert_true(beat_after(&world, SECOND, SECOND));
}

static void a_clock_that_stands_still_is_told_for_as_long_as_it_does(void **state)
{
    (void)state;
    struct world world = make_world();
    for (int i = 0; i < 100; i++)
        assert_true(beat_after(&world, SECOND, SECOND));
    for (int i = 1; i < 2000; i++) {
        assert_true(beat_after(&world, SECOND, 0));
        assert_int_equal(world.vigil.lag_ns, i > 10 ? i * SECOND : 0);
    }
    assert_true(beat_after(&world, SECOND, 2000 * SECOND));
    assert_int_equal(world.vigil.lag_ns, 0);
}

static void a_link_that_plays_back_slowly_is_told(void **state)
{
    (void)state;
    struct world world = make_world();
    for (int i = 0; i < 100; i++)
        assert_true(beat_after(&world, SECOND, SECOND));
    for (int i = 1; i < 1000; i++)
        assert_true(beat_after(&world, 2 * SECOND, SECOND));
    assert_int_equal(world.vigil.lag_ns, 999 * SECOND);
}

static void a_clock_that_was_set_back_is_told_and_then_believed(void **state)
{
    (void)state;
    struct world world = make_world();
    for (int i = 0; i < 100; i++)
        assert_true(beat_after(&world, SECOND, SECOND));
    assert_true(beat_after(&world, SECOND, -86400 * SECOND));
    for (int i = 0; i < 590; i++) {
        assert_true(beat_after(&world, SECOND, SECOND));
        assert_int_equal(world.vigil.lag_ns, 86401 * SECOND);
    }
    for (int i = 0; i < 20; i++)
        assert_true(beat_after(&world, SECOND, SECOND));
    assert_int_equal(world.vigil.lag_ns, 0);
}

static void after_a_restart_recordings_are_known_and_a_delay_is_told(void **state)
{
    (void)state;
    struct world before = make_world();
    for (int i = 0; i < 100; i++)
        assert_true(beat_after(&before, SECOND, SECOND));
    struct world after = before;
    vigil_restore(&after.vigil, &before.vigil.newest);
    after.now_ns = 1000; /* another boot */
    struct vigil_beat recorded = before.beat;
    recorded.beat -= 3;
    assert_false(vigil_take(&after.vigil, &recorded, after.now_ns));
    assert_false(after.vigil.heard);
    /* One that was sent right after, and kept back for an hour. */
    assert_true(beat_after(&after, 3601 * SECOND, SECOND));
    assert_int_equal(after.vigil.lag_ns, 3600 * SECOND);
    /* An hour went by on both sides. */
    after = before;
    vigil_restore(&after.vigil, &before.vigil.newest);
    assert_true(beat_after(&after, 3600 * SECOND, 3600 * SECOND));
    assert_int_equal(after.vigil.lag_ns, 0);
}

static void absurd_times_overflow_nothing(void **state)
{
    (void)state;
    struct world world = make_world();
    static const int64_t times[] = {0, INT64_MAX, 1, INT64_MAX - 1, 0, INT64_MAX / 2};
    for (size_t i = 0; i < 60; i++) {
        world.beat.time_ns = times[i % 6];
        world.beat.at_ns = i % 4 == 0 ? INT64_MIN / 2 : INT64_MAX / 2;
        world.beat.beat++;
        world.beat.epoch += i % 7 == 0;
        assert_true(vigil_take(&world.vigil, &world.beat, world.now_ns));
        assert_true(world.vigil.lag_ns >= 0);
        if (i % 5 == 0)
            vigil_restore(&world.vigil, &world.beat);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_comes_as_it_is_sent_has_no_lag),
        cmocka_unit_test(older_and_repeated_ones_say_nothing),
        cmocka_unit_test(a_clock_that_stands_still_is_told_for_as_long_as_it_does),
        cmocka_unit_test(a_link_that_plays_back_slowly_is_told),
        cmocka_unit_test(a_clock_that_was_set_back_is_told_and_then_believed),
        cmocka_unit_test(after_a_restart_recordings_are_known_and_a_delay_is_told),
        cmocka_unit_test(absurd_times_overflow_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
