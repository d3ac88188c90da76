// SPDX-License-Identifier: Apache-2.0
#include "common/signature.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cmocka.h>

static const uint8_t seed[32] = "0123456789abcdef0123456789abcde";
static const char message[] = "what is signed\n";

/* Every test runs inside a new empty directory. */
static int enter_directory(void **state)
{
    char template[] = "/tmp/diodecast-test-XXXXXX";
    if (signature_init() != STATUS_OK || mkdtemp(template) == NULL || chdir(template) < 0)
        return -1;
    *state = strdup(template);
    return 0;
}

static int leave_directory(void **state)
{
    static const char *const names[] = {"a.key", "a.pub", "b.key", "b.pub", "m", "m.minisig", "text"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        unlink(names[i]);
    int failed = chdir("/") < 0 || rmdir(*state) < 0;
    free(*state);
    return failed;
}

static void write_file(const char *name, const void *bytes, size_t size)
{
    FILE *file = fopen(name, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

static size_t read_file(const char *name, char bytes[static 1024])
{
    FILE *file = fopen(name, "r");
    assert_non_null(file);
    size_t size = fread(bytes, 1, 1023, file);
    bytes[size] = '\0';
    fclose(file);
    return size;
}

/* Runs minisign; skips the test where it is not installed. */
static int minisign(const char *const arguments[])
{
    extern char **environ;
    pid_t pid;
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
    int error = posix_spawnp(&pid, "minisign", &actions, NULL, (char *const *)arguments, environ);
    posix_spawn_file_actions_destroy(&actions);
    if (error == ENOENT) {
        print_message("minisign is not installed\n");
        skip();
    }
    assert_int_equal(error, 0);
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void a_signature_holds_and_any_change_breaks_it(void **state)
{
    (void)state;
    struct signature_key *key = signature_key_from_seed(seed);
    const struct signature_public *public_key = signature_key_public(key);
    struct signature signature, changed;
    signature_sign(key, message, sizeof(message), "file:m", &signature);
    assert_true(signature_verify(public_key, message, sizeof(message), &signature));
    assert_false(signature_verify(public_key, message, sizeof(message) - 1, &signature));
    for (size_t i = 0; i < SIGNATURE_SIZE; i++) {
        changed = signature;
        changed.bytes[i] ^= 1;
        assert_false(signature_verify(public_key, message, sizeof(message), &changed));
    }
    changed = signature;
    changed.trusted_comment[0] = 'F';
    assert_false(signature_verify(public_key, message, sizeof(message), &changed));
    changed = signature;
    changed.global[5] ^= 4;
    assert_false(signature_verify(public_key, message, sizeof(message), &changed));
    changed = signature;
    memset(changed.trusted_comment, 'x', sizeof(changed.trusted_comment));
    assert_false(signature_verify(public_key, message, sizeof(message), &changed));
    memcpy(changed.bytes, "Ed", 2);
    assert_false(signature_verify(public_key, message, sizeof(message), &changed));
    signature_key_destroy(key);
}

static void a_signature_without_comment_holds_too(void **state)
{
    (void)state;
    struct signature_key *key = signature_key_from_seed(seed);
    struct signature signature;
    signature_sign(key, "", 0, NULL, &signature);
    assert_false(signature.has_comment);
    assert_true(signature_verify(signature_key_public(key), "", 0, &signature));
    signature_key_destroy(key);
}

static void another_key_with_the_same_id_does_not_verify(void **state)
{
    (void)state;
    struct signature_key *key = signature_key_from_seed(seed);
    uint8_t other_seed[32] = {1};
    struct signature_key *other = signature_key_from_seed(other_seed);
    struct signature_public forged = *signature_key_public(other);
    memcpy(forged.key_id, signature_key_public(key)->key_id, sizeof(forged.key_id));
    struct signature signature;
    signature_sign(key, message, sizeof(message), NULL, &signature);
    assert_false(signature_verify(&forged, message, sizeof(message), &signature));
    signature_key_destroy(key);
    signature_key_destroy(other);
}

static void the_sender_id_is_the_start_of_the_key_id(void **state)
{
    (void)state;
    struct signature_public public_key = {.key_id = {0x78, 0x56, 0x34, 0x12, 9, 9, 9, 9}};
    assert_int_equal(signature_sender_id(&public_key), 0x12345678);
}

static void generated_files_load_again_and_are_never_overwritten(void **state)
{
    (void)state;
    const char *existing = NULL;
    char reason[256];
    struct stat info;
    struct signature_public made, loaded;
    struct signature_key *key = NULL;
    assert_int_equal(signature_generate("a.key", "a.pub", &existing, &made), STATUS_OK);
    assert_int_equal(stat("a.key", &info), 0);
    assert_int_equal(info.st_mode & 07777, 0600);
    assert_int_equal(stat("a.pub", &info), 0);
    assert_int_equal(info.st_mode & 07777, 0644);

    assert_int_equal(signature_public_load("a.pub", &loaded, reason), STATUS_OK);
    assert_memory_equal(&loaded, &made, sizeof(made));
    assert_int_equal(signature_key_load("a.key", &key, reason), STATUS_OK);
    assert_memory_equal(signature_key_public(key), &made, sizeof(made));
    struct signature signature;
    signature_sign(key, message, sizeof(message), "c", &signature);
    assert_true(signature_verify(&loaded, message, sizeof(message), &signature));
    signature_key_destroy(key);

    assert_int_equal(signature_generate("a.key", "b.pub", &existing, &made), STATUS_EXISTS);
    assert_string_equal(existing, "a.key");
    assert_int_equal(access("b.pub", F_OK), -1);
    assert_int_equal(signature_generate("b.key", "a.pub", &existing, &made), STATUS_EXISTS);
    assert_string_equal(existing, "a.pub");
    assert_int_equal(access("b.key", F_OK), -1);
    assert_int_equal(signature_public_load("a.pub", &loaded, reason), STATUS_OK);
}

static void a_secret_key_that_others_can_read_is_refused(void **state)
{
    (void)state;
    const char *existing = NULL;
    char reason[256];
    struct signature_public made;
    struct signature_key *key = NULL;
    assert_int_equal(signature_generate("a.key", "a.pub", &existing, &made), STATUS_OK);
    static const mode_t modes[] = {0640, 0604, 0620, 0602, 0610, 0644, 0777};
    for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
        assert_int_equal(chmod("a.key", modes[i]), 0);
        assert_int_equal(signature_key_load("a.key", &key, reason), STATUS_DENIED);
        assert_null(key);
        assert_non_null(strstr(reason, "chmod 600 a.key"));
    }
}

/* An access control list: owner rw, `user` (none: 0xffffffff) and the owning group as given, others `other`. */
static bool set_list(const char *file, uint32_t user, uint16_t user_rights, uint16_t group_rights)
{
    struct {
        uint32_t version;
        struct {
            uint16_t tag, rights;
            uint32_t id;
        } entries[5];
    } list = {2,
              {{0x01, 6, UINT32_MAX},
               {0x02, user_rights, user},
               {0x04, group_rights, UINT32_MAX},
               {0x10, 4, UINT32_MAX},
               {0x20, 0, UINT32_MAX}}};
    if (setxattr(file, "system.posix_acl_access", &list, sizeof(list), 0) == 0)
        return true;
    assert_int_equal(errno, EOPNOTSUPP);
    return false;
}

/* As systemd lays credentials down: the group bits are the mask of a list that names the unit's user alone. */
static void a_secret_key_may_be_open_by_a_list_to_this_user_alone(void **state)
{
    (void)state;
    const char *existing = NULL;
    char reason[256];
    struct stat meta;
    struct signature_public made;
    struct signature_key *key = NULL;
    assert_int_equal(signature_generate("a.key", "a.pub", &existing, &made), STATUS_OK);
    if (!set_list("a.key", (uint32_t)geteuid(), 4, 0))
        skip(); /* this file system has no lists */
    assert_int_equal(stat("a.key", &meta), 0);
    assert_int_equal(meta.st_mode & 0777, 0640);
    assert_int_equal(signature_key_load("a.key", &key, reason), STATUS_OK);
    signature_key_destroy(key);
    assert_true(set_list("a.key", (uint32_t)geteuid() + 1, 4, 0));
    assert_int_equal(signature_key_load("a.key", &key, reason), STATUS_DENIED);
    assert_true(set_list("a.key", (uint32_t)geteuid() + 1, 0, 0));
    assert_int_equal(signature_key_load("a.key", &key, reason), STATUS_OK);
    signature_key_destroy(key);
    assert_true(set_list("a.key", (uint32_t)geteuid(), 4, 4));
    assert_int_equal(signature_key_load("a.key", &key, reason), STATUS_DENIED);
    assert_true(set_list("a.key", (uint32_t)geteuid(), 4, 0));
    assert_int_equal(chmod("a.key", 0644), 0);
    assert_int_equal(signature_key_load("a.key", &key, reason), STATUS_DENIED);
}

static void damaged_key_files_are_refused_with_a_reason(void **state)
{
    (void)state;
    const char *existing = NULL;
    char reason[256], secret[1024], text[1024];
    struct signature_public made;
    struct signature_key *key = NULL;
    assert_int_equal(signature_generate("a.key", "a.pub", &existing, &made), STATUS_OK);
    size_t secret_size = read_file("a.key", secret);
    size_t public_size = read_file("a.pub", text);
    assert_int_equal(chmod("a.key", 0600), 0);

    for (size_t size = 0; size + 1 < secret_size; size++) {
        write_file("a.key", secret, size);
        assert_int_equal(signature_key_load("a.key", &key, reason), STATUS_INVALID);
    }
    /* One character of the secret part itself: the checksum finds it. */
    size_t at = (size_t)(strchr(secret, '\n') - secret) + 1 + 100;
    secret[at] = secret[at] == 'A' ? 'B' : 'A';
    write_file("a.key", secret, secret_size);
    assert_int_equal(signature_key_load("a.key", &key, reason), STATUS_INVALID);
    assert_non_null(strstr(reason, "damaged"));

    for (size_t size = 0; size + 1 < public_size; size++) {
        write_file("a.pub", text, size);
        assert_int_equal(signature_public_load("a.pub", &made, reason), STATUS_INVALID);
    }
    assert_int_equal(signature_public_load("absent", &made, reason), STATUS_NOT_FOUND);
    assert_non_null(strstr(reason, "absent"));
    assert_int_equal(signature_public_load("/tmp", &made, reason), STATUS_INVALID);
}

static void file_text_survives_the_round_trip_and_truncations_do_not(void **state)
{
    (void)state;
    struct signature_key *key = signature_key_from_seed(seed);
    struct signature signature, parsed;
    char *text = NULL;
    size_t size = 0;
    signature_sign(key, message, sizeof(message), "sequence 7, file m", &signature);
    signature_to_file_text(&signature, &text, &size);
    assert_int_equal(signature_from_file_text(text, size, &parsed), STATUS_OK);
    assert_memory_equal(&parsed, &signature, sizeof(parsed));
    for (size_t cut = 0; cut + 1 < size; cut++) {
        char *copy = malloc(cut == 0 ? 1 : cut); /* exact, so that the sanitizer sees a read beyond it */
        memcpy(copy, text, cut);
        assert_int_equal(signature_from_file_text(copy, cut, &parsed), STATUS_INVALID);
        free(copy);
    }
    free(text);
    signature_key_destroy(key);
}

static void minisign_verifies_what_we_sign(void **state)
{
    (void)state;
    const char *existing = NULL;
    char reason[256];
    struct signature_public made;
    struct signature_key *key = NULL;
    struct signature signature;
    char *text = NULL;
    size_t size = 0;
    assert_int_equal(signature_generate("a.key", "a.pub", &existing, &made), STATUS_OK);
    assert_int_equal(signature_key_load("a.key", &key, reason), STATUS_OK);
    signature_sign(key, message, sizeof(message), "a comment", &signature);
    signature_key_destroy(key);
    signature_to_file_text(&signature, &text, &size);
    write_file("m.minisig", text, size);
    write_file("m", message, sizeof(message));
    free(text);

    const char *const verify[] = {"minisign", "-Vm", "m", "-p", "a.pub", NULL};
    assert_int_equal(minisign(verify), 0);
    write_file("m", message, sizeof(message) - 1);
    assert_int_not_equal(minisign(verify), 0);
}

static void we_verify_what_minisign_signs_with_its_key_and_with_ours(void **state)
{
    (void)state;
    const char *const generate[] = {"minisign", "-GW", "-p", "a.pub", "-s", "a.key", NULL};
    const char *existing = NULL;
    struct signature_public made;
    assert_int_equal(minisign(generate), 0);
    assert_int_equal(signature_generate("b.key", "b.pub", &existing, &made), STATUS_OK);
    write_file("m", message, sizeof(message));

    static const char *const pairs[][2] = {{"a.key", "a.pub"}, {"b.key", "b.pub"}};
    for (int i = 0; i < 2; i++) {
        char reason[256], text[1024];
        struct signature_public public_key;
        struct signature signature;
        struct signature_key *key = NULL;
        const char *const sign[] = {"minisign", "-Sm", "m", "-s", pairs[i][0], "-t", "by minisign", NULL};
        assert_int_equal(minisign(sign), 0);
        size_t size = read_file("m.minisig", text);
        assert_int_equal(signature_from_file_text(text, size, &signature), STATUS_OK);
        assert_string_equal(signature.trusted_comment, "by minisign");
        assert_int_equal(signature_public_load(pairs[i][1], &public_key, reason), STATUS_OK);
        assert_true(signature_verify(&public_key, message, sizeof(message), &signature));
        assert_int_equal(signature_key_load(pairs[i][0], &key, reason), STATUS_OK);
        assert_memory_equal(signature_key_public(key), &public_key, sizeof(public_key));
        signature_key_destroy(key);
    }
}

int main(void)
{
#define IN_DIRECTORY(test) cmocka_unit_test_setup_teardown(test, enter_directory, leave_directory)
    const struct CMUnitTest tests[] = {
        IN_DIRECTORY(a_signature_holds_and_any_change_breaks_it),
        IN_DIRECTORY(a_signature_without_comment_holds_too),
        IN_DIRECTORY(another_key_with_the_same_id_does_not_verify),
        IN_DIRECTORY(the_sender_id_is_the_start_of_the_key_id),
        IN_DIRECTORY(generated_files_load_again_and_are_never_overwritten),
        IN_DIRECTORY(a_secret_key_that_others_can_read_is_refused),
        IN_DIRECTORY(a_secret_key_may_be_open_by_a_list_to_this_user_alone),
        IN_DIRECTORY(damaged_key_files_are_refused_with_a_reason),
        IN_DIRECTORY(file_text_survives_the_round_trip_and_truncations_do_not),
        IN_DIRECTORY(minisign_verifies_what_we_sign),
        IN_DIRECTORY(we_verify_what_minisign_signs_with_its_key_and_with_ours),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
