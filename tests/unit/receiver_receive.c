// SPDX-License-Identifier: Apache-2.0
#include "receiver/receive.h"

#include <netinet/udp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/clock.h"
#include "common/fec.h"
#include "receiver/decode.h"
#include "tests/datagrams.h"

enum { SENDER = 0x00000001, K = 8, R = 4, SYMBOL = 1392, SIZE = DATAGRAM_HEADER_SIZE + SYMBOL, QUEUE = 64 };
#define EPOCH UINT64_C(0x0000000100000001)

static const uint8_t secret[LINKKEY_SIZE] = {7};

/* A running receive stage, the place of the later stages behind it, and a socket that sends to it. */
struct link {
    struct trust *trust;
    struct lane_progress *progress;
    struct queue *ready, *done;
    struct doorbell *bell;
    struct receive *receive;
    struct linkkey *key; /* the sender's */
    struct socket_address address;
    int fd;
    uint64_t sequence;
    struct fec_cache *codes;
    uint64_t memory;
};

static void find_free_port(int family, struct socket_address *address)
{
    int fd = socket(family, SOCK_DGRAM, 0);
    assert_true(socket_address_parse(family == AF_INET ? "127.0.0.1:0" : "[::1]:0", address));
    assert_int_equal(bind(fd, (struct sockaddr *)&address->storage, address->size), 0);
    socklen_t size = sizeof address->storage;
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address->storage, &size), 0);
    close(fd);
}

static void open_receive(struct link *link, int fd)
{
    struct receive_setup setup = {.address = &link->address,
                                  .fd = fd,
                                  .lane = 0,
                                  .memory = link->memory,
                                  .trust = link->trust,
                                  .link_secret = link->key != NULL ? secret : NULL,
                                  .ready = link->ready,
                                  .done = link->done,
                                  .queue_capacity = QUEUE,
                                  .store_bell = link->bell,
                                  .progress = link->progress};
    assert_int_equal(receive_create(&setup, &link->receive), STATUS_OK);
}

/* With a socket that the stage opens, or with one that is passed to it; `held` is a copy of that. */
static struct link open_link_with(int family, bool sealed, int *held, uint64_t memory)
{
    struct link link = {.sequence = 1, .memory = memory};
    struct signature_public key = {.key_id = {SENDER}};
    link.trust = trust_from_keys(&key, 1);
    link.progress = progress_create(link.trust, 1);
    link.ready = queue_create(QUEUE);
    link.done = queue_create(QUEUE);
    link.bell = doorbell_create();
    link.key = sealed ? linkkey_create(secret) : NULL;
    link.codes = fec_cache_create();
    find_free_port(family, &link.address);
    int fd = -1;
    if (held != NULL) {
        fd = socket(family, SOCK_DGRAM, 0);
        assert_int_equal(bind(fd, (struct sockaddr *)&link.address.storage, link.address.size), 0);
        *held = dup(fd);
    }
    open_receive(&link, fd);
    assert_int_equal(receive_start(link.receive), STATUS_OK);
    link.fd = socket(family, SOCK_DGRAM, 0);
    assert_int_equal(connect(link.fd, (struct sockaddr *)&link.address.storage, link.address.size), 0);
    return link;
}

static struct link open_link(int family, bool sealed, int *held)
{
    return open_link_with(family, sealed, held, 8 << 20);
}

static void close_link(struct link *link)
{
    receive_stop(link->receive);
    receive_destroy(link->receive);
    close(link->fd);
    fec_cache_destroy(link->codes);
    linkkey_destroy(link->key);
    doorbell_destroy(link->bell);
    queue_destroy(link->done);
    queue_destroy(link->ready);
    progress_destroy(link->progress);
    trust_destroy(link->trust);
}

/* All datagrams of a block whose payload is made of its number. */
static void make_block(struct link *link, uint64_t sbn, uint8_t datagrams[K + R][SIZE])
{
    static uint8_t symbols[K + R][SYMBOL];
    const uint8_t *source[K];
    uint8_t *repair[R];
    for (unsigned i = 0; i < K; i++) {
        memset(symbols[i], (int)(sbn + i), SYMBOL);
        source[i] = symbols[i];
    }
    for (unsigned i = 0; i < R; i++)
        repair[i] = symbols[K + i];
    fec_encode(fec_cache_get(link->codes, K, R), SYMBOL, source, repair);
    for (unsigned esi = 0; esi < K + R; esi++) {
        struct datagram datagram = {.flags = link->key != NULL ? DATAGRAM_FLAG_SEALED : 0,
                                    .source_symbols = K,
                                    .repair_symbols = R,
                                    .esi = (uint8_t)esi,
                                    .symbol_size = SYMBOL,
                                    .sender_id = SENDER,
                                    .depth = 1,
                                    .epoch = EPOCH,
                                    .salt = 5,
                                    .sequence = link->sequence++,
                                    .sbn = sbn,
                                    .block_hash = block_hash_of(symbols[0], K, SYMBOL)};
        datagram_write(datagrams[esi], &datagram);
        uint8_t *at = datagrams[esi] + DATAGRAM_HEADER_SIZE;
        finish_datagram(datagrams[esi], symbols[esi], at, SYMBOL, link->key);
        if (link->key == NULL)
            memcpy(at, symbols[esi], SYMBOL);
    }
}

/* Hands a run of datagrams to the kernel as one train, which comes out as one buffer. */
static void send_train(struct link *link, uint8_t *bytes, unsigned count)
{
    char control[CMSG_SPACE(sizeof(uint16_t))] = {0};
    struct iovec part = {.iov_base = bytes, .iov_len = (size_t)count * SIZE};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    uint16_t size = SIZE;
    header->cmsg_level = SOL_UDP;
    header->cmsg_type = UDP_SEGMENT;
    header->cmsg_len = CMSG_LEN(sizeof size);
    memcpy(CMSG_DATA(header), &size, sizeof size);
    assert_int_equal(sendmsg(link->fd, &message, 0), (ssize_t)part.iov_len);
}

static struct block *wait_for_block(struct link *link)
{
    struct block *block = queue_pop(link->ready);
    uint64_t until_ns = clock_monotonic_ns() + 10 * CLOCK_SECOND_NS;
    while (block == NULL && clock_monotonic_ns() < until_ns) {
        doorbell_arm(link->bell);
        if (queue_peek(link->ready) == NULL)
            doorbell_wait(link->bell, 10 * CLOCK_SECOND_NS);
        doorbell_disarm(link->bell);
        block = queue_pop(link->ready);
    }
    assert_non_null(block);
    return block;
}

static void expect_block(struct link *link, uint64_t sbn, enum decode_result result)
{
    struct block *block = wait_for_block(link);
    assert_int_equal(block->sbn, sbn);
    assert_int_equal(decode_block(link->codes, block), result);
    for (unsigned i = 0; i < K * SYMBOL; i++)
        assert_int_equal(block->symbols[i], (uint8_t)(sbn + i / SYMBOL));
    assert_true(queue_push(link->done, block));
    doorbell_ring(receive_done_bell(link->receive));
}

/* The figures at the end; `datagrams` have been seen to arrive. */
static struct receive_counters final_counters(struct link *link, uint64_t datagrams)
{
    struct receive_counters counters;
    receive_stop(link->receive);
    receive_counters(link->receive, &counters);
    assert_int_equal(counters.datagrams, datagrams);
    return counters;
}

static void run_trains(int family, bool sealed)
{
    static uint8_t block[K + R][SIZE];
    struct link link = open_link(family, sealed, NULL);
    for (uint64_t sbn = 0; sbn < 200; sbn++) {
        make_block(&link, sbn, block);
        send_train(&link, block[0], K + R);
        expect_block(&link, sbn, DECODE_COMPLETE);
        make_block(&link, ++sbn, block);
        send_train(&link, block[R], K); /* without the first symbols */
        expect_block(&link, sbn, DECODE_REPAIRED);
    }
    struct receive_counters counters = final_counters(&link, 100 * (K + R) + 100 * K);
    assert_int_equal(counters.blocks_complete, 200);
    assert_int_equal(counters.lost, 100 * R);
    assert_int_equal(counters.drops[DATAGRAM_DROP_SURPLUS], 100 * R);
    close_link(&link);
}

static void trains_are_taken_apart(void **state)
{
    (void)state;
    run_trains(AF_INET, false);
}

static void trains_are_taken_apart_over_ipv6(void **state)
{
    (void)state;
    run_trains(AF_INET6, false);
}

static void sealed_datagrams_are_opened(void **state)
{
    (void)state;
    run_trains(AF_INET, true);
}

static void what_is_wrong_is_counted_by_reason(void **state)
{
    (void)state;
    static uint8_t block[K + R][SIZE], bad[SIZE];
    struct link link = open_link(AF_INET, false, NULL);
    static const struct {
        size_t at;
        uint8_t value;
        size_t size;
        enum datagram_drop drop;
    } cases[] = {
        {0, 1, 0, DATAGRAM_DROP_SHORT},        {0, 1, 79, DATAGRAM_DROP_SHORT},
        {0, 1, SIZE - 1, DATAGRAM_DROP_SHORT}, {0, 9, SIZE, DATAGRAM_DROP_VERSION},
        {1, 4, SIZE, DATAGRAM_DROP_VERSION},   {2, 1, SIZE, DATAGRAM_DROP_LANE},
        {3, 0, SIZE, DATAGRAM_DROP_GEOMETRY},  {8, 2, SIZE, DATAGRAM_DROP_SENDER},
        {99, 77, SIZE, DATAGRAM_DROP_TAG},     {40, 3, SIZE, DATAGRAM_DROP_TAG},
        {1, 1, SIZE, DATAGRAM_DROP_TAG},
    };
    uint64_t expected[DATAGRAM_DROP_COUNT] = {0};
    make_block(&link, 10, block);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        memcpy(bad, block[0], SIZE);
        bad[cases[i].at] = cases[i].value;
        assert_int_equal(send(link.fd, bad, cases[i].size, 0), (ssize_t)cases[i].size);
        expected[cases[i].drop]++;
    }
    for (unsigned i = 0; i < K; i++)
        assert_int_equal(send(link.fd, block[i], SIZE, 0), SIZE);
    expect_block(&link, 10, DECODE_COMPLETE);
    struct receive_counters counters = final_counters(&link, sizeof cases / sizeof *cases + K);
    for (unsigned i = 0; i < DATAGRAM_DROP_COUNT; i++)
        assert_int_equal(counters.drops[i], expected[i]);
    close_link(&link);
}

/* Sends a block whose last symbol completes it, and waits until the stage has handed it on or dropped it. */
static void send_and_wait(struct link *link, uint64_t sbn)
{
    static uint8_t block[K + R][SIZE];
    make_block(link, sbn, block);
    doorbell_arm(link->bell);
    send_train(link, block[0], K);
    doorbell_wait(link->bell, 10 * CLOCK_SECOND_NS);
    doorbell_disarm(link->bell);
}

static void a_full_queue_drops_blocks_and_never_stops_receiving(void **state)
{
    (void)state;
    struct link link = open_link(AF_INET, false, NULL);
    for (uint64_t sbn = 0; sbn < QUEUE + 20; sbn++)
        send_and_wait(&link, sbn);
    for (uint64_t sbn = 0; sbn < QUEUE; sbn++)
        expect_block(&link, sbn, DECODE_COMPLETE);
    send_and_wait(&link, QUEUE + 20);
    expect_block(&link, QUEUE + 20, DECODE_COMPLETE);
    struct receive_counters counters = final_counters(&link, (QUEUE + 21) * K);
    assert_int_equal(counters.store_queue_full, 20);
    close_link(&link);
}

static void what_later_stages_have_no_room_for_waits_in_the_socket(void **state)
{
    (void)state;
    enum { BLOCKS = 30 };
    static uint8_t block[K + R][SIZE];
    struct link link = open_link_with(AF_INET, false, NULL, 1536 << 10);
    assert_true(receive_arena_size(link.receive) < BLOCKS * (K + R) * SYMBOL);
    for (uint64_t sbn = 0; sbn < BLOCKS; sbn++) {
        make_block(&link, sbn, block);
        send_train(&link, block[0], K);
    }
    for (uint64_t sbn = 0; sbn < BLOCKS; sbn++)
        expect_block(&link, sbn, DECODE_COMPLETE);
    struct receive_counters counters = final_counters(&link, BLOCKS * K);
    assert_int_equal(counters.drops[DATAGRAM_DROP_MEMORY], 0);
    assert_int_equal(counters.blocks_given_up, 0);
    close_link(&link);
}

static void what_has_passed_is_told_after_blocks_came_back(void **state)
{
    (void)state;
    struct link link = open_link(AF_INET, false, NULL);
    uint64_t epoch = 0, passed = 0;
    send_and_wait(&link, 0);
    expect_block(&link, 0, DECODE_COMPLETE);
    receive_stop(link.receive);
    assert_true(progress_passed(link.progress, SENDER, 0, &epoch, &passed));
    assert_int_equal(epoch, EPOCH);
    assert_int_equal(passed, 1);
    close_link(&link);
}

/* A file in memory. */
struct bytes {
    size_t size;
    uint8_t at[1 << 20];
};

static bool append(void *context, const void *bytes, size_t size)
{
    struct bytes *to = context;
    assert_true(to->size + size <= sizeof to->at);
    memcpy(to->at + to->size, bytes, size);
    to->size += size;
    return true;
}

/* Ends the running stage and lets another one go on with the same socket. Returns the figures of the first. */
static struct receive_counters restart(struct link *link, int held)
{
    struct receive_counters counters;
    static struct bytes file;
    static struct handover_reader reader;
    const struct handover_origin origin = {.sealed = link->key != NULL};
    struct handover_record record;
    file.size = 0;
    receive_stop(link->receive);
    struct handover_writer *writer = handover_writer_create(append, &file);
    handover_writer_begin(writer, &origin);
    (void)receive_export(link->receive, writer);
    receive_counters(link->receive, &counters);
    assert_true(handover_writer_finish(writer));
    handover_writer_destroy(writer);
    receive_destroy(link->receive);

    open_receive(link, dup(held));
    assert_int_equal(handover_reader_init(&reader, file.at, file.size, &origin), HANDOVER_GOOD);
    while (handover_reader_next(&reader, &record))
        assert_true(receive_import(link->receive, &record, clock_monotonic_ns()));
    assert_int_equal(receive_start(link->receive), STATUS_OK);
    return counters;
}

static void restarts_in_the_middle_of_blocks_lose_nothing(void **state)
{
    (void)state;
    static uint8_t block[K + R][SIZE];
    int held;
    struct link link = open_link(AF_INET, true, &held);
    for (uint64_t sbn = 0; sbn < 40; sbn++) {
        make_block(&link, sbn, block);
        send_train(&link, block[0], 3); /* in the stage, its ring, or still in the socket */
        restart(&link, held);
        send_train(&link, block[3], K + R - 3);
        expect_block(&link, sbn, DECODE_COMPLETE);
    }
    struct receive_counters counters;
    receive_stop(link.receive);
    receive_counters(link.receive, &counters);
    assert_int_equal(counters.lost, 0);
    assert_int_equal(counters.blocks_given_up, 0);
    assert_int_equal(counters.kernel_socket_buffer, 0);
    assert_int_equal(counters.drops[DATAGRAM_DROP_DUPLICATE], 0);
    close(held);
    close_link(&link);
}

static void what_the_socket_dropped_while_nobody_ran_counts_once(void **state)
{
    (void)state;
    static uint8_t block[K + R][SIZE];
    int held;
    struct link link = open_link(AF_INET, false, &held);
    send_and_wait(&link, 0);
    expect_block(&link, 0, DECODE_COMPLETE);
    receive_stop(link.receive);
    int small = 1;
    assert_int_equal(setsockopt(held, SOL_SOCKET, SO_RCVBUF, &small, sizeof small), 0);
    make_block(&link, 1, block);
    for (unsigned i = 0; socket_drops(held) == 0; i++)
        assert_int_equal(send(link.fd, block[i % (K - 1)], SIZE, 0), SIZE);
    assert_int_equal(restart(&link, held).kernel_socket_buffer, 0); /* there were none while it ran */
    send_and_wait(&link, 2);
    expect_block(&link, 2, DECODE_COMPLETE);
    assert_int_equal(restart(&link, held).kernel_socket_buffer, 1);
    send_and_wait(&link, 3);
    expect_block(&link, 3, DECODE_COMPLETE);
    assert_int_equal(restart(&link, held).kernel_socket_buffer, 0);
    close(held);
    close_link(&link);
}

static void blocks_that_are_out_at_the_end_are_taken_back(void **state)
{
    (void)state;
    static uint8_t block[K + R][SIZE];
    struct link link = open_link(AF_INET, false, NULL);
    for (uint64_t sbn = 0; sbn < 3; sbn++) {
        make_block(&link, sbn, block);
        send_train(&link, block[0], K);
    }
    struct block *held = wait_for_block(&link);
    receive_stop(link.receive);
    assert_true(queue_push(link.done, held));
    close_link(&link);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(trains_are_taken_apart),
        cmocka_unit_test(trains_are_taken_apart_over_ipv6),
        cmocka_unit_test(sealed_datagrams_are_opened),
        cmocka_unit_test(what_is_wrong_is_counted_by_reason),
        cmocka_unit_test(a_full_queue_drops_blocks_and_never_stops_receiving),
        cmocka_unit_test(what_later_stages_have_no_room_for_waits_in_the_socket),
        cmocka_unit_test(what_has_passed_is_told_after_blocks_came_back),
        cmocka_unit_test(restarts_in_the_middle_of_blocks_lose_nothing),
        cmocka_unit_test(what_the_socket_dropped_while_nobody_ran_counts_once),
        cmocka_unit_test(blocks_that_are_out_at_the_end_are_taken_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
