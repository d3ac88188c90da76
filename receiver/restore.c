// SPDX-License-Identifier: Apache-2.0
#include "receiver/restore.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "receiver/ledger_partial.h"
#include "receiver/partial.h"
#include "receiver/unpack.h"

/* The transfer at hand. */
struct replay {
    const struct restore *restore;
    struct assembly *assembly;
    struct extents small_held; /* of the file of small artifacts */
    uint64_t small_size;
    bool corrupt;
};

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static void replay_small(struct replay *replay, const struct partial_entry *entry)
{
    /* What does not fit counts as missing, for good: the set only loses more. */
    if (entry->kind == PARTIAL_HELD)
        (void)extents_add(&replay->small_held, entry->first, entry->end, ASSEMBLY_EXTENTS);
    else if (!extents_remove(&replay->small_held, entry->first, entry->end, ASSEMBLY_EXTENTS))
        extents_deinit(&replay->small_held);
}

static void replay_entry(const struct partial_entry *entry, void *context)
{
    struct replay *replay = context;
    struct assembly *assembly = replay->assembly;
    struct catalog *catalog = replay->restore->catalog;
    struct assembly_artifact *artifact;
    if (entry->kind == PARTIAL_PLACE) {
        artifact = assembly_expect(assembly, entry->file, entry->end);
        if (artifact == NULL)
            return;
        artifact->noted = true;
        artifact->reread = true;
        artifact->placed = entry->end <= INTAKE_SMALL;
        artifact->place = artifact->placed ? entry->first : 0;
        if (artifact->placed && entry->first + entry->end > replay->small_size)
            replay->small_size = entry->first + entry->end;
        return;
    }
    if (entry->file == PARTIAL_SMALL) {
        replay_small(replay, entry);
        return;
    }
    artifact = assembly_artifact(assembly, entry->file);
    if (artifact == NULL || !artifact->noted || artifact->placed)
        return;
    if (entry->kind == PARTIAL_HELD)
        catalog_hold(catalog, assembly, entry->file, entry->first, entry->end);
    else
        catalog_lose(catalog, assembly, entry->file, entry->first, least(entry->end, artifact->size));
}

static void replay_entries(const uint8_t *entries, size_t size, void *context)
{
    struct replay *replay = context;
    replay->corrupt |= !partial_decode(entries, size, replay_entry, replay);
}

static uint64_t staged_size(const struct replay *replay, const char *file)
{
    const struct assembly *assembly = replay->assembly;
    return intake_staged_size(replay->restore->intake, assembly->sender_id, assembly->id, file);
}

/* Small artifacts hold what their places in the common file hold. */
static void hold_small(struct replay *replay)
{
    struct assembly *assembly = replay->assembly;
    uint64_t size = staged_size(replay, INTAKE_SMALL_NAME);
    if (size < replay->small_size) {
        keeper_deny(replay->restore->keeper, assembly, PARTIAL_SMALL, size, UINT64_MAX);
        if (!extents_remove(&replay->small_held, size, UINT64_MAX, ASSEMBLY_EXTENTS))
            extents_deinit(&replay->small_held);
    }
    for (uint32_t index = 0; index < assembly->artifact_count; index++) {
        const struct assembly_artifact *artifact = assembly_artifact(assembly, index);
        if (artifact == NULL || !artifact->noted || !artifact->placed || artifact->size == 0)
            continue;
        uint64_t at = artifact->place;
        uint64_t end = artifact->place + artifact->size;
        while (at < end) {
            struct extent hole = {end, end};
            (void)extents_hole(&replay->small_held, at, end, &hole);
            if (hole.first > at)
                catalog_hold(replay->restore->catalog, assembly, index, at - artifact->place,
                             hole.first - artifact->place);
            at = hole.end;
        }
    }
}

/* What a large artifact is said to hold beyond the end of its file is missing. */
static void cut_large(struct replay *replay)
{
    struct assembly *assembly = replay->assembly;
    for (uint32_t index = 0; index < assembly->artifact_count; index++) {
        char name[INTAKE_ARTIFACT_NAME_SIZE];
        const struct assembly_artifact *artifact = assembly_artifact(assembly, index);
        if (artifact == NULL || artifact->placed || artifact->held.count == 0)
            continue;
        intake_artifact_name(index, name);
        uint64_t size = staged_size(replay, name);
        if (extents_overlap(&artifact->held, size, UINT64_MAX) == 0)
            continue;
        keeper_deny(replay->restore->keeper, assembly, index, size, UINT64_MAX);
        catalog_lose(replay->restore->catalog, assembly, index, size, artifact->size);
    }
}

/* As the frames did. */
static struct assembly *say_again(const struct restore *restore, const struct ledger_partial *partial, uint64_t now_ns)
{
    struct unpack_source source = {
        .sender_id = partial->key.sender_id, .epoch = partial->watermark_epoch, .now_ns = now_ns};
    if (partial->announced) {
        struct message_announce announce = {.total_bytes = partial->total_bytes,
                                            .artifact_count = partial->total_artifacts};
        memcpy(announce.transfer_id, partial->key.transfer_id, TRANSFER_ID_SIZE);
        memcpy(announce.channel, partial->channel, sizeof announce.channel);
        memcpy(announce.name, partial->name, sizeof announce.name);
        catalog_announce(restore->catalog, &source, &announce);
    }
    for (size_t i = 0; i < partial->manifest_held_count; i++) {
        struct extent range = partial->manifest_held[i];
        struct frame_manifest part = {.transfer_id = partial->key.transfer_id,
                                      .total = (uint32_t)partial->manifest_size,
                                      .offset = (uint32_t)range.first,
                                      .lanes = partial->lanes,
                                      .bytes = partial->manifest + range.first,
                                      .size = (uint32_t)(range.end - range.first)};
        memcpy(part.watermark, partial->watermark, sizeof part.watermark);
        catalog_manifest(restore->catalog, &source, &part);
    }
    if (!partial->announced && partial->manifest_held_count == 0)
        return catalog_open(restore->catalog, &source, partial->key.transfer_id);
    return catalog_find(restore->catalog, partial->key.sender_id, partial->key.transfer_id);
}

static bool restore_one(const struct restore *restore, const struct ledger_key *key, uint64_t now_ns)
{
    struct ledger_partial partial;
    if (trust_find(restore->trust, key->sender_id) == NULL ||
        ledger_partial_load(restore->ledger, key, &partial) != STATUS_OK)
        return false;
    struct replay replay = {.restore = restore, .assembly = say_again(restore, &partial, now_ns)};
    ledger_partial_deinit(&partial);
    struct assembly *assembly = replay.assembly;
    if (assembly != NULL && partial.first_seen_ns != 0)
        assembly->first_seen_ns = partial.first_seen_ns;
    if (assembly == NULL || assembly->state == ASSEMBLY_CLOSED)
        return assembly != NULL;
    keeper_adopt(restore->keeper, assembly);
    if (assembly->state != ASSEMBLY_OPEN)
        return true; /* an empty one, which is complete already */
    enum status status = ledger_partial_each(restore->ledger, key, replay_entries, &replay);
    hold_small(&replay);
    cut_large(&replay);
    extents_deinit(&replay.small_held);
    writer_restore(restore->writer, assembly, replay.small_size,
                   intake_is_staged(restore->intake, key->sender_id, key->transfer_id));
    if (status != STATUS_OK || replay.corrupt) {
        log_warning("%s/" LOG_NAME ": its record in the ledger can't be read; it is given up and must be sent again",
                    assembly->channel, assembly->name);
        catalog_close(restore->catalog, assembly, CATALOG_FAILED);
        return true;
    }
    if (assembly->announced)
        log_info("%s/" LOG_NAME " goes on: %llu of %llu bytes are held from before the restart", assembly->channel,
                 assembly->name, (unsigned long long)assembly->held_bytes, (unsigned long long)assembly->total_bytes);
    catalog_restored(restore->catalog, assembly);
    return true;
}

void restore_run(const struct restore *restore, uint64_t now_ns)
{
    struct ledger_key *keys;
    size_t count;
    if (ledger_partial_keys(restore->ledger, &keys, &count) != STATUS_OK) {
        log_error("the record of open transfers can't be read: what was held of them counts as missing");
        return;
    }
    for (size_t i = 0; i < count; i++) {
        if (restore_one(restore, &keys[i], now_ns))
            continue;
        log_notice("a transfer of sender %08x that was open before the restart is not any more", keys[i].sender_id);
        restore->refused(restore->context, &keys[i]);
    }
    free(keys);
}
