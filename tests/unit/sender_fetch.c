// SPDX-License-Identifier: Apache-2.0
#include "sender/fetch.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/clock.h"

/* Reads of a real file: what has landed is told in order and once, and stays there until it is released. */

enum { PIECE = 64 << 10, PIECES = 256, SIZE = PIECES * PIECE };

/* 256 blocks of 64 KiB, of which two groups are one lane's. */
static const struct config config = {
    .source_symbols = 60, .repair_symbols = 4, .symbol_size = 1024, .depth = PIECES / 2, .lanes = 1};
static struct doorbell *bell;
static struct lane *lane;
static struct fetch *fetch;
static uint8_t content[SIZE], *memory;
static int file;

static int setup(void **state)
{
    (void)state;
    char path[] = "/tmp/diodecast-fetch-XXXXXX";
    for (size_t i = 0; i < SIZE; i++)
        content[i] = (uint8_t)(i * 31 + i / PIECE);
    file = mkstemp(path);
    bell = doorbell_create();
    if (file < 0 || unlink(path) != 0 || write(file, content, SIZE) != SIZE || bell == NULL ||
        lane_create(&config, 0, bell, &lane) != STATUS_OK)
        return -1;
    memory = slab_memory(lane->slab);
    memset(memory, 0, SIZE);
    return fetch_create(bell, &lane, 1, &fetch) == STATUS_OK ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    fetch_destroy(fetch);
    lane_destroy(lane);
    doorbell_destroy(bell);
    close(file);
    return 0;
}

static void start(unsigned index, bool last)
{
    struct fetch_piece piece = {.block = &lane->blocks[index],
                                .place = memory + (size_t)index * PIECE,
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
    next = start_all(next, true, false);
    assert_int_equal((next - landed) * PIECE, 8 << 20); /* not everything at once */
    for (; landed < next; landed++)
        (void)land();
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

static void a_long_read_becomes_pieces_of_which_the_last_ends_its_file(void **state)
{
    (void)state;
    enum { LONG = 2 * FETCH_PIECE_MAX + 1000, OFFSET = 12345 };
    const struct fetch_piece whole = {
        .block = &lane->blocks[0], .place = memory + 64, .offset = OFFSET, .size = LONG, .fd = file, .last = true};
    assert_int_equal(fetch_start_parts(fetch, &whole), 3);
    assert_false(land()->last);
    assert_false(land()->last);
    const struct fetch_piece *piece = land();
    assert_true(piece->last);
    assert_int_equal(piece->size, 1000);
    assert_memory_equal(memory + 64, content + OFFSET, LONG);
}

/* A read into registered memory can't land anywhere else. */
static void the_memory_of_blocks_is_registered(void **state)
{
    (void)state;
    static uint8_t place[PIECE];
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_MEMLOCK, &limit), 0);
    if (geteuid() != 0 && limit.rlim_cur < slab_bytes(lane->slab))
        skip(); /* the limit of locked memory of who runs it */
    struct fetch_piece piece = {.block = &lane->blocks[0], .place = place, .size = PIECE, .fd = file};
    fetch_start(fetch, &piece);
    assert_int_equal(land()->error, EFAULT);
    piece.block = NULL;
    fetch_start(fetch, &piece);
    assert_int_equal(land()->error, 0);
}

/* Memory that is not there can't be registered; what is read lands elsewhere here. */
static void reads_go_on_where_memory_can_not_be_registered(void **state)
{
    (void)state;
    static uint8_t place[PIECE];
    fetch_destroy(fetch);
    assert_int_equal(mprotect(memory, PIECE, PROT_NONE), 0);
    assert_int_equal(fetch_create(bell, &lane, 1, &fetch), STATUS_OK);
    assert_int_equal(mprotect(memory, PIECE, PROT_READ | PROT_WRITE), 0);
    struct fetch_piece piece = {.block = &lane->blocks[0], .place = place, .size = PIECE, .fd = file};
    fetch_start(fetch, &piece);
    assert_int_equal(land()->error, 0);
    assert_memory_equal(place, content, PIECE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(pieces_land_and_are_taken_in_the_order_of_their_start, setup, teardown),
        cmocka_unit_test_setup_teardown(reads_run_ahead_of_what_is_taken_only_where_they_may, setup, teardown),
        cmocka_unit_test_setup_teardown(few_files_wait_to_be_closed_however_small_they_are, setup, teardown),
        cmocka_unit_test_setup_teardown(a_long_read_becomes_pieces_of_which_the_last_ends_its_file, setup, teardown),
        cmocka_unit_test_setup_teardown(the_memory_of_blocks_is_registered, setup, teardown),
        cmocka_unit_test_setup_teardown(reads_go_on_where_memory_can_not_be_registered, setup, teardown),
        cmocka_unit_test_setup_teardown(a_file_that_became_shorter_is_an_error_of_its_pieces, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
