// SPDX-License-Identifier: Apache-2.0
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <libgen.h>
#include <linux/openat2.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sysexits.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/digest.h"
#include "common/durable.h"
#include "common/fingerprint.h"
#include "common/log.h"
#include "common/signature.h"
#include "common/units.h"
#include "proto/approval.h"
#include "proto/manifest.h"
#include "proto/relpath.h"
#include "proto/statement.h"
#include "sender/scan.h"
#include "tools/command.h"
#include "tools/terminal.h"

/* `diodecast sign`: approves an item by a signature over the statement of its content. */

enum { READ_SIZE = 1 << 20, REASON_SIZE = 400 };

struct signing {
    const char *item, *secret, *channel;
    const char *labels[LIMIT_LABELS]; /* KEY=VALUE, as given */
    size_t label_count;
    int directory_fd;                /* that holds the item */
    char *directory, *name, *bundle; /* malloc'ed; the last is NAME.approval */
    struct signature_key *key;
    struct listing *listing;
    struct manifest_writer *writer; /* what the item is now */
};

static int refuse(const char *path, const char *what)
{
    log_error("%s: %s", path, what);
    return EX_DATAERR;
}

/* KEY=VALUE; false after the reason was printed. */
static bool label_is_good(const char *text)
{
    const char *equals = strchr(text, '=');
    if (equals != NULL && statement_label_is_legal(text, (size_t)(equals - text), equals + 1, strlen(equals + 1)))
        return true;
    log_error("--label %s: is no KEY=VALUE of at most %d and %d bytes of UTF-8 without control characters", text,
              LIMIT_LABEL_KEY_LENGTH, LIMIT_LABEL_VALUE_LENGTH);
    return false;
}

/* Splits the path and opens the directory that holds the item. */
static int open_place(struct signing *signing)
{
    /* "." and the like get their names from the real path; what is given itself may not be a symlink. */
    char *real = realpath(signing->item, NULL);
    struct stat meta;
    char *path = strdup(signing->item);
    assert(path != NULL);
    for (size_t size = strlen(path); size > 1 && path[size - 1] == '/'; size--)
        path[size - 1] = '\0';
    bool is_symlink = lstat(path, &meta) == 0 && S_ISLNK(meta.st_mode);
    free(path);
    if (real == NULL || is_symlink) {
        log_error("%s: %s", signing->item, real == NULL ? strerror(errno) : "is a symlink; name what it points to");
        free(real);
        return EX_NOINPUT;
    }
    char *copy = strdup(real);
    assert(copy != NULL);
    signing->name = strdup(basename(copy));
    signing->directory = strdup(dirname(real));
    assert(signing->name != NULL && signing->directory != NULL);
    free(copy);
    free(real);
    char *bundle = NULL;
    int size = asprintf(&bundle, "%s" RELPATH_APPROVAL_SUFFIX, signing->name);
    assert(size >= 0);
    signing->bundle = bundle;
    if (size > LIMIT_COMPONENT_LENGTH)
        return refuse(signing->item, "has a name that leaves no room for \"" RELPATH_APPROVAL_SUFFIX "\" behind it");
    if (relpath_is_hidden_item(signing->name))
        return refuse(signing->item, "has a name that the spool leaves alone; rename it");
    signing->directory_fd = open(signing->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (signing->directory_fd >= 0 && flock(signing->directory_fd, LOCK_EX) == 0)
        return EX_OK; /* two signers at once must not lose one of the signatures */
    log_error("%s: %s", signing->directory, strerror(errno));
    return EX_NOINPUT;
}

/* SHA-256 of one artifact. EX_OK, or the exit code after the reason was printed. */
static int hash_file(const struct signing *signing, const struct listing_entry *entry, struct digest *digest,
                     uint8_t *buffer, uint8_t sha256[static SHA256_SIZE])
{
    struct open_how how = {.flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC,
                           .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS};
    int fd = (int)syscall(SYS_openat2, signing->directory_fd, entry->path, &how, sizeof how);
    uint64_t total = 0;
    ssize_t got = fd < 0 ? -1 : 1;
    while (got > 0 && (got = read(fd, buffer, READ_SIZE)) > 0) {
        digest_update(digest, buffer, (size_t)got);
        total += (uint64_t)got;
    }
    int error = errno;
    if (fd >= 0)
        close(fd);
    digest_final(digest, sha256);
    if (got < 0) {
        log_error("%s/%s: %s", signing->directory, entry->path, strerror(error));
        return EX_NOINPUT;
    }
    return total == entry->size ? EX_OK : refuse(signing->item, "changed while it was read; try again when it rests");
}

/* Reads the item and writes its statement; sees that it did not change meanwhile. */
static int read_item(struct signing *signing)
{
    char reason[REASON_SIZE];
    struct listing *listing = NULL, *after = NULL;
    enum status status =
        scan_item(signing->directory_fd, signing->name, CONFIG_SYMLINKS_INSIDE, LIMIT_TRANSFER_SIZE, &listing, reason);
    if (status != STATUS_OK)
        return refuse(signing->directory, reason);
    signing->listing = listing;
    uint8_t *buffer = malloc(READ_SIZE);
    struct digest *digest = digest_create();
    assert(buffer != NULL);
    int code = EX_OK;
    for (size_t i = 0; i < listing->count && code == EX_OK; i++) {
        const struct listing_entry *from = &listing->entries[i];
        struct manifest_entry entry = {.path = from->path,
                                       .kind = from->kind,
                                       .size = from->size,
                                       .executable = from->executable,
                                       .mtime_ns = from->mtime_ns,
                                       .target = from->target};
        if (from->kind == MANIFEST_FILE)
            code = hash_file(signing, from, digest, buffer, entry.sha256);
        else
            entry.size = 0;
        if (code == EX_OK)
            manifest_writer_add(signing->writer, &entry);
    }
    digest_destroy(digest);
    free(buffer);
    if (code != EX_OK)
        return code;
    if (scan_item(signing->directory_fd, signing->name, CONFIG_SYMLINKS_INSIDE, LIMIT_TRANSFER_SIZE, &after, reason) !=
            STATUS_OK ||
        !scan_same(listing, after, reason))
        code = refuse(signing->directory, reason);
    scan_listing_destroy(after);
    return code;
}

static void start_statement(struct signing *signing)
{
    signing->writer = manifest_writer_create(signing->channel, signing->name);
    for (size_t i = 0; i < signing->label_count; i++) {
        char key[LIMIT_LABEL_KEY_LENGTH + 1];
        const char *equals = strchr(signing->labels[i], '=');
        snprintf(key, sizeof key, "%.*s", (int)(equals - signing->labels[i]), signing->labels[i]);
        manifest_writer_add_label(signing->writer, key, equals + 1);
    }
}

/* The bundle that is there already must speak of the item as it is. */
static int compare(const struct signing *signing, const struct approval_bundle *bundle)
{
    char difference[256];
    struct statement_reader *signed_one = NULL, *found = NULL;
    size_t size = 0;
    const uint8_t *bytes = manifest_writer_statement(signing->writer, &size);
    enum status status = statement_reader_create(bytes, size, &found, difference);
    if (status == STATUS_OK)
        status = statement_reader_create(bundle->statement, bundle->statement_size, &signed_one, difference);
    bool agrees = status == STATUS_OK && statement_agrees(signed_one, found, STATEMENT_WHOLE, difference);
    statement_reader_destroy(signed_one);
    statement_reader_destroy(found);
    if (agrees)
        return EX_OK;
    log_error("%s/%s speaks of another item: %s; look into it with `diodecast inspect`, and remove it to start anew",
              signing->directory, signing->bundle, status == STATUS_SYSTEM ? "memory is short" : difference);
    return EX_DATAERR;
}

/* Takes up NAME.approval, if it is there: *bytes is malloc'ed and holds what the bundle borrows. */
static int take_up(const struct signing *signing, struct approval_bundle *bundle, char **bytes)
{
    char reason[256];
    size_t size = 0;
    enum status status =
        durable_read_file(signing->directory_fd, signing->bundle, APPROVAL_FILE_SIZE_MAX, bytes, &size);
    if (status == STATUS_NOT_FOUND) {
        bundle->statement = manifest_writer_statement(signing->writer, &bundle->statement_size);
        return EX_OK;
    }
    if (status != STATUS_OK) {
        log_error("%s/%s can't be read: %s", signing->directory, signing->bundle,
                  status == STATUS_LIMIT ? "too large" : strerror(errno));
        return EX_NOINPUT;
    }
    status = approval_decode((const uint8_t *)*bytes, size, bundle, reason);
    if (status != STATUS_OK) {
        log_error("%s/%s: %s; remove it to start anew", signing->directory, signing->bundle,
                  status == STATUS_SYSTEM ? "memory is short" : reason);
        return EX_DATAERR;
    }
    if (signing->label_count > 0)
        return refuse(signing->bundle, "is signed already, so that no labels can be added; the first signer sets them");
    return compare(signing, bundle);
}

static int write_bundle(const struct signing *signing, const struct approval_bundle *bundle)
{
    uint8_t *bytes = NULL;
    size_t size = 0;
    approval_encode(bundle, &bytes, &size);
    enum status status = durable_write_file(signing->directory_fd, signing->bundle, bytes, size, 0644);
    free(bytes);
    if (status == STATUS_OK)
        return EX_OK;
    log_error("%s/%s can't be written: %s", signing->directory, signing->bundle, strerror(errno));
    return EX_CANTCREAT;
}

static void report(const struct signing *signing, const struct approval_bundle *bundle, enum approval_result result)
{
    char size[UNITS_TEXT_SIZE], id[FINGERPRINT_KEY_ID_SIZE];
    fingerprint_key_id(signature_key_public(signing->key)->key_id, id);
    terminal_print(stdout, signing->name);
    printf(": %" PRIu32 " artifact%s, %s, for channel %s\n", signing->listing->artifact_count,
           signing->listing->artifact_count == 1 ? "" : "s", units_format_size(signing->listing->total_bytes, size),
           signing->channel);
    printf("%s by key %s; %zu approval%s in ", result == APPROVAL_ADDED ? "approved" : "was approved before", id,
           bundle->count, bundle->count == 1 ? "" : "s");
    terminal_print(stdout, signing->bundle);
    putchar('\n');
}

/* Signs the statement's bytes and puts the approval into the bundle. */
static int approve(const struct signing *signing, struct approval_bundle *bundle)
{
    struct signature approval;
    char comment[SIGNATURE_COMMENT_SIZE], time[CLOCK_RFC3339_SIZE];
    clock_rfc3339(clock_realtime_ns(), time);
    int used = snprintf(comment, sizeof comment, "diodecast approval at %s channel %s item ", time, signing->channel);
    size_t shown = relpath_cut(signing->name, sizeof comment - (size_t)used - 1);
    snprintf(comment + used, sizeof comment - (size_t)used, "%.*s", (int)shown, signing->name);
    signature_sign(signing->key, bundle->statement, bundle->statement_size, comment, &approval);
    enum approval_result result = approval_add(bundle, &approval);
    if (result == APPROVAL_FULL)
        return refuse(signing->bundle, "holds as many approvals as a transfer can carry (16)");
    int code = result == APPROVAL_ADDED ? write_bundle(signing, bundle) : EX_OK;
    if (code == EX_OK)
        report(signing, bundle, result);
    return code;
}

static int sign(struct signing *signing)
{
    char reason[256];
    struct approval_bundle bundle = {0};
    char *bytes = NULL;
    if (signature_key_load(signing->secret, &signing->key, reason) != STATUS_OK) {
        log_error("%s", reason);
        return EX_NOPERM;
    }
    int code = open_place(signing);
    if (code == EX_OK) {
        const char *wrong = relpath_check_component(signing->name, strlen(signing->name));
        code = wrong != NULL ? refuse(signing->item, wrong) : EX_OK;
    }
    if (code == EX_OK) {
        start_statement(signing);
        code = read_item(signing);
    }
    if (code == EX_OK)
        code = take_up(signing, &bundle, &bytes);
    if (code == EX_OK)
        code = approve(signing, &bundle);
    free(bytes);
    return code;
}

int command_sign(int argc, char **argv)
{
    static const struct option options[] = {{"secret", required_argument, NULL, 's'},
                                            {"channel", required_argument, NULL, 'C'},
                                            {"label", required_argument, NULL, 'l'},
                                            {NULL, 0, NULL, 0}};
    struct signing signing = {.directory_fd = -1};
    int option;
    while ((option = getopt_long(argc, argv, "s:", options, NULL)) != -1) {
        if (option == 's')
            signing.secret = optarg;
        else if (option == 'C')
            signing.channel = optarg;
        else if (option == 'l' && signing.label_count < LIMIT_LABELS)
            signing.labels[signing.label_count++] = optarg;
        else
            return command_usage("sign");
    }
    if (optind + 1 != argc || signing.secret == NULL || signing.channel == NULL)
        return command_usage("sign");
    signing.item = argv[optind];
    const char *wrong = relpath_check_channel(signing.channel, strlen(signing.channel));
    if (wrong != NULL) {
        log_error("'%s' is no channel: the name %s", signing.channel, wrong);
        return EX_USAGE;
    }
    for (size_t i = 0; i < signing.label_count; i++)
        if (!label_is_good(signing.labels[i]))
            return EX_USAGE;

    int code = sign(&signing);
    if (signing.directory_fd >= 0)
        close(signing.directory_fd);
    scan_listing_destroy(signing.listing);
    manifest_writer_destroy(signing.writer);
    signature_key_destroy(signing.key);
    free(signing.bundle);
    free(signing.directory);
    free(signing.name);
    return code;
}
