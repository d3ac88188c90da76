// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/receiver_fixture.h"

#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/durable.h"
#include "receiver/publish.h"
#include "receiver/recover.h"
#include "receiver/tree.h"

enum { BIG = 9 << 20 };

static char directory[64];
static struct signature_key *key;
static uint32_t sender_id;
static struct intake intake;
static struct ledger *ledger;
static struct doorbell *bell;
static struct mailbox *results;
static struct publish *publish;
static struct assembly_budget budget;
static uint8_t content[BIG];

struct staging {
    int fd;
    uint64_t small_size;
};

static void stage_write(void *context, struct assembly *assembly, uint32_t index, struct assembly_artifact *artifact,
                        uint64_t offset, const uint8_t *bytes, uint32_t size)
{
    struct staging *staging = context;
    char name[INTAKE_ARTIFACT_NAME_SIZE] = INTAKE_SMALL_NAME;
    (void)assembly;
    if (artifact->size > INTAKE_SMALL) {
        intake_artifact_name(index, name);
    } else if (!artifact->placed) {
        artifact->placed = true;
        artifact->place = staging->small_size;
        staging->small_size += artifact->size;
    }
    int fd = openat(staging->fd, name, O_WRONLY | O_CREAT, 0600);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, bytes, size, (off_t)(artifact->place + offset)), size);
    close(fd);
}

static void no_reset(void *context, struct assembly *assembly, uint32_t index, struct assembly_artifact *artifact)
{
    (void)context, (void)assembly, (void)index, (void)artifact;
}

/* A transfer as the store leaves it: staged, bound, nothing hashed on arrival. */
static struct assembly *stage(uint8_t number, uint8_t chain, uint64_t sequence, const char *name,
                              const struct fixture_file *files, size_t count)
{
    uint8_t id[TRANSFER_ID_SIZE];
    char staged[INTAKE_STAGING_NAME_SIZE];
    fixture_id(number, id);
    struct assembly *assembly = assembly_create(id, sender_id, &budget, 1);
    intake_staging_name(sender_id, id, staged);
    assert_int_equal(mkdirat(intake.staging_fd, staged, 0700), 0);
    struct staging staging = {.fd = openat(intake.staging_fd, staged, O_RDONLY | O_DIRECTORY)};
    uint32_t index = 0;
    for (size_t i = 0; i < count; i++) {
        if (files[i].bytes == NULL)
            continue;
        for (uint64_t at = 0; at < files[i].size; at += CHUNK_SIZE) {
            struct frame_data data = {
                .transfer_id = id,
                .artifact = index,
                .artifact_size = files[i].size,
                .offset = at,
                .bytes = files[i].bytes + at,
                .size = (uint32_t)(files[i].size - at < CHUNK_SIZE ? files[i].size - at : CHUNK_SIZE)};
            assert_int_equal(assembly_data(assembly, &data, 1, stage_write, &staging), ASSEMBLY_NEW);
        }
        index++;
    }
    close(staging.fd);
    size_t size;
    uint8_t *bytes = fixture_manifest_of_chain(key, chain, id, sequence, name, files, count, &size);
    struct signed_message message;
    struct manifest_reader *reader;
    char reason[256];
    assert_int_equal(signed_decode(bytes, size, LIMIT_MANIFEST_SIZE, &message), STATUS_OK);
    if (manifest_reader_create(message.body, message.body_size, &reader, reason) != STATUS_OK)
        fail_msg("%s", reason);
    assert_true(assembly_bind(assembly, &message, reader, 1, no_reset, NULL));
    assert_true(assembly_is_complete(assembly));
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

static void deliver(struct assembly *assembly, char path[static 512])
{
    post(assembly);
    struct publish_job *job = await();
    assert_int_equal(job->outcome, PUBLISH_DELIVERED);
    snprintf(path, 512, "%s/in/%s/%s", directory, job->delivery.channel, job->delivery.directory);
    finish(job);
}

static char *read_text(const char *path, const char *name)
{
    char file[1024];
    char *bytes;
    size_t size;
    snprintf(file, sizeof file, "%s/%s", path, name);
    assert_int_equal(durable_read_file(AT_FDCWD, file, 1 << 20, &bytes, &size), STATUS_OK);
    return bytes;
}

static mode_t mode_of(const char *path, const char *name)
{
    char file[1024];
    struct stat stat;
    snprintf(file, sizeof file, "%s/%s", path, name);
    assert_int_equal(lstat(file, &stat), 0);
    return stat.st_mode & 07777;
}

/* Exit status of a program run in `cwd`; 127 when there is none of that name. */
static int run(const char *cwd, char *const arguments[])
{
    int status;
    pid_t child = fork();
    if (child == 0) {
        if (chdir(cwd) != 0)
            _exit(126);
        int null_fd = open("/dev/null", O_WRONLY);
        dup2(null_fd, STDOUT_FILENO);
        execvp(arguments[0], arguments);
        _exit(127);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    return WEXITSTATUS(status);
}

static int staging_count(void)
{
    int count = -1;
    char path[128];
    struct stat stat;
    snprintf(path, sizeof path, "%s/in/.staging", directory);
    if (lstat(path, &stat) == 0)
        count = (int)stat.st_nlink - 2;
    return count;
}

static const struct fixture_file tree[] = {
    {.path = "tree"},
    {.path = "tree/a b\\c", .bytes = content, .size = 1000, .executable = true},
    {.path = "tree/big", .bytes = content, .size = BIG},
    {.path = "tree/dir"},
    {.path = "tree/dir/empty"},
    {.path = "tree/dir/größe", .bytes = content + 77, .size = INTAKE_SMALL + 1},
    {.path = "tree/dir/link", .target = "größe"},
    {.path = "tree/nothing", .bytes = content, .size = 0},
};
enum { TREE_COUNT = sizeof tree / sizeof *tree };

static void a_delivery_has_all_that_belongs_to_it(void **state)
{
    (void)state;
    char path[512];
    char payload[600];
    char link[64] = {0};
    mode_t mask = umask(0077);
    deliver(stage(1, 1, 42, "tree", tree, TREE_COUNT), path);
    umask(mask);
    snprintf(payload, sizeof payload, "%s/payload", path);
    assert_non_null(strstr(path, "/tools/0000000000000042-"));
    assert_int_equal(mode_of(path, ""), 02770);
    assert_int_equal(mode_of(path, ".."), 02770);
    assert_int_equal(mode_of(path, "payload"), 02770);
    assert_int_equal(mode_of(path, "payload/tree/dir/empty"), 02770);
    assert_int_equal(mode_of(path, "payload/tree/a b\\c"), 0770);
    assert_int_equal(mode_of(path, "payload/tree/big"), 0660);
    assert_int_equal(mode_of(path, "payload/tree/nothing"), 0660);
    assert_int_equal(mode_of(path, "manifest.json"), 0660);
    assert_int_equal(mode_of(path, "SHA256SUMS"), 0660);
    struct stat stat;
    char file[700];
    for (size_t i = 0; i < TREE_COUNT; i++) {
        snprintf(file, sizeof file, "%s/%s", payload, tree[i].path);
        assert_int_equal(lstat(file, &stat), 0);
        assert_int_equal(stat.st_mtim.tv_sec, 1700000000);
        assert_int_equal(stat.st_mtim.tv_nsec, i);
    }
    snprintf(file, sizeof file, "%s/tree/dir/link", payload);
    assert_true(readlink(file, link, sizeof link - 1) > 0);
    assert_string_equal(link, "größe");
    char *json = read_text(path, "manifest.json");
    assert_non_null(strstr(json, "\"late\": false"));
    assert_non_null(strstr(json, "\"name\": \"tree\""));
    assert_non_null(strstr(json, "tree/dir/empty"));
    free(json);
    assert_int_equal(run(payload, (char *[]){"sha256sum", "-c", "--strict", "../SHA256SUMS", NULL}), 0);
    assert_int_equal(run(path, (char *[]){"python3", "-c", "import json; json.load(open('manifest.json'))", NULL}), 0);
    assert_int_equal(staging_count(), 0);
}

static void stock_minisign_verifies_the_manifest(void **state)
{
    (void)state;
    char path[512];
    char file[128];
    const struct signature_public *public_key = signature_key_public(key);
    deliver(stage(1, 1, 42, "tree", tree, TREE_COUNT), path);
    uint8_t raw[42] = "Ed";
    memcpy(raw + 2, public_key->key_id, 8);
    memcpy(raw + 10, public_key->key, 32);
    char text[128];
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t length = (size_t)snprintf(text, sizeof text, "untrusted comment: test\n");
    for (size_t i = 0; i < sizeof raw; i += 3) {
        uint32_t word = (uint32_t)raw[i] << 16 | (uint32_t)raw[i + 1] << 8 | raw[i + 2];
        for (int shift = 18; shift >= 0; shift -= 6)
            text[length++] = digits[word >> shift & 63];
    }
    text[length++] = '\n';
    snprintf(file, sizeof file, "%s/key.pub", directory);
    assert_int_equal(durable_write_file(AT_FDCWD, file, text, length, 0600), STATUS_OK);
    int status = run(path, (char *[]){"minisign", "-Vm", "manifest.pb", "-p", file, NULL});
    if (status == 127)
        skip();
    assert_int_equal(status, 0);
}

static void flip_staged_byte(const struct assembly *assembly, const char *name, off_t at)
{
    char path[INTAKE_STAGING_NAME_SIZE + 16];
    char staged[INTAKE_STAGING_NAME_SIZE];
    uint8_t byte;
    intake_staging_name(assembly->sender_id, assembly->id, staged);
    snprintf(path, sizeof path, "%s/%s", staged, name);
    int fd = openat(intake.staging_fd, path, O_RDWR);
    assert_int_equal(pread(fd, &byte, 1, at), 1);
    byte ^= 1;
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    close(fd);
}

static void damage_comes_back_chunk_by_chunk(void **state)
{
    (void)state;
    struct assembly *assembly = stage(1, 1, 1, "tree", tree, TREE_COUNT);
    flip_staged_byte(assembly, "1", CHUNK_SIZE + 5);
    flip_staged_byte(assembly, "1", BIG - 1);
    flip_staged_byte(assembly, INTAKE_SMALL_NAME, 10);
    post(assembly);
    struct publish_job *job = await();
    assert_int_equal(job->outcome, PUBLISH_DAMAGED);
    assert_int_equal(job->report.count, 2); /* the last two chunks touch */
    assert_int_equal(job->report.ranges[0].index, 0);
    assert_int_equal(job->report.ranges[0].end, 1000);
    assert_int_equal(job->report.ranges[1].index, 1);
    assert_int_equal(job->report.ranges[1].first, CHUNK_SIZE);
    assert_int_equal(job->report.ranges[1].end, BIG);
    publish_job_destroy(job);
    /* Mended, the same transfer goes through. */
    flip_staged_byte(assembly, "1", CHUNK_SIZE + 5);
    flip_staged_byte(assembly, "1", BIG - 1);
    flip_staged_byte(assembly, INTAKE_SMALL_NAME, 10);
    char path[512];
    deliver(assembly, path);
}

static void a_taken_name_gets_a_suffix(void **state)
{
    (void)state;
    struct fixture_file file = {.path = "x", .bytes = content, .size = 10};
    char first[512];
    char second[512];
    char third[512];
    deliver(stage(1, 1, 7, "x", &file, 1), first);
    deliver(stage(2, 2, 7, "x", &file, 1), second);
    deliver(stage(3, 3, 7, "x", &file, 1), third);
    assert_string_equal(second + strlen(second) - 2, "~2");
    assert_string_equal(third + strlen(third) - 2, "~3");
    assert_int_equal(strncmp(first, second, strlen(first)), 0);
}

static void an_older_sequence_is_late(void **state)
{
    (void)state;
    struct fixture_file file = {.path = "x", .bytes = content, .size = 10};
    char path[512];
    deliver(stage(1, 1, 9, "x", &file, 1), path);
    deliver(stage(2, 1, 8, "x", &file, 1), path);
    char *json = read_text(path, "manifest.json");
    assert_non_null(strstr(json, "\"late\": true"));
    free(json);
    deliver(stage(3, 1, 10, "x", &file, 1), path);
    json = read_text(path, "manifest.json");
    assert_non_null(strstr(json, "\"late\": false"));
    free(json);
}

static void many_at_once_are_delivered_once_each(void **state)
{
    (void)state;
    enum { COUNT = 250 };
    struct fixture_file file = {.path = "x", .bytes = content, .size = 10};
    bool seen[COUNT + 1] = {false};
    for (uint8_t i = 0; i < COUNT; i++)
        post(stage(i, 1, COUNT - (uint64_t)i, "x", &file, 1));
    for (int i = 0; i < COUNT; i++) {
        struct publish_job *job = await();
        assert_int_equal(job->outcome, PUBLISH_DELIVERED);
        assert_false(seen[job->delivery.sequence]);
        seen[job->delivery.sequence] = true;
        finish(job);
    }
    uint64_t count;
    assert_int_equal(ledger_delivered_count(ledger, &count), STATUS_OK);
    assert_int_equal(count, COUNT);
    assert_int_equal(staging_count(), 0);
}

static void what_can_not_be_published_waits(void **state)
{
    (void)state;
    struct fixture_file file = {.path = "x", .bytes = content, .size = 10};
    int fd = openat(intake.fd, "tools", O_WRONLY | O_CREAT, 0600); /* a file where the channel should be */
    close(fd);
    struct publish_facts facts;
    post(stage(1, 1, 9, "x", &file, 1));
    do {
        doorbell_arm(bell);
        doorbell_wait(bell, 1000000);
        doorbell_disarm(bell);
        publish_facts(publish, &facts);
    } while (facts.waiting == 0);
    assert_non_null(strstr(facts.problem, "tools/x"));
    assert_int_equal(unlinkat(intake.fd, "tools", 0), 0);
    struct publish_job *job = await();
    assert_int_equal(job->outcome, PUBLISH_DELIVERED);
    finish(job);
    publish_stop(publish);
    publish = NULL;
}

static void sql(const char *text)
{
    char path[128];
    sqlite3 *db;
    snprintf(path, sizeof path, "%s/receiver.db", directory);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, text, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
}

static void post_chain(uint64_t settled)
{
    static const uint8_t no_id[TRANSFER_ID_SIZE];
    struct publish_job *job = publish_job_create(PUBLISH_CHAIN, sender_id, no_id);
    job->chain = (struct ledger_chain){.sender_id = sender_id, .newest_sequence = 9, .settled_sequence = settled};
    publish_post(publish, job);
}

static void await_ledger(bool failed)
{
    struct publish_facts facts;
    do {
        doorbell_arm(bell);
        doorbell_wait(bell, 1000000);
        doorbell_disarm(bell);
        publish_facts(publish, &facts);
    } while (facts.ledger_failed != failed);
}

static void note_chain(const struct ledger_chain *chain, void *context)
{
    *(uint64_t *)context += chain->settled_sequence;
}

static void a_chain_that_the_ledger_did_not_take_is_stored_later(void **state)
{
    (void)state;
    uint64_t settled = 0;
    sql("ALTER TABLE chain RENAME TO hidden");
    post_chain(3);
    post_chain(4);
    await_ledger(true);
    sql("ALTER TABLE hidden RENAME TO chain");
    await_ledger(false);
    assert_int_equal(ledger_each_chain(ledger, note_chain, &settled), STATUS_OK);
    assert_int_equal(settled, 4);
}

static void refused_manifests_that_wait_are_counted(void **state)
{
    (void)state;
    static const uint8_t no_id[TRANSFER_ID_SIZE];
    for (int i = 0; i < 20; i++) {
        struct publish_job *job = publish_job_create(PUBLISH_QUARANTINE, sender_id, no_id);
        job->size = 1000;
        job->bytes = calloc(1, job->size);
        publish_post(publish, job);
        assert_in_range(publish_quarantine_bytes(publish), 0, 20 * 1000);
    }
    while (publish_quarantine_bytes(publish) > 0) {
        doorbell_arm(bell);
        doorbell_wait(bell, 1000000);
        doorbell_disarm(bell);
    }
}

/* The state right after the intent was recorded. */
static struct ledger_delivery interrupt(uint8_t number)
{
    struct fixture_file file = {.path = "x", .bytes = content, .size = 10};
    struct assembly *assembly = stage(number, 1, number, "x", &file, 1);
    struct tree_facts facts = {.group = getegid()};
    const char *what;
    assert_int_equal(tree_build(&intake, assembly, &facts, &what), STATUS_OK);
    struct ledger_delivery delivery = {.sender_id = sender_id, .sequence = number, .bytes = 10};
    memcpy(delivery.transfer_id, assembly->id, TRANSFER_ID_SIZE);
    snprintf(delivery.channel, sizeof delivery.channel, "tools");
    snprintf(delivery.name, sizeof delivery.name, "x");
    identity_delivered_name(number, sender_id, "x", delivery.directory);
    assert_int_equal(ledger_publishing(ledger, &delivery, 1), STATUS_OK);
    assembly_destroy(assembly);
    return delivery;
}

static bool lies_in_channel(const char *name)
{
    char path[1024];
    struct stat stat;
    snprintf(path, sizeof path, "tools/%s", name);
    return fstatat(intake.fd, path, &stat, 0) == 0;
}

static void move_tree(const struct ledger_delivery *delivery, const char *to)
{
    char name[INTAKE_STAGING_NAME_SIZE];
    intake_tree_name(delivery->sender_id, delivery->transfer_id, name);
    if (to == NULL)
        assert_int_equal(durable_remove_tree(intake.staging_fd, name), STATUS_OK);
    else
        assert_int_equal(renameat(intake.staging_fd, name, intake.fd, to), 0);
}

static void an_interrupted_delivery_comes_to_one_end(void **state)
{
    (void)state;
    char path[512];
    char staged[INTAKE_STAGING_NAME_SIZE];
    publish_stop(publish);
    publish = NULL;
    int fd;
    assert_int_equal(intake_open_channel(&intake, "tools", &fd), STATUS_OK);
    close(fd);
    struct ledger_delivery before_rename = interrupt(1);
    struct ledger_delivery after_rename = interrupt(2);
    struct ledger_delivery taken = interrupt(3);
    struct ledger_delivery wiped = interrupt(4);
    struct ledger_delivery blocked = interrupt(5);
    snprintf(path, sizeof path, "tools/%s", after_rename.directory);
    move_tree(&after_rename, path);
    move_tree(&taken, NULL);
    move_tree(&wiped, NULL);
    intake_staging_name(sender_id, wiped.transfer_id, staged);
    assert_int_equal(durable_remove_tree(intake.staging_fd, staged), STATUS_OK);
    snprintf(path, sizeof path, "tools/%s", blocked.directory);
    assert_int_equal(mkdirat(intake.fd, path, 0700), 0);
    assert_int_equal(mkdirat(intake.staging_fd, "leftover", 0700), 0);

    assert_int_equal(recover_run(&intake, ledger, NULL), STATUS_OK);
    assert_int_equal(recover_run(&intake, ledger, NULL), STATUS_OK);
    uint64_t count;
    assert_int_equal(ledger_delivered_count(ledger, &count), STATUS_OK);
    assert_int_equal(count, 4);
    assert_int_equal(ledger_knows_transfer(ledger, wiped.sender_id, wiped.transfer_id), STATUS_NOT_FOUND);
    assert_true(lies_in_channel(before_rename.directory));
    assert_true(lies_in_channel(after_rename.directory));
    assert_false(lies_in_channel(taken.directory));
    snprintf(path, sizeof path, "%.240s~2", blocked.directory);
    assert_true(lies_in_channel(path));
    assert_int_equal(staging_count(), 0);
}

static int begin(void **state)
{
    (void)state;
    char path[128];
    snprintf(directory, sizeof directory, "/tmp/diodecast-publish-XXXXXX");
    if (mkdtemp(directory) == NULL)
        return -1;
    snprintf(path, sizeof path, "%s/in", directory);
    if (mkdir(path, 0770) != 0 || intake_open(path, &intake) != STATUS_OK ||
        ledger_open(directory, &ledger) != STATUS_OK)
        return -1;
    budget = (struct assembly_budget){.memory_limit = 1 << 30, .held_limit = UINT64_MAX};
    bell = doorbell_create();
    results = mailbox_create(bell);
    return publish_start(&intake, ledger, NULL, NULL, results, &publish) == STATUS_OK ? 0 : -1;
}

static int end(void **state)
{
    (void)state;
    publish_stop(publish);
    publish = NULL;
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
    for (size_t i = 0; i < sizeof content; i++)
        content[i] = (uint8_t)(i * 2654435761u >> 13);
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
        cmocka_unit_test_setup_teardown(a_delivery_has_all_that_belongs_to_it, begin, end),
        cmocka_unit_test_setup_teardown(stock_minisign_verifies_the_manifest, begin, end),
        cmocka_unit_test_setup_teardown(damage_comes_back_chunk_by_chunk, begin, end),
        cmocka_unit_test_setup_teardown(a_taken_name_gets_a_suffix, begin, end),
        cmocka_unit_test_setup_teardown(an_older_sequence_is_late, begin, end),
        cmocka_unit_test_setup_teardown(many_at_once_are_delivered_once_each, begin, end),
        cmocka_unit_test_setup_teardown(what_can_not_be_published_waits, begin, end),
        cmocka_unit_test_setup_teardown(a_chain_that_the_ledger_did_not_take_is_stored_later, begin, end),
        cmocka_unit_test_setup_teardown(refused_manifests_that_wait_are_counted, begin, end),
        cmocka_unit_test_setup_teardown(an_interrupted_delivery_comes_to_one_end, begin, end),
    };
    return cmocka_run_group_tests(tests, make_key, drop_key);
}
