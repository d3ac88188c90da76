// SPDX-License-Identifier: Apache-2.0
#include "sender/pipeline.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "common/clock.h"
#include "common/doorbell.h"
#include "common/linkkey.h"
#include "common/log.h"
#include "common/units.h"
#include "sender/heartbeat.h"
#include "sender/lane.h"
#include "sender/pack.h"
#include "sender/read.h"
#include "sender/seal.h"
#include "sender/send.h"
#include "sender/witness.h"

/*
 *   control thread                 read thread                         send thread of each lane
 *
 *   pipeline_submit ─ submitted ─→ schedule → pack → read ─────── filled ─→ encode → interleave → pace → train → link
 *        ↑             mailbox      ↑ which      ↑ block  (io_uring)  queue      ↑                        (io_uring)
 *        │                          │ transfer   └─ hashed? ─ empty queue ───────┤ short groups once more
 *        │                          │ or copy                                    └ heartbeat each second
 *        │                          │    │
 *        │             sealed mailbox    └─→ seal thread: manifest, signature, ledger
 *        │                          └────────────┘
 *        └─ finished mailbox ←───── read thread, when the last copy has left
 *
 * Replays, heals and what was sealed before a restart have their manifest: the read stage checks each chunk against it
 * before it packs it, and they need no seal. Transfers travel through mailboxes and have one owner at a time; blocks
 * travel through bounded queues and come back empty. Everything that holds payload is allocated in pipeline_create().
 */
struct pipeline {
    const struct config *config;
    const struct signature_key *key;
    struct ledger *ledger;
    struct audit *audit;
    struct mailbox *finished;
    struct heartbeat *heartbeat;
    struct doorbell *read_bell;
    struct mailbox *submitted, *sealed;
    struct lane *lanes[LIMIT_LANES];
    struct send_stage *sends[LIMIT_LANES];
    struct seal *seal;
    struct read_stage *read;
    _Atomic uint64_t submitted_count, finished_count;
    _Atomic uint64_t beats_at_finish; /* beats begun on lane 0 when the newest transfer finished */
    atomic_bool paused;
};

static void take_to_seal(void *context, struct transfer *transfer)
{
    struct pipeline *pipeline = context;
    seal_submit(pipeline->seal, transfer);
}

static void note_sealed(void *context, const struct transfer *transfer)
{
    struct pipeline *pipeline = context;
    if (transfer->sequence != 0)
        heartbeat_sealed(pipeline->heartbeat, transfer->id, transfer->sequence, transfer->manifest_hash);
    struct audit_entry entry;
    uint8_t chain_id[CHAIN_ID_SIZE];
    ledger_chain_id(pipeline->ledger, chain_id);
    witness_transfer(&entry, AUDIT_SEALED, transfer, chain_id, NULL);
    audit_note(pipeline->audit, &entry);
}

static void finish(void *context, struct transfer *transfer)
{
    struct pipeline *pipeline = context;
    if (transfer->kind == TRANSFER_FRESH)
        heartbeat_left(pipeline->heartbeat, transfer->id);
    atomic_store(&pipeline->beats_at_finish, atomic_load(&pipeline->lanes[0]->beat_blocks));
    mailbox_post(pipeline->finished, &transfer->entry);
    atomic_fetch_add(&pipeline->finished_count, 1);
}

static enum status random_bytes(void *bytes, size_t size)
{
    ssize_t got = getrandom(bytes, size, 0);
    if (got == (ssize_t)size)
        return STATUS_OK;
    log_error("no random numbers: %s", strerror(errno));
    return STATUS_SYSTEM;
}

static enum status create_heartbeat(struct pipeline *pipeline, uint64_t *epoch)
{
    uint8_t chain_id[CHAIN_ID_SIZE], hash[SHA256_SIZE];
    uint32_t counter, random;
    uint64_t sequence;
    int64_t seconds = clock_realtime_ns() / (int64_t)CLOCK_SECOND_NS;
    enum status status =
        ledger_next_epoch(pipeline->ledger, seconds > 0 && seconds < UINT32_MAX ? (uint32_t)seconds : 0, &counter);
    if (status == STATUS_OK)
        status = ledger_newest(pipeline->ledger, &sequence, hash);
    if (status == STATUS_OK)
        status = random_bytes(&random, sizeof random);
    if (status != STATUS_OK)
        return status;
    *epoch = (uint64_t)counter << 32 | random;
    ledger_chain_id(pipeline->ledger, chain_id);
    pipeline->heartbeat = heartbeat_create(pipeline->config, pipeline->key, chain_id, *epoch, sequence, hash);
    assert(pipeline->heartbeat != NULL);
    return STATUS_OK;
}

static enum status create_sends(struct pipeline *pipeline, uint64_t epoch)
{
    struct send_setup setup = {.config = pipeline->config,
                               .heartbeat = pipeline->heartbeat,
                               .sender_id = signature_sender_id(signature_key_public(pipeline->key)),
                               .epoch = epoch};
    uint8_t secret[LINKKEY_SIZE];
    char reason[256];
    enum status status = random_bytes(&setup.salt, sizeof setup.salt);
    if (status == STATUS_OK && pipeline->config->link_key != NULL) {
        status = linkkey_load(pipeline->config->link_key, secret, reason);
        if (status != STATUS_OK)
            log_error("%s", reason);
        setup.secret = secret;
    }
    for (unsigned i = 0; status == STATUS_OK && i < pipeline->config->lanes; i++) {
        setup.lane = pipeline->lanes[i];
        status = send_create(&setup, &pipeline->sends[i]);
    }
    explicit_bzero(secret, sizeof secret);
    return status;
}

static enum status create_lanes(struct pipeline *pipeline)
{
    const struct config *config = pipeline->config;
    char total[UNITS_TEXT_SIZE], block[UNITS_TEXT_SIZE];
    uint64_t bytes = 0;
    assert(config->lanes >= 1);
    for (unsigned i = 0; i < config->lanes; i++) {
        enum status status = lane_create(config, i, pipeline->read_bell, &pipeline->lanes[i]);
        if (status != STATUS_OK)
            return status;
        bytes += slab_bytes(pipeline->lanes[i]->slab);
    }
    log_info("blocks take %s: %u lanes of %u blocks of %s (%u+%u symbols of %u bytes, groups of %u)",
             units_format_size(bytes, total), config->lanes, pipeline->lanes[0]->block_count,
             units_format_size(lane_block_size(config), block), config->source_symbols, config->repair_symbols,
             config->symbol_size, config->depth);
    return STATUS_OK;
}

static enum status create_all(struct pipeline *pipeline)
{
    const struct config *config = pipeline->config;
    uint64_t epoch;
    assert((size_t)config->source_symbols * config->symbol_size >= PACK_CAPACITY_MIN);
    pipeline->read_bell = doorbell_create();
    if (pipeline->read_bell == NULL) {
        log_error("no event descriptor: %s; raise LimitNOFILE", strerror(errno));
        return STATUS_SYSTEM;
    }
    pipeline->submitted = mailbox_create(pipeline->read_bell);
    pipeline->sealed = mailbox_create(pipeline->read_bell);
    assert(pipeline->submitted != NULL && pipeline->sealed != NULL);
    enum status status = create_heartbeat(pipeline, &epoch);
    if (status == STATUS_OK)
        status = create_lanes(pipeline);
    if (status == STATUS_OK)
        status = create_sends(pipeline, epoch);
    return status;
}

enum status pipeline_create(const struct config *config, const struct signature_key *key, struct ledger *ledger,
                            struct audit *audit, struct mailbox *finished, struct pipeline **pipeline)
{
    *pipeline = NULL;
    struct pipeline *made = calloc(1, sizeof *made);
    assert(made != NULL);
    made->config = config;
    made->key = key;
    made->ledger = ledger;
    made->audit = audit;
    made->finished = finished;
    enum status status = create_all(made);
    if (status != STATUS_OK) {
        pipeline_destroy(made);
        return status;
    }
    *pipeline = made;
    return STATUS_OK;
}

void pipeline_submit(struct pipeline *pipeline, struct transfer *transfer)
{
    atomic_fetch_add(&pipeline->submitted_count, 1);
    assert(transfer->kind == TRANSFER_FRESH || transfer->sequence != 0);
    if (transfer->kind == TRANSFER_FRESH)
        heartbeat_entered(pipeline->heartbeat, transfer->id, transfer->sequence);
    mailbox_post(pipeline->submitted, &transfer->entry);
}

enum status pipeline_start(struct pipeline *pipeline)
{
    const struct read_setup setup = {.config = pipeline->config,
                                     .key = pipeline->key,
                                     .lanes = pipeline->lanes,
                                     .group_span_ns = send_group_span_ns(pipeline->config),
                                     .bell = pipeline->read_bell,
                                     .submitted = pipeline->submitted,
                                     .sealed = pipeline->sealed,
                                     .seal = take_to_seal,
                                     .finish = finish,
                                     .context = pipeline};
    enum status status =
        seal_start(pipeline->ledger, pipeline->key, pipeline->sealed, note_sealed, pipeline, &pipeline->seal);
    for (unsigned i = 0; status == STATUS_OK && i < pipeline->config->lanes; i++)
        status = send_start(pipeline->sends[i]);
    if (status == STATUS_OK)
        status = read_start(&setup, &pipeline->read);
    return status;
}

void pipeline_set_carrier(struct pipeline *pipeline, bool up)
{
    atomic_store(&pipeline->paused, !up);
    for (unsigned i = 0; i < pipeline->config->lanes; i++)
        send_set_carrier(pipeline->sends[i], up);
}

void pipeline_set_queue(struct pipeline *pipeline, uint64_t depth, uint64_t bytes)
{
    heartbeat_set_queue(pipeline->heartbeat, depth, bytes);
}

void pipeline_set_healing(struct pipeline *pipeline, const struct message_range *ranges, size_t count)
{
    heartbeat_set_healing(pipeline->heartbeat, ranges, count);
}

bool pipeline_is_idle(const struct pipeline *pipeline)
{
    struct send_counters counters;
    uint64_t submitted = atomic_load(&pipeline->submitted_count);
    if (atomic_load(&pipeline->finished_count) != submitted)
        return false;
    for (unsigned i = 0; i < pipeline->config->lanes; i++)
        if (atomic_load(&pipeline->lanes[i]->returned) != atomic_load(&pipeline->lanes[i]->handed))
            return false;
    if (submitted == 0)
        return true;
    send_counters(pipeline->sends[0], &counters);
    return counters.heartbeats > atomic_load(&pipeline->beats_at_finish);
}

void pipeline_counters(const struct pipeline *pipeline, struct pipeline_counters *counters)
{
    *counters = (struct pipeline_counters){.paused = atomic_load(&pipeline->paused)};
    for (unsigned i = 0; i < pipeline->config->lanes; i++) {
        struct send_counters lane;
        send_counters(pipeline->sends[i], &lane);
        counters->datagrams_sent += lane.datagrams;
        counters->blocks_sent += lane.blocks;
        counters->groups_sent += lane.groups;
        counters->wire_bytes_sent += lane.wire_bytes;
        counters->send_errors += lane.errors;
        counters->message_too_long += lane.message_too_long;
        counters->heartbeats_sent += lane.heartbeats;
        counters->segmentation_refused += lane.segmentation_refused;
        if (lane.last_error_ns > counters->last_send_error_ns) {
            counters->last_send_error_ns = lane.last_error_ns;
            counters->last_send_errno = lane.last_errno;
        }
    }
    if (pipeline->read != NULL)
        counters->payload_bytes_read = read_bytes(pipeline->read);
    counters->ledger_stalled = ledger_is_failing(pipeline->ledger);
    counters->audit_failed = audit_is_failing(pipeline->audit);
}

/* What is still under way was recorded; the next start takes it up again. */
static void empty_mailbox(struct mailbox *mailbox)
{
    struct mailbox_entry *entry;
    while (mailbox != NULL && (entry = mailbox_take(mailbox)) != NULL)
        transfer_destroy((struct transfer *)entry);
}

void pipeline_stop(struct pipeline *pipeline)
{
    read_stop(pipeline->read);
    pipeline->read = NULL;
    seal_stop(pipeline->seal);
    pipeline->seal = NULL;
    for (unsigned i = 0; i < pipeline->config->lanes; i++)
        if (pipeline->sends[i] != NULL)
            send_stop(pipeline->sends[i]);
    empty_mailbox(pipeline->submitted);
    empty_mailbox(pipeline->sealed);
}

void pipeline_destroy(struct pipeline *pipeline)
{
    if (pipeline == NULL)
        return;
    pipeline_stop(pipeline);
    for (unsigned i = 0; i < pipeline->config->lanes; i++) {
        send_destroy(pipeline->sends[i]);
        lane_destroy(pipeline->lanes[i]);
    }
    heartbeat_destroy(pipeline->heartbeat);
    mailbox_destroy(pipeline->submitted);
    mailbox_destroy(pipeline->sealed);
    doorbell_destroy(pipeline->read_bell);
    free(pipeline);
}
