// SPDX-License-Identifier: Apache-2.0
#include "proto/relpath.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/limits.h"

static bool path_is_legal(const char *text)
{
    return relpath_check(text, strlen(text)) == NULL;
}

static bool link_is_legal(const char *path, const char *target)
{
    return relpath_check_symlink(path, target, strlen(target)) == NULL;
}

static void ordinary_and_non_ascii_names_are_accepted(void **state)
{
    (void)state;
    static const char *const good[] = {
        "a",
        "a/b/c",
        "...",
        "..a",
        "a..",
        ".hidden",
        "a b",
        "a\\b",
        "-rf",
        "a/...",
        "~",
        "größe.txt",
        "日本語/ファイル",
        "\xf0\x9f\x98\x80",
        "a:b*c?",
        "tree/ .x",
        "\xc2\xa0",
        "\xf4\x8f\xbf\xbf",
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        assert_true(path_is_legal(good[i]));
}

static void hostile_paths_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "/",
        "/a",
        "a/",
        "a//b",
        ".",
        "..",
        "../a",
        "a/..",
        "a/../b",
        "a/./b",
        "./a",
        "a/.",
        "a\nb",
        "\x01",
        "a\x7f",
        "\xc2\x80",
        "\xc2\x9f",
        "\x80",
        "\xff",
        "a\xc3",
        "\xc0\xaf",
        "\xe0\x80\xaf",
        "\xed\xa0\x80",
        "\xf4\x90\x80\x80",
        "\xf8\x88\x80\x80\x80",
        "\xc3/",
        "\xe2\x82",
        "\xf0\x9f\x98",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(path_is_legal(bad[i]));
    assert_non_null(relpath_check("a\0b", 3));
    assert_non_null(relpath_check("a\0", 2));
}

static void lengths_are_bounded_exactly(void **state)
{
    (void)state;
    char text[LIMIT_PATH_LENGTH + 2];

    memset(text, 'a', sizeof text);
    assert_null(relpath_check_component(text, 255));
    assert_non_null(relpath_check_component(text, 256));
    for (size_t i = 250; i < sizeof text; i += 251)
        text[i] = '/';
    assert_null(relpath_check(text, LIMIT_PATH_LENGTH));
    assert_non_null(relpath_check(text, LIMIT_PATH_LENGTH + 1));
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = i % 2 == 0 ? 'a' : '/';
    assert_null(relpath_check(text, 2 * LIMIT_PATH_DEPTH - 1));
    assert_non_null(relpath_check(text, 2 * LIMIT_PATH_DEPTH + 1));
}

static void a_component_has_no_slash(void **state)
{
    (void)state;
    assert_null(relpath_check_component("a", 1));
    assert_non_null(relpath_check_component("", 0));
    assert_non_null(relpath_check_component("a/b", 3));
    assert_non_null(relpath_check_component("..", 2));
    assert_non_null(relpath_check_component(".", 1));
}

static void channel_names_are_plain(void **state)
{
    (void)state;
    char text[LIMIT_CHANNEL_LENGTH + 1];

    memset(text, 'x', sizeof text);
    assert_null(relpath_check_channel("default", 7));
    assert_null(relpath_check_channel("A-z_0.9", 7));
    assert_null(relpath_check_channel(text, LIMIT_CHANNEL_LENGTH));
    assert_non_null(relpath_check_channel(text, LIMIT_CHANNEL_LENGTH + 1));
    assert_non_null(relpath_check_channel("", 0));
    assert_non_null(relpath_check_channel(".sent", 5));
    assert_non_null(relpath_check_channel("a/b", 3));
    assert_non_null(relpath_check_channel("a b", 3));
    assert_non_null(relpath_check_channel("\xc3\xa4", 2));
    assert_non_null(relpath_check_channel("a\0", 2));
}

static void symlinks_inside_the_item_are_accepted(void **state)
{
    (void)state;
    assert_true(link_is_legal("tree/a", "b"));
    assert_true(link_is_legal("tree/a", "./b"));
    assert_true(link_is_legal("tree/a", "b/"));
    assert_true(link_is_legal("tree/a", "b//c"));
    assert_true(link_is_legal("tree/a", "."));
    assert_true(link_is_legal("tree/a/b", ".."));
    assert_true(link_is_legal("tree/a/b/c", "../../x/y"));
    assert_true(link_is_legal("tree/a/b", ".././../tree") == false);
    assert_true(link_is_legal("tree/a", "..."));
}

static void symlinks_that_could_leave_the_item_are_refused(void **state)
{
    (void)state;
    assert_false(link_is_legal("tree/a", ""));
    assert_false(link_is_legal("tree/a", "/etc/passwd"));
    assert_false(link_is_legal("tree/a", ".."));
    assert_false(link_is_legal("tree/a", "../tree/b"));
    assert_false(link_is_legal("tree/a", "../../etc"));
    assert_false(link_is_legal("tree/a/b", "../.."));
    assert_false(link_is_legal("tree/a/b/c", "../../../x"));
    assert_false(link_is_legal("tree/a", "b\nc"));
    assert_false(link_is_legal("tree/a", "\xff"));
    /* Where "up" leads to "tree", "up/../.." leads out of it although no name by itself does. */
    assert_false(link_is_legal("tree/a/b/z", "up/../.."));
    assert_false(link_is_legal("tree/a/b/z", "up/.."));
    assert_non_null(relpath_check_symlink("tree/a", "b\0c", 3));
}

static void a_symlink_as_the_item_itself_is_refused(void **state)
{
    (void)state;
    assert_false(link_is_legal("link", "x"));
    assert_false(link_is_legal("link", "."));
}

static void unfinished_names_are_not_items(void **state)
{
    (void)state;
    assert_true(relpath_is_hidden_item(".x"));
    assert_true(relpath_is_hidden_item("a.part"));
    assert_true(relpath_is_hidden_item("a.tmp"));
    assert_true(relpath_is_hidden_item(".part"));
    assert_true(relpath_is_hidden_item("a.whl.approval"));
    assert_true(relpath_is_approval("a.whl.approval"));
    assert_false(relpath_is_approval("approval"));
    assert_false(relpath_is_hidden_item("a.approvals"));
    assert_false(relpath_is_hidden_item("part"));
    assert_false(relpath_is_hidden_item("a.partial"));
    assert_false(relpath_is_hidden_item("a.tmp.gz"));
    assert_false(relpath_is_hidden_item("tmp"));
}

static void cutting_never_splits_a_character(void **state)
{
    (void)state;
    const char *text = "a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80";
    static const size_t expected[] = {0, 1, 1, 3, 3, 3, 6, 6, 6, 6, 10, 10};

    for (size_t limit = 0; limit < sizeof expected / sizeof *expected; limit++)
        assert_int_equal(relpath_cut(text, limit), expected[limit]);
}

static void free_text_may_be_empty_but_not_control_the_terminal(void **state)
{
    (void)state;
    assert_null(relpath_check_text("", 0));
    assert_null(relpath_check_text("a / b .. c", 10));
    assert_non_null(relpath_check_text("\x1b[31m", 5));
    assert_non_null(relpath_check_text("a\0b", 3));
    assert_non_null(relpath_check_text("\xc2\x9b", 2));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ordinary_and_non_ascii_names_are_accepted),
        cmocka_unit_test(hostile_paths_are_refused),
        cmocka_unit_test(lengths_are_bounded_exactly),
        cmocka_unit_test(a_component_has_no_slash),
        cmocka_unit_test(channel_names_are_plain),
        cmocka_unit_test(symlinks_inside_the_item_are_accepted),
        cmocka_unit_test(symlinks_that_could_leave_the_item_are_refused),
        cmocka_unit_test(a_symlink_as_the_item_itself_is_refused),
        cmocka_unit_test(unfinished_names_are_not_items),
        cmocka_unit_test(cutting_never_splits_a_character),
        cmocka_unit_test(free_text_may_be_empty_but_not_control_the_terminal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
