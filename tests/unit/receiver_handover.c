// SPDX-License-Identifier: Apache-2.0
#include "receiver/handover.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/checksum.h"
#include "receiver/epochs.h"
#include "tests/datagrams.h"

enum { LANE = 2, SYMBOL = 64, K = 4, R = 4, SHARE = 1 << 20, FILE_MAX = 4 << 20 };
#define SECOND UINT64_C(1000000000)

static const struct handover_origin here = {.boot_id = "0123456789abcdef0123456789abcdef0123"};

/* A lane of a receiver that can be replaced by its successor, and a clock. */
static struct {
    struct trust *trust;
    struct lane_progress *progress;
    struct epochs *epochs;
    uint64_t now_ns, sequence, popped;
    uint8_t bytes[FILE_MAX];
    size_t size, room;
    struct handover_reader reader;
} world;

static int set_up(void **state)
{
    (void)state;
    struct signature_public keys[2];
    memset(keys, 0, sizeof keys);
    keys[0].key_id[0] = 1;
    keys[1].key_id[0] = 2;
    world.trust = trust_from_keys(keys, 2);
    world.progress = progress_create(world.trust, LANE + 1);
    world.epochs = epochs_create(LANE, world.trust, SHARE, world.progress);
    world.now_ns = 1000 * SECOND;
    world.sequence = 1;
    world.size = 0;
    world.room = FILE_MAX;
    return world.epochs == NULL;
}

static int tear_down(void **state)
{
    (void)state;
    epochs_destroy(world.epochs);
    progress_destroy(world.progress);
    trust_destroy(world.trust);
    return 0;
}

static bool append(void *context, const void *bytes, size_t size)
{
    (void)context;
    if (size > world.room - world.size)
        return false;
    memcpy(world.bytes + world.size, bytes, size);
    world.size += size;
    return true;
}

static struct datagram symbol_of(uint64_t epoch, uint64_t base, uint16_t depth, uint16_t index, uint8_t esi)
{
    return (struct datagram){.lane = LANE,
                             .source_symbols = K,
                             .repair_symbols = R,
                             .esi = esi,
                             .symbol_size = SYMBOL,
                             .sender_id = 1,
                             .depth = depth,
                             .group_index = index,
                             .epoch = epoch,
                             .sequence = world.sequence++,
                             .sbn = base + index,
                             .block_hash = base + index + 99};
}

static enum datagram_drop push(struct datagram datagram)
{
    uint8_t symbol[SYMBOL];
    memset(symbol, (int)(datagram.sbn * 7 + datagram.esi), sizeof symbol);
    datagram.symbol_hash = datagram_symbol_hash(symbol, sizeof symbol);
    enum datagram_drop drop = epochs_check(world.epochs, &datagram);
    return drop != DATAGRAM_OK ? drop : epochs_push(world.epochs, &datagram, symbol, world.now_ns);
}

/* Pops all that is complete, checks each, returns their number. */
static unsigned pop_all(void)
{
    unsigned count = 0;
    for (struct block *block; (block = epochs_pop(world.epochs, world.now_ns)) != NULL; count++, world.popped++) {
        assert_true(block->received >= K);
        assert_int_equal(block->hash_sum, hash_sum_of(block->symbols, block->present, K, SYMBOL));
        for (unsigned esi = 0; esi < K + R; esi++)
            for (unsigned i = 0; block->present[esi] && i < SYMBOL; i++)
                assert_int_equal(block->symbols[esi * SYMBOL + i], (uint8_t)(block->sbn * 7 + esi));
        epochs_return(world.epochs, block);
    }
    epochs_settle(world.epochs, world.now_ns);
    return count;
}

static bool write_file(const struct handover_origin *origin)
{
    world.size = 0;
    struct handover_writer *writer = handover_writer_create(append, NULL);
    handover_writer_begin(writer, origin);
    epochs_release(world.epochs);
    (void)pop_all();
    (void)epochs_export(world.epochs, writer);
    bool written = handover_writer_finish(writer);
    handover_writer_destroy(writer);
    return written;
}

/* Feeds what is in the file; returns how many records were of use. */
static unsigned feed(void)
{
    struct handover_record record;
    unsigned used = 0;
    while (handover_reader_next(&world.reader, &record))
        used += epochs_import(world.epochs, &record, world.now_ns);
    return used;
}

/* The next run, a while later. */
static void restart(void)
{
    assert_true(write_file(&here));
    epochs_destroy(world.epochs);
    progress_destroy(world.progress);
    world.now_ns += 3 * SECOND;
    world.progress = progress_create(world.trust, LANE + 1);
    world.epochs = epochs_create(LANE, world.trust, SHARE, world.progress);
    assert_int_equal(handover_reader_init(&world.reader, world.bytes, world.size, &here), HANDOVER_GOOD);
    (void)feed();
}

static struct gather_counters counters(void)
{
    struct epochs_totals totals;
    epochs_totals(world.epochs, &totals);
    return totals.gathers;
}

static void open_blocks_go_on_where_they_were(void **state)
{
    (void)state;
    for (uint8_t esi = 0; esi < K; esi++) {
        for (uint16_t index = 0; index < 20; index++)
            assert_int_equal(push(symbol_of(5, 100, 20, index, esi)), DATAGRAM_OK);
        assert_int_equal(pop_all(), esi == K - 1 ? 20 : 0);
        restart();
    }
    assert_int_equal(counters().lost, 0);
    assert_int_equal(counters().blocks_given_up, 0);
}

static void symbols_of_blocks_that_are_over_open_none(void **state)
{
    (void)state;
    for (uint8_t esi = 0; esi < K; esi++)
        push(symbol_of(5, 100, 1, 0, esi));
    assert_int_equal(pop_all(), 1);
    restart();
    for (uint8_t esi = K; esi < K + R; esi++)
        push(symbol_of(5, 100, 1, 0, esi));
    assert_int_equal(counters().drops[DATAGRAM_DROP_SURPLUS], R);
    assert_int_equal(epochs_open(world.epochs), 0);
}

static void a_block_that_later_stages_hold_at_the_stop_is_over_for_the_next_run(void **state)
{
    (void)state;
    for (uint8_t esi = 0; esi < K; esi++)
        push(symbol_of(5, 100, 1, 0, esi));
    struct block *held = epochs_pop(world.epochs, world.now_ns);
    assert_non_null(held);
    assert_true(write_file(&here));
    epochs_return(world.epochs, held);
    epochs_destroy(world.epochs);
    world.epochs = epochs_create(LANE, world.trust, SHARE, world.progress);
    assert_int_equal(handover_reader_init(&world.reader, world.bytes, world.size, &here), HANDOVER_GOOD);
    (void)feed();
    push(symbol_of(5, 100, 1, 0, K));
    assert_int_equal(counters().drops[DATAGRAM_DROP_SURPLUS], 1);
    for (uint64_t base = 101; base < 300; base++)
        push(symbol_of(5, base, 1, 0, 0));
    /* The open ones, not the one held; the window follows with a few datagrams. */
    assert_in_range(counters().blocks_given_up, 299 + 1 - (2 + 64) - 101 - 32, 299 + 1 - (2 + 64) - 101);
}

static void losses_are_neither_forgotten_nor_invented(void **state)
{
    (void)state;
    struct datagram late = symbol_of(5, 0, 1, 0, 0);
    push(symbol_of(5, 0, 1, 0, 1));
    struct datagram missing = symbol_of(5, 0, 1, 0, 2);
    push(symbol_of(5, 0, 1, 0, 3));
    assert_int_equal(counters().lost, 1);
    restart();
    assert_int_equal(counters().lost, 1);
    push(missing); /* it was only late */
    push(late);
    assert_int_equal(counters().lost, 0);
    restart();
    struct datagram lost = symbol_of(5, 1, 1, 0, 0);
    push(symbol_of(5, 1, 1, 0, 1));
    assert_int_equal(counters().lost, 1);
    restart();
    push(lost);
    assert_int_equal(counters().lost, 0);
}

static void what_has_passed_stays_passed(void **state)
{
    (void)state;
    uint64_t epoch = 0, passed = 0;
    for (uint8_t esi = 0; esi < K; esi++) {
        push(symbol_of(5, 100, 1, 0, esi));
        push(symbol_of(5, 101, 1, 0, esi));
    }
    push(symbol_of(5, 102, 1, 0, 0));
    assert_int_equal(pop_all(), 2);
    epochs_publish(world.epochs, world.now_ns);
    assert_true(progress_passed(world.progress, 1, LANE, &epoch, &passed));
    uint64_t before = passed;
    restart();
    epochs_publish(world.epochs, world.now_ns);
    assert_true(progress_passed(world.progress, 1, LANE, &epoch, &passed));
    assert_int_equal(epoch, 5);
    assert_in_range(passed, before, 102);
}

static void both_epochs_of_a_sender_and_their_order_survive(void **state)
{
    (void)state;
    push(symbol_of(5, 0, 1, 0, 0));
    progress_confirm_epoch(world.progress, 1, 5);
    push(symbol_of(6, 0, 1, 0, 0));
    epochs_settle(world.epochs, world.now_ns);
    restart();
    assert_int_equal(progress_confirmed_epoch(world.progress, 1), 5);
    assert_int_equal(push(symbol_of(4, 0, 1, 0, 0)), DATAGRAM_DROP_EPOCH);
    for (uint8_t esi = 1; esi < K; esi++) {
        assert_int_equal(push(symbol_of(5, 0, 1, 0, esi)), DATAGRAM_OK);
        assert_int_equal(push(symbol_of(6, 0, 1, 0, esi)), DATAGRAM_OK);
    }
    assert_int_equal(pop_all(), 2);
    progress_confirm_epoch(world.progress, 1, 6);
    assert_int_equal(pop_all(), 0);
    assert_int_equal(push(symbol_of(5, 1, 1, 0, 0)), DATAGRAM_DROP_EPOCH);
}

/* Whatever the moment of a restart, everything comes out as if there had been none. */
static void random_traffic_does_not_notice_restarts(void **state)
{
    (void)state;
    enum { GROUPS = 60, DEPTH = 12, RUNS = 12 };
    for (unsigned run = 0; run < RUNS; run++) {
        uint64_t blocks[2];
        struct gather_counters figures[2];
        for (unsigned restarts = 0; restarts < 2; restarts++) {
            set_up(NULL);
            srand(run);
            world.popped = 0;
            for (uint64_t i = 0; i < GROUPS; i++) {
                uint16_t depth = (uint16_t)(1 + rand() % DEPTH);
                for (uint8_t esi = 0; esi < K + R; esi++)
                    for (uint16_t index = 0; index < depth; index++) {
                        struct datagram datagram = symbol_of(5, i * DEPTH, depth, index, esi);
                        bool lost = rand() % 100 < 40;
                        bool stop = rand() % 150 == 0;
                        if (!lost)
                            push(datagram);
                        (void)pop_all();
                        if (stop && restarts > 0)
                            restart();
                    }
            }
            world.now_ns += GATHER_GIVE_UP_NS;
            (void)pop_all();
            blocks[restarts] = world.popped;
            figures[restarts] = counters();
            if (restarts == 0)
                tear_down(NULL);
        }
        assert_int_equal(blocks[1], blocks[0]);
        assert_int_equal(figures[1].lost, figures[0].lost);
        if (run + 1 < RUNS)
            tear_down(NULL);
    }
}

static void fill_file(void)
{
    for (uint16_t index = 0; index < 20; index++)
        push(symbol_of(5, 100, 20, index, 0));
    push(symbol_of(6, 0, 1, 0, 0));
    assert_true(write_file(&here));
}

static enum handover_verdict verdict(size_t size)
{
    /* In memory of exactly that size, so that a sanitizer sees every byte that is read beyond. */
    uint8_t *exact = malloc(size > 0 ? size : 1);
    memcpy(exact, world.bytes, size);
    enum handover_verdict result = handover_reader_init(&world.reader, exact, size, &here);
    if (result == HANDOVER_GOOD)
        (void)feed();
    free(exact);
    return result;
}

static void a_file_that_was_cut_is_damaged(void **state)
{
    (void)state;
    fill_file();
    for (size_t size = 0; size < world.size; size += size < 300 || world.size - size < 300 ? 1 : 61)
        assert_int_equal(verdict(size), HANDOVER_DAMAGED);
    assert_int_equal(verdict(world.size), HANDOVER_GOOD);
}

static void a_flipped_bit_is_damage(void **state)
{
    (void)state;
    fill_file();
    for (size_t at = 0; at < world.size; at += at < 300 || world.size - at < 300 ? 1 : 37) {
        uint8_t bit = (uint8_t)(1 << at % 8);
        world.bytes[at] ^= bit;
        assert_int_not_equal(verdict(world.size), HANDOVER_GOOD);
        world.bytes[at] ^= bit;
    }
    assert_int_equal(verdict(world.size), HANDOVER_GOOD);
}

static void seal(void)
{
    checksum128(world.bytes, world.size - CHECKSUM128_SIZE, world.bytes + world.size - CHECKSUM128_SIZE);
}

/* What a program with another idea of the format might write: nothing breaks, and blocks hold only what was sent. */
static void false_content_with_a_right_checksum_does_no_harm(void **state)
{
    (void)state;
    fill_file();
    static uint8_t good[FILE_MAX];
    size_t size = world.size;
    memcpy(good, world.bytes, size);
    srand(11);
    for (unsigned round = 0; round < 3000; round++) {
        memcpy(world.bytes, good, size);
        for (int i = rand() % 4; i >= 0; i--)
            world.bytes[52 + (size_t)rand() % (size - 52)] = (uint8_t)rand();
        seal();
        epochs_destroy(world.epochs);
        progress_destroy(world.progress);
        world.progress = progress_create(world.trust, LANE + 1);
        world.epochs = epochs_create(LANE, world.trust, SHARE, world.progress);
        assert_int_equal(verdict(size), HANDOVER_GOOD);
        for (uint16_t index = 0; index < 20; index++)
            (void)push(symbol_of(5, 100, 20, index, 1));
        for (struct block *block; (block = epochs_pop(world.epochs, world.now_ns)) != NULL;)
            epochs_return(world.epochs, block);
    }
}

static void another_boot_version_or_link_key_is_told_apart(void **state)
{
    (void)state;
    struct handover_origin other = here;
    other.boot_id[35] ^= 1;
    assert_true(write_file(&other));
    assert_int_equal(verdict(world.size), HANDOVER_OTHER_BOOT);
    other = here;
    other.sealed = true;
    assert_true(write_file(&other));
    assert_int_equal(verdict(world.size), HANDOVER_OTHER_KEY);
    assert_true(write_file(&here));
    world.bytes[8]++;
    assert_int_equal(verdict(world.size), HANDOVER_OTHER_VERSION);
}

static void records_of_unknown_senders_and_lanes_are_left_out(void **state)
{
    (void)state;
    struct signature_public key = {.key_id = {2}};
    fill_file();
    struct trust *trust = world.trust;
    struct trust *fewer = trust_from_keys(&key, 1);
    epochs_destroy(world.epochs);
    world.epochs = epochs_create(LANE, fewer, SHARE, world.progress);
    assert_int_equal(handover_reader_init(&world.reader, world.bytes, world.size, &here), HANDOVER_GOOD);
    assert_int_equal(feed(), 0);
    epochs_destroy(world.epochs);
    world.epochs = epochs_create(LANE - 1, trust, SHARE, world.progress);
    assert_int_equal(handover_reader_init(&world.reader, world.bytes, world.size, &here), HANDOVER_GOOD);
    assert_int_equal(feed(), 3); /* the sender and its epochs; but no symbol */
    assert_int_equal(epochs_open(world.epochs), 0);
    trust_destroy(fewer);
}

static void less_memory_than_before_gives_up_the_oldest_blocks(void **state)
{
    (void)state;
    enum { SMALL = 64 << 10, BLOCKS = 100 };
    for (uint16_t index = 0; index < BLOCKS; index++)
        push(symbol_of(5, 100, BLOCKS, index, 0));
    assert_true(write_file(&here));
    epochs_destroy(world.epochs);
    world.epochs = epochs_create(LANE, world.trust, SMALL, world.progress);
    assert_int_equal(handover_reader_init(&world.reader, world.bytes, world.size, &here), HANDOVER_GOOD);
    (void)feed();
    assert_in_range(epochs_open(world.epochs), 10, BLOCKS - 1);
    for (uint8_t esi = 1; esi < K; esi++)
        push(symbol_of(5, 100, BLOCKS, BLOCKS - 1, esi));
    world.now_ns += GATHER_ORDER_WAIT_NS;
    assert_int_equal(pop_all(), 1);
}

static void a_writer_whose_room_ends_says_so(void **state)
{
    (void)state;
    fill_file();
    for (size_t room = 0; room < world.size; room += 97) {
        size_t whole = world.size;
        world.room = room;
        assert_false(write_file(&here));
        assert_true(world.size <= room);
        world.size = whole;
    }
    world.room = FILE_MAX;
    assert_true(write_file(&here));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(open_blocks_go_on_where_they_were, set_up, tear_down),
        cmocka_unit_test_setup_teardown(symbols_of_blocks_that_are_over_open_none, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_block_that_later_stages_hold_at_the_stop_is_over_for_the_next_run, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(losses_are_neither_forgotten_nor_invented, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_has_passed_stays_passed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(both_epochs_of_a_sender_and_their_order_survive, set_up, tear_down),
        cmocka_unit_test_setup_teardown(random_traffic_does_not_notice_restarts, NULL, tear_down),
        cmocka_unit_test_setup_teardown(a_file_that_was_cut_is_damaged, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_flipped_bit_is_damage, set_up, tear_down),
        cmocka_unit_test_setup_teardown(false_content_with_a_right_checksum_does_no_harm, set_up, tear_down),
        cmocka_unit_test_setup_teardown(another_boot_version_or_link_key_is_told_apart, set_up, tear_down),
        cmocka_unit_test_setup_teardown(records_of_unknown_senders_and_lanes_are_left_out, set_up, tear_down),
        cmocka_unit_test_setup_teardown(less_memory_than_before_gives_up_the_oldest_blocks, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_writer_whose_room_ends_says_so, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
