// SPDX-License-Identifier: Apache-2.0
#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#include "proto/datagram.h"
#include "proto/wire.h"

/*
 * An attacker on the link: records what a sender sends through an interface of this network namespace, and floods its
 * peer. Each kind of datagram for a while, then all together until it is told to end; then it writes how many of each
 * it has sent into a file.
 */

enum kind { RANDOM, TRUNCATED, FLIPPED, RECORDED, FORGED, KINDS };
enum { LARGEST = 1472, MEMORY = 4096, BEGIN_WITH = 100, BATCH = 32, AT_EPOCH = 16, AT_SEQUENCE = 32, AT_SBN = 40 };

static const char *const names[KINDS] = {"random", "truncated", "flipped", "recorded", "forged"};

struct recording {
    size_t size;
    uint8_t bytes[LARGEST];
};

static struct recording recordings[MEMORY]; /* a ring */
static size_t recorded;
static uint64_t sent[KINDS];
static volatile sig_atomic_t over;
static uint64_t chance = 88172645463325252U;

static void end(int signal)
{
    (void)signal;
    over = 1;
}

static void fail(const char *what)
{
    fprintf(stderr, "flood: %s: %s\n", what, strerror(errno));
    exit(EX_OSERR);
}

static uint64_t draw(void)
{
    chance ^= chance << 13;
    chance ^= chance >> 7;
    chance ^= chance << 17;
    return chance;
}

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* Sees UDP datagrams to the port that are not our own, from their IPv4 header on. What leaves is only shown to those
 * who want all protocols. */
static int open_recorder(const char *interface, uint16_t port, uint16_t own_port)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 0), /* version 4, no options */
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0x45, 0, 4),
        BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 20),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, own_port, 2, 0),
        BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 22),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, port, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, 0),
        BPF_STMT(BPF_RET | BPF_K, 65535),
    };
    struct sock_fprog program = {.len = sizeof code / sizeof *code, .filter = code};
    struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL)};
    address.sll_ifindex = (int)if_nametoindex(interface);
    int fd = socket(AF_PACKET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) != 0 ||
        bind(fd, (struct sockaddr *)&address, sizeof address) != 0)
        fail(interface);
    return fd;
}

static void record(int fd)
{
    uint8_t packet[2048];
    ssize_t size;
    while ((size = recv(fd, packet, sizeof packet, 0)) > 0) {
        size_t header = 4 * (size_t)(packet[0] & 0xf) + 8;
        if ((size_t)size <= header || (size_t)size - header > LARGEST)
            continue;
        struct recording *place = &recordings[recorded++ % MEMORY];
        place->size = (size_t)size - header;
        memcpy(place->bytes, packet + header, place->size);
    }
}

static void fill(uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i < size; i += sizeof(uint64_t)) {
        uint64_t word = draw();
        memcpy(bytes + i, &word, size - i < sizeof word ? size - i : sizeof word);
    }
}

static size_t make(enum kind kind, uint8_t bytes[static LARGEST])
{
    size_t held = recorded < MEMORY ? recorded : MEMORY;
    const struct recording *model = &recordings[draw() % held];
    size_t size = model->size;
    memcpy(bytes, model->bytes, size);
    switch (kind) {
    case RANDOM:
        size = 1 + draw() % LARGEST;
        fill(bytes, size);
        break;
    case TRUNCATED:
        size = 1 + draw() % (size - 1);
        break;
    case FLIPPED:
        for (uint64_t bits = 1 + draw() % 8; bits > 0; bits--)
            bytes[draw() % size] ^= (uint8_t)(1 << draw() % 8);
        if (memcmp(bytes, model->bytes, size) == 0) /* the same bit twice */
            bytes[draw() % size] ^= 1;
        break;
    case FORGED: /* a header as the sender's next ones, or as that of its next run; what follows it is anything */
        put64(bytes + AT_SEQUENCE, get64(bytes + AT_SEQUENCE) + draw() % 100000);
        put64(bytes + AT_SBN, get64(bytes + AT_SBN) + draw() % 1000 * (draw() % 2));
        if (draw() % 4 == 0)
            put64(bytes + AT_EPOCH, get64(bytes + AT_EPOCH) + (UINT64_C(1) << 32));
        fill(bytes + DATAGRAM_AUTHENTICATED_SIZE, size - DATAGRAM_AUTHENTICATED_SIZE);
        break;
    default:
        break;
    }
    return size;
}

static void send_batch(int fd, enum kind kind)
{
    static uint8_t bytes[BATCH][LARGEST];
    struct mmsghdr messages[BATCH];
    struct iovec vectors[BATCH];
    enum kind kinds[BATCH];
    memset(messages, 0, sizeof messages);
    for (unsigned i = 0; i < BATCH; i++) {
        kinds[i] = kind == KINDS ? (enum kind)(draw() % KINDS) : kind;
        vectors[i] = (struct iovec){.iov_base = bytes[i], .iov_len = make(kinds[i], bytes[i])};
        messages[i].msg_hdr = (struct msghdr){.msg_iov = &vectors[i], .msg_iovlen = 1};
    }
    int count = sendmmsg(fd, messages, BATCH, 0);
    if (count < 0 && errno != ENOBUFS && errno != EAGAIN && errno != EINTR)
        fail("sending");
    for (int i = 0; i < count; i++)
        sent[kinds[i]]++;
}

static void wait_until(uint64_t until_ns)
{
    struct timespec until = {.tv_sec = (time_t)(until_ns / 1000000000), .tv_nsec = (long)(until_ns % 1000000000)};
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
}

static void flood(int fd, int recorder, uint64_t rate, uint64_t each_ns)
{
    uint64_t begun_ns = now_ns();
    uint64_t next_ns = begun_ns;
    while (!over) {
        uint64_t turn = (now_ns() - begun_ns) / each_ns;
        record(recorder);
        send_batch(fd, turn < KINDS ? (enum kind)turn : KINDS);
        next_ns += BATCH * UINT64_C(1000000000) / rate;
        wait_until(next_ns);
    }
}

int main(int argc, char **argv)
{
    if (argc != 7) {
        fprintf(stderr, "usage: flood INTERFACE ADDRESS PORT DATAGRAMS_PER_SECOND MILLISECONDS_OF_EACH_KIND RESULT\n");
        return EX_USAGE;
    }
    uint16_t port = (uint16_t)strtoul(argv[3], NULL, 10);
    struct sockaddr_in peer = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct sockaddr_in own;
    socklen_t own_size = sizeof own;
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    if (fd < 0 || inet_pton(AF_INET, argv[2], &peer.sin_addr) != 1 ||
        connect(fd, (struct sockaddr *)&peer, sizeof peer) != 0 ||
        getsockname(fd, (struct sockaddr *)&own, &own_size) != 0)
        fail(argv[2]);
    signal(SIGTERM, end);
    int recorder = open_recorder(argv[1], port, ntohs(own.sin_port));
    while (recorded < BEGIN_WITH && !over) {
        wait_until(now_ns() + 1000000);
        record(recorder);
    }
    if (!over)
        flood(fd, recorder, strtoull(argv[4], NULL, 10), strtoull(argv[5], NULL, 10) * 1000000);
    FILE *file = fopen(argv[6], "w");
    if (file == NULL)
        fail(argv[6]);
    fprintf(file, "{");
    for (unsigned i = 0; i < KINDS; i++)
        fprintf(file, "%s\"%s\": %llu", i > 0 ? ", " : "", names[i], (unsigned long long)sent[i]);
    fprintf(file, "}\n");
    if (fclose(file) != 0)
        fail(argv[6]);
    return EX_OK;
}
