// SPDX-License-Identifier: Apache-2.0
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/digest.h"
#include "tests/sim/receiver_private.h"

/*
 * The steps to a delivery, as publish.c, delivery.c and recover.c of the receiver take them: verify and build the tree,
 * record the intent, rename, record the delivery, remove what was staged. A crash may come between any two.
 */
#define STEP_NS (15 * CLOCK_MILLISECOND_NS) /* at most */

void sim_publish_post(struct sim_receiver *receiver, struct assembly *assembly)
{
    struct sim_world *world = receiver->world;
    assert(receiver->publishing_count < SIM_CLOSED);
    receiver->publishing[receiver->publishing_count++] =
        (struct publishing){.assembly = assembly, .due_ns = world->now_ns + sim_below(&world->random, STEP_NS)};
}

static const uint8_t *staged_bytes(struct sim_receiver *receiver, struct assembly *assembly, uint32_t index,
                                   uint64_t size)
{
    const struct assembly_artifact *artifact = assembly_artifact(assembly, index);
    size_t transfer = sim_receiver_transfer(receiver, assembly->id);
    const struct staged_file *file = sim_disk_find(receiver->disk, transfer, artifact->placed ? PARTIAL_SMALL : index);
    uint64_t place = artifact->placed ? artifact->place : 0;
    return file != NULL && file->size >= place + size ? file->bytes + place : NULL;
}

/*
 * Compares what is about to appear in the intake queue with its manifest, and with what was dropped into the spool.
 * False when something is missing again, as it was damaged.
 */
static bool check_delivery(struct sim_receiver *receiver, struct assembly *assembly, struct sim_transfer *transfer)
{
    struct sim_world *world = receiver->world;
    struct manifest_reader *reader = assembly->reader;
    struct manifest_entry entry;
    uint32_t artifact = 0;
    size_t number = 0;
    bool good = true;
    bool renumbered = assembly->sequence != transfer->sequence && world->setup.sender_backups == 0;
    if (renumbered || strcmp(assembly->name, transfer->name) != 0)
        sim_fail(world, "%s is delivered under another name or number", transfer->name);
    manifest_reader_rewind(reader);
    while (manifest_reader_next(reader, &entry)) {
        if (number == transfer->file_count) {
            sim_fail(world, "%s has more entries than were sent", transfer->name);
            return false;
        }
        const struct sim_file *file = &transfer->files[number++];
        if (strcmp(entry.path, file->path) != 0 || entry.kind != file->kind || entry.size != file->size)
            sim_fail(world, "%s: entry %s is not %s", transfer->name, entry.path, file->path);
        if (entry.kind != MANIFEST_FILE)
            continue;
        uint32_t index = artifact++;
        const uint8_t *bytes = staged_bytes(receiver, assembly, index, file->size);
        uint8_t sha256[SHA256_SIZE];
        digest_once(bytes != NULL && file->size > 0 ? bytes : (const uint8_t *)"", bytes != NULL ? file->size : 0,
                    sha256);
        if (memcmp(sha256, entry.sha256, SHA256_SIZE) == 0)
            continue;
        if (!receiver->tampered)
            sim_fail(world, "%s: %s is held, and differs from what was sent", transfer->name, file->path);
        if (file->size > 0)
            sim_receiver_lose(receiver, assembly, index, 0, file->size);
        good = false;
    }
    if (number != transfer->file_count)
        sim_fail(world, "%s lacks entries", transfer->name);
    return good;
}

/* It becomes visible. */
static void make_visible(struct sim_receiver *receiver, size_t number)
{
    struct sim_world *world = receiver->world;
    struct sim_transfer *transfer = &world->transfers[number];
    receiver->disk->trees[number] = false;
    receiver->disk->visible[number] = true;
    if (transfer->changes)
        sim_fail(world, "%s was delivered though it was aborted", transfer->name);
    if (++transfer->deliveries > 1)
        sim_fail(world, "%s was delivered twice", transfer->name);
    if (transfer->lost_at_ns != 0 && transfer->lost_in_run == world->epoch_counter && !transfer->repeated)
        sim_fail(world, "%s was reported as lost at %.3f s and came all the same", transfer->name,
                 (double)transfer->lost_at_ns / 1e9);
    world->delivered++;
    sim_say(world, "%s delivered", transfer->name);
    if (sim_chance(&world->random, 300000)) {
        receiver->disk->visible[number] = false; /* the consumer has taken it */
        sim_statistics.consumed++;
    }
}

static void finish(struct sim_receiver *receiver, struct assembly *assembly, size_t number)
{
    if (!knowledge_add(receiver->knowledge, assembly->sender_id, assembly->chain_id, assembly->sequence, true))
        sim_fail(receiver->world, "the set of known numbers is full");
    keeper_forget(receiver->keeper, assembly, true);
    sim_disk_remove(receiver->disk, number);
    free(assembly->stage);
    assembly->stage = NULL;
    catalog_forget(receiver->catalog, assembly, true);
}

/* False when this was the last step. */
static bool take_step(struct sim_receiver *receiver, struct publishing *publishing)
{
    struct assembly *assembly = publishing->assembly;
    size_t number = sim_receiver_transfer(receiver, assembly->id);
    struct ledger *ledger = receiver->ledger;
    switch (publishing->step) {
    case PUBLISH_VERIFY:
        if (!check_delivery(receiver, assembly, &receiver->world->transfers[number]))
            return false;
        receiver->disk->trees[number] = receiver->disk->staged[number].exists = true; /* a marker, also of no bytes */
        return true;
    case PUBLISH_INTENT:
        ledger->deliveries[number] = LEDGER_PUBLISHING;
        ledger->sequences[number] = assembly->sequence;
        return true;
    case PUBLISH_RENAME:
        make_visible(receiver, number);
        return true;
    case PUBLISH_RECORD:
        sim_ledger_end(ledger, number, true, ledger->sequences[number]);
        finish(receiver, assembly, number);
        break;
    }
    return false;
}

void sim_publish_run(struct sim_receiver *receiver)
{
    struct sim_world *world = receiver->world;
    for (unsigned i = 0; i < receiver->publishing_count;) {
        struct publishing *publishing = &receiver->publishing[i];
        if (publishing->due_ns > world->now_ns) {
            i++;
            continue;
        }
        if (publishing->step == PUBLISH_VERIFY)
            sim_tempt(world, &world->receiver_life);
        if (!sim_act(&world->receiver_life))
            return;
        if (take_step(receiver, publishing)) {
            publishing->step++;
            publishing->due_ns = world->now_ns + sim_below(&world->random, STEP_NS);
            i++;
        } else {
            *publishing = receiver->publishing[--receiver->publishing_count];
        }
    }
}

uint64_t sim_publish_deadline_ns(const struct sim_receiver *receiver)
{
    uint64_t deadline_ns = UINT64_MAX;
    for (unsigned i = 0; i < receiver->publishing_count; i++)
        if (receiver->publishing[i].due_ns < deadline_ns)
            deadline_ns = receiver->publishing[i].due_ns;
    return deadline_ns;
}

static void recover_delivery(struct sim_receiver *receiver, size_t number)
{
    struct sim_disk *disk = receiver->disk;
    bool delivered = true;
    if (disk->trees[number])
        make_visible(receiver, number);
    else if (!disk->staged[number].exists)
        delivered = disk->visible[number];
    sim_ledger_end(receiver->ledger, number, delivered, receiver->ledger->sequences[number]);
    sim_statistics.taken_over += delivered;
}

void sim_publish_recover(struct sim_receiver *receiver)
{
    struct ledger *ledger = receiver->ledger;
    for (size_t i = 0; i < receiver->world->transfer_count; i++) {
        if (ledger->deliveries[i] == LEDGER_PUBLISHING)
            recover_delivery(receiver, i);
        receiver->disk->trees[i] = false;
        if (!ledger->records[i].exists)
            sim_disk_remove(receiver->disk, i);
    }
}
