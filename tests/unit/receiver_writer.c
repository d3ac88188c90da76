// SPDX-License-Identifier: Apache-2.0
#include "receiver/writer.h"
#include "tests/unit/receiver_fixture.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/durable.h"
#include "common/ring.h"
#include "receiver/intake.h"

/* Large artifacts are written around the page cache where the file system takes that; tmpfs refuses it. */

enum { PIECE = 64 << 10, PIECES = 8 };

static unsigned released;

static void release(void *context, struct writer_block *block)
{
    (void)context, (void)block;
    released++;
}

struct world {
    char directory[64];
    struct intake intake;
    struct io_uring ring;
    struct writer *writer;
    struct assembly *assembly;
    struct writer_block blocks[PIECES];
    unsigned next;
};

static void wait_for_writes(void *context)
{
    struct world *world = context;
    struct io_uring_cqe *cqe;
    assert_true(io_uring_submit_and_wait(&world->ring, 1) >= 0);
    while (io_uring_peek_cqe(&world->ring, &cqe) == 0) {
        struct io_uring_cqe copy = *cqe;
        io_uring_cqe_seen(&world->ring, cqe);
        writer_complete(world->writer, &copy);
    }
}

static void on_write(void *context, struct assembly *assembly, uint32_t index, struct assembly_artifact *artifact,
                     uint64_t offset, const uint8_t *bytes, uint32_t size)
{
    struct world *world = context;
    writer_put(world->writer, assembly, index, artifact, offset, bytes, size, &world->blocks[world->next]);
}

static void writes_of_a_large_artifact_under_way_together_are_kept_where_uncached_ones_are_refused(void **state)
{
    (void)state;
    static uint8_t content[PIECE], back[PIECE];
    static struct world world;
    static struct assembly_budget budget = {.memory_limit = SIZE_MAX, .held_limit = UINT64_MAX};
    char path[256], name[INTAKE_STAGING_NAME_SIZE], file[INTAKE_ARTIFACT_NAME_SIZE], trash[32];
    uint8_t id[TRANSFER_ID_SIZE];
    struct writer_loss loss;
    fixture_id(1, id);
    memset(content, 0xa5, sizeof content);
    snprintf(world.directory, sizeof world.directory, "/dev/shm/diodecast-writer-XXXXXX");
    assert_non_null(mkdtemp(world.directory));
    snprintf(path, sizeof path, "%s/in", world.directory);
    assert_int_equal(mkdir(path, 0770), 0);
    assert_int_equal(intake_open(path, &world.intake), STATUS_OK);
    assert_int_equal(ring_open(64, 2 * WRITER_OPERATIONS, RING_WRITES, &world.ring), STATUS_OK);
    struct writer_setup setup = {
        .intake = &world.intake, .ring = &world.ring, .release = release, .wait = wait_for_writes, .context = &world};
    world.writer = writer_create(&setup);
    world.assembly = assembly_create(id, 1, &budget, 1);
    world.assembly->admitted = true;

    for (world.next = 0; world.next < PIECES; world.next++) {
        struct frame_data data = {.transfer_id = id,
                                  .artifact_size = WRITER_UNCACHED,
                                  .offset = (uint64_t)world.next * 2 * PIECE, /* with holes: an operation each */
                                  .bytes = content,
                                  .size = PIECE};
        world.blocks[world.next] = (struct writer_block){.uses = 1};
        assert_int_equal(assembly_data(world.assembly, &data, 1, on_write, &world), ASSEMBLY_NEW);
        writer_unuse(world.writer, &world.blocks[world.next]);
        writer_flush(world.writer);
    }
    assert_int_equal(writer_under_way(world.writer), PIECES);
    while (writer_under_way(world.writer) > 0)
        wait_for_writes(&world);

    assert_false(writer_next_loss(world.writer, &loss));
    assert_int_equal(released, PIECES);
    intake_staging_name(1, id, name);
    intake_artifact_name(0, file);
    snprintf(path, sizeof path, "%s/in/.staging/%s/%s", world.directory, name, file);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    for (unsigned i = 0; i < PIECES; i++) {
        assert_int_equal(pread(fd, back, PIECE, (off_t)i * 2 * PIECE), PIECE);
        assert_memory_equal(back, content, PIECE);
    }
    close(fd);

    writer_detach(world.writer, world.assembly);
    writer_forget(world.writer, world.assembly, trash);
    writer_destroy(world.writer);
    assembly_destroy(world.assembly);
    ring_close(&world.ring);
    intake_close(&world.intake);
    assert_int_equal(durable_remove_tree(AT_FDCWD, world.directory), STATUS_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writes_of_a_large_artifact_under_way_together_are_kept_where_uncached_ones_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
