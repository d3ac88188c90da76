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
#include <sysexits.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/digest.h"
#include "common/durable.h"
#include "common/log.h"
#include "common/signature.h"
#include "proto/approval.h"
#include "proto/identity.h"
#include "proto/manifest.h"
#include "proto/relpath.h"
#include "proto/statement.h"
#include "tools/beneath.h"
#include "tools/command.h"
#include "tools/show.h"

struct options {
    bool json;
    const char *directory; /* --export; NULL: none */
};

static void hex(const uint8_t *bytes, size_t size, char *text)
{
    for (size_t i = 0; i < size; i++)
        snprintf(text + 2 * i, 3, "%02x", bytes[i]);
}

static void print_head(const struct manifest_head *head)
{
    char id[TRANSFER_ID_TEXT_SIZE], chain[2 * CHAIN_ID_SIZE + 1], previous[DIGEST_TEXT_SIZE];
    char time[CLOCK_RFC3339_SIZE];
    identity_transfer_text(head->transfer_id, id);
    hex(head->chain_id, CHAIN_ID_SIZE, chain);
    digest_text(head->previous_hash, previous);
    clock_rfc3339(head->time_ns, time);
    show_text_line("name", head->name);
    show_text_line("channel", head->channel);
    printf("%-14s%" PRIu64 " (before it in this channel: %" PRIu64 ")\n", "sequence", head->sequence,
           head->previous_in_channel);
    printf("%-14s%s\n%-14s%s\n%-14s%s\n", "transfer", id, "chain", chain, "previous", previous);
    printf("%-14s%s\n", "signed", time);
    show_text_line("origin user", head->origin_user);
    show_content(head->artifact_count, head->total_bytes);
}

static void print_readable(struct manifest_reader *reader)
{
    struct manifest_entry entry;
    struct signature approval;
    print_head(manifest_reader_head(reader));
    for (size_t i = 0; manifest_reader_approval(reader, i, &approval); i++)
        show_approval(&approval);
    printf("%-14snot checked here; see `diodecast verify`\n\n", "signature");
    while (manifest_reader_next(reader, &entry))
        show_entry(&entry);
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

/* Prints what `head` holds, and the entries one by one, so that a large tree does not become a tree of JSON objects in
 * memory. Takes `head`. */
static void print_json(json_t *head, bool (*next)(void *reader, struct manifest_entry *entry), void *reader)
{
    struct manifest_entry entry;
    const char *separator = "\n    ";
    printf("{");
    json_dumpf(head, stdout, JSON_EMBED);
    json_decref(head);
    printf(",\n  \"entries\": [");
    while (next(reader, &entry)) {
        json_t *object = show_entry_json(&entry);
        fputs(separator, stdout);
        json_dumpf(object, stdout, 0);
        json_decref(object);
        separator = ",\n    ";
    }
    printf("\n  ]\n}\n");
}

static bool next_in_manifest(void *reader, struct manifest_entry *entry)
{
    return manifest_reader_next(reader, entry);
}

static bool next_in_statement(void *reader, struct manifest_entry *entry)
{
    return statement_reader_next(reader, entry);
}

static json_t *approvals_json(const struct signature *approvals, size_t count)
{
    json_t *list = json_array();
    assert(list != NULL);
    for (size_t i = 0; i < count; i++)
        json_array_append_new(list, show_approval_json(&approvals[i]));
    return list;
}

static int inspect_manifest(const char *path, const uint8_t *bytes, size_t size, const struct options *options)
{
    struct manifest_reader *reader = NULL;
    struct signature approvals[LIMIT_APPROVALS];
    char reason[256] = "";
    int code = EX_OK;
    if (manifest_reader_create(bytes, size, &reader, reason) != STATUS_OK) {
        log_error("%s: not a valid manifest: %s", path, reason);
        return EX_DATAERR;
    }
    size_t count = manifest_reader_approval_count(reader), statement_size = 0;
    const uint8_t *statement = manifest_reader_statement(reader, &statement_size);
    for (size_t i = 0; i < count; i++)
        (void)manifest_reader_approval(reader, i, &approvals[i]);
    if (options->directory != NULL)
        code = show_export(options->directory, statement, statement_size, approvals, count);
    if (options->json) {
        json_t *head = head_json(manifest_reader_head(reader));
        json_object_set_new(head, "approvals", approvals_json(approvals, count));
        print_json(head, next_in_manifest, reader);
    } else {
        print_readable(reader);
    }
    manifest_reader_destroy(reader);
    return code;
}

static void print_bundle(const struct approval_bundle *bundle, struct statement_reader *reader)
{
    const struct statement_head *head = statement_reader_head(reader);
    struct manifest_entry entry;
    show_text_line("name", head->name);
    show_text_line("channel", head->channel);
    show_content(head->artifact_count, head->total_bytes);
    show_labels(reader);
    for (size_t i = 0; i < bundle->count; i++)
        show_approval(&bundle->approvals[i]);
    printf("%-14snot checked here; use --export and `minisign -V`\n\n", "signatures");
    while (statement_reader_next(reader, &entry))
        show_entry(&entry);
}

static json_t *bundle_json(const struct approval_bundle *bundle, const struct statement_reader *reader)
{
    const struct statement_head *head = statement_reader_head(reader);
    json_t *object =
        json_pack("{s:s, s:s, s:I, s:I, s:o, s:o}", "name", head->name, "channel", head->channel, "total_bytes",
                  (json_int_t)head->total_bytes, "artifact_count", (json_int_t)head->artifact_count, "labels",
                  show_labels_json(reader), "approvals", approvals_json(bundle->approvals, bundle->count));
    assert(object != NULL);
    return object;
}

static int inspect_bundle(const char *path, const uint8_t *bytes, size_t size, const struct options *options)
{
    struct approval_bundle bundle;
    struct statement_reader *reader = NULL;
    char reason[256] = "";
    int code = EX_OK;
    if (approval_decode(bytes, size, &bundle, reason) != STATUS_OK ||
        statement_reader_create(bundle.statement, bundle.statement_size, &reader, reason) != STATUS_OK) {
        log_error("%s: %s", path, reason);
        return EX_DATAERR;
    }
    if (options->directory != NULL)
        code = show_export(options->directory, bundle.statement, bundle.statement_size, bundle.approvals, bundle.count);
    if (options->json)
        print_json(bundle_json(&bundle, reader), next_in_statement, reader);
    else
        print_bundle(&bundle, reader);
    statement_reader_destroy(reader);
    return code;
}

/* A directory means the manifest.pb in it. Returns an exit code. */
static int read_input(const char *path, char **bytes, size_t *size)
{
    enum status status;
    int dirfd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (dirfd >= 0) {
        status = beneath_read(dirfd, "manifest.pb", LIMIT_MANIFEST_SIZE, bytes, size);
        int error = errno;
        close(dirfd);
        errno = error;
    } else {
        status = durable_read_file(AT_FDCWD, path, APPROVAL_FILE_SIZE_MAX, bytes, size);
    }
    if (status == STATUS_OK)
        return EX_OK;
    log_error("%s%s: %s", path, dirfd >= 0 ? "/manifest.pb" : "",
              status == STATUS_SYSTEM || status == STATUS_DENIED ? strerror(errno) : status_text(status));
    return status == STATUS_LIMIT || status == STATUS_INVALID ? EX_DATAERR : EX_NOINPUT;
}

int command_inspect(int argc, char **argv)
{
    static const struct option table[] = {
        {"json", no_argument, NULL, 'j'}, {"export", required_argument, NULL, 'e'}, {NULL, 0, NULL, 0}};
    struct options options = {0};
    int option;
    while ((option = getopt_long(argc, argv, "", table, NULL)) != -1) {
        if (option == 'j')
            options.json = true;
        else if (option == 'e')
            options.directory = optarg;
        else
            return command_usage("inspect");
    }
    if (optind + 1 != argc)
        return command_usage("inspect");

    char *bytes = NULL;
    size_t size = 0;
    const char *path = argv[optind];
    int code = read_input(path, &bytes, &size);
    if (code != EX_OK)
        return code;
    const uint8_t *input = (const uint8_t *)bytes;
    code = relpath_is_approval(path) || approval_is_bundle(input, size) ? inspect_bundle(path, input, size, &options)
                                                                        : inspect_manifest(path, input, size, &options);
    free(bytes);
    return code;
}
