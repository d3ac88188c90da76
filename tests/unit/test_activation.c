// SPDX-License-Identifier: Apache-2.0
#include "common/activation.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "proto/limits.h"

enum { LANES = 3, FIRST = 3 };

/* Three neighbouring ports that are free. */
static void bind_lanes(int family, int fds[LANES], struct socket_address *first)
{
    for (;;) {
        socklen_t size = sizeof first->storage;
        int bound = 1;
        assert_true(socket_address_parse(family == AF_INET ? "127.0.0.1:0" : "[::1]:0", first));
        fds[0] = socket(family, SOCK_DGRAM, 0);
        assert_int_equal(bind(fds[0], (struct sockaddr *)&first->storage, first->size), 0);
        assert_int_equal(getsockname(fds[0], (struct sockaddr *)&first->storage, &size), 0);
        for (unsigned lane = 1; lane < LANES; lane++) {
            struct socket_address address;
            fds[lane] = socket(family, SOCK_DGRAM, 0);
            bound += socket_address_lane(first, lane, &address) &&
                     bind(fds[lane], (struct sockaddr *)&address.storage, address.size) == 0;
        }
        if (bound == LANES)
            return;
        for (unsigned lane = 0; lane < LANES; lane++)
            close(fds[lane]);
    }
}

/* In a child process, with the descriptors at their places: 0 when `check` holds. */
static void in_service(const int passed[], unsigned count, const struct socket_address *first, unsigned lanes,
                       enum status expected)
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        char text[32];
        int high[8], fds[LIMIT_LANES];
        bool right = true;
        for (unsigned i = 0; i < count; i++)
            high[i] = fcntl(passed[i], F_DUPFD, 100);
        for (unsigned i = 0; i < count; i++)
            dup2(high[i], FIRST + (int)i);
        snprintf(text, sizeof text, "%d", (int)getpid());
        setenv("LISTEN_PID", text, 1);
        snprintf(text, sizeof text, "%u", count);
        if (count > 0)
            setenv("LISTEN_FDS", text, 1);
        enum status status = activation_take(first, lanes, fds);
        right = right && status == expected && getenv("LISTEN_FDS") == NULL;
        for (unsigned lane = 0; lane < lanes; lane++) {
            struct socket_address bound = {.size = sizeof bound.storage};
            bool found = fds[lane] >= 0 &&
                         getsockname(fds[lane], (struct sockaddr *)&bound.storage, &bound.size) == 0 &&
                         socket_address_port(&bound) == socket_address_port(first) + lane &&
                         (fcntl(fds[lane], F_GETFD) & FD_CLOEXEC) != 0;
            right = right && (status == STATUS_OK && count > 0 ? found : fds[lane] == -1);
        }
        for (unsigned i = 0; status != STATUS_OK && i < count; i++)
            right = right && fcntl(FIRST + (int)i, F_GETFD) < 0;
        _exit(right ? 0 : 1);
    }
    int result = -1;
    assert_int_equal(waitpid(child, &result, 0), child);
    assert_int_equal(result, 0);
}

static void check_family(int family)
{
    int fds[LANES];
    struct socket_address first;
    bind_lanes(family, fds, &first);
    const int mixed[] = {fds[2], fds[0], fds[1]};
    in_service(mixed, 3, &first, 3, STATUS_OK);
    in_service(fds, 1, &first, 1, STATUS_OK);
    in_service(mixed, 0, &first, 3, STATUS_OK); /* nothing was passed */
    for (unsigned lane = 0; lane < LANES; lane++)
        close(fds[lane]);
}

static void sockets_become_lanes_in_order_of_their_ports(void **state)
{
    (void)state;
    check_family(AF_INET);
    check_family(AF_INET6);
}

static void what_is_missing_or_too_much_is_refused(void **state)
{
    (void)state;
    int fds[LANES];
    struct socket_address first;
    bind_lanes(AF_INET, fds, &first);
    in_service(fds, 2, &first, 3, STATUS_INVALID);
    in_service(fds, 3, &first, 2, STATUS_INVALID);
    const int twice[] = {fds[0], fds[0]};
    in_service(twice, 2, &first, 1, STATUS_INVALID);
    const int shifted[] = {fds[1]};
    in_service(shifted, 1, &first, 1, STATUS_INVALID);
    for (unsigned lane = 0; lane < LANES; lane++)
        close(fds[lane]);
}

static void what_is_no_udp_socket_of_the_family_is_refused(void **state)
{
    (void)state;
    int fds[LANES];
    struct socket_address first, other;
    bind_lanes(AF_INET, fds, &first);
    int bad[] = {open("/dev/null", O_RDONLY), socket(AF_INET, SOCK_STREAM, 0), socket(AF_UNIX, SOCK_DGRAM, 0),
                 socket(AF_INET6, SOCK_DGRAM, 0)};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const int both[] = {fds[0], bad[i]};
        in_service(&bad[i], 1, &first, 1, STATUS_INVALID);
        in_service(both, 2, &first, 1, STATUS_INVALID);
        close(bad[i]);
    }
    assert_true(socket_address_parse("[::1]:1", &other));
    in_service(fds, 1, &other, 1, STATUS_INVALID);
    for (unsigned lane = 0; lane < LANES; lane++)
        close(fds[lane]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sockets_become_lanes_in_order_of_their_ports),
        cmocka_unit_test(what_is_missing_or_too_much_is_refused),
        cmocka_unit_test(what_is_no_udp_socket_of_the_family_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
