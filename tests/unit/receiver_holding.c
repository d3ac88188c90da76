// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/receiver_fixture.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/audit_format.h"
#include "common/durable.h"
#include "receiver/delivery.h"
#include "receiver/describe.h"
#include "receiver/ledger.h"
#include "receiver/recover.h"
#include "receiver/release.h"
#include "receiver/tree.h"

/*
 * A transfer is held back and released, and the program is killed, or meets errors and is then killed, at each of the
 * steps. Whatever happens, after the next start it is held, delivered, or unknown to ledger and disk; never two of
 * these.
 */

enum { KILLED = 42, NEVER = -1, TRIES = 3 };

static struct {
    int step;
    int fail; /* this step fails */
    int kill; /* the process ends in front of this step */
} plan;

/* Counts a step; true when it is to fail. */
static bool fails(void)
{
    int step = plan.step++;
    if (step == plan.kill)
        _exit(KILLED);
    if (step == plan.fail)
        errno = ENOSPC;
    return step == plan.fail;
}

#define STEP(call)                                (fails() ? STATUS_NO_SPACE : (call))
#define STEP_INTEGER(call)                        (fails() ? -1 : (call))
#define renameat2(a, b, c, d, e)                  STEP_INTEGER(renameat2(a, b, c, d, e))
#define renameat(a, b, c, d)                      STEP_INTEGER(renameat(a, b, c, d))
#define unlinkat(a, b, c)                         STEP_INTEGER(unlinkat(a, b, c))
#define tree_build(intake, assembly, facts, what) STEP(tree_build(intake, assembly, facts, what))
#define tree_flush(intake, assembly, form, ring)  STEP(STATUS_OK)
#define describe_again(fd, late, at_ns)           STEP(describe_again(fd, late, at_ns))
#define ledger_holding(ledger, held)              STEP(ledger_holding(ledger, held))
#define ledger_releasing(ledger, held)            STEP(ledger_releasing(ledger, held))
#define ledger_publish_failed(ledger, sender, id) STEP(ledger_publish_failed(ledger, sender, id))
#define ledger_delivered(ledger, keys, n)         STEP(ledger_delivered(ledger, keys, n))
#define durable_sync_directory(fd, name)          STEP(durable_sync_directory(fd, name))
#define durable_rename(a, b, c, d)                STEP(durable_rename(a, b, c, d))
#define audit_record(audit, entries, n)           STEP(audit_record(audit, entries, n))
#include "receiver/delivery.c"
#undef CHANNELS
#define exists      release_exists
#define choose_name release_choose_name
#include "receiver/release.c"
#undef exists
#undef renameat2
#undef renameat
#undef unlinkat
#undef durable_sync_directory
#undef durable_rename
#undef tree_build

static char directory[64];
static struct signature_key *key;
static uint32_t sender_id;
static uint8_t id[TRANSFER_ID_SIZE];
static enum ledger_kept keeping;
static const uint8_t content[] = "content";

static void in_directory(const char *name, char path[static 128])
{
    snprintf(path, 128, "%s/%s", directory, name);
}

static void write_staged(void *context, struct assembly *assembly, uint32_t index, struct assembly_artifact *artifact,
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

static struct assembly *stage(const struct intake *intake, struct assembly_budget *budget)
{
    static const struct fixture_file file = {.path = "x", .bytes = content, .size = sizeof content};
    char name[INTAKE_STAGING_NAME_SIZE], reason[256];
    struct assembly *assembly = assembly_create(id, sender_id, budget, 1);
    intake_staging_name(sender_id, id, name);
    assert_int_equal(mkdirat(intake->staging_fd, name, 0700), 0);
    int fd = openat(intake->staging_fd, name, O_RDONLY | O_DIRECTORY);
    struct frame_data data = {
        .transfer_id = id, .artifact_size = sizeof content, .bytes = content, .size = sizeof content};
    assert_int_equal(assembly_data(assembly, &data, 1, write_staged, &fd), ASSEMBLY_NEW);
    close(fd);
    size_t size;
    uint8_t *bytes = fixture_manifest(key, id, 7, "x", &file, 1, &size);
    struct signed_message message;
    struct manifest_reader *reader;
    assert_int_equal(signed_decode(bytes, size, LIMIT_MANIFEST_SIZE, &message), STATUS_OK);
    assert_int_equal(manifest_reader_create(message.body, message.body_size, &reader, reason), STATUS_OK);
    assert_true(assembly_bind(assembly, &message, reader, 1, no_reset, NULL));
    free(bytes);
    return assembly;
}

static void fell(void *context, struct publish_job *job, enum delivery_trouble trouble, enum status status,
                 const char *what)
{
    (void)job, (void)status, (void)what;
    *(enum delivery_trouble *)context = trouble;
}

static bool hold(const struct intake *intake, struct ledger *ledger, struct audit *audit)
{
    struct assembly_budget budget = {.memory_limit = 1 << 20, .held_limit = UINT64_MAX};
    struct delivery *delivery = delivery_create(intake, ledger, audit);
    struct publish_job job = {.kind = PUBLISH_TRANSFER, .sender_id = sender_id, .assembly = stage(intake, &budget)};
    job.held = calloc(1, sizeof *job.held);
    *job.held = (struct ledger_held){.state = LEDGER_HELD, .kept = keeping, .since_ns = 5, .first_seen_ns = 6};
    snprintf(job.held->reason, sizeof job.held->reason, "nobody approved it");
    memcpy(job.id, id, sizeof id);
    size_t done = 0;
    enum delivery_trouble trouble = DELIVERY_WAIT;
    for (int i = 0; i < TRIES && done == 0 && trouble != DELIVERY_LOST; i++) {
        struct publish_job *batch[] = {&job};
        done = delivery_run(delivery, batch, 1, fell, &trouble);
    }
    if (done == 1)
        delivery_clear_staging(delivery, &job);
    return done == 1;
}

static bool copy_row(const struct ledger_held *held, void *context)
{
    *(struct ledger_held *)context = *held;
    return true;
}

static void release(const struct intake *intake, struct ledger *ledger, struct audit *audit)
{
    struct ledger_held row = {.state = 0};
    bool attested = false;
    assert_int_equal(ledger_each_held(ledger, copy_row, &row), STATUS_OK);
    assert_int_equal(row.state, LEDGER_HELD);
    if (row.kept != LEDGER_KEPT_ALL)
        return;
    enum status status = STATUS_SYSTEM;
    for (int i = 0; i < TRIES && status != STATUS_OK; i++) {
        status = row.state == LEDGER_HELD ? release_begin(intake, ledger, audit, &row, "alice") : STATUS_OK;
        if (status == STATUS_OK)
            status = release_finish(intake, ledger, audit, &row, &attested);
    }
}

/* The life of a receiver, up to where the plan kills it. */
static void live(void)
{
    char path[128];
    struct intake intake;
    struct ledger *ledger;
    struct audit *audit;
    in_directory("in", path);
    if (intake_open(path, &intake) != STATUS_OK || ledger_open(directory, &ledger) != STATUS_OK ||
        audit_open(directory, "high", &audit) != STATUS_OK)
        _exit(1);
    if (hold(&intake, ledger, audit))
        release(&intake, ledger, audit);
    (void)fails();
    audit_close(audit);
}

/* Runs the plan in a process of its own; whether it was killed. */
static bool run_plan(void)
{
    int status;
    pid_t child = fork();
    if (child == 0) {
        live();
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_true(WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == KILLED);
    return WEXITSTATUS(status) == KILLED;
}

/* The name of the only entry of a directory that does not begin with a dot; false when there is none. */
static bool only_entry(const char *name, char entry[static 256])
{
    char path[128];
    unsigned count = 0;
    in_directory(name, path);
    DIR *list = opendir(path);
    for (struct dirent *next; list != NULL && (next = readdir(list)) != NULL;)
        if (next->d_name[0] != '.') {
            snprintf(entry, 256, "%s", next->d_name);
            count++;
        }
    if (list != NULL)
        closedir(list);
    assert_in_range(count, 0, 1);
    return count == 1;
}

static bool is_there(const char *parent, const char *entry, const char *file)
{
    char path[512];
    struct stat stat;
    snprintf(path, sizeof path, "%s/in/%s/%s/%s", directory, parent, entry, file);
    return lstat(path, &stat) == 0;
}

static unsigned count_recorded(enum audit_event event)
{
    static struct audit_record record;
    char path[128], *bytes;
    size_t size;
    unsigned count = 0;
    in_directory("audit/audit-00000001.jsonl", path);
    assert_int_equal(durable_read_file(AT_FDCWD, path, 1 << 20, &bytes, &size), STATUS_OK);
    for (char *at = bytes, *newline; (newline = strchr(at, '\n')) != NULL; at = newline + 1) {
        assert_true(audit_parse(at, (size_t)(newline + 1 - at), &record));
        count += record.event == event;
    }
    free(bytes);
    return count;
}

static void expect_held(const struct ledger_held *row, bool in_quarantine, const char *entry)
{
    assert_int_equal(row->state, LEDGER_HELD);
    assert_int_equal(row->kept, keeping);
    assert_int_equal(row->first_seen_ns, 6);
    assert_int_equal(count_recorded(AUDIT_HELD), 1);
    assert_int_equal(in_quarantine, keeping != LEDGER_KEPT_NOTHING);
    if (!in_quarantine)
        return;
    assert_string_equal(entry, row->place);
    assert_true(is_there(".quarantine", entry, "manifest.pb.minisig"));
    assert_int_equal(is_there(".quarantine", entry, "payload/x"), keeping == LEDGER_KEPT_ALL);
}

/* Starts the receiver anew and looks at what there is. */
static void expect_one_end(bool was_killed)
{
    char path[128], held_entry[256], delivered_entry[256];
    struct intake intake;
    struct ledger *ledger;
    struct audit *audit;
    struct ledger_held row = {.state = 0};
    uint64_t delivered;
    in_directory("in", path);
    assert_int_equal(intake_open(path, &intake), STATUS_OK);
    assert_int_equal(ledger_open(directory, &ledger), STATUS_OK);
    assert_int_equal(audit_open(directory, "high", &audit), STATUS_OK);
    plan.kill = plan.fail = NEVER;
    assert_int_equal(recover_run(&intake, ledger, audit), STATUS_OK);
    audit_close(audit);
    assert_int_equal(ledger_each_held(ledger, copy_row, &row), STATUS_OK);
    assert_int_equal(ledger_delivered_count(ledger, &delivered), STATUS_OK);
    bool in_quarantine = only_entry("in/.quarantine", held_entry);
    bool in_channel = only_entry("in/tools", delivered_entry);
    bool is_held = row.state != 0;
    assert_int_equal(in_channel, delivered == 1);
    assert_in_range(delivered + is_held, 0, 1);
    assert_true(was_killed || delivered + is_held == 1);
    assert_int_equal(ledger_knows_transfer(ledger, sender_id, id),
                     delivered + is_held == 1 ? STATUS_OK : STATUS_NOT_FOUND);
    assert_int_equal(count_recorded(AUDIT_DELIVERED), delivered);
    if (is_held)
        expect_held(&row, in_quarantine, held_entry);
    else
        assert_false(in_quarantine);
    if (delivered == 1) {
        assert_true(is_there("tools", delivered_entry, "payload/x"));
        assert_false(is_there("tools", delivered_entry, "reason"));
        assert_true(is_there("tools", delivered_entry, "manifest.json"));
        assert_int_equal(count_recorded(AUDIT_RELEASED) > 0, true);
    }
    assert_false(only_entry("in/.staging", held_entry));
    ledger_close(ledger);
    intake_close(&intake);
}

static bool try_plan(int fail, int kill)
{
    char path[128];
    snprintf(directory, sizeof directory, "%s/diodecast-holding-XXXXXX",
             access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    assert_non_null(mkdtemp(directory));
    in_directory("in", path);
    assert_int_equal(mkdir(path, 0770), 0);
    plan.step = 0;
    plan.fail = fail;
    plan.kill = kill;
    bool killed = run_plan();
    expect_one_end(killed || fail != NEVER);
    assert_int_equal(durable_remove_tree(AT_FDCWD, directory), STATUS_OK);
    return killed;
}

static void kill_everywhere(enum ledger_kept kept, int least)
{
    int kill = 0;
    keeping = kept;
    while (try_plan(NEVER, kill))
        kill++;
    assert_in_range(kill, least, 60);
}

static void a_kill_at_any_step_ends_in_the_quarantine_or_in_the_channel(void **state)
{
    (void)state;
    kill_everywhere(LEDGER_KEPT_ALL, 15);
}

static void a_kill_at_any_step_leaves_one_manifest_or_none(void **state)
{
    (void)state;
    kill_everywhere(LEDGER_KEPT_MANIFEST, 8);
    kill_everywhere(LEDGER_KEPT_NOTHING, 5);
}

static void an_error_and_then_a_kill_end_in_one_place(void **state)
{
    (void)state;
    keeping = LEDGER_KEPT_ALL;
    for (int fail = 0; fail < 24; fail++)
        for (int kill = fail + 1; kill < fail + 8 && try_plan(fail, kill); kill++)
            continue;
}

static int make_key(void **state)
{
    (void)state;
    if (signature_init() != STATUS_OK)
        return -1;
    key = fixture_key(1);
    sender_id = signature_sender_id(signature_key_public(key));
    fixture_id(1, id);
    log_open("test", (enum log_level)0);
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
        cmocka_unit_test(a_kill_at_any_step_ends_in_the_quarantine_or_in_the_channel),
        cmocka_unit_test(a_kill_at_any_step_leaves_one_manifest_or_none),
        cmocka_unit_test(an_error_and_then_a_kill_end_in_one_place),
    };
    return cmocka_run_group_tests(tests, make_key, drop_key);
}
