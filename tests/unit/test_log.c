// SPDX-License-Identifier: Apache-2.0
#include "common/log.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/clock.h"

static char printed[16384];
static int capture = -1;
static int before = -1;

static void begin(void)
{
    capture = memfd_create("stderr", MFD_CLOEXEC);
    before = dup(STDERR_FILENO);
    assert_true(capture >= 0 && before >= 0);
    dup2(capture, STDERR_FILENO);
}

static const char *end(void)
{
    dup2(before, STDERR_FILENO);
    ssize_t got = pread(capture, printed, sizeof printed - 1, 0);
    printed[got > 0 ? got : 0] = '\0';
    close(before);
    close(capture);
    return printed;
}

static void a_line_names_the_program_and_how_bad_it_is(void **state)
{
    (void)state;
    log_open("tester", LOG_LEVEL_INFO);
    begin();
    log_error("no %s", "disk");
    log_warning("slow");
    log_notice("started");
    log_info("note");
    log_debug("not shown");
    assert_string_equal(end(), "tester: error: no disk\ntester: warning: slow\ntester: started\ntester: note\n");
}

static void what_a_terminal_would_obey_is_escaped_and_text_is_not(void **state)
{
    (void)state;
    log_open("t", LOG_LEVEL_INFO);
    begin();
    log_info("%s", "a\nb\x1b[31m\x7f caf\xc3\xa9 \xe4\xb8\xad \xf0\x9f\x90\x9f");
    assert_string_equal(end(), "t: a\\x0ab\\x1b[31m\\x7f caf\xc3\xa9 \xe4\xb8\xad \xf0\x9f\x90\x9f\n");
    begin();
    /* A lone continuation, an overlong slash, a surrogate, a cut sequence, C1, a bidirectional override. */
    log_info("%s", "\x80 \xc0\xaf \xed\xa0\x80 \xc2\x9b \xe2\x80\xae \xf4\x90\x80\x80 \xe4\xb8");
    assert_string_equal(end(), "t: \\x80 \\xc0\\xaf \\xed\\xa0\\x80 \\xc2\\x9b \\xe2\\x80\\xae \\xf4\\x90\\x80\\x80 "
                               "\\xe4\\xb8\n");
}

static void a_message_without_end_is_cut_into_one_line(void **state)
{
    (void)state;
    char *text = calloc(1, 50001);
    memset(text, '\x01', 50000);
    log_open("t", LOG_LEVEL_INFO);
    begin();
    log_info("%s", text);
    const char *line = end();
    assert_true(strlen(line) <= 8192);
    assert_ptr_equal(strchr(line, '\n'), line + strlen(line) - 1);
    assert_memory_equal(line + strlen(line) - 4, "...\n", 4);
    free(text);
}

static void the_journal_gets_priorities_only_on_its_own_stream(void **state)
{
    (void)state;
    char stream[64];
    struct stat stat;
    begin();
    fstat(STDERR_FILENO, &stat);
    snprintf(stream, sizeof stream, "%ju:%ju", (uintmax_t)stat.st_dev, (uintmax_t)stat.st_ino);
    setenv("JOURNAL_STREAM", stream, 1);
    log_open("t", LOG_LEVEL_INFO);
    log_error("bad");
    log_info("note");
    assert_string_equal(end(), "<3>bad\n<6>note\n");
    setenv("JOURNAL_STREAM", "1:1", 1);
    begin();
    log_open("t", LOG_LEVEL_INFO);
    log_error("bad");
    assert_string_equal(end(), "t: error: bad\n");
    unsetenv("JOURNAL_STREAM");
}

static void logging_keeps_errno(void **state)
{
    (void)state;
    log_open("t", LOG_LEVEL_INFO);
    errno = EXDEV;
    begin();
    errno = EXDEV;
    log_info("note");
    assert_int_equal(errno, EXDEV);
    end();
}

static void a_limiter_counts_what_it_holds_back(void **state)
{
    (void)state;
    struct log_limit limit = {.interval_ns = 100};
    uint64_t suppressed = 99;
    assert_true(log_limit_pass(&limit, 1000, &suppressed));
    assert_int_equal(suppressed, 0);
    for (uint64_t now = 1001; now < 1100; now++)
        assert_false(log_limit_pass(&limit, now, &suppressed));
    assert_true(log_limit_pass(&limit, 1100, &suppressed));
    assert_int_equal(suppressed, 99);
    assert_true(log_limit_pass(&limit, 5000, &suppressed));
    assert_int_equal(suppressed, 0);
}

static void names_are_shown_until_they_are_hidden(void **state)
{
    static const uint8_t key[NAMEKEY_SIZE] = {1};
    char torch[NAMEKEY_TEXT_SIZE], cut[NAMEKEY_TEXT_SIZE], line[256];
    const char *delivered = "0000000000000042-1f2e3d4c-torch.whl";
    (void)state;
    log_open("t", LOG_LEVEL_INFO);
    begin();
    log_info("%s/" LOG_NAME " is refused: " LOG_DETAIL "!", "wheels", "torch.whl", "a/b is a socket");
    log_info("delivered " LOG_DELIVERED, delivered, log_delivered(delivered));
    assert_string_equal(end(), "t: wheels/torch.whl is refused: a/b is a socket!\n"
                               "t: delivered 0000000000000042-1f2e3d4c-torch.whl\n");
    log_hide_names(key);
    namekey_text(key, "torch.whl", 9, torch);
    namekey_text(key, "x", 1, cut);
    assert_string_not_equal(torch, cut);
    begin();
    log_info("%s/" LOG_NAME " is refused: " LOG_DETAIL "!", "wheels", "torch.whl", "a/b is a socket");
    log_info("delivered " LOG_DELIVERED " of " LOG_NAME, delivered, log_delivered(delivered), "x");
    snprintf(line, sizeof line,
             "t: wheels/%s is refused: (not shown)!\nt: delivered 0000000000000042-1f2e3d4c-%s of %s\n", torch, torch,
             cut);
    assert_string_equal(end(), line);
}

static void times_are_written_as_rfc3339(void **state)
{
    (void)state;
    char text[CLOCK_RFC3339_SIZE];
    clock_rfc3339(0, text);
    assert_string_equal(text, "1970-01-01T00:00:00.000Z");
    clock_rfc3339(-1, text);
    assert_string_equal(text, "1969-12-31T23:59:59.999Z");
    clock_rfc3339(INT64_C(2147483648000000000), text);
    assert_string_equal(text, "2038-01-19T03:14:08.000Z");
    clock_rfc3339(INT64_MAX, text);
    assert_string_equal(text, "2262-04-11T23:47:16.854Z");
    clock_rfc3339(INT64_MIN, text);
    assert_string_equal(text, "1677-09-21T00:12:43.145Z");
    uint64_t earlier = clock_monotonic_ns();
    assert_true(clock_monotonic_ns() >= earlier);
    assert_true(clock_realtime_ns() > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_line_names_the_program_and_how_bad_it_is),
        cmocka_unit_test(what_a_terminal_would_obey_is_escaped_and_text_is_not),
        cmocka_unit_test(a_message_without_end_is_cut_into_one_line),
        cmocka_unit_test(the_journal_gets_priorities_only_on_its_own_stream),
        cmocka_unit_test(logging_keeps_errno),
        cmocka_unit_test(a_limiter_counts_what_it_holds_back),
        cmocka_unit_test(times_are_written_as_rfc3339),
        cmocka_unit_test(names_are_shown_until_they_are_hidden),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
