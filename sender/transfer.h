// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_SENDER_TRANSFER_H
#define DIODECAST_SENDER_TRANSFER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/checksum.h"
#include "common/mailbox.h"
#include "proto/limits.h"
#include "sender/config.h"
#include "sender/scan.h"

/*
 * One transfer on its way through the sender. Made by claim, handed from stage to stage by mailbox, and owned by one
 * stage at a time: claim → read → seal → read (manifest copies) → control, which files it under .sent/, .failed/ or
 * back in the spool. Only the atomics are looked at by others.
 */
enum transfer_outcome {
    TRANSFER_PENDING = 0,
    TRANSFER_SENT,     /* all data and all manifest copies have left */
    TRANSFER_REFUSED,  /* content that can't be sent: to .failed with `reason` */
    TRANSFER_RETURNED, /* changed while it was read: back to the spool */
};

/* Why it is on its way. */
enum transfer_kind {
    TRANSFER_FRESH,  /* claimed from the spool, or taken up again after a restart */
    TRANSFER_REPLAY, /* an operator asked for it; from .sent */
    TRANSFER_HEAL,   /* sent again while the link is idle; from .sent */
};

/* Chunks [first, last], numbered through the transfer in manifest order. */
struct transfer_range {
    uint64_t first, last;
};

struct transfer {
    struct mailbox_entry entry; /* first member */
    struct transfer *next;      /* for the owning stage's own list */
    enum transfer_kind kind;
    uint8_t id[TRANSFER_ID_SIZE];
    char channel[LIMIT_CHANNEL_LENGTH + 1];
    char name[LIMIT_COMPONENT_LENGTH + 1];
    char origin_user[LIMIT_USER_LENGTH + 1];
    enum config_priority priority;
    enum config_symlinks symlinks;
    uint32_t approvals; /* so many must lie beside the item when it is sealed */
    int directory_fd;   /* spool/.sending/ID or .sent/ID; -1 once its data is no longer needed */
    struct listing *listing;
    uint64_t total_bytes; /* of the listing; stays readable by the control thread throughout */
    uint32_t artifact_count;
    bool tree;                             /* the item is a directory */
    bool in_root;                          /* it was dropped in the spool itself, and goes back there */
    uint8_t fingerprint[CHECKSUM128_SIZE]; /* of the listing (scan.h); stays readable by the control thread */

    /* Set at the start. */
    uint64_t resume_at; /* fresh: bytes of the transfer, in manifest order, that left before a restart: they are read to
                           be hashed (not even that once it is sealed), and not sent again */
    /* A replay or heal: sequence, manifest_hash and signed bytes are set, and what is sent is checked against them. */
    struct transfer_range *ranges; /* malloc'ed, owned; ascending, not touching; none: all chunks */
    size_t range_count;
    bool manifest_only;
    bool now; /* a replay that goes before everything else */

    /* Filled by the read stage. */
    uint8_t (*sha256)[SHA256_SIZE];           /* [artifact_count] */
    uint8_t (*chunk_hashes)[CHUNK_HASH_SIZE]; /* of artifacts with more than one chunk, in order */
    size_t chunk_hash_count;

    /* Filled by the seal stage, or from the ledger for a transfer that was sealed before a restart (then sequence != 0
     * at the start). */
    uint64_t sequence;
    uint8_t manifest_hash[SHA256_SIZE]; /* SHA-256 of the manifest's body */
    uint8_t *signed_bytes;              /* Signed message, verbatim in every copy */
    size_t signed_size;

    enum transfer_outcome outcome;
    char reason[LIMIT_REASON_LENGTH + 1];

    _Atomic uint64_t mark; /* bytes of the transfer, in manifest order, that have left on every lane, as far as they
                              were asked for; grows; not of heals */
    _Atomic uint64_t bytes_sent; /* read, handed to the link and hashed, for the status */
    _Atomic int announced_stage; /* enum transfer_stage, for the status */
};

enum transfer_stage { TRANSFER_STAGE_QUEUED, TRANSFER_STAGE_READING, TRANSFER_STAGE_SEALING, TRANSFER_STAGE_COPIES };

/* Empty, with directory_fd -1; asserts that memory is there. */
struct transfer *transfer_create(void);
void transfer_destroy(struct transfer *transfer); /* frees all it owns; NULL allowed */

#endif
