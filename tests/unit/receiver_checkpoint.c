// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "receiver/checkpoint.h"

/* What fails. */
static int flush_error;
static bool ledger_fails;

static int flush_or_fail(int fd);
static int flush_all_or_fail(int fd);
static enum status record_or_fail(struct ledger *ledger, const struct ledger_checkpoint checkpoints[], size_t count);

#define fdatasync             flush_or_fail
#define syncfs                flush_all_or_fail
#define ledger_partial_record record_or_fail
#include "receiver/checkpoint.c"
#undef fdatasync
#undef syncfs
#undef ledger_partial_record

static int flush_or_fail(int fd)
{
    errno = flush_error;
    return flush_error != 0 ? -1 : fdatasync(fd);
}

static int flush_all_or_fail(int fd)
{
    errno = flush_error;
    return flush_error != 0 ? -1 : syncfs(fd);
}

static enum status record_or_fail(struct ledger *ledger, const struct ledger_checkpoint checkpoints[], size_t count)
{
    return ledger_fails ? status_from_errno(ENOSPC) : ledger_partial_record(ledger, checkpoints, count);
}

enum { SIZE = 100000 };

static char directory[64];
static struct intake intake;
static struct ledger *ledger;
static struct doorbell *bell;
static struct mailbox *results;
static struct checkpoint *stage;
static uint8_t content[SIZE];
static const uint8_t id[TRANSFER_ID_SIZE] = {1, 2, 3};
enum { SENDER = 0x12345678 };

static int begin(void **state)
{
    char path[128];
    (void)state;
    flush_error = 0;
    ledger_fails = false;
    for (size_t i = 0; i < SIZE; i++)
        content[i] = (uint8_t)(i * 2654435761u >> 7);
    snprintf(directory, sizeof directory, "/tmp/diodecast-checkpoint-XXXXXX");
    if (mkdtemp(directory) == NULL)
        return -1;
    snprintf(path, sizeof path, "%s/in", directory);
    if (mkdir(path, 0700) != 0 || intake_open(path, &intake) != STATUS_OK ||
        ledger_open(directory, &ledger) != STATUS_OK)
        return -1;
    bell = doorbell_create();
    results = mailbox_create(bell);
    return checkpoint_start(&intake, ledger, results, &stage) == STATUS_OK ? 0 : -1;
}

static int end(void **state)
{
    (void)state;
    checkpoint_stop(stage);
    mailbox_destroy(results);
    doorbell_destroy(bell);
    ledger_close(ledger);
    intake_close(&intake);
    return durable_remove_tree(AT_FDCWD, directory) == STATUS_OK ? 0 : -1;
}

static void write_staged(uint32_t file, size_t size)
{
    char staged[INTAKE_STAGING_NAME_SIZE];
    char path[INTAKE_STAGING_NAME_SIZE + 16];
    char name[INTAKE_ARTIFACT_NAME_SIZE];
    intake_staging_name(SENDER, id, staged);
    (void)mkdirat(intake.staging_fd, staged, 0700);
    intake_artifact_name(file, name);
    snprintf(path, sizeof path, "%s/%s", staged, name);
    int fd = openat(intake.staging_fd, path, O_WRONLY | O_CREAT, 0600);
    assert_int_equal(write(fd, content, size), size);
    close(fd);
}

static size_t recorded_count(void)
{
    size_t count;
    struct ledger_key *keys;
    assert_int_equal(ledger_partial_keys(ledger, &keys, &count), STATUS_OK);
    free(keys);
    return count;
}

static struct checkpoint_job *new_job(uint32_t file, uint64_t first, uint64_t limit)
{
    struct checkpoint_job *job = checkpoint_job_create(SENDER, id);
    struct partial_entry entry = {.kind = PARTIAL_HELD, .file = file, .first = first, .end = limit};
    assert_true(partial_list_add(&job->list, &entry));
    job->first = recorded_count() == 0;
    return job;
}

static struct checkpoint_job *await(void)
{
    for (;;) {
        doorbell_arm(bell);
        struct checkpoint_job *job = (struct checkpoint_job *)mailbox_take(results);
        if (job == NULL)
            doorbell_wait(bell, UINT64_MAX);
        doorbell_disarm(bell);
        if (job != NULL)
            return job;
    }
}

/* Posts it and tells what became of it. */
static enum checkpoint_outcome run_job(struct checkpoint_job *job)
{
    checkpoint_post(stage, job);
    job = await();
    enum checkpoint_outcome outcome = job->outcome;
    checkpoint_job_destroy(job);
    return outcome;
}

struct found {
    struct partial_list list;
};

static void collect(const struct partial_entry *entry, void *context)
{
    assert_true(partial_list_add(&((struct found *)context)->list, entry));
}

static void collect_all(const uint8_t *entries, size_t size, void *context)
{
    assert_true(partial_decode(entries, size, collect, context));
}

static struct found recorded(void)
{
    struct ledger_key key = {.sender_id = SENDER};
    struct found found = {0};
    memcpy(key.transfer_id, id, TRANSFER_ID_SIZE);
    assert_int_equal(ledger_partial_each(ledger, &key, collect_all, &found), STATUS_OK);
    return found;
}

static void what_is_flushed_is_recorded_with_its_hash(void **state)
{
    uint8_t hash[CHUNK_HASH_SIZE];
    (void)state;
    write_staged(3, SIZE);
    assert_int_equal(run_job(new_job(3, 1000, SIZE)), CHECKPOINT_RECORDED);
    struct found found = recorded();
    assert_int_equal(found.list.count, 1);
    assert_true(found.list.entries[0].hashed);
    checksum128(content + 1000, SIZE - 1000, hash);
    assert_memory_equal(found.list.entries[0].hash, hash, sizeof hash);
    partial_list_deinit(&found.list);
}

static void what_is_not_there_is_not_recorded(void **state)
{
    (void)state;
    write_staged(3, SIZE / 2);
    struct checkpoint_job *job = new_job(3, 0, SIZE);
    struct partial_entry other = {.kind = PARTIAL_HELD, .file = 4, .first = 0, .end = 10};
    struct partial_entry good = {.kind = PARTIAL_HELD, .file = 3, .first = 0, .end = 10};
    assert_true(partial_list_add(&job->list, &other) && partial_list_add(&job->list, &good));
    assert_int_equal(run_job(job), CHECKPOINT_RECORDED);
    struct found found = recorded();
    assert_int_equal(found.list.count, 1);
    assert_int_equal(found.list.entries[0].end, 10);
    partial_list_deinit(&found.list);
}

static void a_failed_flush_discards_the_record_for_good(void **state)
{
    (void)state;
    write_staged(3, SIZE);
    assert_int_equal(run_job(new_job(3, 0, 1000)), CHECKPOINT_RECORDED);
    assert_int_equal(recorded_count(), 1);
    flush_error = EIO;
    struct checkpoint_job *job = new_job(3, 1000, 2000);
    checkpoint_post(stage, job);
    job = await();
    assert_int_equal(job->outcome, CHECKPOINT_LOST);
    assert_int_equal(job->error, EIO);
    checkpoint_job_destroy(job);
    assert_int_equal(recorded_count(), 0);
    struct found found = recorded();
    assert_int_equal(found.list.count, 0);
}

/* The kernel tells of a failed flush once: a later one says nothing of the pages that it concerned. */
static void what_follows_a_failed_flush_is_not_recorded_either(void **state)
{
    (void)state;
    write_staged(3, SIZE);
    assert_int_equal(run_job(new_job(3, 0, 1000)), CHECKPOINT_RECORDED);
    struct checkpoint_job *later = new_job(3, 2000, 3000);
    flush_error = EIO;
    assert_int_equal(run_job(new_job(3, 1000, 2000)), CHECKPOINT_LOST);
    flush_error = 0;
    (void)run_job(later);
    assert_int_equal(recorded_count(), 0);
    assert_int_equal(run_job(new_job(3, 0, 1000)), CHECKPOINT_RECORDED); /* of a later transfer with the same id */
    assert_int_equal(recorded_count(), 1);
}

static void a_failed_flush_of_many_files_does_too(void **state)
{
    (void)state;
    struct checkpoint_job *job = checkpoint_job_create(SENDER, id);
    for (uint32_t i = 0; i < 2 * SYNCFS_ABOVE; i++) {
        struct partial_entry entry = {.kind = PARTIAL_HELD, .file = i, .first = 0, .end = 100};
        write_staged(i, 100);
        assert_true(partial_list_add(&job->list, &entry));
    }
    flush_error = EIO;
    assert_int_equal(run_job(job), CHECKPOINT_LOST);
    assert_int_equal(recorded_count(), 0);
}

static void what_the_ledger_does_not_take_comes_back(void **state)
{
    (void)state;
    write_staged(3, SIZE);
    ledger_fails = true;
    struct checkpoint_job *job = new_job(3, 0, SIZE);
    checkpoint_post(stage, job);
    job = await();
    assert_int_equal(job->outcome, CHECKPOINT_UNRECORDED);
    assert_int_equal(job->list.count, 1);
    assert_int_equal(recorded_count(), 0);
    ledger_fails = false;
    assert_int_equal(run_job(job), CHECKPOINT_RECORDED);
    assert_int_equal(recorded_count(), 1);
}

static void a_closed_transfer_is_forgotten(void **state)
{
    (void)state;
    write_staged(3, SIZE);
    assert_int_equal(run_job(new_job(3, 0, SIZE)), CHECKPOINT_RECORDED);
    struct checkpoint_job *job = checkpoint_job_create(SENDER, id);
    job->remove = true;
    assert_int_equal(run_job(job), CHECKPOINT_RECORDED);
    assert_int_equal(recorded_count(), 0);
}

static void a_delivery_takes_the_record_with_it(void **state)
{
    (void)state;
    write_staged(3, SIZE);
    assert_int_equal(run_job(new_job(3, 0, SIZE)), CHECKPOINT_RECORDED);
    struct ledger_delivery delivery = {.sender_id = SENDER, .sequence = 1, .channel = "a", .name = "b"};
    struct ledger_key key = {.sender_id = SENDER};
    memcpy(delivery.transfer_id, id, TRANSFER_ID_SIZE);
    memcpy(key.transfer_id, id, TRANSFER_ID_SIZE);
    assert_int_equal(ledger_publishing(ledger, &delivery, 1), STATUS_OK);
    struct found found = recorded(); /* the intent alone does not: it may come to nothing */
    assert_int_equal(found.list.count, 1);
    partial_list_deinit(&found.list);
    assert_int_equal(ledger_delivered(ledger, &key, 1), STATUS_OK);
    found = recorded();
    assert_int_equal(found.list.count, 0);
}

static void the_manifest_and_what_was_said_come_back_as_they_were(void **state)
{
    (void)state;
    struct checkpoint_job *job = checkpoint_job_create(SENDER, id);
    struct ledger_partial *partial = &job->partial;
    struct ledger_partial loaded;
    job->first = true;
    partial->announced = true;
    snprintf(partial->channel, sizeof partial->channel, "tools");
    snprintf(partial->name, sizeof partial->name, "größe");
    partial->total_bytes = 77;
    partial->total_artifacts = 3;
    partial->lanes = 2;
    partial->watermark[0] = UINT64_MAX;
    partial->watermark[1] = 5;
    partial->watermark_epoch = UINT64_MAX - 1;
    partial->manifest = malloc(1000);
    memcpy(partial->manifest, content, 1000);
    partial->manifest_size = 1000;
    partial->manifest_held = malloc(2 * sizeof *partial->manifest_held);
    partial->manifest_held[0] = (struct extent){0, 10};
    partial->manifest_held[1] = (struct extent){900, 1000};
    partial->manifest_held_count = 2;
    struct ledger_key key = partial->key;
    assert_int_equal(run_job(job), CHECKPOINT_RECORDED);
    assert_int_equal(ledger_partial_load(ledger, &key, &loaded), STATUS_OK);
    assert_true(loaded.announced);
    assert_string_equal(loaded.channel, "tools");
    assert_string_equal(loaded.name, "größe");
    assert_int_equal(loaded.total_bytes, 77);
    assert_int_equal(loaded.total_artifacts, 3);
    assert_int_equal(loaded.lanes, 2);
    assert_true(loaded.watermark[0] == UINT64_MAX && loaded.watermark[1] == 5);
    assert_true(loaded.watermark_epoch == UINT64_MAX - 1);
    assert_int_equal(loaded.manifest_size, 1000);
    assert_memory_equal(loaded.manifest, content, 1000);
    assert_int_equal(loaded.manifest_held_count, 2);
    assert_int_equal(loaded.manifest_held[1].first, 900);
    ledger_partial_deinit(&loaded);
    /* What is not given again stays. */
    assert_int_equal(run_job(checkpoint_job_create(SENDER, id)), CHECKPOINT_RECORDED);
    assert_int_equal(ledger_partial_load(ledger, &key, &loaded), STATUS_OK);
    assert_int_equal(loaded.manifest_size, 1000);
    ledger_partial_deinit(&loaded);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_is_flushed_is_recorded_with_its_hash, begin, end),
        cmocka_unit_test_setup_teardown(what_is_not_there_is_not_recorded, begin, end),
        cmocka_unit_test_setup_teardown(a_failed_flush_discards_the_record_for_good, begin, end),
        cmocka_unit_test_setup_teardown(what_follows_a_failed_flush_is_not_recorded_either, begin, end),
        cmocka_unit_test_setup_teardown(a_failed_flush_of_many_files_does_too, begin, end),
        cmocka_unit_test_setup_teardown(what_the_ledger_does_not_take_comes_back, begin, end),
        cmocka_unit_test_setup_teardown(a_closed_transfer_is_forgotten, begin, end),
        cmocka_unit_test_setup_teardown(a_delivery_takes_the_record_with_it, begin, end),
        cmocka_unit_test_setup_teardown(the_manifest_and_what_was_said_come_back_as_they_were, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
