// SPDX-License-Identifier: Apache-2.0
#include "common/descriptors.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

/* Two ends of a pipe, of which a thread keeps the one that it writes to. */
static int ends[2], other;
static pthread_barrier_t separated, closed;
static bool kept_is_there, other_is_there, written;

static bool is_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
}

static void *keep_one(void *context)
{
    (void)context;
    const int kept[] = {ends[1], -1};
    enum status status = descriptors_separate(kept, sizeof kept / sizeof *kept);
    kept_is_there = status == STATUS_OK && is_open(ends[1]) && is_open(STDERR_FILENO);
    other_is_there = is_open(other) || is_open(ends[0]);
    pthread_barrier_wait(&separated);
    pthread_barrier_wait(&closed);
    written = write(ends[1], "x", 1) == 1;
    descriptors_close(ends[1]);
    return NULL;
}

static void a_thread_keeps_what_it_named_and_nothing_else(void **state)
{
    (void)state;
    pthread_t thread;
    char byte = 0;
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    other = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(other >= 0);
    pthread_barrier_init(&separated, NULL, 2);
    pthread_barrier_init(&closed, NULL, 2);
    assert_int_equal(pthread_create(&thread, NULL, keep_one, NULL), 0);
    pthread_barrier_wait(&separated);
    assert_true(kept_is_there);
    assert_false(other_is_there);
    assert_true(is_open(other)); /* here it is */
    descriptors_close(ends[1]);
    assert_false(is_open(ends[1]));
    pthread_barrier_wait(&closed);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_true(written);
    assert_int_equal(read(ends[0], &byte, 1), 1);
    assert_int_equal(byte, 'x');
    assert_int_equal(read(ends[0], &byte, 1), 0); /* both writers are gone */
    close(ends[0]);
    close(other);
    pthread_barrier_destroy(&separated);
    pthread_barrier_destroy(&closed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_thread_keeps_what_it_named_and_nothing_else),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
