// SPDX-License-Identifier: Apache-2.0
#include "common/mailbox.h"

#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

struct message {
    struct mailbox_entry entry;
    int number;
};

static bool is_readable(const struct doorbell *bell)
{
    struct pollfd watch = {.fd = doorbell_fd(bell), .events = POLLIN};
    return poll(&watch, 1, 0) == 1;
}

static void messages_are_taken_in_the_order_of_posting(void **state)
{
    (void)state;
    struct message messages[5];
    struct mailbox *mailbox = mailbox_create(NULL);
    assert_non_null(mailbox);
    assert_null(mailbox_take(mailbox));
    for (int i = 0; i < 3; i++) {
        messages[i].number = i;
        mailbox_post(mailbox, &messages[i].entry);
    }
    assert_ptr_equal(mailbox_take(mailbox), &messages[0].entry);
    for (int i = 3; i < 5; i++)
        mailbox_post(mailbox, &messages[i].entry);
    for (int i = 1; i < 5; i++)
        assert_ptr_equal(mailbox_take(mailbox), &messages[i].entry);
    assert_null(mailbox_take(mailbox));
    mailbox_destroy(mailbox);
}

static void a_post_rings_an_armed_bell_once(void **state)
{
    (void)state;
    struct message messages[2];
    struct doorbell *bell = doorbell_create();
    struct mailbox *mailbox = mailbox_create(bell);
    mailbox_post(mailbox, &messages[0].entry);
    assert_false(is_readable(bell)); /* nobody sleeps: no system call */
    doorbell_arm(bell);
    assert_false(is_readable(bell));
    mailbox_post(mailbox, &messages[1].entry);
    assert_true(is_readable(bell));
    doorbell_disarm(bell);
    assert_false(is_readable(bell));
    assert_non_null(mailbox_take(mailbox));
    assert_non_null(mailbox_take(mailbox));
    mailbox_destroy(mailbox);
    doorbell_destroy(bell);
}

static void a_bell_that_was_rung_between_arming_and_waiting_does_not_wait(void **state)
{
    (void)state;
    struct doorbell *bell = doorbell_create();
    doorbell_arm(bell);
    doorbell_ring(bell);
    doorbell_ring(bell);
    doorbell_wait(bell, UINT64_MAX);
    assert_true(is_readable(bell));
    doorbell_disarm(bell);
    assert_false(is_readable(bell));
    doorbell_arm(bell);
    doorbell_wait(bell, 1000000);
    assert_false(is_readable(bell));
    doorbell_disarm(bell);
    doorbell_destroy(bell);
}

static void arming_twice_keeps_an_earlier_ring_and_disarming_takes_all(void **state)
{
    (void)state;
    struct doorbell *bell = doorbell_create();
    for (int round = 0; round < 3; round++) {
        doorbell_arm(bell);
        doorbell_ring(bell);
        doorbell_arm(bell);
        doorbell_ring(bell);
        assert_true(is_readable(bell));
        doorbell_disarm(bell);
        assert_false(is_readable(bell));
    }
    doorbell_destroy(bell);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_are_taken_in_the_order_of_posting),
        cmocka_unit_test(a_post_rings_an_armed_bell_once),
        cmocka_unit_test(a_bell_that_was_rung_between_arming_and_waiting_does_not_wait),
        cmocka_unit_test(arming_twice_keeps_an_earlier_ring_and_disarming_takes_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
