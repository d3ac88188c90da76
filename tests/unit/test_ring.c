// SPDX-License-Identifier: Apache-2.0
#include "common/ring.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/clock.h"
#include "common/doorbell.h"

enum { ENTRIES = 8, OPERATIONS = 100 };

/* Of the operations that every reading ring has, the one that is over at once: its bell was rung. */
static struct doorbell *rung;

static void submit_one(struct io_uring *ring, uint64_t user_data)
{
    struct io_uring_sqe *sqe = ring_sqe(ring);
    assert_non_null(sqe);
    io_uring_prep_poll_add(sqe, doorbell_fd(rung), POLLIN);
    sqe->user_data = user_data;
}

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
    assert_int_equal(ring_open(ENTRIES, 2 * OPERATIONS, RING_READS, &ring), STATUS_OK);
    for (uint64_t i = 1; i <= OPERATIONS; i++) {
        submit_one(&ring, i);
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
    assert_int_equal(ring_open(ENTRIES, ENTRIES, RING_READS, &ring), STATUS_OK);
    uint64_t start_ns = clock_monotonic_ns();
    ring_wait(&ring, start_ns, start_ns + 20 * CLOCK_MILLISECOND_NS);
    assert_true(clock_monotonic_ns() >= start_ns + 19 * CLOCK_MILLISECOND_NS);
    assert_int_equal(reap(&ring, &sum), 0);
    ring_wait(&ring, start_ns, 0); /* long past: submits and returns */
    submit_one(&ring, 1);
    ring_wait(&ring, 0, UINT64_MAX);
    assert_int_equal(reap(&ring, &sum), 1);
    ring_close(&ring);
}

static void a_passed_deadline_still_submits_and_collects(void **state)
{
    (void)state;
    struct io_uring ring;
    uint64_t sum = 0;
    assert_int_equal(ring_open(ENTRIES, ENTRIES, RING_READS, &ring), STATUS_OK);
    submit_one(&ring, 7);
    ring_wait(&ring, 1, 0);
    assert_int_equal(reap(&ring, &sum), 1);
    assert_int_equal(sum, 7);
    ring_close(&ring);
}

/* What the kernel says to an operation without a file or anything else. */
static int try_operation(struct io_uring *ring, unsigned operation, unsigned flags)
{
    struct io_uring_cqe *cqe = NULL;
    struct io_uring_sqe *sqe = ring_sqe(ring);
    memset(sqe, 0, sizeof *sqe);
    sqe->opcode = (uint8_t)operation;
    sqe->flags = (uint8_t)flags;
    sqe->fd = -1;
    assert_int_equal(io_uring_submit_and_wait(ring, 1), 1);
    assert_int_equal(io_uring_peek_cqe(ring, &cqe), 0);
    int result = cqe->res;
    io_uring_cqe_seen(ring, cqe);
    return result;
}

static void a_ring_carries_out_the_operations_of_its_role_and_no_others(void **state)
{
    static const uint8_t expected[RING_ROLE_COUNT][4] = {
        [RING_RECEIVES] = {IORING_OP_RECVMSG, IORING_OP_POLL_ADD, IORING_OP_ASYNC_CANCEL},
        [RING_SENDS] = {IORING_OP_SENDMSG, IORING_OP_POLL_ADD, IORING_OP_ASYNC_CANCEL},
        [RING_READS] = {IORING_OP_READ, IORING_OP_READ_FIXED, IORING_OP_POLL_ADD},
        [RING_WRITES] = {IORING_OP_WRITEV, IORING_OP_SYNC_FILE_RANGE, IORING_OP_POLL_ADD},
        [RING_FLUSHES] = {IORING_OP_FSYNC},
    };
    (void)state;
    for (unsigned role = 0; role < RING_ROLE_COUNT; role++) {
        struct io_uring ring;
        assert_int_equal(ring_open(ENTRIES, ENTRIES, (enum ring_role)role, &ring), STATUS_OK);
        for (unsigned operation = 0; operation < IORING_OP_LAST; operation++) {
            /* IORING_OP_NOP is 0 and in no role */
            bool is_in_role = operation != 0 && memchr(expected[role], (int)operation, sizeof expected[role]) != NULL;
            int result = try_operation(&ring, operation, 0);
            assert_true(result < 0);
            assert_int_equal(result != -EACCES, is_in_role);
        }
        ring_close(&ring);
    }
}

static void flags_of_a_submission_are_restricted_too(void **state)
{
    (void)state;
    struct io_uring ring;
    assert_int_equal(ring_open(ENTRIES, ENTRIES, RING_WRITES, &ring), STATUS_OK);
    assert_int_equal(try_operation(&ring, IORING_OP_WRITEV, 0), -EBADF);
    assert_int_equal(try_operation(&ring, IORING_OP_WRITEV, IOSQE_FIXED_FILE), -EACCES);
    assert_int_equal(try_operation(&ring, IORING_OP_WRITEV, IOSQE_IO_DRAIN), -EACCES);
    ring_close(&ring);
}

static void nothing_can_be_registered_with_a_sealed_ring(void **state)
{
    (void)state;
    struct io_uring ring;
    int fd = 0;
    assert_int_equal(ring_prepare(ENTRIES, ENTRIES, &ring), STATUS_OK);
    assert_int_equal(io_uring_register_files(&ring, &fd, 1), 0);
    assert_int_equal(io_uring_unregister_files(&ring), 0);
    assert_int_equal(ring_seal(&ring, RING_WRITES), STATUS_OK);
    assert_int_equal(io_uring_register_files(&ring, &fd, 1), -EACCES);
    struct io_uring_restriction more = {.opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_SENDMSG};
    assert_true(syscall(SYS_io_uring_register, ring.ring_fd, IORING_REGISTER_RESTRICTIONS, &more, 1) < 0);
    assert_int_equal(try_operation(&ring, IORING_OP_SENDMSG, 0), -EACCES);
    ring_close(&ring);
}

static void *submit_from_elsewhere(void *ring)
{
    submit_one(ring, 1);
    return (void *)(intptr_t)io_uring_submit(ring);
}

static void only_the_thread_that_sealed_a_ring_can_use_it(void **state)
{
    (void)state;
    struct io_uring ring;
    pthread_t thread;
    void *result = NULL;
    assert_int_equal(ring_open(ENTRIES, ENTRIES, RING_READS, &ring), STATUS_OK);
    assert_int_equal(pthread_create(&thread, NULL, submit_from_elsewhere, &ring), 0);
    assert_int_equal(pthread_join(thread, &result), 0);
    assert_int_equal((intptr_t)result, -EEXIST);
    ring_close(&ring);
}

int main(void)
{
    rung = doorbell_create();
    doorbell_arm(rung);
    doorbell_ring(rung);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_full_submission_queue_is_submitted_and_goes_on),
        cmocka_unit_test(waiting_ends_at_the_deadline_and_not_before),
        cmocka_unit_test(a_passed_deadline_still_submits_and_collects),
        cmocka_unit_test(a_ring_carries_out_the_operations_of_its_role_and_no_others),
        cmocka_unit_test(flags_of_a_submission_are_restricted_too),
        cmocka_unit_test(nothing_can_be_registered_with_a_sealed_ring),
        cmocka_unit_test(only_the_thread_that_sealed_a_ring_can_use_it),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    doorbell_destroy(rung);
    return failed;
}
