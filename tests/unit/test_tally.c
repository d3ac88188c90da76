// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "proto/tally.h"

static struct tally tally;

static struct manifest_entry entry_of(enum manifest_kind kind, const char *path, uint64_t size)
{
    return (struct manifest_entry){
        .path = path, .kind = kind, .size = size, .target = kind == MANIFEST_SYMLINK ? "a" : NULL};
}

static const char *add(enum manifest_kind kind, const char *path, uint64_t size)
{
    struct manifest_entry entry = entry_of(kind, path, size);
    return tally_add(&tally, &entry);
}

static int begin(void **state)
{
    (void)state;
    tally_init(&tally, "item");
    return add(MANIFEST_DIRECTORY, "item", 0) != NULL;
}

static void what_is_added_is_counted_and_what_is_refused_is_not(void **state)
{
    (void)state;
    assert_null(add(MANIFEST_FILE, "item/a", 10));
    assert_null(add(MANIFEST_DIRECTORY, "item/b", 0));
    assert_null(add(MANIFEST_FILE, "item/b/c", CHUNK_SIZE + 1));
    assert_string_equal(add(MANIFEST_FILE, "item/b/c", 1), "is listed twice");
    assert_null(add(MANIFEST_SYMLINK, "item/d", 0));
    assert_int_equal(tally.entries, 5);
    assert_int_equal(tally.artifacts, 2);
    assert_true(tally.total_bytes == CHUNK_SIZE + 11 && tally.chunk_hashes == 2);
}

static void the_item_itself_comes_first(void **state)
{
    (void)state;
    tally_init(&tally, "item");
    assert_string_equal(add(MANIFEST_FILE, "other", 1), "is not the item itself, which must come first");
    assert_string_equal(add(MANIFEST_FILE, "item/a", 1), "is not the item itself, which must come first");
    assert_null(add(MANIFEST_FILE, "item", 1));
}

static void an_entry_lies_in_a_directory_that_was_listed(void **state)
{
    (void)state;
    assert_string_equal(add(MANIFEST_FILE, "item/a/b", 1), "has no parent directory");
    assert_null(add(MANIFEST_DIRECTORY, "item/ab", 0));
    assert_string_equal(add(MANIFEST_FILE, "item/abc/d", 1), "has no parent directory");
    assert_string_equal(add(MANIFEST_FILE, "items/x", 1), "has no parent directory");
    assert_string_equal(add(MANIFEST_FILE, "items", 1), "is outside the item");
    assert_string_equal(add(MANIFEST_FILE, "item/aa", 1), "is out of order");
    assert_null(add(MANIFEST_FILE, "item/b", 1));
    assert_string_equal(add(MANIFEST_FILE, "item/b/c", 1), "has a parent that is not a directory");
}

static void each_kind_has_its_own_properties_only(void **state)
{
    (void)state;
    struct manifest_entry entry = entry_of(MANIFEST_FILE, "item/a", 1);
    entry.target = "b";
    assert_string_equal(tally_add(&tally, &entry), "is a file with a link target");
    entry = entry_of(MANIFEST_DIRECTORY, "item/a", 0);
    entry.target = "b";
    assert_string_equal(tally_add(&tally, &entry), "is a directory with a link target");
    entry = entry_of(MANIFEST_DIRECTORY, "item/a", 0);
    entry.executable = true;
    assert_string_equal(tally_add(&tally, &entry), "has a property of files");
    entry = entry_of(MANIFEST_SYMLINK, "item/a", 0);
    entry.sha256[5] = 1;
    assert_string_equal(tally_add(&tally, &entry), "has a property of files");
    assert_string_equal(add(MANIFEST_SYMLINK, "item/a", 1), "has a property of files");
    entry = entry_of(MANIFEST_SYMLINK, "item/a", 0);
    entry.target = NULL;
    assert_string_equal(tally_add(&tally, &entry), "is a symlink without a target");
    entry.target = "../../etc";
    assert_non_null(tally_add(&tally, &entry));
}

static void no_bound_is_passed(void **state)
{
    (void)state;
    assert_string_equal(add(MANIFEST_FILE, "item/a", LIMIT_ARTIFACT_SIZE + 1),
                        "is larger than the 8 TiB that an artifact may have");
    assert_null(add(MANIFEST_FILE, "item/a", 1));
    assert_string_equal(add(MANIFEST_FILE, "item/b", LIMIT_TRANSFER_SIZE), "makes the transfer larger than it may be");
    tally.artifacts = LIMIT_ARTIFACTS;
    assert_string_equal(add(MANIFEST_FILE, "item/b", 1), "is one artifact too many");
    assert_null(add(MANIFEST_SYMLINK, "item/b", 0));
    tally.entries = LIMIT_ENTRIES;
    assert_string_equal(add(MANIFEST_SYMLINK, "item/c", 0), "is one entry too many");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(what_is_added_is_counted_and_what_is_refused_is_not, begin),
        cmocka_unit_test_setup(the_item_itself_comes_first, begin),
        cmocka_unit_test_setup(an_entry_lies_in_a_directory_that_was_listed, begin),
        cmocka_unit_test_setup(each_kind_has_its_own_properties_only, begin),
        cmocka_unit_test_setup(no_bound_is_passed, begin),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
