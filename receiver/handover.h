// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_RECEIVER_HANDOVER_H
#define DIODECAST_RECEIVER_HANDOVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/datagram.h"
#include "receiver/gather.h"

/*
 * What a run of the receiver that is stopped leaves to the next one on the same boot, as bytes: a header, records, and
 * a checksum over all. Integers are little-endian. Pure.
 *
 *     lane                          what follows is of this lane
 *         sender ...                what is known of a trusted sender
 *         epoch                     one run of a sender that is being received
 *             datagram ...          the symbols of its open blocks, as they came, unsealed
 *
 * The records are fed to the stage in this order. A datagram has to pass there what one from the link has to pass, so
 * the worst that a false file can do is what forged datagrams can do.
 */
enum { HANDOVER_VERSION = 1, HANDOVER_BOOT_ID_SIZE = 36 };

/* Where a file comes from; both must be the reader's own. */
struct handover_origin {
    char boot_id[HANDOVER_BOOT_ID_SIZE]; /* as in /proc/sys/kernel/random/boot_id, without a NUL */
    bool sealed;                         /* with a link key: nothing that came without may pass for opened */
};

enum handover_kind { HANDOVER_LANE = 1, HANDOVER_SENDER, HANDOVER_EPOCH, HANDOVER_DATAGRAM };

struct handover_record {
    enum handover_kind kind;
    union {
        struct {
            uint32_t index;
            uint32_t overflow_seen; /* newest value of SO_RXQ_OVFL */
        } lane;
        struct {
            uint32_t id;
            uint64_t confirmed_epoch;
        } sender;
        struct {
            uint32_t sender_id;
            uint64_t epoch;
            const struct gather_state *state; /* the reader's, until the next record; sane */
        } epoch;
        struct {
            struct datagram header;
            const uint8_t *symbol; /* in the file's bytes */
        } datagram;
    };
};

/* Writing: `put` takes the bytes; once it has returned false it is not called again. One thread. */
struct handover_writer;
struct handover_writer *handover_writer_create(bool (*put)(void *context, const void *bytes, size_t size),
                                               void *context); /* NULL when out of memory */
void handover_writer_begin(struct handover_writer *writer, const struct handover_origin *origin);
void handover_writer_add(struct handover_writer *writer, const struct handover_record *record);
/* False when `put` has failed: there is nothing then that a reader would take. */
bool handover_writer_finish(struct handover_writer *writer);
bool handover_writer_failed(const struct handover_writer *writer);
void handover_writer_destroy(struct handover_writer *writer); /* NULL is allowed */

/* Reading. */
enum handover_verdict {
    HANDOVER_GOOD,
    HANDOVER_DAMAGED,
    HANDOVER_OTHER_VERSION,
    HANDOVER_OTHER_BOOT,
    HANDOVER_OTHER_KEY, /* one of the two runs has a link key */
};

struct handover_reader {
    const uint8_t *at, *end;
    struct gather_state state;
};

/* Checks all of the file. `bytes` are borrowed as long as the reader is used, and only on HANDOVER_GOOD is it. */
enum handover_verdict handover_reader_init(struct handover_reader *reader, const uint8_t *bytes, size_t size,
                                           const struct handover_origin *here);
/* The next record, or false at the end. Records that contradict the limits are left out. */
bool handover_reader_next(struct handover_reader *reader, struct handover_record *record);

#endif
