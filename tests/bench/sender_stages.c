// SPDX-License-Identifier: Apache-2.0
/*
 * The sender's stages, each alone and in one thread, on the daemon's own modules:
 *
 *     read -m MTU -f FILE                              io_uring reads into blocks, SHA-256, XXH3-128 of each chunk
 *     encode -m MTU -b BYTES                           repair symbols and hashes of blocks that were long not touched
 *     send -m MTU -b BYTES -a ADDRESS:PORT -r RATE     headers, tags, trains; "receiver_stages receive" takes them
 *
 * Prints one JSON line: the payload bytes, and the CPU seconds that this process has spent on them.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#include "common/checksum.h"
#include "common/clock.h"
#include "common/digest.h"
#include "common/fec.h"
#include "common/ring.h"
#include "common/slab.h"
#include "common/units.h"
#include "proto/datagram.h"
#include "sender/block.h"
#include "sender/encode.h"
#include "sender/fetch.h"
#include "sender/interleave.h"
#include "sender/train.h"
#include "tests/bench/stages.h"

enum { RING_ENTRIES = 64, RING_COMPLETIONS = 256, SEND_BUFFER = 4 << 20 };

struct hashes {
    struct digest *digest;
    struct checksum *checksum;
};

/* As the read stage does: what has landed is hashed in order, chunk by chunk. */
static void take_pieces(struct fetch *fetch, struct hashes *hashes, const char *file)
{
    uint8_t chunk_hash[CHECKSUM128_SIZE];
    for (const struct fetch_piece *piece; (piece = fetch_land(fetch)) != NULL; fetch_release(fetch)) {
        if (piece->error != 0) {
            fprintf(stderr, "sender_stages: %s can't be read: %s\n", file, strerror(piece->error));
            exit(EX_IOERR);
        }
        digest_update(hashes->digest, piece->place, piece->size);
        checksum_update(hashes->checksum, piece->place, piece->size);
        if ((piece->offset + piece->size) % CHUNK_SIZE != 0)
            continue;
        checksum_final(hashes->checksum, chunk_hash);
        checksum_reset(hashes->checksum);
    }
}

static void run_read(const struct stages_options *options)
{
    assert(options->file != NULL);
    struct fetch *fetch;
    struct slab *slab;
    struct doorbell *bell = doorbell_create();
    struct hashes hashes = {.digest = digest_create(), .checksum = checksum_create()};
    struct stat meta;
    uint8_t sum[DIGEST_SIZE];
    int fd = open(options->file, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &meta) != 0 || bell == NULL || fetch_create(bell, NULL, 0, &fetch) != STATUS_OK ||
        slab_create(stages_block_size(options), STAGES_BLOCKS, &slab) != STATUS_OK)
        stages_fail(options->file);
    uint8_t *blocks[STAGES_BLOCKS];
    for (unsigned i = 0; i < STAGES_BLOCKS; i++)
        blocks[i] = slab_take(slab);
    size_t payload = (size_t)STAGES_SOURCE * options->symbol_size;
    uint64_t size = (uint64_t)meta.st_size, planned = 0;
    unsigned next = 0;
    double start = stages_cpu_seconds();
    while (planned < size || !fetch_is_empty(fetch)) {
        while (planned < size && fetch_has_room(fetch, false)) {
            uint64_t left = size - planned, chunk_left = CHUNK_SIZE - planned % CHUNK_SIZE;
            if (left > chunk_left)
                left = chunk_left;
            struct fetch_piece piece = {.place = blocks[next++ % STAGES_BLOCKS],
                                        .offset = planned,
                                        .size = (uint32_t)(left < payload ? left : payload),
                                        .fd = fd};
            fetch_start(fetch, &piece);
            planned += piece.size;
        }
        fetch_submit(fetch);
        take_pieces(fetch, &hashes, options->file);
        if (!fetch_is_empty(fetch))
            fetch_wait(fetch, clock_monotonic_ns(), UINT64_MAX);
    }
    stages_report("read and hash", size, stages_cpu_seconds() - start);
    digest_final(hashes.digest, sum);
    digest_destroy(hashes.digest);
    checksum_destroy(hashes.checksum);
    fetch_destroy(fetch);
    slab_destroy(slab);
    doorbell_destroy(bell);
    close(fd);
}

static void fill_blocks(const struct stages_options *options, struct slab *slab, struct block blocks[STAGES_BLOCKS])
{
    for (unsigned i = 0; i < STAGES_BLOCKS; i++) {
        blocks[i] = (struct block){.symbols = slab_take(slab),
                                   .source_symbols = STAGES_SOURCE,
                                   .repair_symbols = STAGES_REPAIR,
                                   .symbol_size = options->symbol_size};
        stages_fill(blocks[i].symbols, stages_block_size(options), i);
    }
}

static void run_encode(const struct stages_options *options)
{
    struct slab *slab;
    if (slab_create(stages_block_size(options), STAGES_BLOCKS, &slab) != STATUS_OK)
        stages_fail("memory");
    struct fec_cache *codes = fec_cache_create();
    struct block blocks[STAGES_BLOCKS];
    fill_blocks(options, slab, blocks);
    size_t payload = (size_t)STAGES_SOURCE * options->symbol_size;
    uint64_t done = 0;
    double start = stages_cpu_seconds();
    for (unsigned i = 0; done < options->bytes; i++, done += payload)
        encode_block(codes, &blocks[i % STAGES_BLOCKS]);
    stages_report("encode", done, stages_cpu_seconds() - start);
    fec_cache_destroy(codes);
    slab_destroy(slab);
}

struct sending {
    const struct stages_options *options;
    struct io_uring ring;
    struct train_yard *yard;
    uint64_t datagram_bits, next_ns, sequence;
    unsigned under_way;
};

static void reap(struct sending *sending)
{
    struct io_uring_cqe *cqe;
    while (io_uring_peek_cqe(&sending->ring, &cqe) == 0) {
        uint64_t user_data = io_uring_cqe_get_data64(cqe);
        int result = cqe->res;
        io_uring_cqe_seen(&sending->ring, cqe);
        train_completed(sending->yard, user_data, result, clock_monotonic_ns());
    }
    train_retry(sending->yard, clock_monotonic_ns());
}

static void sleep_until(uint64_t time_ns)
{
    struct timespec until = {.tv_sec = (time_t)(time_ns / CLOCK_SECOND_NS),
                             .tv_nsec = (long)(time_ns % CLOCK_SECOND_NS)};
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
}

/* One group of blocks, column by column, in the longest trains. */
static void send_group(struct sending *sending, const struct block blocks[STAGES_BLOCKS], uint64_t first_sbn)
{
    const struct stages_options *options = sending->options;
    struct interleave order;
    uint8_t totals[STAGES_BLOCKS], esi;
    uint16_t index;
    memset(totals, STAGES_SOURCE + STAGES_REPAIR, sizeof totals);
    interleave_start(&order, totals, STAGES_BLOCKS);
    unsigned limit = train_limit(options->symbol_size);
    while (!interleave_is_done(&order)) {
        while (!train_begin(sending->yard, options->symbol_size, false, &sending->under_way)) {
            ring_wait(&sending->ring, clock_monotonic_ns(), UINT64_MAX);
            reap(sending);
        }
        unsigned count = 0;
        for (; count < limit && interleave_next(&order, &index, &esi); count++) {
            struct datagram datagram = {.source_symbols = STAGES_SOURCE,
                                        .repair_symbols = STAGES_REPAIR,
                                        .esi = esi,
                                        .symbol_size = options->symbol_size,
                                        .sender_id = STAGES_SENDER_ID,
                                        .depth = STAGES_BLOCKS,
                                        .group_index = index,
                                        .epoch = STAGES_EPOCH,
                                        .sequence = sending->sequence++,
                                        .sbn = first_sbn + index,
                                        .block_hash = blocks[index].block_hash,
                                        .symbol_hash = blocks[index].symbol_hashes[esi]};
            train_add(sending->yard, &datagram, blocks[index].symbols + (size_t)esi * options->symbol_size);
        }
        sleep_until(sending->next_ns);
        sending->next_ns += count * sending->datagram_bits * CLOCK_SECOND_NS / options->rate_bits_per_s;
        train_go(sending->yard);
        reap(sending);
    }
}

static void run_send(const struct stages_options *options)
{
    struct sending sending = {.options = options};
    struct slab *slab;
    int fd;
    if (socket_open_sender(&options->address, SEND_BUFFER, &fd) != STATUS_OK ||
        ring_open(RING_ENTRIES, RING_COMPLETIONS, RING_SENDS, &sending.ring) != STATUS_OK ||
        slab_create(stages_block_size(options), STAGES_BLOCKS, &slab) != STATUS_OK)
        stages_fail("sending");
    prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL);
    struct block blocks[STAGES_BLOCKS];
    struct fec_cache *codes = fec_cache_create();
    fill_blocks(options, slab, blocks);
    for (unsigned i = 0; i < STAGES_BLOCKS; i++)
        encode_block(codes, &blocks[i]);
    fec_cache_destroy(codes);
    sending.yard = train_create(&sending.ring, fd, &options->address, NULL);
    sending.datagram_bits = datagram_wire_bits(options->symbol_size, socket_address_is_ipv6(&options->address));
    sending.next_ns = clock_monotonic_ns();
    size_t payload = (size_t)STAGES_SOURCE * options->symbol_size;
    uint64_t done = 0;
    double start = stages_cpu_seconds();
    for (uint64_t sbn = 0; done < options->bytes; sbn += STAGES_BLOCKS, done += STAGES_BLOCKS * payload)
        send_group(&sending, blocks, sbn);
    while (sending.under_way > 0) {
        ring_wait(&sending.ring, clock_monotonic_ns(), UINT64_MAX);
        reap(&sending);
    }
    stages_report("send", done, stages_cpu_seconds() - start);
    train_destroy(sending.yard);
    ring_close(&sending.ring);
    slab_destroy(slab);
    close(fd);
}

int main(int argc, char **argv)
{
    struct stages_options options;
    if (!stages_parse(argc, argv, &options)) {
        fprintf(stderr,
                "usage: sender_stages read|encode|send -m MTU [-f FILE] [-b BYTES] [-a ADDRESS:PORT] [-r RATE]\n");
        return EX_USAGE;
    }
    if (strcmp(options.stage, "read") == 0)
        run_read(&options);
    else if (strcmp(options.stage, "encode") == 0)
        run_encode(&options);
    else if (strcmp(options.stage, "send") == 0)
        run_send(&options);
    else
        return EX_USAGE;
    return EX_OK;
}
