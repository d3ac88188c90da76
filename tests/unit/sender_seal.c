// SPDX-License-Identifier: Apache-2.0
#include "sender/seal.h"

#include <assert.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/digest.h"
#include "proto/manifest.h"
#include "proto/message.h"
#include "proto/signed.h"
#include "tests/unit/approval_fixture.h"
#include "tests/unit/sender_scratch.h"

enum { WAIT_NS = 1000000000 };

struct fixture {
    struct scratch items, state;
    struct ledger *ledger;
    struct signature_key *key;
    struct doorbell *bell;
    struct mailbox *sealed;
    struct seal *seal;
    _Atomic int committed;
};

static void note_committed(void *context, const struct transfer *transfer)
{
    struct fixture *fixture = context;
    assert(transfer->sequence != 0 && transfer->signed_bytes != NULL);
    fixture->committed++;
}

static int set_up(void **state)
{
    static struct fixture fixture;
    static const uint8_t seed[32] = {7};
    fixture = (struct fixture){0};
    scratch_open(&fixture.items);
    scratch_open(&fixture.state);
    fixture.key = signature_key_from_seed(seed);
    fixture.bell = doorbell_create();
    fixture.sealed = mailbox_create(fixture.bell);
    if (ledger_open(fixture.state.path, &fixture.ledger) != STATUS_OK ||
        seal_start(fixture.ledger, fixture.key, fixture.sealed, note_committed, &fixture, &fixture.seal) != STATUS_OK)
        return -1;
    *state = &fixture;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;
    seal_stop(fixture->seal);
    mailbox_destroy(fixture->sealed);
    doorbell_destroy(fixture->bell);
    ledger_close(fixture->ledger);
    signature_key_destroy(fixture->key);
    scratch_close(&fixture->items);
    scratch_close(&fixture->state);
    return 0;
}

/* A transfer of `name`, claimed and as if it were read; its digests are made up. */
static struct transfer *read_transfer(struct fixture *fixture, uint8_t number, const char *name)
{
    char reason[400];
    struct transfer *transfer = transfer_create();
    struct ledger_transfer row = {.claimed_at_ns = number};
    memset(transfer->id, number, sizeof transfer->id);
    snprintf(transfer->channel, sizeof transfer->channel, "wheels");
    snprintf(transfer->name, sizeof transfer->name, "%s", name);
    snprintf(transfer->origin_user, sizeof transfer->origin_user, "alice");
    memcpy(row.id, transfer->id, sizeof row.id);
    memcpy(row.channel, transfer->channel, sizeof row.channel);
    memcpy(row.name, transfer->name, sizeof row.name);
    assert_int_equal(ledger_claim(fixture->ledger, &row, 1), STATUS_OK);

    transfer->directory_fd = dup(fixture->items.fd);
    assert_int_equal(
        scan_item(fixture->items.fd, name, CONFIG_SYMLINKS_REFUSE, LIMIT_TRANSFER_SIZE, &transfer->listing, reason),
        STATUS_OK);
    const struct listing *listing = transfer->listing;
    transfer->sha256 = calloc(listing->artifact_count, sizeof *transfer->sha256);
    for (uint32_t i = 0; i < listing->artifact_count; i++)
        memset(transfer->sha256[i], (int)i + 1, SHA256_SIZE);
    for (size_t i = 0; i < listing->count; i++)
        if (manifest_chunk_count(listing->entries[i].size) > 1)
            transfer->chunk_hash_count += (size_t)manifest_chunk_count(listing->entries[i].size);
    transfer->chunk_hashes = calloc(transfer->chunk_hash_count + 1, sizeof *transfer->chunk_hashes);
    memset(transfer->chunk_hashes, 0x55, transfer->chunk_hash_count * sizeof *transfer->chunk_hashes);
    return transfer;
}

static struct transfer *wait_for(struct fixture *fixture)
{
    for (;;) {
        doorbell_arm(fixture->bell);
        struct transfer *transfer = (struct transfer *)mailbox_take(fixture->sealed);
        if (transfer == NULL)
            doorbell_wait(fixture->bell, WAIT_NS);
        doorbell_disarm(fixture->bell);
        if (transfer != NULL)
            return transfer;
    }
}

static void a_tree_is_sealed_into_a_manifest_that_verifies(void **state)
{
    struct fixture *fixture = *state;
    struct signed_message message;
    struct manifest_reader *reader;
    struct manifest_entry entry;
    char reason[256];
    uint8_t hash[SHA256_SIZE], chain_id[CHAIN_ID_SIZE];
    size_t count;
    scratch_mkdir(&fixture->items, "t");
    scratch_mkdir(&fixture->items, "t/empty");
    scratch_write(&fixture->items, "t/a", "a");
    scratch_write(&fixture->items, "t/big", "");
    int big = openat(fixture->items.fd, "t/big", O_WRONLY | O_CLOEXEC);
    assert_int_equal(ftruncate(big, CHUNK_SIZE + 1), 0);
    close(big);
    seal_submit(fixture->seal, read_transfer(fixture, 1, "t"));
    struct transfer *transfer = wait_for(fixture);
    assert_int_equal(transfer->outcome, TRANSFER_PENDING);
    assert_int_equal(transfer->sequence, 1);
    assert_int_equal(transfer->directory_fd, -1);
    assert_int_equal(fixture->committed, 1);

    assert_int_equal(signed_decode(transfer->signed_bytes, transfer->signed_size, LIMIT_MANIFEST_SIZE, &message),
                     STATUS_OK);
    assert_true(
        signature_verify(signature_key_public(fixture->key), message.body, message.body_size, &message.signature));
    assert_true(message.signature.has_comment);
    assert_non_null(strstr(message.signature.trusted_comment, " sequence 1 transfer 01010101010101010101010101010101"));
    digest_once(message.body, message.body_size, hash);
    assert_memory_equal(hash, transfer->manifest_hash, SHA256_SIZE);

    assert_int_equal(manifest_reader_create(message.body, message.body_size, &reader, reason), STATUS_OK);
    const struct manifest_head *head = manifest_reader_head(reader);
    ledger_chain_id(fixture->ledger, chain_id);
    assert_memory_equal(head->chain_id, chain_id, CHAIN_ID_SIZE);
    assert_string_equal(head->channel, "wheels");
    assert_string_equal(head->origin_user, "alice");
    assert_int_equal(head->artifact_count, 2);
    assert_int_equal(head->total_bytes, CHUNK_SIZE + 2);
    static const char *const paths[] = {"t", "t/a", "t/big", "t/empty"};
    for (int i = 0; i < 4; i++) {
        assert_true(manifest_reader_next(reader, &entry));
        assert_string_equal(entry.path, paths[i]);
        (void)manifest_reader_chunk_hashes(reader, &count);
        assert_int_equal(count, i == 2 ? 2 : 0);
    }
    manifest_reader_destroy(reader);
    signed_message_deinit(&message);
    transfer_destroy(transfer);
}

static void many_waiting_transfers_get_consecutive_numbers(void **state)
{
    struct fixture *fixture = *state;
    enum { COUNT = 100 };
    bool seen[COUNT + 1] = {false};
    for (int i = 1; i <= COUNT; i++) {
        char name[16];
        snprintf(name, sizeof name, "f%d", i);
        scratch_write(&fixture->items, name, "x");
        seal_submit(fixture->seal, read_transfer(fixture, (uint8_t)i, name));
    }
    for (int i = 1; i <= COUNT; i++) {
        struct transfer *transfer = wait_for(fixture);
        assert_true(transfer->sequence >= 1 && transfer->sequence <= COUNT);
        assert_false(seen[transfer->sequence]);
        seen[transfer->sequence] = true;
        transfer_destroy(transfer);
    }
    assert_int_equal(fixture->committed, COUNT);
}

/* The transfer came back without a number and with a signed ABORT of its id. */
static void assert_aborted(struct fixture *fixture, struct transfer *transfer, enum transfer_outcome outcome,
                           const char *word)
{
    struct signed_message message;
    struct message_abort abort_message;
    assert_int_equal(transfer->outcome, outcome);
    assert_int_equal(transfer->sequence, 0);
    assert_non_null(strstr(transfer->reason, word));
    assert_int_equal(signed_decode(transfer->signed_bytes, transfer->signed_size, LIMIT_MESSAGE_SIZE, &message),
                     STATUS_OK);
    assert_true(
        signature_verify(signature_key_public(fixture->key), message.body, message.body_size, &message.signature));
    assert_int_equal(message_decode_abort(message.body, message.body_size, &abort_message), STATUS_OK);
    assert_memory_equal(abort_message.transfer_id, transfer->id, TRANSFER_ID_SIZE);
    assert_non_null(strstr(abort_message.reason, word));
    signed_message_deinit(&message);
    transfer_destroy(transfer);
}

static void an_item_that_changed_is_ended_and_takes_no_number(void **state)
{
    struct fixture *fixture = *state;
    uint64_t sequence;
    uint8_t hash[SHA256_SIZE];
    scratch_write(&fixture->items, "f", "before");
    struct transfer *transfer = read_transfer(fixture, 1, "f");
    scratch_write(&fixture->items, "f", "after that");
    seal_submit(fixture->seal, transfer);
    assert_aborted(fixture, wait_for(fixture), TRANSFER_RETURNED, "f: changed its size");
    assert_int_equal(ledger_newest(fixture->ledger, &sequence, hash), STATUS_OK);
    assert_int_equal(sequence, 0);
    assert_int_equal(fixture->committed, 0);
}

static void an_item_that_vanished_is_ended(void **state)
{
    struct fixture *fixture = *state;
    scratch_write(&fixture->items, "f", "x");
    struct transfer *transfer = read_transfer(fixture, 1, "f");
    assert_int_equal(unlinkat(fixture->items.fd, "f", 0), 0);
    seal_submit(fixture->seal, transfer);
    assert_aborted(fixture, wait_for(fixture), TRANSFER_RETURNED, "No such file");
}

static void what_the_read_stage_gave_up_is_only_ended(void **state)
{
    struct fixture *fixture = *state;
    scratch_write(&fixture->items, "f", "x");
    struct transfer *transfer = read_transfer(fixture, 1, "f");
    transfer->outcome = TRANSFER_REFUSED;
    snprintf(transfer->reason, sizeof transfer->reason, "f: the disk failed\n");
    seal_submit(fixture->seal, transfer);
    assert_aborted(fixture, wait_for(fixture), TRANSFER_REFUSED, "f: the disk failed");
}

/* f with "hello", whose digest is what it is, and approvals of it (or of other content). */
static struct transfer *approved_transfer(struct fixture *fixture, const char *approved_content, uint8_t approvals)
{
    uint8_t *bytes;
    size_t size;
    scratch_write(&fixture->items, "f", "hello");
    approval_bundle_of("wheels", "f", approved_content, approvals, &bytes, &size);
    assert_int_equal(durable_write_file(fixture->items.fd, "f.approval", bytes, size, 0644), STATUS_OK);
    free(bytes);
    struct transfer *transfer = read_transfer(fixture, 1, "f");
    digest_once("hello", 5, transfer->sha256[0]);
    return transfer;
}

static void approvals_are_sealed_into_the_manifest_with_the_signed_statement(void **state)
{
    struct fixture *fixture = *state;
    struct signed_message message;
    struct manifest_reader *reader;
    struct manifest_entry entry;
    char reason[256];
    struct transfer *transfer = approved_transfer(fixture, "hello", 2);
    transfer->approvals = 2;
    seal_submit(fixture->seal, transfer);
    transfer = wait_for(fixture);
    assert_int_equal(transfer->outcome, TRANSFER_PENDING);
    assert_int_equal(signed_decode(transfer->signed_bytes, transfer->signed_size, LIMIT_MANIFEST_SIZE, &message),
                     STATUS_OK);
    assert_int_equal(manifest_reader_create(message.body, message.body_size, &reader, reason), STATUS_OK);
    assert_int_equal(manifest_reader_approval_count(reader), 2);
    assert_true(manifest_reader_next(reader, &entry));
    assert_int_equal(entry.mtime_ns, 1000); /* as it was signed, and not as the file in the spool has it */
    manifest_reader_destroy(reader);
    signed_message_deinit(&message);
    transfer_destroy(transfer);
}

static void what_is_not_what_was_approved_is_refused_with_what_differs(void **state)
{
    struct fixture *fixture = *state;
    seal_submit(fixture->seal, approved_transfer(fixture, "jello", 1));
    assert_aborted(fixture, wait_for(fixture), TRANSFER_REFUSED, "f has another content than was signed");
}

static void an_item_with_too_few_approvals_goes_back(void **state)
{
    struct fixture *fixture = *state;
    struct transfer *transfer = approved_transfer(fixture, "hello", 1);
    transfer->approvals = 2;
    seal_submit(fixture->seal, transfer);
    assert_aborted(fixture, wait_for(fixture), TRANSFER_RETURNED, "1 of the 2 approvals");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_tree_is_sealed_into_a_manifest_that_verifies),
        TEST(many_waiting_transfers_get_consecutive_numbers),
        TEST(an_item_that_changed_is_ended_and_takes_no_number),
        TEST(an_item_that_vanished_is_ended),
        TEST(what_the_read_stage_gave_up_is_only_ended),
        TEST(approvals_are_sealed_into_the_manifest_with_the_signed_statement),
        TEST(what_is_not_what_was_approved_is_refused_with_what_differs),
        TEST(an_item_with_too_few_approvals_goes_back),
    };
    if (signature_init() != STATUS_OK)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
