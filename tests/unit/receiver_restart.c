// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/receiver_store_world.h"

#include <poll.h>
#include <sys/wait.h>

#include "common/statusfile.h"
#include "receiver/intake.h"
#include "receiver/ledger_partial.h"
#include "receiver/partial.h"

/*
 * A receiver dies in the middle of a transfer of a large, a middling and a small artifact, or is stopped; then somebody
 * tampers with what it left. Whatever the next one finds, what it can't use is missing, and only whole transfers are
 * delivered. The dying one is a child, so that nothing of it is tidied up.
 */

enum { MIDDLING = 3 << 20, LITTLE = 3000, HALF = 6 << 20, TOTAL = BIG + MIDDLING + LITTLE, LOOK_MS = 10 };

static uint8_t id[TRANSFER_ID_SIZE];
static const struct fixture_file files[] = {{.path = "t"},
                                            {.path = "t/big", .bytes = content, .size = BIG},
                                            {.path = "t/little", .bytes = content, .size = LITTLE},
                                            {.path = "t/middling", .bytes = content, .size = MIDDLING}};
enum { FILES = sizeof files / sizeof *files };

static void send_part(uint32_t index, uint64_t first, uint64_t end_at)
{
    static const uint64_t sizes[] = {BIG, LITTLE, MIDDLING};
    send_data(id, index, sizes[index], first, end_at);
    send_block();
}

static void send_first_part(void)
{
    send_part(0, 0, HALF);
    send_part(1, 0, LITTLE);
    send_part(2, 0, MIDDLING / 2);
    send_manifest(id, 1, "t", files, FILES);
}

static void send_rest(void)
{
    send_part(0, HALF, BIG);
    send_part(2, MIDDLING / 2, MIDDLING);
}

static void send_all(void)
{
    send_manifest(id, 1, "t", files, FILES);
    send_part(0, 0, BIG);
    send_part(1, 0, LITTLE);
    send_part(2, 0, MIDDLING);
}

static void count_entry(const struct partial_entry *entry, void *context)
{
    if (entry->kind == PARTIAL_HELD) {
        assert_true(entry->hashed);
        *(uint64_t *)context += entry->end - entry->first;
    }
}

static void count_entries(const uint8_t *entries, size_t size, void *context)
{
    assert_true(partial_decode(entries, size, count_entry, context));
}

static uint64_t recorded_bytes(void)
{
    struct ledger_key key_of = {.sender_id = sender_id};
    uint64_t bytes = 0;
    memcpy(key_of.transfer_id, id, TRANSFER_ID_SIZE);
    assert_int_equal(ledger_partial_each(ledger, &key_of, count_entries, &bytes), STATUS_OK);
    return bytes;
}

static void look_again(void)
{
    poll(NULL, 0, LOOK_MS);
    take_back();
}

/* The life of a receiver that ends at once after its first part was recorded. */
static void die_recorded(void)
{
    pid_t child = fork();
    if (child == 0) {
        bell = doorbell_create(); /* one of its own: the other's eventfd is shared over the fork */
        assert_int_equal(ledger_open(directory, &ledger), STATUS_OK);
        start();
        send_first_part();
        while (recorded_bytes() < HALF + LITTLE + MIDDLING / 2)
            look_again();
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static json_int_t held_bytes(void)
{
    json_t *root = json_object();
    store_to_json(store, root, 0);
    json_t *open = json_object_get(json_object_get(root, "transfers"), "open");
    json_int_t held = json_integer_value(json_object_get(json_array_get(open, 0), "bytes_received"));
    json_decref(root);
    return held;
}

static void staged_file(const char *name, char path[static 256])
{
    char staged[INTAKE_STAGING_NAME_SIZE];
    intake_staging_name(sender_id, id, staged);
    snprintf(path, 256, "%s/.staging/%s%s%s", intake_path, staged, name[0] == '\0' ? "" : "/", name);
}

static void flip_byte(const char *name, off_t offset)
{
    char path[256];
    uint8_t byte;
    staged_file(name, path);
    int fd = open(path, O_RDWR);
    assert_int_equal(pread(fd, &byte, 1, offset), 1);
    byte ^= 1;
    assert_int_equal(pwrite(fd, &byte, 1, offset), 1);
    close(fd);
}

static void restart(void)
{
    assert_int_equal(ledger_open(directory, &ledger), STATUS_OK);
    start();
}

static void assert_delivered_once(void)
{
    await_deliveries(1);
    stop();
    assert_int_equal(ledger_count(), 1);
    assert_int_equal(recorded_bytes(), 0);
    struct ledger_key *keys;
    size_t count;
    assert_int_equal(ledger_partial_keys(ledger, &keys, &count), STATUS_OK);
    assert_int_equal(count, 0);
}

static void what_was_recorded_survives_a_kill(void **state)
{
    (void)state;
    die_recorded();
    restart();
    assert_int_equal(held_bytes(), HALF + LITTLE + MIDDLING / 2);
    send_rest();
    assert_delivered_once();
}

static void a_stop_loses_nothing_not_even_parts_of_the_manifest(void **state)
{
    (void)state;
    size_t size;
    uint8_t *bytes = fixture_manifest(key, id, 1, "t", files, FILES, &size);
    restart();
    send_part(0, 0, HALF);
    for (int half = 0; half < 2; half++) {
        size_t from = half == 0 ? 0 : size / 2;
        size_t to = half == 0 ? size / 2 : size;
        struct frame_manifest part = {.transfer_id = id,
                                      .total = (uint32_t)size,
                                      .offset = (uint32_t)from,
                                      .lanes = 1,
                                      .size = (uint32_t)(to - from)};
        uint8_t *out = room(frame_manifest_overhead(1) + part.size);
        size_t header = frame_write_manifest(out, &part);
        memcpy(out + header, bytes + from, part.size);
        used += header + part.size;
        send_block();
        stop();
        start();
        assert_int_equal(held_bytes(), HALF);
    }
    free(bytes);
    send_rest();
    send_part(1, 0, LITTLE);
    send_part(2, 0, MIDDLING / 2);
    assert_delivered_once();
}

static void a_complete_one_that_was_not_delivered_is_after_the_restart(void **state)
{
    (void)state;
    char path[128];
    snprintf(path, sizeof path, "%s/tools", intake_path);
    int fd = open(path, O_WRONLY | O_CREAT, 0600); /* where the channel's directory belongs */
    close(fd);
    restart();
    send_all();
    while (status_number("transfers", "open_total") == 0 || held_bytes() != TOTAL)
        look_again();
    stop();
    assert_int_equal(unlink(path), 0);
    start();
    assert_delivered_once();
}

static void files_shorter_than_recorded_are_missing_from_there(void **state)
{
    (void)state;
    char path[256];
    die_recorded();
    staged_file("0", path);
    assert_int_equal(truncate(path, 1 << 20), 0);
    restart();
    assert_int_equal(held_bytes(), (1 << 20) + LITTLE + MIDDLING / 2);
    send_part(0, HALF, BIG); /* the file is as long as before again, with a hole in it */
    while (held_bytes() < (1 << 20) + LITTLE + MIDDLING / 2 + BIG - HALF)
        look_again();
    stop();
    start();
    assert_int_equal(held_bytes(), (1 << 20) + LITTLE + MIDDLING / 2 + BIG - HALF);
    send_all();
    assert_delivered_once();
}

static void rows_without_files_are_a_transfer_with_nothing(void **state)
{
    (void)state;
    char path[256];
    die_recorded();
    staged_file("", path);
    assert_int_equal(durable_remove_tree(AT_FDCWD, path), STATUS_OK);
    restart();
    assert_int_equal(status_number("transfers", "open_total"), 1);
    assert_int_equal(held_bytes(), 0);
    send_all();
    assert_delivered_once();
}

static void files_without_rows_are_cleared(void **state)
{
    (void)state;
    char path[256];
    static const char *const names[] = {"receiver.db", "receiver.db-wal", "receiver.db-shm"};
    die_recorded();
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, "%s/%s", directory, names[i]);
        (void)unlink(path);
    }
    restart();
    staged_file("", path);
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(status_number("transfers", "open_total"), 0);
    send_all();
    assert_delivered_once();
}

static void a_byte_that_changed_on_the_disk_costs_its_chunk_only(void **state)
{
    (void)state;
    die_recorded();
    flip_byte("0", 100);
    restart();
    send_rest();
    while (status_number("transfers", "damaged_total") == 0)
        look_again();
    while (held_bytes() != TOTAL - CHUNK_SIZE)
        look_again();
    send_part(0, 0, CHUNK_SIZE);
    assert_delivered_once();
}

static void without_chunk_hashes_it_costs_what_was_recorded_together(void **state)
{
    (void)state;
    die_recorded();
    flip_byte("2", 100);
    restart();
    send_rest();
    while (status_number("transfers", "damaged_total") == 0)
        look_again();
    while (held_bytes() == TOTAL)
        look_again();
    assert_in_range(held_bytes(), TOTAL - MIDDLING / 2, TOTAL - 1); /* not the half that came later */
    send_part(2, 0, MIDDLING / 2);
    assert_delivered_once();
}

static void a_record_that_is_garbage_costs_its_transfer_only(void **state)
{
    (void)state;
    die_recorded();
    assert_int_equal(ledger_open(directory, &ledger), STATUS_OK);
    struct ledger_partial partial = {.key = {.sender_id = sender_id}, .announced = true};
    memcpy(partial.key.transfer_id, id, TRANSFER_ID_SIZE);
    struct ledger_checkpoint garbage = {
        .partial = &partial, .entries = (const uint8_t *)"garbage that is no entry", .entries_size = 24};
    assert_int_equal(ledger_partial_record(ledger, &garbage, 1), STATUS_OK);
    start();
    while (status_number("transfers", "open_total") != 0)
        look_again();
    send_all();
    assert_delivered_once();
}

static void an_interrupted_rename_that_cannot_be_finished_waits(void **state)
{
    (void)state;
    char path[256];
    char name[INTAKE_STAGING_NAME_SIZE];
    struct ledger_delivery delivery = {.sender_id = sender_id, .sequence = 1, .channel = "tools", .name = "t"};
    memcpy(delivery.transfer_id, id, TRANSFER_ID_SIZE);
    snprintf(delivery.directory, sizeof delivery.directory, "where-it-goes");
    snprintf(path, sizeof path, "%s/tools", intake_path);
    close(open(path, O_WRONLY | O_CREAT, 0600));
    struct intake intake;
    assert_int_equal(intake_open(intake_path, &intake), STATUS_OK);
    intake_tree_name(sender_id, id, name);
    assert_int_equal(mkdirat(intake.staging_fd, name, 0700), 0);
    intake_staging_name(sender_id, id, name);
    assert_int_equal(mkdirat(intake.staging_fd, name, 0700), 0);
    intake_close(&intake);
    assert_int_equal(ledger_open(directory, &ledger), STATUS_OK);
    assert_int_equal(ledger_publishing(ledger, &delivery, 1), STATUS_OK);
    start();
    struct health *health = health_create();
    json_t *root = json_object();
    while (json_array_size(json_object_get(root, "reasons")) == 0) {
        store_health(store, health, 0);
        health_to_json(health, root);
        look_again();
    }
    const json_t *reason = json_array_get(json_object_get(root, "reasons"), 0);
    assert_string_equal(json_string_value(json_object_get(reason, "code")), "publish_failed");
    json_decref(root);
    health_destroy(health);
    send_all(); /* nothing of it is taken meanwhile */
    assert_int_equal(status_number("transfers", "open_total"), 0);
    assert_int_equal(unlink(path), 0);
    await_deliveries(1);
    stop();
    assert_int_equal(ledger_count(), 1);
    snprintf(path, sizeof path, "%s/tools/where-it-goes", intake_path);
    assert_int_equal(access(path, F_OK), 0);
}

static int begin_closed(void **state)
{
    if (begin(state) != 0)
        return -1;
    ledger_close(ledger);
    ledger = NULL;
    config.recheck_bytes_per_s = UINT64_C(1) << 30;
    fixture_id(1, id);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_was_recorded_survives_a_kill, begin_closed, end),
        cmocka_unit_test_setup_teardown(a_stop_loses_nothing_not_even_parts_of_the_manifest, begin_closed, end),
        cmocka_unit_test_setup_teardown(a_complete_one_that_was_not_delivered_is_after_the_restart, begin_closed, end),
        cmocka_unit_test_setup_teardown(files_shorter_than_recorded_are_missing_from_there, begin_closed, end),
        cmocka_unit_test_setup_teardown(rows_without_files_are_a_transfer_with_nothing, begin_closed, end),
        cmocka_unit_test_setup_teardown(files_without_rows_are_cleared, begin_closed, end),
        cmocka_unit_test_setup_teardown(a_byte_that_changed_on_the_disk_costs_its_chunk_only, begin_closed, end),
        cmocka_unit_test_setup_teardown(without_chunk_hashes_it_costs_what_was_recorded_together, begin_closed, end),
        cmocka_unit_test_setup_teardown(a_record_that_is_garbage_costs_its_transfer_only, begin_closed, end),
        cmocka_unit_test_setup_teardown(an_interrupted_rename_that_cannot_be_finished_waits, begin_closed, end),
    };
    return cmocka_run_group_tests(tests, make_key, drop_key);
}
