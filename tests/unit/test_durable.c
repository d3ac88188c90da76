// SPDX-License-Identifier: Apache-2.0
#include "common/durable.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

struct fixture {
    char folder[40];
    int dirfd;
};

static int set_up(void **state)
{
    struct fixture *fixture = calloc(1, sizeof *fixture);
    snprintf(fixture->folder, sizeof fixture->folder, "/tmp/diodecast-durable-XXXXXX");
    if (mkdtemp(fixture->folder) == NULL)
        return -1;
    fixture->dirfd = open(fixture->folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
    *state = fixture;
    return fixture->dirfd >= 0 ? 0 : -1;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;
    close(fixture->dirfd);
    enum status status = durable_remove_tree(AT_FDCWD, fixture->folder);
    bool gone = access(fixture->folder, F_OK) != 0;
    free(fixture);
    return status == STATUS_OK && gone ? 0 : -1;
}

static mode_t mode_of(int dirfd, const char *name)
{
    struct stat stat;
    assert_int_equal(fstatat(dirfd, name, &stat, AT_SYMLINK_NOFOLLOW), 0);
    return stat.st_mode & 07777;
}

static bool exists(int dirfd, const char *name)
{
    return faccessat(dirfd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static void make_file(int dirfd, const char *name, const char *text)
{
    assert_int_equal(durable_write_file(dirfd, name, text, strlen(text), 0644), STATUS_OK);
}

static void assert_content(int dirfd, const char *name, const char *text)
{
    char *bytes = NULL;
    size_t size = 0;
    assert_int_equal(durable_read_file(dirfd, name, 1000, &bytes, &size), STATUS_OK);
    assert_int_equal(size, strlen(text));
    assert_string_equal(bytes, text);
    free(bytes);
}

static void a_written_file_replaces_the_old_one_with_its_exact_mode(void **state)
{
    const struct fixture *fixture = *state;
    mode_t mask = umask(077);
    make_file(fixture->dirfd, "key", "old content");
    assert_int_equal(durable_write_file(fixture->dirfd, "key", "new", 3, 0664), STATUS_OK);
    umask(mask);
    assert_content(fixture->dirfd, "key", "new");
    assert_int_equal(mode_of(fixture->dirfd, "key"), 0664);
    assert_false(exists(fixture->dirfd, ".key.tmp"));
}

static void a_name_of_full_length_and_a_path_can_be_written(void **state)
{
    const struct fixture *fixture = *state;
    char name[256];
    memset(name, 'n', 255);
    name[255] = '\0';
    make_file(fixture->dirfd, name, "x");
    assert_content(fixture->dirfd, name, "x");
    assert_int_equal(durable_make_directory(fixture->dirfd, "sub", 0755), STATUS_OK);
    make_file(fixture->dirfd, "sub/file", "y");
    assert_content(fixture->dirfd, "sub/file", "y");
    assert_false(exists(fixture->dirfd, "sub/.file.tmp"));
    assert_int_equal(durable_write_file(fixture->dirfd, "none/file", "", 0, 0600), STATUS_NOT_FOUND);
}

static void what_a_crash_left_is_no_obstacle_and_is_not_followed(void **state)
{
    const struct fixture *fixture = *state;
    make_file(fixture->dirfd, "victim", "untouched");
    assert_int_equal(symlinkat("victim", fixture->dirfd, ".file.tmp"), 0);
    make_file(fixture->dirfd, "file", "content");
    assert_content(fixture->dirfd, "file", "content");
    assert_content(fixture->dirfd, "victim", "untouched");
}

static void directories_get_their_exact_mode_once(void **state)
{
    const struct fixture *fixture = *state;
    mode_t mask = umask(077);
    assert_int_equal(durable_make_directory(fixture->dirfd, "d", 02770), STATUS_OK);
    umask(mask);
    assert_int_equal(mode_of(fixture->dirfd, "d"), 02770);
    assert_int_equal(durable_make_directory(fixture->dirfd, "d", 0700), STATUS_OK);
    assert_int_equal(mode_of(fixture->dirfd, "d"), 02770);
    make_file(fixture->dirfd, "f", "");
    assert_int_equal(durable_make_directory(fixture->dirfd, "f", 0700), STATUS_EXISTS);
    assert_int_equal(durable_make_directory(fixture->dirfd, "no/d", 0700), STATUS_NOT_FOUND);
}

static void a_rename_never_replaces(void **state)
{
    const struct fixture *fixture = *state;
    make_file(fixture->dirfd, "a", "a");
    make_file(fixture->dirfd, "b", "b");
    assert_int_equal(durable_make_directory(fixture->dirfd, "sub", 0755), STATUS_OK);
    assert_int_equal(durable_rename(fixture->dirfd, "a", fixture->dirfd, "b"), STATUS_EXISTS);
    assert_content(fixture->dirfd, "b", "b");
    assert_int_equal(durable_rename(fixture->dirfd, "a", fixture->dirfd, "sub/c"), STATUS_OK);
    assert_false(exists(fixture->dirfd, "a"));
    assert_content(fixture->dirfd, "sub/c", "a");
    assert_int_equal(durable_rename(fixture->dirfd, "a", fixture->dirfd, "z"), STATUS_NOT_FOUND);
}

static void removing_a_tree_stays_inside_it(void **state)
{
    const struct fixture *fixture = *state;
    assert_int_equal(durable_make_directory(fixture->dirfd, "outside", 0755), STATUS_OK);
    make_file(fixture->dirfd, "outside/file", "stays");
    assert_int_equal(durable_make_directory(fixture->dirfd, "tree", 0755), STATUS_OK);
    assert_int_equal(durable_make_directory(fixture->dirfd, "tree/sub", 0755), STATUS_OK);
    assert_int_equal(symlinkat("../outside", fixture->dirfd, "tree/link"), 0);
    assert_int_equal(symlinkat("../../outside", fixture->dirfd, "tree/sub/link"), 0);
    for (int i = 0; i < 300; i++) {
        char name[32];
        snprintf(name, sizeof name, "tree/sub/%d", i);
        int fd = openat(fixture->dirfd, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0);
        assert_true(fd >= 0);
        close(fd);
    }
    assert_int_equal(durable_remove_tree(fixture->dirfd, "tree"), STATUS_OK);
    assert_false(exists(fixture->dirfd, "tree"));
    assert_content(fixture->dirfd, "outside/file", "stays");
    assert_int_equal(durable_remove_tree(fixture->dirfd, "tree"), STATUS_OK);
    assert_int_equal(symlinkat("outside", fixture->dirfd, "direct"), 0);
    assert_int_equal(durable_remove_tree(fixture->dirfd, "direct"), STATUS_OK);
    assert_content(fixture->dirfd, "outside/file", "stays");
}

static void reading_is_bounded_and_does_not_hang(void **state)
{
    const struct fixture *fixture = *state;
    char *bytes = NULL;
    size_t size = 0;
    char large[5000];
    memset(large, 'x', sizeof large);
    assert_int_equal(durable_write_file(fixture->dirfd, "large", large, sizeof large, 0600), STATUS_OK);
    assert_int_equal(durable_read_file(fixture->dirfd, "large", 4999, &bytes, &size), STATUS_LIMIT);
    assert_null(bytes);
    assert_int_equal(durable_read_file(fixture->dirfd, "large", 5000, &bytes, &size), STATUS_OK);
    assert_int_equal(size, 5000);
    assert_memory_equal(bytes, large, sizeof large);
    assert_int_equal(bytes[5000], '\0');
    free(bytes);
    assert_int_equal(durable_read_file(fixture->dirfd, "none", 10, &bytes, &size), STATUS_NOT_FOUND);
    assert_int_equal(mkfifoat(fixture->dirfd, "fifo", 0600), 0);
    assert_int_equal(durable_read_file(fixture->dirfd, "fifo", 10, &bytes, &size), STATUS_OK);
    assert_int_equal(size, 0);
    free(bytes);
}

#define test(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        test(a_written_file_replaces_the_old_one_with_its_exact_mode),
        test(a_name_of_full_length_and_a_path_can_be_written),
        test(what_a_crash_left_is_no_obstacle_and_is_not_followed),
        test(directories_get_their_exact_mode_once),
        test(a_rename_never_replaces),
        test(removing_a_tree_stays_inside_it),
        test(reading_is_bounded_and_does_not_hang),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
