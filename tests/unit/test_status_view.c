// SPDX-License-Identifier: Apache-2.0
/* The tools are one program without an archive: what is under test is compiled in. */
#include "tools/status_view.c"
#include "tools/terminal.c"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

/* 2026-11-22T01:50:16.500Z */
#define NOW_NS (INT64_C(1795312216) * 1000000000 + 500000000)

static json_t *parse(const char *text)
{
    json_error_t error;
    json_t *root = json_loads(text, 0, &error);
    if (root == NULL)
        fail_msg("%s", error.text);
    return root;
}

static char *print_both(const char *text, const char *earlier_text)
{
    char *out = NULL;
    size_t size = 0;
    json_t *root = parse(text);
    json_t *earlier = earlier_text == NULL ? NULL : parse(earlier_text);
    FILE *stream = open_memstream(&out, &size);
    status_view_print(stream, root, earlier, NOW_NS);
    fclose(stream);
    json_decref(root);
    json_decref(earlier);
    return out;
}

static void assert_prints(const char *text, const char *wanted)
{
    char *out = print_both(text, NULL);
    if (strstr(out, wanted) == NULL)
        fail_msg("\"%s\" is not in:\n%s", wanted, out);
    free(out);
}

static void times_are_understood_and_others_refused(void **state)
{
    (void)state;
    int64_t ns = 0;
    assert_true(status_view_parse_time("2026-11-22T01:50:16.500Z", &ns));
    assert_true(ns == NOW_NS);
    assert_true(status_view_parse_time("2026-11-22T01:50:16Z", &ns));
    assert_true(ns == NOW_NS - 500000000);
    assert_true(status_view_parse_time("1970-01-01T00:00:00.000000001Z", &ns));
    assert_true(ns == 1);
    static const char *const bad[] = {"",
                                      "now",
                                      "2026-11-22",
                                      "2026-11-22T01:50:16",
                                      "2026-11-22T01:50:16.Z",
                                      "2026-11-22T01:50:16Zx",
                                      "2026-13-22T01:50:16Z",
                                      "9999-11-22T01:50:16Z"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(status_view_parse_time(bad[i], &ns));
}

static bool stale(const char *text)
{
    json_t *root = parse(text);
    bool result = status_view_is_stale(root, NOW_NS);
    json_decref(root);
    return result;
}

static void a_file_is_stale_behind_its_time_or_without_one(void **state)
{
    (void)state;
    assert_false(stale("{\"written_at\":\"2026-11-22T01:50:12.000Z\",\"valid_for_s\":5}"));
    assert_true(stale("{\"written_at\":\"2026-11-22T01:50:11.000Z\",\"valid_for_s\":5}"));
    assert_false(stale("{\"written_at\":\"2026-11-22T01:50:20.000Z\",\"valid_for_s\":5}"));
    assert_true(stale("{\"written_at\":\"2026-11-22T01:50:16.000Z\"}"));
    assert_true(stale("{\"valid_for_s\":5}"));
    assert_true(stale("{}"));
    assert_true(stale("{\"written_at\":5,\"valid_for_s\":\"x\"}"));
}

static void anything_may_be_missing_or_of_another_type(void **state)
{
    (void)state;
    static const char *const files[] = {
        "{}",
        "{\"link\":{},\"fec\":{},\"transfers\":{},\"queue\":{},\"intake\":{},\"last_delivered\":{}}",
        "{\"link\":[],\"fec\":1,\"transfers\":\"x\",\"queue\":null,\"intake\":true,\"reasons\":{},\"sending\":{}}",
        "{\"health\":7,\"reasons\":[1,null,{}],\"written_at\":[],\"pid\":\"x\",\"rate_bits_per_second\":\"x\"}",
        "{\"transfers\":{\"open\":[1,{},null,{\"bytes_total\":-5,\"bytes_received\":1e9,\"name\":3}],"
        "\"incomplete\":[{},2],\"never_seen\":[{},\"x\"]},\"sending\":[{}],\"link\":{\"drops\":{\"a\":\"b\"}}}",
    };
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
        free(print_both(files[i], files[i]));
}

static void an_open_transfer_has_a_bar_and_a_percentage(void **state)
{
    (void)state;
    assert_prints("{\"transfers\":{\"open\":[{\"id\":\"aa\",\"channel\":\"models\",\"name\":\"m\",\"bytes_total\":1000,"
                  "\"bytes_received\":500,\"state\":\"receiving\"}]}}",
                  "[###############---------------]  50.0 %  models/m");
    assert_prints("{\"sending\":[{\"channel\":\"c\",\"name\":\"m\",\"bytes_total\":100000,\"bytes_sent\":99999}]}",
                  " 99.9 %");
    assert_prints("{\"sending\":[{\"channel\":\"c\",\"name\":\"m\",\"bytes_total\":0,\"bytes_sent\":0}]}", "100.0 %");
}

static void the_rate_comes_from_two_files(void **state)
{
    (void)state;
    char *out = print_both("{\"written_at\":\"2026-11-22T01:50:16.000Z\",\"transfers\":{\"open\":[{\"id\":\"aa\","
                           "\"name\":\"m\",\"bytes_total\":100000000,\"bytes_received\":50000000}]}}",
                           "{\"written_at\":\"2026-11-22T01:50:14.000Z\",\"transfers\":{\"open\":[{\"id\":\"aa\","
                           "\"name\":\"m\",\"bytes_total\":100000000,\"bytes_received\":25000000}]}}");
    assert_non_null(strstr(out, "100 Mbit/s"));
    assert_non_null(strstr(out, "to go"));
    free(out);
}

static void reasons_losses_and_tickets_are_shown(void **state)
{
    (void)state;
    assert_prints("{\"health\":\"degraded\",\"reasons\":[{\"code\":\"no-heartbeat\",\"level\":\"degraded\","
                  "\"since\":\"2026-11-22T01:00:00.000Z\",\"action\":\"look at the cable\"}]}",
                  "degraded no-heartbeat, since 2026-11-22T01:00:00.000Z: look at the cable");
    assert_prints("{\"transfers\":{\"held_total\":3,\"held\":[{\"sequence\":42,\"channel\":\"wheels\",\"name\":\"x\","
                  "\"reason\":\"no approval\"}]}}",
                  "held back  3 in the quarantine\n  sequence 42 wheels/x: no approval\n");
    assert_prints("{\"transfers\":{\"incomplete\":[{\"sequence\":41,\"missing_bytes\":4096,\"ticket\":\"D1-XY\","
                  "\"healing\":true,\"name\":\"m\"}]}}",
                  "sequence 41 m: 4 KiB missing, will be sent again by itself\n    ticket  D1-XY\n");
    assert_prints("{\"transfers\":{\"incomplete\":[{\"sequence\":41,\"missing_bytes\":4096,\"ticket\":null,"
                  "\"missing_chunks\":{\"count\":3},\"name\":\"m\"}]}}",
                  "sequence 41 m: 4 KiB missing in 3 chunks\n");
    assert_prints(
        "{\"transfers\":{\"never_seen\":[{\"first\":3,\"last\":5,\"sender_id\":\"1f\",\"ticket\":\"D1-Z\"}]}}",
        "sequences 3 to 5 of sender 1f\n    ticket  D1-Z\n");
    assert_prints("{\"alarms\":[{\"code\":\"chain_fork\",\"sender_id\":\"1f\",\"first\":3,\"last\":4,"
                  "\"since\":\"2026-11-22T01:00:00.000Z\",\"ticket\":\"D1-A\"}]}",
                  "  chain_fork of sender 1f, sequences 3 to 4, since 2026-11-22T01:00:00.000Z\n    ticket  D1-A\n");
    assert_prints("{\"link\":{\"datagrams_total\":990,\"lost_total\":10,\"drops\":{\"late\":3,\"tag\":0}}}",
                  "990 datagrams, 10 lost (1.00 %)  dropped: late 3\n");
}

static void each_side_shows_its_own_end_of_the_link(void **state)
{
    (void)state;
    static const char sender[] =
        "{\"link\":{\"peer\":\"192.0.2.2:4700\",\"interface\":\"eth1\",\"carrier\":false,\"datagrams_sent\":990,"
        "\"send_errors\":3},\"fec\":{\"source_symbols\":128,\"repair_symbols\":16}}";
    assert_prints(sender, "to 192.0.2.2:4700 by eth1 (no carrier), 990 datagrams, 3 send errors\n");
    assert_prints(sender, "fec             128+16 symbols\n");
    assert_prints("{\"fec\":{\"blocks_total\":7,\"repaired_total\":2,\"failed_total\":1}}",
                  "7 blocks, 2 repaired, 1 failed\n");
}

static void keys_that_do_not_count_and_announced_ones_are_shown(void **state)
{
    (void)state;
    static const char keys[] =
        "{\"keys\":{\"required_signatures\":2,\"senders\":[{\"name\":\"a\",\"state\":\"good\"},{\"name\":\"b\","
        "\"state\":\"expired\",\"expires\":\"2026-01-01T00:00:00.000Z\"}],\"approvers\":[{\"name\":\"c\","
        "\"state\":\"revoked\",\"why_revoked\":\"lost\"}],\"announced\":[{\"fingerprint\":\"AB 12\"},"
        "{\"fingerprint\":\"CD 34\",\"in_use\":true}]}}";
    assert_prints(keys, "keys            2 senders, 1 approver, 2 approvals required\n"
                        "  sender b: expired since 2026-01-01T00:00:00.000Z\n"
                        "  approver c: revoked, lost\n"
                        "  announced AB 12\n");
}

static void names_cannot_steer_the_terminal(void **state)
{
    (void)state;
    assert_prints("{\"sending\":[{\"channel\":\"c\",\"name\":\"a\\u001b[31m\\u202eb\\\\\\u00e4\\u009b\"}]}",
                  "c/a\\x1b[31m\\xe2\\x80\\xae"
                  "b\\\\\xc3\xa4\\xc2\\x9b");
}

static void bytes_that_are_not_utf8_are_escaped(void **state)
{
    (void)state;
    char *out = NULL;
    size_t size = 0;
    FILE *stream = open_memstream(&out, &size);
    terminal_print(stream, "ok\xff\xc3(\xe2\x82\n\xed\xa0\x80\xf0\x9f\x98\x80");
    fclose(stream);
    assert_string_equal(out, "ok\\xff\\xc3(\\xe2\\x82\\x0a\\xed\\xa0\\x80\xf0\x9f\x98\x80");
    free(out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(times_are_understood_and_others_refused),
        cmocka_unit_test(a_file_is_stale_behind_its_time_or_without_one),
        cmocka_unit_test(anything_may_be_missing_or_of_another_type),
        cmocka_unit_test(an_open_transfer_has_a_bar_and_a_percentage),
        cmocka_unit_test(the_rate_comes_from_two_files),
        cmocka_unit_test(reasons_losses_and_tickets_are_shown),
        cmocka_unit_test(each_side_shows_its_own_end_of_the_link),
        cmocka_unit_test(keys_that_do_not_count_and_announced_ones_are_shown),
        cmocka_unit_test(names_cannot_steer_the_terminal),
        cmocka_unit_test(bytes_that_are_not_utf8_are_escaped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
