// SPDX-License-Identifier: Apache-2.0
#include "receiver/describe.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/digest.h"
#include "common/signature.h"
#include "proto/identity.h"
#include "proto/manifest.h"

const char *const describe_files[DESCRIBE_FILE_COUNT] = {"manifest.pb", "manifest.pb.minisig", "manifest.json",
                                                         "SHA256SUMS"};

enum { FILE_MODE = 0660, HEX_SIZE = 2 * SHA256_SIZE + 1 };

static FILE *create_file(int tree_fd, const char *name)
{
    int fd = openat(tree_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return NULL;
    FILE *file = fchmod(fd, FILE_MODE) == 0 ? fdopen(fd, "w") : NULL;
    if (file == NULL) {
        int error = errno;
        close(fd);
        errno = error;
    }
    return file;
}

/* Takes the file. A write that failed at any time shows here; SHA256SUMS of a full disk must not be half a list. */
static enum status finish_file(FILE *file)
{
    if (file == NULL)
        return status_from_errno(errno);
    int failed = ferror(file) != 0 || fflush(file) != 0 ? (errno != 0 ? errno : EIO) : 0;
    if (fclose(file) != 0 && failed == 0)
        failed = errno;
    return failed == 0 ? STATUS_OK : status_from_errno(failed);
}

static enum status write_bytes(int tree_fd, const char *name, const void *bytes, size_t size)
{
    FILE *file = create_file(tree_fd, name);
    if (file != NULL && size > 0)
        (void)fwrite(bytes, 1, size, file);
    return finish_file(file);
}

static void hex(const uint8_t *bytes, size_t size, char text[static HEX_SIZE])
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < size; i++) {
        text[2 * i] = digits[bytes[i] >> 4];
        text[2 * i + 1] = digits[bytes[i] & 15];
    }
    text[2 * size] = '\0';
}

/*
 * One line of `sha256sum`: a name with a backslash in it has each doubled, and a backslash in front of the line says
 * so. Newlines, the other case, are no names of ours.
 */
static void write_sum(FILE *file, const struct manifest_entry *entry)
{
    char text[DIGEST_TEXT_SIZE];
    digest_text(entry->sha256, text);
    bool escape = strchr(entry->path, '\\') != NULL;
    fprintf(file, "%s%s  ", escape ? "\\" : "", text);
    for (const char *at = entry->path; *at != '\0'; at++) {
        if (*at == '\\')
            putc('\\', file);
        putc(*at, file);
    }
    putc('\n', file);
}

static enum status write_sums(int tree_fd, struct assembly *assembly)
{
    struct manifest_entry entry;
    FILE *file = create_file(tree_fd, "SHA256SUMS");
    manifest_reader_rewind(assembly->reader);
    while (file != NULL && manifest_reader_next(assembly->reader, &entry))
        if (entry.kind == MANIFEST_FILE)
            write_sum(file, &entry);
    return finish_file(file);
}

static void set_hex(json_t *object, const char *key, const uint8_t *bytes, size_t size)
{
    char text[HEX_SIZE];
    hex(bytes, size, text);
    json_object_set_new(object, key, json_string(text));
}

static void set_time(json_t *object, const char *key, int64_t at_ns)
{
    char text[CLOCK_RFC3339_SIZE];
    clock_rfc3339(at_ns, text);
    json_object_set_new(object, key, json_string(text));
}

static json_t *entry_json(const struct manifest_entry *entry)
{
    static const char *const kinds[] = {"", "file", "directory", "symlink"};
    json_t *object = json_object();
    json_object_set_new(object, "path", json_string(entry->path));
    json_object_set_new(object, "kind", json_string(kinds[entry->kind]));
    if (entry->kind == MANIFEST_FILE) {
        json_object_set_new(object, "size", json_integer((json_int_t)entry->size));
        json_object_set_new(object, "executable", json_boolean(entry->executable));
        set_hex(object, "sha256", entry->sha256, SHA256_SIZE);
    }
    if (entry->kind == MANIFEST_SYMLINK)
        json_object_set_new(object, "target", json_string(entry->target));
    set_time(object, "mtime", entry->mtime_ns);
    return object;
}

static json_t *head_json(const struct assembly *assembly, const uint8_t *manifest_hash, bool late,
                         int64_t delivered_at_ns)
{
    const struct manifest_head *head = manifest_reader_head(assembly->reader);
    char sender[SENDER_ID_TEXT_SIZE];
    identity_sender_text(assembly->sender_id, sender);
    json_t *object = json_object();
    json_object_set_new(object, "schema_version", json_integer(1));
    json_object_set_new(object, "channel", json_string(head->channel));
    json_object_set_new(object, "name", json_string(head->name));
    json_object_set_new(object, "sequence", json_integer((json_int_t)head->sequence));
    json_object_set_new(object, "sender_id", json_string(sender));
    set_hex(object, "chain_id", head->chain_id, CHAIN_ID_SIZE);
    set_hex(object, "transfer_id", head->transfer_id, TRANSFER_ID_SIZE);
    set_hex(object, "manifest_sha256", manifest_hash, SHA256_SIZE);
    set_hex(object, "previous_sha256", head->previous_hash, SHA256_SIZE);
    json_object_set_new(object, "previous_in_channel", json_integer((json_int_t)head->previous_in_channel));
    json_object_set_new(object, "origin_user", json_string(head->origin_user));
    set_time(object, "sealed_at", head->time_ns);
    set_time(object, "delivered_at", delivered_at_ns);
    json_object_set_new(object, "late", json_boolean(late));
    json_object_set_new(object, "total_bytes", json_integer((json_int_t)head->total_bytes));
    json_object_set_new(object, "artifact_count", json_integer(head->artifact_count));
    return object;
}

/* The head's object is left open and the entries are put behind it one by one. */
static enum status write_json(int tree_fd, struct assembly *assembly, const uint8_t *manifest_hash, bool late,
                              int64_t delivered_at_ns)
{
    json_t *head = head_json(assembly, manifest_hash, late, delivered_at_ns);
    char *text = json_dumps(head, JSON_INDENT(2));
    json_decref(head);
    FILE *file = text == NULL ? NULL : create_file(tree_fd, "manifest.json");
    if (file == NULL) {
        free(text);
        return status_from_errno(errno != 0 ? errno : ENOMEM);
    }
    size_t size = strlen(text);
    while (size > 0 && (text[size - 1] == '}' || text[size - 1] == '\n'))
        size--;
    fprintf(file, "%.*s,\n  \"entries\": [", (int)size, text);
    free(text);

    struct manifest_entry entry;
    const char *separator = "\n    ";
    bool whole = true;
    manifest_reader_rewind(assembly->reader);
    while (whole && manifest_reader_next(assembly->reader, &entry)) {
        json_t *object = entry_json(&entry);
        fputs(separator, file);
        whole = json_dumpf(object, file, JSON_COMPACT) == 0;
        json_decref(object);
        separator = ",\n    ";
    }
    fputs("\n  ]\n}\n", file);
    enum status status = finish_file(file);
    return status == STATUS_OK && !whole ? status_from_errno(ENOMEM) : status;
}

enum status describe_delivery(int tree_fd, struct assembly *assembly, const uint8_t manifest_hash[static SHA256_SIZE],
                              bool late, int64_t delivered_at_ns)
{
    enum status status = write_bytes(tree_fd, "manifest.pb", assembly->manifest.body, assembly->manifest.body_size);
    if (status == STATUS_OK) {
        char *text;
        size_t size;
        signature_to_file_text(&assembly->manifest.signature, &text, &size);
        status = write_bytes(tree_fd, "manifest.pb.minisig", text, size);
        free(text);
    }
    if (status == STATUS_OK)
        status = write_json(tree_fd, assembly, manifest_hash, late, delivered_at_ns);
    if (status == STATUS_OK)
        status = write_sums(tree_fd, assembly);
    return status;
}

/* The head's members stand on lines of their own, as written above; the entries are copied as they are. */
static enum status copy_json(FILE *from, FILE *to, bool late, int64_t delivered_at_ns)
{
    static const char at_key[] = "  \"delivered_at\": ", late_key[] = "  \"late\": ", end[] = "  \"entries\": [";
    char when[CLOCK_RFC3339_SIZE], buffer[4096];
    char *line = NULL;
    size_t size = 0;
    bool head = true;
    clock_rfc3339(delivered_at_ns, when);
    while (head && getline(&line, &size, from) > 0) {
        head = strncmp(line, end, strlen(end)) != 0;
        if (strncmp(line, at_key, strlen(at_key)) == 0)
            fprintf(to, "%s\"%s\",\n", at_key, when);
        else if (strncmp(line, late_key, strlen(late_key)) == 0)
            fprintf(to, "%s%s,\n", late_key, late ? "true" : "false");
        else
            fputs(line, to);
    }
    free(line);
    while ((size = fread(buffer, 1, sizeof buffer, from)) > 0)
        fwrite(buffer, 1, size, to);
    if (ferror(from) != 0 || ferror(to) != 0 || fflush(to) != 0 || fsync(fileno(to)) != 0)
        return status_from_errno(errno != 0 ? errno : EIO);
    return STATUS_OK;
}

enum status describe_again(int tree_fd, bool late, int64_t delivered_at_ns)
{
    static const char temporary[] = ".manifest.json";
    int fd = openat(tree_fd, "manifest.json", O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    FILE *from = fd < 0 ? NULL : fdopen(fd, "r");
    if (from == NULL) {
        if (fd >= 0)
            close(fd);
        return errno == ENOENT ? STATUS_OK : status_from_errno(errno);
    }
    (void)unlinkat(tree_fd, temporary, 0);
    FILE *to = create_file(tree_fd, temporary);
    enum status status = to == NULL ? status_from_errno(errno) : copy_json(from, to, late, delivered_at_ns);
    if (to != NULL && fclose(to) != 0 && status == STATUS_OK)
        status = status_from_errno(errno);
    fclose(from);
    if (status == STATUS_OK && renameat(tree_fd, temporary, tree_fd, "manifest.json") != 0)
        status = status_from_errno(errno);
    return status;
}
