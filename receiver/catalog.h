// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_RECEIVER_CATALOG_H
#define DIODECAST_RECEIVER_CATALOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/trust.h"
#include "proto/frame.h"
#include "proto/message.h"
#include "receiver/assembly.h"
#include "receiver/bounds.h"
#include "receiver/checks.h"
#include "receiver/renumber.h"
#include "receiver/room.h"
#include "receiver/unpack.h"

/*
 * All open transfers, by sender and id: admission, bounds, who makes room for whom, and what each frame does to its
 * transfer. Sans I/O: what is to be done goes out through struct catalog_actions. One thread.
 *
 * Bounds: of the number of transfers, of their staged bytes, and the free disk (room.h). Where a bound is reached, one
 * without progress makes room, the oldest and least complete first. Where somebody else takes the disk, the transfer
 * that needs most waits, so that smaller ones still find room.
 */
struct catalog;

enum {
    CATALOG_OPEN = 4096,
    CATALOG_UNANNOUNCED = 256,
};
#define CATALOG_REFUSAL_NS UINT64_C(60000000000)  /* that a frame which nobody signed refuses its transfer */
#define CATALOG_EXPIRE_NS  UINT64_C(600000000000) /* likewise, until one that nobody vouches for is given up */
#define CATALOG_LAPSE_NS   UINT64_C(60000000000)  /* without progress, until no room is kept for a transfer */

/* Why a transfer was closed. */
enum catalog_end {
    CATALOG_ABORTED, /* the sender says so */
    CATALOG_REFUSED, /* its manifest is signed and breaks the rules, or a frame that may not be ignored is unknown */
    CATALOG_EVICTED, /* made room */
    CATALOG_FAILED,  /* the owner gave it up (disk) */
    CATALOG_EXPIRED, /* nobody vouches for it, or nothing of it is held, and nothing came for CATALOG_EXPIRE_NS */
    CATALOG_WRITTEN_OFF, /* an operator accepted its loss */
    CATALOG_ENDS,
};

/* What the ledger knows of a transfer. */
enum catalog_answer {
    CATALOG_UNKNOWN,
    CATALOG_DELIVERED, /* or being published */
    CATALOG_UNSURE,    /* the ledger can't be read: this frame is dropped, and the next one asks again */
};

struct catalog_actions {
    enum catalog_answer (*is_delivered)(void *context, uint32_t sender_id, const uint8_t *transfer_id);
    assembly_write *write;
    assembly_reset *reset;
    /* A manifest was bound: the transfer's sequence is known. */
    void (*bound)(void *context, struct assembly *assembly);
    /* Nothing is missing any more; the owner may set state PUBLISHING, then or later. */
    void (*complete)(void *context, struct assembly *assembly);
    /* The tables are about to go. Afterwards the owner calls catalog_forget(), not from in here. */
    void (*closing)(void *context, struct assembly *assembly, enum catalog_end end);
    /* A whole manifest (Signed message) that was refused; the bytes are borrowed. NULL: there is none, and it is the
     * transfer that was refused. */
    void (*refused)(void *context, const struct assembly *assembly, const char *reason, const uint8_t *bytes,
                    size_t size);
};

struct catalog_counters {
    uint64_t announced, not_admitted, bound;
    uint64_t after_delivery; /* frames of delivered transfers */
    uint64_t unsure;         /* frames that met CATALOG_UNSURE */
    uint64_t after_end;      /* frames of transfers that are being published or were closed */
    uint64_t duplicates, conflicts;
    uint64_t over_limit; /* frames without room: over a quota, or of a transfer not admitted */
    uint64_t manifests_refused;
    uint64_t beyond_bounds; /* transfers, or frames, that are more than the bounds allow */
    uint64_t ended[CATALOG_ENDS];
};

/* `trust` and `actions` are borrowed. NULL when memory is short. */
struct catalog *catalog_create(const struct trust *trust, const struct catalog_actions *actions, void *context);
/* Destroys all assemblies; what the owner attached must be gone. */
void catalog_destroy(struct catalog *catalog);

/* Borrowed; who looks at manifests of transfers that get a second number. NULL, as at first: nobody. */
void catalog_set_renumber(struct catalog *catalog, struct renumber *renumber);
/* The bound of signature checks, for the small messages too; the catalog's. */
struct checks *catalog_checks(const struct catalog *catalog);
/* At most CATALOG_OPEN transfers. Before: see room_init(). */
void catalog_set_limits(struct catalog *catalog, const struct room_limits *limits);

/* Bytes free in the intake, for admission; UINT64_MAX until told. Admits what did not fit before and fits now, has
 * those wait that do not fit any more, and gives up what expired. Now and then. */
void catalog_set_free_bytes(struct catalog *catalog, uint64_t free_bytes, uint64_t now_ns);

/* What one transfer may be; those of the wire format at first. */
void catalog_set_bounds(struct catalog *catalog, const struct bounds *bounds);

/* Whether an announce of the transfer would tell something new. With `early`, before its data is next: only while half
 * of the places are free, so that such transfers do not stand in the way of others. */
bool catalog_wants_announce(struct catalog *catalog, const struct unpack_source *source,
                            const uint8_t transfer_id[static TRANSFER_ID_SIZE], bool early);
void catalog_announce(struct catalog *catalog, const struct unpack_source *source,
                      const struct message_announce *announce);
void catalog_data(struct catalog *catalog, const struct unpack_source *source, const struct frame_data *data);
void catalog_manifest(struct catalog *catalog, const struct unpack_source *source, const struct frame_manifest *part);
void catalog_abort(struct catalog *catalog, const struct unpack_source *source, const struct message_abort *message);
/* A frame that nobody signed says that the transfer needs what this receiver does not know. For CATALOG_REFUSAL_NS
 * nothing is taken for it; what has come is kept where a signature vouches for the transfer. */
void catalog_refuse(struct catalog *catalog, const struct unpack_source *source,
                    const uint8_t transfer_id[static TRANSFER_ID_SIZE]);

/* assembly_lose() of a transfer in the catalog, which keeps account of the room that is still to be taken. */
void catalog_lose(struct catalog *catalog, struct assembly *assembly, uint32_t index, uint64_t first, uint64_t end);
/* For transfers that are restored from their records: opens one that nobody vouches for, as its first frame would; NULL
 * when it is over, or without room. */
struct assembly *catalog_open(struct catalog *catalog, const struct unpack_source *source,
                              const uint8_t transfer_id[static TRANSFER_ID_SIZE]);
/* Likewise: assembly_hold(), with the same account. */
void catalog_hold(struct catalog *catalog, struct assembly *assembly, uint32_t index, uint64_t first, uint64_t end);
/* All of it is restored: tells when nothing is missing. */
void catalog_restored(struct catalog *catalog, struct assembly *assembly);
/* Gives an open transfer up for the owner's reasons; it may come again. */
void catalog_close(struct catalog *catalog, struct assembly *assembly, enum catalog_end end);
/* Unlinks and destroys. With `delivered`, later frames of it are dropped without asking the ledger. */
void catalog_forget(struct catalog *catalog, struct assembly *assembly, bool delivered);

struct assembly *catalog_find(const struct catalog *catalog, uint32_t sender_id,
                              const uint8_t transfer_id[static TRANSFER_ID_SIZE]);
/* In order of progress, the one without for longest first. `visit` must not close or forget another one. */
void catalog_each(struct catalog *catalog, void (*visit)(struct assembly *assembly, void *context), void *context);
unsigned catalog_count(const struct catalog *catalog);
const struct catalog_counters *catalog_counters(const struct catalog *catalog);

#endif
