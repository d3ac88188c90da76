// SPDX-License-Identifier: Apache-2.0
#include "sender/scan.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/sender_scratch.h"

static int set_up(void **state)
{
    static struct scratch scratch;
    scratch_open(&scratch);
    *state = &scratch;
    return 0;
}

static int tear_down(void **state)
{
    scratch_close(*state);
    return 0;
}

static enum status scan(const struct scratch *scratch, const char *name, struct listing **listing, char *reason)
{
    return scan_item(scratch->fd, name, CONFIG_SYMLINKS_INSIDE, LIMIT_TRANSFER_SIZE, listing, reason);
}

/* The item is refused with a reason that holds `word`. */
static void assert_refused(const struct scratch *scratch, const char *name, const char *word)
{
    struct listing *listing;
    char reason[400];
    assert_int_not_equal(scan(scratch, name, &listing, reason), STATUS_OK);
    assert_null(listing);
    assert_non_null(strstr(reason, word));
}

static void a_tree_is_listed_in_manifest_order_with_all_its_kinds(void **state)
{
    static const char *const expected[] = {"t",     "t/a",     "t/a/x",  "t/a b",  "t/a-b",
                                           "t/a.b", "t/empty", "t/link", "t/zero", "t/\xc3\xa4"};
    struct listing *listing;
    char reason[400];
    scratch_mkdir(*state, "t");
    scratch_mkdir(*state, "t/a");
    scratch_write(*state, "t/a/x", "xx");
    scratch_write(*state, "t/a b", "1");
    scratch_write(*state, "t/a-b", "2");
    scratch_write(*state, "t/a.b", "3");
    scratch_mkdir(*state, "t/empty");
    scratch_write(*state, "t/zero", "");
    scratch_write(*state, "t/\xc3\xa4", "umlaut");
    assert_int_equal(symlinkat("a/x", ((struct scratch *)*state)->fd, "t/link"), 0);
    assert_int_equal(fchmodat(((struct scratch *)*state)->fd, "t/a b", 0755, 0), 0);

    assert_int_equal(scan(*state, "t", &listing, reason), STATUS_OK);
    assert_int_equal(listing->count, sizeof expected / sizeof expected[0]);
    for (size_t i = 0; i < listing->count; i++) {
        assert_string_equal(listing->entries[i].path, expected[i]);
        if (i > 0)
            assert_true(manifest_path_compare(expected[i - 1], expected[i]) < 0);
    }
    assert_int_equal(listing->artifact_count, 6);
    assert_int_equal(listing->total_bytes, 2 + 1 + 1 + 1 + 0 + 6);
    assert_int_equal(listing->entries[6].kind, MANIFEST_DIRECTORY);
    assert_int_equal(listing->entries[7].kind, MANIFEST_SYMLINK);
    assert_string_equal(listing->entries[7].target, "a/x");
    assert_true(listing->entries[3].executable);
    assert_false(listing->entries[4].executable);
    scan_listing_destroy(listing);
}

static void what_can_not_cross_is_refused_with_its_path(void **state)
{
    const struct scratch *scratch = *state;
    assert_int_equal(mkfifoat(scratch->fd, "fifo", 0644), 0);
    assert_refused(scratch, "fifo", "fifo: is a FIFO");
    scratch_mkdir(scratch, "t");
    assert_int_equal(mkfifoat(scratch->fd, "t/pipe", 0644), 0);
    assert_refused(scratch, "t", "t/pipe: is a FIFO");
    assert_int_equal(unlinkat(scratch->fd, "t/pipe", 0), 0);
    scratch_write(scratch, "t/bad\nname", "");
    assert_refused(scratch, "t", "t/bad\\x0aname: contains a control character");
    assert_int_equal(unlinkat(scratch->fd, "t/bad\nname", 0), 0);
    scratch_write(scratch, "t/\xff\xfe", "");
    assert_refused(scratch, "t", "is not valid UTF-8");
    scratch_write(scratch, "esc\033[31m", "");
    assert_refused(scratch, "esc\033[31m", "esc\\x1b[31m: contains a control character");
    assert_refused(scratch, "missing", "No such file");
}

static void symlinks_stay_inside_or_are_refused(void **state)
{
    const struct scratch *scratch = *state;
    struct listing *listing;
    char reason[400];
    scratch_mkdir(scratch, "t");
    assert_int_equal(symlinkat("x", scratch->fd, "t/inside"), 0);
    assert_int_equal(scan(scratch, "t", &listing, reason), STATUS_OK);
    scan_listing_destroy(listing);
    assert_int_equal(scan_item(scratch->fd, "t", CONFIG_SYMLINKS_REFUSE, LIMIT_TRANSFER_SIZE, &listing, reason),
                     STATUS_INVALID);
    assert_non_null(strstr(reason, "symlinks = inside"));
    assert_int_equal(symlinkat("../secret", scratch->fd, "t/out"), 0);
    assert_refused(scratch, "t", "t/out: has a target outside the item");
    assert_int_equal(unlinkat(scratch->fd, "t/out", 0), 0);
    assert_int_equal(symlinkat("/etc/passwd", scratch->fd, "t/absolute"), 0);
    assert_refused(scratch, "t", "absolute");
    assert_int_equal(symlinkat("t", scratch->fd, "itself"), 0);
    assert_refused(scratch, "itself", "is itself the item");
}

static void a_symlink_to_a_directory_is_never_followed(void **state)
{
    const struct scratch *scratch = *state;
    struct listing *listing;
    char reason[400];
    scratch_mkdir(scratch, "t");
    scratch_mkdir(scratch, "t/d");
    scratch_write(scratch, "t/d/f", "f");
    assert_int_equal(symlinkat("d", scratch->fd, "t/link"), 0);
    assert_int_equal(scan(scratch, "t", &listing, reason), STATUS_OK);
    assert_int_equal(listing->count, 4);
    assert_int_equal(listing->artifact_count, 1);
    scan_listing_destroy(listing);
}

static void limits_are_kept(void **state)
{
    const struct scratch *scratch = *state;
    struct listing *listing;
    char reason[400], path[300] = "deep";
    scratch_write(scratch, "f", "12345");
    assert_int_equal(scan_item(scratch->fd, "f", CONFIG_SYMLINKS_REFUSE, 4, &listing, reason), STATUS_LIMIT);
    assert_non_null(strstr(reason, "max_size = 4 B"));
    assert_int_equal(scan_item(scratch->fd, "f", CONFIG_SYMLINKS_REFUSE, 5, &listing, reason), STATUS_OK);
    scan_listing_destroy(listing);
    scratch_mkdir(scratch, path);
    for (int i = 1; i < LIMIT_PATH_DEPTH + 1; i++) {
        size_t used = strlen(path);
        snprintf(path + used, sizeof path - used, "/d");
        scratch_mkdir(scratch, path);
    }
    assert_refused(scratch, "deep", "more than 128 components");
    scratch_write(scratch, "huge", "");
    int fd = openat(scratch->fd, "huge", O_WRONLY | O_CLOEXEC);
    if (ftruncate(fd, (off_t)LIMIT_ARTIFACT_SIZE + 1) == 0)
        assert_refused(scratch, "huge", "larger");
    close(fd);
}

static void what_the_sender_may_not_read_is_refused(void **state)
{
    const struct scratch *scratch = *state;
    if (geteuid() != 0)
        skip();
    scratch_mkdir(scratch, "t");
    scratch_write(scratch, "t/secret", "s");
    assert_int_equal(fchmodat(scratch->fd, "t/secret", 0600, 0), 0);
    assert_int_equal(chmod(scratch->path, 0755), 0);
    assert_int_equal(seteuid(65534), 0);
    struct listing *listing;
    char reason[400];
    enum status status = scan(scratch, "t", &listing, reason);
    assert_int_equal(seteuid(0), 0);
    assert_int_equal(status, STATUS_SYSTEM);
    assert_non_null(strstr(reason, "t/secret: can't be read"));
}

/* Scans, calls `change`, scans again; the two must differ with `word` in the text. */
static void assert_seen(const struct scratch *scratch, void (*change)(const struct scratch *scratch), const char *word)
{
    struct listing *before, *after;
    char text[400];
    assert_int_equal(scan(scratch, "t", &before, text), STATUS_OK);
    change(scratch);
    assert_int_equal(scan(scratch, "t", &after, text), STATUS_OK);
    assert_false(scan_same(before, after, text));
    assert_non_null(strstr(text, word));
    scan_listing_destroy(before);
    scan_listing_destroy(after);
}

static void grow(const struct scratch *scratch)
{
    scratch_write(scratch, "t/a", "longer than before");
}

static void add(const struct scratch *scratch)
{
    scratch_write(scratch, "t/b", "");
}

static void take_away(const struct scratch *scratch)
{
    assert_int_equal(unlinkat(scratch->fd, "t/b", 0), 0);
}

static void touch(const struct scratch *scratch)
{
    const struct timespec times[2] = {{.tv_sec = 1}, {.tv_sec = 1}};
    assert_int_equal(utimensat(scratch->fd, "t/a", times, 0), 0);
}

static void swap_for_equal(const struct scratch *scratch)
{
    scratch_write(scratch, "other", "longer than before");
    scratch_rename(scratch, "other", "t/a");
}

static void every_change_is_seen(void **state)
{
    scratch_mkdir(*state, "t");
    scratch_write(*state, "t/a", "a");
    struct listing *one, *two;
    char text[400];
    assert_int_equal(scan(*state, "t", &one, text), STATUS_OK);
    assert_int_equal(scan(*state, "t", &two, text), STATUS_OK);
    assert_true(scan_same(one, two, text));
    scan_listing_destroy(one);
    scan_listing_destroy(two);
    assert_seen(*state, grow, "t/a: changed its size");
    assert_seen(*state, add, "t: was changed");
    assert_seen(*state, take_away, "t: was changed");
    assert_seen(*state, touch, "t/a: was changed");
    assert_seen(*state, swap_for_equal, "while the item was read");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_tree_is_listed_in_manifest_order_with_all_its_kinds),
        TEST(what_can_not_cross_is_refused_with_its_path),
        TEST(symlinks_stay_inside_or_are_refused),
        TEST(a_symlink_to_a_directory_is_never_followed),
        TEST(limits_are_kept),
        TEST(what_the_sender_may_not_read_is_refused),
        TEST(every_change_is_seen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
