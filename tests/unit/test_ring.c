// SPDX-License-Identifier: Apache-2.0
#include "common/ring.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/clock.h"

enum { ENTRIES = 8, OPERATIONS = 100 };

static unsigned reap(struct io_uring *ring, uint64_t *sum)
{
    struct io_uring_cqe *cqe;
    unsigned head;
    unsigned count = 0;
    io_uring_for_each_cqe(ring, head, cqe)
    {
        *sum += cqe->user_data;
        count++;
    }
    io_uring_cq_advance(ring, count);
    return count;
}

static void a_full_submission_queue_is_submitted_and_goes_on(void **state)
{
    (void)state;
    struct io_uring ring;
    assert_int_equal(ring_open(ENTRIES, 2 * OPERATIONS, &ring), STATUS_OK);
    for (uint64_t i = 1; i <= OPERATIONS; i++) {
        struct io_uring_sqe *sqe = ring_sqe(&ring);
        assert_non_null(sqe);
        io_uring_prep_nop(sqe);
        sqe->user_data = i;
    }
    unsigned done = 0;
    uint64_t sum = 0;
    while (done < OPERATIONS) {
        uint64_t now_ns = clock_monotonic_ns();
        ring_wait(&ring, now_ns, now_ns + 5 * CLOCK_SECOND_NS);
        unsigned got = reap(&ring, &sum);
        assert_true(got > 0);
        done += got;
    }
    assert_int_equal(sum, OPERATIONS * (OPERATIONS + 1) / 2);
    ring_close(&ring);
}

static void waiting_ends_at_the_deadline_and_not_before(void **state)
{
    (void)state;
    struct io_uring ring;
    uint64_t sum = 0;
    assert_int_equal(ring_open(ENTRIES, ENTRIES, &ring), STATUS_OK);
    uint64_t start_ns = clock_monotonic_ns();
    ring_wait(&ring, start_ns, start_ns + 20 * CLOCK_MILLISECOND_NS);
    assert_true(clock_monotonic_ns() >= start_ns + 19 * CLOCK_MILLISECOND_NS);
    assert_int_equal(reap(&ring, &sum), 0);
    ring_wait(&ring, start_ns, 0); /* long past: submits and returns */
    io_uring_prep_nop(ring_sqe(&ring));
    ring_wait(&ring, 0, UINT64_MAX);
    assert_int_equal(reap(&ring, &sum), 1);
    ring_close(&ring);
}

static void a_passed_deadline_still_submits_and_collects(void **state)
{
    (void)state;
    struct io_uring ring;
    uint64_t sum = 0;
    assert_int_equal(ring_open(ENTRIES, ENTRIES, &ring), STATUS_OK);
    struct io_uring_sqe *sqe = ring_sqe(&ring);
    io_uring_prep_nop(sqe);
    sqe->user_data = 7;
    ring_wait(&ring, 1, 0);
    assert_int_equal(reap(&ring, &sum), 1);
    assert_int_equal(sum, 7);
    ring_close(&ring);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_full_submission_queue_is_submitted_and_goes_on),
        cmocka_unit_test(waiting_ends_at_the_deadline_and_not_before),
        cmocka_unit_test(a_passed_deadline_still_submits_and_collects),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
