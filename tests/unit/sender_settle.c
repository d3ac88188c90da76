// SPDX-License-Identifier: Apache-2.0
#include "sender/settle.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define SECOND UINT64_C(1000000000)
#define START  (1000 * SECOND)

static const struct config_channel settle_rule = {.priority = CONFIG_PRIORITY_NORMAL};
static const struct config_channel low_rule = {.priority = CONFIG_PRIORITY_LOW};
static const struct config_channel rename_rule = {.priority = CONFIG_PRIORITY_NORMAL,
                                                  .complete = CONFIG_COMPLETE_RENAME};
static const struct config_channel marker_rule = {.priority = CONFIG_PRIORITY_NORMAL,
                                                  .complete = CONFIG_COMPLETE_MARKER};
static const size_t all_room[CONFIG_PRIORITY_COUNT] = {100, 100, 100};

static int set_up(void **state)
{
    *state = settle_create(SECOND, 30 * SECOND);
    return 0;
}

static int tear_down(void **state)
{
    settle_destroy(*state);
    return 0;
}

static struct settle_item item_of(const char *name, const struct config_channel *rule, enum settle_how how, bool tree)
{
    struct settle_item item = {.rule = rule, .how = how, .tree = tree, .watched = true};
    snprintf(item.channel, sizeof item.channel, "c");
    snprintf(item.name, sizeof item.name, "%s", name);
    return item;
}

static void see(struct settle *settle, const char *name, const struct config_channel *rule, enum settle_how how,
                bool tree, uint64_t now_ns)
{
    struct settle_item item = item_of(name, rule, how, tree);
    settle_see(settle, &item, 0, now_ns);
}

/* Takes at most one item that is due. */
static bool take(struct settle *settle, uint64_t now_ns, struct settle_item *item)
{
    return settle_take(settle, now_ns, all_room, item, 1) == 1;
}

static bool is_due(struct settle *settle, uint64_t now_ns)
{
    return settle_next_ns(settle) <= now_ns;
}

static void a_file_renamed_in_is_tried_at_once(void **state)
{
    struct settle_item item;
    see(*state, "a", &settle_rule, SETTLE_MOVED, false, START);
    assert_true(take(*state, START, &item));
    assert_string_equal(item.name, "a");
    assert_int_equal(settle_judge(&item, &(struct probe){.writers = PROBE_NO_WRITER}, INT64_MIN), SETTLE_TAKE);
    assert_false(take(*state, START + 100 * SECOND, &item));
}

static void a_file_written_in_place_is_tried_after_its_settle_time(void **state)
{
    see(*state, "a", &settle_rule, SETTLE_CREATED, false, START);
    assert_false(is_due(*state, START + SECOND - 1));
    assert_true(settle_touch(*state, "c", "a", false, START + SECOND / 2));
    assert_false(is_due(*state, START + SECOND));
    assert_true(is_due(*state, START + SECOND / 2 + SECOND));
}

static void a_tree_that_grows_with_stalls_is_tried_once_thirty_seconds_after_the_last_change(void **state)
{
    uint64_t now = START;
    struct settle_item item;
    see(*state, "tree", &settle_rule, SETTLE_CREATED, true, now);
    for (int i = 0; i < 20; i++) {
        now += 5 * SECOND;
        assert_false(take(*state, now, &item));
        assert_true(settle_touch(*state, "c", "tree", true, now));
    }
    assert_false(take(*state, now + 30 * SECOND - 1, &item));
    assert_true(take(*state, now + 30 * SECOND, &item));
}

static void a_found_file_that_is_old_is_tried_at_once(void **state)
{
    struct settle_item item = item_of("old", &settle_rule, SETTLE_FOUND, false);
    settle_see(*state, &item, 3600 * SECOND, START);
    assert_true(is_due(*state, START));
}

static void a_rename_channel_never_tries_what_was_written_in_place(void **state)
{
    see(*state, "a", &rename_rule, SETTLE_CREATED, false, START);
    assert_false(is_due(*state, START + 1000000 * SECOND));
    see(*state, "a", &rename_rule, SETTLE_MOVED, false, START);
    assert_true(is_due(*state, START));
}

static void a_marker_channel_waits_for_a_marker_that_is_not_older_than_the_item(void **state)
{
    struct settle_item item;
    struct probe probe = {.writers = PROBE_NO_WRITER, .root_ctime_ns = 500};
    see(*state, "a", &marker_rule, SETTLE_MOVED, false, START);
    assert_false(is_due(*state, START + 1000 * SECOND));
    settle_mark(*state, "c", "a", true, START);
    assert_true(take(*state, START, &item));
    assert_int_equal(settle_judge(&item, &probe, INT64_MIN), SETTLE_UNMARKED);
    assert_int_equal(settle_judge(&item, &probe, 499), SETTLE_UNMARKED);
    assert_int_equal(settle_judge(&item, &probe, 500), SETTLE_TAKE);
    settle_done(*state, &item, SETTLE_UNMARKED, &probe, "", START);
    assert_false(is_due(*state, START + 1000 * SECOND));
    settle_mark(*state, "c", "a", true, START + SECOND);
    assert_true(is_due(*state, START + SECOND));
}

static void without_events_two_equal_fingerprints_are_needed(void **state)
{
    struct settle_item item = item_of("a", &settle_rule, SETTLE_FOUND, false);
    struct probe probe = {.writers = PROBE_UNKNOWN, .fingerprint = 1};
    item.watched = false;
    settle_see(*state, &item, 0, START);
    assert_true(take(*state, START + SECOND, &item));
    assert_int_equal(settle_judge(&item, &probe, INT64_MIN), SETTLE_CHANGED);
    settle_done(*state, &item, SETTLE_CHANGED, &probe, "", START + SECOND);
    assert_false(is_due(*state, START + 2 * SECOND - 1));
    assert_true(take(*state, START + 2 * SECOND, &item));
    probe.fingerprint = 2;
    assert_int_equal(settle_judge(&item, &probe, INT64_MIN), SETTLE_CHANGED);
    settle_done(*state, &item, SETTLE_CHANGED, &probe, "", START + 2 * SECOND);
    assert_true(take(*state, START + 3 * SECOND, &item));
    assert_int_equal(settle_judge(&item, &probe, INT64_MIN), SETTLE_TAKE);
}

static void a_busy_item_is_tried_again_at_once_when_its_writer_closes(void **state)
{
    struct settle_item item;
    struct probe probe = {.writers = PROBE_WRITER};
    see(*state, "a", &settle_rule, SETTLE_MOVED, false, START);
    assert_true(take(*state, START, &item));
    assert_int_equal(settle_judge(&item, &probe, INT64_MIN), SETTLE_BUSY);
    settle_done(*state, &item, SETTLE_BUSY, &probe, "", START);
    assert_false(is_due(*state, START + SECOND - 1));
    settle_touch(*state, "c", "a", true, START + SECOND / 10);
    assert_true(is_due(*state, START + SECOND / 10));
}

static void a_file_renamed_in_whose_writers_can_not_be_told_waits_for_the_settle_time(void **state)
{
    struct settle_item item;
    struct probe probe = {.writers = PROBE_UNKNOWN};
    see(*state, "a", &settle_rule, SETTLE_MOVED, false, START);
    assert_true(take(*state, START, &item));
    assert_int_equal(settle_judge(&item, &probe, INT64_MIN), SETTLE_UNSURE);
    settle_done(*state, &item, SETTLE_UNSURE, &probe, "", START);
    assert_false(is_due(*state, START + SECOND - 1));
    assert_true(take(*state, START + SECOND, &item));
    assert_int_equal(settle_judge(&item, &probe, INT64_MIN), SETTLE_TAKE);
}

static void an_item_of_the_same_name_that_comes_during_a_claim_is_kept(void **state)
{
    struct settle_item item;
    see(*state, "a", &settle_rule, SETTLE_MOVED, false, START);
    assert_true(take(*state, START, &item));
    settle_forget(*state, "c", "a"); /* our own rename */
    see(*state, "a", &settle_rule, SETTLE_CREATED, false, START + 1);
    settle_done(*state, &item, SETTLE_TAKE, NULL, "", START + 2);
    assert_false(is_due(*state, START + SECOND));
    assert_true(take(*state, START + 2 + SECOND, &item));
}

static void our_own_rename_forgets_what_came_before_it(void **state)
{
    struct settle_item item;
    see(*state, "a", &settle_rule, SETTLE_MOVED, false, START);
    assert_true(take(*state, START, &item));
    see(*state, "a", &settle_rule, SETTLE_MOVED, false, START + 1);
    settle_forget(*state, "c", "a");
    settle_done(*state, &item, SETTLE_TAKE, NULL, "", START + 2);
    assert_int_equal(settle_next_ns(*state), UINT64_MAX);
}

struct seen_waiting {
    int count;
    char message[64];
};

static void note(const struct settle_item *item, bool blocked, const char *message, void *context)
{
    struct seen_waiting *seen = context;
    (void)item;
    assert_true(blocked);
    seen->count++;
    snprintf(seen->message, sizeof seen->message, "%s", message);
}

static void a_blocked_item_is_tried_at_growing_intervals_and_named(void **state)
{
    uint64_t now = START, before = 0;
    struct settle_item item;
    struct seen_waiting seen = {0};
    see(*state, "a", &settle_rule, SETTLE_MOVED, false, now);
    for (int i = 0; i < 10; i++) {
        assert_true(take(*state, now, &item));
        assert_int_equal(settle_done(*state, &item, SETTLE_BLOCKED, NULL, "chmod it", now), i == 0);
        uint64_t wait = settle_next_ns(*state) - now;
        assert_true(wait >= before && wait <= 60 * SECOND);
        before = wait;
        now += wait;
    }
    settle_each_waiting(*state, note, &seen);
    assert_int_equal(seen.count, 1);
    assert_string_equal(seen.message, "chmod it");
}

static void a_returned_item_waits_for_its_settle_time_whatever_the_rule(void **state)
{
    struct settle_item item = item_of("a", &marker_rule, SETTLE_RETURNED, false);
    assert_true(settle_expect(*state, &item));
    see(*state, "a", &marker_rule, SETTLE_MOVED, false, START); /* our own rename */
    assert_false(is_due(*state, START + SECOND));
    settle_returned(*state, &item, START);
    assert_false(is_due(*state, START + SECOND - 1));
    assert_true(take(*state, START + SECOND, &item));
    assert_int_equal(settle_judge(&item, &(struct probe){.writers = PROBE_NO_WRITER}, INT64_MIN), SETTLE_TAKE);
}

static void nothing_is_expected_back_over_a_new_item_of_its_name(void **state)
{
    struct settle_item item = item_of("a", &settle_rule, SETTLE_RETURNED, false);
    see(*state, "a", &settle_rule, SETTLE_MOVED, false, START);
    assert_false(settle_expect(*state, &item));
    assert_true(is_due(*state, START));
}

static void the_urgent_come_first_and_each_priority_has_its_room(void **state)
{
    struct settle_item items[10];
    const size_t room[CONFIG_PRIORITY_COUNT] = {0, 2, 1};
    for (int i = 0; i < 4; i++) {
        char name[16];
        snprintf(name, sizeof name, "low%d", i);
        see(*state, name, &low_rule, SETTLE_MOVED, false, START);
        snprintf(name, sizeof name, "n%d", i);
        see(*state, name, &settle_rule, SETTLE_MOVED, false, START);
    }
    assert_int_equal(settle_take(*state, START, room, items, 10), 3);
    assert_ptr_equal(items[0].rule, &settle_rule);
    assert_ptr_equal(items[1].rule, &settle_rule);
    assert_ptr_equal(items[2].rule, &low_rule);
}

/* Else, while more comes than the link carries, an unlucky item would wait for ever. */
static void what_is_due_longest_comes_first(void **state)
{
    enum { COUNT = 500, BATCH = 7 };
    struct settle_item items[BATCH];
    size_t count, next = 0;
    for (unsigned i = 0; i < COUNT; i++) {
        char name[16];
        snprintf(name, sizeof name, "%u", i * 211 % COUNT);
        see(*state, name, &settle_rule, SETTLE_MOVED, false, START + i * 211 % COUNT);
    }
    while ((count = settle_take(*state, START + 2 * SECOND, all_room, items, BATCH)) > 0) {
        for (size_t i = 0; i < count; i++) {
            char expected[16];
            snprintf(expected, sizeof expected, "%zu", next++);
            assert_string_equal(items[i].name, expected);
        }
    }
    assert_int_equal(next, COUNT);
}

static void what_a_scan_does_not_see_is_forgotten_but_not_what_is_out(void **state)
{
    struct settle_item item;
    struct settle_totals totals;
    see(*state, "out", &settle_rule, SETTLE_MOVED, false, START);
    assert_true(take(*state, START, &item));
    see(*state, "gone", &settle_rule, SETTLE_CREATED, false, START);
    settle_scan_begin(*state);
    see(*state, "new", &settle_rule, SETTLE_FOUND, false, START);
    settle_scan_end(*state);
    settle_totals(*state, &totals);
    assert_int_equal(totals.count, 2);
    settle_done(*state, &item, SETTLE_GONE, NULL, "", START);
    settle_totals(*state, &totals);
    assert_int_equal(totals.count, 1);
}

static void a_frozen_settle_takes_no_newcomers(void **state)
{
    struct settle_totals totals;
    see(*state, "a", &settle_rule, SETTLE_MOVED, false, START);
    settle_freeze(*state);
    see(*state, "b", &settle_rule, SETTLE_MOVED, false, START);
    settle_totals(*state, &totals);
    assert_int_equal(totals.count, 1);
}

static void ten_thousand_items_are_all_taken(void **state)
{
    struct settle_item items[100];
    const size_t room[CONFIG_PRIORITY_COUNT] = {100, 100, 100};
    size_t taken = 0, count;
    for (int i = 0; i < 10000; i++) {
        char name[16];
        snprintf(name, sizeof name, "f%d", i);
        see(*state, name, &settle_rule, SETTLE_MOVED, false, START);
    }
    while ((count = settle_take(*state, START, room, items, 100)) > 0) {
        for (size_t i = 0; i < count; i++)
            settle_done(*state, &items[i], SETTLE_TAKE, NULL, "", START);
        taken += count;
    }
    assert_int_equal(taken, 10000);
}

static void note_waiting(const struct settle_item *item, bool blocked, const char *message, void *context)
{
    const char **found = context;
    (void)item;
    assert_false(blocked);
    *found = message;
}

static void an_unapproved_item_waits_for_its_approvals_or_a_scan(void **state)
{
    struct settle_item item;
    struct settle_totals totals;
    const char *waits_for = NULL;
    struct probe probe = {.writers = PROBE_NO_WRITER};
    see(*state, "a", &settle_rule, SETTLE_MOVED, false, START);
    assert_true(take(*state, START, &item));
    assert_false(settle_done(*state, &item, SETTLE_UNAPPROVED, &probe, "waits for approvals: 0 of 1", START));
    assert_int_equal(settle_next_ns(*state), UINT64_MAX);
    settle_totals(*state, &totals);
    assert_int_equal(totals.pending, 0);
    settle_each_waiting(*state, note_waiting, &waits_for);
    assert_string_equal(waits_for, "waits for approvals: 0 of 1");

    settle_approval(*state, "c", "other", START + SECOND);
    assert_false(take(*state, START + SECOND, &item));
    settle_approval(*state, "c", "a", START + SECOND);
    assert_true(take(*state, START + SECOND, &item));
    settle_done(*state, &item, SETTLE_UNAPPROVED, &probe, "waits for approvals: 0 of 1", START + SECOND);
    see(*state, "a", &settle_rule, SETTLE_FOUND, false, START + 30 * SECOND);
    assert_true(take(*state, START + 30 * SECOND, &item));
}

static void approvals_that_come_during_a_try_are_not_missed(void **state)
{
    struct settle_item item;
    struct probe probe = {.writers = PROBE_NO_WRITER};
    see(*state, "a", &settle_rule, SETTLE_MOVED, false, START);
    assert_true(take(*state, START, &item));
    settle_approval(*state, "c", "a", START);
    settle_done(*state, &item, SETTLE_UNAPPROVED, &probe, "waits for approvals: 0 of 1", START);
    assert_true(take(*state, START, &item));
    settle_done(*state, &item, SETTLE_BLOCKED, &probe, "half of a bundle", START);
    assert_false(take(*state, START + SECOND, &item));
    settle_approval(*state, "c", "a", START + SECOND);
    assert_true(take(*state, START + SECOND, &item));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_file_renamed_in_is_tried_at_once),
        TEST(a_file_written_in_place_is_tried_after_its_settle_time),
        TEST(a_tree_that_grows_with_stalls_is_tried_once_thirty_seconds_after_the_last_change),
        TEST(a_found_file_that_is_old_is_tried_at_once),
        TEST(a_rename_channel_never_tries_what_was_written_in_place),
        TEST(a_marker_channel_waits_for_a_marker_that_is_not_older_than_the_item),
        TEST(without_events_two_equal_fingerprints_are_needed),
        TEST(a_busy_item_is_tried_again_at_once_when_its_writer_closes),
        TEST(a_file_renamed_in_whose_writers_can_not_be_told_waits_for_the_settle_time),
        TEST(an_item_of_the_same_name_that_comes_during_a_claim_is_kept),
        TEST(our_own_rename_forgets_what_came_before_it),
        TEST(a_blocked_item_is_tried_at_growing_intervals_and_named),
        TEST(a_returned_item_waits_for_its_settle_time_whatever_the_rule),
        TEST(nothing_is_expected_back_over_a_new_item_of_its_name),
        TEST(the_urgent_come_first_and_each_priority_has_its_room),
        TEST(what_is_due_longest_comes_first),
        TEST(what_a_scan_does_not_see_is_forgotten_but_not_what_is_out),
        TEST(a_frozen_settle_takes_no_newcomers),
        TEST(ten_thousand_items_are_all_taken),
        TEST(an_unapproved_item_waits_for_its_approvals_or_a_scan),
        TEST(approvals_that_come_during_a_try_are_not_missed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
