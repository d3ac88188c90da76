// SPDX-License-Identifier: Apache-2.0
#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "common/audit_check.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void count(void *context, const char *file, uint64_t line, const char *text)
{
    (void)line;
    assert(file != NULL && text[0] != '\0');
    ++*(uint64_t *)context;
}

/* The reader of audit logs: any bytes as a log. What it takes for a record must hold what a record holds. */
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static struct audit_record record;
    static const struct audit_anchor anchor = {.number = 2};
    struct audit_check_result result;
    const char *text = (const char *)bytes;
    uint64_t problems = 0, records = 0;
    struct audit_check *check = audit_check_create(NULL, &anchor, 1, false, count, &problems);
    audit_check_file(check, "log", NULL);
    for (size_t at = 0; at < size;) {
        const char *newline = memchr(text + at, '\n', size - at);
        size_t length = newline != NULL ? (size_t)(newline + 1 - (text + at)) : size - at;
        if (audit_check_line(check, text + at, length > AUDIT_LINE_SIZE ? AUDIT_LINE_SIZE : length, &record)) {
            records++;
            assert(record.number > 0 && strlen(record.time) == AUDIT_TIME_SIZE - 1 && record.event_name[0] != '\0');
            assert((unsigned)record.event <= AUDIT_EVENT_COUNT && record.signed_size < length);
        }
        at += length;
    }
    audit_check_end(check, &result);
    audit_check_destroy(check);
    assert(result.problems == problems && result.records == records);
    assert(problems > 0); /* nobody holds the hash that the anchor wants */
    return 0;
}
