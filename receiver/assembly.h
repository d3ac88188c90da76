// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_RECEIVER_ASSEMBLY_H
#define DIODECAST_RECEIVER_ASSEMBLY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/frame.h"
#include "proto/limits.h"
#include "proto/manifest.h"
#include "proto/signed.h"
#include "receiver/extents.h"

/*
 * One open transfer: which bytes of which artifact are held, the parts of its manifest, and what is missing. Sans I/O:
 * the bytes themselves go out through a callback. Owned by one stage at a time; nothing here is thread-safe.
 */

enum {
    ASSEMBLY_EXTENTS = 4096, /* ranges that one artifact or manifest may be scattered over */
    ASSEMBLY_PAGE = 32,      /* artifacts in a page of the table */
};
#define ASSEMBLY_GRACE_NS UINT64_C(3000000000) /* longer than the spread of the manifest's copies */

/* What a class of transfers may take together. */
struct assembly_budget {
    size_t memory, memory_limit; /* bytes of tables and manifests */
    uint64_t held, held_limit;   /* bytes of artifacts */
};

enum assembly_state {
    ASSEMBLY_OPEN,       /* collects */
    ASSEMBLY_PUBLISHING, /* belongs to the publish stage; nothing is accepted */
    ASSEMBLY_CLOSED,     /* refused, aborted or evicted: tables are gone, the owner still has to forget it */
};

struct assembly_artifact {
    uint64_t size;       /* from the first DATA, or from the manifest */
    struct extents held; /* bytes handed to the writer */
    bool size_known;

    /* The rest is the store's. */
    bool placed;     /* `place` is valid */
    bool reread;     /* what was hashed on arrival is void: the verifier reads it all */
    bool noted;      /* its size and place are known to the record of the transfer */
    uint16_t state;  /* the hasher's: that of `digest` */
    uint64_t place;  /* offset in the transfer's file of small artifacts */
    uint64_t hashed; /* bytes from the start that went into `digest`, or into `sha256` when it is the size; in state
                        OPEN some of them may still be on their way */
    struct digest *digest;
    void *file;
    uint8_t sha256[SHA256_SIZE];
};

struct assembly {
    uint8_t id[TRANSFER_ID_SIZE];
    uint32_t sender_id;
    enum assembly_state state;
    bool announced;  /* vouched for by a signature: ANNOUNCE or manifest */
    bool admitted;   /* there was room for it when it was announced; data of others is not kept */
    bool lapsed;     /* the catalog's: without progress for so long that no room is kept for it */
    bool incomplete; /* last answer of assembly_is_incomplete() */
    char channel[LIMIT_CHANNEL_LENGTH + 1];
    char name[LIMIT_COMPONENT_LENGTH + 1];
    uint64_t total_bytes; /* from ANNOUNCE or manifest; 0 while unknown */
    uint32_t total_artifacts;
    uint64_t held_bytes;
    uint64_t opened_ns;
    int64_t first_seen_ns; /* the store's: CLOCK_REALTIME when the manifest was bound, in an earlier run if recorded */
    uint64_t progress_ns;  /* when a frame last added something */
    uint64_t refused_until_ns; /* the catalog's: nothing more is taken before; see catalog_refuse() */

    /* Manifest: parts while they come in, then the decoded message and its reader. */
    uint8_t *parts;
    uint32_t parts_total;
    struct extents parts_held;
    struct signed_message manifest;
    struct manifest_reader *reader; /* not NULL: a valid manifest is held */
    uint64_t sequence;
    uint8_t chain_id[CHAIN_ID_SIZE];

    /* From the newest MANIFEST frame. */
    uint16_t lanes; /* 0: none came */
    uint64_t watermark[LIMIT_LANES];
    uint64_t watermark_epoch;
    uint64_t over_since_ns; /* when all lanes were first seen to be past the watermark; 0: not yet */

    struct assembly_artifact **pages;
    uint32_t page_count;
    uint32_t artifact_count; /* highest index seen plus one; the manifest's number once bound */
    struct assembly_budget *budget;
    size_t memory; /* taken from the budget */

    _Atomic uint64_t verified_bytes; /* written by the publish stage while it re-reads what is staged… */
    _Atomic uint64_t verify_total;   /* …of so many; 0: it does not */

    void *stage;                    /* the store's */
    void *kept;                     /* likewise, for its record in the ledger */
    struct assembly *next;          /* the catalog's hash chain */
    struct assembly *older, *newer; /* the catalog's list by progress */
};

/* `budget` is borrowed. NULL when it has no room. */
struct assembly *assembly_create(const uint8_t id[static TRANSFER_ID_SIZE], uint32_t sender_id,
                                 struct assembly_budget *budget, uint64_t now_ns);
void assembly_destroy(struct assembly *assembly);
/* Frees tables and manifest and gives back the budget; what is left only names the transfer. State CLOSED. */
void assembly_close(struct assembly *assembly);
/* Moves what is taken to another budget; false, changing nothing, when it does not fit. */
bool assembly_move_budget(struct assembly *assembly, struct assembly_budget *budget);

/* The artifact, or NULL when nothing was ever said of it. Stays at its address until the assembly is closed. */
struct assembly_artifact *assembly_artifact(const struct assembly *assembly, uint32_t index);

/* Called for each range that was missing; the bytes lie in the caller's memory and count as held from here on. */
typedef void assembly_write(void *context, struct assembly *assembly, uint32_t index,
                            struct assembly_artifact *artifact, uint64_t offset, const uint8_t *bytes, uint32_t size);
/* Called before an artifact is emptied because its size was not what the manifest says. */
typedef void assembly_reset(void *context, struct assembly *assembly, uint32_t index,
                            struct assembly_artifact *artifact);

enum assembly_outcome {
    ASSEMBLY_NEW,       /* something was added */
    ASSEMBLY_DUPLICATE, /* held already; first come, first kept */
    ASSEMBLY_CONFLICT,  /* contradicts the manifest or an earlier frame */
    ASSEMBLY_LIMIT,     /* a bound or the budget is used up; counts as missing */
};

enum assembly_outcome assembly_data(struct assembly *assembly, const struct frame_data *data, uint64_t now_ns,
                                    assembly_write *write, void *context);

/*
 * Takes a part of the manifest, and the watermarks beside it. Parts of a total that differs from what is held replace
 * it: of two the later may be the true one.
 */
enum assembly_outcome assembly_part(struct assembly *assembly, const struct frame_manifest *part, uint64_t epoch,
                                    uint64_t now_ns);
/* Whether all parts are there; then parts[0..parts_total) is the Signed message. */
bool assembly_parts_complete(const struct assembly *assembly);
/* Throws the parts away: they made no valid manifest. */
void assembly_drop_parts(struct assembly *assembly);

/*
 * Binds the manifest, taking *message and reader (whose bytes are message->body): sizes become the signed ones,
 * artifacts of another size start again, artifacts that do not exist are dropped. False, taking nothing, when the
 * budget does not allow for the table.
 */
bool assembly_bind(struct assembly *assembly, struct signed_message *message, struct manifest_reader *reader,
                   uint64_t now_ns, assembly_reset *reset, void *context);
/* Lets go of the manifest, so that another one can be bound; what is held stays. One is bound. */
void assembly_unbind(struct assembly *assembly);

/*
 * For a transfer that is restored from its record: the artifact of this size, made when nothing was said of it; NULL
 * when that contradicts the manifest or what was said before, or a bound is reached.
 */
struct assembly_artifact *assembly_expect(struct assembly *assembly, uint32_t index, uint64_t size);
/* Likewise: [first, end) of the artifact, cut at its size, is held already. What does not fit a bound is missing. */
void assembly_hold(struct assembly *assembly, uint32_t index, uint64_t first, uint64_t end);

/* Counts [first, end) of the artifact as missing again. */
void assembly_lose(struct assembly *assembly, uint32_t index, uint64_t first, uint64_t end);

/* Artifact bytes that the manifest names and that are not held. A manifest must be held. */
uint64_t assembly_missing_bytes(const struct assembly *assembly);
/* A manifest is held and nothing is missing. */
bool assembly_is_complete(const struct assembly *assembly);

/* What is known of the sender's lanes when the question of incompleteness is put. */
struct assembly_lanes {
    unsigned count; /* lanes that this receiver serves */
    struct {
        bool heard;
        uint64_t epoch, passed_sbn;
    } lane[LIMIT_LANES];
    uint64_t confirmed_epoch;
    uint8_t chain_id[CHAIN_ID_SIZE]; /* the sender's current chain */
    uint64_t settled_sequence;       /* in it: all up to here has been sent, also what a restart had interrupted */
};

/*
 * Whether what is missing will not come by itself: the manifest is held, every lane has passed the watermark that came
 * with it or the sender's signed word is that it has no more to send of it, and since then, and since the last byte,
 * ASSEMBLY_GRACE_NS has gone by. Remembers the answer in assembly->incomplete.
 */
bool assembly_is_incomplete(struct assembly *assembly, const struct assembly_lanes *lanes, uint64_t now_ns);

#endif
