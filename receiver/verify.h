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
struct ledger;

/* `stop` is borrowed and ends a long verification early. NULL when memory is short. */
struct verify *verify_create(int staging_fd, const atomic_bool *stop);
void verify_destroy(struct verify *verify);

/* Reads no faster than this from now on, and lets the pages go that it has read: for long verifications, which are in
 * no hurry. 0: no limit. */
void verify_set_rate(struct verify *verify, uint64_t bytes_per_s);
/* Where the receiver's own hashes are, which tell of damage to artifacts that have no chunk hashes. Borrowed. */
void verify_set_ledger(struct verify *verify, struct ledger *ledger);

/* Bytes that verify_assembly() would have to read. */
uint64_t verify_bytes_to_read(const struct assembly *assembly);

/*
 * The SHA-256 of what was hashed on arrival is taken as it is; the rest is read. Where it differs from the manifest the
 * chunk hashes tell which chunks are damaged, or else the hashes of what was recorded which of these ranges; where they
 * all agree, or there are none, the artifact is. Counts in assembly->verified_bytes what it has read.
 */
void verify_assembly(struct verify *verify, struct assembly *assembly, struct verify_report *report);

#endif
