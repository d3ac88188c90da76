// SPDX-License-Identifier: Apache-2.0
#include "receiver/quarantine.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/durable.h"
#include "common/log.h"
#include "common/signature.h"
#include "proto/identity.h"
#include "proto/signed.h"

enum { NAME_SIZE = CLOCK_RFC3339_SIZE + SENDER_ID_TEXT_SIZE + TRANSFER_ID_TEXT_SIZE + 8, SAME_NAME = 100 };

#define LOOK_INTERVAL_NS   INT64_C(10000000000)
#define EXPIRE_INTERVAL_NS (600 * CLOCK_SECOND_NS)

struct quarantine {
    int directory_fd;
    unsigned count;
    uint64_t bytes;
    int64_t looked_at_ns;
    uint64_t age_ns;       /* 0: they stay */
    int64_t clock_base_ns; /* of the clock by which they age: to be added to CLOCK_MONOTONIC */
    uint64_t expire_ns;    /* of CLOCK_MONOTONIC */
};

/* Transfers that are held back lie beside them (held.h), and have names that begin with a number of 16 digits. */
static bool is_case(const char *name)
{
    return strlen(name) > 10 && name[4] == '-' && name[7] == '-' && name[10] == 'T';
}

static bool is_dot(const char *name)
{
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

/* Calls `visit` for each entry of dirfd/name; false when it can't be listed. */
static bool list(int dirfd, const char *name, void (*visit)(struct quarantine *, int, const char *),
                 struct quarantine *quarantine)
{
    int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *directory = fd < 0 ? NULL : fdopendir(fd);
    if (directory == NULL) {
        if (fd >= 0)
            close(fd);
        return false;
    }
    struct dirent *entry;
    while ((entry = readdir(directory)) != NULL)
        if (!is_dot(entry->d_name))
            visit(quarantine, fd, entry->d_name);
    closedir(directory);
    return true;
}

static void add_file(struct quarantine *quarantine, int dirfd, const char *name)
{
    struct stat stat;
    if (fstatat(dirfd, name, &stat, AT_SYMLINK_NOFOLLOW) == 0)
        quarantine->bytes += (uint64_t)stat.st_size;
}

static void add_case(struct quarantine *quarantine, int dirfd, const char *name)
{
    if (!is_case(name))
        return;
    quarantine->count++;
    (void)list(dirfd, name, add_file, quarantine);
}

static bool look(struct quarantine *quarantine)
{
    quarantine->count = 0;
    quarantine->bytes = 0;
    return list(quarantine->directory_fd, ".", add_case, quarantine);
}

struct quarantine *quarantine_create(int directory_fd)
{
    struct quarantine *quarantine = calloc(1, sizeof *quarantine);
    if (quarantine == NULL)
        return NULL;
    quarantine->directory_fd = directory_fd;
    quarantine->clock_base_ns = clock_realtime_ns() - (int64_t)clock_monotonic_ns();
    if (!look(quarantine)) {
        log_error("the quarantine of the intake can't be read: %s", strerror(errno));
        free(quarantine);
        return NULL;
    }
    return quarantine;
}

void quarantine_destroy(struct quarantine *quarantine)
{
    free(quarantine);
}

void quarantine_set_age(struct quarantine *quarantine, uint64_t age_ns)
{
    quarantine->age_ns = age_ns;
}

static void expire_case(struct quarantine *quarantine, int dirfd, const char *name)
{
    struct stat stat;
    int64_t now_ns = quarantine->clock_base_ns + (int64_t)clock_monotonic_ns();
    if (!is_case(name) || fstatat(dirfd, name, &stat, AT_SYMLINK_NOFOLLOW) != 0)
        return;
    int64_t made_ns = (int64_t)stat.st_mtim.tv_sec * (int64_t)CLOCK_SECOND_NS;
    if (now_ns <= made_ns || (uint64_t)(now_ns - made_ns) < quarantine->age_ns)
        return;
    if (durable_remove_tree(dirfd, name) == STATUS_OK)
        log_notice("the refused manifest .quarantine/%s is older than quarantine_age and is removed", name);
    else
        log_warning("the refused manifest .quarantine/%s is too old, and can't be removed: %s", name, strerror(errno));
}

void quarantine_tick(struct quarantine *quarantine, uint64_t now_ns)
{
    if (quarantine->age_ns == 0 || now_ns < quarantine->expire_ns)
        return;
    quarantine->expire_ns = now_ns + EXPIRE_INTERVAL_NS;
    (void)list(quarantine->directory_fd, ".", expire_case, quarantine);
    (void)look(quarantine);
}

static bool is_full(const struct quarantine *quarantine, size_t size)
{
    return quarantine->count >= QUARANTINE_COUNT || quarantine->bytes + size > QUARANTINE_BYTES;
}

/* Makes a directory of a name that is not taken; its descriptor, or -1. */
static int make_case(int dirfd, uint32_t sender_id, const uint8_t *transfer_id, int64_t realtime_ns,
                     char name[static NAME_SIZE])
{
    char when[CLOCK_RFC3339_SIZE];
    char id[TRANSFER_ID_TEXT_SIZE];
    clock_rfc3339(realtime_ns, when);
    identity_transfer_text(transfer_id, id);
    for (unsigned i = 1; i < SAME_NAME; i++) {
        if (i == 1)
            snprintf(name, NAME_SIZE, "%s-%08x-%s", when, sender_id, id);
        else
            snprintf(name, NAME_SIZE, "%s-%08x-%s-%u", when, sender_id, id, i);
        if (mkdirat(dirfd, name, 0700) == 0)
            return openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (errno != EEXIST)
            return -1;
    }
    return -1;
}

static enum status write_manifest(int fd, const uint8_t *bytes, size_t size)
{
    struct signed_message message;
    if (size == 0)
        return STATUS_OK; /* it was refused before a manifest came */
    if (signed_decode(bytes, size, LIMIT_MANIFEST_SIZE, &message) != STATUS_OK)
        return durable_write_file(fd, "manifest.pb", bytes, size, 0600);
    enum status status = durable_write_file(fd, "manifest.pb", message.body, message.body_size, 0600);
    if (status == STATUS_OK && message.signature.has_comment) {
        char *text;
        size_t text_size;
        signature_to_file_text(&message.signature, &text, &text_size);
        status = durable_write_file(fd, "manifest.pb.minisig", text, text_size, 0600);
        free(text);
    }
    int error = errno;
    signed_message_deinit(&message);
    errno = error;
    return status;
}

enum status quarantine_keep(struct quarantine *quarantine, uint32_t sender_id,
                            const uint8_t transfer_id[static TRANSFER_ID_SIZE], const char *reason,
                            const uint8_t *bytes, size_t size, int64_t realtime_ns)
{
    /* An operator may have cleared it since; but a flood of forgeries must not make us look each time. */
    if (is_full(quarantine, size)) {
        int64_t since_ns = realtime_ns - quarantine->looked_at_ns;
        if (since_ns >= 0 && since_ns < LOOK_INTERVAL_NS)
            return STATUS_LIMIT;
        quarantine->looked_at_ns = realtime_ns;
        if (!look(quarantine) || is_full(quarantine, size))
            return STATUS_LIMIT;
    }
    char name[NAME_SIZE];
    char line[512];
    int fd = make_case(quarantine->directory_fd, sender_id, transfer_id, realtime_ns, name);
    if (fd < 0)
        return status_from_errno(errno);
    int length = snprintf(line, sizeof line, "the %s %s\n", size > 0 ? "manifest" : "transfer", reason);
    enum status status = write_manifest(fd, bytes, size);
    if (status == STATUS_OK)
        status = durable_write_file(fd, "reason", line, (size_t)length < sizeof line ? (size_t)length : sizeof line - 1,
                                    0600);
    int error = errno;
    close(fd);
    if (status != STATUS_OK) {
        if (durable_remove_tree(quarantine->directory_fd, name) != STATUS_OK)
            quarantine->count++; /* half a case stays and takes a place */
        errno = error;
        return status;
    }
    quarantine->count++;
    quarantine->bytes += size;
    return STATUS_OK;
}
