// SPDX-License-Identifier: Apache-2.0
#include "sender/train.h"

#include <assert.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/clock.h"
#include "common/ring.h"

enum { DATAGRAMS = 5, SYMBOL_SIZE = 64 };

static struct io_uring ring;
static struct socket_address to;
static struct train_yard *yard;
static unsigned under_way;
static int fd;

static int set_up(void **state)
{
    (void)state;
    assert(socket_address_parse("127.0.0.1:9", &to)); /* discard: nobody needs to listen */
    fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert(fd >= 0);
    if (ring_open(64, 128, RING_SENDS, &ring) != STATUS_OK)
        return -1;
    yard = train_create(&ring, fd, &to, NULL);
    under_way = 0;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    ring_close(&ring);
    train_destroy(yard);
    close(fd);
    return 0;
}

/* Waits for all calls of a train, giving out the result of the first one as `refusal` unless that is 0. Returns how
 * many calls it took. */
static unsigned complete(int refusal, uint64_t now_ns)
{
    unsigned calls = 0;
    while (train_submitted(yard) > 0) {
        struct io_uring_cqe *cqe;
        assert_true(io_uring_submit(&ring) >= 0);
        assert_int_equal(io_uring_wait_cqe(&ring, &cqe), 0);
        uint64_t user_data = io_uring_cqe_get_data64(cqe);
        int result = cqe->res;
        io_uring_cqe_seen(&ring, cqe);
        train_completed(yard, user_data, calls == 0 && refusal != 0 ? refusal : result, now_ns);
        calls++;
    }
    return calls;
}

static unsigned send_train(int refusal, uint64_t now_ns)
{
    static const uint8_t symbol[SYMBOL_SIZE];
    train_retry(yard, now_ns);
    assert_true(train_begin(yard, SYMBOL_SIZE, false, &under_way));
    for (uint8_t i = 0; i < DATAGRAMS; i++) {
        const struct datagram datagram = {.source_symbols = 10,
                                          .repair_symbols = 4,
                                          .esi = i,
                                          .symbol_size = SYMBOL_SIZE,
                                          .depth = 1,
                                          .symbol_hash = datagram_symbol_hash(symbol, SYMBOL_SIZE)};
        train_add(yard, &datagram, symbol);
    }
    train_go(yard);
    unsigned calls = complete(refusal, now_ns);
    assert_int_equal(under_way, 0);
    return calls;
}

static void a_path_that_refused_segments_is_tried_again_after_a_while(void **state)
{
    (void)state;
    struct train_counters counters;
    assert_int_equal(send_train(0, 0), 1);
    /* Refused once: the same train leaves as single datagrams, and so do those that follow. */
    assert_int_equal(send_train(-EIO, CLOCK_SECOND_NS), 1 + DATAGRAMS);
    assert_int_equal(send_train(0, 2 * CLOCK_SECOND_NS), DATAGRAMS);
    assert_int_equal(send_train(0, 10 * CLOCK_SECOND_NS), DATAGRAMS);
    /* Ten seconds later it is tried again; where it is refused again, later each time. */
    assert_int_equal(send_train(-EINVAL, 11 * CLOCK_SECOND_NS), 1 + DATAGRAMS);
    assert_int_equal(send_train(0, 30 * CLOCK_SECOND_NS), DATAGRAMS);
    assert_int_equal(send_train(0, 31 * CLOCK_SECOND_NS), 1);
    assert_int_equal(send_train(-EIO, 32 * CLOCK_SECOND_NS), 1 + DATAGRAMS);
    assert_int_equal(send_train(0, 42 * CLOCK_SECOND_NS), 1);
    train_counters(yard, &counters);
    assert_int_equal(counters.segmentation_refused, 3);
    assert_int_equal(counters.datagrams, 9 * DATAGRAMS);
    assert_int_equal(counters.errors, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_path_that_refused_segments_is_tried_again_after_a_while, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
