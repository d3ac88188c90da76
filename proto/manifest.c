// SPDX-License-Identifier: Apache-2.0
#include "proto/manifest.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/diodecast.pb-c.h"
#include "proto/field.h"
#include "proto/relpath.h"
#include "proto/tally.h"

static const char statement_context[] = "diodecast statement 1";
static const char manifest_context[] = "diodecast manifest 1";

/* Field numbers of diodecast.proto that the walk needs. */
enum {
    FIELD_STATEMENT_CONTEXT = 1,
    FIELD_STATEMENT_CHANNEL = 2,
    FIELD_STATEMENT_NAME = 3,
    FIELD_STATEMENT_LABELS = 4,
    FIELD_STATEMENT_ENTRIES = 5,
};

enum field_manifest {
    FIELD_CONTEXT = 1,
    FIELD_CHAIN_ID = 2,
    FIELD_SEQUENCE = 3,
    FIELD_PREVIOUS_HASH = 4,
    FIELD_PREVIOUS_IN_CHANNEL = 5,
    FIELD_TRANSFER_ID = 6,
    FIELD_TIME_NS = 7,
    FIELD_ORIGIN_USER = 8,
    FIELD_TOTAL_BYTES = 9,
    FIELD_ARTIFACT_COUNT = 10,
    FIELD_APPROVALS = 11,
    FIELD_STATEMENT = 12,
    FIELD_CHUNK_HASHES = 13,
    FIELD_COUNT
};

/* All that is in a manifest beside the statement and the chunk hashes: about 260 bytes with the longest values. */
enum { HEAD_SIZE_MAX = 512 };

uint64_t manifest_chunk_count(uint64_t size)
{
    return size / CHUNK_SIZE + (size % CHUNK_SIZE != 0);
}

/* '/' ranks below every other byte, so that what lies in a directory comes directly behind it: "a", "a/b", "a b". */
static unsigned rank(char c)
{
    return c == '\0' ? 0 : c == '/' ? 1 : (unsigned char)c + 1u;
}

int manifest_path_compare(const char *a, const char *b)
{
    while (*a != '\0' && *a == *b) {
        a++;
        b++;
    }
    return (int)rank(*a) - (int)rank(*b);
}

struct buffer {
    uint8_t *bytes;
    size_t size;
    size_t capacity;
};

/* Room for `size` more bytes at the end, which count as written. */
static uint8_t *buffer_extend(struct buffer *buffer, size_t size)
{
    assert(size <= SIZE_MAX / 4 - buffer->size);
    if (buffer->size + size > buffer->capacity) {
        buffer->capacity = 2 * (buffer->size + size) + 4096;
        buffer->bytes = realloc(buffer->bytes, buffer->capacity);
        assert(buffer->bytes != NULL);
    }
    buffer->size += size;
    return buffer->bytes + buffer->size - size;
}

struct manifest_writer {
    uint32_t labels;
    struct buffer statement;
    struct buffer hashes;
    struct tally tally;
};

/* Concatenated protobuf messages merge, so a statement is the concatenation of its parts. */
static void append(struct manifest_writer *writer, const Diodecast__Statement *part)
{
    uint8_t *out = buffer_extend(&writer->statement, diodecast__statement__get_packed_size(part));
    diodecast__statement__pack(part, out);
}

struct manifest_writer *manifest_writer_create(const char *channel, const char *name)
{
    assert(relpath_check_channel(channel, strlen(channel)) == NULL);
    assert(relpath_check_component(name, strlen(name)) == NULL);
    struct manifest_writer *writer = calloc(1, sizeof *writer);
    assert(writer != NULL);
    tally_init(&writer->tally, name);

    Diodecast__Statement head = DIODECAST__STATEMENT__INIT;
    head.context = (char *)statement_context;
    head.channel = (char *)channel;
    head.name = (char *)name;
    append(writer, &head);
    return writer;
}

static bool label_is_legal(const char *key, size_t key_size, const char *value, size_t value_size)
{
    return key_size >= 1 && key_size <= LIMIT_LABEL_KEY_LENGTH && value_size <= LIMIT_LABEL_VALUE_LENGTH &&
           relpath_check_text(key, key_size) == NULL && relpath_check_text(value, value_size) == NULL;
}

void manifest_writer_add_label(struct manifest_writer *writer, const char *key, const char *value)
{
    assert(writer->tally.entries == 0 && writer->labels < LIMIT_LABELS);
    assert(label_is_legal(key, strlen(key), value, strlen(value)));
    Diodecast__Label label = DIODECAST__LABEL__INIT;
    label.key = (char *)key;
    label.value = (char *)value;
    Diodecast__Label *list[] = {&label};
    Diodecast__Statement part = DIODECAST__STATEMENT__INIT;
    part.n_labels = 1;
    part.labels = list;
    append(writer, &part);
    writer->labels++;
}

void manifest_writer_add(struct manifest_writer *writer, const struct manifest_entry *entry)
{
    const char *wrong = tally_add(&writer->tally, entry);
    assert(wrong == NULL);

    Diodecast__Entry wire = DIODECAST__ENTRY__INIT;
    wire.path = (char *)entry->path;
    wire.kind = (Diodecast__Kind)entry->kind;
    wire.mtime_ns = entry->mtime_ns;
    if (entry->kind == MANIFEST_FILE) {
        wire.size = entry->size;
        wire.executable = entry->executable;
        wire.sha256 = (ProtobufCBinaryData){.len = SHA256_SIZE, .data = (uint8_t *)entry->sha256};
    } else if (entry->kind == MANIFEST_SYMLINK) {
        wire.target = (char *)entry->target;
    }
    Diodecast__Entry *list[] = {&wire};
    Diodecast__Statement part = DIODECAST__STATEMENT__INIT;
    part.n_entries = 1;
    part.entries = list;
    append(writer, &part);
}

void manifest_writer_add_chunk_hashes(struct manifest_writer *writer, const uint8_t *hashes, size_t count)
{
    assert(count > 1 && count <= LIMIT_MANIFEST_SIZE / CHUNK_HASH_SIZE);
    memcpy(buffer_extend(&writer->hashes, count * CHUNK_HASH_SIZE), hashes, count * CHUNK_HASH_SIZE);
}

size_t manifest_writer_size(const struct manifest_writer *writer)
{
    return writer->statement.size + (size_t)writer->tally.chunk_hashes * CHUNK_HASH_SIZE + HEAD_SIZE_MAX;
}

/* What both sides demand of a head; NULL or what is wrong with it. */
static const char *check_head(const struct manifest_head *head)
{
    static const uint8_t no_hash[SHA256_SIZE];

    if (head->sequence < 1 || head->sequence > LIMIT_SEQUENCE)
        return "has a sequence number out of range";
    if (head->previous_in_channel >= head->sequence)
        return "follows a later manifest of its channel";
    if (head->sequence == 1 && memcmp(head->previous_hash, no_hash, SHA256_SIZE) != 0)
        return "is the first of its chain and names a previous one";
    if (head->time_ns < 0)
        return "was made before 1970";
    if (relpath_check_text(head->origin_user, strlen(head->origin_user)) != NULL)
        return "has an origin user that is not printable UTF-8";
    return NULL;
}

void manifest_writer_finish(struct manifest_writer *writer, const struct manifest_head *head, uint8_t **out,
                            size_t *out_size)
{
    const struct tally *tally = &writer->tally;

    assert(check_head(head) == NULL);
    assert(tally->entries > 0 && writer->hashes.size == tally->chunk_hashes * CHUNK_HASH_SIZE);
    Diodecast__Manifest wire = DIODECAST__MANIFEST__INIT;
    wire.context = (char *)manifest_context;
    wire.chain_id = (ProtobufCBinaryData){.len = CHAIN_ID_SIZE, .data = (uint8_t *)head->chain_id};
    wire.sequence = head->sequence;
    wire.previous_hash = (ProtobufCBinaryData){.len = SHA256_SIZE, .data = (uint8_t *)head->previous_hash};
    wire.previous_in_channel = head->previous_in_channel;
    wire.transfer_id = (ProtobufCBinaryData){.len = TRANSFER_ID_SIZE, .data = (uint8_t *)head->transfer_id};
    wire.time_ns = head->time_ns;
    wire.origin_user = (char *)head->origin_user;
    wire.total_bytes = tally->total_bytes;
    wire.artifact_count = tally->artifacts;
    wire.statement = (ProtobufCBinaryData){.len = writer->statement.size, .data = writer->statement.bytes};
    wire.chunk_hashes = (ProtobufCBinaryData){.len = writer->hashes.size, .data = writer->hashes.bytes};

    *out_size = diodecast__manifest__get_packed_size(&wire);
    assert(*out_size <= manifest_writer_size(writer) && *out_size <= LIMIT_MANIFEST_SIZE);
    *out = malloc(*out_size);
    assert(*out != NULL);
    diodecast__manifest__pack(&wire, *out);
}

void manifest_writer_destroy(struct manifest_writer *writer)
{
    if (writer == NULL)
        return;
    free(writer->statement.bytes);
    free(writer->hashes.bytes);
    free(writer);
}

struct manifest_reader {
    const uint8_t *statement;
    size_t statement_size;
    const uint8_t *chunk_hashes;
    size_t chunk_hashes_size;
    struct manifest_head head;
    size_t position;         /* in the statement, behind the last entry returned */
    Diodecast__Entry *entry; /* last entry returned; owns its strings */
    uint64_t hashes_before;  /* chunk hashes of the artifacts in front of it */
    uint64_t hashes_here;    /* its own */
};

__attribute__((format(printf, 2, 3))) static enum status refuse(char reason[static 256], const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(reason, 256, format, arguments);
    va_end(arguments);
    return STATUS_INVALID;
}

static bool equals(const struct field *field, const char *text)
{
    return field->size == strlen(text) && memcmp(field->bytes, text, field->size) == 0;
}

static bool copy_bytes(uint8_t *out, size_t size, const struct field *field)
{
    if (field->size != size)
        return false;
    memcpy(out, field->bytes, size);
    return true;
}

/* `size` is that of the place, NUL included. field_check() made sure that the text holds no NUL. */
static bool copy_text(char *out, size_t size, const struct field *field)
{
    if (field->size >= size)
        return false;
    memcpy(out, field->bytes, field->size);
    out[field->size] = '\0';
    return true;
}

static bool approval_is_legal(const struct field *field)
{
    size_t position = 0;
    struct field part;
    bool has_signature = false, has_global = false, has_comment = false;

    while (field_next(field->bytes, field->size, &position, &part) == FIELD_OK) {
        if (part.number == 1) {
            has_signature = part.size == 74 && memcmp(part.bytes, "ED", 2) == 0;
        } else if (part.number == 2) {
            has_comment = part.size > 0;
            if (part.size > LIMIT_COMMENT_LENGTH || relpath_check_text((const char *)part.bytes, part.size) != NULL)
                return false;
        } else if (part.number == 3) {
            has_global = part.size == 64;
            if (part.size != 0 && part.size != 64)
                return false;
        }
    }
    return has_signature && (has_global || !has_comment);
}

/* Takes one field of the manifest; false when its size breaks a rule. Types and repetition were checked before. */
static bool take_field(struct manifest_reader *reader, const struct field *field)
{
    struct manifest_head *head = &reader->head;

    switch ((enum field_manifest)field->number) {
    case FIELD_CONTEXT:
        return equals(field, manifest_context);
    case FIELD_CHAIN_ID:
        return copy_bytes(head->chain_id, CHAIN_ID_SIZE, field);
    case FIELD_SEQUENCE:
        head->sequence = field->value;
        return true;
    case FIELD_PREVIOUS_HASH:
        return copy_bytes(head->previous_hash, SHA256_SIZE, field);
    case FIELD_PREVIOUS_IN_CHANNEL:
        head->previous_in_channel = field->value;
        return true;
    case FIELD_TRANSFER_ID:
        return copy_bytes(head->transfer_id, TRANSFER_ID_SIZE, field);
    case FIELD_TIME_NS:
        head->time_ns = (int64_t)(field->value >> 1) ^ -(int64_t)(field->value & 1);
        return true;
    case FIELD_ORIGIN_USER:
        return copy_text(head->origin_user, sizeof head->origin_user, field);
    case FIELD_TOTAL_BYTES:
        head->total_bytes = field->value;
        return true;
    case FIELD_ARTIFACT_COUNT:
        head->artifact_count = (uint32_t)field->value;
        return true;
    case FIELD_APPROVALS:
        return approval_is_legal(field);
    case FIELD_STATEMENT:
        reader->statement = field->bytes;
        reader->statement_size = field->size;
        return true;
    case FIELD_CHUNK_HASHES:
        reader->chunk_hashes = field->bytes;
        reader->chunk_hashes_size = field->size;
        return true;
    case FIELD_COUNT:
        break;
    }
    return true;
}

static enum status read_manifest(struct manifest_reader *reader, const uint8_t *bytes, size_t size,
                                 char reason[static 256])
{
    static const enum field_manifest required[] = {FIELD_CONTEXT,       FIELD_CHAIN_ID,    FIELD_SEQUENCE,
                                                   FIELD_PREVIOUS_HASH, FIELD_TRANSFER_ID, FIELD_STATEMENT};
    uint32_t seen = 0;
    size_t position = 0;
    struct field field;

    if (size == 0 || size > LIMIT_MANIFEST_SIZE)
        return refuse(reason, "the manifest has %zu bytes", size);
    if (!field_check(&diodecast__manifest__descriptor, bytes, size) ||
        !field_check_each(&diodecast__approval__descriptor, FIELD_APPROVALS, LIMIT_APPROVALS, bytes, size))
        return refuse(reason, "the manifest is not a well-formed message");
    while (field_next(bytes, size, &position, &field) == FIELD_OK) {
        if (!take_field(reader, &field))
            return refuse(reason, "field %" PRIu32 " of the manifest breaks a rule", field.number);
        if (field.number < FIELD_COUNT)
            seen |= 1u << field.number;
    }
    for (size_t i = 0; i < sizeof required / sizeof *required; i++) {
        if ((seen & 1u << required[i]) == 0)
            return refuse(reason, "the manifest lacks field %d", (int)required[i]);
    }
    const char *wrong = check_head(&reader->head);
    return wrong != NULL ? refuse(reason, "the manifest %s", wrong) : STATUS_OK;
}

static bool label_field_is_legal(const struct field *field)
{
    struct field part, key = {0}, value = {0};
    size_t position = 0;

    while (field_next(field->bytes, field->size, &position, &part) == FIELD_OK) {
        if (part.number == 1)
            key = part;
        else if (part.number == 2)
            value = part;
    }
    return label_is_legal((const char *)key.bytes, key.size, (const char *)value.bytes, value.size);
}

/* Takes all of the statement but the entries. */
static enum status read_statement(struct manifest_reader *reader, char reason[static 256])
{
    const uint8_t *bytes = reader->statement;
    struct manifest_head *head = &reader->head;
    size_t size = reader->statement_size, position = 0;
    bool has_context = false;
    struct field field;

    if (!field_check(&diodecast__statement__descriptor, bytes, size) ||
        !field_check_each(&diodecast__label__descriptor, FIELD_STATEMENT_LABELS, LIMIT_LABELS, bytes, size))
        return refuse(reason, "the statement is not a well-formed message");
    while (field_next(bytes, size, &position, &field) == FIELD_OK) {
        bool legal = true;
        if (field.number == FIELD_STATEMENT_CONTEXT)
            has_context = equals(&field, statement_context);
        else if (field.number == FIELD_STATEMENT_CHANNEL)
            legal = copy_text(head->channel, sizeof head->channel, &field);
        else if (field.number == FIELD_STATEMENT_NAME)
            legal = copy_text(head->name, sizeof head->name, &field);
        else if (field.number == FIELD_STATEMENT_LABELS)
            legal = label_field_is_legal(&field);
        if (!legal)
            return refuse(reason, "field %" PRIu32 " of the statement breaks a rule", field.number);
    }
    if (!has_context)
        return refuse(reason, "the statement lacks its context");
    const char *wrong = relpath_check_channel(head->channel, strlen(head->channel));
    if (wrong != NULL)
        return refuse(reason, "the channel's name %s", wrong);
    wrong = relpath_check_component(head->name, strlen(head->name));
    return wrong != NULL ? refuse(reason, "the item's name %s", wrong) : STATUS_OK;
}

static bool entry_is_legal(const Diodecast__Entry *wire)
{
    if (wire->kind != DIODECAST__KIND__KIND_FILE && wire->kind != DIODECAST__KIND__KIND_DIRECTORY &&
        wire->kind != DIODECAST__KIND__KIND_SYMLINK)
        return false;
    return wire->sha256.len == (wire->kind == DIODECAST__KIND__KIND_FILE ? SHA256_SIZE : 0);
}

/*
 * Decodes the next entry of the statement; its strings live until the next call. STATUS_NOT_FOUND at the end,
 * STATUS_INVALID when it is no entry, STATUS_SYSTEM when memory is short.
 */
static enum status decode_entry(struct manifest_reader *reader, struct manifest_entry *entry)
{
    struct field field;

    do {
        if (field_next(reader->statement, reader->statement_size, &reader->position, &field) != FIELD_OK)
            return STATUS_NOT_FOUND;
    } while (field.number != FIELD_STATEMENT_ENTRIES);
    if (field.size > LIMIT_ENTRY_SIZE || !field_check(&diodecast__entry__descriptor, field.bytes, field.size))
        return STATUS_INVALID;
    if (reader->entry != NULL)
        diodecast__entry__free_unpacked(reader->entry, NULL);
    reader->entry = diodecast__entry__unpack(NULL, field.size, field.bytes);
    if (reader->entry == NULL) {
        errno = ENOMEM; /* the bytes are well-formed, so memory is all that can be missing */
        return STATUS_SYSTEM;
    }

    const Diodecast__Entry *wire = reader->entry;
    if (!entry_is_legal(wire))
        return STATUS_INVALID;
    *entry = (struct manifest_entry){
        .path = wire->path,
        .kind = (enum manifest_kind)wire->kind,
        .size = wire->size,
        .executable = wire->executable != 0,
        .mtime_ns = wire->mtime_ns,
        .target = wire->kind == DIODECAST__KIND__KIND_SYMLINK || wire->target[0] != '\0' ? wire->target : NULL,
    };
    if (entry->kind == MANIFEST_FILE)
        memcpy(entry->sha256, wire->sha256.data, SHA256_SIZE);
    return STATUS_OK;
}

static enum status check_entries(struct manifest_reader *reader, char reason[static 256])
{
    struct tally tally;
    struct manifest_entry entry;
    enum status status;

    tally_init(&tally, reader->head.name);
    while ((status = decode_entry(reader, &entry)) == STATUS_OK) {
        const char *wrong = tally_add(&tally, &entry);
        if (wrong != NULL)
            return refuse(reason, "entry %" PRIu32 " %s", tally.entries + 1, wrong);
    }
    if (status == STATUS_INVALID)
        return refuse(reason, "entry %" PRIu32 " is not a well-formed message", tally.entries + 1);
    if (status != STATUS_NOT_FOUND)
        return status;
    if (tally.entries == 0)
        return refuse(reason, "the statement lists nothing");
    if (tally.artifacts != reader->head.artifact_count)
        return refuse(reason, "the manifest counts %" PRIu32 " artifacts where %" PRIu32 " are listed",
                      reader->head.artifact_count, tally.artifacts);
    if (tally.total_bytes != reader->head.total_bytes)
        return refuse(reason, "the manifest counts %" PRIu64 " bytes where the entries have %" PRIu64,
                      reader->head.total_bytes, tally.total_bytes);
    if (reader->chunk_hashes_size != tally.chunk_hashes * CHUNK_HASH_SIZE)
        return refuse(reason, "the manifest has %zu bytes of chunk hashes where %" PRIu64 " are due",
                      reader->chunk_hashes_size, tally.chunk_hashes * CHUNK_HASH_SIZE);
    return STATUS_OK;
}

enum status manifest_reader_create(const uint8_t *bytes, size_t size, struct manifest_reader **reader,
                                   char reason[static 256])
{
    struct manifest_reader *made = calloc(1, sizeof *made);

    *reader = NULL;
    reason[0] = '\0';
    if (made == NULL)
        return STATUS_SYSTEM;
    enum status status = read_manifest(made, bytes, size, reason);
    if (status == STATUS_OK)
        status = read_statement(made, reason);
    if (status == STATUS_OK)
        status = check_entries(made, reason);
    if (status != STATUS_OK) {
        manifest_reader_destroy(made);
        return status;
    }
    manifest_reader_rewind(made);
    *reader = made;
    return STATUS_OK;
}

const struct manifest_head *manifest_reader_head(const struct manifest_reader *reader)
{
    return &reader->head;
}

const uint8_t *manifest_reader_statement(const struct manifest_reader *reader, size_t *size)
{
    *size = reader->statement_size;
    return reader->statement;
}

bool manifest_reader_next(struct manifest_reader *reader, struct manifest_entry *entry)
{
    enum status status = decode_entry(reader, entry);

    reader->hashes_before += reader->hashes_here;
    reader->hashes_here = 0;
    if (status == STATUS_NOT_FOUND)
        return false;
    assert(status == STATUS_OK); /* all entries were checked when the reader was made */
    reader->hashes_here = tally_hash_count(entry);
    return true;
}

void manifest_reader_rewind(struct manifest_reader *reader)
{
    reader->position = 0;
    reader->hashes_before = 0;
    reader->hashes_here = 0;
}

const uint8_t *manifest_reader_chunk_hashes(const struct manifest_reader *reader, size_t *count)
{
    *count = (size_t)reader->hashes_here;
    return *count == 0 ? NULL : reader->chunk_hashes + reader->hashes_before * CHUNK_HASH_SIZE;
}

void manifest_reader_destroy(struct manifest_reader *reader)
{
    if (reader == NULL)
        return;
    if (reader->entry != NULL)
        diodecast__entry__free_unpacked(reader->entry, NULL);
    free(reader);
}
