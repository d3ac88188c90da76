// SPDX-License-Identifier: Apache-2.0
#include "common/queue.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void items_come_out_in_the_order_they_went_in(void **state)
{
    (void)state;
    int items[3];
    struct queue *queue = queue_create(4);
    assert_non_null(queue);
    assert_null(queue_pop(queue));
    assert_null(queue_peek(queue));
    for (int i = 0; i < 3; i++)
        assert_true(queue_push(queue, &items[i]));
    assert_int_equal(queue_count(queue), 3);
    assert_ptr_equal(queue_peek(queue), &items[0]);
    assert_int_equal(queue_count(queue), 3);
    for (int i = 0; i < 3; i++)
        assert_ptr_equal(queue_pop(queue), &items[i]);
    assert_null(queue_pop(queue));
    assert_int_equal(queue_count(queue), 0);
    queue_destroy(queue);
}

static void a_full_queue_refuses_and_goes_on_after_a_pop(void **state)
{
    (void)state;
    int item;
    struct queue *queue = queue_create(3); /* rounded up to 4 */
    for (int i = 0; i < 4; i++)
        assert_true(queue_push(queue, &item));
    assert_false(queue_push(queue, &item));
    assert_int_equal(queue_count(queue), 4);
    assert_ptr_equal(queue_pop(queue), &item);
    assert_true(queue_push(queue, &item));
    assert_false(queue_push(queue, &item));
    queue_destroy(queue);
}

static void positions_wrap_round_the_slots(void **state)
{
    (void)state;
    char items[8];
    struct queue *queue = queue_create(8);
    size_t pushed = 0;
    size_t popped = 0;
    for (int round = 0; round < 1000; round++) {
        for (int i = 0; i < round % 9; i++)
            pushed += queue_push(queue, &items[pushed % 8]) ? 1 : 0;
        for (int i = 0; i < round % 7; i++) {
            char *item = queue_pop(queue);
            if (item == NULL)
                break;
            assert_ptr_equal(item, &items[popped++ % 8]);
        }
        assert_int_equal(queue_count(queue), pushed - popped);
    }
    assert_true(popped > 1000);
    queue_destroy(queue);
}

static void a_queue_of_one_works(void **state)
{
    (void)state;
    int item;
    struct queue *queue = queue_create(1);
    assert_true(queue_push(queue, &item));
    assert_false(queue_push(queue, &item));
    assert_ptr_equal(queue_pop(queue), &item);
    assert_null(queue_pop(queue));
    queue_destroy(queue);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(items_come_out_in_the_order_they_went_in),
        cmocka_unit_test(a_full_queue_refuses_and_goes_on_after_a_pop),
        cmocka_unit_test(positions_wrap_round_the_slots),
        cmocka_unit_test(a_queue_of_one_works),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
