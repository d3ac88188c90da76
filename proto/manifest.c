// SPDX-License-Identifier: Apache-2.0
#include "proto/manifest.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/signature.h"
#include "proto/approval.h"
#include "proto/diodecast.pb-c.h"
#include "proto/field.h"
#include "proto/relpath.h"
#include "proto/statement.h"
#include "proto/tally.h"

static const char statement_context[] = "diodecast statement 1";
static const char manifest_context[] = "diodecast manifest 1";

/* Field numbers of diodecast.proto that the walk needs. */
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
    size_t approval_count;
    struct signature approvals[LIMIT_APPROVALS];
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

void manifest_writer_add_label(struct manifest_writer *writer, const char *key, const char *value)
{
    assert(writer->tally.entries == 0 && writer->labels < LIMIT_LABELS);
    assert(statement_label_is_legal(key, strlen(key), value, strlen(value)));
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

const uint8_t *manifest_writer_statement(const struct manifest_writer *writer, size_t *size)
{
    *size = writer->statement.size;
    return writer->statement.bytes;
}

bool manifest_writer_adopt(struct manifest_writer *writer, const struct approval_bundle *bundle,
                           char difference[static 256])
{
    struct statement_reader *found = NULL, *signed_one = NULL;
    bool agrees = false;

    enum status status = statement_reader_create(writer->statement.bytes, writer->statement.size, &found, difference);
    assert(status != STATUS_INVALID);
    if (status == STATUS_OK)
        status = statement_reader_create(bundle->statement, bundle->statement_size, &signed_one, difference);
    assert(status == STATUS_OK || status == STATUS_INVALID); /* a writer has its memory, or ends the process */
    if (status == STATUS_OK)
        agrees = statement_agrees(signed_one, found, STATEMENT_WHOLE, difference);
    statement_reader_destroy(found);
    statement_reader_destroy(signed_one);
    if (!agrees)
        return false;
    writer->statement.size = 0;
    memcpy(buffer_extend(&writer->statement, bundle->statement_size), bundle->statement, bundle->statement_size);
    writer->approval_count = bundle->count;
    memcpy(writer->approvals, bundle->approvals, bundle->count * sizeof bundle->approvals[0]);
    return true;
}

size_t manifest_writer_size(const struct manifest_writer *writer)
{
    return writer->statement.size + (size_t)writer->tally.chunk_hashes * CHUNK_HASH_SIZE + HEAD_SIZE_MAX +
           writer->approval_count * APPROVAL_ENCODED_SIZE_MAX;
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
    Diodecast__Approval approvals[LIMIT_APPROVALS];
    Diodecast__Approval *approval_list[LIMIT_APPROVALS];
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
    wire.n_approvals = approval_to_wire(writer->approvals, writer->approval_count, approvals, approval_list);
    wire.approvals = approval_list;
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
    const uint8_t *statement_bytes;
    size_t statement_size;
    const uint8_t *chunk_hashes;
    size_t chunk_hashes_size;
    struct field approvals[LIMIT_APPROVALS];
    size_t approval_count;
    struct manifest_head head;
    struct statement_reader *statement;
    uint64_t hashes_before; /* chunk hashes of the artifacts in front of the last entry returned */
    uint64_t hashes_here;   /* its own */
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
        assert(reader->approval_count < LIMIT_APPROVALS); /* field_check_each() counted them */
        reader->approvals[reader->approval_count++] = *field;
        return approval_read(field, NULL);
    case FIELD_STATEMENT:
        reader->statement_bytes = field->bytes;
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

/* What the manifest counts must be what its statement lists. */
static enum status compare_counts(const struct manifest_reader *reader, char reason[static 256])
{
    const struct statement_head *listed = statement_reader_head(reader->statement);

    if (listed->artifact_count != reader->head.artifact_count)
        return refuse(reason, "the manifest counts %" PRIu32 " artifacts where %" PRIu32 " are listed",
                      reader->head.artifact_count, listed->artifact_count);
    if (listed->total_bytes != reader->head.total_bytes)
        return refuse(reason, "the manifest counts %" PRIu64 " bytes where the entries have %" PRIu64,
                      reader->head.total_bytes, listed->total_bytes);
    if (reader->chunk_hashes_size != listed->chunk_hashes * CHUNK_HASH_SIZE)
        return refuse(reason, "the manifest has %zu bytes of chunk hashes where %" PRIu64 " are due",
                      reader->chunk_hashes_size, listed->chunk_hashes * CHUNK_HASH_SIZE);
    return STATUS_OK;
}

static enum status read_statement(struct manifest_reader *reader, char reason[static 256])
{
    enum status status =
        statement_reader_create(reader->statement_bytes, reader->statement_size, &reader->statement, reason);
    if (status != STATUS_OK)
        return status;
    const struct statement_head *listed = statement_reader_head(reader->statement);
    memcpy(reader->head.channel, listed->channel, sizeof reader->head.channel);
    memcpy(reader->head.name, listed->name, sizeof reader->head.name);
    return compare_counts(reader, reason);
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
    return reader->statement_bytes;
}

size_t manifest_reader_approval_count(const struct manifest_reader *reader)
{
    return reader->approval_count;
}

bool manifest_reader_approval(const struct manifest_reader *reader, size_t index, struct signature *signature)
{
    return index < reader->approval_count && approval_read(&reader->approvals[index], signature);
}

bool manifest_reader_next(struct manifest_reader *reader, struct manifest_entry *entry)
{
    bool more = statement_reader_next(reader->statement, entry);

    reader->hashes_before += reader->hashes_here;
    reader->hashes_here = 0;
    if (!more)
        return false;
    reader->hashes_here = tally_hash_count(entry);
    return true;
}

void manifest_reader_rewind(struct manifest_reader *reader)
{
    statement_reader_rewind(reader->statement);
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
    statement_reader_destroy(reader->statement);
    free(reader);
}
