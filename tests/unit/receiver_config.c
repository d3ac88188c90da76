// SPDX-License-Identifier: Apache-2.0
#include "receiver/config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/linkkey.h"
#include "common/signature.h"

/* A directory with all that a good configuration names. */
struct place {
    char root[64];
    char file[128];
    char problems[8192]; /* what the last load() printed */
};

static void make_directory(const struct place *place, const char *name)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", place->root, name);
    assert_int_equal(mkdir(path, 0755), 0);
}

static void make_key(const struct place *place, const char *name)
{
    struct signature_public key;
    const char *existing;
    char secret[128], public[128];
    snprintf(secret, sizeof secret, "%s/secret", place->root);
    snprintf(public, sizeof public, "%s/%s.pub", place->root, name);
    (void)unlink(secret);
    assert_int_equal(signature_generate(secret, public, &existing, &key), STATUS_OK);
}

static int set_up(void **state)
{
    struct place *place = calloc(1, sizeof *place);
    char link[128];
    snprintf(place->root, sizeof place->root, "/tmp/receiver-config-XXXXXX");
    assert_non_null(mkdtemp(place->root));
    make_directory(place, "intake");
    make_directory(place, "state");
    make_directory(place, "trusted");
    make_directory(place, "empty");
    snprintf(place->file, sizeof place->file, "%s/receiver.conf", place->root);
    make_directory(place, "approval");
    snprintf(link, sizeof link, "%s/link.key", place->root);
    assert_int_equal(signature_init(), STATUS_OK);
    make_key(place, "approval/alice");
    make_key(place, "approval/bob");
    make_key(place, "trusted/a");
    assert_int_equal(linkkey_generate(link), STATUS_OK);
    *state = place;
    return 0;
}

static int tear_down(void **state)
{
    struct place *place = *state;
    static const char *const files[] = {"receiver.conf",      "secret",          "trusted/a.pub", "link.key", "stderr",
                                        "approval/alice.pub", "approval/bob.pub"};
    static const char *const directories[] = {"intake", "state", "trusted", "empty", "approval", "."};
    char path[256];
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        snprintf(path, sizeof path, "%s/%s", place->root, files[i]);
        (void)unlink(path);
    }
    for (size_t i = 0; i < sizeof directories / sizeof *directories; i++) {
        snprintf(path, sizeof path, "%s/%s", place->root, directories[i]);
        (void)rmdir(strcmp(directories[i], ".") == 0 ? place->root : path);
    }
    free(place);
    return 0;
}

/* Writes the text with '@' replaced by the directory, and loads it; standard error is kept. */
static enum status load(struct place *place, const char *text, struct config *config)
{
    char path[128];
    FILE *file = fopen(place->file, "w");
    assert_non_null(file);
    for (; *text != '\0'; text++)
        if (*text == '@')
            fputs(place->root, file);
        else
            fputc(*text, file);
    fclose(file);
    snprintf(path, sizeof path, "%s/stderr", place->root);
    int before = dup(STDERR_FILENO);
    FILE *stream = freopen(path, "w", stderr);
    assert_non_null(stream);
    enum status status = config_load(place->file, config);
    fflush(stderr);
    dup2(before, STDERR_FILENO);
    close(before);
    file = fopen(path, "r");
    assert_non_null(file);
    size_t size = fread(place->problems, 1, sizeof place->problems - 1, file);
    place->problems[size] = '\0';
    fclose(file);
    return status;
}

#define RECEIVER "[receiver]\nintake = @/intake\nstate = @/state\nstatus = @/status.json\ntrusted_keys = @/trusted\n"
#define LINK     "[link]\nlisten = 127.0.0.1:5300\n"

static void expect_problem(struct place *place, const char *text, const char *problem)
{
    struct config config;
    char expected[512], *out = expected;
    assert_int_equal(load(place, text, &config), STATUS_INVALID);
    for (; *problem != '\0'; problem++)
        if (*problem == '@')
            out += snprintf(out, 64, "%s", place->root);
        else
            *out++ = *problem;
    *out = '\0';
    if (strstr(place->problems, expected) == NULL)
        fail_msg("expected \"%s\", got:\n%s", expected, place->problems);
}

static void a_minimal_file_takes_the_defaults(void **state)
{
    struct place *place = *state;
    struct config config;
    char text[SOCKET_TEXT_SIZE], intake[128];
    assert_int_equal(load(place, RECEIVER LINK, &config), STATUS_OK);
    snprintf(intake, sizeof intake, "%s/intake", place->root);
    assert_string_equal(config.intake, intake);
    assert_int_equal(config.memory, 64 << 20);
    assert_int_equal(config.staging, 0);
    assert_int_equal(config.reserve, 256 << 20);
    assert_int_equal(config.recheck_bytes_per_s, 200 << 20);
    assert_int_equal(config.max_open, 4096);
    assert_int_equal(config.tickets, CONFIG_TICKETS_CHUNKS);
    assert_int_equal(config.quarantine, UINT64_C(4) << 30);
    assert_int_equal(config.quarantine_age_ns, UINT64_C(30) * 86400 * 1000000000);
    assert_memory_equal(&config.bounds, &bounds_none, sizeof bounds_none);
    assert_false(config.hide_names);
    assert_int_equal(config.lanes, 1);
    assert_null(config.link_key);
    assert_string_equal(socket_address_text(&config.listen, text), "127.0.0.1:5300");
    config_deinit(&config);
}

static void every_key_is_read(void **state)
{
    struct place *place = *state;
    struct config config;
    char text[SOCKET_TEXT_SIZE];
    assert_int_equal(load(place,
                          RECEIVER
                          "memory = 1GiB ; plenty\nstaging = 2GiB\nreserve = 3GiB\nrecheck = 50MiB/s\n"
                          "max_open = 7\ntickets = whole\nquarantine = 5GiB\nquarantine_age = 7d\nmax_size = 1TiB\n"
                          "max_artifacts = 9\nmax_path = 200\nmax_depth = 8\nmax_manifest = 2MiB\nlog_names = "
                          "hash\n[link]\nlisten = [fe80::1%lo]:4700\nlanes = 16\nkey = @/link.key\n",
                          &config),
                     STATUS_OK);
    assert_int_equal(config.memory, 1 << 30);
    assert_int_equal(config.staging, UINT64_C(2) << 30);
    assert_int_equal(config.reserve, UINT64_C(3) << 30);
    assert_int_equal(config.recheck_bytes_per_s, 50 << 20);
    assert_int_equal(config.max_open, 7);
    assert_int_equal(config.tickets, CONFIG_TICKETS_WHOLE);
    assert_int_equal(config.quarantine, UINT64_C(5) << 30);
    assert_int_equal(config.quarantine_age_ns, UINT64_C(7) * 86400 * 1000000000);
    assert_int_equal(config.bounds.size, UINT64_C(1) << 40);
    assert_int_equal(config.bounds.artifacts, 9);
    assert_int_equal(config.bounds.path, 200);
    assert_int_equal(config.bounds.depth, 8);
    assert_int_equal(config.bounds.manifest, 2 << 20);
    assert_true(config.hide_names);
    assert_int_equal(config.lanes, 16);
    assert_non_null(config.link_key);
    assert_string_equal(socket_address_text(&config.listen, text), "[fe80::1%lo]:4700");
    config_deinit(&config);
}

static void a_missing_directory_is_told_with_the_command_that_makes_it(void **state)
{
    expect_problem(*state, "[receiver]\nintake = @/nowhere\n",
                   "@/receiver.conf:2: intake: @/nowhere does not exist; run \"mkdir -p @/nowhere\"");
    expect_problem(*state, "[receiver]\nstate = @/secret\n", ":2: state: @/secret is not a directory");
    expect_problem(*state, "[receiver]\nstate = var/lib\n", ":2: state: var/lib is not an absolute path");
    expect_problem(*state, "[receiver]\nstatus = @/run/status.json\n", ":2: status: @/run does not exist");
}

static void trusted_keys_must_hold_a_key(void **state)
{
    expect_problem(*state, "[receiver]\ntrusted_keys = @/empty\n", ":2: trusted_keys: @/empty holds no usable");
}

#define APPROVAL RECEIVER "approval_keys = @/approval\n"

static void rules_of_approval_are_read(void **state)
{
    struct config config;
    assert_int_equal(load(*state,
                          APPROVAL "required_signatures = 1\n" LINK "[channel models]\nrequired_signatures = 2\n"
                                   "[channel wheels]\nsenders = a\napprovers = bob  alice\n",
                          &config),
                     STATUS_OK);
    assert_non_null(config.approval_keys);
    assert_int_equal(config.policy.required_signatures, 1);
    assert_int_equal(config.policy.channel_count, 2);
    const struct policy_channel *models = &config.policy.channels[0], *wheels = &config.policy.channels[1];
    assert_string_equal(models->name, "models");
    assert_true(models->has_required && !models->senders.given && !models->approvers.given);
    assert_int_equal(models->required_signatures, 2);
    assert_false(wheels->has_required);
    assert_int_equal(wheels->senders.count, 1);
    assert_int_equal(wheels->approvers.count, 2);
    assert_string_equal(wheels->approvers.list[0], "bob");
    assert_string_equal(wheels->approvers.list[1], "alice");
    config_deinit(&config);
}

static void rules_that_nobody_can_meet_are_told_with_their_line(void **state)
{
    expect_problem(*state, RECEIVER "required_signatures = 1\n" LINK, ":6: required_signatures: 1 are required, and");
    expect_problem(*state, APPROVAL "required_signatures = 3\n" LINK, ":7: required_signatures: 3 are required, and");
    expect_problem(*state, APPROVAL "required_signatures = 17\n" LINK, ":7: required_signatures: 17 is more than the");
    expect_problem(*state, APPROVAL "required_signatures = two\n" LINK, ":7: 'required_signatures': 'two' is not a");
    expect_problem(*state, APPROVAL LINK "[channel x]\napprovers = bob\nrequired_signatures = 2\n",
                   ":11: required_signatures: 2 are required, and there are only 1 keys");
    expect_problem(*state, APPROVAL "required_signatures = 2\n" LINK "[channel x]\napprovers = bob\n",
                   ":11: required_signatures: 2 are required, and there are only 1 keys");
    expect_problem(*state, APPROVAL LINK "[channel x]\napprovers = bob carol\n",
                   ":10: approvers: there is no carol.pub in @/approval");
    expect_problem(*state, RECEIVER LINK "[channel x]\nsenders = a b\n", ":9: senders: there is no b.pub in @/trusted");
    expect_problem(*state, RECEIVER LINK "[channel x]\nsenders =\n", ":9: senders: no key is named");
    expect_problem(*state, RECEIVER LINK "[channel x]\napprovers = bob\n", ":9: approvers: approval_keys in section");
    expect_problem(*state, RECEIVER LINK "[channel .x]\nsenders = a\n", ":9: [channel .x]: the channel's name starts");
    expect_problem(*state, RECEIVER "approval_keys = @/trusted\n" LINK,
                   ":6: approval_keys: a.pub is a sender's key too");
    expect_problem(*state, RECEIVER "approval_keys = @/nowhere\n" LINK, ":6: approval_keys: @/nowhere does not exist");
}

static void wrong_values_are_told_with_their_line(void **state)
{
    expect_problem(*state, RECEIVER "memory = 1MiB\n" LINK, ":6: memory: for 1 trusted keys on 1 lanes at least 8");
    expect_problem(*state, RECEIVER "memory = 64\n" LINK "lanes = 16\n", ":6: memory: for 1 trusted keys on 16 lanes");
    expect_problem(*state, RECEIVER "memory = 9000TiB\n" LINK, ":6: memory: this machine has only ");
    expect_problem(*state, RECEIVER "memory = lots\n" LINK, ":6: 'memory': 'lots' is not a size");
    expect_problem(*state, RECEIVER "[link]\nlisten = example.org:4700\n", ":7: listen: example.org:4700 is not");
    expect_problem(*state, RECEIVER "[link]\nlisten = [fe80::1]:4700\n", ":7: listen: [fe80::1]:4700 is not");
    expect_problem(*state, RECEIVER "staging = 1KiB\n" LINK, ":6: staging: 1KiB is less than 1MiB");
    expect_problem(*state, RECEIVER "recheck = 5MiB\n" LINK, ":6: recheck: 5MiB is not a rate");
    expect_problem(*state, RECEIVER "recheck = 5KiB/s\n" LINK, ":6: recheck: 5KiB/s is not a rate");
    expect_problem(*state, RECEIVER "max_open = 0\n" LINK, ":6: max_open: 0 is not between 1 and 4096");
    expect_problem(*state, RECEIVER "max_open = 4097\n" LINK, ":6: max_open: 4097 is not between 1 and 4096");
    expect_problem(*state, RECEIVER "max_size = 9TiB\n" LINK, ":6: max_size: 9TiB is not between 1 B and 8 TiB");
    expect_problem(*state, RECEIVER "max_artifacts = 0\n" LINK, ":6: max_artifacts: 0 is not between 1 and 1048576");
    expect_problem(*state, RECEIVER "max_path = 4001\n" LINK, ":6: max_path: 4001 is not between 1 and 4000");
    expect_problem(*state, RECEIVER "max_depth = 129\n" LINK, ":6: max_depth: 129 is not between 1 and 128");
    expect_problem(*state, RECEIVER "max_manifest = 1KiB\n" LINK, ":6: max_manifest: 1KiB is not between 4 KiB and");
    expect_problem(*state, RECEIVER "quarantine = x\n" LINK, ":6: 'quarantine': 'x' is not a size");
    expect_problem(*state, RECEIVER "quarantine_age = 1s\n" LINK, ":6: quarantine_age: 1s is less than a minute");
    expect_problem(*state, RECEIVER "log_names = no\n" LINK, ":6: 'log_names': 'no' is neither full nor hash");
    expect_problem(*state, RECEIVER "tickets = all\n" LINK, ":6: tickets: all is none of off, whole, chunks");
    expect_problem(*state, RECEIVER LINK "lanes = 0\n", ":8: lanes: 0 is not between 1 and 16");
    expect_problem(*state, RECEIVER LINK "lanes = 17\n", ":8: lanes: 17 is not between 1 and 16");
    expect_problem(*state, RECEIVER LINK "key = @/nokey\n", ":8: key: ");
    expect_problem(*state, RECEIVER "[link]\nlisten = 127.0.0.1:65530\nlanes = 8\n",
                   ":7: listen: with 8 lanes the last port would be above 65535");
}

static void a_second_link_key_goes_beside_another_one(void **state)
{
    expect_problem(*state, RECEIVER LINK "key_next = @/link.key\n", ":8: key_next: needs key");
    expect_problem(*state, RECEIVER LINK "key = @/link.key\nkey_next = @/link.key\n", ":9: key_next: ");
    expect_problem(*state, RECEIVER LINK "key = @/link.key\nkey_next = @/secret\n", ":9: key_next: ");
}

static void unknown_and_missing_keys_are_errors(void **state)
{
    expect_problem(*state, RECEIVER LINK "rate = 1Gbit/s\n", ":8: unknown key 'rate' in section [link]");
    expect_problem(*state, RECEIVER, "'listen' in section [link] is missing");
    expect_problem(*state, LINK, "'intake' in section [receiver] is missing");
}

static void all_problems_are_told_at_once(void **state)
{
    struct place *place = *state;
    expect_problem(place, "[receiver]\nintake = @/nowhere\nmemory = x\n[link]\nlisten = y\n", ":2: intake");
    assert_non_null(strstr(place->problems, ":3: 'memory'"));
    assert_non_null(strstr(place->problems, ":5: listen"));
    assert_non_null(strstr(place->problems, "'state' in section [receiver] is missing"));
}

static void a_file_that_is_not_there_can_t_be_read(void **state)
{
    (void)state;
    struct config config;
    assert_int_equal(config_load("/nonexistent/receiver.conf", &config), STATUS_SYSTEM);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_minimal_file_takes_the_defaults),
        cmocka_unit_test(every_key_is_read),
        cmocka_unit_test(a_missing_directory_is_told_with_the_command_that_makes_it),
        cmocka_unit_test(trusted_keys_must_hold_a_key),
        cmocka_unit_test(wrong_values_are_told_with_their_line),
        cmocka_unit_test(rules_of_approval_are_read),
        cmocka_unit_test(rules_that_nobody_can_meet_are_told_with_their_line),
        cmocka_unit_test(a_second_link_key_goes_beside_another_one),
        cmocka_unit_test(unknown_and_missing_keys_are_errors),
        cmocka_unit_test(all_problems_are_told_at_once),
        cmocka_unit_test(a_file_that_is_not_there_can_t_be_read),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
