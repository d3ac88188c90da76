// SPDX-License-Identifier: Apache-2.0
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/digest.h"
#include "common/durable.h"
#include "common/log.h"
#include "common/units.h"
#include "proto/identity.h"
#include "proto/manifest.h"
#include "tools/beneath.h"
#include "tools/command.h"
#include "tools/terminal.h"

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

static void hex(const uint8_t *bytes, size_t size, char *text)
{
    for (size_t i = 0; i < size; i++)
        snprintf(text + 2 * i, 3, "%02x", bytes[i]);
}

static void print_text_line(const char *label, const char *text)
{
    printf("%-14s", label);
    terminal_print(stdout, text);
    putchar('\n');
}

static void print_head(const struct manifest_head *head)
{
    char id[TRANSFER_ID_TEXT_SIZE], chain[2 * CHAIN_ID_SIZE + 1], previous[DIGEST_TEXT_SIZE];
    char time[CLOCK_RFC3339_SIZE], size[UNITS_TEXT_SIZE];
    identity_transfer_text(head->transfer_id, id);
    hex(head->chain_id, CHAIN_ID_SIZE, chain);
    digest_text(head->previous_hash, previous);
    clock_rfc3339(head->time_ns, time);
    print_text_line("name", head->name);
    print_text_line("channel", head->channel);
    printf("%-14s%" PRIu64 " (before it in this channel: %" PRIu64 ")\n", "sequence", head->sequence,
           head->previous_in_channel);
    printf("%-14s%s\n%-14s%s\n%-14s%s\n", "transfer", id, "chain", chain, "previous", previous);
    printf("%-14s%s\n", "signed", time);
    print_text_line("origin user", head->origin_user);
    printf("%-14s%" PRIu32 " artifact%s, %s (%" PRIu64 " bytes)\n", "content", head->artifact_count,
           head->artifact_count == 1 ? "" : "s", units_format_size(head->total_bytes, size), head->total_bytes);
}

static void print_entry(const struct manifest_entry *entry)
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

static void print_readable(struct manifest_reader *reader)
{
    struct manifest_entry entry;
    print_head(manifest_reader_head(reader));
    printf("%-14snot checked here; see `diodecast verify`\n\n", "signature");
    while (manifest_reader_next(reader, &entry))
        print_entry(&entry);
}

static json_t *head_json(const struct manifest_head *head)
{
    char id[TRANSFER_ID_TEXT_SIZE], chain[2 * CHAIN_ID_SIZE + 1], previous[DIGEST_TEXT_SIZE];
    char time[CLOCK_RFC3339_SIZE];
    identity_transfer_text(head->transfer_id, id);
    hex(head->chain_id, CHAIN_ID_SIZE, chain);
    digest_text(head->previous_hash, previous);
    clock_rfc3339(head->time_ns, time);
    json_t *object = json_pack("{s:s, s:s, s:I, s:I, s:s, s:s, s:s, s:s, s:s, s:I, s:I}", "name", head->name, "channel",
                               head->channel, "sequence", (json_int_t)head->sequence, "previous_in_channel",
                               (json_int_t)head->previous_in_channel, "transfer_id", id, "chain_id", chain,
                               "previous_hash", previous, "time", time, "origin_user", head->origin_user, "total_bytes",
                               (json_int_t)head->total_bytes, "artifact_count", (json_int_t)head->artifact_count);
    assert(object != NULL);
    return object;
}

static json_t *entry_json(const struct manifest_entry *entry)
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

/* Entry by entry, so that a large tree does not become a tree of JSON objects in memory. */
static void print_json(struct manifest_reader *reader)
{
    struct manifest_entry entry;
    const char *separator = "\n    ";
    json_t *head = head_json(manifest_reader_head(reader));
    printf("{");
    json_dumpf(head, stdout, JSON_EMBED);
    json_decref(head);
    printf(",\n  \"entries\": [");
    while (manifest_reader_next(reader, &entry)) {
        json_t *object = entry_json(&entry);
        fputs(separator, stdout);
        json_dumpf(object, stdout, 0);
        json_decref(object);
        separator = ",\n    ";
    }
    printf("\n  ]\n}\n");
}

/* A directory means the manifest.pb in it. Returns an exit code. */
static int read_manifest(const char *path, char **bytes, size_t *size)
{
    enum status status;
    int dirfd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (dirfd >= 0) {
        status = beneath_read(dirfd, "manifest.pb", LIMIT_MANIFEST_SIZE, bytes, size);
        int error = errno;
        close(dirfd);
        errno = error;
    } else {
        status = durable_read_file(AT_FDCWD, path, LIMIT_MANIFEST_SIZE, bytes, size);
    }
    if (status == STATUS_OK)
        return EX_OK;
    log_error("%s%s: %s", path, dirfd >= 0 ? "/manifest.pb" : "",
              status == STATUS_SYSTEM || status == STATUS_DENIED ? strerror(errno) : status_text(status));
    return status == STATUS_LIMIT || status == STATUS_INVALID ? EX_DATAERR : EX_NOINPUT;
}

int command_inspect(int argc, char **argv)
{
    static const struct option options[] = {{"json", no_argument, NULL, 'j'}, {NULL, 0, NULL, 0}};
    bool json = false;
    int option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option != 'j')
            return command_usage("inspect");
        json = true;
    }
    if (optind + 1 != argc)
        return command_usage("inspect");

    char *bytes = NULL;
    size_t size = 0;
    int code = read_manifest(argv[optind], &bytes, &size);
    if (code != EX_OK)
        return code;
    struct manifest_reader *reader = NULL;
    char reason[256] = "";
    if (manifest_reader_create((const uint8_t *)bytes, size, &reader, reason) != STATUS_OK) {
        log_error("%s: not a valid manifest: %s", argv[optind], reason);
        code = EX_DATAERR;
    } else {
        (json ? print_json : print_readable)(reader);
        manifest_reader_destroy(reader);
    }
    free(bytes);
    return code;
}
