// SPDX-License-Identifier: Apache-2.0
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "proto/limits.h"
#include "proto/wire.h"
#include "tests/fuzz/mutate.h"
#include "tests/fuzz/receiver_frames.h"
#include "tests/fuzz/receiver_script.h"
#include "tests/fuzz/receiver_world.h"

/* Sequences of datagrams for the receiver's core, behind tags, block hashes and signatures: see receiver_script.h. What
 * must hold is asserted in receiver_world.c. */
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct world *world = world_create();
    script_run(world, bytes, size);
    world_destroy(world);
    return 0;
}

enum { RECORDS = 256, RECORD_SIZE_MAX = SCRIPT_HEAD_SIZE + SCRIPT_GEOMETRY_SIZE + FRAMES_SIZE_MAX };

struct place {
    size_t first, size;
};

static size_t find_records(const uint8_t *bytes, size_t size, struct place places[static RECORDS])
{
    size_t count = 0, position = 0;
    struct script_record record;
    while (count < RECORDS) {
        places[count].first = position;
        if (!script_next(bytes, size, &position, &record))
            break;
        places[count].size = position - places[count].first;
        count++;
    }
    return count;
}

static size_t put_record(uint8_t *out, enum script_kind kind, unsigned flags, size_t body_size)
{
    out[0] = (uint8_t)kind;
    out[1] = (uint8_t)flags;
    put16(out + 2, (uint16_t)body_size);
    return SCRIPT_HEAD_SIZE + body_size;
}

/* Where the frames of a new transfer go. */
struct stream {
    struct script_geometry geometry;
    unsigned sender, transfer;
};

static size_t put_frames(uint8_t *payload, const struct stream *stream, unsigned what, struct mutate *mutate)
{
    switch (what % 8) {
    case 0:
        return frames_announce(payload, stream->sender, stream->transfer);
    case 1:
        return frames_manifest(payload, stream->sender, stream->transfer, 1 + mutate_below(mutate, 8), 0);
    case 2:
        return frames_heartbeat(payload, stream->sender, script_epoch(stream->geometry.epoch), mutate);
    case 3:
        return frames_abort(payload, stream->sender, stream->transfer);
    case 4:
        return frames_unknown(payload, stream->transfer, mutate);
    case 5:
        return frames_manifest(payload, stream->sender, stream->transfer, 3, 1);
    case 6:
        return frames_manifest(payload, stream->sender, stream->transfer, 3, 2);
    default:
        return frames_data(payload, stream->transfer, mutate);
    }
}

static size_t put_block(uint8_t *out, const struct stream *stream, unsigned what, struct mutate *mutate)
{
    uint8_t *body = out + SCRIPT_HEAD_SIZE;
    size_t size = put_frames(body + SCRIPT_GEOMETRY_SIZE, stream, what, mutate);
    script_put_geometry(body, &stream->geometry);
    return put_record(out, SCRIPT_BLOCK, SCRIPT_SIGN, SCRIPT_GEOMETRY_SIZE + size);
}

static struct stream choose_stream(struct mutate *mutate)
{
    struct stream stream = {.sender = (unsigned)mutate_below(mutate, WORLD_SENDERS),
                            .transfer = (unsigned)mutate_below(mutate, FRAMES_TRANSFERS)};
    stream.geometry = (struct script_geometry){.sender = (uint8_t)stream.sender,
                                               .lane = (uint8_t)mutate_below(mutate, WORLD_LANES),
                                               .epoch = (uint8_t)mutate_below(mutate, mutate_chance(mutate, 4) ? 4 : 1),
                                               .size = (uint8_t)mutate_below(mutate, 40)};
    return stream;
}

/* What is said of one transfer, or something that happens. */
static size_t make_records(uint8_t *out, size_t size_max, struct mutate *mutate)
{
    static const uint8_t whole[][4] = {{0, 7, 1, 2}, {7, 1, 2, 2}, {1, 7, 7, 2}, {5, 6, 7, 2}, {2, 0, 7, 3}};
    static const enum script_kind others[] = {SCRIPT_WAIT,  SCRIPT_WAIT, SCRIPT_FREE,  SCRIPT_AGAIN,
                                              SCRIPT_FLOOD, SCRIPT_HOLD, SCRIPT_DAMAGE};
    struct stream stream = choose_stream(mutate);
    uint8_t *record = malloc(RECORD_SIZE_MAX);
    size_t used = 0;
    assert(record != NULL);
    unsigned choice = (unsigned)mutate_below(mutate, 4);
    const uint8_t *plan = whole[mutate_below(mutate, sizeof whole / sizeof *whole)];
    for (unsigned i = 0; i < (choice < 2 ? 4u : 1u); i++) {
        size_t size;
        if (choice == 3) {
            put32(record + SCRIPT_HEAD_SIZE, (uint32_t)mutate_number(mutate, 1000));
            size = put_record(record, others[mutate_below(mutate, sizeof others / sizeof *others)],
                              (unsigned)mutate_below(mutate, 2), 4);
        } else {
            size = put_block(record, &stream, choice < 2 ? plan[i] : (unsigned)mutate_below(mutate, 8), mutate);
        }
        if (size > size_max - used)
            break;
        memcpy(out + used, record, size);
        used += size;
    }
    free(record);
    return used;
}

/* A block with one thing changed: in its geometry, its flags or its frames. */
static void change_block(struct mutate *mutate, uint8_t *bytes, size_t *size, size_t size_max,
                         const struct place *place)
{
    static const uint8_t flags[] = {SCRIPT_SIGN,       SCRIPT_SIGN,    SCRIPT_SIGN, SCRIPT_FORGE,
                                    SCRIPT_WRONG_HASH, SCRIPT_DAMAGED, SCRIPT_DEEP};
    uint8_t *record = bytes + place->first, *geometry = record + SCRIPT_HEAD_SIZE;
    size_t fixed = SCRIPT_HEAD_SIZE + SCRIPT_GEOMETRY_SIZE, room = size_max > *size ? size_max - *size : 0;
    unsigned choice = (unsigned)mutate_below(mutate, 8);
    if (choice == 0) {
        record[1] ^= flags[mutate_below(mutate, sizeof flags)];
    } else if (choice == 1) {
        geometry[mutate_below(mutate, SCRIPT_GEOMETRY_SIZE)] = (uint8_t)mutate_next(mutate);
    } else if (choice == 2) {
        uint8_t *number = geometry + 8 + 2 * mutate_below(mutate, 4);
        put16(number, (uint16_t)mutate_number(mutate, get16(number)));
    } else {
        if (place->size + room > SCRIPT_BODY_MAX)
            return;
        uint8_t *copy = malloc(place->size + room + 1);
        assert(copy != NULL);
        memcpy(copy, record, place->size);
        size_t payload = mutate_frames(mutate, copy + fixed, place->size - fixed, place->size - fixed + room);
        put16(copy + 2, (uint16_t)(SCRIPT_GEOMETRY_SIZE + payload));
        (void)mutate_splice(bytes, size, size_max, place->first, place->size, copy, fixed + payload);
        free(copy);
    }
}

static void move_record(struct mutate *mutate, uint8_t *bytes, size_t *size, size_t size_max, const struct place *place,
                        size_t to)
{
    uint8_t *copy = malloc(place->size);
    bool twice = mutate_chance(mutate, 2);
    assert(copy != NULL);
    memcpy(copy, bytes + place->first, place->size);
    if (!twice) {
        (void)mutate_splice(bytes, size, size_max, place->first, place->size, NULL, 0);
        to = to > place->first ? to - place->size : to;
    }
    (void)mutate_splice(bytes, size, size_max, to, 0, copy, place->size);
    free(copy);
}

static void add_records(struct mutate *mutate, uint8_t *bytes, size_t *size, size_t size_max, size_t at)
{
    size_t room = size_max > *size ? size_max - *size : 0;
    uint8_t *made = malloc(room + 1);
    assert(made != NULL);
    size_t used = make_records(made, room, mutate);
    (void)mutate_splice(bytes, size, size_max, at, 0, made, used);
    free(made);
}

size_t LLVMFuzzerCustomMutator(uint8_t *bytes, size_t size, size_t size_max, unsigned seed)
{
    struct mutate mutate = {seed};
    struct place *places = malloc(RECORDS * sizeof *places);
    assert(places != NULL);
    size_t count = find_records(bytes, size, places);
    unsigned choice = count == 0 ? 0 : (unsigned)mutate_below(&mutate, 24);
    struct place place = {0}, other = {0};
    if (count > 0) {
        place = places[mutate_below(&mutate, count)];
        other = places[mutate_below(&mutate, count)];
    }
    free(places);
    if (choice < 6) {
        add_records(&mutate, bytes, &size, size_max, other.first);
    } else if (choice < 8) {
        (void)mutate_splice(bytes, &size, size_max, place.first, place.size, NULL, 0);
    } else if (choice < 11) {
        move_record(&mutate, bytes, &size, size_max, &place, other.first);
    } else if (choice == 11) {
        size = LLVMFuzzerMutate(bytes, size, size_max);
    } else if (bytes[place.first] % SCRIPT_KINDS == SCRIPT_BLOCK &&
               place.size >= SCRIPT_HEAD_SIZE + SCRIPT_GEOMETRY_SIZE) {
        change_block(&mutate, bytes, &size, size_max, &place);
    } else if (place.size > SCRIPT_HEAD_SIZE) {
        (void)LLVMFuzzerMutate(bytes + place.first + SCRIPT_HEAD_SIZE, place.size - SCRIPT_HEAD_SIZE,
                               place.size - SCRIPT_HEAD_SIZE);
    }
    return size;
}
