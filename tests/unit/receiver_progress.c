// SPDX-License-Identifier: Apache-2.0
#include "receiver/progress.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static struct trust *make_trust(unsigned count)
{
    struct signature_public keys[8];
    memset(keys, 0, sizeof keys);
    for (unsigned i = 0; i < count; i++)
        keys[i].key_id[0] = (uint8_t)(i + 1);
    return trust_from_keys(keys, count);
}

static void a_lane_that_said_nothing_is_unknown(void **state)
{
    (void)state;
    struct trust *trust = make_trust(2);
    struct lane_progress *progress = progress_create(trust, 2);
    uint64_t epoch, passed;
    assert_false(progress_passed(progress, 1, 0, &epoch, &passed));
    progress_set_passed(progress, 1, 1, 7, 0);
    assert_false(progress_passed(progress, 1, 0, &epoch, &passed));
    assert_false(progress_passed(progress, 2, 1, &epoch, &passed));
    assert_false(progress_passed(progress, 1, 2, &epoch, &passed));
    assert_true(progress_passed(progress, 1, 1, &epoch, &passed));
    assert_int_equal(epoch, 7);
    assert_int_equal(passed, 0);
    progress_destroy(progress);
    trust_destroy(trust);
}

static void each_sender_and_lane_has_its_own_values(void **state)
{
    (void)state;
    struct trust *trust = make_trust(8);
    struct lane_progress *progress = progress_create(trust, 16);
    uint64_t epoch, passed;
    for (uint32_t id = 8; id > 0; id--)
        for (unsigned lane = 0; lane < 16; lane++)
            progress_set_passed(progress, id, lane, id * 1000, id * 100 + lane);
    for (uint32_t id = 1; id <= 8; id++) {
        for (unsigned lane = 0; lane < 16; lane++) {
            assert_true(progress_passed(progress, id, lane, &epoch, &passed));
            assert_int_equal(epoch, id * 1000);
            assert_int_equal(passed, id * 100 + lane);
        }
    }
    progress_destroy(progress);
    trust_destroy(trust);
}

static void a_confirmed_epoch_only_grows(void **state)
{
    (void)state;
    struct trust *trust = make_trust(2);
    struct lane_progress *progress = progress_create(trust, 1);
    assert_int_equal(progress_confirmed_epoch(progress, 1), 0);
    progress_confirm_epoch(progress, 1, 5);
    progress_confirm_epoch(progress, 1, 3);
    assert_int_equal(progress_confirmed_epoch(progress, 1), 5);
    assert_int_equal(progress_confirmed_epoch(progress, 2), 0);
    progress_destroy(progress);
    trust_destroy(trust);
}

enum { ROUNDS = 200000 };

static void *write_pairs(void *context)
{
    for (uint64_t i = 1; i <= ROUNDS; i++)
        progress_set_passed(context, 1, 0, i, 2 * i);
    return NULL;
}

static void epoch_and_block_number_are_always_of_one_moment(void **state)
{
    (void)state;
    struct trust *trust = make_trust(1);
    struct lane_progress *progress = progress_create(trust, 1);
    pthread_t writer;
    assert_int_equal(pthread_create(&writer, NULL, write_pairs, progress), 0);
    uint64_t epoch = 0, passed = 0;
    while (epoch < ROUNDS)
        if (progress_passed(progress, 1, 0, &epoch, &passed))
            assert_int_equal(passed, 2 * epoch);
    pthread_join(writer, NULL);
    progress_destroy(progress);
    trust_destroy(trust);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_lane_that_said_nothing_is_unknown),
        cmocka_unit_test(each_sender_and_lane_has_its_own_values),
        cmocka_unit_test(a_confirmed_epoch_only_grows),
        cmocka_unit_test(epoch_and_block_number_are_always_of_one_moment),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
