// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/receiver_fixture.h"

#include "receiver/assembly.h"

#define SECOND UINT64_C(1000000000)

struct written {
    unsigned count;
    uint64_t offset[16];
    uint32_t size[16];
    unsigned resets;
};

static void note_write(void *context, struct assembly *assembly, uint32_t index, struct assembly_artifact *artifact,
                       uint64_t offset, const uint8_t *bytes, uint32_t size)
{
    struct written *written = context;
    (void)assembly;
    (void)index;
    assert_non_null(artifact);
    for (uint32_t i = 0; i < size; i++)
        assert_int_equal(bytes[i], (uint8_t)(offset + i));
    assert_true(written->count < 16);
    written->offset[written->count] = offset;
    written->size[written->count++] = size;
}

static void note_reset(void *context, struct assembly *assembly, uint32_t index, struct assembly_artifact *artifact)
{
    (void)assembly;
    (void)index;
    (void)artifact;
    ((struct written *)context)->resets++;
}

static struct assembly_budget budget;
static struct written written;
static uint8_t pattern[65536];

static struct assembly *fresh(void)
{
    uint8_t id[TRANSFER_ID_SIZE];
    fixture_id(1, id);
    budget = (struct assembly_budget){.memory_limit = 1 << 20, .held_limit = 1 << 20};
    written = (struct written){0};
    for (size_t i = 0; i < sizeof pattern; i++)
        pattern[i] = (uint8_t)i;
    return assembly_create(id, 7, &budget, SECOND);
}

static enum assembly_outcome push(struct assembly *assembly, uint32_t artifact, uint64_t total, uint64_t offset,
                                  uint32_t size)
{
    struct frame_data data = {.transfer_id = assembly->id,
                              .artifact = artifact,
                              .artifact_size = total,
                              .offset = offset,
                              .bytes = pattern + offset,
                              .size = size};
    return assembly_data(assembly, &data, 2 * SECOND, note_write, &written);
}

static void only_holes_are_written(void **state)
{
    (void)state;
    struct assembly *assembly = fresh();
    assert_int_equal(push(assembly, 0, 1000, 100, 100), ASSEMBLY_NEW);
    assert_int_equal(push(assembly, 0, 1000, 300, 100), ASSEMBLY_NEW);
    assert_int_equal(push(assembly, 0, 1000, 100, 100), ASSEMBLY_DUPLICATE);
    assert_int_equal(push(assembly, 0, 1000, 50, 450), ASSEMBLY_NEW);
    assert_int_equal(written.count, 5);
    assert_int_equal(written.offset[2], 50);
    assert_int_equal(written.size[2], 50);
    assert_int_equal(written.offset[3], 200);
    assert_int_equal(written.size[3], 100);
    assert_int_equal(written.offset[4], 400);
    assert_int_equal(written.size[4], 100);
    assert_int_equal(assembly->held_bytes, 450);
    assert_int_equal(budget.held, 450);
    assert_int_equal(assembly_artifact(assembly, 0)->held.count, 1);
    assembly_destroy(assembly);
    assert_int_equal(budget.held, 0);
    assert_int_equal(budget.memory, 0);
}

static void contradicting_sizes_are_refused(void **state)
{
    (void)state;
    struct assembly *assembly = fresh();
    assert_int_equal(push(assembly, 3, 1000, 0, 100), ASSEMBLY_NEW);
    assert_int_equal(push(assembly, 3, 1001, 100, 100), ASSEMBLY_CONFLICT);
    assert_null(assembly_artifact(assembly, 2));
    assert_int_equal(assembly_artifact(assembly, 3)->size, 1000);
    assembly_destroy(assembly);
}

static void a_hostile_scatter_stays_within_the_budget(void **state)
{
    (void)state;
    struct assembly *assembly = fresh();
    budget.memory_limit = 64 << 10;
    for (uint32_t i = 0; i < 5000; i++) {
        written.count = 0;
        (void)push(assembly, (i * 7919) % 3000, 65536, i % 30000 * 2, 1);
    }
    assert_true(budget.memory <= (64 << 10) + 4096);
    for (uint32_t i = 0; i < LIMIT_ARTIFACTS; i += ASSEMBLY_PAGE)
        assert_int_equal(push(assembly, i, 1, 0, 1) == ASSEMBLY_LIMIT || i < 3000, 1);
    assembly_destroy(assembly);
    assert_int_equal(budget.memory, 0);
}

static void ranges_of_one_artifact_are_bounded(void **state)
{
    (void)state;
    struct assembly *assembly = fresh();
    unsigned refused = 0;
    for (uint32_t i = 0; i < ASSEMBLY_EXTENTS + 100; i++) {
        written.count = 0;
        refused += push(assembly, 0, 65536, 2 * i, 1) == ASSEMBLY_LIMIT;
    }
    assert_int_equal(refused, 100);
    written.count = 0;
    assert_int_equal(push(assembly, 0, 65536, 1, 1), ASSEMBLY_NEW); /* what joins two ranges always fits */
    assembly_destroy(assembly);
}

static void data_beyond_the_budget_counts_as_missing(void **state)
{
    (void)state;
    struct assembly *assembly = fresh();
    budget.held_limit = 150;
    assert_int_equal(push(assembly, 0, 1000, 0, 100), ASSEMBLY_NEW);
    assert_int_equal(push(assembly, 0, 1000, 100, 100), ASSEMBLY_LIMIT);
    assert_int_equal(assembly->held_bytes, 100);
    assembly->admitted = false;
    assert_int_equal(push(assembly, 0, 1000, 100, 10), ASSEMBLY_LIMIT);
    assembly_destroy(assembly);
}

static void push_part(struct assembly *assembly, const uint8_t *bytes, uint32_t total, uint32_t offset, uint32_t size,
                      uint64_t epoch, uint64_t watermark, enum assembly_outcome expected)
{
    struct frame_manifest part = {.transfer_id = assembly->id,
                                  .total = total,
                                  .offset = offset,
                                  .lanes = 1,
                                  .watermark = {watermark},
                                  .bytes = bytes + offset,
                                  .size = size};
    assert_int_equal(assembly_part(assembly, &part, epoch, 3 * SECOND), expected);
}

static void parts_of_several_copies_merge(void **state)
{
    (void)state;
    struct assembly *assembly = fresh();
    push_part(assembly, pattern, 1000, 600, 400, 1, 5, ASSEMBLY_NEW);
    push_part(assembly, pattern, 1000, 700, 100, 1, 5, ASSEMBLY_DUPLICATE);
    assert_false(assembly_parts_complete(assembly));
    push_part(assembly, pattern, 1000, 0, 700, 1, 5, ASSEMBLY_NEW);
    assert_true(assembly_parts_complete(assembly));
    assert_memory_equal(assembly->parts, pattern, 1000);
    push_part(assembly, pattern, 900, 0, 100, 1, 5, ASSEMBLY_NEW); /* another total starts again */
    assert_false(assembly_parts_complete(assembly));
    push_part(assembly, pattern, LIMIT_MANIFEST_SIZE, 0, 100, 1, 5, ASSEMBLY_LIMIT); /* above the budget */
    assembly_destroy(assembly);
    assert_int_equal(budget.memory, 0);
}

static struct signature_key *key;

static void bind(struct assembly *assembly, const struct fixture_file *files, size_t count)
{
    size_t size;
    uint8_t *bytes = fixture_manifest(key, assembly->id, 1, "tree", files, count, &size);
    struct signed_message message;
    struct manifest_reader *reader;
    char reason[256];
    assert_int_equal(signed_decode(bytes, size, LIMIT_MANIFEST_SIZE, &message), STATUS_OK);
    enum status status = manifest_reader_create(message.body, message.body_size, &reader, reason);
    if (status != STATUS_OK)
        fail_msg("%s", reason);
    assert_true(assembly_bind(assembly, &message, reader, 4 * SECOND, note_reset, &written));
    free(bytes);
}

static void the_manifest_has_the_last_word_on_sizes(void **state)
{
    (void)state;
    struct assembly *assembly = fresh();
    struct fixture_file files[] = {{.path = "tree"},
                                   {.path = "tree/a", .bytes = pattern, .size = 500},
                                   {.path = "tree/b", .bytes = pattern, .size = 0},
                                   {.path = "tree/c", .bytes = pattern, .size = 300}};
    push(assembly, 0, 500, 0, 500);
    push(assembly, 2, 301, 0, 301); /* wrong size */
    push(assembly, 9, 50, 0, 50);   /* no such artifact */
    bind(assembly, files, 4);
    assert_int_equal(written.resets, 2);
    assert_int_equal(assembly->artifact_count, 3);
    assert_int_equal(assembly_missing_bytes(assembly), 300);
    assert_false(assembly_is_complete(assembly));
    assert_int_equal(push(assembly, 9, 50, 0, 50), ASSEMBLY_CONFLICT);
    assert_int_equal(push(assembly, 2, 301, 0, 301), ASSEMBLY_CONFLICT);
    assert_int_equal(push(assembly, 2, 300, 0, 300), ASSEMBLY_NEW);
    assert_true(assembly_is_complete(assembly));
    assert_string_equal(assembly->channel, "tools");
    assembly_lose(assembly, 0, 100, 200);
    assert_int_equal(assembly_missing_bytes(assembly), 100);
    assert_int_equal(push(assembly, 0, 500, 0, 500), ASSEMBLY_NEW);
    assert_int_equal(written.size[written.count - 1], 100);
    assert_true(assembly_is_complete(assembly));
    assembly_destroy(assembly);
    assert_int_equal(budget.memory, 0);
    assert_int_equal(budget.held, 0);
}

static void incomplete_only_after_watermark_and_grace(void **state)
{
    (void)state;
    struct assembly *assembly = fresh();
    struct fixture_file files[] = {{.path = "tree"}, {.path = "tree/a", .bytes = pattern, .size = 500}};
    struct assembly_lanes lanes = {.count = 1, .lane[0] = {true, 9, 4}};
    push_part(assembly, pattern, 1000, 0, 10, 9, 5, ASSEMBLY_NEW);
    bind(assembly, files, 2);
    assert_false(assembly_is_incomplete(assembly, &lanes, 50 * SECOND));
    lanes.lane[0].passed_sbn = 5;
    assert_false(assembly_is_incomplete(assembly, &lanes, 60 * SECOND));
    assert_false(assembly_is_incomplete(assembly, &lanes, 63 * SECOND - 1));
    assert_true(assembly_is_incomplete(assembly, &lanes, 63 * SECOND));
    lanes.lane[0].epoch = 10; /* an epoch that no heartbeat confirmed proves nothing */
    assert_false(assembly_is_incomplete(assembly, &lanes, 64 * SECOND));
    lanes.confirmed_epoch = 10;
    memcpy(lanes.chain_id, assembly->chain_id, CHAIN_ID_SIZE);
    lanes.settled_sequence = assembly->sequence - 1; /* the new epoch is about to send it again */
    assert_false(assembly_is_incomplete(assembly, &lanes, 65 * SECOND));
    assert_false(assembly_is_incomplete(assembly, &lanes, 165 * SECOND));
    lanes.settled_sequence++;
    assert_false(assembly_is_incomplete(assembly, &lanes, 165 * SECOND));
    assert_true(assembly_is_incomplete(assembly, &lanes, 168 * SECOND));
    push(assembly, 0, 500, 0, 500);
    assert_false(assembly_is_incomplete(assembly, &lanes, 170 * SECOND));
    assembly_destroy(assembly);
}

static void a_forged_watermark_does_not_hide_what_is_incomplete(void **state)
{
    (void)state;
    struct assembly *assembly = fresh();
    struct fixture_file files[] = {{.path = "tree"}, {.path = "tree/a", .bytes = pattern, .size = 500}};
    struct assembly_lanes lanes = {.count = 1, .lane[0] = {true, 9, 5}, .confirmed_epoch = 9};
    push_part(assembly, pattern, 1000, 0, 10, 9, 5, ASSEMBLY_NEW);
    bind(assembly, files, 2);
    push_part(assembly, pattern, 1000, 0, 10, UINT64_MAX, UINT64_MAX, ASSEMBLY_DUPLICATE);
    memcpy(lanes.chain_id, assembly->chain_id, CHAIN_ID_SIZE);
    lanes.settled_sequence = assembly->sequence - 1;
    assert_false(assembly_is_incomplete(assembly, &lanes, 50 * SECOND));
    assert_false(assembly_is_incomplete(assembly, &lanes, 60 * SECOND));
    lanes.settled_sequence++; /* the sender's signed word for it */
    assert_false(assembly_is_incomplete(assembly, &lanes, 70 * SECOND));
    assert_true(assembly_is_incomplete(assembly, &lanes, 73 * SECOND));
    assembly_destroy(assembly);
}

static void a_class_without_room_does_not_take_a_transfer_in(void **state)
{
    (void)state;
    struct assembly *assembly = fresh();
    struct assembly_budget other = {.memory_limit = 1 << 20, .held_limit = 10};
    push(assembly, 0, 500, 0, 500);
    assert_false(assembly_move_budget(assembly, &other));
    assert_int_equal(other.memory, 0);
    other.held_limit = 500;
    assert_true(assembly_move_budget(assembly, &other));
    assert_int_equal(budget.memory, 0);
    assert_int_equal(other.held, 500);
    assembly_destroy(assembly);
    assert_int_equal(other.memory, 0);
}

static int make_key(void **state)
{
    (void)state;
    if (signature_init() != STATUS_OK)
        return -1;
    key = fixture_key(1);
    return 0;
}

static int drop_key(void **state)
{
    (void)state;
    signature_key_destroy(key);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_holes_are_written),
        cmocka_unit_test(contradicting_sizes_are_refused),
        cmocka_unit_test(a_hostile_scatter_stays_within_the_budget),
        cmocka_unit_test(ranges_of_one_artifact_are_bounded),
        cmocka_unit_test(data_beyond_the_budget_counts_as_missing),
        cmocka_unit_test(parts_of_several_copies_merge),
        cmocka_unit_test(the_manifest_has_the_last_word_on_sizes),
        cmocka_unit_test(incomplete_only_after_watermark_and_grace),
        cmocka_unit_test(a_forged_watermark_does_not_hide_what_is_incomplete),
        cmocka_unit_test(a_class_without_room_does_not_take_a_transfer_in),
    };
    return cmocka_run_group_tests(tests, make_key, drop_key);
}
