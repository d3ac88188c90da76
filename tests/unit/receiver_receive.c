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

static struct link open_link(int family, bool sealed)
{
    struct link link = {.sequence = 1};
    struct signature_public key = {.key_id = {SENDER}};
    link.trust = trust_from_keys(&key, 1);
    link.progress = progress_create(link.trust, 1);
    link.ready = queue_create(QUEUE);
    link.done = queue_create(QUEUE);
    link.bell = doorbell_create();
    link.key = sealed ? linkkey_create(secret) : NULL;
    link.codes = fec_cache_create();
    find_free_port(family, &link.address);
    struct receive_setup setup = {.address = &link.address,
                                  .lane = 0,
                                  .memory = 8 << 20,
                                  .trust = link.trust,
                                  .link_secret = sealed ? secret : NULL,
                                  .ready = link.ready,
                                  .done = link.done,
                                  .queue_capacity = QUEUE,
                                  .store_bell = link.bell,
                                  .progress = link.progress};
    assert_int_equal(receive_create(&setup, &link.receive), STATUS_OK);
    assert_int_equal(receive_start(link.receive), STATUS_OK);
    link.fd = socket(family, SOCK_DGRAM, 0);
    assert_int_equal(connect(link.fd, (struct sockaddr *)&link.address.storage, link.address.size), 0);
    return link;
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
                                    .block_hash = datagram_block_hash(symbols[0], sizeof symbols[0] * K)};
        datagram_write(datagrams[esi], &datagram);
        uint8_t *at = datagrams[esi] + DATAGRAM_HEADER_SIZE;
        datagram_seal(datagrams[esi], symbols[esi], at, SYMBOL, link->key);
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
    for (;;) {
        struct block *block = queue_pop(link->ready);
        if (block != NULL)
            return block;
        doorbell_arm(link->bell);
        if (queue_peek(link->ready) == NULL)
            doorbell_wait(link->bell, 10 * CLOCK_SECOND_NS);
        doorbell_disarm(link->bell);
    }
}

static void expect_block(struct link *link, uint64_t sbn, enum decode_result result)
{
    struct block *block = wait_for_block(link);
    assert_int_equal(block->sbn, sbn);
    assert_int_equal(decode_block(link->codes, block), result);
    for (unsigned i = 0; i < K * SYMBOL; i++)
        assert_int_equal(block->symbols[i], (uint8_t)(sbn + i / SYMBOL));
    assert_true(queue_push(link->done, block));
}

/* The figures once everything sent so far has been counted. */
static struct receive_counters counters_after(struct link *link, uint64_t datagrams)
{
    struct receive_counters counters;
    uint64_t until_ns = clock_monotonic_ns() + 10 * CLOCK_SECOND_NS;
    do {
        usleep(1000);
        receive_counters(link->receive, &counters);
    } while (counters.datagrams < datagrams && clock_monotonic_ns() < until_ns);
    assert_int_equal(counters.datagrams, datagrams);
    return counters;
}

static void run_trains(int family, bool sealed)
{
    static uint8_t block[K + R][SIZE];
    struct link link = open_link(family, sealed);
    for (uint64_t sbn = 0; sbn < 200; sbn++) {
        make_block(&link, sbn, block);
        send_train(&link, block[0], K + R);
        expect_block(&link, sbn, DECODE_COMPLETE);
        make_block(&link, ++sbn, block);
        send_train(&link, block[R], K); /* without the first symbols */
        expect_block(&link, sbn, DECODE_REPAIRED);
    }
    struct receive_counters counters = counters_after(&link, 100 * (K + R) + 100 * K);
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
    struct link link = open_link(AF_INET, false);
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
    struct receive_counters counters = counters_after(&link, sizeof cases / sizeof *cases + K);
    for (unsigned i = 0; i < DATAGRAM_DROP_COUNT; i++)
        assert_int_equal(counters.drops[i], expected[i]);
    close_link(&link);
}

static void a_full_queue_drops_blocks_and_never_stops_receiving(void **state)
{
    (void)state;
    static uint8_t block[K + R][SIZE];
    struct link link = open_link(AF_INET, false);
    for (uint64_t sbn = 0; sbn < QUEUE + 20; sbn++) {
        make_block(&link, sbn, block);
        send_train(&link, block[0], K);
        (void)counters_after(&link, (sbn + 1) * K);
    }
    struct receive_counters counters = counters_after(&link, (QUEUE + 20) * K);
    assert_int_equal(counters.store_queue_full, 20);
    for (uint64_t sbn = 0; sbn < QUEUE; sbn++)
        expect_block(&link, sbn, DECODE_COMPLETE);
    make_block(&link, 1000, block);
    send_train(&link, block[0], K);
    expect_block(&link, 1000, DECODE_COMPLETE);
    close_link(&link);
}

static void what_has_passed_is_told_after_blocks_came_back(void **state)
{
    (void)state;
    static uint8_t block[K + R][SIZE];
    struct link link = open_link(AF_INET, false);
    uint64_t epoch = 0, passed = 0, until_ns = clock_monotonic_ns() + 10 * CLOCK_SECOND_NS;
    make_block(&link, 0, block);
    send_train(&link, block[0], K);
    expect_block(&link, 0, DECODE_COMPLETE);
    while (passed != 1 && clock_monotonic_ns() < until_ns) {
        usleep(1000);
        (void)progress_passed(link.progress, SENDER, 0, &epoch, &passed);
    }
    assert_int_equal(epoch, EPOCH);
    assert_int_equal(passed, 1);
    close_link(&link);
}

static void blocks_that_are_out_at_the_end_are_taken_back(void **state)
{
    (void)state;
    static uint8_t block[K + R][SIZE];
    struct link link = open_link(AF_INET, false);
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
        cmocka_unit_test(what_has_passed_is_told_after_blocks_came_back),
        cmocka_unit_test(blocks_that_are_out_at_the_end_are_taken_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
