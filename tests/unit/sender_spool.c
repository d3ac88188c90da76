// SPDX-License-Identifier: Apache-2.0
#include "sender/spool.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "common/clock.h"
#include "sender/probe.h"
#include "tests/unit/sender_scratch.h"

/* Real inotify and files; time only in what settle is told. */
#define SECOND UINT64_C(1000000000)
#define START  (1000 * SECOND)
#define YEAR   (365 * 86400 * SECOND)

struct fixture {
    struct scratch scratch;
    struct config config;
    struct config_channel channels[2];
    struct spooldirs dirs;
    struct settle *settle;
    struct spool *spool;
    uint64_t now_ns;
};

static int set_up(void **state)
{
    static struct fixture fixture;
    fixture = (struct fixture){.now_ns = START};
    scratch_open(&fixture.scratch);
    fixture.channels[0] = (struct config_channel){.name = "marked", .complete = CONFIG_COMPLETE_MARKER};
    fixture.channels[1] = (struct config_channel){.name = "renamed", .complete = CONFIG_COMPLETE_RENAME};
    fixture.config.channels = fixture.channels;
    fixture.config.channel_count = 2;
    fixture.config.spool = fixture.scratch.path;
    fixture.settle = settle_create(SECOND, 30 * SECOND);
    if (spooldirs_open(fixture.scratch.path, &fixture.dirs) != STATUS_OK ||
        spool_create(&fixture.config, &fixture.dirs, fixture.settle, &fixture.spool) != STATUS_OK)
        return -1;
    scratch_mkdir(&fixture.scratch, "wheels");
    scratch_mkdir(&fixture.scratch, "marked");
    scratch_mkdir(&fixture.scratch, "renamed");
    spool_scan(fixture.spool, fixture.now_ns, clock_realtime_ns());
    *state = &fixture;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;
    spool_destroy(fixture->spool);
    settle_destroy(fixture->settle);
    spooldirs_close(&fixture->dirs);
    scratch_close(&fixture->scratch);
    return 0;
}

static void read_events(struct fixture *fixture)
{
    if (spool_read(fixture->spool, fixture->now_ns))
        spool_scan(fixture->spool, fixture->now_ns, clock_realtime_ns());
}

/* Takes the one item that is due now; false when there is none. */
static bool take(struct fixture *fixture, struct settle_item *item)
{
    static const size_t room[CONFIG_PRIORITY_COUNT] = {9, 9, 9};
    read_events(fixture);
    return settle_take(fixture->settle, fixture->now_ns, room, item, 1) == 1;
}

static void assert_taken(struct fixture *fixture, const char *channel, const char *name)
{
    struct settle_item item;
    assert_true(take(fixture, &item));
    assert_string_equal(item.channel, channel);
    assert_string_equal(item.name, name);
}

static void assert_nothing_due(struct fixture *fixture)
{
    struct settle_item item;
    assert_false(take(fixture, &item));
}

static void a_file_renamed_in_is_due_at_once(void **state)
{
    struct fixture *fixture = *state;
    scratch_write(&fixture->scratch, "wheels/.a.part", "a");
    assert_nothing_due(fixture);
    scratch_rename(&fixture->scratch, "wheels/.a.part", "wheels/a.whl");
    assert_taken(fixture, "wheels", "a.whl");
}

static void a_file_in_the_spool_itself_is_an_item_and_a_directory_is_a_channel(void **state)
{
    struct fixture *fixture = *state;
    scratch_write(&fixture->scratch, ".f", "f");
    scratch_rename(&fixture->scratch, ".f", "f");
    assert_taken(fixture, "", "f");
    assert_string_equal(spool_channel_name(""), "default");
    scratch_mkdir(&fixture->scratch, "new");
    assert_nothing_due(fixture);
    scratch_write(&fixture->scratch, "new/.x", "x");
    scratch_rename(&fixture->scratch, "new/.x", "new/x");
    assert_taken(fixture, "new", "x");
}

static void what_is_in_a_channel_that_is_moved_in_is_found(void **state)
{
    struct fixture *fixture = *state;
    scratch_mkdir(&fixture->scratch, ".later");
    scratch_write(&fixture->scratch, ".later/x", "x");
    scratch_rename(&fixture->scratch, ".later", "later");
    assert_nothing_due(fixture);
    fixture->now_ns += 2 * SECOND;
    assert_taken(fixture, "later", "x");
}

static void names_that_are_no_items_are_passed_over(void **state)
{
    struct fixture *fixture = *state;
    scratch_write(&fixture->scratch, "wheels/.hidden", "");
    scratch_write(&fixture->scratch, "wheels/a.part", "");
    scratch_write(&fixture->scratch, "wheels/a.tmp", "");
    scratch_write(&fixture->scratch, "a.tmp", "");
    spool_scan(fixture->spool, fixture->now_ns, clock_realtime_ns());
    fixture->now_ns += YEAR;
    assert_nothing_due(fixture);
}

static void writing_in_place_postpones_and_closing_does_not_hurry(void **state)
{
    struct fixture *fixture = *state;
    for (int i = 0; i < 5; i++) {
        scratch_write(&fixture->scratch, "wheels/a", "more");
        assert_nothing_due(fixture);
        fixture->now_ns += SECOND / 2;
    }
    fixture->now_ns += SECOND / 2 - 1;
    assert_nothing_due(fixture);
    fixture->now_ns += 1;
    assert_taken(fixture, "wheels", "a");
}

static void a_change_deep_inside_a_growing_tree_postpones_it(void **state)
{
    struct fixture *fixture = *state;
    static const char *const steps[] = {"wheels/t/a", "wheels/t/d/e/f/deep", "wheels/t/d/b", "wheels/t/d/e/f/deep"};
    scratch_mkdir(&fixture->scratch, "wheels/t");
    read_events(fixture);
    scratch_mkdir(&fixture->scratch, "wheels/t/d");
    scratch_mkdir(&fixture->scratch, "wheels/t/d/e");
    scratch_mkdir(&fixture->scratch, "wheels/t/d/e/f");
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        assert_nothing_due(fixture);
        fixture->now_ns += 29 * SECOND;
        scratch_write(&fixture->scratch, steps[i], "x");
        assert_nothing_due(fixture);
    }
    /* A scan in between changes nothing. */
    spool_scan(fixture->spool, fixture->now_ns, clock_realtime_ns());
    fixture->now_ns += 30 * SECOND - 1;
    assert_nothing_due(fixture);
    fixture->now_ns += 1;
    assert_taken(fixture, "wheels", "t");
}

static void a_tree_renamed_in_is_due_at_once(void **state)
{
    struct fixture *fixture = *state;
    scratch_mkdir(&fixture->scratch, "wheels/.t");
    scratch_write(&fixture->scratch, "wheels/.t/a", "a");
    scratch_rename(&fixture->scratch, "wheels/.t", "wheels/t");
    assert_taken(fixture, "wheels", "t");
}

static void what_leaves_the_spool_is_forgotten(void **state)
{
    struct fixture *fixture = *state;
    scratch_write(&fixture->scratch, "wheels/a", "a");
    scratch_mkdir(&fixture->scratch, "wheels/t");
    scratch_write(&fixture->scratch, "renamed/b", "b");
    read_events(fixture);
    assert_int_equal(unlinkat(fixture->scratch.fd, "wheels/a", 0), 0);
    assert_int_equal(unlinkat(fixture->scratch.fd, "wheels/t", AT_REMOVEDIR), 0);
    assert_int_equal(unlinkat(fixture->scratch.fd, "renamed/b", 0), 0);
    fixture->now_ns += YEAR;
    assert_nothing_due(fixture);
    struct settle_totals totals;
    settle_totals(fixture->settle, &totals);
    assert_int_equal(totals.count, 0);
}

static void a_rename_channel_takes_only_what_is_renamed_in(void **state)
{
    struct fixture *fixture = *state;
    scratch_write(&fixture->scratch, "renamed/a", "a");
    read_events(fixture);
    fixture->now_ns += YEAR;
    assert_nothing_due(fixture);
    scratch_rename(&fixture->scratch, "renamed/a", "renamed/.a");
    scratch_rename(&fixture->scratch, "renamed/.a", "renamed/a");
    assert_taken(fixture, "renamed", "a");
}

static void a_marker_makes_its_item_due_and_is_none_itself(void **state)
{
    struct fixture *fixture = *state;
    scratch_write(&fixture->scratch, "marked/a", "a");
    read_events(fixture);
    fixture->now_ns += YEAR;
    assert_nothing_due(fixture);
    scratch_write(&fixture->scratch, "marked/a.ready", "");
    assert_taken(fixture, "marked", "a");
    assert_nothing_due(fixture);
    /* In another channel such a name is an ordinary one. */
    scratch_write(&fixture->scratch, "wheels/.x", "");
    scratch_rename(&fixture->scratch, "wheels/.x", "wheels/a.ready");
    assert_taken(fixture, "wheels", "a.ready");
}

static void a_scan_finds_what_no_event_told(void **state)
{
    struct fixture *fixture = *state;
    scratch_write(&fixture->scratch, "wheels/a", "a");
    scratch_write(&fixture->scratch, "marked/m", "");
    scratch_write(&fixture->scratch, "marked/m.ready", "");
    struct spool *fresh;
    settle_destroy(fixture->settle);
    spool_destroy(fixture->spool);
    fixture->settle = settle_create(SECOND, 30 * SECOND);
    assert_int_equal(spool_create(&fixture->config, &fixture->dirs, fixture->settle, &fresh), STATUS_OK);
    fixture->spool = fresh;
    spool_scan(fresh, fixture->now_ns, clock_realtime_ns());
    assert_taken(fixture, "marked", "m");
    assert_nothing_due(fixture);
    fixture->now_ns += 2 * SECOND;
    assert_taken(fixture, "wheels", "a");
}

static void lost_and_found_of_a_file_system_is_nothing_to_complain_about(void **state)
{
    struct fixture *fixture = *state;
    scratch_mkdir(&fixture->scratch, "lost+found");
    spool_scan(fixture->spool, fixture->now_ns, clock_realtime_ns());
    assert_false(spool_trouble(fixture->spool)->unreadable);
}

static void a_directory_whose_name_is_no_channel_is_named(void **state)
{
    struct fixture *fixture = *state;
    scratch_mkdir(&fixture->scratch, "no channel");
    spool_scan(fixture->spool, fixture->now_ns, clock_realtime_ns());
    assert_true(spool_trouble(fixture->spool)->unreadable);
    assert_non_null(strstr(spool_trouble(fixture->spool)->unreadable_message, "no channel"));
}

static void a_spool_that_is_moved_away_is_noticed(void **state)
{
    struct fixture *fixture = *state;
    char elsewhere[80];
    snprintf(elsewhere, sizeof elsewhere, "%s.moved", fixture->scratch.path);
    assert_int_equal(rename(fixture->scratch.path, elsewhere), 0);
    read_events(fixture);
    assert_true(spool_trouble(fixture->spool)->gone);
    assert_int_equal(rename(elsewhere, fixture->scratch.path), 0);
}

static void an_open_writer_is_seen_by_the_probe(void **state)
{
    struct fixture *fixture = *state;
    const struct scratch *scratch = &fixture->scratch;
    struct probe probe;
    scratch_mkdir(scratch, "wheels/t");
    scratch_write(scratch, "wheels/t/a", "a");
    assert_int_equal(probe_item(scratch->fd, "wheels", true, NULL, NULL, &probe), STATUS_OK);
    assert_int_equal(probe.writers, PROBE_NO_WRITER);
    assert_int_equal(probe.bytes, 1);
    uint64_t before = probe.fingerprint;
    int fd = openat(scratch->fd, "wheels/t/a", O_WRONLY | O_APPEND | O_CLOEXEC);
    assert_int_equal(probe_item(scratch->fd, "wheels", true, NULL, NULL, &probe), STATUS_OK);
    assert_int_equal(probe.writers, PROBE_WRITER);
    assert_int_equal(probe.fingerprint, before);
    assert_int_equal(write(fd, "b", 1), 1);
    close(fd);
    assert_int_equal(probe_item(scratch->fd, "wheels", true, NULL, NULL, &probe), STATUS_OK);
    assert_int_equal(probe.writers, PROBE_NO_WRITER);
    assert_int_not_equal(probe.fingerprint, before);
    assert_int_equal(probe_item(scratch->fd, "none", true, NULL, NULL, &probe), STATUS_NOT_FOUND);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_file_renamed_in_is_due_at_once),
        TEST(a_file_in_the_spool_itself_is_an_item_and_a_directory_is_a_channel),
        TEST(what_is_in_a_channel_that_is_moved_in_is_found),
        TEST(names_that_are_no_items_are_passed_over),
        TEST(writing_in_place_postpones_and_closing_does_not_hurry),
        TEST(a_change_deep_inside_a_growing_tree_postpones_it),
        TEST(a_tree_renamed_in_is_due_at_once),
        TEST(what_leaves_the_spool_is_forgotten),
        TEST(a_rename_channel_takes_only_what_is_renamed_in),
        TEST(a_marker_makes_its_item_due_and_is_none_itself),
        TEST(a_scan_finds_what_no_event_told),
        TEST(lost_and_found_of_a_file_system_is_nothing_to_complain_about),
        TEST(a_directory_whose_name_is_no_channel_is_named),
        TEST(a_spool_that_is_moved_away_is_noticed),
        TEST(an_open_writer_is_seen_by_the_probe),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
