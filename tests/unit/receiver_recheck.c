// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/receiver_fixture.h"

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/durable.h"
#include "receiver/publish.h"

/* What has to be read again is, at a limited rate, and nobody waits behind it. */

#define LARGE (UINT64_C(72) << 20)
#define RATE  (UINT64_C(48) << 20) /* bytes a second */

static char directory[64];
static struct signature_key *key;
static uint32_t sender_id;
static struct intake intake;
static struct ledger *ledger;
static struct doorbell *bell;
static struct mailbox *results;
static struct publish *publish;
static struct assembly_budget budget = {.memory_limit = SIZE_MAX, .held_limit = UINT64_MAX};
static uint8_t *content;

static void stage_write(void *context, struct assembly *assembly, uint32_t index, struct assembly_artifact *artifact,
                        uint64_t offset, const uint8_t *bytes, uint32_t size)
{
    (void)assembly, (void)index;
    artifact->placed = artifact->size <= INTAKE_SMALL;
    int fd = openat(*(int *)context, artifact->placed ? INTAKE_SMALL_NAME : "0", O_WRONLY | O_CREAT, 0600);
    assert_int_equal(pwrite(fd, bytes, size, (off_t)offset), size);
    close(fd);
}

static void no_reset(void *context, struct assembly *assembly, uint32_t index, struct assembly_artifact *artifact)
{
    (void)context, (void)assembly, (void)index, (void)artifact;
}

/* One artifact, staged, nothing of it hashed. */
static struct assembly *stage(uint8_t number, uint64_t size)
{
    uint8_t id[TRANSFER_ID_SIZE];
    char staged[INTAKE_STAGING_NAME_SIZE];
    const struct fixture_file file = {.path = "x", .bytes = content, .size = size};
    fixture_id(number, id);
    struct assembly *assembly = assembly_create(id, sender_id, &budget, 1);
    intake_staging_name(sender_id, id, staged);
    assert_int_equal(mkdirat(intake.staging_fd, staged, 0700), 0);
    int fd = openat(intake.staging_fd, staged, O_RDONLY | O_DIRECTORY);
    for (uint64_t at = 0; at < size; at += CHUNK_SIZE) {
        struct frame_data data = {.transfer_id = id,
                                  .artifact_size = size,
                                  .offset = at,
                                  .bytes = content + at,
                                  .size = (uint32_t)(size - at < CHUNK_SIZE ? size - at : CHUNK_SIZE)};
        assert_int_equal(assembly_data(assembly, &data, 1, stage_write, &fd), ASSEMBLY_NEW);
    }
    close(fd);
    size_t bytes_size;
    uint8_t *bytes = fixture_manifest(key, id, number, "x", &file, 1, &bytes_size);
    struct signed_message message;
    struct manifest_reader *reader;
    char reason[256];
    assert_int_equal(signed_decode(bytes, bytes_size, LIMIT_MANIFEST_SIZE, &message), STATUS_OK);
    assert_int_equal(manifest_reader_create(message.body, message.body_size, &reader, reason), STATUS_OK);
    assert_true(assembly_bind(assembly, &message, reader, 1, no_reset, NULL));
    free(bytes);
    return assembly;
}

static void post(struct assembly *assembly)
{
    struct publish_job *job = publish_job_create(PUBLISH_TRANSFER, assembly->sender_id, assembly->id);
    job->assembly = assembly;
    publish_post(publish, job);
}

static struct publish_job *await(void)
{
    for (;;) {
        doorbell_arm(bell);
        struct publish_job *job = (struct publish_job *)mailbox_take(results);
        if (job == NULL)
            doorbell_wait(bell, UINT64_MAX);
        doorbell_disarm(bell);
        if (job != NULL)
            return job;
    }
}

static void finish(struct publish_job *job)
{
    assembly_destroy(job->assembly);
    publish_job_destroy(job);
}

static void a_large_one_is_read_again_slowly_and_holds_nobody_up(void **state)
{
    (void)state;
    struct assembly *large = stage(1, LARGE);
    struct assembly *small = stage(2, 1000);
    uint64_t before_ns = clock_monotonic_ns();
    post(large);
    post(small);
    struct publish_job *job = await();
    assert_ptr_equal(job->assembly, small);
    assert_int_equal(job->outcome, PUBLISH_DELIVERED);
    finish(job);
    job = await();
    assert_ptr_equal(job->assembly, large);
    assert_int_equal(job->outcome, PUBLISH_DELIVERED);
    assert_true(large->verified_bytes == LARGE && large->verify_total == 0);
    assert_true(clock_monotonic_ns() - before_ns >= (LARGE / RATE) * CLOCK_SECOND_NS);
    finish(job);
}

static void a_stop_does_not_wait_for_it(void **state)
{
    (void)state;
    publish_set_recheck(publish, 1 << 20); /* more than a minute */
    struct assembly *large = stage(1, LARGE);
    uint64_t before_ns = clock_monotonic_ns();
    post(large);
    while (large->verified_bytes == 0)
        sched_yield();
    assert_true(large->verify_total == LARGE);
    publish_stop(publish);
    publish = NULL;
    struct publish_job *job = await();
    assert_int_equal(job->outcome, PUBLISH_STOPPED);
    assert_true(clock_monotonic_ns() - before_ns < 30 * CLOCK_SECOND_NS);
    finish(job);
}

static int begin(void **state)
{
    char path[128];
    (void)state;
    snprintf(directory, sizeof directory, "/tmp/diodecast-recheck-XXXXXX");
    if (mkdtemp(directory) == NULL)
        return -1;
    snprintf(path, sizeof path, "%s/in", directory);
    if (mkdir(path, 0770) != 0 || intake_open(path, &intake) != STATUS_OK ||
        ledger_open(directory, &ledger) != STATUS_OK)
        return -1;
    bell = doorbell_create();
    results = mailbox_create(bell);
    if (publish_start(&intake, ledger, NULL, NULL, results, &publish) != STATUS_OK)
        return -1;
    publish_set_recheck(publish, RATE);
    return 0;
}

static int end(void **state)
{
    (void)state;
    publish_stop(publish);
    mailbox_destroy(results);
    doorbell_destroy(bell);
    ledger_close(ledger);
    intake_close(&intake);
    return durable_remove_tree(AT_FDCWD, directory) == STATUS_OK ? 0 : -1;
}

static int make_key(void **state)
{
    (void)state;
    if (signature_init() != STATUS_OK)
        return -1;
    key = fixture_key(1);
    sender_id = signature_sender_id(signature_key_public(key));
    content = calloc(1, LARGE);
    return content == NULL;
}

static int drop_key(void **state)
{
    (void)state;
    signature_key_destroy(key);
    free(content);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_large_one_is_read_again_slowly_and_holds_nobody_up, begin, end),
        cmocka_unit_test_setup_teardown(a_stop_does_not_wait_for_it, begin, end),
    };
    return cmocka_run_group_tests(tests, make_key, drop_key);
}
