// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/receiver_store_world.h"

#include <signal.h>
#include <sys/resource.h>

#include "common/statusfile.h"

static void a_transfer_in_any_order_is_delivered(void **state)
{
    (void)state;
    uint8_t id[TRANSFER_ID_SIZE];
    struct fixture_file files[] = {{.path = "t"},
                                   {.path = "t/big", .bytes = content, .size = BIG},
                                   {.path = "t/empty", .bytes = content, .size = 0},
                                   {.path = "t/small", .bytes = content, .size = 3000}};
    fixture_id(1, id);
    start();
    send_manifest(id, 1, "t", files, 4);
    send_data(id, 2, 3000, 1000, 3000);
    send_data(id, 0, BIG, BIG / 2, BIG);
    send_data(id, 0, BIG, 0, BIG / 2 + 1000); /* overlaps */
    send_data(id, 2, 3000, 0, 2000);
    send_block();
    await_deliveries(1);
    send_data(id, 0, BIG, 0, BIG); /* all of it once more */
    send_manifest(id, 1, "t", files, 4);
    fixture_id(2, id);
    struct fixture_file one = {.path = "one", .bytes = content, .size = 10};
    send_data(id, 0, 10, 0, 10);
    send_manifest(id, 2, "one", &one, 1);
    await_deliveries(2);
    stop();
    assert_int_equal(ledger_count(), 2);
}

static void a_restart_delivers_nothing_twice_and_forgets_no_loss(void **state)
{
    (void)state;
    uint8_t id[TRANSFER_ID_SIZE];
    struct fixture_file one = {.path = "one", .bytes = content, .size = 10};
    start();
    send_heartbeat(1, 0, 0);
    for (uint8_t i = 1; i <= 3; i++) {
        fixture_id(i, id);
        if (i != 2)
            send_data(id, 0, 10, 0, 10);
        send_manifest(id, i, "one", &one, 1);
    }
    await_deliveries(2);
    send_heartbeat(2, 3, 3);
    stop();
    start();
    fixture_id(1, id);
    send_data(id, 0, 10, 0, 10);
    send_manifest(id, 1, "one", &one, 1);
    send_heartbeat(3, 3, 3);
    fixture_id(2, id);
    send_data(id, 0, 10, 0, 10);
    send_manifest(id, 2, "one", &one, 1);
    await_deliveries(3);
    stop();
    assert_int_equal(ledger_count(), 3);
}

static void a_forged_byte_costs_its_chunk_only(void **state)
{
    (void)state;
    uint8_t id[TRANSFER_ID_SIZE];
    struct fixture_file big = {.path = "big", .bytes = content, .size = BIG};
    fixture_id(1, id);
    start();
    content[CHUNK_SIZE + 7] ^= 1;
    send_data(id, 0, BIG, CHUNK_SIZE, CHUNK_SIZE + 1000);
    send_block();
    content[CHUNK_SIZE + 7] ^= 1;
    send_data(id, 0, BIG, 0, BIG); /* the first who came is kept */
    send_manifest(id, 1, "big", &big, 1);
    while (status_number("transfers", "damaged_total") == 0)
        take_back();
    send_data(id, 0, BIG, CHUNK_SIZE, BIG); /* one chunk is enough */
    send_block();
    await_deliveries(1);
    stop();
}

static void a_disk_that_refuses_stops_only_its_transfer(void **state)
{
    (void)state;
    uint8_t id[TRANSFER_ID_SIZE];
    struct fixture_file big = {.path = "big", .bytes = content, .size = BIG};
    struct fixture_file one = {.path = "one", .bytes = content, .size = 10};
    struct rlimit before;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    struct rlimit limit = {.rlim_cur = 3 << 20, .rlim_max = before.rlim_max};
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    start();
    fixture_id(1, id);
    send_data(id, 0, BIG, 0, BIG);
    send_manifest(id, 1, "big", &big, 1);
    fixture_id(2, id);
    send_data(id, 0, 10, 0, 10);
    send_manifest(id, 2, "one", &one, 1);
    await_deliveries(1);
    struct health *health = health_create();
    json_t *root = json_object();
    store_health(store, health, 0);
    health_to_json(health, root);
    assert_string_equal(json_string_value(json_object_get(root, "health")), "failed");
    json_decref(root);
    health_destroy(health);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    fixture_id(1, id);
    send_data(id, 0, BIG, 0, BIG);
    send_manifest(id, 1, "big", &big, 1);
    await_deliveries(2);
    stop();
}

static void thousands_of_small_files_need_few_descriptors(void **state)
{
    (void)state;
    enum { COUNT = 3000 };
    static struct fixture_file files[COUNT + 1];
    static char paths[COUNT][16];
    uint8_t id[TRANSFER_ID_SIZE];
    fixture_id(1, id);
    files[0] = (struct fixture_file){.path = "t"};
    start();
    for (uint32_t i = 0; i < COUNT; i++) {
        snprintf(paths[i], sizeof paths[i], "t/%05u", i);
        files[i + 1] = (struct fixture_file){.path = paths[i], .bytes = content, .size = i % 50 == 0 ? 70000 : i};
        send_data(id, i, files[i + 1].size, 0, files[i + 1].size);
    }
    send_block();
    size_t size;
    uint8_t *bytes = fixture_manifest(key, id, 1, "t", files, COUNT + 1, &size);
    for (size_t at = 0; at < size; at += 50000) {
        struct frame_manifest part = {.transfer_id = id,
                                      .total = (uint32_t)size,
                                      .offset = (uint32_t)at,
                                      .lanes = 1,
                                      .size = (uint32_t)(size - at < 50000 ? size - at : 50000)};
        uint8_t *out = room(frame_manifest_overhead(1) + part.size);
        size_t header = frame_write_manifest(out, &part);
        memcpy(out + header, bytes + at, part.size);
        used += header + part.size;
        send_block();
    }
    free(bytes);
    await_deliveries(1);
    stop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_transfer_in_any_order_is_delivered, begin, end),
        cmocka_unit_test_setup_teardown(a_restart_delivers_nothing_twice_and_forgets_no_loss, begin, end),
        cmocka_unit_test_setup_teardown(a_forged_byte_costs_its_chunk_only, begin, end),
        cmocka_unit_test_setup_teardown(a_disk_that_refuses_stops_only_its_transfer, begin, end),
        cmocka_unit_test_setup_teardown(thousands_of_small_files_need_few_descriptors, begin, end),
    };
    return cmocka_run_group_tests(tests, make_key, drop_key);
}
