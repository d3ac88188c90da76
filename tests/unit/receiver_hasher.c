// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/receiver_fixture.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/digest.h"
#include "common/durable.h"
#include "receiver/hasher.h"

/* The hasher with the writer that it reads behind: what came in whatever order is hashed when the transfer is idle. */

enum { PIECE = 64 << 10, PIECES = 80, SIZE = PIECES * PIECE - 1000, RING = 64 };

static char directory[64];
static struct intake intake;
static struct io_uring ring;
static struct doorbell *bell;
static struct writer *writer;
static struct hasher *hasher;
static struct assembly_budget budget = {.memory_limit = SIZE_MAX, .held_limit = UINT64_MAX};
static struct assembly *assembly;
static struct assembly_artifact *artifact;
static struct writer_block blocks[PIECES];
static unsigned released;
static uint8_t content[SIZE], expected[SHA256_SIZE];

static void release(void *context, struct writer_block *block)
{
    (void)context, (void)block;
    released++;
}

static void complete_all(void)
{
    struct io_uring_cqe *cqe;
    while (io_uring_peek_cqe(&ring, &cqe) == 0) {
        struct io_uring_cqe copy = *cqe;
        io_uring_cqe_seen(&ring, cqe);
        writer_complete(writer, &copy);
    }
}

static void wait_for_writes(void *context)
{
    (void)context;
    assert_true(io_uring_submit_and_wait(&ring, 1) >= 0);
    complete_all();
}

static void on_write(void *context, struct assembly *of, uint32_t index, struct assembly_artifact *to, uint64_t offset,
                     const uint8_t *bytes, uint32_t size)
{
    artifact = to;
    writer_put(writer, of, index, to, offset, bytes, size, context);
    hasher_take(hasher, of, to, index, offset, bytes, size, context);
}

static void take(unsigned piece)
{
    uint64_t first = (uint64_t)piece * PIECE;
    struct frame_data data = {.transfer_id = assembly->id,
                              .artifact_size = SIZE,
                              .offset = first,
                              .bytes = content + first,
                              .size = (uint32_t)(SIZE - first < PIECE ? SIZE - first : PIECE)};
    blocks[piece] = (struct writer_block){.uses = 1};
    assert_int_equal(assembly_data(assembly, &data, 1, on_write, &blocks[piece]), ASSEMBLY_NEW);
    writer_unuse(writer, &blocks[piece]);
}

/* Until nothing is under way any more, as the store stage does when it stops. */
static void settle(void)
{
    writer_flush(writer);
    for (;;) {
        hasher_settle(hasher);
        if (writer_under_way(writer) > 0) {
            wait_for_writes(NULL);
        } else if (hasher_is_busy(hasher)) {
            doorbell_arm(bell);
            if (!hasher_has_results(hasher))
                doorbell_wait(bell, UINT64_MAX);
            doorbell_disarm(bell);
        } else {
            return;
        }
    }
}

static void start(size_t memory)
{
    struct writer_setup for_writer = {.intake = &intake, .ring = &ring, .release = release, .wait = wait_for_writes};
    uint8_t id[TRANSFER_ID_SIZE];
    fixture_id(1, id);
    released = 0;
    writer = writer_create(&for_writer);
    struct hasher_setup setup = {.intake = &intake, .bell = bell, .memory = memory};
    hasher = hasher_create(&setup);
    assembly = assembly_create(id, 1, &budget, 1);
    assembly->admitted = true;
    assert_non_null(hasher);
    hasher_set_writer(hasher, writer);
}

/* Nothing is missing: it must become idle, and be hashed then. */
static void finish(void)
{
    hasher_finish(hasher, assembly);
    writer_when_idle(writer, assembly);
    settle();
    assert_ptr_equal(writer_next_idle(writer), assembly);
}

static void stop(void)
{
    char trash[32];
    assert_int_equal(released, PIECES);
    hasher_forget(hasher, assembly);
    writer_forget(writer, assembly, trash);
    hasher_destroy(hasher);
    writer_destroy(writer);
    assembly_destroy(assembly);
}

static void assert_hashed(void)
{
    assert_false(artifact->reread);
    assert_true(artifact->hashed == SIZE && artifact->digest == NULL);
    assert_memory_equal(artifact->sha256, expected, SHA256_SIZE);
}

static void what_comes_in_order_is_hashed_from_memory(void **state)
{
    (void)state;
    start(SIZE_MAX);
    for (unsigned i = 0; i < PIECES; i++)
        take(i);
    finish();
    assert_hashed();
    stop();
}

static void what_two_lanes_bring_is_hashed_too(void **state)
{
    (void)state;
    start(SIZE_MAX);
    for (unsigned group = 0; group < PIECES; group += 20) {
        for (unsigned i = 1; i < 20; i += 2)
            take(group + i);
        for (unsigned i = 0; i < 20; i += 2)
            take(group + i);
    }
    finish();
    assert_hashed();
    stop();
}

static void the_reverse_order_is_hashed_as_well(void **state)
{
    (void)state;
    start(SIZE_MAX);
    for (unsigned i = PIECES; i-- > 0;)
        take(i);
    finish();
    assert_hashed();
    stop();
}

static void no_block_is_held_beyond_the_memory_for_it(void **state)
{
    (void)state;
    start(0);
    for (unsigned i = 0; i < PIECES; i++)
        take(i);
    writer_flush(writer);
    while (writer_under_way(writer) > 0)
        wait_for_writes(NULL);
    assert_int_equal(released, PIECES); /* before anything was hashed */
    finish();
    assert_hashed();
    stop();
}

static void what_was_dropped_meanwhile_is_the_verifiers(void **state)
{
    (void)state;
    start(SIZE_MAX);
    for (unsigned i = 0; i < PIECES; i++) {
        take(i);
        if (i == PIECES / 2)
            hasher_drop(hasher, artifact);
    }
    finish();
    assert_true(artifact->reread);
    assert_null(artifact->digest);
    stop();
}

static void a_file_that_can_not_be_read_is_the_verifiers(void **state)
{
    (void)state;
    char path[128], staged[INTAKE_STAGING_NAME_SIZE];
    start(0);
    for (unsigned i = 0; i < PIECES; i++)
        take(i);
    intake_staging_name(assembly->sender_id, assembly->id, staged);
    snprintf(path, sizeof path, "%s/0", staged);
    assert_int_equal(unlinkat(intake.staging_fd, path, 0), 0);
    finish();
    assert_true(artifact->reread);
    stop();
}

static void what_an_earlier_run_held_is_the_verifiers(void **state)
{
    (void)state;
    start(SIZE_MAX);
    assert_non_null(assembly_expect(assembly, 0, SIZE));
    assembly_hold(assembly, 0, 0, PIECE);
    released++;
    for (unsigned i = 1; i < PIECES; i++)
        take(i);
    finish();
    assert_true(artifact->reread);
    stop();
}

static void a_range_that_an_earlier_run_held_leaves_the_rest_to_the_verifier(void **state)
{
    (void)state;
    start(SIZE_MAX);
    assert_non_null(assembly_expect(assembly, 0, SIZE));
    assembly_hold(assembly, 0, 2 * PIECE, 3 * PIECE);
    released++;
    for (unsigned i = 0; i < PIECES; i++)
        if (i != 2)
            take(i);
    finish();
    assert_false(artifact->reread);
    assert_true(artifact->hashed == 2 * PIECE && artifact->digest != NULL); /* it goes on from there */
    stop();
}

static void one_operation_writes_several_blocks(void **state)
{
    (void)state;
    start(SIZE_MAX);
    for (unsigned i = 0; i < PIECES; i++)
        take(i);
    assert_true(writer_ticket(writer) <= PIECES * PIECE / (1 << 20) + 1);
    finish();
    stop();
}

/* As at the end of a group of blocks, far faster than they can be hashed; every other file lies in two blocks. */
static void every_file_of_a_burst_is_hashed(void **state)
{
    enum { FILES = HASHER_STATES - 100, FILE_SIZE = 40 << 10 };
    static struct writer_block burst[2 * FILES];
    unsigned used = 0;
    (void)state;
    start(SIZE_MAX);
    for (uint32_t i = 0; i < FILES; i++) {
        uint32_t parts = 1 + i % 2;
        for (uint32_t part = 0; part < parts; part++) {
            uint32_t size = FILE_SIZE / parts;
            struct frame_data data = {.transfer_id = assembly->id,
                                      .artifact = i,
                                      .artifact_size = FILE_SIZE,
                                      .offset = (uint64_t)part * size,
                                      .bytes = content + (size_t)i * 16 + (size_t)part * size,
                                      .size = size};
            burst[used] = (struct writer_block){.uses = 1};
            assert_int_equal(assembly_data(assembly, &data, 1, on_write, &burst[used]), ASSEMBLY_NEW);
            writer_unuse(writer, &burst[used++]);
        }
    }
    finish();
    for (uint32_t i = 0; i < FILES; i++) {
        artifact = assembly_artifact(assembly, i);
        digest_once(content + (size_t)i * 16, FILE_SIZE, expected);
        assert_false(artifact->reread);
        assert_true(artifact->hashed == FILE_SIZE && artifact->digest == NULL);
        assert_memory_equal(artifact->sha256, expected, SHA256_SIZE);
    }
    assert_int_equal(released, used);
    released = PIECES;
    stop();
}

static int begin(void **state)
{
    char path[128];
    (void)state;
    snprintf(directory, sizeof directory, "/tmp/diodecast-hasher-XXXXXX");
    if (mkdtemp(directory) == NULL)
        return -1;
    snprintf(path, sizeof path, "%s/in", directory);
    bell = doorbell_create();
    return mkdir(path, 0770) != 0 || intake_open(path, &intake) != STATUS_OK ||
           ring_open(RING, 2 * WRITER_OPERATIONS, RING_WRITES, &ring) != STATUS_OK;
}

static int end(void **state)
{
    (void)state;
    ring_close(&ring);
    doorbell_destroy(bell);
    intake_close(&intake);
    return durable_remove_tree(AT_FDCWD, directory) == STATUS_OK ? 0 : -1;
}

static int fill(void **state)
{
    (void)state;
    for (size_t i = 0; i < SIZE; i++)
        content[i] = (uint8_t)(i * 2654435761u >> 13);
    digest_once(content, SIZE, expected);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_comes_in_order_is_hashed_from_memory, begin, end),
        cmocka_unit_test_setup_teardown(what_two_lanes_bring_is_hashed_too, begin, end),
        cmocka_unit_test_setup_teardown(the_reverse_order_is_hashed_as_well, begin, end),
        cmocka_unit_test_setup_teardown(no_block_is_held_beyond_the_memory_for_it, begin, end),
        cmocka_unit_test_setup_teardown(what_was_dropped_meanwhile_is_the_verifiers, begin, end),
        cmocka_unit_test_setup_teardown(a_file_that_can_not_be_read_is_the_verifiers, begin, end),
        cmocka_unit_test_setup_teardown(what_an_earlier_run_held_is_the_verifiers, begin, end),
        cmocka_unit_test_setup_teardown(a_range_that_an_earlier_run_held_leaves_the_rest_to_the_verifier, begin, end),
        cmocka_unit_test_setup_teardown(one_operation_writes_several_blocks, begin, end),
        cmocka_unit_test_setup_teardown(every_file_of_a_burst_is_hashed, begin, end),
    };
    return cmocka_run_group_tests(tests, fill, NULL);
}
