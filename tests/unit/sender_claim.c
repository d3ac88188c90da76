// SPDX-License-Identifier: Apache-2.0
#include "sender/claim.c" /* for the moment between its steps */

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "common/clock.h"
#include "proto/identity.h"
#include "sender/filing.h"
#include "sender/finish.h"
#include "sender/recover.h"
#include "sender/retain.h"
#include "tests/unit/sender_scratch.h"

/* Real files and a real ledger. */
static const struct config_channel plain_rule = {.priority = CONFIG_PRIORITY_NORMAL};
static const struct config_channel marker_rule = {.complete = CONFIG_COMPLETE_MARKER};

struct fixture {
    struct scratch spool, state;
    struct config config;
    struct spooldirs dirs;
    struct claim claim;
};

static int set_up(void **state)
{
    static struct fixture fixture;
    fixture = (struct fixture){.config = {.max_size = LIMIT_TRANSFER_SIZE, .retain_ns = UINT64_C(3600000000000)}};
    fixture.config.retain_bytes = UINT64_MAX;
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

static struct claim_item item_of(const char *channel, const char *name, bool tree)
{
    struct claim_item entry = {.item = {.rule = &plain_rule, .how = SETTLE_MOVED, .tree = tree, .watched = true}};
    snprintf(entry.item.channel, sizeof entry.item.channel, "%s", channel);
    snprintf(entry.item.name, sizeof entry.item.name, "%s", name);
    return entry;
}

/* Claims one item of channel "c". */
static struct claim_item claim_one(struct fixture *fixture, const char *name, bool tree)
{
    struct claim_item entry = item_of("c", name, tree);
    claim_batch(&fixture->claim, &entry, 1);
    return entry;
}

/* DIRECTORY/ID/NAME below the spool. */
static const char *filed(const char *directory, const uint8_t *id, const char *name)
{
    static char path[400];
    char text[TRANSFER_ID_TEXT_SIZE];
    identity_transfer_text(id, text);
    snprintf(path, sizeof path, "%s/%s/%s", directory, text, name);
    return path;
}

static enum ledger_state state_of(struct fixture *fixture, const uint8_t *id)
{
    struct ledger_transfer found;
    assert_int_equal(ledger_find(fixture->claim.ledger, id, &found), STATUS_OK);
    return found.state;
}

/* Names in a directory of the spool, dots left out. */
static int count_names(const struct fixture *fixture, const char *directory)
{
    int count = 0;
    int fd = openat(fixture->spool.fd, directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *stream = fdopendir(fd);
    for (const struct dirent *entry; (entry = readdir(stream)) != NULL;)
        count += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
    closedir(stream);
    return count;
}

static void a_file_and_a_tree_become_transfers(void **state)
{
    struct fixture *fixture = *state;
    scratch_write(&fixture->spool, "c/a", "aaa");
    scratch_write(&fixture->spool, "root", "r");
    scratch_mkdir(&fixture->spool, "c/t");
    scratch_write(&fixture->spool, "c/t/x", "xx");
    struct claim_item items[] = {item_of("c", "a", false), item_of("c", "t", true), item_of("", "root", false)};
    claim_batch(&fixture->claim, items, 3);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(items[i].verdict, SETTLE_TAKE);
        assert_false(items[i].refused);
        const struct transfer *transfer = items[i].transfer;
        assert_true(scratch_exists(&fixture->spool, filed(".sending", transfer->id, items[i].item.name)));
        assert_int_equal(state_of(fixture, transfer->id), LEDGER_CLAIMED);
        assert_string_equal(transfer->channel, i == 2 ? "default" : "c");
        assert_true(transfer->origin_user[0] != '\0');
    }
    assert_false(scratch_exists(&fixture->spool, "c/a"));
    assert_int_equal(items[0].transfer->total_bytes, 3);
    assert_true(items[1].transfer->tree);
    assert_int_equal(items[1].transfer->listing->count, 2);
    for (int i = 0; i < 3; i++)
        transfer_destroy(items[i].transfer);
}

static void what_can_not_cross_is_filed_with_its_reason(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(mkfifoat(fixture->spool.fd, "c/fifo", 0644), 0);
    assert_int_equal(symlinkat("/etc/passwd", fixture->spool.fd, "c/reason"), 0);
    scratch_write(&fixture->spool, "c/good", "g");
    struct claim_item items[] = {item_of("c", "fifo", false), item_of("c", "reason", false),
                                 item_of("c", "good", false)};
    claim_batch(&fixture->claim, items, 3);
    assert_true(items[0].refused && items[1].refused && !items[2].refused);
    assert_non_null(strstr(items[0].message, "FIFO"));
    assert_int_equal(count_names(fixture, ".failed"), 2);
    assert_int_equal(count_names(fixture, ".sending"), 1);
    assert_null(items[0].transfer);
    uint64_t sent, failed;
    assert_int_equal(ledger_count_sent(fixture->claim.ledger, &sent, &failed), STATUS_OK);
    assert_int_equal(failed, 2);
    transfer_destroy(items[2].transfer);
}

static void a_file_that_is_written_to_stays(void **state)
{
    struct fixture *fixture = *state;
    scratch_write(&fixture->spool, "c/a", "a");
    int fd = openat(fixture->spool.fd, "c/a", O_WRONLY | O_CLOEXEC);
    assert_int_equal(claim_one(fixture, "a", false).verdict, SETTLE_BUSY);
    close(fd);
    assert_true(scratch_exists(&fixture->spool, "c/a"));
    assert_int_equal(count_names(fixture, ".sending"), 0);
    struct claim_item taken = claim_one(fixture, "a", false);
    assert_int_equal(taken.verdict, SETTLE_TAKE);
    transfer_destroy(taken.transfer);
}

static void count_row(const struct ledger_transfer *transfer, void *context)
{
    (void)transfer;
    ++*(int *)context;
}

/* Rows of the ledger in any of the states that a claim can leave. */
static int count_rows(struct fixture *fixture)
{
    int count = 0;
    for (int one = LEDGER_CLAIMING; one <= LEDGER_EXPIRED; one++)
        assert_int_equal(ledger_each(fixture->claim.ledger, (enum ledger_state)one, count_row, &count), STATUS_OK);
    return count;
}

static void an_item_that_is_opened_for_writing_while_it_is_claimed_goes_back(void **state)
{
    struct fixture *fixture = *state;
    struct claim_item entry = item_of("c", "a", false);
    struct ledger_transfer intent;
    struct batch batch = {.claim = &fixture->claim, .items = &entry, .count = 1, .intents = &intent};
    scratch_write(&fixture->spool, "c/a", "a");
    probe_and_judge(&batch, 0);
    assert_true(record_intents(&batch));
    int fd = openat(fixture->spool.fd, "c/a", O_WRONLY | O_CLOEXEC);
    move(&batch, 0);
    flush(&batch);
    assert_false(scratch_exists(&fixture->spool, "c/a"));
    inspect(&batch, 0);
    record_results(&batch);
    close(fd);
    close(batch.channel_fds[0]);
    assert_true(entry.given_back);
    assert_int_equal(entry.verdict, SETTLE_BUSY);
    assert_true(scratch_exists(&fixture->spool, "c/a"));
    assert_int_equal(count_names(fixture, ".sending"), 0);
    assert_int_equal(count_rows(fixture), 0);
}

static void without_sending_the_item_stays_and_the_operator_is_told(void **state)
{
    struct fixture *fixture = *state;
    scratch_write(&fixture->spool, "c/a", "a");
    assert_int_equal(unlinkat(fixture->spool.fd, ".sending", AT_REMOVEDIR), 0);
    struct claim_item entry = claim_one(fixture, "a", false);
    assert_int_equal(entry.verdict, SETTLE_BLOCKED);
    assert_non_null(strstr(entry.message, ".sending was removed: restart the sender"));
    assert_int_equal(count_rows(fixture), 0);
}

static void what_is_not_there_any_more_is_gone(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(claim_one(fixture, "none", false).verdict, SETTLE_GONE);
    struct claim_item other = item_of("nochannel", "none", false);
    claim_batch(&fixture->claim, &other, 1);
    assert_int_equal(other.verdict, SETTLE_GONE);
}

static void an_item_that_may_not_be_moved_stays_with_the_command_that_mends_it(void **state)
{
    struct fixture *fixture = *state;
    if (geteuid() != 0)
        skip();
    scratch_write(&fixture->spool, "c/a", "a");
    scratch_mkdir(&fixture->spool, "c/t");
    assert_int_equal(chmod(fixture->spool.path, 0777), 0);
    assert_int_equal(fchownat(fixture->spool.fd, ".sending", 65534, 65534, 0), 0);
    assert_int_equal(seteuid(65534), 0);
    struct claim_item file = item_of("c", "a", false);
    file.item.how = SETTLE_FOUND; /* it had its settle time: without leases nothing more can be known */
    claim_batch(&fixture->claim, &file, 1);
    assert_int_equal(seteuid(0), 0);
    assert_int_equal(file.verdict, SETTLE_BLOCKED);
    assert_non_null(strstr(file.message, "setfacl -m u:65534:rwx"));
    assert_true(scratch_exists(&fixture->spool, "c/a"));

    assert_int_equal(fchmodat(fixture->spool.fd, "c", 0777, 0), 0);
    assert_int_equal(seteuid(65534), 0);
    struct claim_item tree = claim_one(fixture, "t", true);
    assert_int_equal(seteuid(0), 0);
    assert_int_equal(tree.verdict, SETTLE_BLOCKED);
    assert_non_null(strstr(tree.message, "c/t"));
    assert_int_equal(count_names(fixture, ".sending"), 0);
}

/* Writes `path` until the clock of the file system has gone on since `before` was written. */
static void write_later(const struct fixture *fixture, const char *path, const char *before)
{
    struct stat old, new;
    assert_int_equal(fstatat(fixture->spool.fd, before, &old, 0), 0);
    do {
        scratch_write(&fixture->spool, path, "x");
        assert_int_equal(fstatat(fixture->spool.fd, path, &new, 0), 0);
    } while (new.st_ctim.tv_sec == old.st_ctim.tv_sec &&new.st_ctim.tv_nsec == old.st_ctim.tv_nsec);
}

static void the_marker_goes_with_its_item(void **state)
{
    struct fixture *fixture = *state;
    struct claim_item entry = item_of("c", "a", false);
    entry.item.rule = &marker_rule;
    scratch_write(&fixture->spool, "c/a.ready", "");
    write_later(fixture, "c/a", "c/a.ready");
    claim_batch(&fixture->claim, &entry, 1);
    assert_int_equal(entry.verdict, SETTLE_UNMARKED);
    write_later(fixture, "c/a.ready", "c/a");
    claim_batch(&fixture->claim, &entry, 1);
    assert_int_equal(entry.verdict, SETTLE_TAKE);
    assert_int_equal(count_names(fixture, "c"), 0);
    transfer_destroy(entry.transfer);
}

static enum finish_result finish(struct fixture *fixture, struct transfer *transfer, enum transfer_outcome outcome,
                                 bool may_return)
{
    struct finish_item item = {.transfer = transfer, .may_return = may_return};
    transfer->outcome = outcome;
    snprintf(transfer->reason, sizeof transfer->reason, "it changed");
    static struct finish_backlog backlog;
    finish_batch(&fixture->claim, &backlog, &item, 1);
    assert_int_equal(backlog.count, 0);
    return item.result;
}

static void a_finished_transfer_is_filed_by_its_outcome(void **state)
{
    struct fixture *fixture = *state;
    static const char *const names[] = {"sent", "refused", "returned", "taken"};
    struct transfer *transfers[4];
    for (int i = 0; i < 4; i++) {
        char path[32];
        snprintf(path, sizeof path, "c/%s", names[i]);
        scratch_write(&fixture->spool, path, "x");
        transfers[i] = claim_one(fixture, names[i], false).transfer;
    }
    scratch_write(&fixture->spool, "c/taken", "newer");
    assert_int_equal(finish(fixture, transfers[0], TRANSFER_SENT, true), FINISH_SENT);
    assert_true(scratch_exists(&fixture->spool, filed(".sent", transfers[0]->id, "sent")));
    assert_int_equal(state_of(fixture, transfers[0]->id), LEDGER_SENT);
    assert_int_equal(finish(fixture, transfers[1], TRANSFER_REFUSED, true), FINISH_REFUSED);
    assert_true(scratch_exists(&fixture->spool, filed(".failed", transfers[1]->id, "refused")));
    assert_true(scratch_exists(&fixture->spool, filed(".failed", transfers[1]->id, "reason")));
    assert_int_equal(state_of(fixture, transfers[1]->id), LEDGER_FAILED);
    assert_int_equal(finish(fixture, transfers[2], TRANSFER_RETURNED, true), FINISH_RETURNED);
    assert_true(scratch_exists(&fixture->spool, "c/returned"));
    assert_int_equal(state_of(fixture, transfers[2]->id), LEDGER_RETURNED);
    /* Its name is taken: it does not replace the newer item. */
    assert_int_equal(finish(fixture, transfers[3], TRANSFER_RETURNED, true), FINISH_REFUSED);
    assert_true(scratch_exists(&fixture->spool, filed(".failed", transfers[3]->id, "taken")));
    assert_int_equal(count_names(fixture, ".sending"), 0);
    for (int i = 0; i < 4; i++)
        transfer_destroy(transfers[i]);
}

static void sign(struct ledger_seal *seal, const uint8_t chain_id[static CHAIN_ID_SIZE], uint64_t sequence,
                 const uint8_t previous_hash[static SHA256_SIZE], uint64_t previous_in_channel)
{
    (void)chain_id;
    (void)sequence;
    (void)previous_hash;
    (void)previous_in_channel;
    seal->signed_bytes = (uint8_t *)strdup("verbatim");
    seal->signed_size = 8;
}

static void seal(struct fixture *fixture, const struct transfer *transfer)
{
    struct ledger_seal record = {.transfer_id = transfer->id, .channel = "c", .bytes = 1, .sign = sign};
    assert_int_equal(ledger_seal(fixture->claim.ledger, &record, 1), STATUS_OK);
    free(record.signed_bytes);
}

static void a_restart_takes_up_what_was_under_way_and_keeps_what_was_signed(void **state)
{
    struct fixture *fixture = *state;
    struct recover_result result;
    scratch_write(&fixture->spool, "c/claimed", "x");
    scratch_write(&fixture->spool, "c/sealed", "x");
    scratch_write(&fixture->spool, "c/sent", "x");
    struct transfer *claimed = claim_one(fixture, "claimed", false).transfer;
    struct transfer *sealed = claim_one(fixture, "sealed", false).transfer;
    struct transfer *sent = claim_one(fixture, "sent", false).transfer;
    seal(fixture, sealed);
    seal(fixture, sent);
    /* Killed between the rename to .sent and the ledger. */
    assert_int_equal(filing_sent(&fixture->dirs, sent->id), STATUS_OK);

    assert_int_equal(recover_run(&fixture->claim, &result), STATUS_OK);
    assert_int_equal(result.count, 2);
    assert_memory_equal(result.transfers[0]->id, claimed->id, TRANSFER_ID_SIZE);
    assert_int_equal(result.transfers[0]->sequence, 0);
    assert_memory_equal(result.transfers[1]->id, sealed->id, TRANSFER_ID_SIZE);
    assert_int_equal(result.transfers[1]->sequence, 1);
    assert_memory_equal(result.transfers[1]->signed_bytes, "verbatim", 8);
    assert_int_equal(result.transfers[1]->listing->count, 1);
    assert_int_equal(state_of(fixture, sent->id), LEDGER_SENT);
    for (size_t i = 0; i < result.count; i++)
        transfer_destroy(result.transfers[i]);
    free(result.transfers);
    transfer_destroy(claimed);
    transfer_destroy(sealed);
    transfer_destroy(sent);
}

static void a_file_of_channel_default_goes_back_to_where_it_was_dropped(void **state)
{
    struct fixture *fixture = *state;
    struct recover_result result;
    struct ledger_change given_up = {.state = LEDGER_RETURNED};
    scratch_mkdir(&fixture->spool, "default");
    for (int restart = 0; restart < 2; restart++) {
        struct claim_item root = item_of("", "same", false), directory = item_of("default", "same", false);
        scratch_write(&fixture->spool, "same", "root");
        scratch_write(&fixture->spool, "default/same", "directory");
        claim_batch(&fixture->claim, &root, 1);
        claim_batch(&fixture->claim, &directory, 1);
        struct transfer *transfers[] = {root.transfer, directory.transfer};
        assert_false(scratch_exists(&fixture->spool, "same") || scratch_exists(&fixture->spool, "default/same"));
        for (int i = 0; i < 2; i++) {
            assert_string_equal(transfers[i]->channel, "default");
            if (restart == 0) {
                assert_int_equal(finish(fixture, transfers[i], TRANSFER_RETURNED, true), FINISH_RETURNED);
            } else {
                memcpy(given_up.id, transfers[i]->id, TRANSFER_ID_SIZE);
                assert_int_equal(ledger_apply(fixture->claim.ledger, &given_up, 1), STATUS_OK);
            }
            transfer_destroy(transfers[i]);
        }
        assert_int_equal(recover_run(&fixture->claim, &result), STATUS_OK);
        free(result.transfers);
        struct stat meta;
        assert_int_equal(fstatat(fixture->spool.fd, "same", &meta, 0), 0);
        assert_int_equal(meta.st_size, strlen("root"));
        assert_int_equal(fstatat(fixture->spool.fd, "default/same", &meta, 0), 0);
        assert_int_equal(meta.st_size, strlen("directory"));
    }
}

static void a_restart_with_a_smaller_maximum_still_sends_what_was_signed(void **state)
{
    struct fixture *fixture = *state;
    struct recover_result result;
    scratch_write(&fixture->spool, "c/claimed", "xx");
    scratch_write(&fixture->spool, "c/sealed", "xx");
    struct transfer *claimed = claim_one(fixture, "claimed", false).transfer;
    struct transfer *sealed = claim_one(fixture, "sealed", false).transfer;
    seal(fixture, sealed);
    fixture->config.max_size = 1;
    assert_int_equal(recover_run(&fixture->claim, &result), STATUS_OK);
    assert_int_equal(result.refused, 1);
    assert_int_equal(state_of(fixture, claimed->id), LEDGER_FAILED);
    assert_int_equal(result.count, 1);
    assert_int_equal(result.transfers[0]->sequence, 1);
    transfer_destroy(result.transfers[0]);
    free(result.transfers);
    transfer_destroy(claimed);
    transfer_destroy(sealed);
}

static void a_restart_forgets_intents_that_were_not_carried_out(void **state)
{
    struct fixture *fixture = *state;
    struct recover_result result;
    struct ledger_transfer intents[2] = {{.channel = "c", .name = "stays"}, {.channel = "c", .name = "moved"}};
    int fd;
    memset(intents[0].id, 1, TRANSFER_ID_SIZE);
    memset(intents[1].id, 2, TRANSFER_ID_SIZE);
    scratch_write(&fixture->spool, "c/stays", "x");
    scratch_write(&fixture->spool, "c/moved", "x");
    assert_int_equal(ledger_claim(fixture->claim.ledger, intents, 2), STATUS_OK);
    int channel = spooldirs_channel(&fixture->dirs, "c");
    assert_int_equal(filing_take(&fixture->dirs, channel, "moved", intents[1].id, &fd), STATUS_OK);
    close(fd);
    close(channel);
    assert_int_equal(recover_run(&fixture->claim, &result), STATUS_OK);
    assert_int_equal(result.count, 1);
    assert_string_equal(result.transfers[0]->name, "moved");
    assert_int_equal(state_of(fixture, intents[0].id), LEDGER_RETURNED);
    assert_int_equal(state_of(fixture, intents[1].id), LEDGER_CLAIMED);
    assert_true(scratch_exists(&fixture->spool, "c/stays"));
    transfer_destroy(result.transfers[0]);
    free(result.transfers);
}

static void what_lies_in_sending_without_reason_is_put_in_order(void **state)
{
    struct fixture *fixture = *state;
    struct recover_result result;
    uint8_t id[TRANSFER_ID_SIZE] = {0xab};
    char text[TRANSFER_ID_TEXT_SIZE];
    scratch_write(&fixture->spool, "c/back", "x");
    struct transfer *back = claim_one(fixture, "back", false).transfer;
    struct ledger_change change = {.state = LEDGER_RETURNED};
    memcpy(change.id, back->id, TRANSFER_ID_SIZE);
    assert_int_equal(ledger_apply(fixture->claim.ledger, &change, 1), STATUS_OK);
    identity_transfer_text(id, text);
    assert_int_equal(mkdirat(fixture->dirs.sending, text, 0700), 0);
    scratch_write(&fixture->spool, filed(".sending", id, "stranger"), "x");
    id[0] = 0xac;
    identity_transfer_text(id, text);
    assert_int_equal(mkdirat(fixture->dirs.sending, text, 0700), 0);

    assert_int_equal(recover_run(&fixture->claim, &result), STATUS_OK);
    assert_int_equal(result.count, 0);
    assert_true(scratch_exists(&fixture->spool, "c/back"));
    id[0] = 0xab;
    assert_true(scratch_exists(&fixture->spool, filed(".failed", id, "stranger")));
    assert_true(scratch_exists(&fixture->spool, filed(".failed", id, "reason")));
    assert_int_equal(count_names(fixture, ".sending"), 0);
    transfer_destroy(back);
    free(result.transfers);
}

static void only_sent_transfers_expire_and_the_oldest_first(void **state)
{
    struct fixture *fixture = *state;
    struct retain_result result;
    struct transfer *transfers[3];
    for (int i = 0; i < 3; i++) {
        char path[16];
        snprintf(path, sizeof path, "c/%d", i);
        scratch_write(&fixture->spool, path, "0123456789");
        transfers[i] = claim_one(fixture, path + 2, false).transfer;
    }
    finish(fixture, transfers[0], TRANSFER_SENT, true);
    finish(fixture, transfers[1], TRANSFER_SENT, true);
    struct retain_pass pass = {
        .claim = &fixture->claim, .now_ns = clock_realtime_ns(), .free_bytes = retain_free_bytes};
    retain_run(&pass, &result);
    assert_int_equal(result.kept, 2);
    assert_int_equal(result.kept_bytes, 20);
    fixture->config.retain_bytes = 15;
    retain_run(&pass, &result);
    assert_int_equal(result.removed, 1);
    assert_false(scratch_exists(&fixture->spool, filed(".sent", transfers[0]->id, "")));
    assert_true(scratch_exists(&fixture->spool, filed(".sent", transfers[1]->id, "1")));
    pass.now_ns += INT64_C(3601000000000);
    retain_run(&pass, &result);
    assert_int_equal(result.kept, 0);
    assert_int_equal(count_names(fixture, ".sent"), 0);
    assert_true(scratch_exists(&fixture->spool, filed(".sending", transfers[2]->id, "2")));
    assert_int_equal(state_of(fixture, transfers[1]->id), LEDGER_EXPIRED);
    for (int i = 0; i < 3; i++)
        transfer_destroy(transfers[i]);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_file_and_a_tree_become_transfers),
        TEST(what_can_not_cross_is_filed_with_its_reason),
        TEST(a_file_that_is_written_to_stays),
        TEST(an_item_that_is_opened_for_writing_while_it_is_claimed_goes_back),
        TEST(without_sending_the_item_stays_and_the_operator_is_told),
        TEST(what_is_not_there_any_more_is_gone),
        TEST(an_item_that_may_not_be_moved_stays_with_the_command_that_mends_it),
        TEST(the_marker_goes_with_its_item),
        TEST(a_finished_transfer_is_filed_by_its_outcome),
        TEST(a_restart_takes_up_what_was_under_way_and_keeps_what_was_signed),
        TEST(a_file_of_channel_default_goes_back_to_where_it_was_dropped),
        TEST(a_restart_with_a_smaller_maximum_still_sends_what_was_signed),
        TEST(a_restart_forgets_intents_that_were_not_carried_out),
        TEST(what_lies_in_sending_without_reason_is_put_in_order),
        TEST(only_sent_transfers_expire_and_the_oldest_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
