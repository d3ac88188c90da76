// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_TESTS_SIM_SIM_H
#define DIODECAST_TESTS_SIM_SIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/clock.h"
#include "common/signature.h"
#include "common/trust.h"
#include "proto/limits.h"
#include "proto/manifest.h"

/*
 * The pair in virtual time, in one thread: sender core, lossy link, receiver core, with a model of ledgers and disk.
 * All that happens follows from the seed.
 */

#define SIM_REALTIME_NS INT64_C(1700000000000000000) /* the wall clock at virtual time 0 */

struct sim_random {
    uint64_t state;
};
uint64_t sim_next(struct sim_random *random);
uint64_t sim_below(struct sim_random *random, uint64_t limit);                /* 0 .. limit - 1 */
uint64_t sim_between(struct sim_random *random, uint64_t low, uint64_t high); /* both included */
bool sim_chance(struct sim_random *random, unsigned per_million);

enum sim_weather {
    SIM_CLEAR,  /* nothing is lost: everything must arrive */
    SIM_BURSTS, /* bursts within the budget: likewise */
    SIM_RAIN,   /* independent loss, and bursts, duplicates, reordering, damage */
    SIM_STORM,  /* the same, more of it, and outages */
    SIM_WEATHER_COUNT,
};

struct sim_setup {
    unsigned lanes;
    uint8_t source_symbols, repair_symbols;
    uint16_t symbol_size, depth;
    uint64_t rate_bits_per_s, burst_ns, span_ns; /* span: of a full group on one lane */
    enum sim_weather weather;
    unsigned loss, duplicate, reorder, damage, replay; /* per million datagrams */
    unsigned sender_restarts, receiver_restarts;
};

struct sim_file {
    char path[64];
    enum manifest_kind kind;
    uint64_t size;
    uint8_t *bytes;
};

/* What both ends are measured against, and what the sender's ledger keeps of it. */
struct sim_transfer {
    uint8_t id[TRANSFER_ID_SIZE];
    char channel[16], name[32];
    unsigned class;
    uint64_t submit_ns;
    struct sim_file *files; /* in manifest order */
    size_t file_count;
    uint32_t artifact_count;
    uint64_t total_bytes;
    bool changes; /* while it is read: the sender has to give it up */

    bool submitted, sent;
    uint64_t mark; /* bytes that have left: what is before is not sent again after a restart */
    uint64_t sequence;
    uint8_t *signed_bytes;
    size_t signed_size;

    bool repeated; /* replayed or healed: it may come although it was lost */
    unsigned deliveries;
    uint64_t lost_at_ns;  /* reported as lost by the receiver; 0: not */
    unsigned lost_in_run; /* of the sender */
};

/* One block that was sent: what is in it and which of its symbols arrived in time. */
struct sim_piece {
    struct sim_transfer *transfer;
    uint32_t artifact; /* UINT32_MAX: manifest */
    uint64_t offset;
    uint32_t size;
};
struct sim_record {
    uint8_t source_symbols;
    uint64_t epoch, sbn, first_ns; /* first_ns: of its first symbol that was sent */
    unsigned lane;
    uint64_t arrived[4];
    struct sim_piece *pieces;
    unsigned piece_count, piece_capacity;
};

struct sim_link;
struct sim_world {
    uint64_t seed;
    bool verbose, failed;
    char why[400];
    uint64_t now_ns;
    struct sim_random random;
    struct sim_setup setup;
    struct sim_transfer *transfers;
    size_t transfer_count;
    struct sim_record *records;
    size_t record_count, record_capacity;
    struct sim_link *link;

    /* The sender's durable state. */
    struct signature_key *key;
    struct trust *trust;
    uint8_t chain_id[CHAIN_ID_SIZE];
    uint64_t newest_sequence;
    uint8_t newest_hash[SHA256_SIZE];
    uint32_t epoch_counter;

    uint64_t datagrams, dropped, delivered, repaired;
};

/* The first failure of a run counts. */
void sim_fail(struct sim_world *world, const char *format, ...) __attribute__((format(printf, 2, 3)));
void sim_say(const struct sim_world *world, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* world.c: what there is to be sent, and judgement. */
void sim_world_init(struct sim_world *world, uint64_t seed, bool verbose);
void sim_world_deinit(struct sim_world *world);
struct sim_transfer *sim_world_find(struct sim_world *world, const uint8_t *transfer_id);
uint32_t sim_world_add_record(struct sim_world *world);
void sim_world_add_piece(struct sim_world *world, uint32_t record, struct sim_transfer *transfer, uint32_t artifact,
                         uint64_t offset, uint32_t size);
void sim_world_forget_arrivals(struct sim_world *world); /* the receiver lost what it held */
/* Says where the pieces of a transfer went. */
void sim_world_describe(const struct sim_world *world, const struct sim_transfer *transfer);
/* Whether blocks that arrived with enough symbols hold all of the transfer and its manifest. */
bool sim_world_arrived(const struct sim_world *world, const struct sim_transfer *transfer);

/* link.c */
struct sim_packet {
    uint64_t at_ns;
    uint32_t record;
    uint8_t esi;
    bool in_time; /* not held back for longer than reordering may */
    uint16_t size;
    uint8_t *bytes;
};
struct sim_link *sim_link_create(struct sim_world *world);
void sim_link_destroy(struct sim_link *link);
void sim_link_clear_up(struct sim_link *link); /* from now on nothing is lost */
void sim_link_send(struct sim_link *link, const uint8_t *header, const uint8_t *symbol, uint16_t symbol_size,
                   uint32_t record, uint8_t esi);
uint64_t sim_link_deadline_ns(const struct sim_link *link);
/* The next packet that is due; valid until the next call. */
const struct sim_packet *sim_link_take(struct sim_link *link);

/* seal.c: the seal stage, with the model ledger; the next number of the chain, and the bytes to send. */
void sim_seal(struct sim_world *world, struct sim_transfer *transfer);
/* Owner of the bytes is the caller. */
void sim_seal_abort(const struct sim_world *world, const struct sim_transfer *transfer, uint8_t **signed_bytes,
                    size_t *signed_size);

/* sender.c: one run of the sender, from start to crash. */
struct sim_sender;
struct sim_sender *sim_sender_create(struct sim_world *world);
void sim_sender_destroy(struct sim_sender *sender);
void sim_sender_submit(struct sim_sender *sender, struct sim_transfer *transfer);
/* Sends a transfer once more that has its manifest: the data of its chunks [first, last] (none when first > last) and
 * the manifest, as SCHEDULE_NOW, SCHEDULE_REPLAY or SCHEDULE_HEAL. False when it has been sent too often in this run.
 */
struct sim_resend {
    unsigned class;
    uint64_t first, last;
};
bool sim_sender_resend(struct sim_sender *sender, struct sim_transfer *transfer, const struct sim_resend *resend);
void sim_sender_run(struct sim_sender *sender);
uint64_t sim_sender_deadline_ns(const struct sim_sender *sender);
bool sim_sender_is_idle(const struct sim_sender *sender);

/* receiver.c: one run of the receiver, and its durable ledger. */
struct sim_ledger;
struct sim_ledger *sim_ledger_create(void);
void sim_ledger_destroy(struct sim_ledger *ledger);
struct sim_receiver;
struct sim_receiver *sim_receiver_create(struct sim_world *world, struct sim_ledger *ledger);
void sim_receiver_destroy(struct sim_receiver *receiver);
void sim_receiver_take(struct sim_receiver *receiver, const struct sim_packet *packet);
void sim_receiver_run(struct sim_receiver *receiver);
uint64_t sim_receiver_deadline_ns(const struct sim_receiver *receiver);
/* Looks at what is reported as lost, and notes it in the transfers. */
void sim_receiver_survey(struct sim_receiver *receiver);
/* Whether the receiver says now that it lacks the transfer; true too for those before its time. */
bool sim_receiver_knows(struct sim_receiver *receiver, struct sim_transfer *transfer);
/* After the end: nothing is held that should not be. */
void sim_receiver_inspect(struct sim_receiver *receiver);

#endif
