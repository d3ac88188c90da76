// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/receiver_fixture.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/durable.h"
#include "receiver/inspection.h"
#include "receiver/publish.h"

/* Transfers that are held back by a rule of the test's, through the publish stage, and what operators do with them. */

enum { SIZE = 1000 };

static char directory[64];
static struct signature_key *key;
static uint32_t sender_id;
static struct intake intake;
static struct ledger *ledger;
static struct doorbell *bell;
static struct mailbox *results;
static struct publish *publish;
static struct assembly_budget budget;
static uint8_t content[SIZE];
static _Atomic bool holding;

static bool rule(void *context, uint32_t sender, int64_t first_seen_ns, const struct manifest_reader *manifest,
                 char reason[static HELD_REASON_SIZE])
{
    assert_null(context);
    assert_int_equal(sender, sender_id);
    assert_int_equal(first_seen_ns, 77);
    snprintf(reason, HELD_REASON_SIZE, "nobody approved %.200s", manifest_reader_head(manifest)->name);
    return holding;
}

static void start(uint64_t bytes)
{
    struct held_setup hold = {.rule = rule, .bytes = bytes, .age_ns = HELD_AGE_NS};
    holding = true;
    assert_int_equal(publish_start(&intake, ledger, NULL, &hold, results, &publish), STATUS_OK);
}

static int begin(void **state)
{
    char path[128];
    (void)state;
    snprintf(directory, sizeof directory, "/tmp/diodecast-held-XXXXXX");
    if (mkdtemp(directory) == NULL || signature_init() != STATUS_OK)
        return -1;
    key = fixture_key(1);
    sender_id = signature_sender_id(signature_key_public(key));
    snprintf(path, sizeof path, "%s/in", directory);
    budget = (struct assembly_budget){.memory_limit = 1 << 20, .held_limit = UINT64_MAX};
    bell = doorbell_create();
    results = mailbox_create(bell);
    return mkdir(path, 0770) != 0 || intake_open(path, &intake) != STATUS_OK ||
           ledger_open(directory, &ledger) != STATUS_OK;
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
    signature_key_destroy(key);
    return durable_remove_tree(AT_FDCWD, directory) == STATUS_OK ? 0 : -1;
}

static void stage_write(void *context, struct assembly *assembly, uint32_t index, struct assembly_artifact *artifact,
                        uint64_t offset, const uint8_t *bytes, uint32_t size)
{
    (void)assembly, (void)index;
    artifact->placed = true;
    int fd = openat(*(int *)context, INTAKE_SMALL_NAME, O_WRONLY | O_CREAT, 0600);
    assert_int_equal(pwrite(fd, bytes, size, (off_t)offset), size);
    close(fd);
}

static void no_reset(void *context, struct assembly *assembly, uint32_t index, struct assembly_artifact *artifact)
{
    (void)context, (void)assembly, (void)index, (void)artifact;
}

static struct assembly *stage(uint8_t number, uint64_t sequence, const char *name)
{
    const struct fixture_file file = {.path = name, .bytes = content, .size = SIZE};
    uint8_t id[TRANSFER_ID_SIZE];
    char staged[INTAKE_STAGING_NAME_SIZE], reason[256];
    fixture_id(number, id);
    struct assembly *assembly = assembly_create(id, sender_id, &budget, 1);
    assembly->first_seen_ns = 77;
    intake_staging_name(sender_id, id, staged);
    assert_int_equal(mkdirat(intake.staging_fd, staged, 0700), 0);
    int fd = openat(intake.staging_fd, staged, O_RDONLY | O_DIRECTORY);
    struct frame_data data = {.transfer_id = id, .artifact_size = SIZE, .bytes = content, .size = SIZE};
    assert_int_equal(assembly_data(assembly, &data, 1, stage_write, &fd), ASSEMBLY_NEW);
    close(fd);
    size_t size;
    uint8_t *bytes = fixture_manifest(key, id, sequence, name, &file, 1, &size);
    struct signed_message message;
    struct manifest_reader *reader;
    assert_int_equal(signed_decode(bytes, size, LIMIT_MANIFEST_SIZE, &message), STATUS_OK);
    assert_int_equal(manifest_reader_create(message.body, message.body_size, &reader, reason), STATUS_OK);
    assert_true(assembly_bind(assembly, &message, reader, 1, no_reset, NULL));
    free(bytes);
    return assembly;
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

/* Publishes a transfer; gives what became of it, and where it lies below the intake. */
static enum publish_outcome put(uint8_t number, uint64_t sequence, const char *name, char place[static 300])
{
    struct assembly *assembly = stage(number, sequence, name);
    struct publish_job *job = publish_job_create(PUBLISH_TRANSFER, sender_id, assembly->id);
    job->assembly = assembly;
    publish_post(publish, job);
    job = await();
    enum publish_outcome outcome = job->outcome;
    snprintf(place, 300, "%s/%s", outcome == PUBLISH_HELD ? ".quarantine" : "tools",
             outcome == PUBLISH_HELD ? job->held->place : job->delivery.directory);
    assembly_destroy(assembly);
    publish_job_destroy(job);
    return outcome;
}

static bool is_there(const char *place, const char *file, mode_t *mode)
{
    char path[512];
    struct stat stat;
    snprintf(path, sizeof path, "%s/in/%s/%s", directory, place, file);
    if (lstat(path, &stat) != 0)
        return false;
    if (mode != NULL)
        *mode = stat.st_mode & 07777;
    return true;
}

static char *read_text(const char *place, const char *file)
{
    char path[512], *bytes;
    size_t size;
    snprintf(path, sizeof path, "%s/in/%s/%s", directory, place, file);
    assert_int_equal(durable_read_file(AT_FDCWD, path, 1 << 20, &bytes, &size), STATUS_OK);
    return bytes;
}

static void on_done(struct errand *errand)
{
    (void)errand;
}

/* Asks through the stage; the answer. */
static json_t *ask(enum request_action action, const char *name)
{
    static const uint8_t no_id[TRANSFER_ID_SIZE];
    struct request request = {.kind = REQUEST_QUARANTINE, .action = action, .requester = "alice"};
    if (name != NULL) {
        request.names = calloc(1, sizeof *request.names);
        request.names[0] = strdup(strrchr(name, '/') != NULL ? strrchr(name, '/') + 1 : name);
        request.name_count = 1;
    }
    struct inspection *inspection = inspection_create(&request);
    struct publish_job *job = publish_job_create(PUBLISH_INSPECTION, 0, no_id);
    inspection->errand.done = on_done;
    job->inspection = inspection;
    publish_post(publish, job);
    job = await();
    assert_true(inspection->errand.decided);
    char *text = inspection_answer(inspection);
    json_t *answer = json_loads(text, 0, NULL);
    free(text);
    inspection_destroy(inspection);
    publish_job_destroy(job);
    return answer;
}

static bool is_accepted(json_t *answer)
{
    bool accepted = json_is_true(json_object_get(answer, "accepted"));
    json_decref(answer);
    return accepted;
}

/* A text of the answer's first item. */
static void expect_item(json_t *answer, const char *item_key, const char *part)
{
    const json_t *item = json_array_get(json_object_get(answer, "items"), 0);
    const char *text = json_string_value(json_object_get(item, item_key));
    if (text == NULL || strstr(text, part) == NULL)
        fail_msg("%s is %s, not %s", item_key, text == NULL ? "missing" : text, part);
    json_decref(answer);
}

static struct ledger_held_totals totals(void)
{
    struct ledger_held_totals found;
    assert_int_equal(ledger_held_totals(ledger, &found), STATUS_OK);
    return found;
}

static bool is_known(uint8_t number)
{
    uint8_t id[TRANSFER_ID_SIZE];
    fixture_id(number, id);
    return ledger_knows_transfer(ledger, sender_id, id) == STATUS_OK;
}

static void what_is_held_lies_whole_in_the_quarantine_with_its_reason(void **state)
{
    (void)state;
    char place[300], payload[16];
    mode_t mode = 0;
    start(HELD_BYTES);
    assert_int_equal(put(1, 5, "one", place), PUBLISH_HELD);
    snprintf(payload, sizeof payload, "payload/one");
    assert_true(is_there(place, payload, NULL));
    assert_true(is_there(place, "manifest.pb.minisig", NULL));
    assert_true(is_there(".quarantine", "", &mode));
    assert_int_equal(mode, 0700);
    char *text = read_text(place, "reason");
    assert_string_equal(text, "nobody approved one\n");
    free(text);
    assert_false(is_there("tools", "", NULL)); /* its channel is not made for it */
    assert_true(is_known(1));
    assert_int_equal(totals().whole_count, 1);
    expect_item(ask(REQUEST_LIST, NULL), "reason", "nobody approved one");
    expect_item(ask(REQUEST_SHOW, place), "path", place);
    holding = false;
    assert_int_equal(put(2, 6, "two", place), PUBLISH_DELIVERED);
}

static void what_may_be_delivered_now_is_by_a_recheck_and_once(void **state)
{
    (void)state;
    char place[300], newer[300], name[IDENTITY_DELIVERED_NAME_SIZE], delivered[300];
    uint64_t count;
    start(HELD_BYTES);
    assert_int_equal(put(1, 5, "one", place), PUBLISH_HELD);
    expect_item(ask(REQUEST_RECHECK, place), "message", "stays held back: nobody approved one");
    assert_true(is_there(place, "payload/one", NULL));
    holding = false;
    assert_int_equal(put(2, 6, "two", newer), PUBLISH_DELIVERED);
    expect_item(ask(REQUEST_RECHECK, NULL), "message", "delivered");
    identity_delivered_name(5, sender_id, "one", name);
    snprintf(delivered, sizeof delivered, "tools/%s", name);
    assert_true(is_there(delivered, "payload/one", NULL));
    assert_false(is_there(delivered, "reason", NULL));
    assert_false(is_there(place, "", NULL));
    char *text = read_text(delivered, "manifest.json");
    json_t *json = json_loads(text, 0, NULL);
    assert_true(json_is_true(json_object_get(json, "late")));
    assert_int_equal(json_array_size(json_object_get(json, "entries")), 1);
    json_decref(json);
    free(text);
    assert_int_equal(ledger_delivered_count(ledger, &count), STATUS_OK);
    assert_int_equal(count, 2);
    assert_int_equal(totals().count, 0);
    assert_false(is_accepted(ask(REQUEST_RECHECK, place)));
}

static void what_is_discarded_is_gone_and_never_received_again(void **state)
{
    (void)state;
    char place[300];
    start(HELD_BYTES);
    assert_int_equal(put(1, 5, "one", place), PUBLISH_HELD);
    assert_true(is_accepted(ask(REQUEST_DISCARD, place)));
    assert_false(is_there(place, "", NULL));
    assert_int_equal(totals().count, 0);
    assert_true(is_known(1));
    assert_false(is_accepted(ask(REQUEST_DISCARD, place)));
    assert_false(is_accepted(ask(REQUEST_DISCARD, "no-such-name")));
}

static void where_the_bytes_are_used_up_only_the_manifest_is_kept(void **state)
{
    (void)state;
    char place[300];
    start(SIZE + SIZE / 2 + 500);
    assert_int_equal(put(1, 5, "one", place), PUBLISH_HELD);
    assert_true(is_there(place, "payload", NULL));
    assert_int_equal(put(2, 6, "two", place), PUBLISH_HELD);
    assert_false(is_there(place, "payload", NULL));
    assert_true(is_there(place, "manifest.pb", NULL));
    char *text = read_text(place, "reason");
    assert_non_null(strstr(text, "only its manifest was kept"));
    free(text);
    assert_int_equal(totals().whole_count, 1);
    assert_int_equal(totals().manifest_count, 1);
    holding = false;
    expect_item(ask(REQUEST_RECHECK, place), "message", "its data was not kept");
}

static void a_manifest_that_was_changed_is_not_released(void **state)
{
    (void)state;
    char place[300], other[300], path[512], other_path[512];
    start(HELD_BYTES);
    assert_int_equal(put(1, 5, "one", place), PUBLISH_HELD);
    assert_int_equal(put(2, 6, "two", other), PUBLISH_HELD);
    snprintf(path, sizeof path, "%s/in/%s/manifest.pb", directory, place);
    snprintf(other_path, sizeof other_path, "%s/in/%s/manifest.pb", directory, other);
    holding = false;
    assert_int_equal(rename(other_path, path), 0); /* a good one, of something else */
    expect_item(ask(REQUEST_RECHECK, place), "message", "is not what was held back");
    assert_int_equal(truncate(path, 40), 0);
    expect_item(ask(REQUEST_RECHECK, place), "message", "is not what was held back");
    expect_item(ask(REQUEST_RECHECK, other), "message", "can't be read");
    assert_int_equal(totals().count, 2);
}

static void only_age_ends_what_is_held(void **state)
{
    (void)state;
    char place[300], other[300];
    start(HELD_BYTES);
    assert_int_equal(put(1, 5, "one", place), PUBLISH_HELD);
    assert_int_equal(put(2, 6, "two", other), PUBLISH_HELD);
    publish_stop(publish);
    publish = NULL;
    struct held_setup setup = {.bytes = 1, .age_ns = 3600 * CLOCK_SECOND_NS};
    struct held *held = held_create(&intake, ledger, NULL, &setup);
    uint64_t now_ns = clock_monotonic_ns();
    held_tick(held, now_ns + 3500 * CLOCK_SECOND_NS);
    assert_int_equal(totals().count, 2);
    held_tick(held, now_ns + 3700 * CLOCK_SECOND_NS);
    assert_int_equal(totals().count, 0);
    assert_int_equal(held_facts(held)->totals.count, 0);
    assert_false(is_there(place, "", NULL));
    assert_false(is_there(other, "", NULL));
    assert_true(is_known(1));
    held_destroy(held);
}

static void what_somebody_took_away_counts_as_discarded(void **state)
{
    (void)state;
    char place[300], path[512];
    start(HELD_BYTES);
    assert_int_equal(put(1, 5, "one", place), PUBLISH_HELD);
    publish_stop(publish);
    publish = NULL;
    snprintf(path, sizeof path, "%s/in/%s", directory, place);
    assert_int_equal(durable_remove_tree(AT_FDCWD, path), STATUS_OK);
    struct held *held = held_create(&intake, ledger, NULL, NULL);
    assert_int_equal(held_facts(held)->listed, 1);
    held_tick(held, clock_monotonic_ns());
    assert_int_equal(held_facts(held)->totals.count, 0);
    held_destroy(held);
}

static void refused_manifests_are_listed_and_discarded_too(void **state)
{
    (void)state;
    uint8_t id[TRANSFER_ID_SIZE];
    start(HELD_BYTES);
    fixture_id(9, id);
    struct publish_job *job = publish_job_create(PUBLISH_QUARANTINE, sender_id, id);
    job->bytes = malloc(3);
    memcpy(job->bytes, "abc", 3);
    job->size = 3;
    snprintf(job->reason, sizeof job->reason, "is not a signed message");
    publish_post(publish, job);
    json_t *answer = ask(REQUEST_LIST, NULL);
    char name[256];
    snprintf(name, sizeof name, "%s",
             json_string_value(json_object_get(json_array_get(json_object_get(answer, "items"), 0), "name")));
    expect_item(answer, "reason", "the manifest is not a signed message");
    expect_item(ask(REQUEST_RECHECK, name), "message", "nothing to deliver");
    assert_true(is_accepted(ask(REQUEST_DISCARD, name)));
    assert_false(is_there(".quarantine", name, NULL));
}

int main(void)
{
#define test(name) cmocka_unit_test_setup_teardown(name, begin, end)
    const struct CMUnitTest tests[] = {
        test(what_is_held_lies_whole_in_the_quarantine_with_its_reason),
        test(what_may_be_delivered_now_is_by_a_recheck_and_once),
        test(what_is_discarded_is_gone_and_never_received_again),
        test(where_the_bytes_are_used_up_only_the_manifest_is_kept),
        test(a_manifest_that_was_changed_is_not_released),
        test(only_age_ends_what_is_held),
        test(what_somebody_took_away_counts_as_discarded),
        test(refused_manifests_are_listed_and_discarded_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
