// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/fingerprint.h"
#include "proto/manifest.h"

/* A manifest as far as the policy looks at it, with approvals that the writer would not write. */
struct manifest_reader {
    struct manifest_head head;
    struct signature approvals[LIMIT_APPROVALS];
    size_t count;
    unsigned looked_at;
};

static const struct manifest_head *fake_head(const struct manifest_reader *reader)
{
    return &reader->head;
}

static const uint8_t approved[] = "a statement";

static const uint8_t *fake_statement(const struct manifest_reader *reader, size_t *size)
{
    (void)reader;
    *size = sizeof approved;
    return approved;
}

static bool fake_approval(const struct manifest_reader *reader, size_t index, struct signature *approval)
{
    ((struct manifest_reader *)reader)->looked_at++;
    if (index >= reader->count)
        return false;
    *approval = reader->approvals[index];
    return true;
}

#define manifest_reader_head      fake_head
#define manifest_reader_statement fake_statement
#define manifest_reader_approval  fake_approval
#include "receiver/policy.c"

enum { SENDER, OTHER_SENDER, ALICE, BOB, CAROL, STRANGER, KEYS };
enum { NOW = 1000, EARLIER = 500, LATER = 2000 };

static struct signature_key *keys[KEYS];
static const char *const names[KEYS] = {"sender", "other", "alice", "bob", "carol", "stranger"};

static struct trust_key entry(unsigned number)
{
    struct trust_key made = {.public_key = *signature_key_public(keys[number]), .expires_ns = TRUST_NEVER};
    snprintf(made.name, sizeof made.name, "%s", names[number]);
    return made;
}

static int make_keys(void **state)
{
    (void)state;
    if (signature_init() != STATUS_OK)
        return -1;
    for (uint8_t i = 0; i < KEYS; i++) {
        uint8_t seed[32] = {i, 0x77};
        keys[i] = signature_key_from_seed(seed);
    }
    return 0;
}

static int destroy_keys(void **state)
{
    (void)state;
    for (unsigned i = 0; i < KEYS; i++)
        signature_key_destroy(keys[i]);
    return 0;
}

/* What a case starts from: two senders, three approvers, two approvals needed but for channel "open", and channel
 * "narrow" with lists. */
struct world {
    struct policy_rules rules;
    struct trust_key senders[2], approvers[4];
    size_t sender_count, approver_count;
    struct trust *running;
    struct manifest_reader manifest;
    uint32_t sender_id;
    int64_t first_seen_ns;
};

static void allow(struct policy_names *allowed, const char *name)
{
    allowed->given = true;
    if (allowed->list == NULL)
        allowed->list = calloc(4, sizeof *allowed->list);
    allowed->list[allowed->count++] = strdup(name);
}

static void approve(struct world *world, unsigned number)
{
    signature_sign(keys[number], approved, sizeof approved, "yes", &world->manifest.approvals[world->manifest.count]);
    world->manifest.count++;
}

static void approve_wrongly(struct world *world, unsigned number)
{
    signature_sign(keys[number], "another", 7, "yes", &world->manifest.approvals[world->manifest.count]);
    world->manifest.count++;
}

static void set_up_world(struct world *world)
{
    *world = (struct world){.rules.required_signatures = 2,
                            .sender_count = 2,
                            .approver_count = 3,
                            .sender_id = signature_sender_id(signature_key_public(keys[SENDER])),
                            .first_seen_ns = NOW};
    struct policy_channel *open = policy_rules_channel(&world->rules, "open");
    open->has_required = true;
    struct policy_channel *narrow = policy_rules_channel(&world->rules, "narrow");
    allow(&narrow->senders, "sender");
    allow(&narrow->approvers, "alice");
    allow(&narrow->approvers, "bob");
    memcpy(world->manifest.head.channel, "tools", sizeof "tools");
    for (unsigned i = 0; i < 2; i++)
        world->senders[i] = entry(SENDER + i);
    for (unsigned i = 0; i < 3; i++)
        world->approvers[i] = entry(ALICE + i);
    world->running = trust_from_entries(world->senders, 2);
}

static void in_channel(struct world *world, const char *channel)
{
    snprintf(world->manifest.head.channel, sizeof world->manifest.head.channel, "%s", channel);
}

/* Judges once; `reason` NULL: it must pass, else the reason must hold these words. */
static void check(struct world *world, const char *reason)
{
    char why[POLICY_REASON_SIZE];
    struct policy *policy =
        policy_create(&world->rules, world->running, trust_from_entries(world->senders, world->sender_count),
                      world->approver_count == 0 ? NULL : trust_from_entries(world->approvers, world->approver_count));
    enum policy_verdict verdict = policy_judge(policy, world->sender_id, world->first_seen_ns, &world->manifest, why);
    policy_destroy(policy);
    policy_rules_deinit(&world->rules);
    trust_destroy(world->running);
    if (reason == NULL) {
        if (verdict != POLICY_DELIVER)
            fail_msg("held: %s", why);
        return;
    }
    assert_int_equal(verdict, POLICY_HOLD);
    if (strstr(why, reason) == NULL)
        fail_msg("expected \"%s\" in \"%s\"", reason, why);
}

static void two_distinct_approvers_suffice_for_two(struct world *world)
{
    approve(world, ALICE);
    approve(world, BOB);
}

static void one_key_twice_counts_once(struct world *world)
{
    approve(world, ALICE);
    approve(world, ALICE);
}

static void one_key_under_two_ids_counts_once(struct world *world)
{
    world->approvers[3] = world->approvers[0];
    world->approvers[3].public_key.key_id[7] ^= 1;
    snprintf(world->approvers[3].name, sizeof world->approvers[3].name, "alias");
    world->approver_count = 4;
    approve(world, ALICE);
    approve(world, ALICE);
    world->manifest.approvals[1].bytes[9] ^= 1;
}

static void a_wrong_signature_is_named_and_does_not_count(struct world *world)
{
    approve(world, ALICE);
    approve_wrongly(world, BOB);
}

static void a_wrong_signature_beside_enough_good_ones_does_no_harm(struct world *world)
{
    approve_wrongly(world, CAROL);
    approve(world, ALICE);
    approve(world, BOB);
}

static void a_right_one_after_a_wrong_one_of_the_same_key_counts(struct world *world)
{
    approve_wrongly(world, ALICE);
    approve(world, ALICE);
    approve(world, BOB);
}

static void the_senders_own_signature_approves_nothing(struct world *world)
{
    approve(world, ALICE);
    approve(world, SENDER);
}

static void a_senders_key_among_the_approvers_approves_nothing(struct world *world)
{
    world->approvers[3] = entry(OTHER_SENDER);
    world->approver_count = 4;
    approve(world, ALICE);
    approve(world, OTHER_SENDER);
}

static void the_key_of_a_removed_sender_that_still_runs_approves_nothing(struct world *world)
{
    world->sender_count = 1;
    world->approvers[3] = entry(OTHER_SENDER);
    world->approver_count = 4;
    approve(world, ALICE);
    approve(world, OTHER_SENDER);
}

static void a_stranger_approves_nothing(struct world *world)
{
    approve(world, ALICE);
    approve(world, STRANGER);
}

static void without_approvals_it_is_held(struct world *world)
{
    (void)world;
}

static void without_approvers_it_is_held(struct world *world)
{
    world->approver_count = 0;
    approve(world, ALICE);
    approve(world, BOB);
}

static void an_expired_approver_does_not_count(struct world *world)
{
    world->approvers[1].expires_ns = NOW;
    approve(world, ALICE);
    approve(world, BOB);
}

static void an_approver_counts_for_what_was_seen_before_the_end(struct world *world)
{
    world->approvers[1].expires_ns = NOW + 1;
    approve(world, ALICE);
    approve(world, BOB);
}

static void a_revoked_approver_does_not_count_whenever_it_was_seen(struct world *world)
{
    world->approvers[1].revoked = true;
    snprintf(world->approvers[1].why_revoked, sizeof world->approvers[1].why_revoked, "lost");
    world->first_seen_ns = 0;
    approve(world, ALICE);
    approve(world, BOB);
}

static void a_channel_may_need_none(struct world *world)
{
    in_channel(world, "open");
}

static void a_list_of_approvers_leaves_out_the_others(struct world *world)
{
    in_channel(world, "narrow");
    approve(world, ALICE);
    approve(world, CAROL);
}

static void a_list_of_approvers_lets_its_own_count(struct world *world)
{
    in_channel(world, "narrow");
    approve(world, ALICE);
    approve(world, BOB);
}

static void a_list_of_senders_leaves_out_the_others(struct world *world)
{
    in_channel(world, "narrow");
    world->sender_id = signature_sender_id(signature_key_public(keys[OTHER_SENDER]));
    approve(world, ALICE);
    approve(world, BOB);
}

static void a_revoked_sender_is_held_however_many_approve(struct world *world)
{
    world->senders[0].revoked = true;
    snprintf(world->senders[0].why_revoked, sizeof world->senders[0].why_revoked, "stolen");
    approve(world, ALICE);
    approve(world, BOB);
}

static void an_expired_sender_is_held(struct world *world)
{
    in_channel(world, "open");
    world->senders[0].expires_ns = EARLIER;
}

static void a_sender_that_expires_later_passes(struct world *world)
{
    in_channel(world, "open");
    world->senders[0].expires_ns = LATER;
}

static void an_expiry_that_cannot_be_read_is_over(struct world *world)
{
    in_channel(world, "open");
    world->senders[0].expires_ns = INT64_MIN;
    world->first_seen_ns = INT64_MIN;
}

static void a_removed_sender_is_held(struct world *world)
{
    in_channel(world, "open");
    world->senders[0] = world->senders[1];
    world->sender_count = 1;
}

static void a_replaced_key_of_a_sender_is_held(struct world *world)
{
    in_channel(world, "open");
    world->senders[0].public_key.key[0] ^= 1;
}

static const struct judgement {
    const char *name;
    void (*arrange)(struct world *world);
    const char *reason; /* NULL: it passes */
} judgements[] = {
#define CASE(arrange, reason)     \
    {                             \
#arrange, arrange, reason \
    }
    CASE(two_distinct_approvers_suffice_for_two, NULL),
    CASE(one_key_twice_counts_once, "2 approvals are needed, 1 there (alice)"),
    CASE(one_key_under_two_ids_counts_once, "2 approvals are needed, 1 there (a"),
    CASE(a_wrong_signature_is_named_and_does_not_count, "1 there (alice); bob's signature is wrong"),
    CASE(a_wrong_signature_beside_enough_good_ones_does_no_harm, NULL),
    CASE(a_right_one_after_a_wrong_one_of_the_same_key_counts, NULL),
    CASE(the_senders_own_signature_approves_nothing, "is no approver's key"),
    CASE(a_senders_key_among_the_approvers_approves_nothing, "other is a sender's key too"),
    CASE(the_key_of_a_removed_sender_that_still_runs_approves_nothing, "other is a sender's key too"),
    CASE(a_stranger_approves_nothing, "is no approver's key"),
    CASE(without_approvals_it_is_held, "2 approvals are needed, 0 there"),
    CASE(without_approvers_it_is_held, "2 approvals are needed, 0 there"),
    CASE(an_expired_approver_does_not_count, "bob expired at 1970-01-01T00:00:00.000Z"),
    CASE(an_approver_counts_for_what_was_seen_before_the_end, NULL),
    CASE(a_revoked_approver_does_not_count_whenever_it_was_seen, "bob is revoked: lost"),
    CASE(a_channel_may_need_none, NULL),
    CASE(a_list_of_approvers_leaves_out_the_others, "carol is not among the approvers of the channel"),
    CASE(a_list_of_approvers_lets_its_own_count, NULL),
    CASE(a_list_of_senders_leaves_out_the_others, "other is not among the senders of channel narrow"),
    CASE(a_revoked_sender_is_held_however_many_approve, "its sender sender is revoked: stolen"),
    CASE(an_expired_sender_is_held, "its sender sender expired at"),
    CASE(a_sender_that_expires_later_passes, NULL),
    CASE(an_expiry_that_cannot_be_read_is_over, "has an expiry that can't be read"),
    CASE(a_removed_sender_is_held, "is not in trusted_keys any more"),
    CASE(a_replaced_key_of_a_sender_is_held, "is another one than at the start"),
};

static void judge_case(void **state)
{
    const struct judgement *judgement = *state;
    struct world world;
    set_up_world(&world);
    judgement->arrange(&world);
    check(&world, judgement->reason);
}

static void long_names_are_cut_and_the_reason_stays_text(void **state)
{
    (void)state;
    struct world world;
    char why[POLICY_REASON_SIZE];
    set_up_world(&world);
    for (unsigned i = 0; i < 3; i++) {
        memset(world.approvers[i].name, 0, sizeof world.approvers[i].name);
        for (size_t at = 0; at + 3 < sizeof world.approvers[i].name; at += 2)
            memcpy(world.approvers[i].name + at, "\xc3\xa4", 2);
        memset(world.approvers[i].why_revoked, 'x', sizeof world.approvers[i].why_revoked - 1);
        world.approvers[i].revoked = true;
        approve(&world, ALICE + i);
    }
    struct policy *policy = policy_create(&world.rules, world.running, trust_from_entries(world.senders, 2),
                                          trust_from_entries(world.approvers, 3));
    assert_int_equal(policy_judge(policy, world.sender_id, NOW, &world.manifest, why), POLICY_HOLD);
    assert_true(strlen(why) < POLICY_REASON_SIZE);
    assert_null(relpath_check_text(why, strlen(why)));
    policy_destroy(policy);
    policy_rules_deinit(&world.rules);
    trust_destroy(world.running);
}

static void no_signature_is_checked_where_none_is_needed(void **state)
{
    (void)state;
    struct world world;
    char why[POLICY_REASON_SIZE];
    set_up_world(&world);
    in_channel(&world, "open");
    approve(&world, ALICE);
    struct policy *policy = policy_create(&world.rules, world.running, trust_from_entries(world.senders, 2), NULL);
    assert_int_equal(policy_judge(policy, world.sender_id, NOW, &world.manifest, why), POLICY_DELIVER);
    assert_int_equal(world.manifest.looked_at, 0);
    policy_destroy(policy);
    policy_rules_deinit(&world.rules);
    trust_destroy(world.running);
}

static struct policy *empty_policy(const struct policy_rules *rules, const struct trust *running)
{
    return policy_create(rules, running, trust_from_entries(NULL, 0), NULL);
}

/* The address sanitizer sees a use after the end. */
static void a_replaced_policy_lives_until_it_is_put_back(void **state)
{
    (void)state;
    static const struct policy_rules rules;
    struct trust *running = trust_from_entries(NULL, 0);
    struct policy_slot *slot = policy_slot_create(empty_policy(&rules, running));
    const struct policy *first = policy_slot_take(slot);
    assert_ptr_equal(policy_slot_take(slot), first);
    struct policy *second = empty_policy(&rules, running);
    policy_slot_replace(slot, second);
    assert_ptr_equal(policy_slot_take(slot), second);
    assert_int_equal(trust_count(policy_senders(first)), 0);
    policy_slot_put(slot, first);
    assert_int_equal(trust_count(policy_senders(first)), 0);
    policy_slot_put(slot, first);
    policy_slot_put(slot, second);
    policy_slot_replace(slot, empty_policy(&rules, running));
    policy_slot_destroy(slot);
    trust_destroy(running);
}

static void channels_are_bounded(void **state)
{
    (void)state;
    struct policy_rules rules = {0};
    char name[16];
    for (int i = 0; i < POLICY_CHANNELS; i++) {
        snprintf(name, sizeof name, "c%d", i);
        assert_non_null(policy_rules_channel(&rules, name));
    }
    assert_null(policy_rules_channel(&rules, "more"));
    assert_ptr_equal(policy_rules_channel(&rules, "c0"), &rules.channels[0]);
    policy_rules_deinit(&rules);
}

int main(void)
{
    enum { CASES = sizeof judgements / sizeof *judgements };
    struct CMUnitTest cases[CASES];
    static const struct CMUnitTest others[] = {
        cmocka_unit_test(long_names_are_cut_and_the_reason_stays_text),
        cmocka_unit_test(no_signature_is_checked_where_none_is_needed),
        cmocka_unit_test(a_replaced_policy_lives_until_it_is_put_back),
        cmocka_unit_test(channels_are_bounded),
    };
    for (size_t i = 0; i < CASES; i++)
        cases[i] = (struct CMUnitTest){
            .name = judgements[i].name, .test_func = judge_case, .initial_state = (void *)&judgements[i]};
    int failed = cmocka_run_group_tests_name("judgements", cases, make_keys, destroy_keys);
    return failed + cmocka_run_group_tests_name("policy", others, make_keys, destroy_keys);
}
