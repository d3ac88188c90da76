// SPDX-License-Identifier: Apache-2.0
#include "tools/show.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/digest.h"
#include "common/durable.h"
#include "common/fingerprint.h"
#include "common/log.h"
#include "common/signature.h"
#include "common/units.h"
#include "proto/statement.h"
#include "tools/terminal.h"

enum { EXPORT_MODE = 0644, EXPORT_NAME_SIZE = FINGERPRINT_KEY_ID_SIZE + 16 };

static const char *kind_text(enum manifest_kind kind)
{
    switch (kind) {
    case MANIFEST_FILE:
        return "file";
    case MANIFEST_DIRECTORY:
        return "directory";
    case MANIFEST_SYMLINK:
        return "symlink";
    }
    return "unknown";
}

void show_text_line(const char *label, const char *text)
{
    printf("%-14s", label);
    terminal_print(stdout, text);
    putchar('\n');
}

void show_content(uint32_t artifact_count, uint64_t total_bytes)
{
    char size[UNITS_TEXT_SIZE];
    printf("%-14s%" PRIu32 " artifact%s, %s (%" PRIu64 " bytes)\n", "content", artifact_count,
           artifact_count == 1 ? "" : "s", units_format_size(total_bytes, size), total_bytes);
}

void show_entry(const struct manifest_entry *entry)
{
    char digest[DIGEST_TEXT_SIZE] = "";
    char time[CLOCK_RFC3339_SIZE];
    clock_rfc3339(entry->mtime_ns, time);
    if (entry->kind == MANIFEST_FILE)
        digest_text(entry->sha256, digest);
    printf("%c%c %14" PRIu64 "  %s  %-64s  ", *kind_text(entry->kind), entry->executable ? 'x' : '-', entry->size, time,
           digest);
    terminal_print(stdout, entry->path);
    if (entry->kind == MANIFEST_SYMLINK) {
        printf(" -> ");
        terminal_print(stdout, entry->target);
    }
    putchar('\n');
}

json_t *show_entry_json(const struct manifest_entry *entry)
{
    char digest[DIGEST_TEXT_SIZE], time[CLOCK_RFC3339_SIZE];
    clock_rfc3339(entry->mtime_ns, time);
    json_t *object = json_pack("{s:s, s:s, s:s}", "path", entry->path, "kind", kind_text(entry->kind), "mtime", time);
    assert(object != NULL);
    if (entry->kind == MANIFEST_FILE) {
        digest_text(entry->sha256, digest);
        json_object_set_new(object, "size", json_integer((json_int_t)entry->size));
        json_object_set_new(object, "executable", json_boolean(entry->executable));
        json_object_set_new(object, "sha256", json_string(digest));
    }
    if (entry->kind == MANIFEST_SYMLINK)
        json_object_set_new(object, "target", json_string(entry->target));
    return object;
}

void show_labels(const struct statement_reader *statement)
{
    struct statement_label label;
    for (size_t i = 0; statement_reader_label(statement, i, &label); i++) {
        printf("%-14s", "label");
        terminal_print(stdout, label.key);
        putchar('=');
        terminal_print(stdout, label.value);
        putchar('\n');
    }
}

json_t *show_labels_json(const struct statement_reader *statement)
{
    struct statement_label label;
    json_t *list = json_array();
    assert(list != NULL);
    for (size_t i = 0; statement_reader_label(statement, i, &label); i++)
        json_array_append_new(list, json_pack("{s:s, s:s}", "key", label.key, "value", label.value));
    return list;
}

void show_approval(const struct signature *approval)
{
    char id[FINGERPRINT_KEY_ID_SIZE];
    fingerprint_key_id(approval->bytes + 2, id);
    printf("%-14skey %s", "approval", id);
    if (approval->has_comment) {
        printf(": ");
        terminal_print(stdout, approval->trusted_comment);
    }
    putchar('\n');
}

json_t *show_approval_json(const struct signature *approval)
{
    char id[FINGERPRINT_KEY_ID_SIZE];
    fingerprint_key_id(approval->bytes + 2, id);
    json_t *object = json_pack("{s:s, s:s}", "key_id", id, "comment", approval->trusted_comment);
    assert(object != NULL);
    return object;
}

static enum status write_approval(int dirfd, const struct signature *approval)
{
    char id[FINGERPRINT_KEY_ID_SIZE], name[EXPORT_NAME_SIZE];
    char *text = NULL;
    size_t size = 0;
    if (!approval->has_comment)
        return STATUS_OK; /* not to be had as a .minisig file */
    fingerprint_key_id(approval->bytes + 2, id);
    snprintf(name, sizeof name, "%s.minisig", id);
    signature_to_file_text(approval, &text, &size);
    enum status status = durable_write_file(dirfd, name, text, size, EXPORT_MODE);
    free(text);
    return status;
}

int show_export(const char *directory, const uint8_t *statement, size_t statement_size,
                const struct signature *approvals, size_t count)
{
    bool made = mkdir(directory, 0777) == 0 || errno == EEXIST;
    int dirfd = made ? open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    enum status status =
        dirfd < 0 ? STATUS_SYSTEM : durable_write_file(dirfd, "statement.pb", statement, statement_size, EXPORT_MODE);
    for (size_t i = 0; i < count && status == STATUS_OK; i++)
        status = write_approval(dirfd, &approvals[i]);
    int error = errno;
    if (dirfd >= 0)
        close(dirfd);
    if (status == STATUS_OK)
        return EX_OK;
    log_error("%s can't be written to: %s", directory, strerror(error));
    return EX_CANTCREAT;
}
