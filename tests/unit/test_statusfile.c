// SPDX-License-Identifier: Apache-2.0
#include "common/statusfile.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define SOME_TIME INT64_C(1795312216123456789) /* 2026-11-22T01:50:16.123Z */

static const char *text_at(json_t *root, const char *key)
{
    return json_string_value(json_object_get(root, key));
}

static void the_file_has_the_common_members_and_is_replaced_whole(void **state)
{
    (void)state;
    char folder[] = "/tmp/diodecast-status-XXXXXX";
    char path[64];
    char temporary[72];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/status.json", folder);
    snprintf(temporary, sizeof temporary, "%s.tmp", path);
    struct statusfile *file = statusfile_create(path);
    assert_non_null(file);
    for (int round = 0; round < 2; round++) {
        mode_t mask = umask(0);
        statusfile_write(file, json_pack("{s:i}", "round", round), SOME_TIME);
        umask(mask);
        struct stat stat_of;
        assert_int_equal(stat(path, &stat_of), 0);
        assert_int_equal(stat_of.st_mode & 07777, 0640);
        assert_int_equal(access(temporary, F_OK), -1);
        json_t *root = json_load_file(path, 0, NULL);
        assert_non_null(root);
        assert_int_equal(json_integer_value(json_object_get(root, "round")), round);
        assert_int_equal(json_integer_value(json_object_get(root, "schema_version")), 1);
        assert_int_equal(json_integer_value(json_object_get(root, "valid_for_s")), 5);
        assert_int_equal(json_integer_value(json_object_get(root, "pid")), getpid());
        assert_string_equal(text_at(root, "written_at"), "2026-11-22T01:50:16.123Z");
        assert_string_equal(text_at(root, "program"), "test_statusfile");
        assert_int_equal(strlen(text_at(root, "boot_id")), 36);
        assert_non_null(text_at(root, "version"));
        json_decref(root);
    }
    statusfile_destroy(file);
    unlink(path);
    rmdir(folder);
}

static void a_folder_that_is_not_there_is_no_reason_to_stop(void **state)
{
    (void)state;
    struct statusfile *file = statusfile_create("/nonexistent/status.json");
    assert_non_null(file);
    statusfile_write(file, json_object(), SOME_TIME);
    statusfile_write(file, json_object(), SOME_TIME);
    statusfile_destroy(file);
}

static json_t *reason_at(json_t *root, size_t index)
{
    return json_array_get(json_object_get(root, "reasons"), index);
}

static void health_is_that_of_the_worst_reason_and_since_is_kept(void **state)
{
    (void)state;
    struct health *health = health_create();
    json_t *root = json_object();
    health_to_json(health, root);
    assert_string_equal(text_at(root, "health"), "ok");
    assert_int_equal(json_array_size(json_object_get(root, "reasons")), 0);

    health_set(health, HEALTH_DEGRADED, "no_carrier", SOME_TIME, "check the cable of %s", "eth0");
    health_set(health, HEALTH_FAILED, "disk", SOME_TIME, "free space");
    health_set(health, HEALTH_DEGRADED, "no_carrier", SOME_TIME + INT64_C(5000000000), "check %s", "eth1");
    health_to_json(health, root);
    assert_string_equal(text_at(root, "health"), "failed");
    assert_int_equal(json_array_size(json_object_get(root, "reasons")), 2);
    assert_string_equal(text_at(reason_at(root, 0), "code"), "no_carrier");
    assert_string_equal(text_at(reason_at(root, 0), "level"), "degraded");
    assert_string_equal(text_at(reason_at(root, 0), "since"), "2026-11-22T01:50:16.123Z");
    assert_string_equal(text_at(reason_at(root, 0), "action"), "check eth1");

    health_clear(health, "disk");
    health_clear(health, "disk");
    health_to_json(health, root);
    assert_string_equal(text_at(root, "health"), "degraded");
    health_clear(health, "no_carrier");
    health_to_json(health, root);
    assert_string_equal(text_at(root, "health"), "ok");
    json_decref(root);
    health_destroy(health);
}

static void an_action_that_is_not_utf8_is_still_told(void **state)
{
    (void)state;
    struct health *health = health_create();
    json_t *root = json_object();
    health_set(health, HEALTH_DEGRADED, "name", SOME_TIME, "rename %s", "caf\xe9");
    health_to_json(health, root);
    assert_string_equal(text_at(reason_at(root, 0), "action"), "rename caf?");
    json_decref(root);
    health_destroy(health);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_file_has_the_common_members_and_is_replaced_whole),
        cmocka_unit_test(a_folder_that_is_not_there_is_no_reason_to_stop),
        cmocka_unit_test(health_is_that_of_the_worst_reason_and_since_is_kept),
        cmocka_unit_test(an_action_that_is_not_utf8_is_still_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
