// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/receiver_fixture.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/durable.h"
#include "receiver/quarantine.h"

#define SECOND INT64_C(1000000000)

static char directory[64];
static int fd;
static struct quarantine *quarantine;
static uint8_t id[TRANSFER_ID_SIZE];

static int begin(void **state)
{
    (void)state;
    snprintf(directory, sizeof directory, "/tmp/diodecast-quarantine-XXXXXX");
    if (mkdtemp(directory) == NULL || signature_init() != STATUS_OK)
        return -1;
    fd = open(directory, O_RDONLY | O_DIRECTORY);
    quarantine = quarantine_create(fd);
    fixture_id(1, id);
    return quarantine == NULL;
}

static int end(void **state)
{
    (void)state;
    quarantine_destroy(quarantine);
    close(fd);
    return durable_remove_tree(AT_FDCWD, directory) == STATUS_OK ? 0 : -1;
}

/* Number of cases; the path of one of them. */
static unsigned cases(char path[static 256])
{
    unsigned count = 0;
    struct dirent *entry;
    DIR *list = opendir(directory);
    while ((entry = readdir(list)) != NULL) {
        if (entry->d_name[0] == '.')
            continue;
        snprintf(path, 256, "%s/%.150s", directory, entry->d_name);
        count++;
    }
    closedir(list);
    return count;
}

static void what_is_held_back_beside_takes_no_place_and_age_ends_only_cases(void **state)
{
    (void)state;
    char path[256];
    assert_int_equal(mkdirat(fd, "0000000000000042-1f2e3d4c-a", 0700), 0);
    assert_int_equal(quarantine_keep(quarantine, 1, id, "is none", (const uint8_t *)"x", 1, 5 * SECOND), STATUS_OK);
    quarantine_set_age(quarantine, UINT64_C(3600000000000));
    quarantine_tick(quarantine, 1);
    assert_int_equal(cases(path), 2);
    struct timespec old[2] = {{.tv_sec = 1}, {.tv_sec = 1}};
    struct dirent *entry;
    DIR *list = opendir(directory);
    while ((entry = readdir(list)) != NULL)
        if (entry->d_name[0] != '.')
            assert_int_equal(utimensat(fd, entry->d_name, old, 0), 0);
    closedir(list);
    quarantine_tick(quarantine, UINT64_C(3600000000000));
    assert_int_equal(cases(path), 1);
    assert_non_null(strstr(path, "0000000000000042"));
}

static void a_case_holds_manifest_signature_and_reason(void **state)
{
    (void)state;
    char path[256];
    char *text;
    size_t size;
    size_t signed_size;
    uint8_t content[10] = "abcdefghi";
    struct fixture_file file = {.path = "x", .bytes = content, .size = 10};
    struct signature_key *key = fixture_key(1);
    uint8_t *bytes = fixture_manifest(key, id, 1, "x", &file, 1, &signed_size);
    assert_int_equal(quarantine_keep(quarantine, 7, id, "is bad", bytes, signed_size, SECOND), STATUS_OK);
    assert_int_equal(cases(path), 1);
    assert_non_null(strstr(path, "/1970-01-01T00:00:01.000Z-00000007-01"));
    int case_fd = open(path, O_RDONLY | O_DIRECTORY);
    assert_int_equal(durable_read_file(case_fd, "reason", 1000, &text, &size), STATUS_OK);
    assert_string_equal(text, "the manifest is bad\n");
    free(text);
    struct signature signature;
    char *body;
    size_t body_size;
    assert_int_equal(durable_read_file(case_fd, "manifest.pb.minisig", 1000, &text, &size), STATUS_OK);
    assert_int_equal(durable_read_file(case_fd, "manifest.pb", 10000, &body, &body_size), STATUS_OK);
    assert_int_equal(signature_from_file_text(text, size, &signature), STATUS_OK);
    assert_true(signature_verify(signature_key_public(key), body, body_size, &signature));
    struct stat stat;
    assert_int_equal(fstat(case_fd, &stat), 0);
    assert_int_equal(stat.st_mode & 07777, 0700);
    close(case_fd);
    free(text);
    free(body);
    free(bytes);
    signature_key_destroy(key);
}

static void the_number_is_bounded_also_over_restarts(void **state)
{
    (void)state;
    char path[256];
    uint8_t bytes[3] = {0xff, 0xff, 0xff};
    for (unsigned i = 0; i < QUARANTINE_COUNT; i++) {
        memcpy(id, &i, sizeof i);
        assert_int_equal(quarantine_keep(quarantine, 7, id, "is bad", bytes, sizeof bytes, SECOND), STATUS_OK);
    }
    assert_int_equal(quarantine_keep(quarantine, 7, id, "is bad", bytes, sizeof bytes, 100 * SECOND), STATUS_LIMIT);
    quarantine_destroy(quarantine);
    quarantine = quarantine_create(fd);
    assert_int_equal(quarantine_keep(quarantine, 7, id, "is bad", bytes, sizeof bytes, 200 * SECOND), STATUS_LIMIT);
    assert_int_equal(cases(path), QUARANTINE_COUNT);
    /* The operator clears one; a while later that is seen. */
    assert_int_equal(durable_remove_tree(AT_FDCWD, path), STATUS_OK);
    assert_int_equal(quarantine_keep(quarantine, 7, id, "is bad", bytes, sizeof bytes, 201 * SECOND), STATUS_LIMIT);
    assert_int_equal(quarantine_keep(quarantine, 7, id, "is bad", bytes, sizeof bytes, 220 * SECOND), STATUS_OK);
}

static void the_same_case_twice_is_kept_twice(void **state)
{
    (void)state;
    char path[256];
    uint8_t bytes[3] = {0xff, 0xff, 0xff};
    assert_int_equal(quarantine_keep(quarantine, 7, id, "is bad", bytes, sizeof bytes, SECOND), STATUS_OK);
    assert_int_equal(quarantine_keep(quarantine, 7, id, "is bad", bytes, sizeof bytes, SECOND), STATUS_OK);
    assert_int_equal(cases(path), 2);
}

static void bytes_are_bounded(void **state)
{
    (void)state;
    char path[256];
    size_t size = QUARANTINE_BYTES / 4;
    uint8_t *bytes = calloc(1, size);
    bytes[0] = 0xff;
    for (int i = 0; i < 4; i++)
        assert_int_equal(quarantine_keep(quarantine, 7, id, "is bad", bytes, size, SECOND), STATUS_OK);
    assert_int_equal(quarantine_keep(quarantine, 7, id, "is bad", bytes, 1, 50 * SECOND), STATUS_LIMIT);
    assert_int_equal(cases(path), 4);
    free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_case_holds_manifest_signature_and_reason, begin, end),
        cmocka_unit_test_setup_teardown(what_is_held_back_beside_takes_no_place_and_age_ends_only_cases, begin, end),
        cmocka_unit_test_setup_teardown(the_number_is_bounded_also_over_restarts, begin, end),
        cmocka_unit_test_setup_teardown(the_same_case_twice_is_kept_twice, begin, end),
        cmocka_unit_test_setup_teardown(bytes_are_bounded, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
