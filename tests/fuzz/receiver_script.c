// SPDX-License-Identifier: Apache-2.0
#include "tests/fuzz/receiver_script.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "proto/frame.h"
#include "proto/signed.h"
#include "proto/wire.h"
#include "sender/encode.h"
#include "tests/datagrams.h"
#include "tests/fuzz/receiver_world.h"

enum {
    EPOCHS = 4,
    LANES = WORLD_LANES + 1,     /* the last of them is not served */
    SENDERS = WORLD_SENDERS + 1, /* the last of them is not trusted */
    HISTORY = 64,
    DATAGRAM_MAX = DATAGRAM_HEADER_SIZE + LIMIT_SYMBOL_SIZE,
    WAIT_MAX_MS = 20 * 60 * 1000,
    FLOOD_MAX = 300,
};

struct recorded {
    size_t size;
    uint8_t *bytes;
};

struct script {
    struct world *world;
    uint64_t next_sbn[SENDERS][LANES][EPOCHS];
    uint64_t sequence, flooded;
    struct recorded history[HISTORY];
    unsigned history_count;
};

bool script_next(const uint8_t *bytes, size_t size, size_t *position, struct script_record *record)
{
    if (size - *position < SCRIPT_HEAD_SIZE)
        return false;
    const uint8_t *head = bytes + *position;
    *position += SCRIPT_HEAD_SIZE;
    size_t body_size = get16(head + 2);
    if (body_size > size - *position)
        body_size = size - *position;
    *record = (struct script_record){head[0] % SCRIPT_KINDS, head[1], bytes + *position, body_size};
    *position += body_size;
    return true;
}

void script_get_geometry(const uint8_t *body, struct script_geometry *geometry)
{
    *geometry = (struct script_geometry){.sender = body[0],
                                         .lane = body[1],
                                         .epoch = body[2],
                                         .size = body[3],
                                         .repair = body[4],
                                         .order = body[5],
                                         .again = body[6],
                                         .repeat_of = body[7],
                                         .depth = get16(body + 8),
                                         .index = get16(body + 10),
                                         .step = (int16_t)get16(body + 12),
                                         .lost = get16(body + 14)};
}

void script_put_geometry(uint8_t *body, const struct script_geometry *geometry)
{
    const uint8_t bytes[8] = {geometry->sender, geometry->lane,  geometry->epoch, geometry->size,
                              geometry->repair, geometry->order, geometry->again, geometry->repeat_of};
    memcpy(body, bytes, sizeof bytes);
    put16(body + 8, geometry->depth);
    put16(body + 10, geometry->index);
    put16(body + 12, (uint16_t)geometry->step);
    put16(body + 14, geometry->lost);
}

uint64_t script_epoch(unsigned number)
{
    static const uint64_t epochs[EPOCHS] = {UINT64_C(0x100000007), UINT64_C(0x200000007), UINT64_C(0x300000001),
                                            UINT64_C(0x200000009)};
    return epochs[number % EPOCHS];
}

static void receive(struct script *script, const uint8_t *bytes, size_t size)
{
    struct recorded *recorded = &script->history[script->history_count++ % HISTORY];
    uint8_t *copy = realloc(recorded->bytes, size > 0 ? size : 1);
    assert(copy != NULL);
    if (size > 0)
        memcpy(copy, bytes, size);
    *recorded = (struct recorded){size, copy};
    world_receive(script->world, bytes, size);
}

/* Signs the envelope anew where that leaves its size as it is. */
static void sign_envelope(const struct signature_key *key, uint8_t *bytes, size_t size)
{
    struct signed_message message;
    uint8_t *out;
    size_t out_size;
    if (signed_decode(bytes, size, LIMIT_MANIFEST_SIZE, &message) != STATUS_OK)
        return;
    struct signature made;
    signature_sign(key, message.body, message.body_size,
                   message.signature.has_comment ? message.signature.trusted_comment : NULL, &made);
    message.signature = made;
    signed_message_encode(&message, &out, &out_size);
    if (out_size == size)
        memcpy(bytes, out, size);
    free(out);
    signed_message_deinit(&message);
}

static void sign_frames(const struct signature_key *key, uint8_t *payload, size_t size)
{
    size_t position = 0;
    struct frame frame;
    while (frame_next(payload, size, &position, &frame) == FRAME_OK) {
        const uint8_t *bytes = NULL;
        uint32_t bytes_size = 0;
        struct frame_manifest part;
        if (frame.type == FRAME_MANIFEST) {
            if (frame_parse_manifest(&frame, &part) && part.size == part.total) {
                bytes = part.bytes;
                bytes_size = part.size;
            }
        } else if (!frame_parse_signed(&frame, &bytes, &bytes_size)) {
            bytes_size = 0;
        }
        if (bytes_size > 0)
            sign_envelope(key, payload + (bytes - payload), bytes_size);
    }
}

/* All datagrams of one block. */
static void send_block(struct script *script, struct datagram *datagram, const struct script_geometry *geometry,
                       const uint8_t *symbols)
{
    uint8_t bytes[DATAGRAM_MAX];
    unsigned total = (unsigned)datagram->source_symbols + datagram->repair_symbols;
    for (unsigned i = 0; i < total; i++) {
        unsigned esi = geometry->order % 3 == 0   ? i
                       : geometry->order % 3 == 1 ? total - 1 - i
                                                  : (i * 2 + i / 2) % total;
        if ((geometry->lost >> esi % 16 & 1) != 0)
            continue;
        datagram->esi = (uint8_t)esi;
        datagram->sequence = script->sequence++;
        datagram_write(bytes, datagram);
        memcpy(bytes + DATAGRAM_HEADER_SIZE, symbols + (size_t)esi * datagram->symbol_size, datagram->symbol_size);
        finish_datagram(bytes, bytes + DATAGRAM_HEADER_SIZE, NULL, datagram->symbol_size, NULL);
        for (unsigned again = 0; again <= geometry->again % 2u; again++)
            receive(script, bytes, (size_t)DATAGRAM_HEADER_SIZE + datagram->symbol_size);
    }
}

static struct datagram place_block(struct script *script, const struct script_geometry *geometry, bool deep)
{
    unsigned sender = geometry->sender % SENDERS, lane = geometry->lane % LANES, epoch = geometry->epoch % EPOCHS;
    struct datagram datagram = {
        .lane = (uint8_t)lane,
        .sender_id = world_sender_id(sender),
        .epoch = script_epoch(epoch),
        .repair_symbols = (uint8_t)(LIMIT_REPAIR_SYMBOLS_MIN + geometry->repair % 4),
        .symbol_size = (uint16_t)(LIMIT_SYMBOL_SIZE_MIN + LIMIT_SYMBOL_ALIGNMENT * (unsigned)geometry->size),
        .depth = (uint16_t)(1 + geometry->depth % (deep ? (unsigned)LIMIT_DEPTH : 8u)),
        .repeat_of = geometry->repeat_of,
    };
    datagram.group_index = geometry->index % datagram.depth;
    uint64_t *next = &script->next_sbn[sender][lane][epoch];
    uint64_t sbn = *next + (uint64_t)(int64_t)geometry->step;
    if (geometry->step < 0 && sbn > *next)
        sbn = 0;
    datagram.sbn = sbn < datagram.group_index ? datagram.group_index : sbn;
    *next = datagram.sbn + 1;
    return datagram;
}

static void run_block(struct script *script, const struct script_record *record, const uint8_t *payload, size_t size)
{
    struct script_geometry geometry;
    script_get_geometry(record->body, &geometry);
    struct datagram datagram = place_block(script, &geometry, (record->flags & SCRIPT_DEEP) != 0);
    size_t symbol_size = datagram.symbol_size, limit = LIMIT_SOURCE_SYMBOLS * symbol_size;
    size_t used = size < limit ? size : limit;
    datagram.source_symbols = (uint8_t)(used == 0 ? 1 : (used + symbol_size - 1) / symbol_size);
    uint8_t *symbols = calloc((size_t)datagram.source_symbols + datagram.repair_symbols, symbol_size);
    static struct fec_cache *codes;
    if (codes == NULL)
        codes = fec_cache_create();
    assert(symbols != NULL && codes != NULL);
    if (used > 0)
        memcpy(symbols, payload, used);
    if ((record->flags & (SCRIPT_SIGN | SCRIPT_FORGE)) != 0)
        sign_frames(world_key((record->flags & SCRIPT_FORGE) != 0 ? WORLD_SENDERS : geometry.sender % SENDERS), symbols,
                    used);
    struct block block = {.symbols = symbols,
                          .source_symbols = datagram.source_symbols,
                          .repair_symbols = datagram.repair_symbols,
                          .symbol_size = datagram.symbol_size};
    encode_block(codes, &block);
    datagram.block_hash = block.block_hash;
    if ((record->flags & SCRIPT_WRONG_HASH) != 0)
        datagram.block_hash ^= 1;
    if ((record->flags & SCRIPT_DAMAGED) != 0)
        symbols[symbol_size * (geometry.order % datagram.source_symbols)] ^= 1;
    send_block(script, &datagram, &geometry, symbols);
    free(symbols);
}

static void run_raw(struct script *script, const struct script_record *record)
{
    uint8_t bytes[DATAGRAM_MAX];
    struct datagram datagram;
    size_t size = record->size < sizeof bytes ? record->size : sizeof bytes;
    memcpy(bytes, record->body, size);
    if ((record->flags & SCRIPT_RETAG) != 0 && datagram_parse(bytes, size, &datagram) == DATAGRAM_OK &&
        (datagram.flags & DATAGRAM_FLAG_SEALED) == 0)
        finish_datagram(bytes, bytes + DATAGRAM_HEADER_SIZE, NULL, datagram.symbol_size, NULL);
    receive(script, bytes, size);
}

static void run_again(struct script *script, unsigned ago, unsigned count)
{
    unsigned newest = script->history_count;
    for (unsigned i = 0; i < count && i < HISTORY; i++) {
        const struct recorded *recorded = &script->history[(newest + HISTORY - 1 - ago % HISTORY + i) % HISTORY];
        if (recorded->bytes != NULL)
            world_receive(script->world, recorded->bytes, recorded->size);
    }
}

/* Transfers that are made up, a frame of each. */
static void run_flood(struct script *script, const struct script_record *record, unsigned count)
{
    struct frame_data data = {.artifact_size = 1000, .size = 8};
    struct frame_manifest part = {.total = 4000, .lanes = 1, .size = 8};
    uint8_t body[SCRIPT_GEOMETRY_SIZE] = {0}, payload[8192] = {0};
    struct script_record block = {.kind = SCRIPT_BLOCK, .body = body};
    body[3] = 20;
    while (count > 0) {
        size_t size = 0;
        for (; count > 0 && size + 128 < sizeof payload; count--) {
            uint8_t id[TRANSFER_ID_SIZE] = "flood";
            put64(id + 8, script->flooded++);
            data.transfer_id = part.transfer_id = id;
            size += (record->flags & SCRIPT_AS_MANIFEST) != 0 ? frame_write_manifest(payload + size, &part)
                                                              : frame_write_data(payload + size, &data);
            size += data.size;
        }
        run_block(script, &block, payload, size);
    }
}

static void run_record(struct script *script, const struct script_record *record)
{
    uint8_t body[4] = {0};
    memcpy(body, record->body, record->size < sizeof body ? record->size : sizeof body);
    switch (record->kind) {
    case SCRIPT_BLOCK:
        if (record->size >= SCRIPT_GEOMETRY_SIZE)
            run_block(script, record, record->body + SCRIPT_GEOMETRY_SIZE, record->size - SCRIPT_GEOMETRY_SIZE);
        break;
    case SCRIPT_RAW:
        run_raw(script, record);
        break;
    case SCRIPT_WAIT:
        world_wait(script->world, UINT64_C(1000000) * (get32(body) % WAIT_MAX_MS));
        break;
    case SCRIPT_FREE:
        world_set_free(script->world,
                       (record->flags & SCRIPT_ENDLESS) != 0 ? UINT64_MAX : UINT64_C(1024) * get16(body));
        break;
    case SCRIPT_AGAIN:
        run_again(script, body[0], body[1]);
        break;
    case SCRIPT_FLOOD:
        run_flood(script, record, get16(body) % FLOOD_MAX);
        break;
    case SCRIPT_HOLD:
        world_hold_back(script->world, body[0]);
        break;
    case SCRIPT_DAMAGE:
        world_damage(script->world, body[0]);
        break;
    default:
        break;
    }
    world_run(script->world);
}

void script_run(struct world *world, const uint8_t *bytes, size_t size)
{
    struct script *script = calloc(1, sizeof *script);
    struct script_record record;
    size_t position = 0;
    assert(script != NULL);
    script->world = world;
    while (script_next(bytes, size, &position, &record))
        run_record(script, &record);
    for (unsigned i = 0; i < HISTORY; i++)
        free(script->history[i].bytes);
    free(script);
}
