// SPDX-License-Identifier: Apache-2.0
#include "sender/approvals.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "proto/identity.h"
#include "sender/claim.h"
#include "sender/filing.h"
#include "sender/finish.h"
#include "sender/recover.h"
#include "tests/unit/approval_fixture.h"
#include "tests/unit/sender_scratch.h"

/* Items and their approvals through claim, recovery and return, with real files and a real ledger. */
static const struct config_channel plain_rule = {.priority = CONFIG_PRIORITY_NORMAL};
static const struct config_channel strict_rule = {.priority = CONFIG_PRIORITY_NORMAL, .approvals = 2};

struct fixture {
    struct scratch spool, state;
    struct config config;
    struct spooldirs dirs;
    struct claim claim;
};

static int set_up(void **state)
{
    static struct fixture fixture;
    fixture = (struct fixture){.config = {.max_size = LIMIT_TRANSFER_SIZE}};
    scratch_open(&fixture.spool);
    scratch_open(&fixture.state);
    fixture.claim.config = &fixture.config;
    fixture.claim.dirs = &fixture.dirs;
    if (spooldirs_open(fixture.spool.path, &fixture.dirs) != STATUS_OK ||
        ledger_open(fixture.state.path, &fixture.claim.ledger) != STATUS_OK)
        return -1;
    scratch_mkdir(&fixture.spool, "c");
    *state = &fixture;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;
    ledger_close(fixture->claim.ledger);
    spooldirs_close(&fixture->dirs);
    scratch_close(&fixture->spool);
    scratch_close(&fixture->state);
    return 0;
}

/* PATH with a bundle of `count` approvals of c/item. */
static void write_approvals(struct fixture *fixture, const char *path, uint8_t count)
{
    uint8_t *bytes;
    size_t size;
    approval_bundle_of("c", "item", "hello", count, &bytes, &size);
    assert_int_equal(durable_write_file(fixture->spool.fd, path, bytes, size, 0644), STATUS_OK);
    free(bytes);
}

static struct claim_item claim_with(struct fixture *fixture, const struct config_channel *rule)
{
    struct claim_item entry = {
        .item = {.channel = "c", .name = "item", .rule = rule, .how = SETTLE_MOVED, .watched = true}};
    claim_batch(&fixture->claim, &entry, 1);
    return entry;
}

static const char *sending(const uint8_t *id, const char *name)
{
    static char path[400];
    char text[TRANSFER_ID_TEXT_SIZE];
    identity_transfer_text(id, text);
    snprintf(path, sizeof path, ".sending/%s%s%s", text, name[0] != '\0' ? "/" : "", name);
    return path;
}

/* An intent of c/item in the ledger, and the directory of its claim. */
static void intend(struct fixture *fixture, uint8_t id[static TRANSFER_ID_SIZE])
{
    struct ledger_transfer row = {.channel = "c", .name = "item", .claimed_at_ns = 1};
    memset(id, 7, TRANSFER_ID_SIZE);
    memcpy(row.id, id, TRANSFER_ID_SIZE);
    assert_int_equal(ledger_claim(fixture->claim.ledger, &row, 1), STATUS_OK);
    scratch_mkdir(&fixture->spool, sending(id, ""));
}

static size_t count_in(int directory_fd)
{
    struct approvals approvals;
    char reason[256];
    assert_int_equal(approvals_read(directory_fd, "item", &approvals, reason), STATUS_OK);
    size_t count = approvals.bundle.count;
    approvals_deinit(&approvals);
    return count;
}

static size_t count_in_channel(struct fixture *fixture)
{
    int fd = openat(fixture->spool.fd, "c", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    size_t count = count_in(fd);
    close(fd);
    return count;
}

static void approvals_are_claimed_with_their_item(void **state)
{
    struct fixture *fixture = *state;
    scratch_write(&fixture->spool, "c/item", "hello");
    write_approvals(fixture, "c/item.approval", 1);
    struct claim_item entry = claim_with(fixture, &plain_rule);
    assert_int_equal(entry.verdict, SETTLE_TAKE);
    assert_non_null(entry.transfer);
    assert_int_equal(count_in(entry.transfer->directory_fd), 1);
    assert_false(scratch_exists(&fixture->spool, "c/item.approval"));
    transfer_destroy(entry.transfer);
}

static void an_item_waits_for_as_many_approvals_as_its_channel_asks_for(void **state)
{
    struct fixture *fixture = *state;
    scratch_write(&fixture->spool, "c/item", "hello");
    struct claim_item entry = claim_with(fixture, &strict_rule);
    assert_int_equal(entry.verdict, SETTLE_UNAPPROVED);
    assert_null(entry.transfer);
    assert_non_null(strstr(entry.message, "0 of 2"));
    write_approvals(fixture, "c/item.approval", 1);
    entry = claim_with(fixture, &strict_rule);
    assert_int_equal(entry.verdict, SETTLE_UNAPPROVED);
    assert_true(scratch_exists(&fixture->spool, "c/item"));
    write_approvals(fixture, "c/item.approval", 2);
    entry = claim_with(fixture, &strict_rule);
    assert_int_equal(entry.verdict, SETTLE_TAKE);
    assert_int_equal(entry.transfer->approvals, 2);
    transfer_destroy(entry.transfer);
}

static void approvals_that_are_none_keep_the_item_where_it_is(void **state)
{
    struct fixture *fixture = *state;
    scratch_write(&fixture->spool, "c/item", "hello");
    scratch_write(&fixture->spool, "c/item.approval", "half of a bun");
    struct claim_item entry = claim_with(fixture, &plain_rule);
    assert_int_equal(entry.verdict, SETTLE_BLOCKED);
    assert_non_null(strstr(entry.message, "item.approval"));
    assert_true(scratch_exists(&fixture->spool, "c/item"));
    assert_int_equal(unlinkat(fixture->spool.fd, "c/item.approval", 0), 0);
    assert_int_equal(symlinkat("/dev/zero", fixture->spool.fd, "c/item.approval"), 0);
    entry = claim_with(fixture, &plain_rule);
    assert_int_equal(entry.verdict, SETTLE_BLOCKED);
    assert_non_null(strstr(entry.message, "symlink"));
}

/* Before any of it is sent; what only reading shows is found by the seal stage. */
static void an_item_that_can_not_be_what_was_approved_is_refused_by_the_claim(void **state)
{
    struct fixture *fixture = *state;
    scratch_write(&fixture->spool, "c/item", "hell");
    write_approvals(fixture, "c/item.approval", 2);
    struct claim_item entry = claim_with(fixture, &strict_rule);
    assert_int_equal(entry.verdict, SETTLE_TAKE);
    assert_true(entry.refused);
    assert_non_null(strstr(entry.message, "item has another size than was signed"));
    assert_false(scratch_exists(&fixture->spool, "c/item"));
}

static void a_claim_of_nothing_leaves_the_approvals(void **state)
{
    struct fixture *fixture = *state;
    uint8_t id[TRANSFER_ID_SIZE] = {1};
    int directory_fd, channel_fd = openat(fixture->spool.fd, "c", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    write_approvals(fixture, "c/item.approval", 2);
    assert_int_equal(filing_take(&fixture->dirs, channel_fd, "item", id, &directory_fd), STATUS_NOT_FOUND);
    close(channel_fd);
    assert_int_equal(count_in_channel(fixture), 2);
    assert_false(scratch_exists(&fixture->spool, sending(id, "")));
}

/* The process ended between the two renames. */
static void approvals_whose_item_was_not_moved_go_back(void **state)
{
    struct fixture *fixture = *state;
    uint8_t id[TRANSFER_ID_SIZE];
    struct recover_result result;
    intend(fixture, id);
    scratch_write(&fixture->spool, "c/item", "hello");
    write_approvals(fixture, sending(id, "item.approval"), 2);
    assert_int_equal(recover_run(&fixture->claim, &result), STATUS_OK);
    assert_int_equal(result.count, 0);
    free(result.transfers);
    assert_int_equal(count_in_channel(fixture), 2);
    assert_false(scratch_exists(&fixture->spool, sending(id, "")));

    struct claim_item entry = claim_with(fixture, &strict_rule);
    assert_int_equal(entry.verdict, SETTLE_TAKE);
    transfer_destroy(entry.transfer);
}

static void approvals_that_came_meanwhile_are_the_ones_that_count(void **state)
{
    struct fixture *fixture = *state;
    uint8_t id[TRANSFER_ID_SIZE];
    struct recover_result result;
    intend(fixture, id);
    write_approvals(fixture, sending(id, "item.approval"), 1);
    write_approvals(fixture, "c/item.approval", 3);
    assert_int_equal(recover_run(&fixture->claim, &result), STATUS_OK);
    free(result.transfers);
    assert_int_equal(count_in_channel(fixture), 3);
    assert_false(scratch_exists(&fixture->spool, sending(id, "")));
}

/* The process ended behind both renames. */
static void an_item_taken_up_again_has_its_approvals(void **state)
{
    struct fixture *fixture = *state;
    uint8_t id[TRANSFER_ID_SIZE];
    struct recover_result result;
    intend(fixture, id);
    scratch_write(&fixture->spool, sending(id, "item"), "hello");
    write_approvals(fixture, sending(id, "item.approval"), 2);
    assert_int_equal(recover_run(&fixture->claim, &result), STATUS_OK);
    assert_int_equal(result.count, 1);
    assert_int_equal(count_in(result.transfers[0]->directory_fd), 2);
    transfer_destroy(result.transfers[0]);
    free(result.transfers);
}

static void an_item_that_goes_back_takes_its_approvals_along(void **state)
{
    struct fixture *fixture = *state;
    struct finish_backlog backlog = {0};
    scratch_write(&fixture->spool, "c/item", "hello");
    write_approvals(fixture, "c/item.approval", 2);
    struct claim_item entry = claim_with(fixture, &strict_rule);
    entry.transfer->outcome = TRANSFER_RETURNED;
    struct finish_item item = {.transfer = entry.transfer, .may_return = true};
    finish_batch(&fixture->claim, &backlog, &item, 1);
    assert_true(scratch_exists(&fixture->spool, "c/item"));
    assert_int_equal(count_in_channel(fixture), 2);
    assert_false(scratch_exists(&fixture->spool, sending(entry.transfer->id, "")));
    transfer_destroy(entry.transfer);
}

/* The process ended between the two renames back: the item is in the spool, its approvals not yet. */
static void approvals_follow_an_item_that_went_back(void **state)
{
    struct fixture *fixture = *state;
    uint8_t id[TRANSFER_ID_SIZE];
    struct recover_result result;
    struct ledger_change change = {.state = LEDGER_RETURNED};
    intend(fixture, id);
    memcpy(change.id, id, TRANSFER_ID_SIZE);
    assert_int_equal(ledger_apply(fixture->claim.ledger, &change, 1), STATUS_OK);
    scratch_write(&fixture->spool, "c/item", "hello");
    write_approvals(fixture, sending(id, "item.approval"), 2);
    assert_int_equal(recover_run(&fixture->claim, &result), STATUS_OK);
    free(result.transfers);
    assert_int_equal(count_in_channel(fixture), 2);
}

static void approvals_that_nobody_knows_are_filed_with_a_reason(void **state)
{
    struct fixture *fixture = *state;
    uint8_t id[TRANSFER_ID_SIZE] = {9};
    char text[TRANSFER_ID_TEXT_SIZE], path[100];
    struct recover_result result;
    scratch_mkdir(&fixture->spool, sending(id, ""));
    write_approvals(fixture, sending(id, "item.approval"), 1);
    assert_int_equal(recover_run(&fixture->claim, &result), STATUS_OK);
    free(result.transfers);
    identity_transfer_text(id, text);
    snprintf(path, sizeof path, ".failed/%s/item.approval", text);
    assert_true(scratch_exists(&fixture->spool, path));
}

static void a_name_without_room_for_a_companion_is_claimed_without(void **state)
{
    struct fixture *fixture = *state;
    char name[LIMIT_COMPONENT_LENGTH + 1], path[300];
    memset(name, 'n', LIMIT_COMPONENT_LENGTH);
    name[LIMIT_COMPONENT_LENGTH] = '\0';
    snprintf(path, sizeof path, "c/%s", name);
    scratch_write(&fixture->spool, path, "x");
    struct claim_item entry = {.item = {.channel = "c", .rule = &plain_rule, .how = SETTLE_MOVED, .watched = true}};
    memcpy(entry.item.name, name, sizeof name);
    claim_batch(&fixture->claim, &entry, 1);
    assert_int_equal(entry.verdict, SETTLE_TAKE);
    transfer_destroy(entry.transfer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(approvals_are_claimed_with_their_item, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_item_waits_for_as_many_approvals_as_its_channel_asks_for, set_up, tear_down),
        cmocka_unit_test_setup_teardown(approvals_that_are_none_keep_the_item_where_it_is, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_item_that_can_not_be_what_was_approved_is_refused_by_the_claim, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_claim_of_nothing_leaves_the_approvals, set_up, tear_down),
        cmocka_unit_test_setup_teardown(approvals_whose_item_was_not_moved_go_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(approvals_that_came_meanwhile_are_the_ones_that_count, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_item_taken_up_again_has_its_approvals, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_item_that_goes_back_takes_its_approvals_along, set_up, tear_down),
        cmocka_unit_test_setup_teardown(approvals_follow_an_item_that_went_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(approvals_that_nobody_knows_are_filed_with_a_reason, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_name_without_room_for_a_companion_is_claimed_without, set_up, tear_down),
    };
    if (signature_init() != STATUS_OK)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
