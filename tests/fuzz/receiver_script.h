// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_TESTS_FUZZ_RECEIVER_SCRIPT_H
#define DIODECAST_TESTS_FUZZ_RECEIVER_SCRIPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * What the receiver's core is fed with, as bytes: records, each a kind, flags, the size of its body (two bytes,
 * little-endian) and the body. Any bytes are such a script: numbers are taken modulo what is legal, sizes are cut at
 * the end. A block record has a geometry and a payload of frames, from which all its datagrams are made, with right
 * tags; so what the fuzzer changes in a payload is what a sender, or somebody who forges datagrams, might put there.
 */
enum script_kind {
    SCRIPT_BLOCK,  /* geometry, payload */
    SCRIPT_RAW,    /* one datagram as it is */
    SCRIPT_WAIT,   /* u32: milliseconds */
    SCRIPT_FREE,   /* u16: free KiB of the disk */
    SCRIPT_AGAIN,  /* u8, u8: so many of the datagrams that came so long ago come again */
    SCRIPT_FLOOD,  /* u16: so many transfers that nobody vouches for */
    SCRIPT_HOLD,   /* u8: blocks that the later stages keep back */
    SCRIPT_DAMAGE, /* u8: verifications that find damage */
    SCRIPT_KINDS
};

enum script_flag {
    SCRIPT_SIGN = 1,        /* BLOCK: signs anew what the frames carry, whatever it says… */
    SCRIPT_FORGE = 2,       /* …with a key that is not trusted */
    SCRIPT_WRONG_HASH = 4,  /* BLOCK: the datagrams tell another hash than the payload has */
    SCRIPT_DAMAGED = 8,     /* BLOCK: a symbol is not what was encoded */
    SCRIPT_DEEP = 16,       /* BLOCK: a depth of up to LIMIT_DEPTH */
    SCRIPT_RETAG = 1,       /* RAW: with a right tag */
    SCRIPT_ENDLESS = 1,     /* FREE: without end */
    SCRIPT_AS_MANIFEST = 1, /* FLOOD: parts of manifests instead of data */
};

enum { SCRIPT_HEAD_SIZE = 4, SCRIPT_GEOMETRY_SIZE = 16, SCRIPT_BODY_MAX = UINT16_MAX };

/* In front of the payload of a block. */
struct script_geometry {
    uint8_t sender, lane, epoch;
    uint8_t size;   /* of a symbol */
    uint8_t repair; /* symbols */
    uint8_t order, again;
    uint8_t repeat_of;
    uint16_t depth, index;
    int16_t step;  /* from the block number that is next */
    uint16_t lost; /* bits of the datagrams that do not come */
};

struct script_record {
    enum script_kind kind;
    uint8_t flags;
    const uint8_t *body;
    size_t size;
};

/* Reads the record at *position and moves *position behind it; false at the end. */
bool script_next(const uint8_t *bytes, size_t size, size_t *position, struct script_record *record);
void script_get_geometry(const uint8_t *body, struct script_geometry *geometry);
void script_put_geometry(uint8_t *body, const struct script_geometry *geometry);
/* The epoch that stands for a number, which a heartbeat must name. */
uint64_t script_epoch(unsigned number);

struct world;
void script_run(struct world *world, const uint8_t *bytes, size_t size);

#endif
