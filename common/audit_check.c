// SPDX-License-Identifier: Apache-2.0
#include "common/audit_check.h"

#include <assert.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PROBLEM_SIZE = 320 };

struct audit_check {
    audit_check_problem *problem;
    void *context;
    bool partial, key_given;
    struct audit_anchor *anchors; /* by number */
    bool *found;
    size_t anchor_count;

    const char *file;
    uint64_t line;
    uint64_t superseded_from; /* of the file at hand; 0: nothing */
    uint64_t expected;        /* number of the next record; 0: any, for it is the first */
    bool has_hash;            /* of the line before, which was a record */
    uint8_t hash[DIGEST_SIZE];
    bool running;      /* a start came, and no stop since */
    bool just_stopped; /* the last record that is not the log's own was a stop */
    struct digest *digest;
    struct audit_check_result result;
};

static int by_number(const void *a, const void *b)
{
    const struct audit_anchor *x = a, *y = b;
    return (x->number > y->number) - (x->number < y->number);
}

__attribute__((format(printf, 2, 3))) static void tell(struct audit_check *check, const char *format, ...)
{
    char text[PROBLEM_SIZE];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    check->result.problems++;
    check->problem(check->context, check->file, check->line, text);
}

struct audit_check *audit_check_create(const struct signature_public *key, const struct audit_anchor *anchors,
                                       size_t anchor_count, bool partial, audit_check_problem *problem, void *context)
{
    struct audit_check *check = calloc(1, sizeof *check);
    assert(check != NULL);
    check->problem = problem;
    check->context = context;
    check->partial = partial;
    check->digest = digest_create();
    check->anchors = calloc(anchor_count + 1, sizeof *check->anchors);
    check->found = calloc(anchor_count + 1, sizeof *check->found);
    assert(check->anchors != NULL && check->found != NULL);
    if (anchor_count > 0) {
        memcpy(check->anchors, anchors, anchor_count * sizeof *anchors);
        qsort(check->anchors, anchor_count, sizeof *check->anchors, by_number);
    }
    check->anchor_count = anchor_count;
    check->key_given = key != NULL;
    if (key != NULL) {
        check->result.has_key = true;
        check->result.key = *key;
    }
    return check;
}

void audit_check_destroy(struct audit_check *check)
{
    if (check == NULL)
        return;
    digest_destroy(check->digest);
    free(check->anchors);
    free(check->found);
    free(check);
}

void audit_check_file(struct audit_check *check, const char *file, const struct audit_record *next)
{
    check->file = file;
    check->line = 0;
    check->superseded_from = next != NULL && next->event == AUDIT_SEGMENT && next->supersedes ? next->number : 0;
}

/* Whether the record comes where it must; says what is wrong. */
static void check_place(struct audit_check *check, const struct audit_record *record)
{
    static const uint8_t zeros[DIGEST_SIZE];
    uint64_t expected = check->expected;
    if (expected == 0) {
        check->result.first_number = record->number;
        memcpy(check->result.first_time, record->time, AUDIT_TIME_SIZE);
        memcpy(check->result.side, record->side, sizeof record->side);
        if (record->number > 1 && !check->partial)
            tell(check, "the log begins with record %" PRIu64 ": those before are not here", record->number);
        else if (record->number == 1 && memcmp(record->prev, zeros, DIGEST_SIZE) != 0)
            tell(check, "record 1 was changed: it names a record before itself");
    } else if (record->number > expected) {
        tell(check, "records %" PRIu64 " to %" PRIu64 " are missing, or record %" PRIu64 " is not in its place",
             expected, record->number - 1, record->number);
    } else if (record->number < expected) {
        tell(check, "record %" PRIu64 " comes where %" PRIu64 " must be: repeated, moved, or its number was changed",
             record->number, expected);
    } else if (check->has_hash && memcmp(record->prev, check->hash, DIGEST_SIZE) != 0) {
        tell(check, "record %" PRIu64 " (the line before) was changed, or this one, which holds its hash",
             expected - 1);
    }
    if (strcmp(record->side, check->result.side) != 0)
        tell(check, "record %" PRIu64 " is of the %s side, the log of the %s side", record->number, record->side,
             check->result.side);
}

static void check_signature(struct audit_check *check, const char *line, const struct audit_record *record)
{
    struct audit_check_result *result = &check->result;
    if (record->event == AUDIT_SEGMENT) {
        if (!result->has_key) {
            result->has_key = true;
            result->key = record->key;
        } else if (memcmp(&record->key, &result->key, sizeof record->key) != 0) {
            tell(check, "record %" PRIu64 " names another key than %s", record->number,
                 check->key_given ? "the given one" : "the log before");
        }
    }
    if (record->signed_size == 0)
        return;
    if (!result->has_key)
        tell(check, "the key of checkpoint %" PRIu64 " is not known: name it", record->number);
    else if (!signature_verify(&result->key, line, record->signed_size, &record->signature))
        tell(check, "the signature of checkpoint %" PRIu64 " is not good: it was changed, or made with another key",
             record->number);
    else
        result->signed_number = record->number;
}

static void check_anchors(struct audit_check *check, const struct audit_record *record)
{
    size_t low = 0, high = check->anchor_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (check->anchors[middle].number < record->number)
            low = middle + 1;
        else
            high = middle;
    }
    for (; low < check->anchor_count && check->anchors[low].number == record->number; low++) {
        check->found[low] = true;
        if (memcmp(check->anchors[low].hash, check->hash, DIGEST_SIZE) == 0)
            check->result.anchored_number = record->number;
        else
            tell(check, "record %" PRIu64 " is not the one that its anchor was made of: the log was rewritten",
                 record->number);
    }
}

static void note_run(struct audit_check *check, const struct audit_record *record)
{
    struct audit_check_result *result = &check->result;
    if (record->event == AUDIT_STARTED) {
        if (check->running) {
            if (result->unstopped_count < AUDIT_CHECK_RUNS)
                result->unstopped[result->unstopped_count] = record->number;
            result->unstopped_count++;
        }
        check->running = true;
    }
    if (record->event == AUDIT_STOPPED)
        check->running = false;
    result->stopped = check->just_stopped && record->event == AUDIT_CHECKPOINT;
    if (record->event != AUDIT_CHECKPOINT && record->event != AUDIT_SEGMENT)
        check->just_stopped = record->event == AUDIT_STOPPED;
}

bool audit_check_line(struct audit_check *check, const char *line, size_t size, struct audit_record *record)
{
    check->line++;
    if (check->superseded_from != 0 && check->expected >= check->superseded_from) {
        check->result.superseded_lines++;
        return false;
    }
    if (!audit_parse(line, size, record)) {
        tell(check, "%s",
             size > 0 && line[size - 1] == '\n' ? "this line is no record: it was changed"
                                                : "this line is torn or was changed: it has no end");
        if (check->expected != 0)
            check->expected++;
        check->has_hash = false;
        return false;
    }
    check_place(check, record);
    digest_update(check->digest, line, size);
    digest_final(check->digest, check->hash);
    check->has_hash = true;
    check->expected = record->number + 1;
    check_signature(check, line, record);
    check_anchors(check, record);
    note_run(check, record);
    check->result.records++;
    check->result.last_number = record->number;
    memcpy(check->result.last_time, record->time, AUDIT_TIME_SIZE);
    return true;
}

void audit_check_end(struct audit_check *check, struct audit_check_result *result)
{
    check->line = 0;
    if (check->result.records == 0)
        tell(check, "there is no record");
    for (size_t i = 0; i < check->anchor_count && check->result.records > 0; i++) {
        uint64_t number = check->anchors[i].number;
        if (check->found[i])
            continue;
        if (number > check->result.last_number)
            tell(check, "the log ends with record %" PRIu64 ", and there was a record %" PRIu64 ": its end was cut off",
                 check->result.last_number, number);
        else if (number >= check->result.first_number)
            tell(check, "there was a record %" PRIu64 ", which is not here", number);
        else if (!check->partial)
            tell(check, "the anchor of record %" PRIu64 " lies before the log's beginning", number);
    }
    *result = check->result;
}

bool audit_check_parse_anchor(const char *text, struct audit_anchor *anchor)
{
    char *end = NULL;
    size_t size = 0;
    if (text[0] < '1' || text[0] > '9')
        return false;
    unsigned long long number = strtoull(text, &end, 10);
    if (*end != ':' || number > INT64_MAX || strlen(end + 1) != 2 * DIGEST_SIZE)
        return false;
    anchor->number = number;
    return sodium_hex2bin(anchor->hash, DIGEST_SIZE, end + 1, 2 * DIGEST_SIZE, NULL, &size, NULL) == 0 &&
           size == DIGEST_SIZE;
}
