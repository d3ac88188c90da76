// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_TESTS_UNIT_SENDER_LINK_H
#define DIODECAST_TESTS_UNIT_SENDER_LINK_H

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "common/clock.h"
#include "common/doorbell.h"
#include "proto/frame.h"
#include "proto/message.h"
#include "proto/signed.h"
#include "sender/pipeline.h"
#include "tests/datagrams.h"
#include "tests/unit/sender_scratch.h"

/* A sender's data plane, one item to send, and the other end of its link: what came, in which blocks. */
enum {
    BIG = 2 * CHUNK_SIZE + 12345, /* of t/big: three chunks; t/small has one */
    SMALL = 1000,
    BLOCKS = 1 << 16,
};
#define PATIENCE_NS (20 * CLOCK_SECOND_NS)

struct seen_block {
    uint64_t got[4]; /* source symbols */
    uint8_t *payload;
    bool parsed;
};

/* What has come out of the link since forget(). */
struct seen {
    uint8_t *bytes[2], *known[2]; /* of the two artifacts, and which of them came */
    uint64_t data, announces, manifest_bytes;
    unsigned copies;         /* of the manifest, that were begun */
    unsigned repeats, fresh; /* blocks with frames of transfers */
    uint64_t repeat_of;      /* of the newest repeated block */
    bool mixed;              /* a repeated block held something of another transfer */
    struct message_heartbeat beat;
};

struct fixture {
    struct scratch items, state;
    struct config config;
    struct ledger *ledger;
    struct signature_key *key;
    struct doorbell *bell;
    struct mailbox *finished;
    struct pipeline *pipeline;
    int fd;
    uint8_t number;         /* of the newest transfer */
    struct transfer *fresh; /* that was sent at the start */
    uint8_t id[TRANSFER_ID_SIZE];
    uint8_t other[TRANSFER_ID_SIZE]; /* of an item that is not t: its data is not looked into */
    struct seen_block blocks[BLOCKS];
    struct seen seen;
};

static const size_t sizes[2] = {BIG, SMALL};
static const char *const paths[2] = {"t/big", "t/small"};

static void write_at(const struct scratch *scratch, const char *path, const void *bytes, size_t size, off_t offset)
{
    int fd = openat(scratch->fd, path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    assert(fd >= 0 && pwrite(fd, bytes, size, offset) == (ssize_t)size);
    close(fd);
}

static uint8_t content(unsigned artifact, size_t offset)
{
    return (uint8_t)(offset * 31 + offset / 4096 * 7 + artifact + 1);
}

static void make_item(struct fixture *fixture)
{
    uint8_t *bytes = malloc(BIG);
    scratch_mkdir(&fixture->items, "t");
    scratch_mkdir(&fixture->items, "t/empty");
    for (unsigned i = 0; i < 2; i++) {
        for (size_t at = 0; at < sizes[i]; at++)
            bytes[at] = content(i, at);
        write_at(&fixture->items, paths[i], bytes, sizes[i], 0);
    }
    free(bytes);
}

static void open_link(struct fixture *fixture)
{
    const int buffer = 16 << 20;
    fixture->fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct socket_address *peer = &fixture->config.peer;
    assert(socket_address_parse("127.0.0.1:0", peer));
    if (setsockopt(fixture->fd, SOL_SOCKET, SO_RCVBUFFORCE, &buffer, sizeof buffer) != 0)
        (void)setsockopt(fixture->fd, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof buffer);
    assert(bind(fixture->fd, (struct sockaddr *)&peer->storage, peer->size) == 0);
    assert(getsockname(fixture->fd, (struct sockaddr *)&peer->storage, &peer->size) == 0);
}

static void make_fixture(void **state)
{
    static struct fixture made;
    struct fixture *fixture = &made;
    made = (struct fixture){.config = {.lanes = 1,
                                       .rate_bits_per_s = 200000000,
                                       .source_symbols = 32,
                                       .repair_symbols = 8,
                                       .burst_ns = 1000000,
                                       .symbol_size = 1392,
                                       .depth = 5,
                                       .idle_share = 50}};
    assert_int_equal(signature_init(), STATUS_OK);
    scratch_open(&made.items);
    scratch_open(&made.state);
    make_item(fixture);
    open_link(fixture);
    made.key = signature_key_from_seed((const uint8_t[32]){9});
    made.bell = doorbell_create();
    made.finished = mailbox_create(made.bell);
    for (unsigned i = 0; i < 2; i++) {
        made.seen.bytes[i] = malloc(sizes[i]);
        made.seen.known[i] = calloc(1, sizes[i]);
    }
    assert_int_equal(ledger_open(made.state.path, &made.ledger), STATUS_OK);
    assert_int_equal(pipeline_create(&made.config, made.key, made.ledger, NULL, made.finished, &made.pipeline),
                     STATUS_OK);
    *state = fixture;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;
    struct mailbox_entry *left;
    transfer_destroy(fixture->fresh);
    pipeline_stop(fixture->pipeline);
    pipeline_destroy(fixture->pipeline);
    while ((left = mailbox_take(fixture->finished)) != NULL)
        transfer_destroy((struct transfer *)left);
    mailbox_destroy(fixture->finished);
    doorbell_destroy(fixture->bell);
    ledger_close(fixture->ledger);
    signature_key_destroy(fixture->key);
    for (unsigned i = 0; i < BLOCKS; i++)
        free(fixture->blocks[i].payload);
    for (unsigned i = 0; i < 2; i++) {
        free(fixture->seen.bytes[i]);
        free(fixture->seen.known[i]);
    }
    close(fixture->fd);
    scratch_close(&fixture->items);
    scratch_close(&fixture->state);
    return 0;
}

/* The other end of the link. */

static void take_heartbeat(struct fixture *fixture, const struct frame *frame)
{
    const uint8_t *bytes;
    uint32_t size;
    struct signed_message message;
    assert_true(frame_parse_signed(frame, &bytes, &size));
    assert_int_equal(signed_decode(bytes, size, LIMIT_MESSAGE_SIZE, &message), STATUS_OK);
    assert_int_equal(message_decode_heartbeat(message.body, message.body_size, &fixture->seen.beat), STATUS_OK);
    signed_message_deinit(&message);
}

static void take_data(struct fixture *fixture, const struct frame *frame)
{
    struct frame_data data;
    assert_true(frame_parse_data(frame, &data));
    if (memcmp(frame->transfer_id, fixture->other, TRANSFER_ID_SIZE) == 0)
        return;
    assert_true(data.artifact < 2 && data.artifact_size == sizes[data.artifact]);
    memcpy(fixture->seen.bytes[data.artifact] + data.offset, data.bytes, data.size);
    memset(fixture->seen.known[data.artifact] + data.offset, 1, data.size);
    fixture->seen.data += data.size;
}

static void take_payload(struct fixture *fixture, const uint8_t *payload, size_t size, uint64_t repeat_of)
{
    struct seen *seen = &fixture->seen;
    struct frame frame;
    struct frame_manifest part;
    size_t position = 0;
    bool any = false;
    while (frame_next(payload, size, &position, &frame) == FRAME_OK) {
        if (frame.type == FRAME_HEARTBEAT) {
            take_heartbeat(fixture, &frame);
            seen->mixed |= repeat_of != 0;
            continue;
        }
        any = true;
        seen->mixed |= repeat_of != 0 && memcmp(frame.transfer_id, fixture->id, TRANSFER_ID_SIZE) != 0;
        seen->announces += frame.type == FRAME_ANNOUNCE;
        if (frame.type == FRAME_DATA)
            take_data(fixture, &frame);
        if (frame.type == FRAME_MANIFEST && frame_parse_manifest(&frame, &part)) {
            seen->copies += part.offset == 0;
            seen->manifest_bytes += part.size;
        }
    }
    seen->repeats += any && repeat_of != 0;
    seen->fresh += any && repeat_of == 0;
    if (repeat_of != 0)
        seen->repeat_of = repeat_of;
}

static bool is_whole(const struct seen_block *block, unsigned k)
{
    for (unsigned i = 0; i < k; i++)
        if ((block->got[i / 64] >> i % 64 & 1) == 0)
            return false;
    return true;
}

static void take_datagram(struct fixture *fixture, uint8_t *bytes, size_t size)
{
    struct datagram datagram;
    assert_int_equal(datagram_parse(bytes, size, &datagram), DATAGRAM_OK);
    assert_int_equal(datagram_open(bytes, &datagram, NULL), DATAGRAM_OK);
    assert_true(datagram.sbn < BLOCKS);
    struct seen_block *block = &fixture->blocks[datagram.sbn];
    if (datagram.esi >= datagram.source_symbols || block->parsed)
        return;
    size_t payload_size = (size_t)datagram.source_symbols * datagram.symbol_size;
    if (block->payload == NULL)
        block->payload = malloc(payload_size);
    memcpy(block->payload + (size_t)datagram.esi * datagram.symbol_size, bytes + DATAGRAM_HEADER_SIZE,
           datagram.symbol_size);
    block->got[datagram.esi / 64] |= UINT64_C(1) << datagram.esi % 64;
    if (!is_whole(block, datagram.source_symbols))
        return;
    assert_int_equal(block_hash_of(block->payload, datagram.source_symbols, datagram.symbol_size), datagram.block_hash);
    block->parsed = true;
    take_payload(fixture, block->payload, payload_size, datagram.repeat_of);
    free(block->payload);
    block->payload = NULL;
}

static void drain(struct fixture *fixture)
{
    uint8_t bytes[DATAGRAM_HEADER_SIZE + LIMIT_SYMBOL_SIZE];
    ssize_t size;
    while ((size = recv(fixture->fd, bytes, sizeof bytes, 0)) >= 0)
        take_datagram(fixture, bytes, (size_t)size);
    assert_int_equal(errno, EAGAIN);
}

static void forget(struct fixture *fixture)
{
    struct seen *seen = &fixture->seen;
    for (unsigned i = 0; i < 2; i++)
        memset(seen->known[i], 0, sizes[i]);
    *seen = (struct seen){.bytes = {seen->bytes[0], seen->bytes[1]}, .known = {seen->known[0], seen->known[1]}};
}

/* Takes what the link brings until `is_reached`, or false after `limit_ns` without any of it. */
static bool watch(struct fixture *fixture, bool (*is_reached)(struct fixture *fixture), uint64_t limit_ns)
{
    uint64_t start_ns = clock_monotonic_ns();
    while (!is_reached(fixture)) {
        struct pollfd fds[] = {{.fd = fixture->fd, .events = POLLIN},
                               {.fd = doorbell_fd(fixture->bell), .events = POLLIN}};
        if (clock_monotonic_ns() - start_ns > PATIENCE_NS)
            return false;
        doorbell_arm(fixture->bell);
        if (!is_reached(fixture) && poll(fds, 2, (int)(limit_ns / 1000000)) == 0) {
            doorbell_disarm(fixture->bell);
            return false;
        }
        doorbell_disarm(fixture->bell);
        drain(fixture);
    }
    return true;
}

#endif
