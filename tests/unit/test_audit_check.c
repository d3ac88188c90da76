// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/audit_fixture.h"

enum { LINES_MAX = 64 };

/* A small log over several files, closed in order: the text, and where its lines begin. */
static char *text;
static size_t text_size;
static size_t starts[LINES_MAX + 1];
static unsigned line_count;
static struct signature_public key;

static void add(struct audit_log *log, enum audit_event event, uint8_t number)
{
    char body[AUDIT_BODY_SIZE];
    uint8_t id[TRANSFER_ID_SIZE] = {number};
    struct audit_entry entry = {
        .event = event, .transfer_id = id, .channel = "wheels", .name = "x", .sequence = number};
    assert_int_equal(audit_log_begin(log, 1000 + number), STATUS_OK);
    (void)audit_log_add(log, body, audit_format_body(&entry, "high", 1000 + number, body));
    assert_int_equal(audit_log_commit(log), STATUS_OK);
}

static int make_log(void **state)
{
    struct audit_log *log;
    char reason[256];
    if (open_state(state) != 0 || audit_log_open(path_of(""), "high", 700, &log) != STATUS_OK)
        return -1;
    add(log, AUDIT_STARTED, 0);
    for (uint8_t i = 1; i < 5; i++)
        add(log, AUDIT_DELIVERED, i);
    add(log, AUDIT_STOPPED, 0);
    assert_int_equal(audit_log_begin(log, 2000), STATUS_OK);
    audit_log_add_checkpoint(log, 2000);
    assert_int_equal(audit_log_commit(log), STATUS_OK);
    audit_log_close(log);
    assert_int_equal(signature_public_load(path_of("audit.pub"), &key, reason), STATUS_OK);
    assert_true(is_there("audit-00000003.jsonl"));
    text = read_log(&text_size);
    for (size_t at = 0; at < text_size; at = (size_t)((char *)memchr(text + at, '\n', text_size - at) + 1 - text))
        starts[line_count++] = at;
    starts[line_count] = text_size;
    assert_true(line_count < LINES_MAX);
    return 0;
}

static int free_log(void **state)
{
    free(text);
    return close_state(state);
}

static void take_anchor(unsigned index, struct audit_anchor *anchor)
{
    anchor->number = index + 1;
    digest_once(text + starts[index], starts[index + 1] - starts[index], anchor->hash);
}

static void a_log_that_nobody_touched_has_no_problems(void **state)
{
    (void)state;
    struct audit_check_result result;
    struct audit_anchor anchor;
    take_anchor(line_count - 1, &anchor);
    assert_int_equal(check_text(text, text_size, &key, &anchor, 1, &result), 0);
    assert_int_equal(result.records, line_count);
    assert_int_equal(result.last_number, line_count);
    assert_int_equal(result.signed_number, line_count);
    assert_int_equal(result.anchored_number, line_count);
    assert_string_equal(result.side, "high");
    assert_true(result.stopped);
    assert_int_equal(result.unstopped_count, 0);
    assert_int_equal(check_text(text, text_size, NULL, NULL, 0, &result), 0);
}

static void a_flipped_bit_in_any_byte_is_found(void **state)
{
    (void)state;
    char *copy = malloc(text_size);
    memcpy(copy, text, text_size);
    for (size_t i = 0; i < text_size; i++) {
        copy[i] = (char)(text[i] ^ 1 << (i % 8));
        if (check_text(copy, text_size, &key, NULL, 0, NULL) == 0)
            fail_msg("byte %zu, bit %zu is not found", i, i % 8);
        copy[i] = text[i];
    }
    free(copy);
}

static size_t join_lines(char *out, const unsigned *lines, unsigned count)
{
    size_t size = 0;
    for (unsigned i = 0; i < count; i++) {
        size_t length = starts[lines[i] + 1] - starts[lines[i]];
        memcpy(out + size, text + starts[lines[i]], length);
        size += length;
    }
    return size;
}

static void each_line_removed_doubled_or_moved_is_found(void **state)
{
    (void)state;
    char *copy = malloc(2 * text_size);
    unsigned lines[LINES_MAX + 1];
    for (unsigned victim = 0; victim + 1 < line_count; victim++) {
        unsigned count = 0;
        for (unsigned i = 0; i < line_count; i++)
            if (i != victim)
                lines[count++] = i;
        assert_true(check_text(copy, join_lines(copy, lines, count), &key, NULL, 0, NULL) > 0);
        count = 0;
        for (unsigned i = 0; i < line_count; i++) {
            lines[count++] = i;
            if (i == victim)
                lines[count++] = i;
        }
        assert_true(check_text(copy, join_lines(copy, lines, count), &key, NULL, 0, NULL) > 0);
        for (unsigned i = 0; i < line_count; i++)
            lines[i] = i == victim ? victim + 1 : i == victim + 1 ? victim : i;
        assert_true(check_text(copy, join_lines(copy, lines, line_count), &key, NULL, 0, NULL) > 0);
    }
    free(copy);
}

static void a_cut_end_is_found_by_an_anchor_behind_it(void **state)
{
    (void)state;
    struct audit_anchor anchor;
    struct audit_check_result result;
    for (unsigned kept = 1; kept < line_count; kept++) {
        take_anchor(kept, &anchor);
        assert_true(check_text(text, starts[kept], &key, &anchor, 1, &result) > 0);
        assert_non_null(strstr(last_problem, "cut off"));
        take_anchor(kept - 1, &anchor);
        assert_int_equal(check_text(text, starts[kept], &key, &anchor, 1, &result), 0);
        /* Without an anchor only this is known of the end. */
        assert_true(!result.stopped || text + starts[kept] > strstr(text, "\"stopped\""));
        assert_true(result.signed_number <= kept);
    }
}

static void a_line_cut_in_the_middle_is_found(void **state)
{
    (void)state;
    for (size_t size = 1; size < text_size; size++) {
        bool whole = text[size - 1] == '\n';
        assert_int_equal(check_text(text, size, &key, NULL, 0, NULL) == 0, whole);
    }
}

static void a_rewritten_log_does_not_fit_its_anchor_or_its_key(void **state)
{
    (void)state;
    struct audit_anchor anchor;
    struct signature_public other = key;
    struct audit_check_result result;
    take_anchor(4, &anchor);
    anchor.hash[0] ^= 1;
    assert_int_equal(check_text(text, text_size, &key, &anchor, 1, &result), 1);
    assert_non_null(strstr(last_problem, "rewritten"));
    other.key[0] ^= 1;
    assert_true(check_text(text, text_size, &other, NULL, 0, &result) > 0);
    assert_int_equal(result.signed_number, 0);
}

static void an_anchor_is_number_and_hash(void **state)
{
    (void)state;
    struct audit_anchor anchor;
    char good[100];
    snprintf(good, sizeof good, "42:%064d", 7);
    assert_true(audit_check_parse_anchor(good, &anchor));
    assert_int_equal(anchor.number, 42);
    assert_int_equal(anchor.hash[31], 7);
    static const char *const bad[] = {"", "42", "42:", "0:00", ":00", "-1:00", "42:zz"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(audit_check_parse_anchor(bad[i], &anchor));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_log_that_nobody_touched_has_no_problems),
        cmocka_unit_test(a_flipped_bit_in_any_byte_is_found),
        cmocka_unit_test(each_line_removed_doubled_or_moved_is_found),
        cmocka_unit_test(a_cut_end_is_found_by_an_anchor_behind_it),
        cmocka_unit_test(a_line_cut_in_the_middle_is_found),
        cmocka_unit_test(a_rewritten_log_does_not_fit_its_anchor_or_its_key),
        cmocka_unit_test(an_anchor_is_number_and_hash),
    };
    return cmocka_run_group_tests(tests, make_log, free_log);
}
