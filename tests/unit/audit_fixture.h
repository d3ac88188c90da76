// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_TESTS_UNIT_AUDIT_FIXTURE_H
#define DIODECAST_TESTS_UNIT_AUDIT_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/audit.h"
#include "common/audit_check.h"
#include "common/audit_format.h"
#include "common/audit_log.h"
#include "common/durable.h"
#include "common/log.h"

/* A folder of the test's own, and the log STATE/audit in it. Each test program uses some of these. */
static char state_directory[64];

__attribute__((unused)) static int open_state(void **state)
{
    (void)state;
    snprintf(state_directory, sizeof state_directory, "/tmp/diodecast-test-XXXXXX");
    log_open("test", LOG_LEVEL_ERROR);
    return signature_init() == STATUS_OK && mkdtemp(state_directory) != NULL ? 0 : -1;
}

__attribute__((unused)) static int close_state(void **state)
{
    (void)state;
    int parent = open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    enum status status = durable_remove_tree(parent, strrchr(state_directory, '/') + 1);
    close(parent);
    return status == STATUS_OK ? 0 : -1;
}

__attribute__((unused)) static char *path_of(const char *name)
{
    static char path[256];
    snprintf(path, sizeof path, "%s/audit/%s", state_directory, name);
    return path;
}

__attribute__((unused)) static bool is_there(const char *name)
{
    return access(path_of(name), F_OK) == 0;
}

/* All of the log's files, one behind the other; *sizes[i] is how much of it are the files 1 to i + 1. */
__attribute__((unused)) static char *read_log(size_t *size)
{
    char *all = calloc(1, 1);
    *size = 0;
    for (unsigned i = 1;; i++) {
        char name[32], *bytes;
        size_t one;
        snprintf(name, sizeof name, "audit-%08u.jsonl", i);
        if (!is_there(name))
            return all;
        assert_int_equal(durable_read_file(AT_FDCWD, path_of(name), 1 << 26, &bytes, &one), STATUS_OK);
        all = realloc(all, *size + one + 1);
        memcpy(all + *size, bytes, one + 1);
        *size += one;
        free(bytes);
    }
}

__attribute__((unused)) static unsigned count_lines(const char *bytes, size_t size)
{
    unsigned count = 0;
    for (size_t i = 0; i < size; i++)
        count += bytes[i] == '\n';
    return count;
}

__attribute__((unused)) static void count_problem(void *context, const char *file, uint64_t line, const char *text)
{
    (void)file, (void)line;
    snprintf(context, 512, "%s", text);
}

static char last_problem[512];

/* Checks text as one file; the number of problems, of which last_problem holds the last. */
__attribute__((unused)) static uint64_t check_text(const char *bytes, size_t size, const struct signature_public *key,
                                                   const struct audit_anchor *anchors, size_t anchor_count,
                                                   struct audit_check_result *result)
{
    static struct audit_record record;
    struct audit_check_result own;
    last_problem[0] = '\0';
    struct audit_check *check = audit_check_create(key, anchors, anchor_count, false, count_problem, last_problem);
    audit_check_file(check, "log", NULL);
    for (size_t at = 0; at < size;) {
        const char *newline = memchr(bytes + at, '\n', size - at);
        size_t length = newline != NULL ? (size_t)(newline + 1 - (bytes + at)) : size - at;
        (void)audit_check_line(check, bytes + at, length > AUDIT_LINE_SIZE ? AUDIT_LINE_SIZE : length, &record);
        at += length;
    }
    audit_check_end(check, result != NULL ? result : &own);
    audit_check_destroy(check);
    return result != NULL ? result->problems : own.problems;
}

/* Checks the log in the directory. */
__attribute__((unused)) static uint64_t check_log(struct audit_check_result *result)
{
    size_t size;
    char *bytes = read_log(&size);
    uint64_t problems = check_text(bytes, size, NULL, NULL, 0, result);
    free(bytes);
    return problems;
}

#endif
