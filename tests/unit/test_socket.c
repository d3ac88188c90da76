// SPDX-License-Identifier: Apache-2.0
#include "common/socket.h"

#include <errno.h>
#include <linux/filter.h>
#include <net/if.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static void assert_same_text(const char *text)
{
    struct socket_address address;
    char back[SOCKET_TEXT_SIZE];
    assert_true(socket_address_parse(text, &address));
    assert_string_equal(socket_address_text(&address, back), text);
}

static void addresses_are_parsed_and_written_alike(void **state)
{
    (void)state;
    assert_same_text("192.0.2.2:4700");
    assert_same_text("0.0.0.0:0");
    assert_same_text("[2001:db8::1]:4700");
    assert_same_text("[::]:65535");
    if (if_nametoindex("lo") != 0)
        assert_same_text("[fe80::1%lo]:4700");
}

static void malformed_addresses_are_refused(void **state)
{
    (void)state;
    static const char *const wrong[] = {
        "",
        "192.0.2.2",
        "192.0.2.2:",
        "192.0.2.2:65536",
        "192.0.2.2:4700 ",
        "192.0.2:4700",
        "192.0.2.256:4700",
        "example.org:4700",
        ":4700",
        "2001:db8::1:4700",
        "[2001:db8::1]",
        "[2001:db8::1]4700",
        "[2001:db8::1:4700",
        "[192.0.2.2]:4700",
        "[2001:db8::1%lo]:4700",
        "[fe80::1]:4700",
        "[fe80::1%nosuchinterface]:4700",
        "[]:1",
        "[::1]:-1",
        "[::1]:000001",
        "[1234567890123456789012345678901234567890123456789012345678901234567890123456789012]:1",
    };
    struct socket_address address;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        if (socket_address_parse(wrong[i], &address))
            fail_msg("accepted: %s", wrong[i]);
}

static void lanes_count_ports_up_to_the_last_one(void **state)
{
    (void)state;
    struct socket_address address;
    struct socket_address lane;
    char text[SOCKET_TEXT_SIZE];
    assert_true(socket_address_parse("[2001:db8::1]:65530", &address));
    assert_true(socket_address_is_ipv6(&address));
    assert_true(socket_address_lane(&address, 5, &lane));
    assert_string_equal(socket_address_text(&lane, text), "[2001:db8::1]:65535");
    assert_false(socket_address_lane(&address, 6, &lane));
    assert_false(socket_address_lane(&address, UINT32_MAX, &lane));
}

static bool has_loopback(const char *text)
{
    struct socket_address address;
    assert_true(socket_address_parse(text, &address));
    int fd = socket(address.storage.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return false;
    bool bound = bind(fd, (struct sockaddr *)&address.storage, address.size) == 0;
    close(fd);
    return bound;
}

static void address_of(int fd, struct socket_address *address)
{
    memset(address, 0, sizeof *address);
    address->size = sizeof address->storage;
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address->storage, &address->size), 0);
}

/* A receiver and a sender on `loopback`: what the first gets, what neither can do. */
static void check_one_way(const char *loopback)
{
    struct socket_address address;
    struct socket_address peer;
    struct socket_address sender_address;
    int receiver = -1;
    int sender = -1;
    uint32_t granted = 0;
    assert_true(socket_address_parse(loopback, &address));
    assert_int_equal(socket_open_receiver(&address, 65536, &receiver, &granted), STATUS_OK);
    assert_true(granted >= 65536);
    address_of(receiver, &peer);
    assert_int_equal(socket_open_sender(&peer, 65536, &sender), STATUS_OK);

    assert_int_equal(sendto(sender, "hello", 5, 0, (struct sockaddr *)&peer.storage, peer.size), 5);
    struct pollfd watch = {.fd = receiver, .events = POLLIN};
    assert_int_equal(poll(&watch, 1, 5000), 1);
    char bytes[16];
    assert_int_equal(recv(receiver, bytes, sizeof bytes, MSG_DONTWAIT), 5);

    /* The receiver can't answer. */
    address_of(sender, &sender_address);
    struct socket_address target = peer;
    in_port_t port = ((struct sockaddr_in *)&sender_address.storage)->sin_port; /* same place in both families */
    ((struct sockaddr_in *)&target.storage)->sin_port = port;
    errno = 0;
    assert_int_equal(sendto(receiver, "no", 2, MSG_NOSIGNAL, (struct sockaddr *)&target.storage, target.size), -1);
    assert_int_equal(errno, EPIPE);

    /* The sender hears nobody: what a stranger sends it before it sends to a witness never arrives. */
    int stranger = socket(peer.storage.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_int_equal(sendto(stranger, "hi", 2, 0, (struct sockaddr *)&target.storage, target.size), 2);
    assert_int_equal(sendto(stranger, "hi", 2, 0, (struct sockaddr *)&peer.storage, peer.size), 2);
    assert_int_equal(poll(&watch, 1, 5000), 1);
    assert_int_equal(recv(sender, bytes, sizeof bytes, MSG_DONTWAIT), -1);
    assert_int_equal(errno, EAGAIN);
    struct sock_filter accept_all = {.code = BPF_RET | BPF_K, .k = UINT32_MAX};
    struct sock_fprog program = {.len = 1, .filter = &accept_all};
    assert_int_equal(setsockopt(sender, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program), -1);
    assert_int_equal(errno, EPERM);
    close(stranger);
    close(sender);
    close(receiver);
}

static void the_pair_is_one_way_over_ipv4(void **state)
{
    (void)state;
    check_one_way("127.0.0.1:0");
}

static void the_pair_is_one_way_over_ipv6(void **state)
{
    (void)state;
    if (!has_loopback("[::1]:0")) {
        print_message("no IPv6 loopback on this machine\n");
        skip();
    }
    check_one_way("[::1]:0");
}

static int stored_buffer(int fd)
{
    int value = 0;
    socklen_t size = sizeof value;
    assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_RCVBUF, &value, &size), 0);
    return value;
}

static void a_passed_socket_is_one_way_too_however_often_it_is_passed(void **state)
{
    (void)state;
    struct socket_address address, bound;
    uint32_t granted = 0;
    assert_true(socket_address_parse("127.0.0.1:0", &address));
    int held = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int on = 1;
    assert_int_equal(bind(held, (struct sockaddr *)&address.storage, address.size), 0);
    assert_int_equal(setsockopt(held, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on), 0);
    address_of(held, &bound);
    for (unsigned run = 0; run < 3; run++) {
        assert_int_equal(socket_adopt_receiver(dup(held), &bound, 65536, &granted), STATUS_OK);
        assert_true(granted >= 65536);
        errno = 0;
        assert_int_equal(sendto(held, "no", 2, MSG_NOSIGNAL, (struct sockaddr *)&bound.storage, bound.size), -1);
        assert_int_equal(errno, EPIPE);
        int value = 1;
        socklen_t size = sizeof value;
        assert_int_equal(getsockopt(held, SOL_SOCKET, SO_TIMESTAMPNS, &value, &size), 0);
        assert_int_equal(value, 0);
    }
    close(held);
}

static void the_buffer_of_a_passed_socket_is_raised_and_never_lowered(void **state)
{
    (void)state;
    struct socket_address address, bound;
    uint32_t granted = 0;
    assert_true(socket_address_parse("127.0.0.1:0", &address));
    int held = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(held, (struct sockaddr *)&address.storage, address.size), 0);
    address_of(held, &bound);
    int before = stored_buffer(held);
    assert_int_equal(socket_adopt_receiver(dup(held), &bound, 1000, &granted), STATUS_OK);
    assert_int_equal(stored_buffer(held), before);
    assert_int_equal(granted, before / 2);
    int small = 5000;
    assert_int_equal(setsockopt(held, SOL_SOCKET, SO_RCVBUF, &small, sizeof small), 0);
    assert_int_equal(socket_adopt_receiver(dup(held), &bound, 65536, &granted), STATUS_OK);
    assert_int_equal(stored_buffer(held), 2 * 65536);
    assert_int_equal(granted, 65536);
    close(held);
}

static void a_socket_of_another_kind_port_or_source_is_refused(void **state)
{
    (void)state;
    struct socket_address address, bound, other;
    uint32_t granted = 0;
    assert_true(socket_address_parse("127.0.0.1:0", &address));
    int held = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(held, (struct sockaddr *)&address.storage, address.size), 0);
    address_of(held, &bound);
    assert_true(socket_address_lane(&bound, 1, &other));
    assert_int_equal(socket_adopt_receiver(dup(held), &other, 1000, &granted), STATUS_INVALID);
    assert_int_equal(socket_adopt_receiver(socket(AF_INET, SOCK_STREAM, 0), &bound, 1000, &granted), STATUS_INVALID);
    assert_int_equal(socket_adopt_receiver(socket(AF_UNIX, SOCK_DGRAM, 0), &bound, 1000, &granted), STATUS_INVALID);
    assert_int_equal(connect(held, (struct sockaddr *)&bound.storage, bound.size), 0);
    assert_int_equal(socket_adopt_receiver(dup(held), &bound, 1000, &granted), STATUS_INVALID);
    close(held);
}

static void the_sender_does_not_fragment_and_does_not_trust_icmp(void **state)
{
    (void)state;
    struct socket_address peer;
    int fd = -1;
    int value = -1;
    socklen_t size = sizeof value;
    assert_true(socket_address_parse("127.0.0.1:9", &peer));
    assert_int_equal(socket_open_sender(&peer, 4096, &fd), STATUS_OK);
    assert_int_equal(getsockopt(fd, IPPROTO_IP, IP_MTU_DISCOVER, &value, &size), 0);
    assert_int_equal(value, IP_PMTUDISC_PROBE);
    close(fd);
}

static void an_address_in_use_or_of_another_machine_is_a_status(void **state)
{
    (void)state;
    struct socket_address address;
    struct socket_address taken;
    int first = -1;
    int second = -1;
    uint32_t granted = 0;
    assert_true(socket_address_parse("127.0.0.1:0", &address));
    assert_int_equal(socket_open_receiver(&address, 4096, &first, &granted), STATUS_OK);
    address_of(first, &taken);
    assert_int_equal(socket_open_receiver(&taken, 4096, &second, &granted), STATUS_SYSTEM);
    assert_int_equal(errno, EADDRINUSE);
    assert_int_equal(second, -1);
    assert_true(socket_address_parse("192.0.2.77:4700", &address));
    assert_int_equal(socket_open_receiver(&address, 4096, &second, &granted), STATUS_SYSTEM);
    assert_int_equal(errno, EADDRNOTAVAIL);
    close(first);
}

static void the_route_to_loopback_is_lo_with_its_mtu(void **state)
{
    (void)state;
    struct socket_address peer;
    uint32_t mtu = 0;
    char interface[16] = "";
    assert_true(socket_address_parse("127.0.0.1:0", &peer));
    assert_int_equal(socket_route(&peer, &mtu, interface), STATUS_OK);
    assert_true(mtu >= 1280);
    assert_string_equal(interface, "lo");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_are_parsed_and_written_alike),
        cmocka_unit_test(malformed_addresses_are_refused),
        cmocka_unit_test(lanes_count_ports_up_to_the_last_one),
        cmocka_unit_test(the_pair_is_one_way_over_ipv4),
        cmocka_unit_test(the_pair_is_one_way_over_ipv6),
        cmocka_unit_test(a_passed_socket_is_one_way_too_however_often_it_is_passed),
        cmocka_unit_test(the_buffer_of_a_passed_socket_is_raised_and_never_lowered),
        cmocka_unit_test(a_socket_of_another_kind_port_or_source_is_refused),
        cmocka_unit_test(the_sender_does_not_fragment_and_does_not_trust_icmp),
        cmocka_unit_test(an_address_in_use_or_of_another_machine_is_a_status),
        cmocka_unit_test(the_route_to_loopback_is_lo_with_its_mtu),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
