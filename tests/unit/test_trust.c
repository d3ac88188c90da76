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
    static const char *const companions[] = {"trusted/1.expires", "trusted/1.revoked", "trusted/2.revoked",
                                             "trusted/2.expires", "trusted/gone.revoked"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        unlink(names[i]);
    for (size_t i = 0; i < sizeof(companions) / sizeof(companions[0]); i++)
        unlink(companions[i]);
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

static void write_text(const char *name, const char *text)
{
    FILE *file = fopen(name, "w");
    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
}

/* Reads the directory, which must have that many problems and warnings. */
static struct trust *read_with(unsigned problems, unsigned warnings, struct trust_reading *reading)
{
    struct trust *trust = NULL;
    *reading = (struct trust_reading){.role = "approval key", .may_be_empty = true};
    assert_int_equal(trust_read("trusted", reading, &trust), STATUS_OK);
    assert_int_equal(reading->problems, problems);
    assert_int_equal(reading->warnings, warnings);
    return trust;
}

static void companions_say_until_when_a_key_counts_and_whether_it_is_revoked(void **state)
{
    (void)state;
    struct trust_reading reading;
    generate("1.key", "trusted/1.pub");
    generate("2.key", "trusted/2.pub");
    write_text("trusted/1.expires", "2027-06-30T12:00:00+02:00\nignored\n");
    write_text("trusted/2.revoked", "stolen on Monday\n\nignored\n");
    struct trust *trust = read_with(0, 0, &reading);
    const struct trust_key *first = trust_find_name(trust, "1"), *second = trust_find_name(trust, "2");
    assert_true(first->expires_ns == INT64_C(1814349600000000000));
    assert_false(first->revoked);
    assert_true(second->expires_ns == TRUST_NEVER);
    assert_true(second->revoked);
    assert_string_equal(second->why_revoked, "stolen on Monday");
    assert_ptr_equal(trust_find_key(trust, second->public_key.key_id), second);
    assert_ptr_equal(trust_find_sender(trust, signature_sender_id(&first->public_key)), first);
    assert_true(trust_has_bytes(trust, second->public_key.key));
    assert_null(trust_find_name(trust, "3"));
    trust_destroy(trust);
}

static void an_empty_or_unreadable_revocation_revokes(void **state)
{
    (void)state;
    struct trust_reading reading;
    generate("1.key", "trusted/1.pub");
    generate("2.key", "trusted/2.pub");
    touch("trusted/1.revoked");
    assert_int_equal(symlink("/nonexistent", "trusted/2.revoked"), 0);
    struct trust *trust = read_with(0, 0, &reading);
    assert_true(trust_at(trust, 0)->revoked);
    assert_true(trust_at(trust, 1)->revoked);
    trust_destroy(trust);
}

static void an_expiry_that_cannot_be_read_is_a_problem_and_over(void **state)
{
    (void)state;
    static const char *const texts[] = {"", "soon\n", "2027-02-30\n", "2027-06-30T12:00:00\n", "2027-06-30 and more\n"};
    struct trust_reading reading;
    generate("1.key", "trusted/1.pub");
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        write_text("trusted/1.expires", texts[i]);
        struct trust *trust = read_with(1, 0, &reading);
        assert_non_null(strstr(reading.problem, "trusted/1.expires:1:"));
        assert_true(trust_at(trust, 0)->expires_ns == INT64_MIN);
        trust_destroy(trust);
        assert_int_equal(trust_load("trusted", &trust), STATUS_INVALID);
    }
}

static void a_secret_key_is_refused_under_whatever_name(void **state)
{
    (void)state;
    static const char *const places[] = {"trusted/x.pub", "trusted/notes"};
    struct trust_reading reading;
    struct trust *trust;
    generate("1.key", "trusted/1.pub");
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(rename("1.key", places[i]), 0);
        trust = read_with(1, 0, &reading);
        assert_non_null(strstr(reading.problem, "is a secret key"));
        assert_int_equal(trust_count(trust), 1);
        trust_destroy(trust);
        assert_int_equal(trust_load("trusted", &trust), STATUS_INVALID);
        assert_int_equal(rename(places[i], "1.key"), 0);
    }
}

static void what_is_wrong_with_one_key_leaves_the_others(void **state)
{
    (void)state;
    struct trust_reading reading;
    generate("1.key", "trusted/1.pub");
    touch("trusted/x.pub");
    assert_int_equal(link("trusted/1.pub", "trusted/2.pub"), 0);
    touch("trusted/gone.revoked");
    struct trust *trust = read_with(2, 1, &reading);
    assert_int_equal(trust_count(trust), 1);
    assert_string_equal(trust_at(trust, 0)->name, "1");
    trust_destroy(trust);
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
        IN_DIRECTORY(companions_say_until_when_a_key_counts_and_whether_it_is_revoked),
        IN_DIRECTORY(an_empty_or_unreadable_revocation_revokes),
        IN_DIRECTORY(an_expiry_that_cannot_be_read_is_a_problem_and_over),
        IN_DIRECTORY(a_secret_key_is_refused_under_whatever_name),
        IN_DIRECTORY(what_is_wrong_with_one_key_leaves_the_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
