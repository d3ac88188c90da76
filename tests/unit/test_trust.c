// SPDX-License-Identifier: Apache-2.0
#include "common/trust.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static int enter_directory(void **state)
{
    char template[] = "/tmp/diodecast-test-XXXXXX";
    if (signature_init() != STATUS_OK || mkdtemp(template) == NULL || chdir(template) < 0 || mkdir("trusted", 0755) < 0)
        return -1;
    *state = strdup(template);
    return 0;
}

static int leave_directory(void **state)
{
    static const char *const names[] = {"1.key",         "2.key",          "3.key",         "trusted/1.pub",
                                        "trusted/2.pub", "trusted/3.pub",  "trusted/x.pub", "trusted/.hidden.pub",
                                        "trusted/notes", "trusted/y.pub~", "trusted/.pub"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        unlink(names[i]);
    int failed = rmdir("trusted") < 0 || chdir("/") < 0 || rmdir(*state) < 0;
    free(*state);
    return failed;
}

static void touch(const char *name)
{
    int fd = open(name, O_WRONLY | O_CREAT, 0644);
    assert_true(fd >= 0);
    close(fd);
}

static struct signature_public generate(const char *secret, const char *public_file)
{
    const char *existing = NULL;
    struct signature_public made;
    assert_int_equal(signature_generate(secret, public_file, &existing, &made), STATUS_OK);
    return made;
}

static void only_pub_files_that_are_not_hidden_are_trusted(void **state)
{
    (void)state;
    struct signature_public keys[] = {generate("1.key", "trusted/1.pub"), generate("2.key", "trusted/2.pub"),
                                      generate("3.key", "trusted/3.pub")};
    touch("trusted/.hidden.pub");
    touch("trusted/.pub");
    touch("trusted/notes");
    touch("trusted/y.pub~");
    struct trust *trust = NULL;
    assert_int_equal(trust_load("trusted", &trust), STATUS_OK);
    assert_int_equal(trust_count(trust), 3);
    for (size_t i = 0; i < 3; i++) {
        const struct signature_public *found = trust_find(trust, signature_sender_id(&keys[i]));
        assert_non_null(found);
        assert_memory_equal(found, &keys[i], sizeof(*found));
        assert_null(trust_find(trust, signature_sender_id(&keys[i]) + 1));
    }
    trust_destroy(trust);
}

static void a_malformed_key_file_or_an_empty_directory_is_an_error(void **state)
{
    (void)state;
    struct trust *trust = NULL;
    assert_int_equal(trust_load("trusted", &trust), STATUS_INVALID);
    assert_null(trust);
    generate("1.key", "trusted/1.pub");
    touch("trusted/x.pub");
    assert_int_equal(trust_load("trusted", &trust), STATUS_INVALID);
    assert_null(trust);
    assert_int_equal(trust_load("absent", &trust), STATUS_NOT_FOUND);
    assert_null(trust);
}

static void two_keys_of_one_sender_are_an_error(void **state)
{
    (void)state;
    generate("1.key", "trusted/1.pub");
    assert_int_equal(link("trusted/1.pub", "trusted/2.pub"), 0);
    struct trust *trust = NULL;
    assert_int_equal(trust_load("trusted", &trust), STATUS_INVALID);
    assert_null(trust);
}

static void keys_given_directly_are_found(void **state)
{
    (void)state;
    enum { COUNT = 50 };
    struct signature_public keys[COUNT];
    for (int i = 0; i < COUNT; i++) {
        uint8_t seed[32] = {(uint8_t)i};
        struct signature_key *key = signature_key_from_seed(seed);
        keys[i] = *signature_key_public(key);
        signature_key_destroy(key);
    }
    struct trust *trust = trust_from_keys(keys, COUNT);
    for (int i = 0; i < COUNT; i++)
        assert_memory_equal(trust_find(trust, signature_sender_id(&keys[i])), &keys[i], sizeof(keys[i]));
    assert_null(trust_find(trust, 0));
    assert_null(trust_find(trust, UINT32_MAX));
    trust_destroy(trust);
    trust_destroy(NULL);
}

int main(void)
{
#define IN_DIRECTORY(test) cmocka_unit_test_setup_teardown(test, enter_directory, leave_directory)
    const struct CMUnitTest tests[] = {
        IN_DIRECTORY(only_pub_files_that_are_not_hidden_are_trusted),
        IN_DIRECTORY(a_malformed_key_file_or_an_empty_directory_is_an_error),
        IN_DIRECTORY(two_keys_of_one_sender_are_an_error),
        IN_DIRECTORY(keys_given_directly_are_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
