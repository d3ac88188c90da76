// SPDX-License-Identifier: Apache-2.0
#include "receiver/receive.c"

#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "common/checksum.h"
#include "common/signature.h"

/* What somebody without the link key can send to a receiver that has one (or two). */

enum { SENDER = 7, SYMBOL = 1024, K = 8, R = 4, SIZE = DATAGRAM_HEADER_SIZE + SYMBOL, SHARE = 4 << 20 };
#define TEST_EPOCH (UINT64_C(5) << 32 | 1)

static const uint8_t secrets[2][LINKKEY_SIZE] = {"the old link key, 32 bytes long", "the new link key, 32 bytes long"};

static struct {
    struct receive receive;
    struct linkkey *sender;
    struct trust *trust;
    uint64_t sequence;
} world;

static void begin(unsigned keys)
{
    struct signature_public key = {.key_id = {SENDER}};
    world.trust = trust_from_keys(&key, 1);
    world.receive = (struct receive){.progress = progress_create(world.trust, 1)};
    world.receive.epochs =
        epochs_create(0, world.trust, SHARE, (struct lane_progress *)(uintptr_t)world.receive.progress);
    world.sender = linkkey_create(secrets[keys - 1]);
    world.receive.key = linkkey_create(secrets[0]);
    if (keys > 1)
        linkkey_add(world.receive.key, secrets[1], LIMIT_SYMBOL_SIZE);
    epochs_set_sealed(world.receive.epochs);
    world.sequence = 1;
}

static void end(void)
{
    epochs_finish(world.receive.epochs);
    for (struct block *block; (block = epochs_pop(world.receive.epochs, UINT64_MAX / 2)) != NULL;)
        epochs_return(world.receive.epochs, block);
    epochs_destroy(world.receive.epochs);
    linkkey_destroy(world.receive.key);
    linkkey_destroy(world.sender);
    progress_destroy((struct lane_progress *)(uintptr_t)world.receive.progress);
    trust_destroy(world.trust);
}

static void make(uint64_t sbn, uint8_t esi, uint8_t bytes[static SIZE])
{
    uint8_t symbol[SYMBOL];
    struct datagram datagram = {.flags = DATAGRAM_FLAG_SEALED,
                                .source_symbols = K,
                                .repair_symbols = R,
                                .esi = esi,
                                .symbol_size = SYMBOL,
                                .sender_id = SENDER,
                                .depth = 1,
                                .epoch = TEST_EPOCH,
                                .salt = 5,
                                .sequence = world.sequence++,
                                .sbn = sbn};
    memset(symbol, (int)(sbn + esi), sizeof symbol);
    datagram_write(bytes, &datagram);
    linkkey_select(world.sender, SENDER, TEST_EPOCH, 0, 5);
    datagram_seal(bytes, symbol, bytes + DATAGRAM_HEADER_SIZE, SYMBOL, world.sender);
}

/* All that the gathers know, and all memory in use. */
struct facts {
    struct epochs_totals totals;
    size_t open, allocated;
    uint64_t passed;
};

static struct facts look(void)
{
    struct facts facts;
    uint64_t epoch;
    memset(&facts, 0, sizeof facts);
    epochs_publish(world.receive.epochs, 1);
    (void)progress_passed(world.receive.progress, SENDER, 0, &epoch, &facts.passed);
    epochs_totals(world.receive.epochs, &facts.totals);
    facts.open = epochs_open(world.receive.epochs);
    facts.allocated = mallinfo2().uordblks;
    return facts;
}

static void take(uint8_t *bytes, size_t size)
{
    take_datagram(&world.receive, bytes, size, 1);
}

static uint64_t chance;

static uint64_t draw(void)
{
    chance = chance * UINT64_C(6364136223846793005) + 1442695040888963407;
    return chance >> 16;
}

/* Whatever an attacker may try; `true_one` is a datagram as recorded from the link, which is not sent as it is. */
static size_t forge(const uint8_t true_one[static SIZE], uint8_t bytes[static 2 * SIZE])
{
    static const uint8_t fields[] = {2, 3, 4, 5, 6, 12, 14, 16, 20, 23, 24, 31, 32, 39, 40, 47, 48, 56};
    size_t size = SIZE;
    memcpy(bytes, true_one, SIZE);
    switch (draw() % 5) {
    case 0:
        size = draw() % SIZE;
        break;
    case 1:
        bytes[draw() % SIZE] ^= (uint8_t)(1 << draw() % 8);
        break;
    case 2:
        for (size_t i = 0; i < SIZE; i++)
            bytes[i] = (uint8_t)draw();
        break;
    case 3:
        bytes[fields[draw() % sizeof fields]] ^= (uint8_t)(1 + draw() % 255);
        break;
    default:
        bytes[64 + draw() % 16] ^= (uint8_t)(1 + draw() % 255);
        break;
    }
    return size;
}

static void expect_nothing_is_touched(unsigned keys)
{
    enum { FORGERIES = 20000, OFTEN = 1000 };
    static uint8_t recorded[K][SIZE], bytes[2 * SIZE];
    begin(keys);
    for (uint8_t esi = 0; esi < K; esi++)
        make(10, esi, recorded[esi]);
    for (uint8_t esi = 0; esi < K - 1; esi++) {
        memcpy(bytes, recorded[esi], SIZE);
        take(bytes, SIZE);
    }
    const struct facts before = look();
    assert_int_equal(before.open, 1);
    assert_int_equal(before.totals.gathers.datagrams, K - 1);
    for (unsigned i = 1; i <= FORGERIES; i++) {
        size_t size = forge(recorded[draw() % K], bytes);
        take(bytes, size);
        if (i % OFTEN != 0)
            continue;
        const struct facts after = look();
        assert_memory_equal(&after.totals, &before.totals, sizeof after.totals);
        assert_int_equal(after.open, before.open);
        assert_int_equal(after.passed, before.passed);
        assert_int_equal(after.allocated, before.allocated);
    }
    /* Each has its reason; and the block that was open is what the sender sent. */
    uint64_t dropped = 0;
    for (unsigned i = 0; i < DATAGRAM_DROP_COUNT; i++)
        dropped += world.receive.counters.drops[i];
    assert_int_equal(dropped, FORGERIES);
    assert_int_equal(world.receive.counters.datagrams, FORGERIES + K - 1);
    memcpy(bytes, recorded[K - 1], SIZE);
    take(bytes, SIZE);
    struct block *block = epochs_pop(world.receive.epochs, 1);
    assert_non_null(block);
    for (unsigned esi = 0; esi < K; esi++)
        for (unsigned i = 0; i < SYMBOL; i++)
            assert_int_equal(block->symbols[esi * SYMBOL + i], 10 + esi);
    epochs_return(world.receive.epochs, block);
    end();
}

static void with_a_link_key_nothing_forged_touches_state_or_memory(void **state)
{
    (void)state;
    expect_nothing_is_touched(1);
}

static void with_two_link_keys_neither(void **state)
{
    (void)state;
    expect_nothing_is_touched(2);
}

static void recordings_of_a_confirmed_epoch_change_nothing_and_of_an_older_one_are_not_even_opened(void **state)
{
    (void)state;
    enum { BLOCKS = 300 };
    static uint8_t recorded[BLOCKS][K + R][SIZE], bytes[SIZE];
    begin(1);
    for (unsigned sbn = 0; sbn < BLOCKS; sbn++) {
        for (uint8_t esi = 0; esi < K + R; esi++) {
            make(sbn, esi, recorded[sbn][esi]);
            memcpy(bytes, recorded[sbn][esi], SIZE);
            take(bytes, SIZE);
        }
        epochs_return(world.receive.epochs, epochs_pop(world.receive.epochs, 1));
    }
    const struct facts before = look();
    for (unsigned i = 0; i < BLOCKS * (K + R); i++) {
        memcpy(bytes, recorded[i / (K + R)][i % (K + R)], SIZE);
        take_datagram(&world.receive, bytes, SIZE, i * UINT64_C(1000000000));
        assert_null(epochs_pop(world.receive.epochs, 1));
    }
    struct facts after = look();
    assert_int_equal(after.open, 0);
    assert_int_equal(after.passed, before.passed);
    assert_int_equal(after.totals.gathers.lost, 0);
    assert_int_equal(after.totals.gathers.blocks_complete, BLOCKS);
    assert_int_equal(after.allocated, before.allocated);
    progress_confirm_epoch((struct lane_progress *)(uintptr_t)world.receive.progress, SENDER, TEST_EPOCH + 1);
    epochs_settle(world.receive.epochs, 1);
    memcpy(bytes, recorded[BLOCKS - 1][0], SIZE);
    take(bytes, SIZE);
    assert_int_equal(world.receive.counters.drops[DATAGRAM_DROP_EPOCH], 1);
    assert_memory_equal(bytes, recorded[BLOCKS - 1][0], SIZE);
    end();
}

static int initialise(void **state)
{
    (void)state;
    return signature_init() != STATUS_OK;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(with_a_link_key_nothing_forged_touches_state_or_memory),
        cmocka_unit_test(with_two_link_keys_neither),
        cmocka_unit_test(recordings_of_a_confirmed_epoch_change_nothing_and_of_an_older_one_are_not_even_opened),
    };
    return cmocka_run_group_tests(tests, initialise, NULL);
}
