// SPDX-License-Identifier: Apache-2.0
#include "sender/fetch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/clock.h"

/* Reads of a real file: what has landed is told in order and once, and stays there until it is released. */

enum { PIECE = 64 << 10, PIECES = 256, SIZE = PIECES * PIECE };

static struct doorbell *bell;
static struct fetch *fetch;
static uint8_t content[SIZE], memory[SIZE];
static int file;

static int setup(void **state)
{
    (void)state;
    char path[] = "/tmp/diodecast-fetch-XXXXXX";
    for (size_t i = 0; i < SIZE; i++)
        content[i] = (uint8_t)(i * 31 + i / PIECE);
    memset(memory, 0, sizeof memory);
    file = mkstemp(path);
    bell = doorbell_create();
    if (file < 0 || unlink(path) != 0 || write(file, content, SIZE) != SIZE || bell == NULL)
        return -1;
    return fetch_create(bell, &fetch) == STATUS_OK ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    fetch_destroy(fetch);
    doorbell_destroy(bell);
    close(file);
    return 0;
}

static void start(unsigned index, bool last)
{
    struct fetch_piece piece = {.place = memory + (size_t)index * PIECE,
                                .offset = (uint64_t)index * PIECE,
                                .size = PIECE,
                                .fd = file,
                                .last = last};
    fetch_start(fetch, &piece);
}

/* Starts pieces from `next` on while there is room; returns the next one. */
static unsigned start_all(unsigned next, bool ahead, bool last)
{
    while (next < PIECES && fetch_has_room(fetch, ahead))
        start(next++, last);
    fetch_submit(fetch);
    return next;
}

static const struct fetch_piece *land(void)
{
    const struct fetch_piece *piece;
    while ((piece = fetch_land(fetch)) == NULL)
        fetch_wait(fetch, clock_monotonic_ns(), UINT64_MAX);
    return piece;
}

static void pieces_land_and_are_taken_in_the_order_of_their_start(void **state)
{
    (void)state;
    unsigned count = start_all(0, false, false);
    assert_true(count > 1 && count < PIECES);
    assert_null(fetch_peek(fetch)); /* not before it was told */
    for (unsigned i = 0; i < count; i++) {
        const struct fetch_piece *piece = land();
        assert_int_equal(piece->offset, (uint64_t)i * PIECE);
        assert_int_equal(piece->error, 0);
        assert_memory_equal(piece->place, content + piece->offset, PIECE);
    }
    assert_null(fetch_land(fetch));
    for (unsigned i = 0; i < count; i++) {
        assert_int_equal(fetch_peek(fetch)->offset, (uint64_t)i * PIECE);
        fetch_release(fetch);
    }
    assert_null(fetch_peek(fetch));
    assert_true(fetch_is_empty(fetch));
}

static void reads_run_ahead_of_what_is_taken_only_where_they_may(void **state)
{
    (void)state;
    unsigned next = start_all(0, false, false);
    for (unsigned i = 0; i < next; i++)
        (void)land();
    assert_false(fetch_has_room(fetch, false));
    unsigned landed = next;
    while (next < PIECES) {
        unsigned before = next;
        next = start_all(next, true, false);
        assert_true(next > before);
        for (; landed < next; landed++)
            (void)land();
    }
    assert_false(fetch_has_room(fetch, false));
    assert_memory_equal(memory, content, SIZE);
    for (; fetch_peek(fetch) != NULL; landed--)
        fetch_release(fetch);
    assert_int_equal(landed, 0);
    assert_true(fetch_has_room(fetch, false));
}

static void few_files_wait_to_be_closed_however_small_they_are(void **state)
{
    (void)state;
    enum { DESCRIPTORS = 64 };
    unsigned count = 0;
    while (count < PIECES && fetch_has_room(fetch, true)) {
        start(count++, true);
        (void)land();
    }
    assert_int_equal(count, DESCRIPTORS);
    (void)fetch_peek(fetch);
    fetch_release(fetch);
    assert_true(fetch_has_room(fetch, true));
}

static void a_file_that_became_shorter_is_an_error_of_its_pieces(void **state)
{
    (void)state;
    assert_int_equal(ftruncate(file, PIECE + 1), 0);
    for (unsigned i = 0; i < 3; i++)
        start(i, false);
    fetch_submit(fetch);
    assert_int_equal(land()->error, 0);
    assert_int_equal(land()->error, FETCH_ENDED);
    assert_int_equal(land()->error, FETCH_ENDED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(pieces_land_and_are_taken_in_the_order_of_their_start, setup, teardown),
        cmocka_unit_test_setup_teardown(reads_run_ahead_of_what_is_taken_only_where_they_may, setup, teardown),
        cmocka_unit_test_setup_teardown(few_files_wait_to_be_closed_however_small_they_are, setup, teardown),
        cmocka_unit_test_setup_teardown(a_file_that_became_shorter_is_an_error_of_its_pieces, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
