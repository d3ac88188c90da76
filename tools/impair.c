// SPDX-License-Identifier: Apache-2.0

/*
 * diodecast-impair: a one-way UDP relay that does to datagrams what a bad link does, for tests and the demonstration.
 * What happens to the n-th datagram depends on the seed and n alone, so a run can be had again; only bursts go by time.
 * Trains (UDP_GRO) are taken apart for the decisions and what is left is put together again (UDP_SEGMENT).
 */

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <jansson.h>
#include <netinet/udp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/durable.h"
#include "common/log.h"
#include "common/socket.h"
#include "common/units.h"

enum {
    RECEIVE_BATCH = 16,  /* trains taken by one recvmmsg */
    TRAIN_SIZE = 65536,  /* the largest there can be */
    TRAIN_SEGMENTS = 64, /* UDP_MAX_SEGMENTS of kernels before 6.9 */
    TRAIN_BYTES = 65000, /* below the 65,507 of an IPv4 datagram */
    SEND_BATCH = 64,     /* messages given to one sendmmsg */
    PENDING = 1024,      /* datagrams that wait for the next sendmmsg */
    WINDOW_MAX = 4096,   /* datagrams by which one can be late */
    IDLE_FLUSH_MS = 20,  /* silence after which late datagrams are late enough */
    SOCKET_BUFFER = 64 << 20,
    CONTROL_SIZE = 256,
};

struct options {
    struct socket_address listen;
    struct socket_address forward;
    bool has_listen;
    bool has_forward;
    uint64_t seed;
    uint64_t drop; /* probabilities are in 2^-64 */
    uint64_t duplicate;
    uint64_t reorder;
    uint64_t corrupt;
    uint64_t reorder_window;
    uint64_t burst_every_ns;
    uint64_t burst_length_ns;
    const char *count_file;
};

struct counters {
    uint64_t received;
    uint64_t received_bytes;
    uint64_t forwarded;
    uint64_t dropped;
    uint64_t dropped_in_bursts;
    uint64_t duplicated;
    uint64_t reordered;
    uint64_t corrupted;
    uint64_t send_errors;
    uint64_t overflowed; /* by the kernel, for want of buffer space; trains, not datagrams */
};

/* A late datagram; waits in the bucket of the datagram behind which it goes out. */
struct late {
    struct late *next;
    size_t size;
    unsigned char bytes[];
};

struct pending {
    unsigned char *bytes;
    size_t size;
    struct late *late; /* freed after sending, or NULL */
};

struct relay {
    struct options options;
    struct counters counters;
    int in;
    int out;
    bool segmentation; /* UDP_SEGMENT works on this way out */
    int64_t start_ns;  /* CLOCK_REALTIME of the first datagram, where burst periods begin */
    uint64_t index;    /* of the next datagram */
    struct late **buckets;
    uint64_t late_count;
    size_t pending_count;
    struct pending pending[PENDING];
    unsigned char *trains;
};

/* Purposes of the draws for one datagram; each is independent of which others are in use. */
enum draw { DRAW_DROP = 1, DRAW_DUPLICATE, DRAW_REORDER, DRAW_DISTANCE, DRAW_CORRUPT, DRAW_BIT };

/* SplitMix64 (Steele, Lea, Flood 2014) as a counter-based generator. */
static uint64_t mix(uint64_t value)
{
    value += UINT64_C(0x9e3779b97f4a7c15);
    value = (value ^ (value >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    value = (value ^ (value >> 27)) * UINT64_C(0x94d049bb133111eb);
    return value ^ (value >> 31);
}

static uint64_t draw(const struct relay *relay, uint64_t index, enum draw purpose)
{
    return mix(mix(mix(relay->options.seed) ^ index) ^ (uint64_t)purpose);
}

static bool happens(const struct relay *relay, uint64_t index, enum draw purpose, uint64_t probability)
{
    return probability == UINT64_MAX || (probability > 0 && draw(relay, index, purpose) < probability);
}

/* One message of a sendmmsg: datagrams of one size, of which the last may be shorter. */
struct train {
    struct iovec vectors[TRAIN_SEGMENTS];
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(uint16_t))];
    } control;
    size_t datagrams;
};

static void set_segment_size(struct msghdr *message, struct train *train, size_t size)
{
    message->msg_control = train->control.bytes;
    message->msg_controllen = sizeof train->control.bytes;
    struct cmsghdr *header = CMSG_FIRSTHDR(message);
    header->cmsg_level = IPPROTO_UDP;
    header->cmsg_type = UDP_SEGMENT;
    header->cmsg_len = CMSG_LEN(sizeof(uint16_t));
    uint16_t segment = (uint16_t)size;
    memcpy(CMSG_DATA(header), &segment, sizeof segment);
}

/* Builds a train of the datagrams from `first` on; returns how many it holds. */
static size_t build_train(struct relay *relay, size_t first, struct msghdr *message, struct train *train)
{
    size_t size = relay->pending[first].size;
    size_t total = 0;
    size_t count = 0;
    size_t vectors = 0;
    size_t most = relay->segmentation && size > 0 ? TRAIN_SEGMENTS : 1;
    while (count < most && first + count < relay->pending_count) {
        const struct pending *next = &relay->pending[first + count];
        if (count > 0 && (next->size > size || next->size == 0 || total + next->size > TRAIN_BYTES))
            break;
        struct iovec *last = vectors > 0 ? &train->vectors[vectors - 1] : NULL;
        if (last != NULL && (unsigned char *)last->iov_base + last->iov_len == next->bytes)
            last->iov_len += next->size;
        else
            train->vectors[vectors++] = (struct iovec){.iov_base = next->bytes, .iov_len = next->size};
        total += next->size;
        count++;
        if (next->size < size)
            break;
    }
    memset(message, 0, sizeof *message);
    message->msg_name = &relay->options.forward.storage;
    message->msg_namelen = relay->options.forward.size;
    message->msg_iov = train->vectors;
    message->msg_iovlen = vectors;
    if (count > 1)
        set_segment_size(message, train, size);
    train->datagrams = count;
    return count;
}

/* Sends the pending datagrams from `first` on by one sendmmsg; returns how many are done with, sent or not. */
static size_t send_some(struct relay *relay, size_t first)
{
    static struct train trains[SEND_BATCH];
    static struct mmsghdr messages[SEND_BATCH];
    unsigned count = 0;
    for (size_t next = first; next < relay->pending_count && count < SEND_BATCH; count++)
        next += build_train(relay, next, &messages[count].msg_hdr, &trains[count]);
    int sent = sendmmsg(relay->out, messages, count, MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR)
        return 0;
    if (sent < 0 && trains[0].datagrams > 1 && (errno == EINVAL || errno == EMSGSIZE || errno == EIO)) {
        relay->segmentation = false; /* the interface can't: one by one from now on */
        return 0;
    }
    if (sent < 0) {
        relay->counters.send_errors += trains[0].datagrams;
        return trains[0].datagrams;
    }
    size_t done = 0;
    for (int i = 0; i < sent; i++)
        done += trains[i].datagrams;
    relay->counters.forwarded += done;
    return done;
}

static void flush(struct relay *relay)
{
    for (size_t done = 0; done < relay->pending_count;)
        done += send_some(relay, done);
    for (size_t i = 0; i < relay->pending_count; i++)
        free(relay->pending[i].late);
    relay->pending_count = 0;
}

static void forward(struct relay *relay, unsigned char *bytes, size_t size, struct late *late)
{
    if (relay->pending_count == PENDING)
        flush(relay);
    relay->pending[relay->pending_count++] = (struct pending){.bytes = bytes, .size = size, .late = late};
}

static void release_bucket(struct relay *relay, size_t bucket)
{
    struct late *late = relay->buckets[bucket];
    relay->buckets[bucket] = NULL;
    while (late != NULL) {
        struct late *next = late->next;
        relay->late_count--;
        forward(relay, late->bytes, late->size, late);
        late = next;
    }
}

/* In the order in which they were due. */
static void release_all(struct relay *relay)
{
    uint64_t size = relay->options.reorder_window + 1;
    for (uint64_t i = 0; i < size && relay->late_count > 0; i++)
        release_bucket(relay, (relay->index + i) % size);
}

static bool hold_back(struct relay *relay, uint64_t index, const unsigned char *bytes, size_t size)
{
    struct late *late = malloc(sizeof *late + size);
    if (late == NULL)
        return false;
    memcpy(late->bytes, bytes, size);
    late->size = size;
    uint64_t distance = 1 + draw(relay, index, DRAW_DISTANCE) % relay->options.reorder_window;
    struct late **bucket = &relay->buckets[(index + distance) % (relay->options.reorder_window + 1)];
    late->next = *bucket;
    *bucket = late;
    relay->late_count++;
    relay->counters.reordered++;
    return true;
}

static bool in_burst(struct relay *relay, int64_t arrival_ns)
{
    if (relay->options.burst_length_ns == 0)
        return false;
    if (relay->start_ns == 0)
        relay->start_ns = arrival_ns;
    /* The first burst is at the end of the first period, so that a start is not always hit. */
    uint64_t since_ns = arrival_ns > relay->start_ns ? (uint64_t)(arrival_ns - relay->start_ns) : 0;
    return since_ns % relay->options.burst_every_ns >= relay->options.burst_every_ns - relay->options.burst_length_ns;
}

static void relay_datagram(struct relay *relay, unsigned char *bytes, size_t size, int64_t arrival_ns)
{
    const struct options *options = &relay->options;
    struct counters *counters = &relay->counters;
    uint64_t index = relay->index++;
    counters->received++;
    counters->received_bytes += size;
    if (in_burst(relay, arrival_ns)) {
        counters->dropped_in_bursts++;
    } else if (happens(relay, index, DRAW_DROP, options->drop)) {
        counters->dropped++;
    } else {
        if (size > 0 && happens(relay, index, DRAW_CORRUPT, options->corrupt)) {
            uint64_t bit = draw(relay, index, DRAW_BIT) % (size * 8);
            bytes[bit / 8] = (unsigned char)(bytes[bit / 8] ^ (1U << (bit % 8)));
            counters->corrupted++;
        }
        if (happens(relay, index, DRAW_DUPLICATE, options->duplicate)) {
            forward(relay, bytes, size, NULL);
            counters->duplicated++;
        }
        if (!happens(relay, index, DRAW_REORDER, options->reorder) || !hold_back(relay, index, bytes, size))
            forward(relay, bytes, size, NULL);
    }
    if (relay->late_count > 0)
        release_bucket(relay, index % (options->reorder_window + 1));
}

struct arrival {
    int64_t when_ns;
    size_t segment_size; /* 0: a single datagram */
};

static struct arrival read_control(struct relay *relay, struct msghdr *message)
{
    struct arrival arrival = {.when_ns = 0, .segment_size = 0};
    for (struct cmsghdr *header = CMSG_FIRSTHDR(message); header != NULL; header = CMSG_NXTHDR(message, header)) {
        if (header->cmsg_level == IPPROTO_UDP && header->cmsg_type == UDP_GRO) {
            int size = 0;
            memcpy(&size, CMSG_DATA(header), sizeof size);
            arrival.segment_size = size > 0 ? (size_t)size : 0;
        } else if (header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_TIMESTAMPNS) {
            struct timespec when;
            memcpy(&when, CMSG_DATA(header), sizeof when);
            arrival.when_ns = (int64_t)when.tv_sec * (int64_t)CLOCK_SECOND_NS + when.tv_nsec;
        } else if (header->cmsg_level == SOL_SOCKET && header->cmsg_type == SO_RXQ_OVFL) {
            uint32_t overflowed = 0;
            memcpy(&overflowed, CMSG_DATA(header), sizeof overflowed);
            relay->counters.overflowed = overflowed;
        }
    }
    if (arrival.when_ns == 0)
        arrival.when_ns = clock_realtime_ns();
    return arrival;
}

/* Takes what waits in the socket, one batch. */
static void receive_some(struct relay *relay)
{
    static struct iovec vectors[RECEIVE_BATCH];
    static struct mmsghdr messages[RECEIVE_BATCH];
    static _Alignas(struct cmsghdr) char controls[RECEIVE_BATCH][CONTROL_SIZE];
    for (size_t i = 0; i < RECEIVE_BATCH; i++) {
        vectors[i] = (struct iovec){.iov_base = relay->trains + i * TRAIN_SIZE, .iov_len = TRAIN_SIZE};
        memset(&messages[i], 0, sizeof messages[i]);
        messages[i].msg_hdr.msg_iov = &vectors[i];
        messages[i].msg_hdr.msg_iovlen = 1;
        messages[i].msg_hdr.msg_control = controls[i];
        messages[i].msg_hdr.msg_controllen = CONTROL_SIZE;
    }
    int count = recvmmsg(relay->in, messages, RECEIVE_BATCH, MSG_DONTWAIT, NULL);
    for (int i = 0; i < count; i++) {
        unsigned char *bytes = vectors[i].iov_base;
        size_t left = messages[i].msg_len;
        struct arrival arrival = read_control(relay, &messages[i].msg_hdr);
        size_t segment = arrival.segment_size > 0 ? arrival.segment_size : left;
        do {
            size_t size = left < segment ? left : segment;
            relay_datagram(relay, bytes, size, arrival.when_ns);
            bytes += size;
            left -= size;
        } while (left > 0);
    }
    flush(relay); /* before the buffers are used again */
}

static void report(const struct relay *relay)
{
    const struct counters *counters = &relay->counters;
    json_t *root = json_object();
    const struct {
        const char *name;
        uint64_t value;
    } members[] = {
        {"received", counters->received},
        {"received_bytes", counters->received_bytes},
        {"forwarded", counters->forwarded},
        {"dropped", counters->dropped},
        {"dropped_in_bursts", counters->dropped_in_bursts},
        {"duplicated", counters->duplicated},
        {"reordered", counters->reordered},
        {"corrupted", counters->corrupted},
        {"send_errors", counters->send_errors},
        {"overflowed", counters->overflowed},
    };
    for (size_t i = 0; i < sizeof members / sizeof *members; i++)
        json_object_set_new(root, members[i].name, json_integer((json_int_t)members[i].value));
    char *text = json_dumps(root, JSON_COMPACT);
    json_decref(root);
    if (text == NULL) {
        log_error("counters can't be written: %s", strerror(ENOMEM));
        return;
    }
    const char *file = relay->options.count_file;
    if (file == NULL) {
        puts(text);
        fflush(stdout);
    } else if (durable_write_file(AT_FDCWD, file, text, strlen(text), 0644) != STATUS_OK) {
        log_error("%s can't be written: %s", file, strerror(errno));
    }
    free(text);
}

/* Relays until SIGTERM or SIGINT; false when waiting failed. */
static bool run(struct relay *relay, int signals)
{
    struct pollfd watch[] = {{.fd = signals, .events = POLLIN}, {.fd = relay->in, .events = POLLIN}};
    for (;;) {
        int ready = poll(watch, sizeof watch / sizeof *watch, relay->late_count > 0 ? IDLE_FLUSH_MS : -1);
        if (ready < 0 && errno != EINTR)
            return false;
        if (ready == 0) {
            release_all(relay);
            flush(relay);
        }
        if (ready <= 0)
            continue;
        if (watch[1].revents != 0)
            receive_some(relay);
        struct signalfd_siginfo info;
        if (watch[0].revents == 0 || read(signals, &info, sizeof info) != (ssize_t)sizeof info)
            continue;
        if (info.ssi_signo != SIGUSR1)
            break;
        report(relay);
    }
    release_all(relay);
    flush(relay);
    report(relay);
    return true;
}

static void usage(FILE *stream)
{
    fputs("usage: diodecast-impair --listen ADDRESS:PORT --forward ADDRESS:PORT [--seed N]\n"
          "           [--drop P%] [--burst-every TIME --burst-length TIME] [--duplicate P%]\n"
          "           [--reorder P% [--reorder-window N]] [--corrupt P%] [--count-file FILE]\n",
          stream);
}

/* "1%", "0.25%" or "1" as a probability in 2^-64. */
static bool parse_percent(const char *text, uint64_t *probability)
{
    char *end = NULL;
    errno = 0;
    double percent = strtod(text, &end);
    if (end == text || errno != 0 || !(percent >= 0 && percent <= 100) || (*end == '%' ? end[1] : *end) != '\0')
        return false;
    *probability = percent >= 100 ? UINT64_MAX : (uint64_t)(percent / 100 * 18446744073709551616.0);
    return true;
}

static bool parse_number(const char *text, uint64_t most, uint64_t *number)
{
    char *end = NULL;
    if (*text < '0' || *text > '9')
        return false;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 0);
    *number = value;
    return errno == 0 && *end == '\0' && value <= most;
}

enum option_code {
    OPTION_LISTEN = 256,
    OPTION_FORWARD,
    OPTION_SEED,
    OPTION_DROP,
    OPTION_BURST_EVERY,
    OPTION_BURST_LENGTH,
    OPTION_DUPLICATE,
    OPTION_REORDER,
    OPTION_REORDER_WINDOW,
    OPTION_CORRUPT,
    OPTION_COUNT_FILE,
};

static bool set_option(struct options *options, int option, const char *value)
{
    switch (option) {
    case OPTION_LISTEN:
        return options->has_listen = socket_address_parse(value, &options->listen);
    case OPTION_FORWARD:
        return options->has_forward = socket_address_parse(value, &options->forward);
    case OPTION_SEED:
        return parse_number(value, UINT64_MAX, &options->seed);
    case OPTION_DROP:
        return parse_percent(value, &options->drop);
    case OPTION_BURST_EVERY:
        return units_parse_duration(value, &options->burst_every_ns);
    case OPTION_BURST_LENGTH:
        return units_parse_duration(value, &options->burst_length_ns);
    case OPTION_DUPLICATE:
        return parse_percent(value, &options->duplicate);
    case OPTION_REORDER:
        return parse_percent(value, &options->reorder);
    case OPTION_REORDER_WINDOW:
        return parse_number(value, WINDOW_MAX, &options->reorder_window) && options->reorder_window > 0;
    case OPTION_CORRUPT:
        return parse_percent(value, &options->corrupt);
    case OPTION_COUNT_FILE:
        options->count_file = value;
        return true;
    default:
        return false;
    }
}

static const struct option long_options[] = {
    {"listen", required_argument, NULL, OPTION_LISTEN},
    {"forward", required_argument, NULL, OPTION_FORWARD},
    {"seed", required_argument, NULL, OPTION_SEED},
    {"drop", required_argument, NULL, OPTION_DROP},
    {"burst-every", required_argument, NULL, OPTION_BURST_EVERY},
    {"burst-length", required_argument, NULL, OPTION_BURST_LENGTH},
    {"duplicate", required_argument, NULL, OPTION_DUPLICATE},
    {"reorder", required_argument, NULL, OPTION_REORDER},
    {"reorder-window", required_argument, NULL, OPTION_REORDER_WINDOW},
    {"corrupt", required_argument, NULL, OPTION_CORRUPT},
    {"count-file", required_argument, NULL, OPTION_COUNT_FILE},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

/* Exits on --help and on anything that is wrong. */
static void parse_options(int argc, char **argv, struct options *options)
{
    int option;
    int position = 0;
    while ((option = getopt_long(argc, argv, "h", long_options, &position)) != -1) {
        if (option == 'h') {
            usage(stdout);
            exit(EX_OK);
        }
        if (option == '?') {
            usage(stderr);
            exit(EX_USAGE);
        }
        if (!set_option(options, option, optarg)) {
            log_error("--%s: '%s' is not a value for it", long_options[position].name, optarg);
            exit(EX_USAGE);
        }
    }
    if (optind != argc || !options->has_listen || !options->has_forward) {
        usage(stderr);
        exit(EX_USAGE);
    }
    if ((options->burst_every_ns > 0) != (options->burst_length_ns > 0) ||
        options->burst_length_ns > options->burst_every_ns) {
        log_error("--burst-every and --burst-length go together, and a burst is not longer than its period");
        exit(EX_USAGE);
    }
}

static bool open_sockets(struct relay *relay)
{
    uint32_t granted = 0;
    if (socket_open_receiver(&relay->options.listen, SOCKET_BUFFER, &relay->in, &granted) != STATUS_OK ||
        socket_open_sender(&relay->options.forward, SOCKET_BUFFER, &relay->out) != STATUS_OK)
        return false;
    int on = 1;
    if (setsockopt(relay->in, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on) != 0) {
        log_error("SO_TIMESTAMPNS: %s", strerror(errno));
        return false;
    }
    struct socket_address bound = {.size = sizeof bound.storage};
    if (getsockname(relay->in, (struct sockaddr *)&bound.storage, &bound.size) != 0)
        return false;
    /* Whoever asked for any port must be told which one it is. */
    char asked[SOCKET_TEXT_SIZE];
    char got[SOCKET_TEXT_SIZE];
    socket_address_text(&relay->options.listen, asked);
    socket_address_text(&bound, got);
    if (strcmp(asked, got) != 0) {
        puts(got);
        fflush(stdout);
    }
    return true;
}

int main(int argc, char **argv)
{
    static struct relay relay = {
        .options = {.seed = 1, .reorder_window = 32}, .in = -1, .out = -1, .segmentation = true};
    log_open("diodecast-impair", LOG_LEVEL_INFO);
    parse_options(argc, argv, &relay.options);

    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, NULL);
    int signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    relay.buckets = calloc(relay.options.reorder_window + 1, sizeof(struct late *));
    relay.trains = malloc((size_t)RECEIVE_BATCH * TRAIN_SIZE);
    if (signals < 0 || relay.buckets == NULL || relay.trains == NULL) {
        log_error("%s", strerror(errno));
        return EX_OSERR;
    }
    if (!open_sockets(&relay))
        return EX_OSERR;
    bool good = run(&relay, signals);
    close(relay.in);
    close(relay.out);
    close(signals);
    free(relay.trains);
    free(relay.buckets);
    return good ? EX_OK : EX_OSERR;
}
