// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_TESTS_BENCH_STAGES_H
#define DIODECAST_TESTS_BENCH_STAGES_H

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sysexits.h>

#include "common/socket.h"
#include "common/units.h"
#include "proto/datagram.h"

/* What the two programs that measure single stages have in common. */

enum {
    STAGES_SOURCE = 128,
    STAGES_REPAIR = 16,
    STAGES_BLOCKS = 32, /* in turns: 6 MB at MTU 1500, 40 at 9000, so that none is still in the cache */
    STAGES_SENDER_ID = 0x57a6e5,
    STAGES_EPOCH = 1,
};

struct stages_options {
    const char *stage, *file;
    struct socket_address address;
    uint16_t symbol_size;
    uint64_t bytes, rate_bits_per_s, missing;
};

static inline bool stages_parse(int argc, char **argv, struct stages_options *options)
{
    uint64_t mtu = 1500;
    *options = (struct stages_options){.bytes = UINT64_C(1) << 30, .rate_bits_per_s = 1000000000};
    if (argc < 2)
        return false;
    options->stage = argv[1];
    optind = 2;
    for (int option; (option = getopt(argc, argv, "m:f:b:a:r:e:")) != -1;) {
        bool good = option == 'f'   ? (options->file = optarg) != NULL
                    : option == 'm' ? units_parse_size(optarg, &mtu)
                    : option == 'b' ? units_parse_size(optarg, &options->bytes)
                    : option == 'e' ? units_parse_size(optarg, &options->missing)
                    : option == 'r' ? units_parse_rate(optarg, &options->rate_bits_per_s)
                    : option == 'a' ? socket_address_parse(optarg, &options->address)
                                    : false;
        if (!good)
            return false;
    }
    options->symbol_size = datagram_symbol_size_for_mtu((uint32_t)mtu, false);
    bool needs_file = strcmp(options->stage, "read") == 0 || strcmp(options->stage, "store") == 0;
    if (strcmp(options->stage, "decode") == 0 && options->missing == 0)
        return false;
    return options->symbol_size > 0 && options->missing <= STAGES_REPAIR && (!needs_file || options->file != NULL);
}

static inline size_t stages_block_size(const struct stages_options *options)
{
    return (size_t)(STAGES_SOURCE + STAGES_REPAIR) * options->symbol_size;
}

static inline _Noreturn void stages_fail(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    exit(EX_OSERR);
}

/* Of all threads, the kernel's workers for io_uring included. */
static inline double stages_cpu_seconds(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static inline void stages_fill(uint8_t *bytes, size_t size, unsigned seed)
{
    for (size_t i = 0; i < size; i++)
        bytes[i] = (uint8_t)((i + seed) * 2654435761u >> 16);
}

static inline void stages_report(const char *stage, uint64_t bytes, double cpu_seconds)
{
    printf("{\"stage\": \"%s\", \"bytes\": %" PRIu64 ", \"cpu_seconds\": %.6f}\n", stage, bytes, cpu_seconds);
    fflush(stdout);
}

#endif
