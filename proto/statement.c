// SPDX-License-Identifier: Apache-2.0
#include "proto/statement.h"

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

/* Field numbers of diodecast.proto that the walk needs. */
enum {
    FIELD_CONTEXT = 1,
    FIELD_CHANNEL = 2,
    FIELD_NAME = 3,
    FIELD_LABELS = 4,
    FIELD_ENTRIES = 5,
};

enum { SHOWN_SIZE = 160 /* of a path in a difference, at most */ };

struct statement_reader {
    const uint8_t *bytes;
    size_t size;
    struct statement_head head;
    size_t position;         /* behind the last entry returned */
    Diodecast__Entry *entry; /* last entry returned; owns its strings */
};

__attribute__((format(printf, 2, 3))) static enum status refuse(char reason[static 256], const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(reason, 256, format, arguments);
    va_end(arguments);
    return STATUS_INVALID;
}

/* `size` is that of the place, NUL included. field_check() made sure that the text holds no NUL. */
static bool copy_text(char *out, size_t size, const struct field *field)
{
    if (field->size >= size)
        return false;
    if (field->size > 0)
        memcpy(out, field->bytes, field->size);
    out[field->size] = '\0';
    return true;
}

bool statement_label_is_legal(const char *key, size_t key_size, const char *value, size_t value_size)
{
    return key_size >= 1 && key_size <= LIMIT_LABEL_KEY_LENGTH && value_size <= LIMIT_LABEL_VALUE_LENGTH &&
           relpath_check_text(key, key_size) == NULL && relpath_check_text(value, value_size) == NULL;
}

static void split_label(const struct field *field, struct field *key, struct field *value)
{
    struct field part;
    size_t position = 0;

    *key = *value = (struct field){0};
    while (field_next(field->bytes, field->size, &position, &part) == FIELD_OK) {
        if (part.number == 1)
            *key = part;
        else if (part.number == 2)
            *value = part;
    }
}

static bool label_field_is_legal(const struct field *field)
{
    struct field key, value;

    split_label(field, &key, &value);
    return statement_label_is_legal((const char *)key.bytes, key.size, (const char *)value.bytes, value.size);
}

/* Takes all of the statement but the entries. */
static enum status read_head(struct statement_reader *reader, char reason[static 256])
{
    const uint8_t *bytes = reader->bytes;
    struct statement_head *head = &reader->head;
    size_t size = reader->size, position = 0;
    bool has_context = false;
    struct field field;

    if (!field_check(&diodecast__statement__descriptor, bytes, size) ||
        !field_check_each(&diodecast__label__descriptor, FIELD_LABELS, LIMIT_LABELS, bytes, size))
        return refuse(reason, "the statement is not a well-formed message");
    while (field_next(bytes, size, &position, &field) == FIELD_OK) {
        bool legal = true;
        if (field.number == FIELD_CONTEXT)
            has_context =
                field.size == strlen(statement_context) && memcmp(field.bytes, statement_context, field.size) == 0;
        else if (field.number == FIELD_CHANNEL)
            legal = copy_text(head->channel, sizeof head->channel, &field);
        else if (field.number == FIELD_NAME)
            legal = copy_text(head->name, sizeof head->name, &field);
        else if (field.number == FIELD_LABELS)
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
static enum status decode_entry(struct statement_reader *reader, struct manifest_entry *entry)
{
    struct field field;

    do {
        if (field_next(reader->bytes, reader->size, &reader->position, &field) != FIELD_OK)
            return STATUS_NOT_FOUND;
    } while (field.number != FIELD_ENTRIES);
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

static enum status check_entries(struct statement_reader *reader, char reason[static 256])
{
    struct statement_head *head = &reader->head;
    struct tally tally;
    struct manifest_entry entry;
    enum status status;

    tally_init(&tally, head->name);
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
    head->entries = tally.entries;
    head->artifact_count = tally.artifacts;
    head->total_bytes = tally.total_bytes;
    head->chunk_hashes = tally.chunk_hashes;
    return STATUS_OK;
}

enum status statement_reader_create(const uint8_t *bytes, size_t size, struct statement_reader **reader,
                                    char reason[static 256])
{
    struct statement_reader *made = calloc(1, sizeof *made);

    *reader = NULL;
    reason[0] = '\0';
    if (made == NULL)
        return STATUS_SYSTEM;
    made->bytes = bytes;
    made->size = size;
    enum status status = read_head(made, reason);
    if (status == STATUS_OK)
        status = check_entries(made, reason);
    if (status != STATUS_OK) {
        statement_reader_destroy(made);
        return status;
    }
    made->position = 0;
    *reader = made;
    return STATUS_OK;
}

const struct statement_head *statement_reader_head(const struct statement_reader *reader)
{
    return &reader->head;
}

bool statement_reader_next(struct statement_reader *reader, struct manifest_entry *entry)
{
    enum status status = decode_entry(reader, entry);

    if (status == STATUS_NOT_FOUND)
        return false;
    assert(status == STATUS_OK); /* all entries were checked when the reader was made */
    return true;
}

void statement_reader_rewind(struct statement_reader *reader)
{
    reader->position = 0;
}

bool statement_reader_label(const struct statement_reader *reader, size_t index, struct statement_label *label)
{
    size_t position = 0, count = 0;
    struct field field, key, value;

    while (field_next(reader->bytes, reader->size, &position, &field) == FIELD_OK) {
        if (field.number != FIELD_LABELS || count++ != index)
            continue;
        split_label(&field, &key, &value);
        bool fits =
            copy_text(label->key, sizeof label->key, &key) && copy_text(label->value, sizeof label->value, &value);
        assert(fits); /* checked when the reader was made */
        return true;
    }
    return false;
}

void statement_reader_destroy(struct statement_reader *reader)
{
    if (reader == NULL)
        return;
    if (reader->entry != NULL)
        diodecast__entry__free_unpacked(reader->entry, NULL);
    free(reader);
}

/* What differs between two entries of one path, in words, or NULL. */
static const char *entry_difference(const struct manifest_entry *says, const struct manifest_entry *is,
                                    enum statement_extent extent)
{
    if (says->kind != is->kind)
        return "is of another kind than was signed";
    if (says->kind == MANIFEST_SYMLINK)
        return strcmp(says->target, is->target) == 0 ? NULL : "points elsewhere than was signed";
    if (says->kind != MANIFEST_FILE)
        return NULL;
    if (says->size != is->size)
        return "has another size than was signed";
    if (extent == STATEMENT_WHOLE && memcmp(says->sha256, is->sha256, SHA256_SIZE) != 0)
        return "has another content than was signed";
    if (says->executable != is->executable)
        return is->executable ? "is executable, which was not signed" : "is not executable, as was signed";
    return NULL;
}

static bool say_path(char difference[static 256], const char *path, const char *what)
{
    size_t shown = relpath_cut(path, SHOWN_SIZE);
    snprintf(difference, 256, "%.*s%s %s", (int)shown, path, path[shown] != '\0' ? "..." : "", what);
    return false;
}

static bool entries_agree(struct statement_reader *signed_one, struct statement_reader *found,
                          enum statement_extent extent, char difference[static 256])
{
    struct manifest_entry says, is;

    for (;;) {
        bool more_signed = statement_reader_next(signed_one, &says);
        bool more_found = statement_reader_next(found, &is);
        if (!more_signed && !more_found)
            return true;
        int order = !more_signed ? 1 : !more_found ? -1 : manifest_path_compare(says.path, is.path);
        if (order < 0)
            return say_path(difference, says.path, "was signed and is not there");
        if (order > 0)
            return say_path(difference, is.path, "is there and was not signed");
        const char *what = entry_difference(&says, &is, extent);
        if (what != NULL)
            return say_path(difference, says.path, what);
    }
}

bool statement_agrees(struct statement_reader *signed_one, struct statement_reader *found, enum statement_extent extent,
                      char difference[static 256])
{
    const struct statement_head *says = &signed_one->head, *is = &found->head;

    difference[0] = '\0';
    if (strcmp(says->channel, is->channel) != 0) {
        snprintf(difference, 256, "it was signed for channel %s and not %s", says->channel, is->channel);
        return false;
    }
    if (strcmp(says->name, is->name) != 0)
        return say_path(difference, says->name, "is the name that was signed");
    statement_reader_rewind(signed_one);
    statement_reader_rewind(found);
    bool agrees = entries_agree(signed_one, found, extent, difference);
    statement_reader_rewind(signed_one);
    statement_reader_rewind(found);
    return agrees;
}
