// SPDX-License-Identifier: Apache-2.0
/*
 * The yardsticks that diodecast is measured against, one thread a side and nothing else to do:
 *
 *     bare raw  send|receive   GSO ))) GRO, the payload is never looked at; with -z the sender asks for zero-copy
 *     bare pair send|receive   read, SHA-256, RS 128+16, XXH3, GSO ))) GRO, XXH3, copy, SHA-256, write
 *
 * The pair has no names, no manifest, no interleaving, no state and repairs nothing: it does what the bytes cost and no
 * more. Both print one JSON line. The receiver stops at the end mark or after a second of silence.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <linux/errqueue.h>
#include <netinet/udp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#include "common/checksum.h"
#include "common/clock.h"
#include "common/digest.h"
#include "common/fec.h"
#include "common/socket.h"
#include "common/units.h"
#include "proto/datagram.h"

enum { SOURCE = 128, REPAIR = 16, SYMBOLS = SOURCE + REPAIR, HEADER = 16, TRAIN_BYTES = 65000, TRAIN_DATAGRAMS = 64 };
enum { RECEIVE_BUFFER = 64 << 20, GRO_BUFFER = 1 << 16, CONTROL_SIZE = 128 };
#define END_MARK UINT32_MAX

/* What leads each symbol: enough to place it, and its XXH3. */
struct lead {
    uint32_t block;
    uint32_t esi;
    uint64_t hash;
};
_Static_assert(sizeof(struct lead) == HEADER, "the lead has no padding");

struct options {
    bool raw, zero_copy;
    const char *file; /* pair: read or written; raw sends from memory */
    struct socket_address address;
    uint16_t symbol_size;
    uint64_t bytes; /* raw sender: how much to send */
    uint64_t rate_bits_per_s;
};

static void fail(const char *what)
{
    fprintf(stderr, "bare: %s: %s\n", what, strerror(errno));
    exit(EX_OSERR);
}

static double seconds_of(const struct timeval *time)
{
    return (double)time->tv_sec + (double)time->tv_usec / 1e6;
}

/* Not what getrusage() tells, which counts the time before exec too. */
static long peak_kib(void)
{
    char line[128];
    long kib = 0;
    FILE *status = fopen("/proc/self/status", "re");
    while (status != NULL && fgets(line, sizeof line, status) != NULL)
        if (sscanf(line, "VmHWM: %ld", &kib) == 1)
            break;
    if (status != NULL)
        fclose(status);
    return kib;
}

struct result {
    const char *side;
    uint64_t bytes, datagrams, damaged, wire_bytes;
    uint64_t copied; /* trains of a zero-copy sender that the kernel copied all the same */
    uint64_t first_ns, last_ns;
};

static void report(const struct result *result)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    printf("{\"side\": \"%s\", \"bytes\": %" PRIu64 ", \"datagrams\": %" PRIu64 ", \"damaged\": %" PRIu64
           ", \"wire_bytes\": %" PRIu64 ", \"copied\": %" PRIu64
           ", \"seconds\": %.6f, \"cpu_seconds\": %.6f, \"peak_kib\": %ld}\n",
           result->side, result->bytes, result->datagrams, result->damaged, result->wire_bytes, result->copied,
           (double)(result->last_ns - result->first_ns) / 1e9,
           seconds_of(&usage.ru_utime) + seconds_of(&usage.ru_stime), peak_kib());
    fflush(stdout);
}

/* One GSO train: datagrams of equal size, back to back in memory. */
struct train {
    int fd;
    const struct socket_address *peer;
    uint16_t datagram_size;
    uint64_t datagram_wire_bits, rate_bits_per_s;
    uint64_t next_ns;
    unsigned capacity;
    int flags;
    uint64_t copied;
};

/* What a zero-copy sender is told of trains that the kernel is done with. */
static void train_take_notices(struct train *train)
{
    char control[CONTROL_SIZE];
    struct msghdr message = {.msg_control = control, .msg_controllen = sizeof control};
    while (train->flags != 0 && recvmsg(train->fd, &message, MSG_ERRQUEUE | MSG_DONTWAIT) >= 0) {
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        if (header != NULL) {
            struct sock_extended_err notice;
            memcpy(&notice, CMSG_DATA(header), sizeof notice);
            if (notice.ee_origin == SO_EE_ORIGIN_ZEROCOPY && notice.ee_code == SO_EE_CODE_ZEROCOPY_COPIED)
                train->copied += notice.ee_data - notice.ee_info + 1;
        }
        message.msg_controllen = sizeof control;
    }
}

static void train_send(struct train *train, uint8_t *bytes, size_t count)
{
    if (train->rate_bits_per_s != 0) {
        struct timespec until = {.tv_sec = (time_t)(train->next_ns / CLOCK_SECOND_NS),
                                 .tv_nsec = (long)(train->next_ns % CLOCK_SECOND_NS)};
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
        train->next_ns += count * train->datagram_wire_bits * CLOCK_SECOND_NS / train->rate_bits_per_s;
    }
    struct iovec vector = {.iov_base = bytes, .iov_len = count * train->datagram_size};
    union {
        char bytes[CMSG_SPACE(sizeof(uint16_t))];
        struct cmsghdr align;
    } control = {0};
    struct sockaddr_storage peer = train->peer->storage;
    struct msghdr message = {.msg_name = &peer,
                             .msg_namelen = train->peer->size,
                             .msg_iov = &vector,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof control.bytes};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_UDP;
    header->cmsg_type = UDP_SEGMENT;
    header->cmsg_len = CMSG_LEN(sizeof(uint16_t));
    memcpy(CMSG_DATA(header), &train->datagram_size, sizeof train->datagram_size);
    while (sendmsg(train->fd, &message, train->flags) < 0) {
        if (errno != ENOBUFS && errno != EAGAIN && errno != EINTR)
            fail("sendmsg");
        train_take_notices(train);
    }
    train_take_notices(train);
}

static void train_send_all(struct train *train, uint8_t *bytes, size_t count)
{
    for (size_t sent = 0; sent < count; sent += train->capacity) {
        size_t part = count - sent < train->capacity ? count - sent : train->capacity;
        train_send(train, bytes + sent * train->datagram_size, part);
    }
}

/* Reads one block's worth into the symbols; the room behind the end of the file is zero. Returns the bytes read. */
static size_t fill_block(const struct options *options, int fd, uint8_t *datagrams, size_t stride)
{
    size_t total = 0;
    for (unsigned i = 0; i < SOURCE; i++) {
        uint8_t *symbol = datagrams + i * stride + HEADER;
        ssize_t got = fd < 0 ? options->symbol_size : read(fd, symbol, options->symbol_size);
        if (got < 0)
            fail(options->file);
        memset(symbol + got, 0, options->symbol_size - (size_t)got);
        total += (size_t)got;
    }
    return total;
}

static void encode_block(const struct options *options, struct fec *fec, struct digest *digest, uint32_t block,
                         uint8_t *datagrams, size_t stride, size_t used)
{
    const uint8_t *source[SOURCE];
    uint8_t *repair[REPAIR];
    for (unsigned i = 0; i < SOURCE; i++) {
        source[i] = datagrams + i * stride + HEADER;
        size_t left = used > (size_t)i * options->symbol_size ? used - (size_t)i * options->symbol_size : 0;
        digest_update(digest, source[i], left < options->symbol_size ? left : options->symbol_size);
    }
    for (unsigned i = 0; i < REPAIR; i++)
        repair[i] = datagrams + (SOURCE + i) * stride + HEADER;
    fec_encode(fec, options->symbol_size, source, repair);
    for (unsigned i = 0; i < SYMBOLS; i++) {
        uint8_t *datagram = datagrams + i * stride;
        struct lead lead = {.block = block, .esi = i, .hash = checksum64(datagram + HEADER, options->symbol_size)};
        memcpy(datagram, &lead, sizeof lead);
    }
}

static int run_sender(const struct options *options)
{
    struct train train = {.peer = &options->address,
                          .datagram_size = (uint16_t)(HEADER + options->symbol_size),
                          .rate_bits_per_s = options->rate_bits_per_s};
    bool ipv6 = socket_address_is_ipv6(&options->address);
    train.datagram_wire_bits = datagram_wire_bits(options->symbol_size, ipv6) - 8 * (DATAGRAM_HEADER_SIZE - HEADER);
    train.capacity = TRAIN_BYTES / train.datagram_size;
    if (train.capacity > TRAIN_DATAGRAMS)
        train.capacity = TRAIN_DATAGRAMS;
    if (socket_open_sender(&options->address, 4 << 20, &train.fd) != STATUS_OK)
        return EX_OSERR;
    if (options->zero_copy) {
        train.flags = MSG_ZEROCOPY;
        if (setsockopt(train.fd, SOL_SOCKET, SO_ZEROCOPY, &(int){1}, sizeof(int)) != 0)
            fail("SO_ZEROCOPY");
    }
    int fd = options->raw ? -1 : open(options->file, O_RDONLY | O_CLOEXEC);
    if (!options->raw && fd < 0)
        fail(options->file);

    size_t stride = train.datagram_size;
    uint8_t *datagrams = calloc(SYMBOLS, stride);
    struct fec *fec = fec_create(SOURCE, REPAIR);
    struct digest *digest = digest_create();
    uint64_t bytes = 0, sent = 0, start_ns = clock_monotonic_ns();
    prctl(PR_SET_TIMERSLACK, 1);
    train.next_ns = start_ns;
    for (uint32_t block = 0; options->raw ? bytes < options->bytes : true; block++) {
        size_t used = fill_block(options, fd, datagrams, stride);
        if (used == 0)
            break;
        if (!options->raw)
            encode_block(options, fec, digest, block, datagrams, stride, used);
        train_send_all(&train, datagrams, options->raw ? SOURCE : SYMBOLS);
        sent += options->raw ? SOURCE : SYMBOLS;
        bytes += used;
    }
    uint64_t end_ns = clock_monotonic_ns();
    struct lead end = {.block = END_MARK};
    memcpy(datagrams, &end, sizeof end);
    for (int copy = 0; copy < 8; copy++)
        train_send(&train, datagrams, 1);
    uint8_t sum[DIGEST_SIZE];
    digest_final(digest, sum);
    report(&(struct result){.side = "send",
                            .bytes = bytes,
                            .datagrams = sent,
                            .wire_bytes = sent * train.datagram_wire_bits / 8,
                            .copied = train.copied,
                            .first_ns = start_ns,
                            .last_ns = end_ns});
    digest_destroy(digest);
    fec_destroy(fec);
    free(datagrams);
    if (fd >= 0)
        close(fd);
    close(train.fd);
    return EX_OK;
}

struct sink {
    const struct options *options;
    int file;
    uint8_t *block; /* source symbols of the block that is arriving */
    uint32_t number;
    struct digest *digest;
    uint64_t bytes, datagrams, damaged, first_ns, last_ns;
    bool ended;
};

static void sink_flush(struct sink *sink)
{
    size_t size = (size_t)SOURCE * sink->options->symbol_size;
    digest_update(sink->digest, sink->block, size);
    if (pwrite(sink->file, sink->block, size, (off_t)(sink->number * size)) != (ssize_t)size)
        fail(sink->options->file);
}

static void sink_take(struct sink *sink, const uint8_t *datagram, size_t size)
{
    struct lead lead;
    if (size != (size_t)HEADER + sink->options->symbol_size)
        return;
    memcpy(&lead, datagram, sizeof lead);
    if (lead.block == END_MARK) {
        sink->ended = true;
        return;
    }
    sink->datagrams++;
    if (sink->options->raw) {
        sink->bytes += sink->options->symbol_size;
        return;
    }
    if (checksum64(datagram + HEADER, sink->options->symbol_size) != lead.hash) {
        sink->damaged++;
        return;
    }
    if (lead.block != sink->number) {
        sink_flush(sink);
        sink->number = lead.block;
    }
    if (lead.esi >= SOURCE)
        return;
    memcpy(sink->block + (size_t)lead.esi * sink->options->symbol_size, datagram + HEADER, sink->options->symbol_size);
    sink->bytes += sink->options->symbol_size;
}

static size_t segment_size(struct msghdr *message, size_t received)
{
    for (struct cmsghdr *header = CMSG_FIRSTHDR(message); header != NULL; header = CMSG_NXTHDR(message, header)) {
        if (header->cmsg_level == SOL_UDP && header->cmsg_type == UDP_GRO) {
            int size = 0;
            memcpy(&size, CMSG_DATA(header), sizeof size);
            return size > 0 ? (size_t)size : received;
        }
    }
    return received;
}

static int run_receiver(const struct options *options)
{
    struct sink sink = {.options = options, .file = -1, .digest = digest_create()};
    int fd = -1;
    uint32_t granted = 0;
    if (socket_open_receiver(&options->address, RECEIVE_BUFFER, &fd, &granted) != STATUS_OK)
        return EX_OSERR;
    if (!options->raw) {
        sink.file = open(options->file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        if (sink.file < 0)
            fail(options->file);
    }
    sink.block = calloc(SOURCE, options->symbol_size);
    uint8_t *buffer = malloc(GRO_BUFFER);
    printf("{\"side\": \"ready\"}\n");
    fflush(stdout);
    struct pollfd watch = {.fd = fd, .events = POLLIN};
    while (!sink.ended && poll(&watch, 1, sink.first_ns == 0 ? 20000 : 1000) > 0) {
        char control[CONTROL_SIZE];
        struct iovec vector = {.iov_base = buffer, .iov_len = GRO_BUFFER};
        struct msghdr message = {
            .msg_iov = &vector, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
        ssize_t got = recvmsg(fd, &message, 0);
        if (got <= 0)
            continue;
        if (sink.first_ns == 0)
            sink.first_ns = clock_monotonic_ns();
        size_t size = segment_size(&message, (size_t)got);
        for (size_t at = 0; at < (size_t)got; at += size)
            sink_take(&sink, buffer + at, (size_t)got - at < size ? (size_t)got - at : size);
    }
    if (!options->raw && sink.datagrams > 0)
        sink_flush(&sink);
    sink.last_ns = clock_monotonic_ns();
    uint8_t sum[DIGEST_SIZE];
    digest_final(sink.digest, sum);
    report(&(struct result){.side = "receive",
                            .bytes = sink.bytes,
                            .datagrams = sink.datagrams,
                            .damaged = sink.damaged,
                            .first_ns = sink.first_ns,
                            .last_ns = sink.last_ns});
    digest_destroy(sink.digest);
    free(sink.block);
    free(buffer);
    close(fd);
    if (sink.file >= 0)
        close(sink.file);
    return EX_OK;
}

static int usage(void)
{
    fprintf(stderr, "usage: bare raw|pair send|receive -a ADDRESS:PORT [-m MTU] [-f FILE] [-b BYTES] [-r RATE] [-z]\n");
    return EX_USAGE;
}

int main(int argc, char **argv)
{
    struct options options = {.bytes = UINT64_C(1) << 30};
    uint64_t mtu = 1500;
    const char *address = NULL;
    if (argc < 3)
        return usage();
    options.raw = strcmp(argv[1], "raw") == 0;
    bool sends = strcmp(argv[2], "send") == 0;
    optind = 3;
    for (int option; (option = getopt(argc, argv, "a:m:f:b:r:z")) != -1;) {
        bool good = true;
        if (option == 'a')
            address = optarg;
        else if (option == 'm')
            good = units_parse_size(optarg, &mtu);
        else if (option == 'f')
            options.file = optarg;
        else if (option == 'b')
            good = units_parse_size(optarg, &options.bytes);
        else if (option == 'r')
            good = units_parse_rate(optarg, &options.rate_bits_per_s);
        else if (option == 'z')
            options.zero_copy = options.raw;
        else
            good = false;
        if (!good)
            return usage();
    }
    if (address == NULL || !socket_address_parse(address, &options.address) || (!options.raw && options.file == NULL))
        return usage();
    options.symbol_size = datagram_symbol_size_for_mtu((uint32_t)mtu, socket_address_is_ipv6(&options.address));
    return sends ? run_sender(&options) : run_receiver(&options);
}
