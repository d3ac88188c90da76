// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/audit_fixture.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "common/clock.h"

/* Stands in front of the C library's: counts, and fails when told to. */
static atomic_int syncs, failing_syncs;

int fdatasync(int fd)
{
    atomic_fetch_add(&syncs, 1);
    if (atomic_load(&failing_syncs) > 0) {
        atomic_fetch_sub(&failing_syncs, 1);
        errno = EIO;
        return -1;
    }
    return (int)syscall(SYS_fdatasync, fd);
}

static struct audit *open_audit(void)
{
    struct audit *audit;
    assert_int_equal(audit_open(state_directory, "low", &audit), STATUS_OK);
    return audit;
}

static void fill(struct audit_entry *entry, uint8_t id[static TRANSFER_ID_SIZE], enum audit_event event,
                 uint32_t number)
{
    memset(id, 0, TRANSFER_ID_SIZE);
    memcpy(id, &number, sizeof number);
    *entry = (struct audit_entry){.event = event, .transfer_id = id, .channel = "wheels", .name = "x.whl", .bytes = 7};
}

static enum status record(struct audit *audit, enum audit_event event, uint32_t number)
{
    struct audit_entry entry;
    uint8_t id[TRANSFER_ID_SIZE];
    fill(&entry, id, event, number);
    return audit_record(audit, &entry, 1);
}

static void note(struct audit *audit, enum audit_event event, uint32_t number)
{
    struct audit_entry entry;
    uint8_t id[TRANSFER_ID_SIZE];
    fill(&entry, id, event, number);
    audit_note(audit, &entry);
}

/* How many lines of the log hold `what`. */
static unsigned count_of(const char *what)
{
    size_t size;
    unsigned count = 0;
    char *bytes = read_log(&size);
    for (char *at = bytes, *end; at < bytes + size; at = end + 1) {
        end = memchr(at, '\n', (size_t)(bytes + size - at));
        if (end == NULL)
            break;
        count += memmem(at, (size_t)(end - at), what, strlen(what)) != NULL;
    }
    free(bytes);
    return count;
}

/* For what the log does by itself: returns once the condition holds. */
static bool comes_true(bool (*holds)(struct audit *audit), struct audit *audit)
{
    uint64_t end_ns = clock_monotonic_ns() + 20 * CLOCK_SECOND_NS;
    while (!holds(audit) && clock_monotonic_ns() < end_ns)
        usleep(10000);
    return holds(audit);
}

static void a_record_is_on_the_disk_when_the_call_returns(void **state)
{
    (void)state;
    struct audit *audit = open_audit();
    assert_int_equal(record(audit, AUDIT_ACCEPTED, 1), STATUS_OK);
    assert_int_equal(count_of("\"accepted\""), 1);
    audit_close(audit);
    struct audit_check_result result;
    assert_int_equal(check_log(&result), 0);
    assert_int_equal(result.signed_number, result.last_number);
    struct stat meta;
    assert_int_equal(stat(path_of("audit.key"), &meta), 0);
    assert_int_equal(meta.st_mode & 0777, 0600);
    assert_int_equal(stat(path_of(""), &meta), 0);
    assert_int_equal(meta.st_mode & 0777, 0700);
}

static void many_records_of_a_call_cost_one_flush(void **state)
{
    (void)state;
    enum { COUNT = 256 };
    static struct audit_entry entries[COUNT];
    static uint8_t ids[COUNT][TRANSFER_ID_SIZE];
    struct audit *audit = open_audit();
    assert_int_equal(record(audit, AUDIT_STARTED, 0), STATUS_OK);
    for (uint32_t i = 0; i < COUNT; i++)
        fill(&entries[i], ids[i], AUDIT_VERIFIED, i);
    int before = atomic_load(&syncs);
    assert_int_equal(audit_record(audit, entries, COUNT), STATUS_OK);
    assert_int_equal(atomic_load(&syncs) - before, 1);
    assert_int_equal(count_of("\"verified\""), COUNT);
    audit_close(audit);
    assert_int_equal(check_log(NULL), 0);
}

static bool has_note(struct audit *audit)
{
    (void)audit;
    return is_there("audit-00000001.jsonl") && count_of("\"sealed\"") == 1;
}

static void a_note_is_written_soon_and_before_later_records(void **state)
{
    (void)state;
    struct audit *audit = open_audit();
    note(audit, AUDIT_SEALED, 1);
    assert_true(comes_true(has_note, audit));
    note(audit, AUDIT_SENT, 1);
    assert_int_equal(record(audit, AUDIT_STOPPED, 0), STATUS_OK);
    size_t size;
    char *bytes = read_log(&size);
    assert_true(strstr(bytes, "\"sent\"") < strstr(bytes, "\"stopped\""));
    free(bytes);
    audit_close(audit);
    assert_int_equal(check_log(NULL), 0);
}

static void a_restart_goes_on_with_the_chain_and_knows_what_was_recorded(void **state)
{
    (void)state;
    uint8_t id[TRANSFER_ID_SIZE] = {2};
    struct audit *audit = open_audit();
    assert_int_equal(record(audit, AUDIT_DELIVERED, 2), STATUS_OK);
    audit_close(audit);
    audit = open_audit();
    assert_true(audit_was_recorded(audit, AUDIT_DELIVERED, id));
    assert_false(audit_was_recorded(audit, AUDIT_VERIFIED, id));
    id[0] = 3;
    assert_false(audit_was_recorded(audit, AUDIT_DELIVERED, id));
    assert_int_equal(record(audit, AUDIT_STARTED, 0), STATUS_OK);
    audit_close(audit);
    assert_int_equal(count_of("\"segment\":"), 1);
    assert_int_equal(check_log(NULL), 0);
}

static void append_bytes(const char *name, const char *bytes, size_t size)
{
    int fd = open(path_of(name), O_WRONLY | O_APPEND);
    assert_int_equal(write(fd, bytes, size), size);
    close(fd);
}

static void a_torn_end_is_cut_off_kept_and_recorded(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t size;
    } ends[] = {{"{\"v\":1,\"n\":9", 12}, {"\0\0\0\0\0\0", 6}, {"{}\n", 3}, {"x\nhalf", 6}};
    struct audit *audit = open_audit();
    assert_int_equal(record(audit, AUDIT_STARTED, 0), STATUS_OK);
    audit_close(audit);
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        append_bytes("audit-00000001.jsonl", ends[i].bytes, ends[i].size);
        audit = open_audit();
        assert_int_equal(record(audit, AUDIT_STARTED, 0), STATUS_OK);
        audit_close(audit);
        assert_int_equal(count_of("\"repaired\""), i + 1);
        assert_int_equal(count_of("kept as torn-00000001-"), i + 1);
        assert_int_equal(check_log(NULL), 0);
    }
}

static void a_file_that_was_only_begun_is_begun_again(void **state)
{
    (void)state;
    struct audit *audit = open_audit();
    assert_int_equal(record(audit, AUDIT_STARTED, 0), STATUS_OK);
    audit_close(audit);
    int fd = open(path_of("audit-00000002.jsonl"), O_WRONLY | O_CREAT, 0600);
    assert_int_equal(write(fd, "{\"v\":1,", 7), 7);
    close(fd);
    audit = open_audit();
    assert_int_equal(record(audit, AUDIT_STARTED, 0), STATUS_OK);
    audit_close(audit);
    assert_int_equal(count_of("\"segment\":2"), 1);
    assert_int_equal(check_log(NULL), 0);
}

static bool is_well(struct audit *audit)
{
    return !audit_is_failing(audit);
}

static void after_a_failed_flush_the_next_file_goes_on_with_what_was_confirmed(void **state)
{
    (void)state;
    struct audit *audit = open_audit();
    assert_int_equal(record(audit, AUDIT_ACCEPTED, 1), STATUS_OK);
    atomic_store(&failing_syncs, 1);
    assert_int_not_equal(record(audit, AUDIT_ACCEPTED, 2), STATUS_OK);
    assert_int_equal(errno, EIO);
    note(audit, AUDIT_SENT, 1);
    /* What the disk may hold although it was never confirmed. */
    append_bytes("audit-00000001.jsonl", "what the cache still had\n", 25);
    assert_true(comes_true(is_well, audit)); /* by itself, with the note */
    assert_int_equal(record(audit, AUDIT_ACCEPTED, 3), STATUS_OK);
    audit_close(audit);
    assert_int_equal(count_of("\"supersedes\":true"), 1);
    assert_int_equal(count_of("\"accepted\""), 2);
    assert_int_equal(count_of("\"sent\""), 1);
    assert_int_equal(count_of("\"resumed\""), 1);

    static struct audit_record parsed;
    struct audit_check_result result;
    struct audit_check *check = audit_check_create(NULL, NULL, 0, false, count_problem, last_problem);
    for (unsigned file = 1; file <= 2; file++) {
        char name[32], *bytes;
        size_t size;
        snprintf(name, sizeof name, "audit-%08u.jsonl", 2U);
        assert_int_equal(durable_read_file(AT_FDCWD, path_of(name), 1 << 20, &bytes, &size), STATUS_OK);
        assert_true(audit_parse(bytes, (size_t)(strchr(bytes, '\n') + 1 - bytes), &parsed));
        free(bytes);
        snprintf(name, sizeof name, "audit-%08u.jsonl", file);
        audit_check_file(check, name, file == 1 ? &parsed : NULL);
        assert_int_equal(durable_read_file(AT_FDCWD, path_of(name), 1 << 20, &bytes, &size), STATUS_OK);
        for (char *at = bytes, *end; at < bytes + size; at = end + 1) {
            end = strchr(at, '\n');
            (void)audit_check_line(check, at, (size_t)(end + 1 - at), &parsed);
        }
        free(bytes);
    }
    audit_check_end(check, &result);
    audit_check_destroy(check);
    assert_int_equal(result.problems, 0);
    assert_int_equal(result.superseded_lines, 1);
}

static void set_file_limit(rlim_t size)
{
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = size;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static void a_full_disk_fails_records_and_keeps_notes_until_it_has_room(void **state)
{
    (void)state;
    struct audit *audit = open_audit();
    struct stat meta;
    assert_int_equal(record(audit, AUDIT_STARTED, 0), STATUS_OK);
    assert_int_equal(stat(path_of("audit-00000001.jsonl"), &meta), 0);
    assert_false(audit_is_failing(audit));
    signal(SIGXFSZ, SIG_IGN);
    set_file_limit((rlim_t)meta.st_size + 100); /* a part of a line fits */
    assert_int_not_equal(record(audit, AUDIT_ACCEPTED, 1), STATUS_OK);
    assert_true(audit_is_failing(audit));
    for (uint32_t i = 0; i < 10; i++)
        note(audit, AUDIT_SENT, i);
    assert_int_not_equal(record(audit, AUDIT_ACCEPTED, 2), STATUS_OK);
    assert_int_equal(count_of("\"accepted\""), 0);
    set_file_limit(RLIM_INFINITY);
    assert_true(comes_true(is_well, audit));
    assert_int_equal(record(audit, AUDIT_ACCEPTED, 3), STATUS_OK);
    audit_close(audit);
    assert_int_equal(count_of("\"accepted\""), 1);
    assert_int_equal(count_of("\"sent\""), 10);
    assert_int_equal(count_of("\"resumed\""), 1);
    assert_int_equal(check_log(NULL), 0);
}

static void notes_beyond_the_bound_are_counted(void **state)
{
    (void)state;
    char text[AUDIT_DETAIL_SIZE + 1];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    struct audit *audit = open_audit();
    assert_int_equal(record(audit, AUDIT_STARTED, 0), STATUS_OK);
    signal(SIGXFSZ, SIG_IGN);
    set_file_limit(1);
    assert_int_not_equal(record(audit, AUDIT_ACCEPTED, 1), STATUS_OK);
    struct audit_entry entry = {.event = AUDIT_SENT, .detail = text};
    for (unsigned i = 0; i < 20000; i++)
        audit_note(audit, &entry);
    set_file_limit(RLIM_INFINITY);
    assert_true(comes_true(is_well, audit));
    audit_close(audit);
    unsigned kept = count_of("\"sent\"");
    char lost[64];
    assert_in_range(kept, 1000, 19999);
    snprintf(lost, sizeof lost, "; %u records are lost", 20000 - kept);
    assert_int_equal(count_of(lost), 1);
    assert_int_equal(check_log(NULL), 0);
}

static void a_log_whose_key_is_gone_is_not_gone_on_with(void **state)
{
    (void)state;
    struct audit *audit = open_audit();
    assert_int_equal(record(audit, AUDIT_STARTED, 0), STATUS_OK);
    audit_close(audit);
    assert_int_equal(unlink(path_of("audit.key")), 0);
    log_open("test", (enum log_level)0);
    assert_int_not_equal(audit_open(state_directory, "low", &audit), STATUS_OK);
    assert_null(audit);
    assert_false(is_there("audit.key"));
}

static void half_a_key_of_a_crash_in_the_first_start_is_made_anew(void **state)
{
    (void)state;
    struct audit *audit = open_audit();
    audit_close(audit);
    assert_int_equal(unlink(path_of("audit-00000001.jsonl")), 0);
    assert_int_equal(truncate(path_of("audit.key"), 0), 0);
    audit = open_audit();
    assert_int_equal(record(audit, AUDIT_STARTED, 0), STATUS_OK);
    audit_close(audit);
    char reason[256];
    struct signature_public key;
    size_t size;
    assert_int_equal(signature_public_load(path_of("audit.pub"), &key, reason), STATUS_OK);
    char *bytes = read_log(&size);
    assert_int_equal(check_text(bytes, size, &key, NULL, 0, NULL), 0);
    free(bytes);
}

static void two_processes_do_not_write_one_log(void **state)
{
    (void)state;
    struct audit *audit = open_audit(), *second;
    log_open("test", (enum log_level)0);
    assert_int_equal(audit_open(state_directory, "low", &second), STATUS_EXISTS);
    audit_close(audit);
}

static void without_an_audit_log_nothing_happens(void **state)
{
    (void)state;
    uint8_t id[TRANSFER_ID_SIZE] = {0};
    assert_int_equal(record(NULL, AUDIT_STARTED, 0), STATUS_OK);
    note(NULL, AUDIT_SENT, 0);
    assert_false(audit_is_failing(NULL));
    assert_false(audit_was_recorded(NULL, AUDIT_SENT, id));
    audit_close(NULL);
}

#define with_state(test) cmocka_unit_test_setup_teardown(test, open_state, close_state)

int main(void)
{
    const struct CMUnitTest tests[] = {
        with_state(a_record_is_on_the_disk_when_the_call_returns),
        with_state(many_records_of_a_call_cost_one_flush),
        with_state(a_note_is_written_soon_and_before_later_records),
        with_state(a_restart_goes_on_with_the_chain_and_knows_what_was_recorded),
        with_state(a_torn_end_is_cut_off_kept_and_recorded),
        with_state(a_file_that_was_only_begun_is_begun_again),
        with_state(after_a_failed_flush_the_next_file_goes_on_with_what_was_confirmed),
        with_state(a_full_disk_fails_records_and_keeps_notes_until_it_has_room),
        with_state(notes_beyond_the_bound_are_counted),
        with_state(a_log_whose_key_is_gone_is_not_gone_on_with),
        with_state(half_a_key_of_a_crash_in_the_first_start_is_made_anew),
        with_state(two_processes_do_not_write_one_log),
        cmocka_unit_test(without_an_audit_log_nothing_happens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
