// SPDX-License-Identifier: Apache-2.0
#include "receiver/checks.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define SECOND UINT64_C(1000000000)

static struct {
    struct signature_key *keys[2];
    struct trust *trust;
    struct checks *checks;
    uint32_t ids[2];
    uint64_t now_ns;
} world;

static int set_up(void **state)
{
    (void)state;
    struct signature_public publics[2];
    assert_int_equal(signature_init(), STATUS_OK);
    for (uint8_t i = 0; i < 2; i++) {
        uint8_t seed[32] = {i};
        world.keys[i] = signature_key_from_seed(seed);
        publics[i] = *signature_key_public(world.keys[i]);
        world.ids[i] = signature_sender_id(&publics[i]);
    }
    world.trust = trust_from_keys(publics, 2);
    world.checks = checks_create(world.trust);
    world.now_ns = 1000 * SECOND;
    return world.checks == NULL;
}

static int tear_down(void **state)
{
    (void)state;
    checks_destroy(world.checks);
    trust_destroy(world.trust);
    for (unsigned i = 0; i < 2; i++)
        signature_key_destroy(world.keys[i]);
    return 0;
}

static enum checks_verdict verify(unsigned sender, uint64_t number, bool forged)
{
    struct signed_message message = {.body = (uint8_t *)&number, .body_size = sizeof number};
    signature_sign(world.keys[sender], message.body, message.body_size, NULL, &message.signature);
    message.signature.bytes[40] ^= forged;
    return checks_verify(world.checks, world.ids[sender], &message, world.now_ns);
}

static void good_and_bad_signatures_are_told_apart_also_the_second_time(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 3; round++) {
        assert_int_equal(verify(0, 1, false), CHECKS_GOOD);
        assert_int_equal(verify(0, 1, true), CHECKS_BAD);
        assert_int_equal(verify(1, 1, false), CHECKS_GOOD);
    }
    /* What one sender has signed, another has not. */
    uint64_t number = 1;
    struct signed_message message = {.body = (uint8_t *)&number, .body_size = sizeof number};
    signature_sign(world.keys[0], message.body, message.body_size, NULL, &message.signature);
    assert_int_equal(checks_verify(world.checks, world.ids[1], &message, world.now_ns), CHECKS_BAD);
    assert_int_equal(checks_verify(world.checks, world.ids[0] ^ world.ids[1], &message, world.now_ns), CHECKS_BAD);
}

static void a_sender_that_signs_rightly_is_never_limited(void **state)
{
    (void)state;
    for (uint64_t i = 0; i < 3 * CHECKS_FAILURES_PER_S * CHECKS_BURST_S; i++)
        assert_int_equal(verify(0, i, false), CHECKS_GOOD);
}

static void a_flood_of_bad_signatures_is_bounded_by_time_and_hurts_no_other_sender(void **state)
{
    (void)state;
    enum { SHARE = CHECKS_FAILURES_PER_S / 2 };
    uint64_t number = 0, checked = 0;
    while (verify(0, ++number, true) == CHECKS_BAD)
        checked++;
    assert_int_equal(checked, SHARE * CHECKS_BURST_S);
    assert_int_equal(verify(0, ++number, false), CHECKS_OVER_LIMIT);
    assert_int_equal(verify(1, number, false), CHECKS_GOOD);
    /* As time goes by there is room for some; and what is good takes none of it. */
    world.now_ns += SECOND;
    for (checked = 0; checked < SHARE; checked++) {
        assert_int_equal(verify(0, ++number, false), CHECKS_GOOD);
        assert_int_equal(verify(0, number, true), CHECKS_BAD);
    }
    assert_int_equal(verify(0, ++number, true), CHECKS_OVER_LIMIT);
    world.now_ns += 1000 * SECOND;
    for (checked = 0; verify(0, ++number, true) == CHECKS_BAD;)
        checked++;
    assert_int_equal(checked, SHARE * CHECKS_BURST_S);
}

static void copies_cost_nothing_even_when_the_budget_is_used_up(void **state)
{
    (void)state;
    assert_int_equal(verify(0, 77, false), CHECKS_GOOD);
    assert_int_equal(verify(0, 78, true), CHECKS_BAD);
    for (unsigned i = 0; i < 10 * CHECKS_FAILURES_PER_S; i++)
        assert_int_equal(verify(0, 78, true), CHECKS_BAD);
    while (checks_may(world.checks, world.ids[0], world.now_ns))
        checks_failed(world.checks, world.ids[0]);
    assert_int_equal(verify(0, 79, false), CHECKS_OVER_LIMIT);
    assert_int_equal(verify(0, 77, false), CHECKS_GOOD);
    assert_int_equal(verify(0, 78, true), CHECKS_BAD);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(good_and_bad_signatures_are_told_apart_also_the_second_time, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_sender_that_signs_rightly_is_never_limited, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_flood_of_bad_signatures_is_bounded_by_time_and_hurts_no_other_sender, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(copies_cost_nothing_even_when_the_budget_is_used_up, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
