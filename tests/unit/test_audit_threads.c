// SPDX-License-Identifier: Apache-2.0

/*
 * An audit log written by many threads at once, for ThreadSanitizer (which does not get on with cmocka): each records
 * and notes its own; all of it is there afterwards, in an unbroken chain, and shared flushes made it cheap.
 */

#include <assert.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/audit.h"
#include "common/audit_check.h"
#include "common/durable.h"
#include "common/log.h"
#include "common/worker.h"

enum { RECORDERS = 4, CALLS = 200, NOTES = 3, WATCHDOG_S = 300 };

struct rig {
    struct audit *audit;
    atomic_int next;
};

static void record(void *context)
{
    struct rig *rig = context;
    uint8_t id[TRANSFER_ID_SIZE] = {(uint8_t)atomic_fetch_add(&rig->next, 1)};
    for (uint64_t i = 1; i <= CALLS; i++) {
        struct audit_entry entries[2] = {{.event = AUDIT_VERIFIED, .transfer_id = id, .sequence = i},
                                         {.event = AUDIT_DELIVERED, .transfer_id = id, .sequence = i}};
        for (int j = 0; j < NOTES; j++)
            audit_note(rig->audit, &(struct audit_entry){.event = AUDIT_SEEN, .transfer_id = id, .sequence = i});
        enum status status = audit_record(rig->audit, entries, 2);
        assert(status == STATUS_OK && !audit_is_failing(rig->audit));
        (void)audit_was_recorded(rig->audit, AUDIT_DELIVERED, id);
    }
}

static void print_problem(void *context, const char *file, uint64_t line, const char *text)
{
    (void)context;
    printf("test_audit_threads: %s:%ju: %s\n", file, (uintmax_t)line, text);
}

/* Each recorder's pairs come in its order, one behind the other. */
static void check_log(const char *path)
{
    static struct audit_record found;
    struct audit_check_result result;
    uint64_t delivered[RECORDERS] = {0}, seen = 0;
    char *bytes;
    size_t size;
    enum status status = durable_read_file(AT_FDCWD, path, 1 << 26, &bytes, &size);
    assert(status == STATUS_OK);
    struct audit_check *check = audit_check_create(NULL, NULL, 0, false, print_problem, NULL);
    audit_check_file(check, path, NULL);
    for (char *at = bytes, *end; at < bytes + size; at = end + 1) {
        end = strchr(at, '\n');
        bool good = audit_check_line(check, at, (size_t)(end + 1 - at), &found);
        assert(good);
        seen += found.event == AUDIT_SEEN;
        if (found.event == AUDIT_DELIVERED) {
            assert(found.sequence == delivered[found.transfer_id[0]] + 1);
            delivered[found.transfer_id[0]]++;
        }
    }
    audit_check_end(check, &result);
    audit_check_destroy(check);
    free(bytes);
    assert(result.problems == 0 && seen == RECORDERS * CALLS * NOTES);
    for (int i = 0; i < RECORDERS; i++)
        assert(delivered[i] == CALLS);
}

int main(void)
{
    char directory[] = "/tmp/diodecast-test-XXXXXX", path[128];
    struct rig rig = {.next = 0};
    struct worker *workers[RECORDERS];
    alarm(WATCHDOG_S); /* a lost wake-up hangs */
    log_open("test_audit_threads", LOG_LEVEL_WARNING);
    enum status status = signature_init();
    assert(status == STATUS_OK && mkdtemp(directory) != NULL);
    status = audit_open(directory, "high", &rig.audit);
    assert(status == STATUS_OK);
    for (int i = 0; i < RECORDERS; i++) {
        status = worker_start("recorder", record, &rig, &workers[i]);
        assert(status == STATUS_OK);
    }
    for (int i = 0; i < RECORDERS; i++)
        worker_join(workers[i]);
    audit_close(rig.audit);
    snprintf(path, sizeof path, "%s/audit/audit-00000001.jsonl", directory);
    check_log(path);
    int parent = open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    status = durable_remove_tree(parent, strrchr(directory, '/') + 1);
    assert(status == STATUS_OK);
    close(parent);
    printf("test_audit_threads: passed\n");
    return 0;
}
