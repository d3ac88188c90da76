// SPDX-License-Identifier: Apache-2.0
#include "common/slab.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { BUFFER_SIZE = 1001, COUNT = 100 };

static void buffers_are_aligned_and_do_not_overlap(void **state)
{
    (void)state;
    struct slab *slab = NULL;
    unsigned char *buffers[COUNT];
    assert_int_equal(slab_create(BUFFER_SIZE, COUNT, &slab), STATUS_OK);
    assert_true(slab_bytes(slab) >= (size_t)BUFFER_SIZE * COUNT);
    assert_int_equal(slab_available(slab), COUNT);
    for (int i = 0; i < COUNT; i++) {
        buffers[i] = slab_take(slab);
        assert_non_null(buffers[i]);
        assert_int_equal((uintptr_t)buffers[i] % 64, 0);
        memset(buffers[i], i, BUFFER_SIZE);
    }
    for (int i = 0; i < COUNT; i++)
        for (int j = 0; j < BUFFER_SIZE; j++)
            assert_int_equal(buffers[i][j], i);
    slab_destroy(slab);
}

static void an_empty_slab_gives_nothing_until_a_buffer_returns(void **state)
{
    (void)state;
    struct slab *slab = NULL;
    assert_int_equal(slab_create(64, 3, &slab), STATUS_OK);
    void *first = slab_take(slab);
    assert_non_null(slab_take(slab));
    assert_non_null(slab_take(slab));
    assert_null(slab_take(slab));
    assert_int_equal(slab_available(slab), 0);
    slab_return(slab, first);
    assert_int_equal(slab_available(slab), 1);
    assert_ptr_equal(slab_take(slab), first);
    slab_destroy(slab);
}

static void memory_that_cannot_be_had_is_a_status(void **state)
{
    (void)state;
    struct slab *slab = NULL;
    assert_int_equal(slab_create(SIZE_MAX / 2, 4, &slab), STATUS_SYSTEM);
    assert_null(slab);
    assert_int_equal(slab_create(SIZE_MAX / 4096, 4, &slab), STATUS_SYSTEM);
    assert_null(slab);
}

/* Runs `body` in a child, without a core file and without its message; true when it aborted. */
static bool aborts(void (*body)(void))
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        const struct rlimit none = {0, 0};
        setrlimit(RLIMIT_CORE, &none);
        signal(SIGABRT, SIG_DFL);
        close(STDERR_FILENO);
        body();
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

static void return_twice(void)
{
    struct slab *slab = NULL;
    if (slab_create(64, 3, &slab) != STATUS_OK)
        _exit(1);
    void *buffer = slab_take(slab);
    slab_return(slab, buffer);
    slab_return(slab, buffer);
}

static void return_a_stranger(void)
{
    struct slab *slab = NULL;
    if (slab_create(64, 3, &slab) != STATUS_OK)
        _exit(1);
    char *buffer = slab_take(slab);
    slab_return(slab, buffer + 1);
}

static void a_wrong_return_aborts(void **state)
{
    (void)state;
    assert_true(aborts(return_twice));
    assert_true(aborts(return_a_stranger));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(buffers_are_aligned_and_do_not_overlap),
        cmocka_unit_test(an_empty_slab_gives_nothing_until_a_buffer_returns),
        cmocka_unit_test(memory_that_cannot_be_had_is_a_status),
        cmocka_unit_test(a_wrong_return_aborts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
