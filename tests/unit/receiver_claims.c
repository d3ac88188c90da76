// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "receiver/claims.h"

static const uint8_t ONE[SHA256_SIZE] = {1}, TWO[SHA256_SIZE] = {2};

static void the_first_claim_is_new_and_a_contradiction_is_told_once(void **state)
{
    (void)state;
    struct claims claims = {0};
    assert_int_equal(claims_put(&claims, 7, ONE), CLAIMS_NEW);
    assert_int_equal(claims_put(&claims, 7, ONE), CLAIMS_SAME);
    assert_int_equal(claims_put(&claims, 7, TWO), CLAIMS_OTHER);
    assert_int_equal(claims_put(&claims, 7, TWO), CLAIMS_SAME); /* the branch that goes on */
    claims_deinit(&claims);
}

static void newer_numbers_take_the_places_of_old_ones_and_not_the_other_way_round(void **state)
{
    (void)state;
    struct claims claims = {0};
    for (uint64_t sequence = 1; sequence <= 2 * CLAIMS; sequence++)
        assert_int_equal(claims_put(&claims, sequence, ONE), CLAIMS_NEW);
    assert_int_equal(claims_put(&claims, 1, TWO), CLAIMS_NEW); /* long forgotten */
    for (uint64_t sequence = CLAIMS + 1; sequence <= 2 * CLAIMS; sequence++)
        assert_int_equal(claims_put(&claims, sequence, ONE), CLAIMS_SAME);
    claims_deinit(&claims);
}

static void what_lies_above_a_rollback_is_forgotten(void **state)
{
    (void)state;
    struct claims claims = {0};
    claims_forget_above(&claims, 3); /* nothing there yet */
    claims_put(&claims, 3, ONE);
    claims_put(&claims, 4, ONE);
    claims_forget_above(&claims, 3);
    assert_int_equal(claims_put(&claims, 3, TWO), CLAIMS_OTHER);
    assert_int_equal(claims_put(&claims, 4, TWO), CLAIMS_NEW);
    claims_deinit(&claims);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_claim_is_new_and_a_contradiction_is_told_once),
        cmocka_unit_test(newer_numbers_take_the_places_of_old_ones_and_not_the_other_way_round),
        cmocka_unit_test(what_lies_above_a_rollback_is_forgotten),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
