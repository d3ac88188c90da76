// SPDX-License-Identifier: Apache-2.0
#include "receiver/handover.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/checksum.h"
#include "proto/wire.h"

/* Header: magic, version, flags, boot id. A record: kind, size of its body, body. At the end: the checksum. */
enum {
    AT_MAGIC = 0,
    MAGIC_SIZE = 8,
    AT_VERSION = 8,
    AT_FLAGS = 12,
    AT_BOOT_ID = 16,
    HEADER_SIZE = AT_BOOT_ID + HANDOVER_BOOT_ID_SIZE,
    FLAG_SEALED = 1,
    RECORD_HEADER_SIZE = 8,
    LANE_SIZE = 8,
    SENDER_SIZE = 12,
    EPOCH_FIXED_SIZE = 76,
    GROUP_SIZE = 12,
    SEEN_SIZE = LOSS_MEMORY / 8,
    EPOCH_SIZE_MAX = EPOCH_FIXED_SIZE + GATHER_GROUPS * GROUP_SIZE + GATHER_WINDOW_MAX + SEEN_SIZE,
};

static const uint8_t magic[MAGIC_SIZE] = {'d', 'i', 'o', 'd', 'e', 'h', 'o', '\n'};

struct handover_writer {
    bool (*put)(void *context, const void *bytes, size_t size);
    void *context;
    struct checksum *checksum;
    bool failed;
    uint8_t epoch[EPOCH_SIZE_MAX];
};

struct handover_writer *handover_writer_create(bool (*put)(void *context, const void *bytes, size_t size),
                                               void *context)
{
    struct handover_writer *writer = calloc(1, sizeof *writer);
    if (writer == NULL)
        return NULL;
    writer->put = put;
    writer->context = context;
    writer->checksum = checksum_create();
    if (writer->checksum != NULL)
        return writer;
    free(writer);
    return NULL;
}

void handover_writer_destroy(struct handover_writer *writer)
{
    if (writer == NULL)
        return;
    checksum_destroy(writer->checksum);
    free(writer);
}

static void put(struct handover_writer *writer, const void *bytes, size_t size)
{
    if (writer->failed)
        return;
    checksum_update(writer->checksum, bytes, size);
    writer->failed = !writer->put(writer->context, bytes, size);
}

void handover_writer_begin(struct handover_writer *writer, const struct handover_origin *origin)
{
    uint8_t header[HEADER_SIZE];
    memcpy(header + AT_MAGIC, magic, MAGIC_SIZE);
    put32(header + AT_VERSION, HANDOVER_VERSION);
    put32(header + AT_FLAGS, origin->sealed ? FLAG_SEALED : 0);
    memcpy(header + AT_BOOT_ID, origin->boot_id, HANDOVER_BOOT_ID_SIZE);
    put(writer, header, sizeof header);
}

static void put_record_header(struct handover_writer *writer, enum handover_kind kind, size_t size)
{
    uint8_t header[RECORD_HEADER_SIZE];
    put32(header, kind);
    put32(header + 4, (uint32_t)size);
    put(writer, header, sizeof header);
}

/* Appends integers to a body, or takes them from one. */

static uint8_t *add16(uint8_t *at, uint16_t value)
{
    put16(at, value);
    return at + sizeof value;
}

static uint8_t *add32(uint8_t *at, uint32_t value)
{
    put32(at, value);
    return at + sizeof value;
}

static uint8_t *add64(uint8_t *at, uint64_t value)
{
    put64(at, value);
    return at + sizeof value;
}

static uint16_t take16(const uint8_t **at)
{
    *at += sizeof(uint16_t);
    return get16(*at - sizeof(uint16_t));
}

static uint32_t take32(const uint8_t **at)
{
    *at += sizeof(uint32_t);
    return get32(*at - sizeof(uint32_t));
}

static uint64_t take64(const uint8_t **at)
{
    *at += sizeof(uint64_t);
    return get64(*at - sizeof(uint64_t));
}

static void put_epoch(struct handover_writer *writer, const struct handover_record *record)
{
    const struct gather_state *state = record->epoch.state;
    uint8_t *at = writer->epoch;
    at = add32(at, record->epoch.sender_id);
    at = add64(at, record->epoch.epoch);
    at = add64(at, state->floor);
    at = add64(at, state->passed);
    at = add64(at, state->counted_from);
    at = add32(at, state->group_count);
    at = add32(at, state->window_size);
    at = add64(at, state->loss.started);
    at = add64(at, state->loss.lowest);
    at = add64(at, state->loss.highest);
    at = add64(at, state->loss.lost);
    assert(at == writer->epoch + EPOCH_FIXED_SIZE);
    for (uint32_t i = 0; i < state->group_count; i++) {
        at = add64(at, state->groups[i].base);
        at = add16(at, state->groups[i].depth);
        at = add16(at, state->groups[i].symbol_size);
    }
    memcpy(at, state->window, state->window_size);
    at += state->window_size;
    for (size_t i = 0; i < LOSS_MEMORY / 64; i++)
        at = add64(at, state->loss.seen[i]);
    put_record_header(writer, HANDOVER_EPOCH, (size_t)(at - writer->epoch));
    put(writer, writer->epoch, (size_t)(at - writer->epoch));
}

static void put_datagram(struct handover_writer *writer, const struct handover_record *record)
{
    uint8_t header[DATAGRAM_HEADER_SIZE] = {0};
    datagram_write(header, &record->datagram.header);
    put_record_header(writer, HANDOVER_DATAGRAM, sizeof header + record->datagram.header.symbol_size);
    put(writer, header, sizeof header);
    put(writer, record->datagram.symbol, record->datagram.header.symbol_size);
}

void handover_writer_add(struct handover_writer *writer, const struct handover_record *record)
{
    uint8_t body[SENDER_SIZE];
    switch (record->kind) {
    case HANDOVER_LANE:
        (void)add32(add32(body, record->lane.index), record->lane.overflow_seen);
        put_record_header(writer, HANDOVER_LANE, LANE_SIZE);
        put(writer, body, LANE_SIZE);
        return;
    case HANDOVER_SENDER:
        (void)add64(add32(body, record->sender.id), record->sender.confirmed_epoch);
        put_record_header(writer, HANDOVER_SENDER, SENDER_SIZE);
        put(writer, body, SENDER_SIZE);
        return;
    case HANDOVER_EPOCH:
        put_epoch(writer, record);
        return;
    case HANDOVER_DATAGRAM:
        put_datagram(writer, record);
        return;
    }
    assert(false);
}

bool handover_writer_finish(struct handover_writer *writer)
{
    uint8_t sum[CHECKSUM128_SIZE];
    checksum_final(writer->checksum, sum);
    put(writer, sum, sizeof sum);
    return !writer->failed;
}

bool handover_writer_failed(const struct handover_writer *writer)
{
    return writer->failed;
}

/* Reading. */

enum handover_verdict handover_reader_init(struct handover_reader *reader, const uint8_t *bytes, size_t size,
                                           const struct handover_origin *here)
{
    uint8_t sum[CHECKSUM128_SIZE];
    if (size < HEADER_SIZE + sizeof sum || memcmp(bytes + AT_MAGIC, magic, MAGIC_SIZE) != 0)
        return HANDOVER_DAMAGED;
    if (get32(bytes + AT_VERSION) != HANDOVER_VERSION)
        return HANDOVER_OTHER_VERSION;
    const uint8_t *end = bytes + size - sizeof sum;
    checksum128(bytes, size - sizeof sum, sum);
    if (memcmp(sum, end, sizeof sum) != 0)
        return HANDOVER_DAMAGED;
    if (memcmp(bytes + AT_BOOT_ID, here->boot_id, HANDOVER_BOOT_ID_SIZE) != 0)
        return HANDOVER_OTHER_BOOT;
    if (get32(bytes + AT_FLAGS) != (here->sealed ? FLAG_SEALED : 0U))
        return HANDOVER_OTHER_KEY;
    reader->at = bytes + HEADER_SIZE;
    reader->end = end;
    return HANDOVER_GOOD;
}

static bool read_epoch(struct handover_reader *reader, const uint8_t *at, size_t size, struct handover_record *record)
{
    struct gather_state *state = &reader->state;
    if (size < EPOCH_FIXED_SIZE)
        return false;
    memset(state, 0, sizeof *state);
    record->epoch.sender_id = take32(&at);
    record->epoch.epoch = take64(&at);
    record->epoch.state = state;
    state->floor = take64(&at);
    state->passed = take64(&at);
    state->counted_from = take64(&at);
    state->group_count = take32(&at);
    state->window_size = take32(&at);
    uint64_t started = take64(&at);
    state->loss.started = started == 1;
    state->loss.lowest = take64(&at);
    state->loss.highest = take64(&at);
    state->loss.lost = take64(&at);
    if (started > 1 || state->group_count > GATHER_GROUPS || state->window_size > GATHER_WINDOW_MAX ||
        size != EPOCH_FIXED_SIZE + state->group_count * (size_t)GROUP_SIZE + state->window_size + SEEN_SIZE)
        return false;
    for (uint32_t i = 0; i < state->group_count; i++) {
        state->groups[i].base = take64(&at);
        state->groups[i].depth = take16(&at);
        state->groups[i].symbol_size = take16(&at);
    }
    memcpy(state->window, at, state->window_size);
    at += state->window_size;
    for (size_t i = 0; i < LOSS_MEMORY / 64; i++)
        state->loss.seen[i] = take64(&at);
    return gather_state_is_sane(state);
}

static bool read_body(struct handover_reader *reader, uint32_t kind, const uint8_t *at, size_t size,
                      struct handover_record *record)
{
    switch (kind) {
    case HANDOVER_LANE:
        if (size != LANE_SIZE)
            return false;
        record->lane.index = take32(&at);
        record->lane.overflow_seen = take32(&at);
        return true;
    case HANDOVER_SENDER:
        if (size != SENDER_SIZE)
            return false;
        record->sender.id = take32(&at);
        record->sender.confirmed_epoch = take64(&at);
        return true;
    case HANDOVER_EPOCH:
        return read_epoch(reader, at, size, record);
    case HANDOVER_DATAGRAM:
        record->datagram.symbol = at + DATAGRAM_HEADER_SIZE;
        return datagram_parse(at, size, &record->datagram.header) == DATAGRAM_OK;
    default:
        return false;
    }
}

bool handover_reader_next(struct handover_reader *reader, struct handover_record *record)
{
    while (reader->end - reader->at >= RECORD_HEADER_SIZE) {
        const uint8_t *at = reader->at;
        uint32_t kind = take32(&at);
        size_t size = take32(&at);
        if (size > (size_t)(reader->end - at))
            break;
        reader->at = at + size;
        memset(record, 0, sizeof *record);
        if (!read_body(reader, kind, at, size, record))
            continue;
        record->kind = (enum handover_kind)kind;
        return true;
    }
    reader->at = reader->end;
    return false;
}
