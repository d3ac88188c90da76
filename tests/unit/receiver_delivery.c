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
#include "receiver/ledger.h"
#include "receiver/recover.h"
#include "receiver/tree.h"

/*
 * A delivery is killed, or meets errors and is then killed, at each of its steps; a consumer takes what appears at
 * once. Whatever happens, recovery ends in exactly one delivery, or in none that the ledger knows of.
 */

enum { STEPS = 40, KILLED = 42, RUNS = 3, NEVER = -1 };

/* What happens at which step, counted over all runs. */
static struct {
    int step;
    int fail_first, fail_last; /* these steps fail */
    bool done_anyway;          /* …after their work was done, as when only the answer got lost */
    int kill;                  /* the process ends in front of this step */
} plan;

/* Counts a step; true when it is to fail. */
static bool fails(void)
{
    int step = plan.step++;
    if (step == plan.kill)
        _exit(KILLED);
    return step >= plan.fail_first && step <= plan.fail_last;
}

static enum status outcome(bool failing, enum status status)
{
    if (!failing)
        return status;
    errno = ENOSPC;
    return STATUS_NO_SPACE;
}

#define STEP(call)                                                                   \
    __extension__({                                                                  \
        bool failing_ = fails();                                                     \
        outcome(failing_, failing_ && !plan.done_anyway ? STATUS_NO_SPACE : (call)); \
    })

static bool has_many_files;
static unsigned flushed_files, flushed_systems;
static int flush_error; /* of syncfs */

static int step_renameat2(int from_fd, const char *from, int to_fd, const char *to, unsigned flags);

static enum status step_build(const struct intake *intake, struct assembly *assembly, const struct tree_facts *facts,
                              const char **what)
{
    /* It removes the leftover of an earlier try first; a kill may come right behind that. */
    if (plan.step + 1 == plan.kill)
        tree_remove(intake, assembly->sender_id, assembly->id);
    if (fails())
        return STATUS_NO_SPACE;
    return fails() ? STATUS_NO_SPACE : tree_build(intake, assembly, facts, what);
}

#define tree_build                                step_build
#define tree_flush(intake, assembly, form, ring)  (flushed_files++, STEP(STATUS_OK))
#define tree_file_count(assembly)                 (has_many_files ? SYNCFS_ABOVE + 1 : tree_file_count(assembly))
#define syncfs(fd)                                (flushed_systems++, (errno = flush_error) != 0 ? -1 : 0)
#define renameat2                                 step_renameat2
#define ledger_publishing(ledger, list, n)        STEP(ledger_publishing(ledger, list, n))
#define ledger_publish_failed(ledger, sender, id) STEP(ledger_publish_failed(ledger, sender, id))
#define ledger_delivered(ledger, keys, n)         STEP(ledger_delivered(ledger, keys, n))
#define durable_sync_directory(fd, name)          STEP(durable_sync_directory(fd, name))
/* What it did not confirm does not count, so there is no "done anyway". */
#define audit_record(audit, entries, n) (fails() ? outcome(true, STATUS_OK) : audit_record(audit, entries, n))
#include "receiver/delivery.c"
#undef tree_build
#undef tree_file_count
#undef renameat2

static char directory[64];
static struct signature_key *key;
static uint32_t sender_id;
static uint8_t id[TRANSFER_ID_SIZE];
static const uint8_t content[] = "content";

static void in_directory(const char *name, char path[static 128])
{
    snprintf(path, 128, "%s/%s", directory, name);
}

/* The consumer takes the delivery in the same moment. */
static int step_renameat2(int from_fd, const char *from, int to_fd, const char *to, unsigned flags)
{
    char taken[128];
    if (fails()) {
        errno = EIO;
        return -1;
    }
    if (renameat2(from_fd, from, to_fd, to, flags) != 0)
        return -1;
    in_directory("taken", taken);
    assert_int_equal(renameat2(to_fd, to, AT_FDCWD, taken, RENAME_NOREPLACE), 0);
    return 0;
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

/* The life of a receiver, up to where the plan kills it; the number of steps that it came to. */
static int live(void)
{
    char path[128];
    struct intake intake;
    struct ledger *ledger;
    struct audit *audit;
    struct assembly_budget budget = {.memory_limit = 1 << 20, .held_limit = UINT64_MAX};
    in_directory("in", path);
    if (intake_open(path, &intake) != STATUS_OK || ledger_open(directory, &ledger) != STATUS_OK ||
        audit_open(directory, "high", &audit) != STATUS_OK)
        _exit(1);
    struct delivery *delivery = delivery_create(&intake, ledger, audit);
    struct publish_job job = {.kind = PUBLISH_TRANSFER, .sender_id = sender_id, .assembly = stage(&intake, &budget)};
    memcpy(job.id, id, sizeof id);
    size_t delivered = 0;
    enum delivery_trouble trouble = DELIVERY_WAIT;
    for (int i = 0; i < RUNS && delivered == 0 && trouble != DELIVERY_LOST; i++) {
        struct publish_job *batch[] = {&job};
        delivered = delivery_run(delivery, batch, 1, fell, &trouble);
    }
    if (delivered == 1)
        delivery_clear_staging(delivery, &job);
    (void)fails();
    return plan.step;
}

/* Runs the plan in a process of its own; whether it was killed. */
static bool run_plan(void)
{
    int status;
    pid_t child = fork();
    if (child == 0) {
        (void)live();
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_true(WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == KILLED);
    return WEXITSTATUS(status) == KILLED;
}

static unsigned entries(const char *name)
{
    char path[128];
    unsigned count = 0;
    in_directory(name, path);
    DIR *list = opendir(path);
    for (struct dirent *entry; list != NULL && (entry = readdir(list)) != NULL;)
        count += entry->d_name[0] != '.';
    if (list != NULL)
        closedir(list);
    return count;
}

static bool is_whole(const char *payload_parent)
{
    char path[256];
    struct stat stat;
    snprintf(path, sizeof path, "%s/payload/x", payload_parent);
    if (lstat(path, &stat) != 0 || stat.st_size != sizeof content)
        return false;
    snprintf(path, sizeof path, "%s/manifest.pb.minisig", payload_parent);
    return lstat(path, &stat) == 0;
}

/* How often the audit log says so; it must verify. */
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

/* Starts the receiver anew and looks at what there is. */
static void expect_one_end(void)
{
    char path[128];
    struct intake intake;
    struct ledger *ledger;
    struct audit *audit;
    struct stat stat;
    uint64_t recorded;
    in_directory("in", path);
    assert_int_equal(intake_open(path, &intake), STATUS_OK);
    assert_int_equal(ledger_open(directory, &ledger), STATUS_OK);
    assert_int_equal(audit_open(directory, "high", &audit), STATUS_OK);
    assert_int_equal(recover_run(&intake, ledger, audit), STATUS_OK);
    audit_close(audit);
    in_directory("taken", path);
    bool taken = lstat(path, &stat) == 0;
    unsigned visible = entries("in/tools");
    assert_int_equal(ledger_delivered_count(ledger, &recorded), STATUS_OK);
    if (recorded != taken + visible || recorded > 1)
        fail_msg("fail %d to %d%s, kill at %d: %u recorded, %u visible, %d taken", plan.fail_first, plan.fail_last,
                 plan.done_anyway ? " when done" : "", plan.kill, (unsigned)recorded, visible, taken);
    assert_int_equal(ledger_knows_transfer(ledger, sender_id, id), recorded == 1 ? STATUS_OK : STATUS_NOT_FOUND);
    assert_int_equal(entries("in/.staging"), 0);
    assert_int_equal(count_recorded(AUDIT_DELIVERED), recorded);
    assert_true(recorded == 0 || count_recorded(AUDIT_VERIFIED) > 0);
    if (taken)
        assert_true(is_whole(path));
    if (visible == 1) {
        char name[IDENTITY_DELIVERED_NAME_SIZE];
        identity_delivered_name(7, sender_id, "x", name);
        char whole[512];
        snprintf(whole, sizeof whole, "%s/in/tools/%s", directory, name);
        assert_true(is_whole(whole));
    }
    ledger_close(ledger);
    intake_close(&intake);
}

static void begin(void)
{
    char path[128];
    snprintf(directory, sizeof directory, "%s/diodecast-delivery-XXXXXX",
             access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    assert_non_null(mkdtemp(directory));
    in_directory("in", path);
    assert_int_equal(mkdir(path, 0770), 0);
}

static void end(void)
{
    assert_int_equal(durable_remove_tree(AT_FDCWD, directory), STATUS_OK);
}

static bool try_plan(int fail_first, int fail_last, bool done_anyway, int kill)
{
    begin();
    plan.step = 0;
    plan.fail_first = fail_first;
    plan.fail_last = fail_last;
    plan.done_anyway = done_anyway;
    plan.kill = kill;
    bool killed = run_plan();
    expect_one_end();
    end();
    return killed;
}

static void a_kill_at_any_step_ends_in_one_delivery_or_none(void **state)
{
    (void)state;
    int kill = 0;
    while (try_plan(NEVER, NEVER, false, kill))
        kill++;
    assert_in_range(kill, 8, STEPS);
}

static void errors_and_then_a_kill_end_in_one_delivery_or_none(void **state)
{
    (void)state;
    for (int done_anyway = 0; done_anyway < 2; done_anyway++)
        for (int first = 0; first < 16; first++)
            for (int last = first; last < first + 2; last++)
                for (int kill = last + 1; kill < last + 6 && try_plan(first, last, done_anyway, kill); kill++)
                    continue;
}

/* syncfs(2) tells each error once: the file that it was of may be in a later batch. */
static void after_an_error_of_the_file_system_each_file_is_asked(void **state)
{
    (void)state;
    char path[128];
    for (unsigned failing = 0; failing < 2; failing++) {
        struct intake intake;
        struct ledger *ledger;
        struct assembly_budget budget = {.memory_limit = 1 << 20, .held_limit = UINT64_MAX};
        enum delivery_trouble trouble = DELIVERY_WAIT;
        begin();
        plan.fail_first = plan.fail_last = plan.kill = NEVER;
        has_many_files = true;
        flushed_files = flushed_systems = 0;
        in_directory("in", path);
        assert_int_equal(intake_open(path, &intake), STATUS_OK);
        assert_int_equal(ledger_open(directory, &ledger), STATUS_OK);
        struct delivery *delivery = delivery_create(&intake, ledger, NULL);
        struct publish_job job = {
            .kind = PUBLISH_TRANSFER, .sender_id = sender_id, .assembly = stage(&intake, &budget)};
        struct publish_job *batch[] = {&job};
        memcpy(job.id, id, sizeof id);
        if (failing > 0) {
            flush_error = EIO;
            assert_int_equal(delivery_run(delivery, batch, 1, fell, &trouble), 0);
            assert_int_equal(trouble, DELIVERY_LOST);
        }
        flush_error = 0;
        assert_int_equal(delivery_run(delivery, batch, 1, fell, &trouble), 1);
        assert_int_equal(flushed_systems, 1 + failing);
        assert_int_equal(flushed_files, failing);
        has_many_files = false;
        assembly_destroy(job.assembly);
        delivery_destroy(delivery);
        ledger_close(ledger);
        intake_close(&intake);
        end();
    }
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
        cmocka_unit_test(a_kill_at_any_step_ends_in_one_delivery_or_none),
        cmocka_unit_test(after_an_error_of_the_file_system_each_file_is_asked),
        cmocka_unit_test(errors_and_then_a_kill_end_in_one_delivery_or_none),
    };
    return cmocka_run_group_tests(tests, make_key, drop_key);
}
