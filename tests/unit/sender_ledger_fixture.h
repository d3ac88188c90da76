// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_TESTS_UNIT_SENDER_LEDGER_FIXTURE_H
#define DIODECAST_TESTS_UNIT_SENDER_LEDGER_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "sender/ledger.h"
#include "tests/unit/sender_scratch.h"

/* A ledger in a folder of its own, and transfers put into it. Each test program uses some of these. */
struct ledger_fixture {
    struct scratch scratch;
    struct ledger *ledger;
};

__attribute__((unused)) static int ledger_set_up(void **state)
{
    static struct ledger_fixture fixture;
    scratch_open(&fixture.scratch);
    if (ledger_open(fixture.scratch.path, &fixture.ledger) != STATUS_OK)
        return -1;
    *state = &fixture;
    return 0;
}

__attribute__((unused)) static int ledger_tear_down(void **state)
{
    struct ledger_fixture *fixture = *state;
    ledger_close(fixture->ledger);
    scratch_close(&fixture->scratch);
    return 0;
}

__attribute__((unused)) static void ledger_reopen(struct ledger_fixture *fixture)
{
    ledger_close(fixture->ledger);
    assert_int_equal(ledger_open(fixture->scratch.path, &fixture->ledger), STATUS_OK);
}

static void fixture_sign(struct ledger_seal *seal, const uint8_t chain_id[static CHAIN_ID_SIZE], uint64_t sequence,
                         const uint8_t previous_hash[static SHA256_SIZE], uint64_t previous_in_channel)
{
    (void)chain_id;
    (void)previous_hash;
    (void)previous_in_channel;
    memset(seal->hash, (int)sequence, SHA256_SIZE);
    seal->signed_bytes = (uint8_t *)strdup("signed");
    seal->signed_size = 6;
}

/* A transfer "channel/itemNUMBER" of 100 bytes, claimed at NUMBER and brought to `state`; its id is all NUMBER. Returns
 * its sequence, 0 while it has none. */
__attribute__((unused)) static uint64_t fixture_transfer(struct ledger_fixture *fixture, uint8_t number,
                                                         const char *channel, enum ledger_state state)
{
    struct ledger_transfer transfer = {.device = 1, .inode = number, .claimed_at_ns = number};
    struct ledger_change change = {.state = LEDGER_CLAIMED, .bytes = 100};
    memset(transfer.id, number, sizeof transfer.id);
    memset(change.id, number, sizeof change.id);
    snprintf(transfer.channel, sizeof transfer.channel, "%s", channel);
    snprintf(transfer.name, sizeof transfer.name, "item%d", number);
    assert_int_equal(ledger_claim(fixture->ledger, &transfer, 1), STATUS_OK);
    assert_int_equal(ledger_apply(fixture->ledger, &change, 1), STATUS_OK);
    if (state == LEDGER_CLAIMED)
        return 0;
    struct ledger_seal seal = {.transfer_id = transfer.id, .channel = channel, .bytes = 100, .sign = fixture_sign};
    assert_int_equal(ledger_seal(fixture->ledger, &seal, 1), STATUS_OK);
    free(seal.signed_bytes);
    change.state = LEDGER_SENT;
    if (state == LEDGER_EXPIRED)
        assert_int_equal(ledger_apply(fixture->ledger, &change, 1), STATUS_OK);
    change.state = state;
    if (state != LEDGER_SEALED)
        assert_int_equal(ledger_apply(fixture->ledger, &change, 1), STATUS_OK);
    return seal.sequence;
}

#endif
