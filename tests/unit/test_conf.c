// SPDX-License-Identifier: Apache-2.0
#include "common/conf.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

enum { NAME_SIZE = 32, TEXT_SIZE = 32768, CHANNELS = 4 };

struct target {
    char *spool;
    char *key;
    uint64_t rate;
    uint64_t settle;
    uint64_t memory;
    uint32_t lanes;
    bool idle;
    int channel_count;
    char channels[CHANNELS][NAME_SIZE];
    char values[CHANNELS][NAME_SIZE];
};

static void set_priority(struct conf_context *context, const struct conf_key *key, const char *name, const char *value,
                         void *target)
{
    (void)key;
    struct target *out = target;
    if (out->channel_count == CHANNELS) {
        conf_problem(context, "too many channels");
        return;
    }
    snprintf(out->channels[out->channel_count], NAME_SIZE, "%s", name);
    snprintf(out->values[out->channel_count], NAME_SIZE, "%s", value);
    out->channel_count++;
}

static const struct conf_key keys[] = {
    {"sender", "spool", true, conf_set_directory, offsetof(struct target, spool)},
    {"sender", "key", false, conf_set_file, offsetof(struct target, key)},
    {"sender", "settle", false, conf_set_duration, offsetof(struct target, settle)},
    {"sender", "memory", false, conf_set_size, offsetof(struct target, memory)},
    {"sender", "idle", false, conf_set_bool, offsetof(struct target, idle)},
    {"link", "rate", true, conf_set_rate, offsetof(struct target, rate)},
    {"link", "lanes", false, conf_set_uint, offsetof(struct target, lanes)},
    {"channel *", "priority", true, set_priority, 0},
};

static char printed[TEXT_SIZE]; /* what the last load() wrote to standard error */

/* Loads `text` from a file of its own and catches the messages. */
static enum status load(const char *text, size_t size, struct target *target)
{
    char file[64];
    memset(target, 0, sizeof *target);
    int input = memfd_create("conf", MFD_CLOEXEC);
    int output = memfd_create("stderr", MFD_CLOEXEC);
    int before = dup(STDERR_FILENO);
    assert_true(input >= 0 && output >= 0 && before >= 0);
    assert_int_equal(write(input, text, size), size);
    snprintf(file, sizeof file, "/proc/self/fd/%d", input);
    dup2(output, STDERR_FILENO);
    enum status status = conf_load(file, keys, sizeof keys / sizeof *keys, target);
    dup2(before, STDERR_FILENO);
    ssize_t got = pread(output, printed, sizeof printed - 1, 0);
    printed[got > 0 ? got : 0] = '\0';
    close(input);
    close(output);
    close(before);
    return status;
}

static enum status load_text(const char *text, struct target *target)
{
    return load(text, strlen(text), target);
}

static void release(struct target *target)
{
    free(target->spool);
    free(target->key);
}

static void assert_printed(const char *text)
{
    if (strstr(printed, text) == NULL)
        fail_msg("not told: %s\nbut: %s", text, printed);
}

static int count_lines(const char *text)
{
    int lines = 0;
    for (; *text != '\0'; text++)
        lines += *text == '\n';
    return lines;
}

static void a_good_file_fills_the_target(void **state)
{
    (void)state;
    struct target target;
    assert_int_equal(load_text("\xef\xbb\xbf[sender]\n"
                               "# a comment\n"
                               "spool = /tmp   ; where it lies\n"
                               "  key=/proc/self/exe\n"
                               "settle = 1s\r\n"
                               "memory: 64MiB\n"
                               "idle = on\n"
                               "\n"
                               "; another\n"
                               "[link]\n"
                               "rate = 1Gbit/s\n"
                               "lanes = 4\n"
                               "[channel models]\n"
                               "priority = low\n"
                               "[channel wheels]\n"
                               "priority = high",
                               &target),
                     STATUS_OK);
    assert_string_equal(printed, "");
    assert_string_equal(target.spool, "/tmp");
    assert_string_equal(target.key, "/proc/self/exe");
    assert_int_equal(target.settle, 1000000000);
    assert_int_equal(target.memory, 64 << 20);
    assert_int_equal(target.rate, 1000000000);
    assert_int_equal(target.lanes, 4);
    assert_true(target.idle);
    assert_int_equal(target.channel_count, 2);
    assert_string_equal(target.channels[1], "wheels");
    assert_string_equal(target.values[1], "high");
    release(&target);
}

static void every_problem_is_told_with_its_line(void **state)
{
    (void)state;
    struct target target;
    assert_int_equal(load_text("early = 1\n"
                               "[sender]\n"
                               "spool = /nonexistent\n"
                               "key = /tmp\n"
                               "settle = soon\n"
                               "memory = 1 zillion\n"
                               "idle = yes\n"
                               "colour = red\n"
                               "just words\n"
                               "[link]\n"
                               "rate = 1Gbit/s\n"
                               "rate = 2Gbit/s\n"
                               "lanes = -1\n"
                               "lanes = 4294967296\n"
                               "[unknown]\n"
                               "a = b\n"
                               "[open\n"
                               "[channel ]\n"
                               "[channel x]\n",
                               &target),
                     STATUS_INVALID);
    assert_printed(":1: 'early'");
    assert_printed(":3: 'spool': the directory /nonexistent: No such file");
    assert_printed(":4: 'key': /tmp is not a regular file");
    assert_printed(":5: 'settle'");
    assert_printed(":6: 'memory'");
    assert_printed(":7: 'idle'");
    assert_printed(":8: unknown key 'colour'");
    assert_printed(":9: this is no 'key = value'");
    assert_printed(":12: 'rate' was given in line 11 already");
    assert_printed(":13: 'lanes': '-1'");
    assert_printed(":14: 'lanes' was given in line 13");
    assert_printed(":15: unknown section [unknown]");
    assert_printed(":17: a section header");
    assert_printed(":18: unknown section [channel ]");
    assert_printed(":19: 'priority' in section [channel x] is missing");
    assert_int_equal(count_lines(printed), 15);
    release(&target);
}

static void a_missing_required_key_is_told_without_its_section_too(void **state)
{
    (void)state;
    struct target target;
    assert_int_equal(load_text("", &target), STATUS_INVALID);
    assert_printed("'spool' in section [sender] is missing");
    assert_printed("'rate' in section [link] is missing");
    assert_int_equal(count_lines(printed), 2);
    assert_int_equal(load_text("\n[sender]\nspool = /tmp\n[link]\n", &target), STATUS_INVALID);
    assert_printed(":4: 'rate' in section [link] is missing");
    assert_int_equal(count_lines(printed), 1);
    release(&target);
}

static void long_lines_and_names_and_nul_bytes_are_problems_not_cut_values(void **state)
{
    (void)state;
    struct target target;
    size_t size = 0;
    char *text = calloc(1, TEXT_SIZE);
    assert_non_null(text);
    size += (size_t)snprintf(text, TEXT_SIZE, "[sender]\nspool = /");
    memset(text + size, 'a', 10000);
    size += 10000;
    size += (size_t)snprintf(text + size, TEXT_SIZE - size, "\nspool = /");
    memset(text + size, 'b', 4000);
    size += 4000;
    size += (size_t)snprintf(text + size, TEXT_SIZE - size, "\n%060d = 1\n[%060d]\n", 0, 0);
    memcpy(text + size, "key\0 = 1\n", 9);
    size += 9;
    assert_int_equal(load(text, size, &target), STATUS_INVALID);
    assert_printed(":2: a line has at most");
    assert_printed(":3: 'spool': the directory /bbb");
    assert_printed(":4: a key has between");
    assert_printed(":5: a section name has at most");
    assert_printed(":6: a NUL byte");
    free(text);
    release(&target);
}

static void a_file_that_is_not_there_is_a_system_failure(void **state)
{
    (void)state;
    struct target target = {.spool = NULL};
    assert_int_equal(conf_load("/nonexistent.conf", keys, 1, &target), STATUS_SYSTEM);
    assert_int_equal(conf_load("/tmp", keys, 1, &target), STATUS_SYSTEM);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_good_file_fills_the_target),
        cmocka_unit_test(every_problem_is_told_with_its_line),
        cmocka_unit_test(a_missing_required_key_is_told_without_its_section_too),
        cmocka_unit_test(long_lines_and_names_and_nul_bytes_are_problems_not_cut_values),
        cmocka_unit_test(a_file_that_is_not_there_is_a_system_failure),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
