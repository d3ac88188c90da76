// SPDX-License-Identifier: Apache-2.0
#include "receiver/keys.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/clock.h"
#include "common/durable.h"
#include "common/signature.h"

#define DAY_NS (INT64_C(24) * 3600 * (int64_t)CLOCK_SECOND_NS)

/* The directories of a receiver, whose keys are watched by a loop. */
struct place {
    char root[64], trusted[96], approval[96], state[96];
    struct config config;
    struct signature_public sender, alice;
    struct keys *keys;
    struct health *health;
    uv_loop_t loop;
};

static struct signature_public generate(const struct place *place, const char *directory, const char *name)
{
    char secret[128], public[256];
    const char *existing;
    struct signature_public made;
    snprintf(secret, sizeof secret, "%s/%s.key", place->root, name);
    snprintf(public, sizeof public, "%s/%s.pub", directory, name);
    assert_int_equal(signature_generate(secret, public, &existing, &made), STATUS_OK);
    return made;
}

static void write_text(const char *directory, const char *name, const char *text)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
}

static void remove_file(const char *directory, const char *name)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    assert_int_equal(unlink(path), 0);
}

static int set_up(void **state)
{
    struct place *place = calloc(1, sizeof *place);
    snprintf(place->root, sizeof place->root, "/tmp/receiver-keys-XXXXXX");
    assert_non_null(mkdtemp(place->root));
    snprintf(place->trusted, sizeof place->trusted, "%s/trusted", place->root);
    snprintf(place->approval, sizeof place->approval, "%s/approval", place->root);
    snprintf(place->state, sizeof place->state, "%s/state", place->root);
    assert_int_equal(mkdir(place->trusted, 0755) | mkdir(place->approval, 0755) | mkdir(place->state, 0755), 0);
    place->config = (struct config){.trusted_keys = place->trusted,
                                    .approval_keys = place->approval,
                                    .state = place->state,
                                    .policy = {.required_signatures = 1}};
    assert_int_equal(signature_init(), STATUS_OK);
    place->sender = generate(place, place->trusted, "sender");
    place->alice = generate(place, place->approval, "alice");
    assert_int_equal(uv_loop_init(&place->loop), 0);
    assert_int_equal(keys_create(&place->config, &place->keys), STATUS_OK);
    assert_int_equal(keys_watch(place->keys, &place->loop, NULL), STATUS_OK);
    place->health = health_create();
    *state = place;
    return 0;
}

static void close_handle(uv_handle_t *handle, void *context)
{
    (void)context;
    uv_close(handle, NULL);
}

static int tear_down(void **state)
{
    struct place *place = *state;
    uv_walk(&place->loop, close_handle, NULL);
    uv_run(&place->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&place->loop), 0);
    keys_destroy(place->keys);
    health_destroy(place->health);
    assert_int_equal(durable_remove_tree(AT_FDCWD, place->root), STATUS_OK);
    free(place);
    return 0;
}

/* Runs the loop until another policy is in force. A test that waits for ever is ended by the runner. */
static void wait_for_change(struct place *place)
{
    struct policy_slot *slot = keys_slot(place->keys);
    const struct policy *before = policy_slot_take(slot), *now;
    do {
        uv_run(&place->loop, UV_RUN_ONCE);
        now = policy_slot_take(slot);
        policy_slot_put(slot, now);
    } while (now == before);
    policy_slot_put(slot, before);
}

static const struct trust_key *approver(const struct place *place, const char *name)
{
    struct policy_slot *slot = keys_slot(place->keys);
    const struct policy *policy = policy_slot_take(slot);
    policy_slot_put(slot, policy); /* stays the newest until the loop runs */
    return trust_find_name(policy_approvers(policy), name);
}

static const struct trust_key *sender(const struct place *place, const char *name)
{
    struct policy_slot *slot = keys_slot(place->keys);
    const struct policy *policy = policy_slot_take(slot);
    policy_slot_put(slot, policy);
    return trust_find_name(policy_senders(policy), name);
}

/* The action of a health reason, or NULL; the caller frees. */
static char *reason(const struct place *place, const char *code, int64_t realtime_ns)
{
    json_t *root = json_object();
    char *action = NULL;
    size_t index;
    json_t *entry;
    keys_health(place->keys, place->health, realtime_ns);
    health_to_json(place->health, root);
    json_array_foreach(json_object_get(root, "reasons"), index, entry)
    {
        if (strcmp(json_string_value(json_object_get(entry, "code")), code) == 0)
            action = strdup(json_string_value(json_object_get(entry, "action")));
    }
    json_decref(root);
    return action;
}

static void expect_reason(const struct place *place, const char *code, int64_t realtime_ns, const char *words)
{
    char *action = reason(place, code, realtime_ns);
    if (words == NULL ? action != NULL : action == NULL || strstr(action, words) == NULL)
        fail_msg("%s: %s", code, action == NULL ? "not set" : action);
    free(action);
}

static bool has_reason(const struct place *place, const char *code)
{
    char *action = reason(place, code, 0);
    bool found = action != NULL;
    free(action);
    return found;
}

static void a_new_approver_counts_without_a_restart(void **state)
{
    struct place *place = *state;
    assert_null(approver(place, "bob"));
    generate(place, place->approval, "bob");
    do
        wait_for_change(place);
    while (approver(place, "bob") == NULL);
    assert_non_null(approver(place, "alice"));
}

static void a_revocation_counts_without_a_restart_and_can_be_taken_back(void **state)
{
    struct place *place = *state;
    write_text(place->trusted, "sender.revoked", "stolen\n");
    do
        wait_for_change(place);
    while (!sender(place, "sender")->revoked || sender(place, "sender")->why_revoked[0] == '\0');
    assert_string_equal(sender(place, "sender")->why_revoked, "stolen");
    expect_reason(place, "key_revoked", 0, "trusted/sender.pub");
    remove_file(place->trusted, "sender.revoked");
    wait_for_change(place);
    assert_false(sender(place, "sender")->revoked);
    expect_reason(place, "key_revoked", 0, NULL);
    assert_non_null(trust_find(keys_running(place->keys), signature_sender_id(&place->sender)));
}

static void the_end_of_a_key_is_told_two_weeks_before_and_when_it_came(void **state)
{
    struct place *place = *state;
    int64_t end_ns = 0;
    write_text(place->approval, "alice.expires", "2027-06-30\n");
    do
        wait_for_change(place);
    while (approver(place, "alice")->expires_ns <= 0 || approver(place, "alice")->expires_ns == TRUST_NEVER);
    assert_true(clock_parse_rfc3339("2027-06-30", &end_ns));
    assert_true(approver(place, "alice")->expires_ns == end_ns);
    expect_reason(place, "key_expires_soon", end_ns - 14 * DAY_NS, NULL);
    expect_reason(place, "key_expires_soon", end_ns - 14 * DAY_NS + 1, "approval/alice.pub (2027-06-30T");
    expect_reason(place, "key_expired", end_ns - 1, NULL);
    expect_reason(place, "approvers_too_few", end_ns - 1, NULL);
    expect_reason(place, "key_expired", end_ns, "approval/alice.pub (2027-06-30T");
    expect_reason(place, "approvers_too_few", end_ns, "required_signatures is 1, and only 0 keys");
}

static void a_new_a_replaced_and_a_removed_sender_need_a_restart(void **state)
{
    struct place *place = *state;
    generate(place, place->trusted, "second");
    do
        wait_for_change(place);
    while (sender(place, "second") == NULL);
    assert_null(trust_find(keys_running(place->keys), signature_sender_id(&sender(place, "second")->public_key)));
    expect_reason(place, "sender_key_needs_restart", 0, "second.pub");
    remove_file(place->trusted, "second.pub");
    remove_file(place->trusted, "sender.pub");
    do
        wait_for_change(place);
    while (sender(place, "sender") != NULL || sender(place, "second") != NULL);
    expect_reason(place, "sender_key_needs_restart", 0, "sender.pub (removed)");
}

static void a_broken_file_is_told_and_takes_out_its_own_key_only(void **state)
{
    struct place *place = *state;
    write_text(place->approval, "bob.pub", "no key\n");
    wait_for_change(place);
    expect_reason(place, "key_file_wrong", 0, "bob.pub");
    assert_non_null(approver(place, "alice"));
    remove_file(place->approval, "bob.pub");
    do
        wait_for_change(place);
    while (has_reason(place, "key_file_wrong"));
}

static void a_directory_that_cannot_be_read_leaves_the_keys_as_they_were(void **state)
{
    struct place *place = *state;
    char away[160];
    snprintf(away, sizeof away, "%s.away", place->approval);
    assert_int_equal(rename(place->approval, away), 0);
    keys_reload(place->keys);
    assert_non_null(approver(place, "alice"));
    expect_reason(place, "key_file_wrong", 0, "can't be read");
    assert_int_equal(rename(away, place->approval), 0);
    keys_reload(place->keys);
    expect_reason(place, "key_file_wrong", 0, NULL);
}

static void a_senders_key_among_the_approvers_is_told(void **state)
{
    struct place *place = *state;
    char path[256];
    snprintf(path, sizeof path, "%s/copy.pub", place->approval);
    assert_int_equal(signature_public_save(&place->sender, path), STATUS_OK);
    do
        wait_for_change(place);
    while (approver(place, "copy") == NULL);
    expect_reason(place, "key_file_wrong", 0, "copy.pub is a sender's key too");
    expect_reason(place, "approvers_too_few", 0, NULL);
}

static void sighup_has_everything_read_again(void **state)
{
    struct place *place = *state;
    assert_int_equal(raise(SIGHUP), 0);
    wait_for_change(place);
    assert_non_null(approver(place, "alice"));
}

static void an_announced_key_is_shown_until_it_is_in_use(void **state)
{
    struct place *place = *state;
    char directory[128], path[256];
    snprintf(directory, sizeof directory, "%s/announced", place->state);
    struct signature_public next = generate(place, directory, "next");
    do
        wait_for_change(place);
    while (!has_reason(place, "key_announced"));
    expect_reason(place, "key_announced", 0, "announced/next.pub");
    assert_null(trust_find_key(keys_running(place->keys), next.key_id));
    snprintf(path, sizeof path, "%s/next.pub", place->trusted);
    assert_int_equal(signature_public_save(&next, path), STATUS_OK);
    do
        wait_for_change(place);
    while (sender(place, "next") == NULL);
    expect_reason(place, "key_announced", 0, NULL);
}

static void the_status_names_every_key(void **state)
{
    struct place *place = *state;
    json_t *root = json_object(), *key;
    write_text(place->approval, "alice.revoked", "");
    wait_for_change(place);
    keys_to_json(place->keys, root, 0);
    json_t *keys = json_object_get(root, "keys");
    key = json_array_get(json_object_get(keys, "senders"), 0);
    assert_string_equal(json_string_value(json_object_get(key, "name")), "sender");
    assert_string_equal(json_string_value(json_object_get(key, "state")), "good");
    assert_int_equal(json_string_length(json_object_get(key, "key_id")), 16);
    assert_int_equal(json_string_length(json_object_get(key, "fingerprint")), 16 + 16 * 5);
    assert_true(json_is_null(json_object_get(key, "expires")));
    key = json_array_get(json_object_get(keys, "approvers"), 0);
    assert_string_equal(json_string_value(json_object_get(key, "name")), "alice");
    assert_string_equal(json_string_value(json_object_get(key, "state")), "revoked");
    assert_true(json_is_true(json_object_get(key, "revoked")));
    json_decref(root);
}

int main(void)
{
#define IN_PLACE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    static const struct CMUnitTest tests[] = {
        IN_PLACE(a_new_approver_counts_without_a_restart),
        IN_PLACE(a_revocation_counts_without_a_restart_and_can_be_taken_back),
        IN_PLACE(the_end_of_a_key_is_told_two_weeks_before_and_when_it_came),
        IN_PLACE(a_new_a_replaced_and_a_removed_sender_need_a_restart),
        IN_PLACE(a_broken_file_is_told_and_takes_out_its_own_key_only),
        IN_PLACE(a_directory_that_cannot_be_read_leaves_the_keys_as_they_were),
        IN_PLACE(a_senders_key_among_the_approvers_is_told),
        IN_PLACE(sighup_has_everything_read_again),
        IN_PLACE(an_announced_key_is_shown_until_it_is_in_use),
        IN_PLACE(the_status_names_every_key),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
