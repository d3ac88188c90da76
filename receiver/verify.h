// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_RECEIVER_VERIFY_H
#define DIODECAST_RECEIVER_VERIFY_H

#include <stdatomic.h>
#include <stdint.h>

#include "receiver/assembly.h"

/* Compares the staged bytes of a whole transfer with its manifest. Reads the disk; one thread per struct verify. */

/* A range that is not what the manifest says. */
struct verify_range {
    uint32_t index;
    uint64_t first, end;
};

enum verify_result {
    VERIFY_GOOD,
    VERIFY_DAMAGED,  /* ranges[0..count) must come again */
    VERIFY_HOPELESS, /* the manifest contradicts itself: no bytes can fulfil it */
    VERIFY_FAILED,   /* the disk can't be read */
    VERIFY_STOPPED,
};

struct verify_report {
    enum verify_result result;
    int error;                   /* errno of VERIFY_FAILED */
    struct verify_range *ranges; /* malloc'ed, the owner frees */
    size_t count;
};

struct verify;

/* `stop` is borrowed and ends a long verification early. NULL when memory is short. */
struct verify *verify_create(int staging_fd, const atomic_bool *stop);
void verify_destroy(struct verify *verify);

/* Bytes that verify_assembly() would have to read. */
uint64_t verify_bytes_to_read(const struct assembly *assembly);

/*
 * The SHA-256 of what was hashed on arrival is taken as it is; the rest is read. Where it differs from the manifest the
 * chunk hashes tell which chunks are damaged; where they all agree, or there are none, the artifact is.
 */
void verify_assembly(struct verify *verify, struct assembly *assembly, struct verify_report *report);

#endif
