// SPDX-License-Identifier: Apache-2.0
/* The tools are one program without an archive: what is under test is compiled in. */
#include "tools/copy.c"

#include <setjmp.h>

#include <cmocka.h>

#include "common/durable.h"

static volatile sig_atomic_t stop;

static int enter_directory(void **state)
{
    char template[] = "/tmp/diodecast-test-XXXXXX";
    if (mkdtemp(template) == NULL || chdir(template) < 0 || mkdir("from", 0755) < 0 || mkdir("to", 0755) < 0)
        return -1;
    stop = 0;
    *state = strdup(template);
    return 0;
}

static int leave_directory(void **state)
{
    int failed = chdir("/") < 0 || durable_remove_tree(AT_FDCWD, *state) != STATUS_OK;
    free(*state);
    return failed;
}

static void write_bytes(const char *path, size_t size, mode_t mode)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    for (size_t i = 0; i < size; i++)
        fputc((int)(i * 131 % 251), file);
    assert_int_equal(fchmod(fileno(file), mode), 0);
    assert_int_equal(fclose(file), 0);
}

static void assert_same_content(const char *a, const char *b)
{
    FILE *first = fopen(a, "r"), *second = fopen(b, "r");
    assert_true(first != NULL && second != NULL);
    int byte;
    do {
        byte = getc(first);
        assert_int_equal(getc(second), byte);
    } while (byte != EOF);
    fclose(first);
    fclose(second);
}

static bool copy_named(struct copy *copy, const char *path, const char *name)
{
    int to = open("to", O_RDONLY | O_DIRECTORY);
    assert_true(to >= 0);
    *copy = (struct copy){.stop = &stop, .mask = 022};
    struct stat info;
    assert_int_equal(fstat(to, &info), 0);
    copy->forbidden_device = info.st_dev;
    copy->forbidden_inode = info.st_ino;
    bool good = copy_item(copy, path, name, to, "copy");
    close(to);
    return good;
}

static void a_file_keeps_content_time_and_x_bit(void **state)
{
    (void)state;
    struct copy copy;
    struct stat before, after;
    write_bytes("from/file", 1000003, 0755);
    const struct timespec times[2] = {{1000, 5}, {978310923, 500000000}};
    assert_int_equal(utimensat(AT_FDCWD, "from/file", times, 0), 0);
    assert_true(copy_named(&copy, "from/file", "file"));
    assert_int_equal(copy.file_count, 1);
    assert_int_equal(copy.byte_count, 1000003);
    assert_same_content("from/file", "to/copy");
    assert_int_equal(stat("from/file", &before), 0);
    assert_int_equal(stat("to/copy", &after), 0);
    assert_true(same_moment(&before.st_mtim, &after.st_mtim));
    assert_int_equal(after.st_mode & 07777, 0755);
}

static void permissions_open_to_the_group_and_never_beyond_the_source(void **state)
{
    (void)state;
    struct copy copy;
    struct stat after;
    write_bytes("from/private", 1, 0600);
    assert_true(copy_named(&copy, "from/private", "private"));
    assert_int_equal(stat("to/copy", &after), 0);
    assert_int_equal(after.st_mode & 07777, 0640);
    assert_int_equal(unlink("to/copy"), 0);
    write_bytes("from/odd", 1, 0607);
    assert_true(copy_named(&copy, "from/odd", "odd"));
    assert_int_equal(stat("to/copy", &after), 0);
    assert_int_equal(after.st_mode & 07777, 0644);
}

static void a_tree_comes_over_whole(void **state)
{
    (void)state;
    struct copy copy;
    struct stat info;
    char target[32] = "";
    assert_int_equal(mkdir("from/tree", 0755), 0);
    assert_int_equal(mkdir("from/tree/empty", 0555), 0);
    assert_int_equal(mkdir("from/tree/sub", 0755), 0);
    write_bytes("from/tree/sub/a", 70000, 0644);
    write_bytes("from/tree/zero", 0, 0644);
    assert_int_equal(symlink("sub/a", "from/tree/link"), 0);
    const struct timespec times[2] = {{1000, 5}, {1234567890, 0}};
    assert_int_equal(utimensat(AT_FDCWD, "from/tree/sub", times, 0), 0);
    assert_true(copy_named(&copy, "from/tree", "tree"));
    assert_int_equal(copy.file_count, 2);
    assert_int_equal(copy.byte_count, 70000);
    assert_same_content("from/tree/sub/a", "to/copy/sub/a");
    assert_same_content("from/tree/zero", "to/copy/zero");
    assert_int_equal(readlink("to/copy/link", target, sizeof(target) - 1), 5);
    assert_string_equal(target, "sub/a");
    assert_int_equal(stat("to/copy/empty", &info), 0);
    assert_int_equal(info.st_mode & 07777, 0775);
    assert_int_equal(stat("to/copy/sub", &info), 0);
    assert_int_equal(info.st_mtim.tv_sec, 1234567890);
}

static void what_the_sender_would_refuse_is_refused_here(void **state)
{
    (void)state;
    struct copy copy;
    write_bytes("from/file", 1, 0644);
    static const char *const names[] = {"", ".", "..", ".hidden", "x.part", "x.tmp", "a\nb", "a\xff", "a/b"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        assert_false(copy_named(&copy, "from/file", names[i]));
        assert_int_equal(copy.code, EX_DATAERR);
        assert_true(copy.what[0] != '\0');
        assert_int_equal(access("to/copy", F_OK), -1);
    }
    assert_int_equal(mkdir("from/tree", 0755), 0);
    static const char *const targets[] = {"/etc/passwd", "..", "../file", "sub/../../x"};
    for (size_t i = 0; i < sizeof(targets) / sizeof(targets[0]); i++) {
        assert_int_equal(symlink(targets[i], "from/tree/link"), 0);
        assert_false(copy_named(&copy, "from/tree", "tree"));
        assert_int_equal(copy.code, EX_DATAERR);
        assert_int_equal(unlink("from/tree/link"), 0);
        assert_int_equal(durable_remove_tree(AT_FDCWD, "to/copy"), STATUS_OK);
    }
    assert_int_equal(mkfifo("from/tree/fifo", 0644), 0);
    assert_false(copy_named(&copy, "from/tree", "tree"));
    assert_int_equal(copy.code, EX_DATAERR);
    assert_non_null(strstr(copy.what, "tree/fifo"));
    assert_false(copy_named(&copy, "from/tree/fifo", "fifo"));
    assert_int_equal(copy.code, EX_DATAERR);
    assert_false(copy_named(&copy, "from/absent", "absent"));
    assert_int_equal(copy.code, EX_NOINPUT);
}

static void a_tree_that_holds_the_target_is_refused(void **state)
{
    (void)state;
    struct copy copy;
    assert_false(copy_named(&copy, ".", "all"));
    assert_int_equal(copy.code, EX_DATAERR);
}

static void an_interrupted_copy_says_so(void **state)
{
    (void)state;
    struct copy copy;
    assert_int_equal(mkdir("from/tree", 0755), 0);
    write_bytes("from/tree/a", 1, 0644);
    stop = 1;
    assert_false(copy_named(&copy, "from/tree", "tree"));
    assert_int_equal(copy.code, EX_TEMPFAIL);
}

int main(void)
{
#define IN_DIRECTORY(test) cmocka_unit_test_setup_teardown(test, enter_directory, leave_directory)
    const struct CMUnitTest tests[] = {
        IN_DIRECTORY(a_file_keeps_content_time_and_x_bit),
        IN_DIRECTORY(permissions_open_to_the_group_and_never_beyond_the_source),
        IN_DIRECTORY(a_tree_comes_over_whole),
        IN_DIRECTORY(what_the_sender_would_refuse_is_refused_here),
        IN_DIRECTORY(a_tree_that_holds_the_target_is_refused),
        IN_DIRECTORY(an_interrupted_copy_says_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
