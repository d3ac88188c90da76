// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_COMMON_AUDIT_H
#define DIODECAST_COMMON_AUDIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/status.h"
#include "proto/limits.h"

/*
 * The audit trail: what happened to each transfer, one JSON object a line, appended to STATE/audit/ and never changed.
 * Each record holds the SHA-256 of the one before, also over the rotation of segments; checkpoints are signed by the
 * audit key of this side (made in STATE/audit/ at the first start) and told to the journal, so that even who can write
 * the files can't cut them unseen. The format stands in diodecast-audit(5). Thread-safe.
 */
struct audit;

enum audit_event {
    AUDIT_STARTED, /* the daemon; detail: version */
    AUDIT_STOPPED,
    AUDIT_ACCEPTED,    /* low: claimed from the spool */
    AUDIT_REFUSED,     /* low: filed under .failed; detail: why */
    AUDIT_RETURNED,    /* low: given back to the spool; detail: why */
    AUDIT_SEALED,      /* low: has a sequence number and signed bytes */
    AUDIT_SENT,        /* low: all data and all copies have left */
    AUDIT_ASKED,       /* low: a replay was asked for; actor, detail: the ticket or range */
    AUDIT_REPLAYED,    /* low: sent again; detail: what of it, why */
    AUDIT_EXPIRED,     /* low: no longer retained */
    AUDIT_SEEN,        /* high: its manifest is held */
    AUDIT_COMPLETED,   /* high: nothing is missing any more */
    AUDIT_VERIFIED,    /* high: content is what the manifest says */
    AUDIT_DELIVERED,   /* high: visible in the intake queue */
    AUDIT_QUARANTINED, /* high: manifest refused; detail: why */
    AUDIT_HELD,        /* high: verified, and held back in the quarantine; detail: why */
    AUDIT_RELEASED,    /* high: what was held back may be delivered now; actor */
    AUDIT_DISCARDED,   /* high: what was held of it is gone; actor, detail: why */
    AUDIT_WRITTEN_OFF, /* high: its loss was accepted; actor, detail: the reason given */
    AUDIT_ALARM,       /* high: rollback or fork of a chain; detail: what */
    AUDIT_KEY,         /* high: a public key was added, revoked, removed, announced…; detail: which, what */
    /* The log's own, which nobody else records: */
    AUDIT_SEGMENT,    /* first record of a file */
    AUDIT_CHECKPOINT, /* holds a signature of itself, and so of all before */
    AUDIT_REPAIRED,   /* a torn end was cut off at the start; detail: where it is kept */
    AUDIT_RESUMED,    /* the log could not be written for a while; detail: since when, why, what is lost */
    AUDIT_EVENT_COUNT,
};

enum { AUDIT_DETAIL_SIZE = 512, AUDIT_BATCH = 1024 }; /* a longer detail is cut; entries in one audit_record() */

/* What happened. What is NULL, zero or "" is left out of the record. All borrowed for the call. */
struct audit_entry {
    enum audit_event event;
    uint32_t sender_id;
    const uint8_t *chain_id; /* CHAIN_ID_SIZE */
    uint64_t sequence;       /* of the first, where it is about several */
    uint64_t last_sequence;
    const uint8_t *transfer_id;   /* TRANSFER_ID_SIZE */
    const uint8_t *manifest_hash; /* SHA256_SIZE, of the manifest's body: joins the logs of both sides */
    const char *channel, *name;
    uint64_t bytes;
    const char *actor; /* a user */
    const char *detail;
};

/*
 * Opens STATE/audit/, making key and first segment; cuts off, keeps beside and records what a crash left of a last
 * write. `side` is "low" or "high", static. Starts a thread that writes. STATUS_EXISTS when another process has the log
 * open, STATUS_CORRUPT when its newest segment can't be gone on with. Logs what fails.
 */
MUST_CHECK enum status audit_open(const char *state_directory, const char *side, struct audit **audit);
/* Writes what was noted and a last checkpoint. NULL allowed. */
void audit_close(struct audit *audit);
/*
 * Appends the records (count <= AUDIT_BATCH), durable on STATUS_OK: one write and one fsync for all of them, shared
 * with calls of other threads at the same time. On failure none counts, the audit is failing until a later write
 * succeeds (it is tried each second), errno says why, and the caller must not do what it could not record. NULL as
 * `audit` does nothing (tests of single stages). Any thread.
 */
MUST_CHECK enum status audit_record(struct audit *audit, const struct audit_entry *entries, size_t count);
/*
 * The same for what has happened already and can't be held back: kept and written with the next records when the disk
 * fails, and within a second otherwise. Notes that exceed what is kept are lost, and their number is recorded. Never
 * waits for a disk. Any thread.
 */
void audit_note(struct audit *audit, const struct audit_entry *entry);
/* Whether the newest records could not be written. False for NULL. Any thread, without waiting. */
bool audit_is_failing(const struct audit *audit);
/*
 * Whether the last run recorded this of the transfer shortly before its end (its last thousands of records are looked
 * at), so that what a recovery finishes is not recorded twice. False for NULL. Any thread.
 */
bool audit_was_recorded(const struct audit *audit, enum audit_event event,
                        const uint8_t transfer_id[static TRANSFER_ID_SIZE]);

#endif
