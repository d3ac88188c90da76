// SPDX-License-Identifier: Apache-2.0
#include "receiver/handover_file.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define LIMIT UINT64_C(1000000)

static char directory[64], status_path[96], path[96], temporary[96];

static int set_up(void **state)
{
    (void)state;
    snprintf(directory, sizeof directory, "/tmp/handover-XXXXXX");
    if (mkdtemp(directory) == NULL)
        return -1;
    snprintf(status_path, sizeof status_path, "%s/status.json", directory);
    snprintf(path, sizeof path, "%s/handover", directory);
    snprintf(temporary, sizeof temporary, "%s/handover.tmp", directory);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    unlink(path);
    unlink(temporary);
    return rmdir(directory);
}

static void write_file(bool sealed)
{
    struct handover_file *file;
    assert_int_equal(handover_file_create(status_path, sealed, UINT64_MAX, &file), STATUS_OK);
    for (uint32_t i = 0; i < 3; i++) {
        const struct handover_record record = {.kind = HANDOVER_LANE, .lane = {i, 7}};
        handover_writer_add(handover_file_writer(file), &record);
    }
    assert_int_equal(handover_file_commit(file), STATUS_OK);
}

static bool take(bool sealed)
{
    struct handover_record record;
    struct handover_file *file = handover_file_take(status_path, sealed, LIMIT);
    if (file == NULL)
        return false;
    for (uint32_t i = 0; i < 3; i++) {
        assert_true(handover_file_next(file, &record));
        assert_int_equal(record.lane.index, i);
        assert_int_equal(record.lane.overflow_seen, 7);
    }
    assert_false(handover_file_next(file, &record));
    handover_file_close(file);
    return true;
}

static void a_file_is_private_and_read_once(void **state)
{
    (void)state;
    struct stat info;
    assert_false(take(false));
    umask(0);
    write_file(false);
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 07777, 0600);
    assert_int_not_equal(access(temporary, F_OK), 0);
    assert_true(take(false));
    assert_int_not_equal(access(path, F_OK), 0);
    assert_false(take(false));
}

static void what_may_not_be_used_is_removed_too(void **state)
{
    (void)state;
    write_file(true);
    assert_false(take(false)); /* there was a link key */
    assert_int_not_equal(access(path, F_OK), 0);
    write_file(true);
    assert_true(take(true));
    write_file(false);
    assert_int_equal(truncate(path, 80), 0);
    assert_false(take(false));
    write_file(false);
    assert_int_equal(truncate(path, 0), 0);
    assert_false(take(false));
    write_file(false);
    assert_int_equal(truncate(path, LIMIT + 1), 0);
    assert_false(take(false));
    assert_int_not_equal(access(path, F_OK), 0);
}

static void files_that_others_could_have_made_are_not_used(void **state)
{
    (void)state;
    write_file(false);
    assert_int_equal(chmod(path, 0660), 0);
    assert_false(take(false));
    write_file(false);
    assert_int_equal(rename(path, temporary), 0);
    assert_int_equal(symlink("handover.tmp", path), 0);
    assert_false(take(false));
    assert_int_equal(access(temporary, F_OK), 0);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_false(take(false));
}

static void a_leftover_of_an_interrupted_stop_is_in_nobodys_way(void **state)
{
    (void)state;
    assert_int_equal(symlink("/nowhere/at/all", temporary), 0);
    write_file(false);
    assert_true(take(false));
}

static void writing_ends_at_its_deadline_and_leaves_nothing(void **state)
{
    (void)state;
    struct handover_file *file;
    assert_int_equal(handover_file_create(status_path, false, 1, &file), STATUS_OK);
    assert_int_not_equal(handover_file_commit(file), STATUS_OK);
    assert_int_equal(errno, ETIMEDOUT);
    assert_int_not_equal(access(path, F_OK), 0);
    assert_int_not_equal(access(temporary, F_OK), 0);
}

static void a_full_disk_fails_and_leaves_nothing(void **state)
{
    (void)state;
    struct handover_file *file;
    static const uint8_t symbol[LIMIT_SYMBOL_SIZE];
    const struct handover_record record = {
        .kind = HANDOVER_DATAGRAM,
        .datagram = {.header = {.source_symbols = 1, .repair_symbols = 4, .symbol_size = LIMIT_SYMBOL_SIZE, .depth = 1},
                     .symbol = symbol}};
    assert_int_not_equal(handover_file_create("/dev/full/status.json", false, UINT64_MAX, &file), STATUS_OK);
    assert_null(file);
    assert_int_equal(handover_file_create(status_path, false, UINT64_MAX, &file), STATUS_OK);
    int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
    struct stat wanted, found;
    assert_int_equal(stat(temporary, &wanted), 0);
    for (int fd = 3; fd < 100; fd++) /* the descriptor that the file is written through */
        if (fstat(fd, &found) == 0 && found.st_ino == wanted.st_ino && found.st_dev == wanted.st_dev)
            assert_int_equal(dup2(full, fd), fd);
    for (unsigned i = 0; i < 100; i++)
        handover_writer_add(handover_file_writer(file), &record);
    assert_true(handover_writer_failed(handover_file_writer(file)));
    assert_int_not_equal(handover_file_commit(file), STATUS_OK);
    assert_int_equal(errno, ENOSPC);
    assert_int_not_equal(access(temporary, F_OK), 0);
    close(full);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_file_is_private_and_read_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_may_not_be_used_is_removed_too, set_up, tear_down),
        cmocka_unit_test_setup_teardown(files_that_others_could_have_made_are_not_used, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_leftover_of_an_interrupted_stop_is_in_nobodys_way, set_up, tear_down),
        cmocka_unit_test_setup_teardown(writing_ends_at_its_deadline_and_leaves_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_full_disk_fails_and_leaves_nothing, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
