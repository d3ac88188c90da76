// SPDX-License-Identifier: Apache-2.0
#include "sender/expire.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define HOUR INT64_C(3600000000000)

enum { MODELS, WHEELS, CHANNELS };

static struct config_channel channels[CHANNELS];
static const struct config_channel other;
static struct config config;

static int set_up(void **state)
{
    (void)state;
    channels[MODELS] = (struct config_channel){.name = "models"};
    channels[WHEELS] = (struct config_channel){.name = "wheels"};
    config = (struct config){
        .retain_ns = (uint64_t)(100 * HOUR), .retain_bytes = 1000, .channels = channels, .channel_count = CHANNELS};
    return 0;
}

static struct expire_item item(const struct config_channel *channel, int64_t finished_at_ns, uint64_t bytes)
{
    return (struct expire_item){.channel = channel, .finished_at_ns = finished_at_ns, .bytes = bytes};
}

static void what_is_within_all_bounds_stays(void **state)
{
    (void)state;
    struct expire_item items[] = {item(&channels[MODELS], 1 * HOUR, 600), item(&other, 2 * HOUR, 400)};
    assert_int_equal(expire_choose(&config, items, 2, 101 * HOUR, 0), 0);
    assert_int_equal(items[0].reason, EXPIRE_KEEP);
    assert_int_equal(items[1].reason, EXPIRE_KEEP);
}

static void age_is_the_channels_own_or_that_of_all(void **state)
{
    (void)state;
    channels[MODELS].retain_ns = (uint64_t)(10 * HOUR);
    channels[WHEELS].retain_ns = (uint64_t)(1000 * HOUR);
    struct expire_item items[] = {item(&channels[MODELS], 100 * HOUR, 1), item(&channels[WHEELS], 0, 1),
                                  item(&other, 100 * HOUR, 1), item(&other, 0, 1)};
    (void)expire_choose(&config, items, 4, 111 * HOUR, 0);
    assert_int_equal(items[0].reason, EXPIRE_AGE);
    assert_int_equal(items[1].reason, EXPIRE_KEEP);
    assert_int_equal(items[2].reason, EXPIRE_KEEP);
    assert_int_equal(items[3].reason, EXPIRE_AGE);
}

static void what_was_sent_later_than_now_is_not_old(void **state)
{
    (void)state;
    struct expire_item items[] = {item(&other, 500 * HOUR, 1)};
    (void)expire_choose(&config, items, 1, 0, 0);
    assert_int_equal(items[0].reason, EXPIRE_KEEP);
}

static void a_channel_over_its_bound_loses_its_oldest_before_any_other(void **state)
{
    (void)state;
    channels[MODELS].retain_bytes = 500;
    struct expire_item items[] = {item(&channels[WHEELS], 1, 200), item(&channels[MODELS], 2, 300),
                                  item(&channels[MODELS], 3, 300), item(&channels[MODELS], 4, 200)};
    /* 1000 in all, which is within the bound of all; 800 of models are not. */
    (void)expire_choose(&config, items, 4, 5, 0);
    assert_int_equal(items[0].reason, EXPIRE_KEEP);
    assert_int_equal(items[1].reason, EXPIRE_CHANNEL);
    assert_int_equal(items[2].reason, EXPIRE_KEEP);
    assert_int_equal(items[3].reason, EXPIRE_KEEP);
    /* And what a channel gives up counts for the bound of all. */
    config.retain_bytes = 700;
    (void)expire_choose(&config, items, 4, 5, 0);
    assert_int_equal(items[0].reason, EXPIRE_KEEP);
    config.retain_bytes = 699;
    (void)expire_choose(&config, items, 4, 5, 0);
    assert_int_equal(items[0].reason, EXPIRE_BYTES);
    assert_int_equal(items[2].reason, EXPIRE_KEEP);
}

static void a_disk_with_too_little_free_takes_the_oldest_early(void **state)
{
    (void)state;
    config.retain_free = 1000;
    struct expire_item items[] = {item(&other, 1, 100), item(&other, 2, 100), item(&other, 3, 100)};
    assert_int_equal(expire_choose(&config, items, 3, 5, 1000), 0);
    assert_int_equal(items[0].reason, EXPIRE_KEEP);
    assert_int_equal(expire_choose(&config, items, 3, 5, 850), 0);
    assert_int_equal(items[0].reason, EXPIRE_FREE);
    assert_int_equal(items[1].reason, EXPIRE_FREE);
    assert_int_equal(items[2].reason, EXPIRE_KEEP);
    assert_int_equal(expire_choose(&config, items, 3, 5, 100), 600);
    /* What goes for another reason is free as well. */
    config.retain_bytes = 100;
    assert_int_equal(expire_choose(&config, items, 3, 5, 800), 0);
    assert_int_equal(items[1].reason, EXPIRE_BYTES);
    assert_int_equal(items[2].reason, EXPIRE_KEEP);
}

static void what_is_being_sent_again_stays_and_counts(void **state)
{
    (void)state;
    config.retain_bytes = 150;
    struct expire_item items[] = {item(&other, 1, 100), item(&other, 2, 100), item(&other, 3, 100)};
    items[0].held = true;
    (void)expire_choose(&config, items, 3, 500 * HOUR, 0);
    assert_int_equal(items[0].reason, EXPIRE_KEEP);
    assert_int_equal(items[1].reason, EXPIRE_AGE);
    (void)expire_choose(&config, items, 3, 5, 0);
    assert_int_equal(items[0].reason, EXPIRE_KEEP);
    assert_int_equal(items[1].reason, EXPIRE_BYTES);
    assert_int_equal(items[2].reason, EXPIRE_BYTES);
}

#define TEST(name) cmocka_unit_test_setup(name, set_up)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_is_within_all_bounds_stays),
        TEST(age_is_the_channels_own_or_that_of_all),
        TEST(what_was_sent_later_than_now_is_not_old),
        TEST(a_channel_over_its_bound_loses_its_oldest_before_any_other),
        TEST(a_disk_with_too_little_free_takes_the_oldest_early),
        TEST(what_is_being_sent_again_stays_and_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
