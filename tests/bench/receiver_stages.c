// SPDX-License-Identifier: Apache-2.0
/*
 * The receiver's stages, each alone and in one thread, on the daemon's own modules:
 *
 *     receive -m MTU -b BYTES -a ADDRESS:PORT    GRO buffers, tags, gathering into blocks, of "sender_stages send"
 *     decode -m MTU -b BYTES -e MISSING          repair of MISSING source symbols a block, and their hashes
 *     store -m MTU -b BYTES -f FILE              SHA-256, XXH3-128 of each chunk, io_uring writes
 *
 * Prints one JSON line: the payload bytes, and the CPU seconds that this process has spent on them; "receive" another
 * one when it listens. All but it work on blocks that were long not touched.
 */
#include <assert.h>
#include <fcntl.h>
#include <netinet/udp.h>
#include <poll.h>
#include <unistd.h>

#include "common/checksum.h"
#include "common/clock.h"
#include "common/digest.h"
#include "common/fec.h"
#include "common/ring.h"
#include "common/slab.h"
#include "receiver/block.h"
#include "receiver/decode.h"
#include "receiver/gather.h"
#include "tests/bench/stages.h"
#include "tests/datagrams.h"

enum { GRO_BUFFER = 1 << 16, SOCKET_BUFFER = 64 << 20, ARENA_BLOCKS = 4 * STAGES_BLOCKS, WRITES = 8 };

struct receiving {
    struct gather *gather;
    uint64_t datagrams, bytes;
    size_t payload;
};

static void take_datagram(struct receiving *receiving, uint8_t *bytes, size_t size, uint64_t now_ns)
{
    struct datagram datagram;
    receiving->datagrams++;
    if (datagram_parse(bytes, size, &datagram) != DATAGRAM_OK || datagram.sender_id != STAGES_SENDER_ID)
        return;
    gather_expect(receiving->gather, &datagram);
    if (datagram_open(bytes, &datagram, NULL) == DATAGRAM_OK)
        (void)gather_push(receiving->gather, &datagram, bytes + DATAGRAM_HEADER_SIZE, now_ns);
}

static void take_blocks(struct receiving *receiving, uint64_t now_ns)
{
    for (struct block *block; (block = gather_pop(receiving->gather, now_ns)) != NULL;) {
        receiving->bytes += receiving->payload;
        gather_return(receiving->gather, block);
    }
}

static size_t segment_size(struct msghdr *message, size_t received)
{
    for (struct cmsghdr *header = CMSG_FIRSTHDR(message); header != NULL; header = CMSG_NXTHDR(message, header)) {
        int size = 0;
        if (header->cmsg_level != SOL_UDP || header->cmsg_type != UDP_GRO)
            continue;
        memcpy(&size, CMSG_DATA(header), sizeof size);
        return size > 0 ? (size_t)size : received;
    }
    return received;
}

static bool take_buffer(struct receiving *receiving, int fd, uint8_t *buffer)
{
    char control[128];
    struct iovec vector = {.iov_base = buffer, .iov_len = GRO_BUFFER};
    struct msghdr message = {
        .msg_iov = &vector, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    ssize_t got = recvmsg(fd, &message, MSG_DONTWAIT);
    if (got <= 0)
        return false;
    uint64_t now_ns = clock_monotonic_ns();
    size_t size = segment_size(&message, (size_t)got);
    for (size_t at = 0; at < (size_t)got; at += size)
        take_datagram(receiving, buffer + at, (size_t)got - at < size ? (size_t)got - at : size, now_ns);
    take_blocks(receiving, now_ns);
    return true;
}

/* Until as many blocks have come as the sender makes, or a second of silence: what is lost shows in the bytes. */
static void run_receive(const struct stages_options *options)
{
    struct receiving receiving = {.payload = (size_t)STAGES_SOURCE * options->symbol_size};
    size_t group = STAGES_BLOCKS * receiving.payload, arena_size = ARENA_BLOCKS * stages_block_size(options);
    uint64_t wanted = (options->bytes + group - 1) / group * group;
    struct slab *slab;
    uint32_t granted;
    int fd;
    if (socket_open_receiver(&options->address, SOCKET_BUFFER, &fd, &granted) != STATUS_OK ||
        slab_create(arena_size, 1, &slab) != STATUS_OK)
        stages_fail("receiving");
    receiving.gather = gather_create(STAGES_SENDER_ID, 0, STAGES_EPOCH, slab_take(slab), arena_size);
    uint8_t *buffer = malloc(GRO_BUFFER);
    assert(receiving.gather != NULL && buffer != NULL);
    stages_report("ready", 0, 0);
    struct pollfd watch = {.fd = fd, .events = POLLIN};
    double start = stages_cpu_seconds();
    while (receiving.bytes < wanted && poll(&watch, 1, receiving.datagrams == 0 ? 20000 : 1000) > 0)
        while (take_buffer(&receiving, fd, buffer))
            continue;
    stages_report("receive", receiving.bytes, stages_cpu_seconds() - start);
    gather_finish(receiving.gather);
    take_blocks(&receiving, clock_monotonic_ns());
    gather_destroy(receiving.gather);
    free(buffer);
    slab_destroy(slab);
    close(fd);
}

static void make_repair(struct fec_cache *codes, const struct block *block)
{
    const uint8_t *source[STAGES_SOURCE];
    uint8_t *repair[STAGES_REPAIR];
    for (size_t i = 0; i < STAGES_SOURCE; i++)
        source[i] = block->symbols + i * block->symbol_size;
    for (size_t i = 0; i < STAGES_REPAIR; i++)
        repair[i] = block->symbols + (STAGES_SOURCE + i) * block->symbol_size;
    fec_encode(fec_cache_get(codes, STAGES_SOURCE, STAGES_REPAIR), block->symbol_size, source, repair);
}

static void run_decode(const struct stages_options *options)
{
    struct slab *slab;
    struct fec_cache *codes = fec_cache_create();
    struct block blocks[STAGES_BLOCKS];
    if (slab_create(stages_block_size(options), STAGES_BLOCKS, &slab) != STATUS_OK)
        stages_fail("memory");
    size_t payload = (size_t)STAGES_SOURCE * options->symbol_size, missing = (size_t)options->missing;
    uint64_t done = 0;
    double spent = 0;
    while (done < options->bytes) {
        /* A repair uses up the repair symbols, so that each block is made anew, which is not counted. */
        for (unsigned i = 0; i < STAGES_BLOCKS; i++) {
            struct block *block = &blocks[i];
            uint8_t *symbols = done == 0 ? slab_take(slab) : block->symbols;
            if (done == 0)
                stages_fill(symbols, payload, i);
            *block = (struct block){.source_symbols = STAGES_SOURCE,
                                    .repair_symbols = STAGES_REPAIR,
                                    .symbol_size = options->symbol_size,
                                    .received = STAGES_SOURCE,
                                    .received_source = (uint8_t)(STAGES_SOURCE - missing),
                                    .symbols = symbols};
            make_repair(codes, block);
            block->block_hash = block_hash_of(symbols, STAGES_SOURCE, options->symbol_size);
            memset(block->present, true, STAGES_SOURCE + missing);
            for (size_t lost = 0; lost < missing; lost++)
                block->present[lost * STAGES_SOURCE / (missing + 1)] = false;
            block->hash_sum = hash_sum_of(symbols, block->present, STAGES_SOURCE, options->symbol_size);
        }
        double start = stages_cpu_seconds();
        for (unsigned i = 0; i < STAGES_BLOCKS; i++, done += payload)
            if (decode_block(codes, &blocks[i]) != DECODE_REPAIRED)
                stages_fail("a block was not repaired");
        spent += stages_cpu_seconds() - start;
    }
    stages_report("decode", done, spent);
    fec_cache_destroy(codes);
    slab_destroy(slab);
}

static void await_write(struct io_uring *ring, unsigned *under_way)
{
    struct io_uring_cqe *cqe;
    ring_wait(ring, clock_monotonic_ns(), UINT64_MAX);
    while (io_uring_peek_cqe(ring, &cqe) == 0) {
        if (cqe->res <= 0) {
            errno = -cqe->res;
            stages_fail("writing");
        }
        io_uring_cqe_seen(ring, cqe);
        --*under_way;
    }
}

static void run_store(const struct stages_options *options)
{
    assert(options->file != NULL);
    struct io_uring ring;
    struct slab *slab;
    struct digest *digest = digest_create();
    struct checksum *checksum = checksum_create();
    uint8_t *blocks[STAGES_BLOCKS], sum[DIGEST_SIZE], chunk_hash[CHECKSUM128_SIZE];
    int fd = open(options->file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || ring_open(4 * WRITES, 8 * WRITES, RING_WRITES, &ring) != STATUS_OK ||
        slab_create(stages_block_size(options), STAGES_BLOCKS, &slab) != STATUS_OK)
        stages_fail(options->file);
    for (unsigned i = 0; i < STAGES_BLOCKS; i++)
        stages_fill(blocks[i] = slab_take(slab), stages_block_size(options), i);
    size_t payload = (size_t)STAGES_SOURCE * options->symbol_size;
    uint64_t done = 0;
    unsigned under_way = 0;
    double start = stages_cpu_seconds();
    for (unsigned i = 0; done < options->bytes; i++) {
        uint64_t chunk_left = CHUNK_SIZE - done % CHUNK_SIZE;
        size_t size = chunk_left < payload ? (size_t)chunk_left : payload;
        const uint8_t *bytes = blocks[i % STAGES_BLOCKS];
        digest_update(digest, bytes, size);
        checksum_update(checksum, bytes, size);
        if (size == chunk_left) {
            checksum_final(checksum, chunk_hash);
            checksum_reset(checksum);
        }
        const struct iovec part = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = size};
        io_uring_prep_writev(ring_sqe(&ring), fd, &part, 1, done);
        io_uring_submit(&ring);
        done += size;
        for (under_way++; under_way >= WRITES;)
            await_write(&ring, &under_way);
    }
    while (under_way > 0)
        await_write(&ring, &under_way);
    stages_report("store", done, stages_cpu_seconds() - start);
    digest_final(digest, sum);
    digest_destroy(digest);
    checksum_destroy(checksum);
    ring_close(&ring);
    slab_destroy(slab);
    close(fd);
}

int main(int argc, char **argv)
{
    struct stages_options options;
    if (!stages_parse(argc, argv, &options)) {
        fprintf(
            stderr,
            "usage: receiver_stages receive|decode|store -m MTU [-f FILE] [-b BYTES] [-a ADDRESS:PORT] [-e MISSING]\n");
        return EX_USAGE;
    }
    if (strcmp(options.stage, "receive") == 0)
        run_receive(&options);
    else if (strcmp(options.stage, "decode") == 0)
        run_decode(&options);
    else if (strcmp(options.stage, "store") == 0)
        run_store(&options);
    else
        return EX_USAGE;
    return EX_OK;
}
