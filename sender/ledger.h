// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_SENDER_LEDGER_H
#define DIODECAST_SENDER_LEDGER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/checksum.h"
#include "common/status.h"
#include "proto/limits.h"

/*
 * Durable state of the low side (SQLite, state/sender.db): claims, chain and sequence numbers, signed manifests; what
 * is sent again is in ledger_again.h and ledger_replay.h.
 * Thread-safe: one connection behind one mutex, and one for questions that take long. Every function that changes
 * something returns after the commit. Failures are logged here.
 */
struct ledger;

enum ledger_state {
    LEDGER_FORGOTTEN = 0, /* in a change only: the intent was not carried out, and nothing is kept of it */
    LEDGER_CLAIMING = 1,  /* intent recorded; the item may still be in the spool */
    LEDGER_CLAIMED = 2,   /* in .sending/ID/NAME */
    LEDGER_SEALED = 3,    /* has a sequence number and signed bytes */
    LEDGER_SENT = 4,
    LEDGER_FAILED = 5,
    LEDGER_RETURNED = 6, /* back in the spool */
    LEDGER_EXPIRED = 7,  /* sent, and no longer retained */
};

struct ledger_transfer {
    uint8_t id[TRANSFER_ID_SIZE];
    char channel[LIMIT_CHANNEL_LENGTH + 1];
    char name[LIMIT_COMPONENT_LENGTH + 1];
    char origin_user[LIMIT_USER_LENGTH + 1];
    bool in_root; /* dropped in the spool itself, not in its channel's directory */
    uint64_t device, inode;
    enum ledger_state state;
    int64_t claimed_at_ns, finished_at_ns;
    uint64_t bytes;
    uint64_t sequence;                     /* 0 while none */
    uint64_t mark;                         /* while it is not sent: bytes that have left, in manifest order, */
    uint8_t fingerprint[CHECKSUM128_SIZE]; /* of the item whose listing had this fingerprint (scan.h) */
    uint32_t heals;                        /* once sent: how often it was sent again on an idle link */
    int64_t again_at_ns;                   /* when it was last sent again; 0: never */
};

/* How much of an unfinished transfer has left. */
struct ledger_mark {
    uint8_t id[TRANSFER_ID_SIZE];
    uint64_t mark;
    uint8_t fingerprint[CHECKSUM128_SIZE];
};

/* One step of a transfer. `bytes` counts for LEDGER_CLAIMED only; `reason` may be NULL. */
struct ledger_change {
    uint8_t id[TRANSFER_ID_SIZE];
    enum ledger_state state;
    uint64_t bytes;
    const char *reason; /* borrowed */
};

/* A sealed manifest to be recorded; `sign` fills what depends on the numbers. When ledger_seal() fails, signed_bytes
 * may be set all the same and are the caller's to free. */
struct ledger_seal {
    const uint8_t *transfer_id;
    const char *channel;
    uint64_t bytes;
    /* Called inside the transaction with the numbers assigned. Must set signed_bytes (malloc'ed, stays the caller's)
     * and hash. */
    void (*sign)(struct ledger_seal *seal, const uint8_t chain_id[static CHAIN_ID_SIZE], uint64_t sequence,
                 const uint8_t previous_hash[static SHA256_SIZE], uint64_t previous_in_channel);
    void *context;
    uint64_t sequence;
    uint8_t hash[SHA256_SIZE];
    uint8_t *signed_bytes;
    size_t signed_size;
};

/* Opens or creates state/sender.db; makes the chain id on creation. */
MUST_CHECK enum status ledger_open(const char *state_directory, struct ledger **ledger);
void ledger_close(struct ledger *ledger);
/* Whether the newest change could not be recorded. Any thread, without waiting. */
bool ledger_is_failing(const struct ledger *ledger);
void ledger_chain_id(const struct ledger *ledger, uint8_t chain_id[static CHAIN_ID_SIZE]);
/*
 * Moves the epoch counter to the larger of its next value and `at_least`, and commits. One call a start, with the wall
 * clock's seconds: so a reinstalled sender, or one restored from a backup, does not fall behind the epoch that
 * receivers have confirmed.
 */
MUST_CHECK enum status ledger_next_epoch(struct ledger *ledger, uint32_t at_least, uint32_t *counter);
/* Newest sequence and its manifest's hash; 0 and zeros when none. */
MUST_CHECK enum status ledger_newest(struct ledger *ledger, uint64_t *sequence, uint8_t hash[static SHA256_SIZE]);

/* Records the intents of a batch in one transaction (state CLAIMING); ledger_apply() moves them on. */
MUST_CHECK enum status ledger_claim(struct ledger *ledger, const struct ledger_transfer *transfers, size_t count);
/* All changes in one transaction. */
MUST_CHECK enum status ledger_apply(struct ledger *ledger, const struct ledger_change *changes, size_t count);
/* All marks in one transaction; those of transfers that are not under way any more change nothing. */
MUST_CHECK enum status ledger_mark(struct ledger *ledger, const struct ledger_mark *marks, size_t count);
/* One transaction: assigns consecutive sequences, calls sign for each, stores the signed bytes, sets state SEALED. All
 * or none. */
MUST_CHECK enum status ledger_seal(struct ledger *ledger, struct ledger_seal *seals, size_t count);
/* Signed bytes of a sealed transfer, malloc'ed. */
MUST_CHECK enum status ledger_signed_bytes(struct ledger *ledger, uint64_t sequence, uint8_t **bytes, size_t *size,
                                           uint8_t hash[static SHA256_SIZE]);

/* The transfer `id`; STATUS_NOT_FOUND when it is unknown. */
MUST_CHECK enum status ledger_find(struct ledger *ledger, const uint8_t id[static TRANSFER_ID_SIZE],
                                   struct ledger_transfer *transfer);
/* Calls `visit` for each transfer in the state, oldest claim first. `visit` must not call the ledger. */
MUST_CHECK enum status ledger_each(struct ledger *ledger, enum ledger_state state,
                                   void (*visit)(const struct ledger_transfer *transfer, void *context), void *context);
/* Transfers ever sent, no longer retained ones included, and ever refused. */
MUST_CHECK enum status ledger_count_sent(struct ledger *ledger, uint64_t *sent, uint64_t *failed);

#endif
