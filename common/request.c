// SPDX-License-Identifier: Apache-2.0
#include "common/request.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <poll.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/durable.h"
#include "common/log.h"
#include "common/request_text.h"

enum {
    ID_LENGTH = REQUEST_ID_SIZE - 1,
    NAME_SIZE = 64,
    SCANNED = 64 << 10, /* entries of the directory that are looked at: others may fill it */
    PASSWD_BUFFER_SIZE = 4096,
};

#define ANSWER_KEPT_NS (INT64_C(3600) * 1000000000)

static const char request_suffix[] = ".request";
static const char answer_suffix[] = ".answer";

static void close_keeping_errno(int fd)
{
    int error = errno;
    close(fd);
    errno = error;
}

/* Whether `name` is 32 hex digits and `suffix`. */
static bool is_named(const char *name, const char *suffix)
{
    return strspn(name, "0123456789abcdef") == ID_LENGTH && strcmp(name + ID_LENGTH, suffix) == 0;
}

static char *name_of(const char *id, const char *suffix, char name[static NAME_SIZE])
{
    assert(strlen(id) == ID_LENGTH);
    snprintf(name, NAME_SIZE, "%s%s", id, suffix);
    return name;
}

/* A stream of the directory, which has its own descriptor and position. */
static DIR *open_listing(int directory_fd)
{
    int fd = openat(directory_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return NULL;
    DIR *listing = fdopendir(fd);
    if (listing == NULL)
        close_keeping_errno(fd);
    return listing;
}

static void close_listing(DIR *listing)
{
    int error = errno;
    closedir(listing);
    errno = error;
}

static int64_t mtime_ns(const struct stat *meta)
{
    return (int64_t)meta->st_mtim.tv_sec * 1000000000 + meta->st_mtim.tv_nsec;
}

/* Opens a regular file without following a symlink or waiting for the other end of a FIFO. -1 with errno. */
static int open_regular(int directory_fd, const char *name, struct stat *meta)
{
    int fd = openat(directory_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    int error = fstat(fd, meta) != 0 ? errno : S_ISREG(meta->st_mode) ? 0 : EINVAL;
    if (error == 0)
        return fd;
    close(fd);
    errno = error;
    return -1;
}

/* Reads at most `limit` bytes to the file's end, with a NUL behind. STATUS_LIMIT, STATUS_SYSTEM (errno). */
static enum status read_whole(int fd, size_t limit, char **bytes, size_t *size)
{
    size_t used = 0, capacity = 4096;
    char *buffer = malloc(capacity);
    assert(buffer != NULL);
    for (;;) {
        ssize_t got = read(fd, buffer + used, capacity - used - 1);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            enum status status = status_from_errno(errno);
            free(buffer);
            return status;
        }
        used += (size_t)got;
        if (used > limit) {
            free(buffer);
            return STATUS_LIMIT;
        }
        if (got == 0)
            break;
        if (used + 1 == capacity) {
            capacity *= 2;
            char *grown = realloc(buffer, capacity);
            assert(grown != NULL);
            buffer = grown;
        }
    }
    buffer[used] = '\0';
    *bytes = buffer;
    *size = used;
    return STATUS_OK;
}

static enum status check_room(int directory_fd)
{
    DIR *listing = open_listing(directory_fd);
    if (listing == NULL)
        return status_from_path_errno(errno);
    int waiting = 0;
    for (int i = 0; i < SCANNED; i++) {
        const struct dirent *entry = readdir(listing);
        if (entry == NULL)
            break;
        waiting += is_named(entry->d_name, request_suffix);
    }
    closedir(listing);
    return waiting < REQUEST_WAITING ? STATUS_OK : STATUS_LIMIT;
}

/* The daemon reads by the directory's group: a setgid directory gives it to the file, elsewhere it must be set. */
static enum status give_to_group(int directory_fd, const char *name)
{
    struct stat directory, file;
    if (fstat(directory_fd, &directory) != 0 || fstatat(directory_fd, name, &file, AT_SYMLINK_NOFOLLOW) != 0)
        return status_from_path_errno(errno);
    if (file.st_gid == directory.st_gid)
        return STATUS_OK;
    if (fchownat(directory_fd, name, (uid_t)-1, directory.st_gid, AT_SYMLINK_NOFOLLOW) != 0)
        return status_from_path_errno(errno);
    return STATUS_OK;
}

enum status request_post(int directory_fd, struct request *request)
{
    uint8_t random[ID_LENGTH / 2];
    char name[NAME_SIZE], hidden[NAME_SIZE];

    enum status status = check_room(directory_fd);
    if (status != STATUS_OK)
        return status;
    char *text = request_text_encode(request);
    if (text == NULL)
        return STATUS_LIMIT;
    if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random) {
        free(text);
        return status_from_errno(errno);
    }
    for (size_t i = 0; i < sizeof random; i++)
        snprintf(request->id + 2 * i, 3, "%02x", random[i]);
    name_of(request->id, request_suffix, name);
    snprintf(hidden, sizeof hidden, ".%s%s", request->id, request_suffix);
    /* Under its hidden name until the daemon may read it. */
    status = durable_write_file(directory_fd, hidden, text, strlen(text), 0640);
    free(text);
    if (status != STATUS_OK)
        return status;
    status = give_to_group(directory_fd, hidden);
    if (status == STATUS_OK)
        status = durable_rename(directory_fd, hidden, directory_fd, name);
    if (status != STATUS_OK) {
        int error = errno;
        (void)unlinkat(directory_fd, hidden, 0);
        errno = error;
    }
    return status;
}

/* STATUS_NOT_FOUND when there is none, or somebody else's. */
static enum status fetch_answer(int directory_fd, const char *name, char **answer)
{
    struct stat directory, meta;
    size_t size = 0;
    if (fstat(directory_fd, &directory) != 0)
        return status_from_errno(errno);
    int fd = open_regular(directory_fd, name, &meta);
    if (fd < 0)
        return errno == ENOENT || errno == EINVAL || errno == ELOOP ? STATUS_NOT_FOUND : status_from_path_errno(errno);
    if (meta.st_uid != 0 && meta.st_uid != directory.st_uid) {
        close(fd);
        return STATUS_NOT_FOUND;
    }
    enum status status = read_whole(fd, REQUEST_ANSWER_SIZE_MAX, answer, &size);
    close_keeping_errno(fd);
    if (status == STATUS_OK)
        (void)unlinkat(directory_fd, name, 0); /* the daemon does it in an hour where this user may not */
    return status;
}

/* Until something is renamed into the directory, or the time is over. */
static void wait_for_event(int inotify_fd, uint64_t deadline_ns)
{
    char events[4096] __attribute__((aligned(__alignof__(struct inotify_event))));
    struct pollfd poll_fd = {.fd = inotify_fd, .events = POLLIN};
    uint64_t now_ns = clock_monotonic_ns();
    if (now_ns >= deadline_ns)
        return;
    uint64_t rest_ms = (deadline_ns - now_ns + CLOCK_MILLISECOND_NS - 1) / CLOCK_MILLISECOND_NS;
    if (poll(&poll_fd, 1, rest_ms > 1000000 ? 1000000 : (int)rest_ms) > 0)
        while (read(inotify_fd, events, sizeof events) > 0)
            ;
}

enum status request_wait(int directory_fd, const char *id, uint64_t timeout_ns, char **answer)
{
    char path[NAME_SIZE], name[NAME_SIZE];
    uint64_t deadline_ns = clock_monotonic_ns() + timeout_ns;

    *answer = NULL;
    name_of(id, answer_suffix, name);
    snprintf(path, sizeof path, "/proc/self/fd/%d", directory_fd);
    int inotify_fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (inotify_fd < 0)
        return status_from_errno(errno);
    if (inotify_add_watch(inotify_fd, path, IN_MOVED_TO | IN_ONLYDIR) < 0) {
        close_keeping_errno(inotify_fd);
        return status_from_errno(errno);
    }
    enum status status = fetch_answer(directory_fd, name, answer);
    while (status == STATUS_NOT_FOUND && clock_monotonic_ns() < deadline_ns) {
        wait_for_event(inotify_fd, deadline_ns);
        status = fetch_answer(directory_fd, name, answer);
    }
    close_keeping_errno(inotify_fd);
    return status;
}

bool request_withdraw(int directory_fd, const char *id)
{
    char name[NAME_SIZE];
    return unlinkat(directory_fd, name_of(id, request_suffix, name), 0) == 0;
}

/* Takes what bears a request's name and is no file out of the way; a directory only when it is empty. */
static void remove_other(int directory_fd, const char *name)
{
    if (unlinkat(directory_fd, name, 0) != 0 && (errno == EISDIR || errno == EPERM))
        (void)unlinkat(directory_fd, name, AT_REMOVEDIR);
}

/* The id of the oldest request. STATUS_NOT_FOUND when none waits. */
static enum status find_oldest(int directory_fd, char id[static REQUEST_ID_SIZE])
{
    int64_t oldest_ns = INT64_MAX;
    DIR *listing = open_listing(directory_fd);
    if (listing == NULL)
        return status_from_errno(errno);
    id[0] = '\0';
    for (int i = 0; i < SCANNED; i++) {
        struct stat meta;
        const struct dirent *entry = readdir(listing);
        if (entry == NULL)
            break;
        if (!is_named(entry->d_name, request_suffix) ||
            fstatat(directory_fd, entry->d_name, &meta, AT_SYMLINK_NOFOLLOW) != 0)
            continue;
        if (!S_ISREG(meta.st_mode)) {
            remove_other(directory_fd, entry->d_name);
            continue;
        }
        int64_t made_at_ns = mtime_ns(&meta);
        if (id[0] != '\0' &&
            (made_at_ns > oldest_ns || (made_at_ns == oldest_ns && strncmp(entry->d_name, id, ID_LENGTH) > 0)))
            continue;
        oldest_ns = made_at_ns;
        snprintf(id, REQUEST_ID_SIZE, "%.*s", (int)ID_LENGTH, entry->d_name);
    }
    close_listing(listing);
    return id[0] != '\0' ? STATUS_OK : STATUS_NOT_FOUND;
}

/* The owner's name where it is one that can be shown, else the number. */
static void name_requester(uid_t uid, char name[static sizeof((struct request *)0)->requester])
{
    const size_t size = sizeof((struct request *)0)->requester;
    struct passwd entry, *found = NULL;
    char buffer[PASSWD_BUFFER_SIZE];
    snprintf(name, size, "%u", (unsigned)uid);
    if (getpwuid_r(uid, &entry, buffer, sizeof buffer, &found) != 0 || found == NULL)
        return;
    size_t length = strlen(found->pw_name);
    for (size_t i = 0; i < length; i++)
        if (found->pw_name[i] <= ' ' || found->pw_name[i] > '~')
            return;
    if (length > 0 && length < size)
        snprintf(name, size, "%s", found->pw_name);
}

/* STATUS_INVALID: `message` says why this is no request. */
static enum status read_request(int fd, const struct stat *meta, struct request *request,
                                char message[static REQUEST_TEXT_MESSAGE_SIZE])
{
    char *bytes = NULL;
    size_t size = 0;
    name_requester(meta->st_uid, request->requester);
    request->made_at_ns = mtime_ns(meta);
    if ((meta->st_mode & (S_IWGRP | S_IWOTH)) != 0 || meta->st_nlink > 1) {
        snprintf(message, REQUEST_TEXT_MESSAGE_SIZE, "others than its owner may have written or placed it");
        return STATUS_INVALID;
    }
    enum status status = read_whole(fd, REQUEST_SIZE_MAX, &bytes, &size);
    if (status != STATUS_OK) {
        snprintf(message, REQUEST_TEXT_MESSAGE_SIZE, "%s",
                 status == STATUS_LIMIT ? "it is too large" : "it can't be read");
        return STATUS_INVALID;
    }
    status = request_text_decode(bytes, size, request, message);
    free(bytes);
    return status;
}

/* Answers what is no request. */
static enum status refuse(int directory_fd, const struct request *request, const char *message)
{
    static struct log_limit limit = {.interval_ns = 10 * CLOCK_SECOND_NS};
    uint64_t suppressed;
    if (log_limit_pass(&limit, clock_monotonic_ns(), &suppressed)) {
        const char *requester = request->requester[0] != '\0' ? request->requester : "an unknown user";
        if (suppressed == 0)
            log_warning("request %s of %s is refused: %s", request->id, requester, message);
        else
            log_warning("request %s of %s is refused: %s; %" PRIu64 " others were refused since the last such message",
                        request->id, requester, message, suppressed);
    }
    json_t *root = json_pack("{s:b, s:s+}", "accepted", 0, "message", "the request is refused: ", message);
    assert(root != NULL);
    char *answer = json_dumps(root, JSON_COMPACT);
    assert(answer != NULL);
    json_decref(root);
    enum status status = request_answer(directory_fd, request, answer);
    free(answer);
    return status;
}

enum status request_next(int directory_fd, struct request *request)
{
    /* Bounded: somebody may put in bad ones faster than they are refused. */
    for (int i = 0; i < REQUEST_WAITING; i++) {
        char name[NAME_SIZE], message[REQUEST_TEXT_MESSAGE_SIZE] = "it can't be read";
        struct stat meta;
        *request = (struct request){.since_ns = INT64_MIN};
        enum status status = find_oldest(directory_fd, request->id);
        if (status != STATUS_OK)
            return status;
        int fd = open_regular(directory_fd, name_of(request->id, request_suffix, name), &meta);
        if (fd < 0 && (errno == ENOENT || errno == EINVAL || errno == ELOOP))
            continue; /* withdrawn, or exchanged since */
        if (fd < 0 && errno != EACCES)
            return status_from_errno(errno);
        status = STATUS_INVALID;
        if (fd >= 0) {
            status = read_request(fd, &meta, request, message);
            close(fd);
        }
        if (status == STATUS_OK)
            return STATUS_OK;
        status = refuse(directory_fd, request, message);
        if (status != STATUS_OK)
            return status;
    }
    return STATUS_NOT_FOUND;
}

enum status request_answer(int directory_fd, const struct request *request, const char *answer)
{
    char name[NAME_SIZE];
    size_t size = strlen(answer);
    assert(size <= REQUEST_ANSWER_SIZE_MAX);
    name_of(request->id, answer_suffix, name);
    enum status status = durable_write_file(directory_fd, name, answer, size, 0640);
    if (status != STATUS_OK && errno == EISDIR && unlinkat(directory_fd, name, AT_REMOVEDIR) == 0)
        status = durable_write_file(directory_fd, name, answer, size, 0640);
    int error = errno;
    if (unlinkat(directory_fd, name_of(request->id, request_suffix, name), 0) != 0 && errno != ENOENT)
        return status_from_errno(errno);
    enum status flushed = durable_sync_directory(directory_fd, NULL);
    if (status == STATUS_OK)
        return flushed;
    return status_from_errno(error);
}

/* An answer, or one of the hidden names that files have while they are written. */
static bool is_left_over(const char *name)
{
    static const char *const suffixes[] = {".answer.tmp", ".request", ".request.tmp"};
    if (is_named(name, answer_suffix))
        return true;
    size_t dots = strspn(name, ".");
    for (size_t i = 0; dots > 0 && i < sizeof suffixes / sizeof suffixes[0]; i++)
        if (is_named(name + dots, suffixes[i]))
            return true;
    return false;
}

void request_expire(int directory_fd, int64_t realtime_ns)
{
    DIR *listing = open_listing(directory_fd);
    if (listing == NULL)
        return;
    for (int i = 0; i < SCANNED; i++) {
        struct stat meta;
        const struct dirent *entry = readdir(listing);
        if (entry == NULL)
            break;
        if (!is_left_over(entry->d_name) || fstatat(directory_fd, entry->d_name, &meta, AT_SYMLINK_NOFOLLOW) != 0 ||
            mtime_ns(&meta) > realtime_ns - ANSWER_KEPT_NS)
            continue;
        remove_other(directory_fd, entry->d_name);
    }
    closedir(listing);
}

void request_deinit(struct request *request)
{
    for (size_t i = 0; i < request->ticket_count; i++)
        free(request->tickets[i]);
    for (size_t i = 0; i < request->name_count; i++)
        free(request->names[i]);
    free(request->tickets);
    free(request->names);
    request->tickets = request->names = NULL;
    request->ticket_count = request->name_count = 0;
}
