// SPDX-License-Identifier: Apache-2.0
#include "common/stream.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

enum { LINE = 64, SIZE_MAX_HERE = 3 * LINE + 1, ROOM = SIZE_MAX_HERE + 4 * LINE };

static void every_size_at_every_place_is_copied_and_nothing_beside_it(void **state)
{
    (void)state;
    _Alignas(LINE) uint8_t from[ROOM], to[ROOM], expected[ROOM];
    for (size_t i = 0; i < sizeof from; i++)
        from[i] = (uint8_t)(i * 7 + 1);
    for (size_t size = 0; size <= SIZE_MAX_HERE; size++)
        for (size_t place = 0; place < LINE; place++) {
            size_t source = (place * 5 + size) % LINE;
            memset(to, 0xee, sizeof to);
            memset(expected, 0xee, sizeof expected);
            memcpy(expected + LINE + place, from + source, size);
            stream_expect(to + LINE + place, size);
            stream_copy(to + LINE + place, from + source, size);
            stream_fence();
            assert_memory_equal(to, expected, sizeof to);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_size_at_every_place_is_copied_and_nothing_beside_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
