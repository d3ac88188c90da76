// SPDX-License-Identifier: Apache-2.0
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
#include "common/keyfile.h"
#include "common/log.h"
#include "common/signature.h"
#include "common/trust.h"
#include "common/units.h"
#include "proto/identity.h"
#include "proto/manifest.h"
#include "tools/beneath.h"
#include "tools/command.h"
#include "tools/delivered.h"
#include "tools/terminal.h"

enum { JSON_LIMIT = 1 << 20 };

static const char default_trusted[] = "/etc/diodecast/trusted.d";

/* Reads one file of the transfer; tells the problem and returns false when it can't be had. */
static bool read_part(int dirfd, const char *name, size_t limit, char **bytes, size_t *size,
                      struct delivered_report *report)
{
    enum status status = beneath_read(dirfd, name, limit, bytes, size);
    if (status == STATUS_OK)
        return true;
    if (status == STATUS_NOT_FOUND)
        delivered_problem(report, name, "is missing");
    else if (status == STATUS_INVALID)
        delivered_problem(report, name, "is not a regular file");
    else
        delivered_problem(report, name, "can't be read: %s",
                          status == STATUS_LIMIT ? "it is too large" : strerror(errno));
    return false;
}

/* Returns whether the manifest is signed by a trusted key; prints by which. */
static bool check_signature(int dirfd, const struct trust *trust, const char *bytes, size_t size,
                            struct delivered_report *report)
{
    char *text = NULL;
    size_t text_size = 0;
    struct signature signature;
    if (!read_part(dirfd, "manifest.pb.minisig", KEYFILE_MAX_SIZE, &text, &text_size, report))
        return false;
    enum status status = signature_from_file_text(text, text_size, &signature);
    free(text);
    if (status != STATUS_OK) {
        delivered_problem(report, "manifest.pb.minisig", "is not a minisign signature of the prehashed kind");
        return false;
    }
    struct signature_public named;
    memcpy(named.key_id, signature.bytes + 2, sizeof(named.key_id));
    uint32_t sender_id = signature_sender_id(&named);
    const struct signature_public *key = trust_find(trust, sender_id);
    if (key == NULL || memcmp(key->key_id, named.key_id, sizeof(named.key_id)) != 0) {
        delivered_problem(report, "manifest.pb", "is signed by sender %08" PRIx32 ", whose key is not trusted",
                          sender_id);
        return false;
    }
    if (!signature_verify(key, bytes, size, &signature)) {
        delivered_problem(report, "manifest.pb", "does not match its signature by sender %08" PRIx32, sender_id);
        return false;
    }
    printf("signature    good, by sender %08" PRIx32 " (", sender_id);
    terminal_print(stdout, signature.trusted_comment);
    printf(")\n");
    const struct trust_key *entry = trust_find_sender(trust, sender_id);
    if (entry->revoked) {
        printf("             its key is revoked now%s", entry->why_revoked[0] == '\0' ? "" : ": ");
        terminal_print(stdout, entry->why_revoked);
        printf("\n");
    }
    return true;
}

static void print_head(const struct manifest_head *head)
{
    char id[TRANSFER_ID_TEXT_SIZE], time[CLOCK_RFC3339_SIZE], size[UNITS_TEXT_SIZE];
    identity_transfer_text(head->transfer_id, id);
    clock_rfc3339(head->time_ns, time);
    printf("transfer     ");
    terminal_print(stdout, head->name);
    printf("\nchannel      ");
    terminal_print(stdout, head->channel);
    printf("\nsequence     %" PRIu64 "\nid           %s\nsigned       %s\ncontent      %" PRIu32 " artifact%s, %s\n",
           head->sequence, id, time, head->artifact_count, head->artifact_count == 1 ? "" : "s",
           units_format_size(head->total_bytes, size));
}

/* manifest.json is for readers only; that it is there and can be read is all that it promises. */
static void check_json(int dirfd, struct delivered_report *report)
{
    char *text = NULL;
    size_t size = 0;
    int fd = beneath_open(dirfd, "manifest.json", O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) {
        delivered_problem(report, "manifest.json", "can't be read: %s", strerror(errno));
        return;
    }
    close(fd);
    enum status status = beneath_read(dirfd, "manifest.json", JSON_LIMIT, &text, &size);
    json_t *root = status == STATUS_OK ? json_loadb(text, size, JSON_REJECT_DUPLICATES, NULL) : NULL;
    if (status == STATUS_INVALID || (status == STATUS_OK && !json_is_object(root)))
        delivered_problem(report, "manifest.json", "is not a JSON object");
    json_decref(root);
    free(text);
}

static void verify(int dirfd, const struct trust *trust, struct delivered_report *report)
{
    char *bytes = NULL;
    size_t size = 0;
    if (!read_part(dirfd, "manifest.pb", LIMIT_MANIFEST_SIZE, &bytes, &size, report))
        return;
    /* Nothing that is not signed is looked at any further. */
    if (!check_signature(dirfd, trust, bytes, size, report)) {
        free(bytes);
        return;
    }
    struct manifest_reader *reader = NULL;
    char reason[256] = "";
    if (manifest_reader_create((const uint8_t *)bytes, size, &reader, reason) != STATUS_OK) {
        delivered_problem(report, "manifest.pb", "is not a valid manifest: %s", reason);
    } else {
        print_head(manifest_reader_head(reader));
        delivered_check(dirfd, reader, report);
        check_json(dirfd, report);
        manifest_reader_destroy(reader);
    }
    free(bytes);
}

/* Loads either the one key or the directory; NULL after the reason was printed. */
static struct trust *load_trust(const char *public_file, const char *directory)
{
    struct trust *trust = NULL;
    struct signature_public key;
    char reason[256];
    if (public_file == NULL)
        return trust_load(directory != NULL ? directory : default_trusted, &trust) == STATUS_OK ? trust : NULL;
    if (signature_public_load(public_file, &key, reason) != STATUS_OK) {
        log_error("%s", reason);
        return NULL;
    }
    return trust_from_keys(&key, 1);
}

int command_verify(int argc, char **argv)
{
    const char *public_file = NULL, *directory = NULL;
    int option;
    while ((option = getopt(argc, argv, "p:t:")) != -1) {
        if (option == 'p')
            public_file = optarg;
        else if (option == 't')
            directory = optarg;
        else
            return command_usage("verify");
    }
    if (optind + 1 != argc || (public_file != NULL && directory != NULL))
        return command_usage("verify");

    struct trust *trust = load_trust(public_file, directory);
    if (trust == NULL)
        return EX_NOINPUT;
    int dirfd = open(argv[optind], O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (dirfd < 0) {
        log_error("%s: %s", argv[optind], strerror(errno));
        trust_destroy(trust);
        return EX_NOINPUT;
    }
    struct delivered_report report = {0};
    verify(dirfd, trust, &report);
    close(dirfd);
    trust_destroy(trust);

    char size[UNITS_TEXT_SIZE];
    if (report.problem_count > 0) {
        printf("FAILED       %" PRIu64 " problem%s; do not use this transfer\n", report.problem_count,
               report.problem_count == 1 ? "" : "s");
        return EX_DATAERR;
    }
    printf("VERIFIED     %" PRIu64 " artifact%s, %s: all there, and nothing else\n", report.artifact_count,
           report.artifact_count == 1 ? "" : "s", units_format_size(report.byte_count, size));
    return EX_OK;
}
