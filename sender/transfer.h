// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_SENDER_TRANSFER_H
#define DIODECAST_SENDER_TRANSFER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

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

struct transfer {
    struct mailbox_entry entry; /* first member */
    struct transfer *next;      /* for the owning stage's own list */
    uint8_t id[TRANSFER_ID_SIZE];
    char channel[LIMIT_CHANNEL_LENGTH + 1];
    char name[LIMIT_COMPONENT_LENGTH + 1];
    char origin_user[LIMIT_USER_LENGTH + 1];
    enum config_priority priority;
    enum config_symlinks symlinks;
    int directory_fd; /* spool/.sending/ID; -1 once the seal stage is done with the item */
    struct listing *listing;
    uint64_t total_bytes; /* of the listing; stays readable by the control thread throughout */
    uint32_t artifact_count;
    bool tree;    /* the item is a directory */
    bool in_root; /* it was dropped in the spool itself, and goes back there */

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

    _Atomic uint64_t bytes_sent; /* read and handed to the link, for the status */
    _Atomic int announced_stage; /* enum transfer_stage, for the status */
};

enum transfer_stage { TRANSFER_STAGE_QUEUED, TRANSFER_STAGE_READING, TRANSFER_STAGE_SEALING, TRANSFER_STAGE_COPIES };

/* Empty, with directory_fd -1; asserts that memory is there. */
struct transfer *transfer_create(void);
void transfer_destroy(struct transfer *transfer); /* frees all it owns; NULL allowed */

#endif
