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
#include "proto/message.h"
#include "proto/ticket.h"
#include "sender/parts.h"

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
    SIM_STORM,  /* the same, more of it, and outages of up to a second */
    SIM_NIGHT,  /* and of several seconds, which swallow whole transfers; only when the run is a hard one */
    SIM_WEATHER_COUNT = SIM_NIGHT,
};

/* What a side does that others see or that survives it. Its crash may come at any of these. */
struct sim_life {
    uint64_t left; /* until the crash; UINT64_MAX: none is due */
    bool dead;
};
/* Whether this act still takes place. */
bool sim_act(struct sim_life *life);
struct sim_world;
/* Something begins that is worth a crash: perhaps one of the next acts is the last. */
void sim_tempt(struct sim_world *world, struct sim_life *life);

/* How often things happened, over all seeds. */
struct sim_statistics {
    uint64_t sender_crashes, receiver_crashes, power_losses, outages, clock_steps, full_disks, write_errors;
    uint64_t flush_errors, unrecorded, checkpoints, restored, restored_bytes, taken_over, discarded;
    uint64_t tickets, whole_tickets, manifest_tickets, chunk_tickets, mistyped, replays, heals, resumed;
    uint64_t sender_backups, receiver_backups, again, lost, rollbacks, consumed, forgotten, renumbered;
};
extern struct sim_statistics sim_statistics;
void sim_print_statistics(void);

struct sim_setup {
    unsigned lanes;
    uint8_t source_symbols, repair_symbols;
    uint16_t symbol_size, depth;
    uint64_t rate_bits_per_s, burst_ns, span_ns; /* span: of a full group on one lane */
    enum sim_weather weather;
    unsigned loss, duplicate, reorder, damage, replay; /* per million datagrams */
    unsigned sender_restarts, receiver_restarts;

    bool hard;  /* the rest, and a crash of one side may come at any of its acts */
    bool heals; /* idle re-sending is on */
    unsigned heal_copies;
    unsigned operators;                        /* per million and half a second: somebody replays what is missing */
    unsigned tempting;                         /* crashes that come near to a seal or to a delivery */
    unsigned clock_steps;                      /* of the sender's wall clock */
    unsigned full_disks;                       /* times that the staging disk is full for a while */
    unsigned write_errors;                     /* per million writes: no space */
    unsigned flush_errors;                     /* per million checkpoints */
    unsigned ledger_errors;                    /* likewise */
    unsigned sender_backups, receiver_backups; /* older copies of the state that are put in its place */
    bool disk_faults;                          /* some of these three or of full disks are there */
    uint64_t disk_ns;                          /* a write takes up to so long */
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
    bool gone;     /* the sender's state was put back to a time before it */
    uint64_t mark; /* bytes that have left: what is before is not sent again after a restart */
    uint32_t heals;
    int64_t sent_at_ns, again_at_ns; /* of the sender's wall clock */
    uint64_t sequence;
    uint8_t *signed_bytes;
    size_t signed_size;

    bool repeated;        /* replayed or healed: it may come although it was lost */
    unsigned deliveries;  /* in the history that the receiver's ledger knows */
    bool doubted;         /* an alarm names its number */
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

/* A replay that the sender's ledger knows of. */
enum { SIM_REPLAYS = 1000 };
struct sim_replay {
    struct sim_transfer *transfer;
    struct parts parts;
    bool now;
    enum { SIM_WAITING, SIM_RUNNING, SIM_DONE } state;
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
    int64_t sender_clock_ns;    /* what its wall clock is wrong by */
    struct sim_replay *replays; /* SIM_REPLAYS */
    size_t replay_count;
    struct sim_life sender_life, receiver_life;

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
void sim_link_lose_in_flight(struct sim_link *link); /* the sender's host lost power: some of what has just left */
void sim_link_clear_up(struct sim_link *link);       /* from now on nothing is lost */
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
/* Sends parts of a transfer once more that has its manifest, as SCHEDULE_NOW, SCHEDULE_REPLAY or SCHEDULE_HEAL. */
struct sim_resend {
    unsigned class;
    struct parts parts;
    struct sim_replay *replay; /* NULL: a heal */
};
void sim_sender_resend(struct sim_sender *sender, struct sim_transfer *transfer, const struct sim_resend *resend);
void sim_sender_run(struct sim_sender *sender);
uint64_t sim_sender_deadline_ns(const struct sim_sender *sender);
bool sim_sender_is_idle(const struct sim_sender *sender);
int64_t sim_sender_realtime_ns(const struct sim_world *world);

/* repeat.c: what the sender sends again, of its own accord or asked by somebody, as repeat.c of the sender does. */
struct sim_repeat;
struct sim_repeat *sim_repeat_create(struct sim_sender *sender, struct sim_world *world);
void sim_repeat_destroy(struct sim_repeat *repeat);
void sim_repeat_sent(struct sim_repeat *repeat, const struct sim_transfer *transfer);
void sim_repeat_ended(struct sim_repeat *repeat, struct sim_transfer *transfer, const struct sim_resend *resend);
/* `idle`: nothing is sent for the first time. True when something was begun. */
bool sim_repeat_run(struct sim_repeat *repeat, bool idle);
uint64_t sim_repeat_deadline_ns(const struct sim_repeat *repeat, bool idle);
bool sim_repeat_is_through(const struct sim_repeat *repeat);
size_t sim_repeat_ranges(struct sim_repeat *repeat, struct message_range *ranges);

/* backup.c: the sender's state as it was at some time. */
struct sim_backup;
struct sim_backup *sim_backup_take(const struct sim_world *world);
void sim_backup_restore(struct sim_world *world, const struct sim_backup *backup);
void sim_backup_destroy(struct sim_backup *backup);

/* operator.c: carries tickets from the high side to the low side. */
struct sim_errand {
    char (*tickets)[TICKET_TEXT_SIZE];
    size_t count, capacity;
};
void sim_errand_add(struct sim_errand *errand, const struct ticket *ticket);
void sim_errand_free(struct sim_errand *errand);
/* Hands them in. `baseline`: and asks for all up to this number. Returns how many replays that makes. */
size_t sim_errand_run(struct sim_world *world, struct sim_random *random, struct sim_errand *errand, uint64_t baseline,
                      bool careless);

/* ledger.c, disk.c: what survives a run of the receiver. */
struct sim_disk;
struct ledger *sim_ledger_create(struct sim_world *world);
struct ledger *sim_ledger_copy(const struct ledger *ledger);
void sim_ledger_destroy(struct ledger *ledger);
struct sim_disk;
/* Whether the delivery of this transfer is, or will be found to be, in the ledger. */
bool sim_ledger_has(const struct ledger *ledger, const struct sim_disk *disk, size_t transfer);
struct sim_disk *sim_disk_create(struct sim_world *world);
void sim_disk_destroy(struct sim_disk *disk);
void sim_disk_lose_power(struct sim_disk *disk);

/* receiver.c: one run of the receiver. */
struct sim_receiver;
struct sim_receiver *sim_receiver_create(struct sim_world *world, struct ledger *ledger, struct sim_disk *disk,
                                         bool tampered);
void sim_receiver_destroy(struct sim_receiver *receiver);
void sim_receiver_take(struct sim_receiver *receiver, const struct sim_packet *packet);
void sim_receiver_run(struct sim_receiver *receiver);
uint64_t sim_receiver_deadline_ns(const struct sim_receiver *receiver);
void sim_receiver_set_full(struct sim_receiver *receiver, bool full);
/* survey.c: looks at what is reported as lost, and notes it in the transfers. With an errand, takes its tickets. */
void sim_receiver_survey(struct sim_receiver *receiver, struct sim_errand *errand);
uint64_t sim_receiver_baseline(struct sim_receiver *receiver);
/* Whether the receiver says now that it lacks the transfer; true too for those before its time. */
bool sim_receiver_knows(struct sim_receiver *receiver, struct sim_transfer *transfer);
/* Whether something came of a transfer a moment ago: it may be whole or delivered directly, and is not reported yet. */
bool sim_receiver_is_filling(const struct sim_receiver *receiver);
/* After the end: nothing is held that should not be. */
void sim_receiver_inspect(struct sim_receiver *receiver);
/* At the end of all: no number of a delivered transfer is named as never seen. */
void sim_receiver_check_numbers(struct sim_receiver *receiver);

#endif
