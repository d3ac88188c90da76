// SPDX-License-Identifier: Apache-2.0
#include "sender/passed.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/socket.h"

enum { FIRST = 3 };

static int udp(const char *text, struct socket_address *bound)
{
    bound->size = sizeof bound->storage;
    assert_true(socket_address_parse(text, bound));
    int fd = socket(bound->storage.ss_family, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&bound->storage, bound->size), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&bound->storage, &bound->size), 0);
    return fd;
}

static int netlink(unsigned groups)
{
    struct sockaddr_nl address = {.nl_family = AF_NETLINK, .nl_groups = groups};
    int fd = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

static bool same(int fd, const struct stat *expected)
{
    struct stat found;
    return fd >= 0 && fstat(fd, &found) == 0 && found.st_ino == expected->st_ino && found.st_dev == expected->st_dev;
}

/* In a child process, with the descriptors at their places: 0 when `check` holds. */
static void in_service(const int fds[], unsigned count, bool (*check)(struct passed *passed, const struct stat are[]))
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        char text[32];
        int high[8];
        struct stat are[8];
        struct passed *passed;
        for (unsigned i = 0; i < count; i++)
            high[i] = fcntl(fds[i], F_DUPFD, 100);
        for (unsigned i = 0; i < count; i++) {
            dup2(high[i], FIRST + (int)i);
            fstat(high[i], &are[i]);
        }
        snprintf(text, sizeof text, "%d", (int)getpid());
        setenv("LISTEN_PID", text, 1);
        snprintf(text, sizeof text, "%u", count);
        if (count > 0)
            setenv("LISTEN_FDS", text, 1);
        bool right = passed_take(&passed) == STATUS_OK && getenv("LISTEN_FDS") == NULL && check(passed, are);
        passed_destroy(passed);
        _exit(right ? 0 : 1);
    }
    int result = -1;
    assert_int_equal(waitpid(child, &result, 0), child);
    assert_int_equal(result, 0);
}

static bool each_is_found(struct passed *passed, const struct stat are[])
{
    bool right = same(passed_questions(passed), &are[0]) && same(passed_questions(passed), &are[0]);
    right = right && same(passed_carrier(passed), &are[1]) && same(passed_carrier(passed), &are[4]);
    right = right && passed_carrier(passed) == -1;
    right = right && same(passed_socket(passed, false), &are[3]) && passed_socket(passed, false) == -1;
    /* Of no use: closed. */
    return right && same(passed_socket(passed, true), &are[2]) && fcntl(FIRST + 5, F_GETFD) < 0;
}

static void what_is_passed_is_given_out_by_kind_and_in_order(void **state)
{
    (void)state;
    struct socket_address bound;
    int pipes[2];
    assert_int_equal(pipe(pipes), 0);
    const int fds[] = {
        netlink(0), netlink(RTMGRP_LINK), udp("[::1]:0", &bound), udp("127.0.0.1:0", &bound), netlink(RTMGRP_LINK),
        pipes[0]};
    in_service(fds, 6, each_is_found);
}

static bool nothing_is_there(struct passed *passed, const struct stat are[])
{
    (void)are;
    return passed == NULL;
}

static void without_a_service_manager_nothing_is_passed(void **state)
{
    (void)state;
    in_service(NULL, 0, nothing_is_there);
}

/* What stands in the buffer, by its kind of error. */
static int waiting(int fd)
{
    char byte;
    return recv(fd, &byte, sizeof byte, MSG_DONTWAIT) >= 0 ? 0 : errno;
}

static void check_adoption(const char *text)
{
    struct socket_address bound, peer;
    int fd = udp(text, &bound), other = udp(text, &peer);
    assert_int_equal(sendto(other, "x", 1, 0, (struct sockaddr *)&bound.storage, bound.size), 1);
    /* Twice: it outlives a run of the sender. */
    for (int run = 0; run < 2; run++)
        assert_int_equal(socket_adopt_sender(fd, &peer, 65536), STATUS_OK);
    assert_int_equal(waiting(fd), EAGAIN);
    assert_int_equal(fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_DETACH_FILTER, &(int){0}, sizeof(int)), -1);
    assert_int_equal(errno, EPERM);
    assert_int_equal(sendto(other, "x", 1, 0, (struct sockaddr *)&bound.storage, bound.size), 1);
    assert_int_equal(sendto(fd, "y", 1, 0, (struct sockaddr *)&peer.storage, peer.size), 1);
    char byte = 0;
    assert_int_equal(fcntl(other, F_SETFL, 0), 0);
    assert_int_equal(recv(other, &byte, 1, 0), 1);
    assert_int_equal(byte, 'y');
    assert_int_equal(waiting(fd), EAGAIN);
    close(fd);
    close(other);
}

static void an_adopted_socket_sends_and_has_received_nothing(void **state)
{
    (void)state;
    check_adoption("127.0.0.1:0");
    check_adoption("[::1]:0");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_passed_is_given_out_by_kind_and_in_order),
        cmocka_unit_test(without_a_service_manager_nothing_is_passed),
        cmocka_unit_test(an_adopted_socket_sends_and_has_received_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
