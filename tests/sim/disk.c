// SPDX-License-Identifier: Apache-2.0
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "receiver/verify.h"
#include "tests/sim/receiver_private.h"

/*
 * The staging directory, and what stands in for the receiver's writer.c and intake.c. Written bytes are in the page
 * cache until their file is flushed; of what is not, a loss of power keeps any sectors and any length.
 */
enum { SECTOR = 512 };

struct sim_disk *sim_disk_create(struct sim_world *world)
{
    struct sim_disk *disk = calloc(1, sizeof *disk);
    assert(disk != NULL);
    disk->world = world;
    disk->staged = calloc(world->transfer_count, sizeof *disk->staged);
    disk->trees = calloc(world->transfer_count, sizeof *disk->trees);
    disk->visible = calloc(world->transfer_count, sizeof *disk->visible);
    assert(disk->staged != NULL && disk->trees != NULL && disk->visible != NULL);
    return disk;
}

void sim_disk_remove(struct sim_disk *disk, size_t transfer)
{
    struct staged *staged = &disk->staged[transfer];
    for (size_t i = 0; i < staged->count; i++) {
        free(staged->files[i].bytes);
        free(staged->files[i].states);
    }
    free(staged->files);
    *staged = (struct staged){0};
}

void sim_disk_destroy(struct sim_disk *disk)
{
    for (size_t i = 0; i < disk->world->transfer_count; i++)
        sim_disk_remove(disk, i);
    free(disk->staged);
    free(disk->trees);
    free(disk->visible);
    free(disk);
}

struct staged_file *sim_disk_find(struct sim_disk *disk, size_t transfer, uint32_t number)
{
    struct staged *staged = &disk->staged[transfer];
    for (size_t i = 0; i < staged->count; i++)
        if (staged->files[i].number == number)
            return &staged->files[i];
    return NULL;
}

static struct staged_file *file_for(struct sim_disk *disk, size_t transfer, uint32_t number, uint64_t size)
{
    struct staged *staged = &disk->staged[transfer];
    struct staged_file *file = sim_disk_find(disk, transfer, number);
    staged->exists = true;
    if (file == NULL) {
        staged->files = realloc(staged->files, (staged->count + 1) * sizeof *staged->files);
        assert(staged->files != NULL);
        file = &staged->files[staged->count++];
        *file = (struct staged_file){.number = number};
    }
    if (size > file->capacity) {
        uint64_t capacity = size < 4096 ? 4096 : 2 * size;
        file->bytes = realloc(file->bytes, capacity);
        file->states = realloc(file->states, capacity);
        assert(file->bytes != NULL && file->states != NULL);
        memset(file->bytes + file->capacity, 0, capacity - file->capacity);
        memset(file->states + file->capacity, BYTE_ABSENT, capacity - file->capacity);
        file->capacity = capacity;
    }
    if (size > file->size)
        file->size = size;
    return file;
}

void sim_disk_write(struct sim_disk *disk, size_t transfer, uint32_t number, uint64_t offset, const uint8_t *bytes,
                    uint64_t size)
{
    struct staged_file *file = file_for(disk, transfer, number, offset + size);
    memcpy(file->bytes + offset, bytes, size);
    memset(file->states + offset, BYTE_DIRTY, size);
}

static void lose_dirty(struct staged_file *file, struct sim_random *random)
{
    uint64_t end = 0;
    bool lost = false;
    for (uint64_t at = 0; at < file->size; at++) {
        if (at % SECTOR == 0)
            lost = sim_chance(random, 500000);
        if (file->states[at] == BYTE_DIRTY && lost) {
            file->states[at] = BYTE_ABSENT;
            file->bytes[at] = 0;
        } else if (file->states[at] == BYTE_DIRTY) {
            file->states[at] = BYTE_DURABLE;
        }
        if (file->states[at] == BYTE_DURABLE)
            end = at + 1;
    }
    file->size = end;
}

void sim_disk_lose_power(struct sim_disk *disk)
{
    for (size_t i = 0; i < disk->world->transfer_count; i++)
        for (size_t file = 0; file < disk->staged[i].count; file++)
            lose_dirty(&disk->staged[i].files[file], &disk->world->random);
}

/* The writer. */

struct staging *sim_writer_staging(struct writer *writer, struct assembly *assembly)
{
    struct staging *staging = assembly->stage;
    if (staging == NULL) {
        assembly->stage = staging = calloc(1, sizeof *staging);
        assert(staging != NULL);
        staging->transfer = sim_receiver_transfer(writer->receiver, assembly->id);
    }
    return staging;
}

static void land(struct writer *writer, const struct pending_write *write)
{
    struct sim_receiver *receiver = writer->receiver;
    struct sim_world *world = receiver->world;
    bool fails = receiver->full || sim_chance(&world->random, world->setup.write_errors);
    if (!sim_act(&world->receiver_life))
        return;
    if (!fails) {
        sim_disk_write(receiver->disk, write->transfer, write->file, write->at, write->bytes, write->size);
        return;
    }
    sim_statistics.write_errors++;
    sim_receiver_lose(receiver, write->assembly, write->index, write->offset, write->offset + write->size);
}

void sim_writer_put(struct writer *writer, struct assembly *assembly, uint32_t index,
                    struct assembly_artifact *artifact, uint64_t offset, const uint8_t *bytes, uint32_t size)
{
    struct sim_world *world = writer->receiver->world;
    struct staging *staging = sim_writer_staging(writer, assembly);
    if (artifact->size <= INTAKE_SMALL && !artifact->placed) {
        artifact->placed = true;
        artifact->place = staging->small_size;
        staging->small_size += artifact->size;
    }
    if (writer->count == writer->capacity) {
        writer->capacity = writer->capacity == 0 ? 64 : 2 * writer->capacity;
        writer->pending = realloc(writer->pending, writer->capacity * sizeof *writer->pending);
        assert(writer->pending != NULL);
    }
    struct pending_write *write = &writer->pending[writer->count++];
    *write = (struct pending_write){.assembly = assembly,
                                    .transfer = staging->transfer,
                                    .index = index,
                                    .file = artifact->placed ? PARTIAL_SMALL : index,
                                    .offset = offset,
                                    .at = (artifact->placed ? artifact->place : 0) + offset,
                                    .bytes = malloc(size),
                                    .size = size,
                                    .due_ns = world->now_ns + sim_below(&world->random, world->setup.disk_ns)};
    assert(write->bytes != NULL);
    memcpy(write->bytes, bytes, size);
    staging->pending++;
}

void sim_writer_run(struct writer *writer)
{
    for (size_t i = 0; i < writer->count;) {
        if (writer->pending[i].due_ns > writer->receiver->world->now_ns) {
            i++;
            continue;
        }
        struct pending_write write = writer->pending[i];
        memmove(&writer->pending[i], &writer->pending[i + 1], (--writer->count - i) * sizeof write);
        struct staging *staging = write.assembly->stage;
        staging->pending--;
        land(writer, &write);
        free(write.bytes);
        if (staging->pending == 0 && staging->wants_idle) {
            staging->wants_idle = false;
            sim_receiver_idle(writer->receiver, write.assembly);
        }
    }
}

uint64_t sim_writer_deadline_ns(const struct writer *writer)
{
    uint64_t deadline_ns = UINT64_MAX;
    for (size_t i = 0; i < writer->count; i++)
        if (writer->pending[i].due_ns < deadline_ns)
            deadline_ns = writer->pending[i].due_ns;
    return deadline_ns;
}

void sim_writer_end(struct writer *writer)
{
    struct sim_receiver *receiver = writer->receiver;
    for (size_t i = 0; i < writer->count; i++) {
        const struct pending_write *write = &writer->pending[i];
        if (sim_chance(&receiver->world->random, 500000))
            sim_disk_write(receiver->disk, write->transfer, write->file, write->at, write->bytes, write->size);
        free(write->bytes);
    }
    free(writer->pending);
}

void writer_cut(struct writer *writer, struct assembly *assembly)
{
    for (size_t i = 0; i < writer->count; i++)
        writer->pending[i].before_cut |= writer->pending[i].assembly == assembly;
}

bool writer_is_settled(const struct writer *writer, const struct assembly *assembly)
{
    for (size_t i = 0; i < writer->count; i++)
        if (writer->pending[i].before_cut && writer->pending[i].assembly == assembly)
            return false;
    return true;
}

void writer_restore(struct writer *writer, struct assembly *assembly, uint64_t small_size, bool has_directory)
{
    (void)has_directory;
    sim_writer_staging(writer, assembly)->small_size = small_size;
}

/* The intake. */

void intake_artifact_name(uint32_t index, char name[static INTAKE_ARTIFACT_NAME_SIZE])
{
    snprintf(name, INTAKE_ARTIFACT_NAME_SIZE, "%u", index);
}

bool intake_is_staged(const struct intake *intake, uint32_t sender_id, const uint8_t id[static TRANSFER_ID_SIZE])
{
    const struct sim_receiver *receiver = (const struct sim_receiver *)intake;
    (void)sender_id;
    return receiver->disk->staged[sim_receiver_transfer(receiver, id)].exists;
}

uint64_t intake_staged_size(const struct intake *intake, uint32_t sender_id, const uint8_t id[static TRANSFER_ID_SIZE],
                            const char *name)
{
    const struct sim_receiver *receiver = (const struct sim_receiver *)intake;
    (void)sender_id;
    uint32_t number = strcmp(name, INTAKE_SMALL_NAME) == 0 ? PARTIAL_SMALL : (uint32_t)strtoul(name, NULL, 10);
    const struct staged_file *file = sim_disk_find(receiver->disk, sim_receiver_transfer(receiver, id), number);
    return file == NULL ? 0 : file->size;
}

/* verify.h: so much that it is worth a checkpoint before, for every second transfer. */
uint64_t verify_bytes_to_read(const struct assembly *assembly)
{
    return assembly->id[0] % 2 == 0 ? UINT64_MAX : 0;
}
