// SPDX-License-Identifier: Apache-2.0
#include "receiver/arena.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void pieces_of_an_arena_never_overlap_and_walk_oldest_first(void **state)
{
    (void)state;
    enum { SIZE = 8192, PIECES = 64, ROUNDS = 100000 };
    uint8_t *memory = aligned_alloc(64, SIZE);
    struct arena arena;
    struct {
        uint8_t *at;
        size_t size;
        unsigned born;
    } pieces[PIECES] = {{NULL, 0, 0}};
    unsigned count = 0;
    srand(5);
    arena_init(&arena, memory, SIZE);
    for (unsigned round = 1; round <= ROUNDS; round++) {
        if (count < PIECES && rand() % 2 == 0) {
            size_t size = 8 + (size_t)rand() % 1500;
            uint8_t *at = arena_allocate(&arena, size);
            if (at != NULL) {
                assert_true(at >= memory && at + size <= memory + SIZE);
                for (unsigned i = 0; i < count; i++)
                    assert_true(at >= pieces[i].at + pieces[i].size || at + size <= pieces[i].at);
                memcpy(at, &round, sizeof round);
                pieces[count].at = at;
                pieces[count].size = size;
                pieces[count++].born = round;
            }
        } else if (count > 0) {
            unsigned pick = (unsigned)rand() % count;
            arena_free(&arena, pieces[pick].at);
            pieces[pick] = pieces[--count];
        }
        unsigned walked = 0, before = 0;
        for (const void *piece = arena_first(&arena); piece != NULL; piece = arena_next(&arena, piece)) {
            unsigned born;
            memcpy(&born, piece, sizeof born);
            assert_true(born > before);
            before = born;
            walked++;
        }
        assert_int_equal(walked, count);
        assert_int_equal(arena_is_empty(&arena), count == 0);
    }
    free(memory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_of_an_arena_never_overlap_and_walk_oldest_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
