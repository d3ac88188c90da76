// SPDX-License-Identifier: Apache-2.0
#include "common/rtnetlink.h"

#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* With link events, so that answers may stand behind some. */
static int open_netlink(void)
{
    struct sockaddr_nl address = {.nl_family = AF_NETLINK, .nl_groups = RTMGRP_LINK};
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

static void check_loopback(const char *text)
{
    struct socket_address peer;
    uint32_t mtu = 0, expected_mtu = 0;
    char interface[16] = "", expected[16] = "";
    int fd = open_netlink();
    assert_true(socket_address_parse(text, &peer));
    assert_int_equal(socket_route(&peer, &expected_mtu, expected), STATUS_OK);
    assert_int_equal(rtnetlink_route(fd, &peer, &mtu, interface), STATUS_OK);
    assert_string_equal(interface, expected);
    assert_int_equal(mtu, expected_mtu);
    close(fd);
}

static void a_route_is_the_one_that_a_connect_finds(void **state)
{
    (void)state;
    check_loopback("127.0.0.1:4700");
    check_loopback("[::1]:4700");
}

static void what_the_kernel_refuses_is_a_status(void **state)
{
    (void)state;
    struct socket_address peer;
    uint32_t mtu = 0;
    char interface[16] = "";
    int fd = open_netlink(), pipes[2];
    assert_true(socket_address_parse("0.0.0.0:0", &peer));
    peer.storage.ss_family = AF_APPLETALK;
    assert_int_equal(rtnetlink_route(fd, &peer, &mtu, interface), STATUS_SYSTEM);
    assert_true(socket_address_parse("127.0.0.1:4700", &peer));
    assert_int_equal(pipe(pipes), 0);
    assert_int_equal(rtnetlink_route(pipes[0], &peer, &mtu, interface), STATUS_SYSTEM);
    close(pipes[0]);
    close(pipes[1]);
    close(fd);
}

static void a_queue_that_dropped_nothing_and_one_that_is_not_there_count_as_none(void **state)
{
    (void)state;
    int fd = open_netlink();
    assert_int_equal(rtnetlink_queue_drops(fd, "lo"), 0);
    assert_int_equal(rtnetlink_queue_drops(fd, "no-such-one"), 0);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_route_is_the_one_that_a_connect_finds),
        cmocka_unit_test(what_the_kernel_refuses_is_a_status),
        cmocka_unit_test(a_queue_that_dropped_nothing_and_one_that_is_not_there_count_as_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
