// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_RECEIVER_KNOWLEDGE_H
#define DIODECAST_RECEIVER_KNOWLEDGE_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/limits.h"
#include "proto/message.h"
#include "receiver/extents.h"

/*
 * What the high side knows of each sender's chains: which sequence numbers it has, which it never received, which
 * losses were accepted, and whether the chain contradicts itself. Only signed content gets here. Sans I/O; one thread.
 *
 * A number counts as never seen when it is settled (the sender has sent all of it, three copies of the manifest within
 * more than a second included), no valid manifest with it is held, and KNOWLEDGE_GRACE_NS has gone by since a heartbeat
 * told that. The grace covers what may still overtake: the last copy on another lane, and the repeat of its group. So
 * with a heartbeat each second a number is named less than three seconds after the link's return. What is not settled
 * is never named: a transfer gets its number when all of it was read, and a heartbeat that names the number as settled
 * only leaves when its last copy has left, however many smaller transfers have overtaken it.
 */
struct knowledge;

#define KNOWLEDGE_GRACE_NS UINT64_C(1000000000)
enum {
    KNOWLEDGE_CHAINS = 256,    /* the one heard of longest ago makes room */
    KNOWLEDGE_RANGES = 65536,  /* of known sequences in one chain */
    KNOWLEDGE_IN_FLIGHT = 256, /* numbers of transfers that heartbeats told, for each sender's current chain */
};

struct knowledge_chain {
    uint32_t sender_id;
    uint8_t chain_id[CHAIN_ID_SIZE];
    bool has_baseline;
    bool current;      /* named by the sender's newest heartbeat */
    uint64_t baseline; /* numbers up to this were before our time */
    uint64_t newest_sequence;
    uint64_t told_sequence; /* the newest that a heartbeat named, and the hash that it gave with it */
    uint8_t told_hash[SHA256_SIZE];
    uint64_t settled_sequence;  /* as the sender told last */
    uint64_t delivered_through; /* all from the baseline to here was delivered; 0: nothing */
    uint64_t epoch;
    uint64_t changed; /* grows with each change of what the ledger keeps */
};

/* A chain that contradicts itself. */
enum knowledge_alarm_kind {
    KNOWLEDGE_ROLLBACK = 1, /* a newer run of the sender names fewer numbers than were given before */
    KNOWLEDGE_FORK = 2,     /* signed content names two manifests for the same number */
};
enum { KNOWLEDGE_ALARM_KINDS = 2 };

struct knowledge_alarm {
    enum knowledge_alarm_kind kind;
    uint32_t sender_id;
    uint8_t chain_id[CHAIN_ID_SIZE];
    uint64_t first, last; /* numbers that it is about; grow as long as it lasts */
    uint64_t back_to;     /* ROLLBACK: newest number that the sender still had, the last time */
    int64_t at_ns;        /* CLOCK_REALTIME, when it was first taken up */
};

struct knowledge *knowledge_create(void);
void knowledge_destroy(struct knowledge *knowledge);

/* From the ledger at the start. The grace of what was settled begins anew: it may lie in what the last run left behind
 * for this one. */
void knowledge_load(struct knowledge *knowledge, const struct knowledge_chain *facts, uint64_t now_ns);
void knowledge_load_alarm(struct knowledge *knowledge, const struct knowledge_alarm *facts);

/*
 * A signed heartbeat. False when it is of an older epoch than one already heard: then it changes nothing. A chain that
 * is new to us starts with the heartbeat's newest sequence as its baseline; alarms of the chain that it replaces end.
 * Where a newer epoch names a lower number than a heartbeat before, the sender's state is an older one: the numbers
 * above are given anew, so nothing that is known of them counts any more.
 */
bool knowledge_heartbeat(struct knowledge *knowledge, const struct message_heartbeat *heartbeat, uint64_t now_ns);

/* A valid manifest with this number is held, or was delivered (then for ever). False when the set is full. */
bool knowledge_add(struct knowledge *knowledge, uint32_t sender_id, const uint8_t chain_id[static CHAIN_ID_SIZE],
                   uint64_t sequence, bool delivered);
/* The transfer with this number, held and not delivered, was given up: it counts as never seen from now on. */
void knowledge_remove(struct knowledge *knowledge, const uint8_t chain_id[static CHAIN_ID_SIZE], uint64_t sequence);
/* The loss of these numbers is accepted. False when the set is full. */
bool knowledge_write_off(struct knowledge *knowledge, const uint8_t chain_id[static CHAIN_ID_SIZE], uint64_t first,
                         uint64_t last);
bool knowledge_is_written_off(const struct knowledge *knowledge, const uint8_t chain_id[static CHAIN_ID_SIZE],
                              uint64_t sequence);
/* Whether the sender's current chain has this number delivered; false where that number has been given twice. */
bool knowledge_is_delivered(const struct knowledge *knowledge, uint32_t sender_id, uint64_t sequence);

/* Whether the sender's current chain contradicts itself or lacks numbers (as of its last heartbeat), so that a manifest
 * which would else be of no interest may tell something. */
bool knowledge_doubts(const struct knowledge *knowledge, uint32_t sender_id);
/* Whether nobody will ever miss the number: it is held or delivered, before our time or written off. */
bool knowledge_accounts_for(const struct knowledge *knowledge, const uint8_t chain_id[static CHAIN_ID_SIZE],
                            uint64_t sequence);
/* Whether a transfer that is held under this number may have lost it: the number was given anew, or may have been. */
bool knowledge_is_void(const struct knowledge *knowledge, const uint8_t chain_id[static CHAIN_ID_SIZE],
                       uint64_t sequence);

/*
 * What a signed manifest (with `held`: its own number and hash) or another signed message says of a number's manifest.
 * Contradictions raise the alarm of a fork. False when nothing is remembered of a number that was delivered: then the
 * ledger knows its hash, and knowledge_compare() is to be called with it.
 */
bool knowledge_claim(struct knowledge *knowledge, const uint8_t chain_id[static CHAIN_ID_SIZE], uint64_t sequence,
                     const uint8_t hash[static SHA256_SIZE], bool held);
void knowledge_compare(struct knowledge *knowledge, const uint8_t chain_id[static CHAIN_ID_SIZE], uint64_t sequence,
                       const uint8_t claimed[static SHA256_SIZE], const uint8_t delivered[static SHA256_SIZE],
                       bool held);

/* The next alarm that was raised or has grown since it was taken last; `realtime_ns` becomes its time when it is new.
 * False when there is none. */
bool knowledge_take_alarm(struct knowledge *knowledge, int64_t realtime_ns, struct knowledge_alarm *alarm);
/* The next chain whose alarms ended because it was replaced. */
bool knowledge_take_ended(struct knowledge *knowledge, uint8_t chain_id[static CHAIN_ID_SIZE]);
void knowledge_clear_alarms(struct knowledge *knowledge, const uint8_t chain_id[static CHAIN_ID_SIZE]);
void knowledge_each_alarm(const struct knowledge *knowledge,
                          void (*visit)(const struct knowledge_alarm *alarm, void *context), void *context);

/*
 * The number of a transfer of which no manifest is held, if a heartbeat told it and the manifest is lost (settled, and
 * the grace is over); 0 otherwise. Its chain is the sender's current one.
 */
uint64_t knowledge_lost_manifest(struct knowledge *knowledge, uint32_t sender_id,
                                 const uint8_t transfer_id[static TRANSFER_ID_SIZE], uint64_t now_ns);

/*
 * Ranges of all chains of the sender that were never seen and not written off, each chain's ascending. Of a chain that
 * was replaced nothing comes any more, so there every number that was named and not seen counts.
 */
void knowledge_each_never_seen(struct knowledge *knowledge, uint32_t sender_id, uint64_t now_ns,
                               void (*visit)(const struct knowledge_chain *chain, uint64_t first, uint64_t last,
                                             void *context),
                               void *context);
/* The sender's current chain (the last that a heartbeat of it named), or NULL. */
const struct knowledge_chain *knowledge_chain_of(const struct knowledge *knowledge, uint32_t sender_id);
const struct knowledge_chain *knowledge_find(const struct knowledge *knowledge,
                                             const uint8_t chain_id[static CHAIN_ID_SIZE]);
void knowledge_each_chain(const struct knowledge *knowledge,
                          void (*visit)(const struct knowledge_chain *chain, void *context), void *context);

#endif
