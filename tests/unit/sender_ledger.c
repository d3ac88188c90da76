// SPDX-License-Identifier: Apache-2.0
#include "sender/ledger.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/sender_scratch.h"

struct fixture {
    struct scratch scratch;
    struct ledger *ledger;
};

static int set_up(void **state)
{
    static struct fixture fixture;
    scratch_open(&fixture.scratch);
    if (ledger_open(fixture.scratch.path, &fixture.ledger) != STATUS_OK)
        return -1;
    *state = &fixture;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;
    ledger_close(fixture->ledger);
    scratch_close(&fixture->scratch);
    return 0;
}

static void reopen(struct fixture *fixture)
{
    ledger_close(fixture->ledger);
    assert_int_equal(ledger_open(fixture->scratch.path, &fixture->ledger), STATUS_OK);
}

static struct ledger_transfer transfer_of(uint8_t number, const char *channel)
{
    struct ledger_transfer transfer = {.device = 1, .inode = number, .claimed_at_ns = number};
    memset(transfer.id, number, sizeof transfer.id);
    snprintf(transfer.channel, sizeof transfer.channel, "%s", channel);
    snprintf(transfer.name, sizeof transfer.name, "item%d", number);
    snprintf(transfer.origin_user, sizeof transfer.origin_user, "alice");
    return transfer;
}

static void claim(struct fixture *fixture, uint8_t first, uint8_t count, const char *channel)
{
    for (uint8_t i = first; i < first + count; i++) {
        struct ledger_transfer transfer = transfer_of(i, channel);
        assert_int_equal(ledger_claim(fixture->ledger, &transfer, 1), STATUS_OK);
    }
}

/* What the callback was told. */
struct signing {
    uint64_t sequence, previous_in_channel;
    uint8_t previous_hash[SHA256_SIZE];
};

static void sign(struct ledger_seal *seal, const uint8_t chain_id[static CHAIN_ID_SIZE], uint64_t sequence,
                 const uint8_t previous_hash[static SHA256_SIZE], uint64_t previous_in_channel)
{
    struct signing *signing = seal->context;
    (void)chain_id;
    signing->sequence = sequence;
    signing->previous_in_channel = previous_in_channel;
    memcpy(signing->previous_hash, previous_hash, SHA256_SIZE);
    memset(seal->hash, (int)(100 + sequence), SHA256_SIZE);
    seal->signed_bytes = (uint8_t *)strdup("signed");
    seal->signed_size = 6;
}

static struct ledger_seal seal_of(const uint8_t *id, const char *channel, struct signing *signing)
{
    return (struct ledger_seal){.transfer_id = id, .channel = channel, .bytes = 7, .sign = sign, .context = signing};
}

static void the_chain_id_survives_a_restart_and_the_epoch_grows_whatever_the_clock_says(void **state)
{
    struct fixture *fixture = *state;
    uint8_t before[CHAIN_ID_SIZE], after[CHAIN_ID_SIZE];
    uint32_t epoch;
    ledger_chain_id(fixture->ledger, before);
    assert_int_equal(ledger_next_epoch(fixture->ledger, 1000, &epoch), STATUS_OK);
    assert_int_equal(epoch, 1000);
    reopen(fixture);
    ledger_chain_id(fixture->ledger, after);
    assert_memory_equal(before, after, CHAIN_ID_SIZE);
    assert_int_equal(ledger_next_epoch(fixture->ledger, 999, &epoch), STATUS_OK);
    assert_int_equal(epoch, 1001);
}

static void sequences_are_consecutive_and_chained_over_batches_channels_and_restarts(void **state)
{
    struct fixture *fixture = *state;
    static const uint8_t zeros[SHA256_SIZE];
    static const char *const channels[] = {"a", "b", "a"};
    struct ledger_transfer transfers[4];
    struct signing signings[4];
    struct ledger_seal seals[4];
    uint8_t hash[SHA256_SIZE];
    uint64_t sequence;
    for (int i = 0; i < 4; i++) {
        transfers[i] = transfer_of((uint8_t)(i + 1), channels[i % 3]);
        seals[i] = seal_of(transfers[i].id, transfers[i].channel, &signings[i]);
    }
    assert_int_equal(ledger_claim(fixture->ledger, transfers, 4), STATUS_OK);
    assert_int_equal(ledger_newest(fixture->ledger, &sequence, hash), STATUS_OK);
    assert_int_equal(sequence, 0);
    assert_memory_equal(hash, zeros, SHA256_SIZE);
    assert_int_equal(ledger_seal(fixture->ledger, seals, 3), STATUS_OK);
    reopen(fixture);
    assert_int_equal(ledger_seal(fixture->ledger, seals + 3, 1), STATUS_OK);
    for (uint64_t i = 0; i < 4; i++) {
        assert_int_equal(signings[i].sequence, i + 1);
        if (i == 0)
            assert_memory_equal(signings[i].previous_hash, zeros, SHA256_SIZE);
        else
            assert_memory_equal(signings[i].previous_hash, seals[i - 1].hash, SHA256_SIZE);
    }
    assert_int_equal(signings[1].previous_in_channel, 0);
    assert_int_equal(signings[2].previous_in_channel, 1);
    assert_int_equal(signings[3].previous_in_channel, 3);
    assert_int_equal(ledger_newest(fixture->ledger, &sequence, hash), STATUS_OK);
    assert_int_equal(sequence, 4);
    assert_memory_equal(hash, seals[3].hash, SHA256_SIZE);
    for (int i = 0; i < 4; i++)
        free(seals[i].signed_bytes);
}

static void a_batch_that_can_not_be_sealed_whole_leaves_nothing(void **state)
{
    struct fixture *fixture = *state;
    struct signing signing;
    uint8_t unknown[TRANSFER_ID_SIZE] = {0};
    uint8_t hash[SHA256_SIZE];
    uint64_t sequence;
    claim(fixture, 1, 1, "a");
    struct ledger_transfer known = transfer_of(1, "a");
    struct ledger_seal seals[] = {seal_of(known.id, "a", &signing), seal_of(unknown, "a", &signing)};
    assert_int_not_equal(ledger_seal(fixture->ledger, seals, 2), STATUS_OK);
    free(seals[0].signed_bytes);
    free(seals[1].signed_bytes);
    assert_int_equal(ledger_newest(fixture->ledger, &sequence, hash), STATUS_OK);
    assert_int_equal(sequence, 0);
    struct ledger_seal again = seal_of(known.id, "a", &signing);
    assert_int_equal(ledger_seal(fixture->ledger, &again, 1), STATUS_OK);
    assert_int_equal(signing.sequence, 1);
    free(again.signed_bytes);
}

static void signed_bytes_come_back_verbatim(void **state)
{
    struct fixture *fixture = *state;
    struct signing signing;
    uint8_t *bytes, hash[SHA256_SIZE];
    size_t size;
    claim(fixture, 1, 1, "a");
    struct ledger_transfer transfer = transfer_of(1, "a"), found;
    struct ledger_seal seal = seal_of(transfer.id, "a", &signing);
    assert_int_equal(ledger_seal(fixture->ledger, &seal, 1), STATUS_OK);
    free(seal.signed_bytes);
    reopen(fixture);
    assert_int_equal(ledger_signed_bytes(fixture->ledger, 1, &bytes, &size, hash), STATUS_OK);
    assert_int_equal(size, 6);
    assert_memory_equal(bytes, "signed", 6);
    assert_memory_equal(hash, seal.hash, SHA256_SIZE);
    free(bytes);
    assert_int_equal(ledger_signed_bytes(fixture->ledger, 2, &bytes, &size, hash), STATUS_NOT_FOUND);
    assert_int_equal(ledger_find(fixture->ledger, transfer.id, &found), STATUS_OK);
    assert_int_equal(found.state, LEDGER_SEALED);
    assert_int_equal(found.sequence, 1);
    assert_int_equal(found.bytes, 7);
}

struct names {
    char text[200];
};

static void collect(const struct ledger_transfer *transfer, void *context)
{
    struct names *names = context;
    size_t used = strlen(names->text);
    snprintf(names->text + used, sizeof names->text - used, "%s ", transfer->name);
}

static void transfers_are_visited_by_state_oldest_first(void **state)
{
    struct fixture *fixture = *state;
    struct names names = {""};
    uint64_t sent, failed;
    claim(fixture, 3, 2, "a");
    claim(fixture, 1, 2, "a");
    assert_int_equal(ledger_each(fixture->ledger, LEDGER_CLAIMING, collect, &names), STATUS_OK);
    assert_string_equal(names.text, "item1 item2 item3 item4 ");

    struct ledger_change changes[] = {
        {.state = LEDGER_SENT}, {.state = LEDGER_FAILED, .reason = "no"}, {.state = LEDGER_EXPIRED}};
    for (int i = 0; i < 3; i++)
        memset(changes[i].id, i + 1, TRANSFER_ID_SIZE);
    assert_int_equal(ledger_apply(fixture->ledger, changes, 3), STATUS_OK);
    names.text[0] = '\0';
    assert_int_equal(ledger_each(fixture->ledger, LEDGER_CLAIMING, collect, &names), STATUS_OK);
    assert_string_equal(names.text, "item4 ");
    assert_int_equal(ledger_count_sent(fixture->ledger, &sent, &failed), STATUS_OK);
    assert_int_equal(sent, 2);
    assert_int_equal(failed, 1);
}

static void an_intent_that_was_not_carried_out_leaves_no_row(void **state)
{
    struct fixture *fixture = *state;
    struct ledger_transfer found, one = transfer_of(1, "a");
    struct ledger_change change = {.state = LEDGER_FORGOTTEN};
    memcpy(change.id, one.id, sizeof change.id);
    claim(fixture, 1, 2, "a");
    assert_int_equal(ledger_apply(fixture->ledger, &change, 1), STATUS_OK);
    assert_int_equal(ledger_find(fixture->ledger, one.id, &found), STATUS_NOT_FOUND);
    one = transfer_of(2, "a");
    assert_int_equal(ledger_find(fixture->ledger, one.id, &found), STATUS_OK);
}

static void a_ledger_that_refuses_says_so_until_it_records_again(void **state)
{
    struct fixture *fixture = *state;
    struct ledger_transfer one = transfer_of(1, "a"), other = transfer_of(2, "a");
    assert_false(ledger_is_failing(fixture->ledger));
    assert_int_equal(ledger_claim(fixture->ledger, &one, 1), STATUS_OK);
    assert_int_not_equal(ledger_claim(fixture->ledger, &one, 1), STATUS_OK);
    assert_true(ledger_is_failing(fixture->ledger));
    assert_int_equal(ledger_claim(fixture->ledger, &other, 1), STATUS_OK);
    assert_false(ledger_is_failing(fixture->ledger));
}

static void an_unknown_transfer_is_not_found(void **state)
{
    struct fixture *fixture = *state;
    struct ledger_transfer found;
    uint8_t id[TRANSFER_ID_SIZE] = {9};
    assert_int_equal(ledger_find(fixture->ledger, id, &found), STATUS_NOT_FOUND);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_chain_id_survives_a_restart_and_the_epoch_grows_whatever_the_clock_says),
        TEST(sequences_are_consecutive_and_chained_over_batches_channels_and_restarts),
        TEST(a_batch_that_can_not_be_sealed_whole_leaves_nothing),
        TEST(signed_bytes_come_back_verbatim),
        TEST(transfers_are_visited_by_state_oldest_first),
        TEST(an_intent_that_was_not_carried_out_leaves_no_row),
        TEST(a_ledger_that_refuses_says_so_until_it_records_again),
        TEST(an_unknown_transfer_is_not_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
